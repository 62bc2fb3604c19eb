// Package lint finds what is wrong, weak or without effect in seccomp
// profiles. [Check] returns one [Finding] for each fault; every one is proved
// for the target that it was asked about: either by the semantics of
// [seccomp.Policy], over all arguments of a call, or from what the kernel and
// the C libraries are known to do.
//
// # Codes
//
// The codes are stable names:
//
//	shadowed-rule            other rules decide first, and this one never does
//	no-effect                leaving this out would change nothing
//	or-ed-conditions         conditions on one argument of which any suffices, where all were meant
//	wide-compare             other runtimes compare more or fewer bits of an argument than the kernel reads
//	arg-beyond               a condition on an argument that the call does not have
//	never-holds              a condition that no argument fulfils
//	always-holds             a condition, or rules together, that all arguments fulfil
//	socketcall-hole          socketcall or ipc lets through what a rule restricts
//	missing-sibling          a call that does the same as another is treated otherwise
//	probing-errno            libraries try this call and do not fall back at the error that it gives
//	cannot-start             no program can start
//	kills-at-start           programs of a common C library are killed when they start
//	missing-arch             programs of another ABI of the machine are killed
//	x32                      the x32 ABI is let through
//	dangerous-allow          a call that weakens isolation, and that the default profile blocks
//	newer-calls              the profile is old; what calls newer than it get
//	trace-without-tracer     calls handed to a tracer, which has to be there
//	notify-without-listener  calls handed to a listener that nobody asked for, or the other way round
//	log-flood                all blocked calls are logged
//	too-complex              not everything could be proved
package lint

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Severity says how bad a finding is.
type Severity uint8

// The severities, the mildest first.
const (
	Info    Severity = iota // worth to know
	Warning                 // probably not what the author means
	Error                   // the profile cannot work
)

// String returns "info", "warning" or "error".
func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warning:
		return "warning"
	}
	return "error"
}

// MarshalText makes JSON of a severity its name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Finding is one fault of a profile.
type Finding struct {
	Code     string   `json:"code"` // see the package documentation
	Severity Severity `json:"severity"`
	Rule     int      `json:"rule"`                    // place in Profile.Syscalls, or -1 for the whole profile
	Line     int      `json:"line,omitempty"`          // of the rule in the file; 0 if unknown
	Names    []string `json:"names,omitempty"`         // system calls that it is about
	Archs    []string `json:"architectures,omitempty"` // ABIs where it holds, as "amd64"; empty for all of the policy
	Message  string   `json:"message"`
	Fix      string   `json:"fix,omitempty"`
}

// Format returns the finding as one line, with the name of its file.
func (f *Finding) Format(file string) string {
	var b strings.Builder
	b.WriteString(file)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	fmt.Fprintf(&b, ": %v: %s: ", f.Severity, f.Code)
	if f.Rule >= 0 {
		fmt.Fprintf(&b, "syscalls[%d]: ", f.Rule)
	}
	b.WriteString(f.Message)
	if f.Fix != "" {
		b.WriteString("; " + f.Fix)
	}
	return b.String()
}

// Check returns what is wrong with the profile for the target t, in the order
// of the lines. Rules that do not apply to t are only looked at for what is
// wrong with them everywhere. It fails where [seccomp.Profile.Resolve] does.
func Check(p *seccomp.Profile, t seccomp.Target) ([]Finding, error) {
	policy, notes, err := p.Resolve(t)
	if err != nil {
		return nil, err
	}
	wide, _, err := p.ResolveWith(t, seccomp.Options{WideArgs: true})
	if err != nil {
		return nil, err
	}
	c := &checker{profile: p, target: t, policy: policy, wide: wide, notes: notes,
		calls: map[callKey]*group{}, groups: map[string]*group{}, found: []Finding{}, budget: budget{left: maxTotal}}
	for _, check := range []func(){
		c.selectors, c.sameAsDefault, c.elsewhere, c.repeatedNames, c.shadows,
		c.repeatedArgs, c.conditions, c.wholeCalls, c.widths,
		c.multiplexers, c.siblings, c.bypass, c.newerSiblings, c.probing,
		c.start, c.archs, c.dangers, c.age, c.tracers, c.listeners, c.logs, c.effort,
	} {
		check()
	}
	slices.SortStableFunc(c.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule), cmp.Compare(b.Severity, a.Severity))
	})
	return c.found, nil
}

// effort tells if not all was proved.
func (c *checker) effort() {
	if c.gaveUp {
		c.add(Finding{Code: "too-complex", Severity: Info, Rule: -1,
			Message: "the conditions of some call are too many to look at all arguments: faults of it may be missing here", Fix: "write fewer conditions for one call"})
	}
}

