package seccomp

import (
	"slices"
	"sync"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Access says what a policy makes of a system call over all arguments.
type Access uint8

// The kinds of access.
const (
	Blocked     Access = iota // no arguments let the call through
	Conditional               // some arguments do, or someone else decides (NOTIFY, TRACE)
	Allowed                   // all arguments do (ALLOW, LOG)
)

// Access returns what the policy makes of call number nr on a, where the
// numbers of x32 have [syscalls.X32Bit]. It looks at the rules one by one: it
// does not see that conditions of several rules together cover all arguments.
func (p *Policy) Access(a Arch, nr uint32) Access {
	rules := p.arch(a)
	if rules == nil {
		return access(p.OtherArch)
	}
	last := p.Default
	if nr > rules.Newest {
		last = p.Newer
	}
	call := rules.call(nr)
	if call == nil {
		return access(last)
	}
	var seen [3]bool
	for _, r := range call.Rules {
		seen[access(r.Action)] = true
		if len(r.Args) == 0 {
			return summary(seen)
		}
	}
	seen[access(last)] = true
	return summary(seen)
}

func access(a Action) Access {
	switch a.Kind() {
	case Allow, Log:
		return Allowed
	case Notify, trace:
		return Conditional
	}
	return Blocked
}

// summary joins the kinds of access that several rules give.
func summary(seen [3]bool) Access {
	switch {
	case seen == [3]bool{Allowed: true}:
		return Allowed
	case seen == [3]bool{Blocked: true}:
		return Blocked
	}
	return Conditional
}

// BlockedByDefault returns the names of this machine's native system calls
// that the default profile blocks, whatever the arguments, for the bounding
// set caps, in the order of their numbers.
func BlockedByDefault(caps capability.Set) ([]string, error) {
	t, err := Here(caps)
	if err != nil {
		return nil, err
	}
	policy, _, err := Default().Resolve(t)
	if err != nil {
		return nil, err
	}
	var names []string
	for nr, name := range syscalls.All(t.Arch) {
		if policy.Access(t.Arch, nr) == Blocked {
			names = append(names, name)
		}
	}
	return names, nil
}

// withoutCaps is the default profile with its policy for this machine and the
// empty bounding set.
var withoutCaps = sync.OnceValues(func() (*defaultPolicy, error) {
	t, err := Here(0)
	if err != nil {
		return nil, err
	}
	d := &defaultPolicy{profile: Default(), target: t}
	d.policy, _, err = d.profile.Resolve(t)
	return d, err
})

type defaultPolicy struct {
	profile *Profile
	target  Target
	policy  *Policy
}

// UnlockedBy returns the names of the system calls to which the default
// profile gives more access to a process with the capability c than to one
// without any, on this machine and over all of its ABIs, sorted.
func UnlockedBy(c capability.Cap) ([]string, error) {
	without, err := withoutCaps()
	if err != nil {
		return nil, err
	}
	t := without.target
	t.Caps = capability.Of(c)
	with, _, err := without.profile.Resolve(t)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, rules := range with.Archs {
		for _, call := range rules.Calls {
			if with.Access(rules.Arch, call.Nr) <= without.policy.Access(rules.Arch, call.Nr) {
				continue
			}
			if name, ok := syscalls.Name(rules.Arch, call.Nr); ok {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// UsesNotify reports whether some rule has the action [Notify], so that a
// filter of the policy needs a listener.
func (p *Policy) UsesNotify() bool {
	for _, a := range []Action{p.Default, p.Newer, p.OtherArch} {
		if a.Kind() == Notify {
			return true
		}
	}
	for i := range p.Archs {
		for _, call := range p.Archs[i].Calls {
			for _, r := range call.Rules {
				if r.Action.Kind() == Notify {
					return true
				}
			}
		}
	}
	return false
}
