package lint

import (
	"fmt"
	"slices"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// selectors finds rules that apply to no target.
func (c *checker) selectors() {
	for i := range c.profile.Syscalls {
		r := &c.profile.Syscalls[i]
		if why, fix := contradiction(r); why != "" {
			c.add(Finding{Code: "no-effect", Severity: Warning, Rule: i, Names: r.Names,
				Message: fmt.Sprintf("the rule for %s applies nowhere: %s", join(r.Names), why), Fix: fix})
		}
	}
}

// contradiction says why no target fits a rule, or "".
func contradiction(r *seccomp.SyscallRule) (why, fix string) {
	in, ex, none := &r.Includes, &r.Excludes, seccomp.KernelVersion{}
	if both := in.Caps.Intersect(ex.Caps); both != 0 {
		return fmt.Sprintf("includes and excludes both name %s", join(both.Names())), "remove it from one of them"
	}
	if in.MinKernel != none && ex.MinKernel != none && in.MinKernel.AtLeast(ex.MinKernel) {
		return fmt.Sprintf("includes asks for kernel %v or later, and excludes takes kernel %v and later away", in.MinKernel, ex.MinKernel),
			"make minKernel of includes the lower one"
	}
	if len(in.Arches) == 0 {
		return "", ""
	}
	left := slices.DeleteFunc(slices.Clone(in.Arches), func(a seccomp.Arch) bool { return slices.Contains(ex.Arches, a) })
	if len(left) == 0 {
		return "excludes names all architectures of includes", "remove them from one of both"
	}
	if !slices.ContainsFunc(left, isNative) {
		return fmt.Sprintf("includes names only %s, which is no machine's own architecture", join(shorts(left))),
			"name the architecture of the machine, such as amd64 for x32"
	}
	return "", ""
}

// isNative reports whether a machine's own programs can have the ABI.
func isNative(a seccomp.Arch) bool {
	return a != syscalls.X32 && a != syscalls.MIPS64N32 && a != syscalls.MIPSEL64N32
}

func shorts(list []seccomp.Arch) []string {
	var names []string
	for _, a := range list {
		names = append(names, a.Short())
	}
	return names
}

// sameAsDefault finds rules that do what happens anyway. Resolve skips them,
// and so does runc; another rule for the same call then decides alone.
func (c *checker) sameAsDefault() {
	for i := range c.profile.Syscalls {
		r := &c.profile.Syscalls[i]
		if !c.applies(r) || r.Action != c.profile.DefaultAction {
			continue
		}
		others, by := c.othersFor(r.Names)
		if len(others) > 0 {
			c.add(Finding{Code: "no-effect", Severity: Warning, Rule: i, Names: others,
				Message: fmt.Sprintf("the rule does the same as the default action, %v, and is skipped, here and in runc; what happens to %s is up to %s",
					r.Action, join(others), items(by)),
				Fix: "write the exception as conditions of the other rules"})
			continue
		}
		c.add(Finding{Code: "no-effect", Severity: Info, Rule: i, Names: r.Names,
			Message: fmt.Sprintf("the rule for %s does the same as the default action, %v", join(r.Names), r.Action),
			Fix:     "remove it, unless its names are to show that the profile knows these calls"})
	}
}

// othersFor returns those of the names that rules of the policy are for, and
// the places of these rules.
func (c *checker) othersFor(names []string) (others []string, by []int) {
	for _, name := range names {
		call, _ := syscalls.Find(name)
		for _, a := range c.policy.Archs {
			for _, nr := range numbers(call, a.Arch) {
				for _, r := range c.rules(a.Arch, nr) {
					others, by = appendNew(others, name), appendNew(by, r.Index)
				}
			}
		}
	}
	return others, by
}

// elsewhere finds names that no ABI of the policy has.
func (c *checker) elsewhere() {
	var at []int
	names := map[int][]string{}
	for _, n := range c.notes {
		if n.Kind == seccomp.NoteElsewhere {
			at = appendNew(at, n.Rule)
			names[n.Rule] = appendNew(names[n.Rule], n.Name)
		}
	}
	for _, rule := range at {
		list := names[rule]
		c.add(Finding{Code: "no-effect", Severity: Info, Rule: rule, Names: list,
			Message: fmt.Sprintf("%s %s on other architectures only", join(list), verb(len(list), "exists", "exist")),
			Fix:     "leave it, if the profile is for other machines too"})
	}
}

// repeatedNames finds names that a rule has twice.
func (c *checker) repeatedNames() {
	for i := range c.profile.Syscalls {
		var twice []string
		seen := map[string]bool{}
		for _, name := range c.profile.Syscalls[i].Names {
			if seen[name] {
				twice = appendNew(twice, name)
			}
			seen[name] = true
		}
		if len(twice) > 0 {
			c.add(Finding{Code: "no-effect", Severity: Info, Rule: i, Names: twice,
				Message: fmt.Sprintf("names %s more than once", join(twice)), Fix: "remove the repetitions"})
		}
	}
}

// fate is what becomes of a rule for one name.
type fate struct {
	kind fateKind
	by   []int // the rules because of which it has no effect
}

type fateKind uint8

const (
	effective fateKind = iota
	decidedAlone
	covered
	redundant
)

// shadows finds rules, or single names of them, that decide nothing.
func (c *checker) shadows() {
	for i := range c.profile.Syscalls {
		r := &c.profile.Syscalls[i]
		if !c.applies(r) || r.Action == c.profile.DefaultAction {
			continue
		}
		var fates []fate
		var names [][]string
		for _, name := range slices.Compact(slices.Sorted(slices.Values(r.Names))) {
			f := c.fate(i, name)
			if f.kind == effective {
				continue
			}
			at := slices.IndexFunc(fates, func(g fate) bool { return g.kind == f.kind && slices.Equal(g.by, f.by) })
			if at < 0 {
				at, fates, names = len(fates), append(fates, f), append(names, nil)
			}
			names[at] = append(names[at], name)
		}
		for at, f := range fates {
			c.addFate(i, f, names[at])
		}
	}
}

// fate returns what becomes of a name of rule i on all ABIs together: it is
// effective if it is on any.
func (c *checker) fate(i int, name string) fate {
	call, _ := syscalls.Find(name)
	var whole fate
	for _, a := range c.policy.Archs {
		for _, nr := range numbers(call, a.Arch) {
			f := c.group(a.Arch, nr).fate(c, i)
			if f.kind == effective {
				return f
			}
			if whole.kind == effective {
				whole = f
			}
			for _, by := range f.by {
				whole.by = appendNew(whole.by, by)
			}
		}
	}
	return whole
}

// fateOf returns what becomes of rule i among the rules of the policy for one
// number.
func (c *checker) fateOf(i int, rules []seccomp.Rule, rest seccomp.Action) fate {
	if len(rules) == 1 && len(rules[0].Args) == 0 {
		if rules[0].Index == i {
			return fate{}
		}
		return fate{decidedAlone, []int{rules[0].Index}}
	}
	f, found := fate{kind: covered}, false
	for k := range rules {
		if rules[k].Index != i {
			continue
		}
		found = true
		by, ok := c.coveredBy(rules[:k], rules[k])
		if !ok {
			f.kind = redundant
		}
		for _, b := range by {
			f.by = appendNew(f.by, b)
		}
	}
	f.by = slices.DeleteFunc(f.by, func(b int) bool { return b == i })
	slices.Sort(f.by)
	switch {
	case !found, f.kind == covered && len(f.by) == 0: // never-holds tells of the latter
		return fate{}
	case f.kind == covered:
		return f
	}
	if by, ok := c.needless(rules, i, rest); ok {
		return fate{redundant, by}
	}
	return fate{}
}

// coveredBy reports whether rules decide wherever the given one holds, and
// which of them do.
func (b *budget) coveredBy(rules []seccomp.Rule, rule seccomp.Rule) (by []int, ok bool) {
	w := b.walker()
	ok = w.whole(rule, func(r region) bool {
		return w.walk(r, rules, func(_ region, k int) bool {
			if k >= 0 {
				by = appendNew(by, rules[k].Index)
			}
			return k >= 0
		})
	})
	return by, ok
}

// needless reports whether all would be the same without the rules of index i,
// and which others then decide.
func (b *budget) needless(rules []seccomp.Rule, i int, rest seccomp.Action) (by []int, ok bool) {
	var without []seccomp.Rule
	var dead []bool // these never decide as it is, and are told of themselves
	for at, r := range rules {
		if r.Index != i {
			_, covered := b.coveredBy(rules[:at], r)
			without, dead = append(without, r), append(dead, covered)
		}
	}
	w := b.walker()
	ok = w.walk(everything(), rules, func(r region, k int) bool {
		if k < 0 || rules[k].Index != i {
			return true
		}
		return w.walk(r, without, func(_ region, m int) bool {
			if m < 0 {
				return rest == rules[k].Action
			}
			by = appendNew(by, without[m].Index)
			return without[m].Action == rules[k].Action && !dead[m]
		})
	})
	slices.Sort(by)
	return by, ok && len(by) > 0
}

// addFate reports a rule that decides nothing.
func (c *checker) addFate(i int, f fate, names []string) {
	r := &c.profile.Syscalls[i]
	what := "the rule"
	if len(names) < len(r.Names) {
		what = "for " + join(names) + " the rule"
	}
	finding := Finding{Code: "shadowed-rule", Severity: Warning, Rule: i, Names: names}
	same := !slices.ContainsFunc(f.by, func(b int) bool { return c.profile.Syscalls[b].Action != r.Action })
	always := !slices.ContainsFunc(f.by, func(b int) bool { return !everywhere(&c.profile.Syscalls[b]) })
	switch {
	case len(r.Args) == 0 && same && !always:
		return // several ways to one call, as for several capabilities
	case f.kind == decidedAlone && len(r.Args) == 0 && same:
		finding.Code, finding.Severity = "no-effect", Info
		finding.Message = fmt.Sprintf("%s does what %s already does: %v for %s", what, items(f.by), r.Action, join(names))
		finding.Fix = "remove the names from one of them"
	case f.kind == decidedAlone:
		finding.Message = fmt.Sprintf("%s never decides: %s has no conditions and gives %s %s whatever the arguments", what, items(f.by), join(names), c.gives(f.by))
		finding.Fix = "remove one of them, or give the other conditions"
	case f.kind == covered:
		finding.Message = fmt.Sprintf("%s never decides: all arguments of %s that fit it are decided before by %s, which %s %s",
			what, join(names), items(f.by), verb(len(f.by), "gives", "give"), c.gives(f.by))
		finding.Fix = "put it before, or remove it"
		if same {
			finding.Severity, finding.Fix = Info, "remove it"
		}
	default:
		finding.Code, finding.Severity = "no-effect", Info
		finding.Message = fmt.Sprintf("%s changes nothing for %s: without it, %s would give the same", what, join(names), items(f.by))
		finding.Fix = "remove it"
	}
	if !always {
		finding.Severity, finding.Message = Info, finding.Message+"; that is so for this target, and not for others, to which the rules do not all apply"
		finding.Fix = "nothing, if that is meant"
	}
	c.add(finding)
}

// gives names the actions of rules.
func (c *checker) gives(rules []int) string {
	var names []string
	for _, r := range rules {
		names = appendNew(names, c.profile.Syscalls[r].Action.String())
	}
	return join(names)
}
