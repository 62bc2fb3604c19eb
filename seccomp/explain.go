package seccomp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Explanation says what a profile makes of one system call, and why.
type Explanation struct {
	Call      string   `json:"call"`
	Arch      string   `json:"architecture"` // the ABI, as in "amd64"
	Number    uint32   `json:"number"`
	Arguments []uint64 `json:"arguments,omitempty"` // if given; others are 0
	// Action is what happens. If the arguments decide and were not given, it
	// is what happens if no rule with conditions holds, and Depends is true.
	Action  string `json:"action"`
	Depends bool   `json:"depends"`
	// By says what part of the profile decides: "rule", "default", "newer" for
	// calls newer than the profile, or "architecture" for an ABI that the
	// profile does not list.
	By     string     `json:"by"`
	Rule   int        `json:"rule"`             // place in "syscalls" of the rule that decides, or -1
	Line   int        `json:"line,omitempty"`   // of that rule
	Newest string     `json:"newest,omitempty"` // the newest call that the profile names, if By is "newer"
	Rules  []RuleFate `json:"rules"`            // of all rules that name the call, in their order
	With   []WithCaps `json:"with"`             // what more capabilities would change
	Notes  []string   `json:"notes"`            // of the profile, on this call

	answer Action
}

// RuleFate says what becomes of one rule that names the call.
type RuleFate struct {
	Rule       int      `json:"rule"`
	Line       int      `json:"line,omitempty"`
	Action     string   `json:"action"`
	Conditions []string `json:"conditions,omitempty"`
	// Fate is "decides", "depends" on arguments that were not given, "fails"
	// if a condition does not hold, "late" if an earlier rule decides, "idle"
	// if the rule can have no effect, or "excluded" if it is not for this
	// target.
	Fate string `json:"fate"`
	Why  string `json:"why,omitempty"`
}

// WithCaps is what the profile would make of the call for a process with more
// capabilities.
type WithCaps struct {
	Caps    []string `json:"caps"`
	Action  string   `json:"action"`
	Depends bool     `json:"depends"` // on arguments, which were not given
	Rule    int      `json:"rule"`    // that decides, or -1
	Line    int      `json:"line,omitempty"`
}

// Explain says what the profile, for the target t, makes of the named call
// through the ABI arch, with the given arguments; nil stands for unknown ones.
// [Policy.Decide] decides. It fails if t has no table of system calls, if arch
// lacks the call, or if there are more arguments than it has.
func (p *Profile) Explain(t Target, arch Arch, name string, args []uint64) (*Explanation, error) {
	x := explainer{profile: p, target: t, arch: arch, name: name, known: args != nil}
	if err := x.find(args); err != nil {
		return nil, err
	}
	copy(x.args[:], args)
	policy, notes, err := p.Resolve(t)
	if err != nil {
		return nil, err
	}
	x.policy = policy
	e := &Explanation{Call: name, Arch: arch.Short(), Number: x.nr, Arguments: args, Notes: []string{}}
	x.decide(e)
	e.Rules = x.fates(e)
	e.With = x.with(e.answer)
	for _, n := range notes {
		if n.Name == name && n.Kind != NoteElsewhere {
			e.Notes = append(e.Notes, n.String())
		}
	}
	return e, nil
}

// explainer asks a policy about one call.
type explainer struct {
	profile *Profile
	target  Target
	arch    Arch
	name    string
	nr      uint32
	known   bool // the arguments are
	args    [6]uint64
	policy  *Policy
}

// CallNumber returns the number of the named call on an ABI, as filters see
// it. An unknown name is an error that suggests the nearest known one.
func CallNumber(arch Arch, name string) (uint32, error) {
	call, ok := syscalls.Find(name)
	if !ok {
		return 0, unknownName(name)
	}
	if !arch.HasTable() {
		return 0, fmt.Errorf("no table of system calls for %s", arch.Short())
	}
	nr, ok := call.Number(arch)
	if !ok {
		return 0, fmt.Errorf("%s has no system call %s", arch.Short(), name)
	}
	return nr, nil
}