// checker looks at one profile for one target.
type checker struct {
	profile *seccomp.Profile
	target  seccomp.Target
	policy  *seccomp.Policy
	wide    *seccomp.Policy // with the comparisons of libseccomp
	notes   []seccomp.Note
	calls   map[callKey]*group
	groups  map[string]*group
	found   []Finding
	budget
}

// add adds a finding. Its message and fix are given as one text each.
func (c *checker) add(f Finding) {
	if f.Rule >= 0 {
		f.Line = c.profile.Syscalls[f.Rule].Line
	}
	if !slices.ContainsFunc(c.policy.Archs, func(a seccomp.ArchRules) bool { return !slices.Contains(f.Archs, a.Arch.Short()) }) {
		f.Archs = nil
	}
	c.found = append(c.found, f)
}

// applies reports whether a rule is for the target, as Resolve decides it.
func (c *checker) applies(r *seccomp.SyscallRule) bool {
	in, ex, none := &r.Includes, &r.Excludes, seccomp.KernelVersion{}
	switch t := c.target; {
	case slices.Contains(ex.Arches, t.Arch), ex.Caps.Intersect(t.Caps) != 0,
		ex.MinKernel != none && t.Kernel.AtLeast(ex.MinKernel),
		len(in.Arches) > 0 && !slices.Contains(in.Arches, t.Arch), !t.Caps.Contains(in.Caps),
		in.MinKernel != none && !t.Kernel.AtLeast(in.MinKernel):
		return false
	}
	return true
}

// everywhere reports whether a rule is for every target.
func everywhere(r *seccomp.SyscallRule) bool {
	return selectsAll(&r.Includes) && selectsAll(&r.Excludes)
}

func selectsAll(s *seccomp.Selector) bool {
	return s.Caps == 0 && len(s.Arches) == 0 && s.MinKernel == seccomp.KernelVersion{}
}

// callKey is a system call of an ABI.
type callKey struct {
	arch seccomp.Arch
	nr   uint32
}

// outcome is what can happen to a call, over all arguments.
type outcome []seccomp.Action

// lets reports whether no arguments are blocked.
func (o outcome) lets() bool { return !slices.ContainsFunc(o, blocks) }

// blocked reports whether all arguments are blocked.
func (o outcome) blocked() bool {
	return !slices.ContainsFunc(o, func(a seccomp.Action) bool { return !blocks(a) })
}

// allowed reports whether nobody else is asked for any arguments.
func (o outcome) allowed() bool {
	return !slices.ContainsFunc(o, func(a seccomp.Action) bool { return !passes(a) })
}

// strictest returns the action that the kernel would prefer.
func (o outcome) strictest() seccomp.Action {
	return slices.MinFunc(o, func(a, b seccomp.Action) int { return cmp.Compare(rank(a), rank(b)) })
}

// mildest returns the action that the kernel would prefer least.
func (o outcome) mildest() seccomp.Action {
	return slices.MaxFunc(o, func(a, b seccomp.Action) int { return cmp.Compare(rank(a), rank(b)) })
}

// rank orders actions as the kernel does if several filters answer differently;
// see seccomp(2), "Filter return values".
func rank(a seccomp.Action) int32 { return int32(a.Kind()) }

// passes reports whether the action lets a call through by itself.
func passes(a seccomp.Action) bool { return a.Kind() == seccomp.Allow || a.Kind() == seccomp.Log }

// blocks reports whether the action keeps the kernel from the call, without
// that anybody else is asked.
func blocks(a seccomp.Action) bool { return a.IsErrno() || kills(a) }

// kills reports whether the action ends the process, or sends it a signal that
// does unless it is handled.
func kills(a seccomp.Action) bool {
	k := a.Kind()
	return k == seccomp.KillProcess || k == seccomp.KillThread || k == seccomp.Trap
}

// lenient reports whether the profile is a deny list: what it does not name is
// let through.
func (c *checker) lenient() bool { return passes(c.profile.DefaultAction) }

// group is what calls have in common that have the same rules.
type group struct {
	rules  []seccomp.Rule
	rest   seccomp.Action // if none of them holds
	known  outcome
	always bool // known, and one of the rules always holds, all of which have conditions
	fates  map[int]fate
}

// group returns the group of a call.
func (c *checker) group(a seccomp.Arch, nr uint32) *group {
	at := callKey{a, nr}
	if g, ok := c.calls[at]; ok {
		return g
	}
	rules, rest := c.rules(a, nr), c.unlisted(a, nr)
	key := ruleKey(rules, rest)
	g, ok := c.groups[key]
	if !ok {
		g = &group{rules: rules, rest: rest, fates: map[int]fate{}}
		c.groups[key] = g
	}
	c.calls[at] = g
	return g
}

