package seccomp

import (
	"slices"
	"strings"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// BlockedCall is a system call that a policy does not let through, or not for
// all arguments.
type BlockedCall struct {
	Name        string   `json:"name"`
	Number      uint32   `json:"number"`
	Conditional bool     `json:"conditional"` // some arguments let it through
	Action      string   `json:"action"`      // what happens if no rule with conditions holds
	UnlockedBy  []string `json:"unlockedBy"`  // capabilities of which any gives more access
	Reason      string   `json:"reason,omitempty"`
}

// Blocked returns the calls of the ABI arch that the profile blocks for the
// target t, wholly or in part, in the order of their names. The reasons are
// those of [BlockReason].
func (p *Profile) Blocked(t Target, arch Arch) ([]BlockedCall, error) {
	policy, _, err := p.Resolve(t)
	if err != nil {
		return nil, err
	}
	unlocked, err := p.unlocked(t)
	if err != nil {
		return nil, err
	}
	list := []BlockedCall{}
	for nr, name := range syscalls.All(arch) {
		access := policy.Access(arch, nr)
		if access == Allowed {
			continue
		}
		x := explainer{profile: p, target: t, arch: arch, name: name, nr: nr}
		d, _ := x.ask(policy)
		by := []string{}
		for _, u := range unlocked {
			if u.policy.Access(arch, nr) > access {
				by = append(by, u.name)
			}
		}
		list = append(list, BlockedCall{name, nr, access == Conditional, d.Action.String(), by, BlockReason(name)})
	}
	slices.SortFunc(list, func(a, b BlockedCall) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// withCap is the policy of a process that has one more capability.
type withCap struct {
	name   string
	policy *Policy
}

// unlocked resolves the profile for each capability that t lacks and that a
// rule asks about.
func (p *Profile) unlocked(t Target) ([]withCap, error) {
	var asked capability.Set
	for i := range p.Syscalls {
		asked = asked.Union(p.Syscalls[i].Includes.Caps).Union(p.Syscalls[i].Excludes.Caps)
	}
	var list []withCap
	for _, c := range asked.Minus(t.Caps).List() {
		more := t
		more.Caps = more.Caps.Add(c)
		policy, _, err := p.Resolve(more)
		if err != nil {
			return nil, err
		}
		list = append(list, withCap{c.String(), policy})
	}
	return list, nil
}