// find looks the call up.
func (x *explainer) find(args []uint64) (err error) {
	if x.nr, err = CallNumber(x.arch, x.name); err != nil {
		return err
	}
	call, _ := syscalls.Find(x.name)
	most, ok := call.NArgs(x.arch)
	if !ok || most > len(x.args) {
		most = len(x.args)
	}
	if len(args) > most {
		return fmt.Errorf("%s takes %d arguments, not %d", x.name, most, len(args))
	}
	return nil
}

// decide fills in what happens.
func (x *explainer) decide(e *Explanation) {
	d, depends := x.ask(x.policy)
	e.Action, e.answer, e.Depends = d.Action.String(), d.Action, depends
	e.By, e.Rule, e.Line = d.Reason.String(), d.Rule, x.line(d.Rule)
	if d.Reason == ByNewer {
		e.Newest = x.newest()
	}
}

// ask returns the decision of a policy on the call. Depends is true if it
// needs arguments that are not known; the decision is then what is left if no
// rule with conditions holds.
func (x *explainer) ask(p *Policy) (d Decision, depends bool) {
	rules := x.rules(p)
	conditional := slices.ContainsFunc(rules, func(r Rule) bool { return len(r.Args) > 0 })
	if x.known || !conditional {
		return p.Decide(x.arch.Audit(), x.nr, x.args), false
	}
	rest := slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool { return len(r.Args) > 0 })
	return x.replace(p, rest).Decide(x.arch.Audit(), x.nr, x.args), true
}

// rules returns the policy's rules for the call.
func (x *explainer) rules(p *Policy) []Rule {
	if a := p.arch(x.arch); a != nil {
		if call := a.call(x.nr); call != nil {
			return call.Rules
		}
	}
	return nil
}

// replace returns p with other rules for the call, which p has rules for.
func (x *explainer) replace(p *Policy, rules []Rule) *Policy {
	q := *p
	q.Archs = slices.Clone(p.Archs)
	for i := range q.Archs {
		a := &q.Archs[i]
		if a.Arch != x.arch {
			continue
		}
		a.Calls = slices.Clone(a.Calls)
		for j := range a.Calls {
			if a.Calls[j].Nr == x.nr {
				a.Calls[j].Rules = rules
			}
		}
	}
	return &q
}

// newest returns the name and number of the newest call that the profile names.
func (x *explainer) newest() string {
	nr := x.policy.arch(x.arch).Newest
	name, ok := syscalls.Name(x.arch, nr)
	if !ok {
		return fmt.Sprint(nr)
	}
	return fmt.Sprintf("%s (%d)", name, nr&^x.arch.Bit())
}

func (x *explainer) line(rule int) int {
	if rule < 0 {
		return 0
	}
	return x.profile.Syscalls[rule].Line
}

// fates returns what becomes of all rules that name the call.
func (x *explainer) fates(e *Explanation) []RuleFate {
	list := []RuleFate{}
	for i := range x.profile.Syscalls {
		r := &x.profile.Syscalls[i]
		if !slices.Contains(r.Names, x.name) {
			continue
		}
		f := RuleFate{Rule: i, Line: r.Line, Action: r.Action.String(), Conditions: textConditions(r)}
		x.fate(e, &f, r)
		list = append(list, f)
	}
	return list
}

func (x *explainer) fate(e *Explanation, f *RuleFate, r *SyscallRule) {
	var mine []Rule
	for _, rule := range x.rules(x.policy) {
		if rule.Index == f.Rule {
			mine = append(mine, rule)
		}
	}
	switch {
	case !r.applies(x.target):
		f.Fate, f.Why = "excluded", r.whyNot(x.target)
	case e.By == "architecture":
		f.Fate, f.Why = "idle", "the profile does not list "+x.arch.Short()
	case r.Action == x.profile.DefaultAction:
		f.Fate, f.Why = "idle", "it does the same as the default action"
	case len(mine) == 0:
		f.Fate, f.Why = "idle", "a rule without conditions decides alone"
	case f.Rule == e.Rule && (!e.Depends || len(r.Args) == 0):
		f.Fate = "decides"
	case !x.known && len(r.Args) > 0:
		f.Fate = "depends"
	case !x.known || x.holds(mine):
		f.Fate, f.Why = "late", "an earlier rule decides"
	default:
		f.Fate, f.Why = "fails", x.failing(mine, r)
	}
}

