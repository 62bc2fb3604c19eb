package policy

import (
	"fmt"
	"slices"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
)

// Difference is one thing that a policy allows and another does not.
type Difference struct {
	Kind   string         `json:"kind"` // capability or syscall
	Effect seccomp.Effect `json:"effect"`
	Text   string         `json:"text"`
	// Change is exact, for system calls.
	Change *seccomp.Change `json:"change,omitempty"`
}

// Diff returns what two policies do differently on a machine of the
// architecture, capabilities first, looser ones before stricter ones. System
// calls are compared by what the filters do, not by how entries look.
func Diff(from, to *Policy, arch seccomp.Arch) ([]Difference, error) {
	a, err := from.Granted()
	if err != nil {
		return nil, err
	}
	b, err := to.Granted()
	if err != nil {
		return nil, err
	}
	out := slices.Concat(gained(b.Minus(a), "is granted now", seccomp.Looser), gained(a.Minus(b), "is granted no more", seccomp.Stricter))
	changes, err := diffCalls(from, to, arch)
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		out = append(out, Difference{"syscall", c.Effect, c.String(), &c})
	}
	return out, nil
}

func gained(set capability.Set, words string, effect seccomp.Effect) (list []Difference) {
	for _, c := range set.List() {
		list = append(list, Difference{Kind: "capability", Effect: effect, Text: fmt.Sprintf("%s %s", c.Short(), words)})
	}
	return list
}

func diffCalls(from, to *Policy, arch seccomp.Arch) ([]seccomp.Change, error) {
	var resolved [2]*seccomp.Policy
	for i, p := range []*Policy{from, to} {
		profile, err := p.Profile()
		if err != nil {
			return nil, err
		}
		if resolved[i], _, err = profile.Resolve(seccomp.Target{Arch: arch}); err != nil {
			return nil, err
		}
	}
	return seccomp.Diff(resolved[0], resolved[1])
}
