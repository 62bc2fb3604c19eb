package lint

import (
	"fmt"
	"slices"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// repeatedArgs finds rules with several conditions on one argument. Each of the
// conditions then suffices alone, those on other arguments too, as in runc.
func (c *checker) repeatedArgs() {
	for i := range c.profile.Syscalls {
		r := &c.profile.Syscalls[i]
		index, ok := repeated(r.Args)
		if !ok || !c.applies(r) || c.alternatives(r.Args) {
			continue
		}
		what := fmt.Sprintf("arg%d is compared more than once, so that any of the rule's conditions suffices for %s, and not all are needed", index, join(r.Names))
		if c.holdsAlways(r.Args) {
			what += fmt.Sprintf("; together they hold for all arguments, which all get %v", r.Action)
		}
		c.add(Finding{Code: "or-ed-conditions", Severity: Warning, Rule: i, Names: r.Names, Message: what,
			Fix: "compare each argument once, as with SCMP_CMP_MASKED_EQ, or write what must not be as rules of its own"})
	}
}

// repeated returns an argument that two conditions compare.
func repeated(args []seccomp.Condition) (uint8, bool) {
	for i, a := range args {
		if slices.ContainsFunc(args[:i], func(b seccomp.Condition) bool { return a.Index == b.Index }) {
			return a.Index, true
		}
	}
	return 0, false
}

// alternatives reports whether the conditions are on one argument, and no two
// of them can hold together: any suffices, and nothing else can be meant.
func (b *budget) alternatives(args []seccomp.Condition) bool {
	for i, second := range args {
		for _, first := range args[:i] {
			both := seccomp.Rule{Args: []seccomp.Condition{full(first), full(second)}}
			w := b.walker()
			if first.Index != second.Index || !w.whole(both, func(region) bool { return false }) {
				return false
			}
		}
	}
	return true
}

// full returns the condition on all 64 bits.
func full(c seccomp.Condition) seccomp.Condition {
	c.Bits = 64
	return c
}

// holdsAlways reports whether one of the conditions always holds.
func (b *budget) holdsAlways(args []seccomp.Condition) bool {
	var rules []seccomp.Rule
	for _, a := range args {
		rules = append(rules, seccomp.Rule{Args: []seccomp.Condition{full(a)}})
	}
	w := b.walker()
	return w.walk(everything(), rules, func(_ region, i int) bool { return i >= 0 })
}

// onArchs are the ABIs where something holds of a call, and of how many.
type onArchs struct {
	archs []string
	of    int
}

func (o *onArchs) count(a seccomp.Arch, holds bool) {
	o.of++
	if holds {
		o.archs = append(o.archs, a.Short())
	}
}

// everywhere reports whether it holds on all ABIs that have the call.
func (o *onArchs) everywhere() bool { return o.of > 0 && len(o.archs) == o.of }

// conditions finds conditions that are about nothing, or that are always or
// never true.
func (c *checker) conditions() {
	for i := range c.profile.Syscalls {
		r := &c.profile.Syscalls[i]
		if !c.applies(r) || r.Action == c.profile.DefaultAction {
			continue
		}
		names := slices.Compact(slices.Sorted(slices.Values(r.Names)))
		for j, cond := range r.Args {
			c.beyond(i, cond, names)
			var never, always []string
			for _, name := range names {
				switch c.truth(cond, name) {
				case alwaysFalse:
					never = append(never, name)
				case alwaysTrue:
					always = append(always, name)
				}
			}
			c.addTruth(i, j, never, always)
		}
	}
}

// beyond finds calls that do not have the argument of a condition.
func (c *checker) beyond(i int, cond seccomp.Condition, names []string) {
	var list []Finding // one for each number of arguments
	for _, name := range names {
		args, on := c.lacks(name, cond.Index)
		if len(on.archs) == 0 {
			continue
		}
		f := Finding{Code: "arg-beyond", Severity: Warning, Rule: i,
			Message: fmt.Sprintf("%d %s, counted from 0, and no arg%d: the program decides what stands there, and the kernel does not look at it",
				args, verb(args, "argument", "arguments"), cond.Index),
			Fix: "compare an argument that the call has, or drop the condition"}
		if !on.everywhere() {
			f.Severity, f.Archs = Info, on.archs
		}
		at := slices.IndexFunc(list, func(g Finding) bool { return g.Message == f.Message && slices.Equal(g.Archs, f.Archs) })
		if at < 0 {
			at, list = len(list), append(list, f)
		}
		list[at].Names = append(list[at].Names, name)
	}
	for _, f := range list {
		f.Message = fmt.Sprintf("%s%s %s %s", c.on(f.Archs), join(f.Names), verb(len(f.Names), "has", "have"), f.Message)
		c.add(f)
	}
}

// lacks returns the ABIs on which the call does not have the argument, and how
// many it has there.
func (c *checker) lacks(name string, index uint8) (args int, on onArchs) {
	call, _ := syscalls.Find(name)
	for _, a := range c.policy.Archs {
		if n, ok := call.NArgs(a.Arch); ok {
			on.count(a.Arch, int(index) >= n)
			if int(index) >= n {
				args = n
			}
		}
	}
	return args, on
}

// truth is what is known of a condition without the arguments.
type truth uint8

const (
	depends truth = iota
	alwaysTrue
	alwaysFalse
)

// truth returns what is known of a condition on all ABIs that have the call.
func (c *checker) truth(cond seccomp.Condition, name string) truth {
	call, _ := syscalls.Find(name)
	var yes, no onArchs
	for _, a := range c.policy.Archs {
		if _, ok := call.Number(a.Arch); !ok {
			continue
		}
		seen := c.atWidth(a.Arch, name, cond)
		yes.count(a.Arch, isEmpty(pieces(seen, false)))
		no.count(a.Arch, isEmpty(pieces(seen, true)))
	}
	switch {
	case yes.everywhere():
		return alwaysTrue
	case no.everywhere():
		return alwaysFalse
	}
	return depends
}

// isEmpty reports whether no arguments are in a union of products.
func isEmpty(list [][]cut) bool {
	all := everything()
	return !slices.ContainsFunc(list, func(cuts []cut) bool {
		_, ok := all.and(cuts)
		return ok
	})
}

// atWidth returns the condition as the policy has it for the call.
func (c *checker) atWidth(a seccomp.Arch, name string, cond seccomp.Condition) seccomp.Condition {
	action := seccomp.Errno(1)
	if c.profile.DefaultAction == action {
		action = seccomp.Errno(2)
	}
	alone := seccomp.Profile{DefaultAction: c.profile.DefaultAction, Architectures: []seccomp.Arch{a},
		Syscalls: []seccomp.SyscallRule{{Names: []string{name}, Action: action, Args: []seccomp.Condition{cond}}}}
	policy, _, err := alone.Resolve(c.target)
	nr, _ := syscalls.Number(a, name)
	if err != nil {
		return full(cond)
	}
	for _, r := range rulesOf(policy, a, nr) {
		if len(r.Args) == 1 {
			return r.Args[0]
		}
	}
	return full(cond)
}

// addTruth reports condition j of rule i, which is never or always true for
// some calls.
func (c *checker) addTruth(i, j int, never, always []string) {
	cond := c.profile.Syscalls[i].Args[j]
	text := condition(cond)
	if len(never) > 0 {
		bits := c.atWidth(c.native(), never[0], cond).Bits
		c.add(Finding{Code: "never-holds", Severity: Warning, Rule: i, Names: never,
			Message: fmt.Sprintf("args[%d], %s, never holds for %s: the kernel reads %d bits of arg%d", j, text, join(never), bits, cond.Index),
			Fix:     "compare with a value that the argument can have"})
	}
	if len(always) > 0 {
		c.add(Finding{Code: "always-holds", Severity: Warning, Rule: i, Names: always,
			Message: fmt.Sprintf("args[%d], %s, holds for all arguments of %s", j, text, join(always)),
			Fix:     "remove the condition, or correct its value"})
	}
}

// condition returns a condition as text.
func condition(c seccomp.Condition) string {
	if c.Op == seccomp.MaskedEQ {
		return fmt.Sprintf("arg%d & %#x == %#x", c.Index, c.Value, c.ValueTwo)
	}
	op := map[seccomp.Op]string{seccomp.NE: "!=", seccomp.LT: "<", seccomp.LE: "<=", seccomp.EQ: "==", seccomp.GE: ">=", seccomp.GT: ">"}[c.Op]
	return fmt.Sprintf("arg%d %s %#x", c.Index, op, c.Value)
}

// wholeCalls finds calls whose rules all have conditions, and that get one
// action whatever the arguments.
func (c *checker) wholeCalls() {
	seen := map[string]bool{}
	for _, a := range c.policy.Archs {
		for _, call := range a.Calls {
			name, ok := syscalls.Name(a.Arch, call.Nr)
			if !ok || seen[name] || len(call.Rules) < 2 {
				continue
			}
			g := c.group(a.Arch, call.Nr)
			o := g.outcome(c)
			var by []int
			for _, r := range call.Rules {
				by = appendNew(by, r.Index)
			}
			if g.always && len(o) == 1 && len(by) > 1 {
				seen[name] = true
				c.add(Finding{Code: "always-holds", Severity: Warning, Rule: by[len(by)-1], Names: []string{name}, Archs: []string{a.Arch.Short()},
					Message: fmt.Sprintf("%s give %s %v for all arguments: together their conditions decide nothing", items(by), name, o[0]),
					Fix:     "write one rule without conditions, or correct the conditions"})
			}
		}
	}
}