// holds reports whether the policy's rules in list alone would decide.
func (x *explainer) holds(list []Rule) bool {
	return x.replace(x.policy, list).Decide(x.arch.Audit(), x.nr, x.args).Reason == ByRule
}

// failing names the conditions that do not hold. A rule that compares an
// argument twice has become several, none of which holds.
func (x *explainer) failing(mine []Rule, r *SyscallRule) string {
	var parts []string
	var seen uint8
	for _, rule := range mine {
		for _, c := range rule.Args {
			alone := rule
			alone.Args = []Condition{c}
			if seen>>c.Index&1 == 0 && !x.holds([]Rule{alone}) {
				seen |= 1 << c.Index
				parts = append(parts, fmt.Sprintf("arg%d is %s", c.Index, x.value(r, c)))
			}
		}
	}
	return strings.Join(parts, ", ")
}

// value returns an argument as text, and what a condition sees of it.
func (x *explainer) value(r *SyscallRule, c Condition) string {
	format := textNumber
	if names := constantsOf(r, c.Index); names != nil && constantsFit(r, c.Index) {
		format = func(v uint64) string { return textConstant(v, names, c.Op) }
	}
	v := x.args[c.Index]
	if seen := x.seen(c); seen != v {
		return fmt.Sprintf("%s, of which %s counts", textNumber(v), format(seen))
	}
	return format(v)
}

// seen returns the part of an argument that the kernel looks at.
func (x *explainer) seen(c Condition) uint64 { return x.args[c.Index] & c.bits() }

// whyNot says why a rule does not apply to a target.
func (r *SyscallRule) whyNot(t Target) string {
	in, ex := &r.Includes, &r.Excludes
	var parts []string
	if missing := in.Caps.Minus(t.Caps); missing != 0 {
		parts = append(parts, "only with "+strings.Join(missing.Names(), " and "))
	}
	if len(in.Arches) > 0 && !slices.Contains(in.Arches, t.Arch) {
		parts = append(parts, "only on "+shortNames(in.Arches))
	}
	if in.MinKernel != (KernelVersion{}) && !t.Kernel.AtLeast(in.MinKernel) {
		parts = append(parts, fmt.Sprintf("only from kernel %v on, and this is %v", in.MinKernel, t.Kernel))
	}
	if held := ex.Caps.Intersect(t.Caps); held != 0 {
		parts = append(parts, "not with "+strings.Join(held.Names(), " or "))
	}
	if slices.Contains(ex.Arches, t.Arch) {
		parts = append(parts, "not on "+t.Arch.Short())
	}
	if ex.MinKernel != (KernelVersion{}) && t.Kernel.AtLeast(ex.MinKernel) {
		parts = append(parts, fmt.Sprintf("not from kernel %v on, and this is %v", ex.MinKernel, t.Kernel))
	}
	return strings.Join(parts, "; ")
}

func shortNames(list []Arch) string {
	var names []string
	for _, a := range list {
		names = append(names, a.Short())
	}
	return strings.Join(names, ", ")
}

// with tries the capabilities that rules for the call ask about, one by one
// and, where a rule wants several, together, and returns those that give more.
func (x *explainer) with(now Action) []WithCaps {
	list := []WithCaps{}
	before := x.access(x.policy)
	var found []capability.Set
	for _, caps := range x.candidates() {
		if slices.ContainsFunc(found, func(less capability.Set) bool { return caps.Contains(less) }) {
			continue
		}
		t := x.target
		t.Caps = t.Caps.Union(caps)
		policy, _, err := x.profile.Resolve(t)
		if err != nil {
			continue // what resolves for fewer capabilities resolves for more
		}
		d, depends := x.ask(policy)
		more := now.stricterThan(d.Action)
		if !x.known {
			more = x.access(policy) > before || more
		}
		if more {
			found = append(found, caps)
			list = append(list, WithCaps{caps.Names(), d.Action.String(), depends, d.Rule, x.line(d.Rule)})
		}
	}
	return list
}

func (x *explainer) access(p *Policy) Access { return p.Access(x.arch, x.nr) }