// ruleKey returns a text that is the same for the same rules.
func ruleKey(rules []seccomp.Rule, rest seccomp.Action) string {
	b := binary.LittleEndian.AppendUint32(nil, uint32(rest))
	for _, r := range rules {
		b = binary.LittleEndian.AppendUint32(b, uint32(r.Action))
		b = binary.LittleEndian.AppendUint32(b, uint32(r.Index))
		b = append(b, byte(len(r.Args)))
		for _, c := range r.Args {
			b = append(b, c.Index, byte(c.Op), c.Bits)
			b = binary.LittleEndian.AppendUint64(b, c.Value)
			b = binary.LittleEndian.AppendUint64(b, c.ValueTwo)
		}
	}
	return string(b)
}

// outcome returns what can happen to the calls of the group.
func (g *group) outcome(c *checker) outcome {
	if g.known != nil {
		return g.known
	}
	var o outcome
	g.always = true
	w := c.walker()
	done := w.walk(everything(), g.rules, func(_ region, i int) bool {
		if i < 0 {
			g.always = false
			o = appendNew(o, g.rest)
		} else {
			g.always = g.always && len(g.rules[i].Args) > 0
			o = appendNew(o, g.rules[i].Action)
		}
		return true
	})
	if !done { // too much to prove: what may happen
		g.always = false
		o = appendNew(o, g.rest)
		for _, r := range g.rules {
			o = appendNew(o, r.Action)
		}
	}
	g.known = o
	return o
}

// fate returns what becomes of rule i for the calls of the group.
func (g *group) fate(c *checker, i int) fate {
	f, ok := g.fates[i]
	if !ok {
		f = c.fateOf(i, g.rules, g.rest)
		g.fates[i] = f
	}
	return f
}

// outcome returns what can happen to call number nr of a.
func (c *checker) outcome(a seccomp.Arch, nr uint32) outcome { return c.group(a, nr).outcome(c) }

// named returns what can happen to the named call through a. It is false if a
// lacks the call.
func (c *checker) named(a seccomp.Arch, name string) (outcome, bool) {
	nr, ok := syscalls.Number(a, name)
	if !ok {
		return nil, false
	}
	return c.outcome(a, nr), true
}

// native is the ABI that the target's programs use.
func (c *checker) native() seccomp.Arch { return c.target.Arch }

// rules returns the rules of the policy for a call.
func (c *checker) rules(a seccomp.Arch, nr uint32) []seccomp.Rule { return rulesOf(c.policy, a, nr) }

func rulesOf(p *seccomp.Policy, a seccomp.Arch, nr uint32) []seccomp.Rule {
	for i := range p.Archs {
		if p.Archs[i].Arch != a {
			continue
		}
		calls := p.Archs[i].Calls
		at, ok := slices.BinarySearchFunc(calls, nr, func(c seccomp.CallRules, nr uint32) int { return cmp.Compare(c.Nr, nr) })
		if ok {
			return calls[at].Rules
		}
	}
	return nil
}

// unlisted returns what happens if no rule for the call holds.
func (c *checker) unlisted(a seccomp.Arch, nr uint32) seccomp.Action {
	bare := *c.policy
	for i := range c.policy.Archs {
		if c.policy.Archs[i].Arch == a {
			bare.Archs = []seccomp.ArchRules{{Arch: a, Newest: c.policy.Archs[i].Newest}}
		}
	}
	return bare.Action(a.Audit(), nr, [6]uint64{})
}

// decidedBy returns the place of the rule that decides call nr of a for some
// arguments with the action, or -1.
func (c *checker) decidedBy(a seccomp.Arch, nr uint32, action seccomp.Action) int {
	for _, r := range c.rules(a, nr) {
		if r.Action == action {
			return r.Index
		}
	}
	return -1
}

// numbers returns all numbers by which a call can be reached through a.
func numbers(call syscalls.Call, a seccomp.Arch) []uint32 {
	var list []uint32
	if nr, ok := call.Number(a); ok {
		list = append(list, nr)
	}
	if nr, ok := call.Alias(a); ok {
		list = append(list, nr)
	}
	return list
}

// maxListed is how many names a message lists.
const maxListed = 12

// join lists names in a message.
func join(names []string) string {
	if len(names) <= maxListed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), len(names)-maxListed)
}

// on names ABIs in a message, unless the native one is among them.
func (c *checker) on(archs []string) string {
	if len(archs) == 0 || slices.Contains(archs, c.native().Short()) {
		return ""
	}
	return "on " + join(archs) + ", "
}

// item names a rule in a message.
func item(rule int) string { return fmt.Sprintf("syscalls[%d]", rule) }

// items names rules in a message.
func items(rules []int) string {
	var names []string
	for _, r := range rules {
		names = append(names, item(r))
	}
	return join(names)
}

// verb returns the form of a verb for n things.
func verb(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// appendNew appends s if list lacks it.
func appendNew[S ~[]T, T comparable](list S, s T) S {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
