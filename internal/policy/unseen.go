package policy

import "slices"

// Unseen compares the policy with what code can reach: denied are the reachable
// calls that it does not allow, which no run made, and unreached the calls that
// it allows although the code does not reach them, but for those of the base.
// Both are sorted.
func (p *Policy) Unseen(reachable []string) (denied, unreached []string) {
	allowed := map[string]bool{}
	for i := range p.Syscalls {
		c := &p.Syscalls[i]
		allowed[c.Name] = c.Allowed()
		if c.Allowed() && c.Status != Base && !slices.Contains(base, c.Name) && !slices.Contains(reachable, c.Name) {
			unreached = append(unreached, c.Name)
		}
	}
	for _, name := range reachable {
		if !allowed[name] {
			denied = append(denied, name)
		}
	}
	slices.Sort(denied)
	slices.Sort(unreached)
	return slices.Compact(denied), unreached
}
