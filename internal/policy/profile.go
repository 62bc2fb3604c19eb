package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Granted returns the capabilities that the policy grants. It fails on a name
// that is no capability's, which [Parse] lets nobody write.
func (p *Policy) Granted() (capability.Set, error) {
	var set capability.Set
	for i := range p.Capabilities {
		c := &p.Capabilities[i]
		if !c.Allowed() {
			continue
		}
		one, err := capability.Parse(c.Name)
		if err != nil {
			return 0, fmt.Errorf("policy: capabilities[%d].name: %w", i, err)
		}
		set = set.Add(one)
	}
	return set, nil
}

// Allowed reports whether the entry grants its capability.
func (c *Capability) Allowed() bool {
	return c.Status == Verified || c.Status == Asked || c.Status == Added
}

// Allowed reports whether the entry allows its system call, for some arguments
// at least.
func (c *Syscall) Allowed() bool { return c.Status != Unneeded }

// conditional reports whether the call is allowed for some arguments only.
func (c *Syscall) conditional() bool {
	return slices.ContainsFunc(c.Args, func(a Arg) bool { return a.Enforce })
}

// Allowed are the values that the argument may have where it is a condition.
func (a *Arg) Allowed() []uint64 {
	return slices.DeleteFunc(slices.Clone(a.Values), func(v uint64) bool {
		i := a.tried(v)
		return i >= 0 && a.Tried[i].Status == Unneeded
	})
}

// tried is the place of a value in Tried, or -1.
func (a *Arg) tried(value uint64) int {
	return slices.IndexFunc(a.Tried, func(t Tried) bool { return t.Value == value })
}

// Profile returns the policy's seccomp profile: what is not allowed fails with
// EPERM, or with the error that the policy gives as the answer. It is for the
// ABIs on which calls were seen, beside the machine's own, and Docker's form has
// a call allowed on all of them or on none.
func (p *Policy) Profile() (*seccomp.Profile, error) {
	out := &seccomp.Profile{DefaultAction: seccomp.Errno(uint16(unix.EPERM))}
	var err error
	if out.Architectures, err = p.architectures(); err != nil {
		return nil, err
	}
	plain := seccomp.SyscallRule{Action: seccomp.Allow}
	var rules []seccomp.SyscallRule
	for i := range p.Syscalls {
		switch c := &p.Syscalls[i]; {
		case !c.Allowed():
		case c.conditional():
			rules = append(rules, conditions(c)...)
		default:
			plain.Names = append(plain.Names, c.Name)
		}
	}
	slices.Sort(plain.Names)
	if len(plain.Names) > 0 {
		out.Syscalls = append(out.Syscalls, plain)
	}
	answers, err := p.answerRules()
	if err != nil {
		return nil, err
	}
	out.Syscalls = slices.Concat(out.Syscalls, rules, answers)
	return out, nil
}

// architectures are the ABIs of the profile. The machine's own is left out if it
// is the only one: it is always in.
func (p *Policy) architectures() ([]seccomp.Arch, error) {
	seen := map[seccomp.Arch]bool{}
	for i := range p.Syscalls {
		c := &p.Syscalls[i]
		if !c.Allowed() {
			continue
		}
		for n, name := range c.ABIs {
			a, err := syscalls.ParseShort(name)
			if err != nil {
				return nil, fmt.Errorf("policy: syscalls[%d].abis[%d]: %w", i, n, err)
			}
			seen[a] = true
		}
	}
	if len(seen) < 2 {
		for a := range seen {
			if native, ok := syscalls.Native(); ok && a == native {
				return nil, nil
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// maxRules bounds the rules that one call's conditions become.
const maxRules = 64

// conditions returns rules that together allow the call for every combination of
// the values of its arguments. If these were too many, the argument with most
// values is not looked at.
func conditions(c *Syscall) []seccomp.SyscallRule {
	var args []Arg
	for _, a := range c.Args {
		if a.Enforce {
			a.Values = a.Allowed()
			args = append(args, a)
		}
	}
	for product(args) > maxRules {
		most := slices.MaxFunc(args, func(a, b Arg) int { return cmp.Compare(len(a.Values), len(b.Values)) })
		args = slices.DeleteFunc(args, func(a Arg) bool { return a.Index == most.Index })
	}
	all := [][]seccomp.Condition{nil}
	for _, a := range args {
		var next [][]seccomp.Condition
		for _, so := range all {
			for _, v := range a.Values {
				next = append(next, append(slices.Clone(so), seccomp.Condition{Index: a.Index, Op: seccomp.EQ, Value: v}))
			}
		}
		all = next
	}
	rules := make([]seccomp.SyscallRule, 0, len(all))
	for _, list := range all {
		rules = append(rules, seccomp.SyscallRule{Names: []string{c.Name}, Action: seccomp.Allow, Args: list})
	}
	return rules
}

func product(args []Arg) int {
	n := 1
	for _, a := range args {
		// Values of one argument may be many; the product must not overflow.
		n = min(n*min(len(a.Values), maxRules+1), maxRules+1)
	}
	return n
}

// answerRules are those of the errors, one for each error.
func (p *Policy) answerRules() ([]seccomp.SyscallRule, error) {
	conditional := map[string]bool{}
	for i := range p.Syscalls {
		conditional[p.Syscalls[i].Name] = p.Syscalls[i].conditional()
	}
	byErrno := map[string][]string{}
	for _, a := range p.Answers {
		// A rule without conditions would decide alone.
		if !conditional[a.Name] {
			byErrno[a.Errno] = append(byErrno[a.Errno], a.Name)
		}
	}
	var rules []seccomp.SyscallRule
	for _, name := range slices.Sorted(maps.Keys(byErrno)) {
		n, err := errnoOf(name)
		if err != nil {
			return nil, fmt.Errorf("policy: answers: %w", err)
		}
		slices.Sort(byErrno[name])
		rules = append(rules, seccomp.SyscallRule{Names: byErrno[name], Action: seccomp.Errno(uint16(n))})
	}
	return rules, nil
}
