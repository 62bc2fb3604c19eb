package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// widthFault is a call for which the comparisons of libseccomp give another
// answer than those at the kernel's width.
type widthFault struct {
	evades          bool // or else refuses what should pass
	rule            int
	name            string
	archs           []string
	example         [6]uint64
	kernel, runtime seccomp.Action
	arg             uint8
	bits, wide      uint8 // that the kernel reads, and that libseccomp compares
}

// widths finds conditions that mean something else under runtimes that use
// libseccomp.
func (c *checker) widths() {
	var list []widthFault
	compared := map[string][]widthFault{} // of rules that many calls have
	for i, a := range c.policy.Archs {
		for j := range a.Calls {
			narrow, wide := a.Calls[j].Rules, c.wide.Archs[i].Calls[j].Rules
			name, ok := syscalls.Name(a.Arch, a.Calls[j].Nr)
			if !ok || !differ(narrow, wide) {
				continue
			}
			rest := c.unlisted(a.Arch, a.Calls[j].Nr)
			key := ruleKey(narrow, rest) + ruleKey(wide, rest)
			faults, ok := compared[key]
			if !ok {
				faults = c.faults(narrow, wide, rest)
				compared[key] = faults
			}
			for _, f := range faults {
				f.name = name
				list = addFault(list, f, a.Arch)
			}
		}
	}
	for _, f := range list {
		if f.evades {
			c.addEvaded(f)
		} else {
			c.addRefused(f)
		}
	}
}

// addFault adds a fault on an ABI; one of several ABIs is one in the list.
func addFault(list []widthFault, f widthFault, a seccomp.Arch) []widthFault {
	at := slices.IndexFunc(list, func(g widthFault) bool { return g.rule == f.rule && g.name == f.name && g.evades == f.evades })
	if at < 0 {
		at, list = len(list), append(list, f)
	}
	list[at].archs = append(slices.Clip(list[at].archs), a.Short())
	return list
}

// faults returns what is wrong with the rules of one call: of each kind, at
// most one.
func (c *checker) faults(narrow, wide []seccomp.Rule, rest seccomp.Action) []widthFault {
	var list []widthFault
	if f, ok := c.compare(narrow, wide, rest, everything(), stricter); ok {
		f.evades = true
		list = append(list, f)
	}
	if f, ok := c.compare(narrow, wide, rest, negative(narrow, wide), milder); ok {
		list = append(list, f)
	}
	return list
}

// differ reports whether the rules are compared at different widths.
func differ(narrow, wide []seccomp.Rule) bool {
	_, _, ok := firstDifference(narrow, wide)
	return ok
}

func firstDifference(narrow, wide []seccomp.Rule) (a, b seccomp.Condition, ok bool) {
	for i := range narrow {
		for j := range narrow[i].Args {
			if narrow[i].Args[j].Bits != wide[i].Args[j].Bits {
				return narrow[i].Args[j], wide[i].Args[j], true
			}
		}
	}
	return a, b, false
}

func stricter(kernel, runtime seccomp.Action) bool { return rank(kernel) < rank(runtime) }

// milder reports whether the runtime refuses what the rules let through.
func milder(kernel, runtime seccomp.Action) bool {
	return passes(kernel) && rank(runtime) < rank(kernel)
}

// negative returns the arguments for which int arguments that are compared are
// negative numbers, extended to 64 bits as C does it. Programs pass these; other
// garbage in the upper half is nobody's aim.
func negative(narrow, wide []seccomp.Rule) region {
	r := everything()
	for i := range narrow {
		for j, n := range narrow[i].Args {
			if n.Bits == 32 && wide[i].Args[j].Bits == 64 {
				r[at(n, 1)] = limb{0, 0xffff, 0x8000, 0x8000}
				r[at(n, 2)], r[at(n, 3)] = limb{lo: 0xffff, hi: 0xffff}, limb{lo: 0xffff, hi: 0xffff}
			}
		}
	}
	return r
}

// compare looks for arguments within a region for which both lists of rules
// give actions that fit the relation.
func (b *budget) compare(narrow, wide []seccomp.Rule, rest seccomp.Action, within region, relation func(kernel, runtime seccomp.Action) bool) (f widthFault, found bool) {
	action := func(rules []seccomp.Rule, i int) seccomp.Action {
		if i < 0 {
			return rest
		}
		return rules[i].Action
	}
	w := b.walker()
	w.walk(within, narrow, func(r region, i int) bool {
		inner := walker{left: w.left, total: b}
		inner.walk(r, wide, func(part region, k int) bool {
			kernel, runtime := action(narrow, i), action(wide, k)
			if !relation(kernel, runtime) {
				return true
			}
			found = true
			f = widthFault{example: part.pick(), kernel: kernel, runtime: runtime, rule: ruleAt(narrow, i, wide, k)}
			return false
		})
		w.left = inner.left
		return !found
	})
	if n, m, ok := firstDifference(narrow, wide); ok {
		f.arg, f.bits, f.wide = n.Index, n.Bits, m.Bits
	}
	return f, found
}

// ruleAt returns the place of the rule that is compared wrongly: the one that
// decides by the kernel's width, or else by the other.
func ruleAt(narrow []seccomp.Rule, i int, wide []seccomp.Rule, k int) int {
	if i >= 0 {
		return narrow[i].Index
	}
	return wide[k].Index
}

func (c *checker) addEvaded(f widthFault) {
	fix := fmt.Sprintf("write equality as SCMP_CMP_MASKED_EQ with the mask %#x in value, or list what is allowed", ^uint64(0)>>(64-f.bits))
	if f.wide < f.bits {
		fix = "list what is allowed, not what is denied"
	}
	c.add(Finding{Code: "wide-compare", Severity: Warning, Rule: f.rule, Names: []string{f.name}, Archs: f.archs,
		Message: fmt.Sprintf("%sruntimes that use libseccomp (runc, crun, Docker, Podman) compare %d bits of arg%d, of which the kernel reads %d: there %s evades %v and gets %v; Brig compares as the kernel reads",
			c.on(f.archs), f.wide, f.arg, f.bits, callText(f), f.kernel, f.runtime),
		Fix: fix})
}

func (c *checker) addRefused(f widthFault) {
	c.add(Finding{Code: "wide-compare", Severity: Info, Rule: f.rule, Names: []string{f.name}, Archs: f.archs,
		Message: fmt.Sprintf("%sruntimes that use libseccomp compare %d bits of arg%d, of which the kernel reads %d: there %s, a negative int, gets %v, and not %v; Brig compares as the kernel reads",
			c.on(f.archs), f.wide, f.arg, f.bits, callText(f), f.runtime, f.kernel),
		Fix: fmt.Sprintf("for other runtimes, add a rule for the value extended to 64 bits, or use SCMP_CMP_MASKED_EQ with the mask %#x", ^uint64(0)>>(64-f.bits))})
}

// callText returns the call as "socket(0x100000028)", up to the last argument
// that is not 0.
func callText(f widthFault) string {
	last := int(f.arg)
	for i, v := range f.example {
		if v != 0 {
			last = max(last, i)
		}
	}
	var args []string
	for _, v := range f.example[:last+1] {
		if v < 10 {
			args = append(args, fmt.Sprint(v))
		} else {
			args = append(args, fmt.Sprintf("%#x", v))
		}
	}
	return f.name + "(" + strings.Join(args, ", ") + ")"
}