// candidates returns the sets of missing capabilities that may matter.
func (x *explainer) candidates() []capability.Set {
	var sets []capability.Set
	add := func(s capability.Set) {
		if s != 0 && !slices.Contains(sets, s) {
			sets = append(sets, s)
		}
	}
	var whole []capability.Set
	for i := range x.profile.Syscalls {
		r := &x.profile.Syscalls[i]
		if !slices.Contains(r.Names, x.name) {
			continue
		}
		for _, c := range r.Includes.Caps.Union(r.Excludes.Caps).Minus(x.target.Caps).List() {
			add(capability.Of(c))
		}
		whole = append(whole, r.Includes.Caps.Minus(x.target.Caps))
	}
	for _, s := range whole {
		add(s)
	}
	return sets
}

// String returns the explanation as text: a line with the answer, and one for
// each rule that it does not name already, indented.
func (e *Explanation) String() string {
	lines := []string{e.headline()}
	for i := 0; i < len(e.Rules); {
		f, n := &e.Rules[i], e.alike(i)
		if len(e.Rules) > 1 || f.Fate != "decides" || len(f.Conditions) > 0 {
			lines = append(lines, "  "+fateLine(e.Rules[i:i+n]))
		}
		i += n
	}
	for _, n := range e.Notes {
		lines = append(lines, "  note: "+n)
	}
	return strings.Join(lines, "\n") + "\n"
}

// headline says what happens.
func (e *Explanation) headline() string {
	var b strings.Builder
	b.WriteString(e.Call)
	if e.Arguments != nil {
		var args []string
		for _, v := range e.Arguments {
			args = append(args, textNumber(v))
		}
		fmt.Fprintf(&b, "(%s)", strings.Join(args, ", "))
	}
	if e.Depends {
		fmt.Fprintf(&b, ": depends on the arguments; if no rule below holds, %s", e.reason())
	} else {
		fmt.Fprintf(&b, ": %s", e.reason())
	}
	for _, w := range e.With {
		fmt.Fprintf(&b, "; %s with %s", w.outcome(), strings.Join(w.Caps, " and "))
	}
	return b.String()
}

// reason names the action and what decides it.
func (e *Explanation) reason() string {
	switch e.By {
	case "rule":
		return e.Action + " by " + place(e.Rule, e.Line)
	case "newer":
		return fmt.Sprintf("%s, as it is newer than %s, the newest call that the profile names", e.Action, e.Newest)
	case "architecture":
		return fmt.Sprintf("%s, as the profile does not list %s", e.Action, e.Arch)
	}
	return e.Action + " by the default action"
}

func (w *WithCaps) outcome() string {
	switch {
	case w.Depends:
		return "depends on the arguments"
	case w.Rule < 0:
		return w.Action + " by the default action"
	}
	return w.Action + " by " + place(w.Rule, w.Line)
}

// place names a rule.
func place(rule, line int) string {
	if line == 0 {
		return fmt.Sprintf("syscalls[%d]", rule)
	}
	return fmt.Sprintf("syscalls[%d] (line %d)", rule, line)
}

// alike counts the rules from index i on that differ in their conditions only.
func (e *Explanation) alike(i int) int {
	n := 1
	for first := &e.Rules[i]; i+n < len(e.Rules); n++ {
		f := &e.Rules[i+n]
		if f.Action != first.Action || f.Fate != first.Fate || f.Why != first.Why || len(first.Conditions) == 0 || len(f.Conditions) == 0 {
			break
		}
	}
	return n
}

// fateLine describes rules that differ in their conditions only.
func fateLine(list []RuleFate) string {
	f := &list[0]
	text := place(f.Rule, f.Line)
	if last := &list[len(list)-1]; len(list) > 1 {
		text += " to " + place(last.Rule, last.Line)
	}
	text += ": " + f.Action
	var any []string
	for _, f := range list {
		if len(f.Conditions) > 0 {
			any = append(any, strings.Join(f.Conditions, " and "))
		}
	}
	if len(any) > 0 {
		text += " if " + strings.Join(any, ", or ")
	}
	switch f.Fate {
	case "decides":
		return text + ": decides"
	case "depends":
		return text
	case "fails":
		return text + "; but " + f.Why
	case "excluded":
		return text + "; not here: " + f.Why
	}
	return text + "; no effect: " + f.Why
}
