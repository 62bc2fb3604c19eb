package seccomp

import (
	"cmp"
	"slices"
)

// scope is the set of targets to which a rule applies.
type scope struct{ in, ex Selector }

// applies reports whether t is in the scope.
func (s scope) applies(t Target) bool {
	r := SyscallRule{Includes: s.in, Excludes: s.ex}
	return r.applies(t)
}

// always reports whether the scope has all targets.
func (s scope) always() bool { return scope{}.implies(s) }

func (v KernelVersion) compare(w KernelVersion) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor))
}

// and returns the targets that are in both scopes, in a form that equal scopes
// share as far as possible. It is false if there are none.
func (s scope) and(t scope) (scope, bool) {
	var both scope
	both.in.Caps = s.in.Caps.Union(t.in.Caps)
	both.ex.Caps = s.ex.Caps.Union(t.ex.Caps)
	both.in.Arches = sortedArchs(s.in.Arches)
	switch {
	case len(both.in.Arches) == 0:
		both.in.Arches = sortedArchs(t.in.Arches)
	case len(t.in.Arches) > 0:
		both.in.Arches = slices.DeleteFunc(both.in.Arches, func(a Arch) bool { return !slices.Contains(t.in.Arches, a) })
		if len(both.in.Arches) == 0 {
			return scope{}, false
		}
	}
	both.ex.Arches = sortedArchs(slices.Concat(s.ex.Arches, t.ex.Arches))
	if len(both.in.Arches) > 0 {
		both.in.Arches = slices.DeleteFunc(both.in.Arches, func(a Arch) bool { return slices.Contains(both.ex.Arches, a) })
		if len(both.in.Arches) == 0 {
			return scope{}, false
		}
		both.ex.Arches = nil
	}
	both.in.MinKernel = s.in.MinKernel
	if t.in.MinKernel.compare(s.in.MinKernel) > 0 {
		both.in.MinKernel = t.in.MinKernel
	}
	none := KernelVersion{}
	both.ex.MinKernel = s.ex.MinKernel
	if k := t.ex.MinKernel; k != none && (both.ex.MinKernel == none || k.compare(both.ex.MinKernel) < 0) {
		both.ex.MinKernel = k
	}
	before := both.ex.MinKernel
	if both.in.Caps.Intersect(both.ex.Caps) != 0 || before != none && both.in.MinKernel.compare(before) >= 0 {
		return scope{}, false
	}
	return both, true
}

// implies reports whether all targets of s are in t.
func (s scope) implies(t scope) bool {
	none := KernelVersion{}
	// What the architectures of s leave of those that t excludes or lacks.
	allowed := func(a Arch) bool {
		return (len(t.in.Arches) == 0 || slices.Contains(t.in.Arches, a)) && !slices.Contains(t.ex.Arches, a)
	}
	switch {
	case !s.in.Caps.Contains(t.in.Caps), !s.ex.Caps.Contains(t.ex.Caps):
		return false
	case s.in.MinKernel.compare(t.in.MinKernel) < 0:
		return false
	case t.ex.MinKernel != none && (s.ex.MinKernel == none || s.ex.MinKernel.compare(t.ex.MinKernel) > 0):
		return false
	case len(s.in.Arches) > 0:
		return !slices.ContainsFunc(s.in.Arches, func(a Arch) bool { return !slices.Contains(s.ex.Arches, a) && !allowed(a) })
	case len(t.in.Arches) > 0:
		return false
	}
	return !slices.ContainsFunc(t.ex.Arches, func(a Arch) bool { return !slices.Contains(s.ex.Arches, a) })
}

// A profile's condition is compared at the width of the argument, which depends
// on the ABI. What is said of conditions below must be so at every width.

// implies reports whether d holds for every value for which c does. It may miss
// that it does.
func (c Condition) implies(d Condition) bool {
	return c == d || atAllWidths(c, d, impliesAt)
}

// excludes reports whether c and d never hold for the same value. It may miss
// that they do not.
func (c Condition) excludes(d Condition) bool { return atAllWidths(c, d, excludesAt) }

func atAllWidths(c, d Condition, is func(c, d Condition) bool) bool {
	for _, bits := range []uint8{16, 32, 64} {
		c.Bits, d.Bits = bits, bits
		if !is(c.cut(), d.cut()) {
			return false
		}
	}
	return true
}

// within returns the ranges of values for which a condition holds, or, for one
// with a mask, ranges that have all of them.
func (c Condition) within() [][2]uint64 {
	switch {
	case c.Op != MaskedEQ:
		return c.ranges(c.bits())
	case c.ValueTwo&^c.Value != 0:
		return nil
	}
	return [][2]uint64{{c.ValueTwo, c.ValueTwo | c.bits()&^c.Value}}
}

// few returns the values for which a condition holds, if they are few.
func (c Condition) few() ([]uint64, bool) {
	const many = 64
	var list []uint64
	for _, r := range c.within() {
		if r[1]-r[0] >= many {
			return nil, false
		}
		for v := r[0]; ; v++ {
			if c.holds(v) {
				list = append(list, v)
			}
			if v == r[1] {
				break
			}
		}
	}
	return list, true
}

func impliesAt(c, d Condition) bool {
	if list, ok := c.few(); ok {
		return !slices.ContainsFunc(list, func(v uint64) bool { return !d.holds(v) })
	}
	switch {
	case d.Op == NE:
		return !c.holds(d.Value) || d.Value > d.bits()
	case d.Op == MaskedEQ && c.Op == MaskedEQ:
		return d.Value&^c.Value == 0 && c.ValueTwo&d.Value == d.ValueTwo
	case d.Op == MaskedEQ:
		return d.Value == 0 && d.ValueTwo == 0
	}
	within := d.within()
	return !slices.ContainsFunc(c.within(), func(r [2]uint64) bool {
		return !slices.ContainsFunc(within, func(w [2]uint64) bool { return w[0] <= r[0] && r[1] <= w[1] })
	})
}

func excludesAt(c, d Condition) bool {
	for _, pair := range [][2]Condition{{c, d}, {d, c}} {
		if list, ok := pair[0].few(); ok {
			return !slices.ContainsFunc(list, pair[1].holds)
		}
	}
	if c.Op == MaskedEQ && d.Op == MaskedEQ && (c.ValueTwo^d.ValueTwo)&c.Value&d.Value != 0 {
		return true
	}
	return !slices.ContainsFunc(c.within(), func(r [2]uint64) bool {
		return slices.ContainsFunc(d.within(), func(s [2]uint64) bool { return r[0] <= s[1] && s[0] <= r[1] })
	})
}
