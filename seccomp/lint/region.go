package lint

import (
	"slices"

	"github.com/brig-run/brig/seccomp"
)

// A limb is 16 bits of an argument: those x from lo to hi with x&mask == val.
// Conditions look at the low 16, 32 or 64 bits of an argument, so limbs can say
// what conditions of different widths have in common.
type limb struct{ lo, hi, mask, val uint16 }

var anyLimb = limb{hi: 0xffff}

// pick returns the smallest value of the limb. It is false if there is none.
func (l limb) pick() (uint16, bool) {
	if l.lo&l.mask == l.val {
		return l.lo, l.lo <= l.hi
	}
	// Above lo, the smallest value has lo's bits down to one that it raises.
	for bit := range 16 {
		one := uint16(1) << bit
		above := ^(one<<1 - 1)
		free := l.mask&one == 0 || l.val&one != 0
		if l.lo&one == 0 && free && (l.lo^l.val)&l.mask&above == 0 {
			v := l.lo&above | one | l.val&(one-1)
			return v, v <= l.hi
		}
	}
	return 0, false
}

// and returns what two limbs have in common.
func (l limb) and(m limb) (limb, bool) {
	if (l.val^m.val)&l.mask&m.mask != 0 {
		return limb{}, false
	}
	both := limb{max(l.lo, m.lo), min(l.hi, m.hi), l.mask | m.mask, l.val | m.val}
	_, ok := both.pick()
	return both, ok
}

// limbs is the number of limbs of an argument.
const limbs = 4

// region is a set of arguments: the product of its limbs, the low one of each
// argument first. Regions are never empty.
type region [6 * limbs]limb

// everything is the region of all arguments.
func everything() region {
	var r region
	for i := range r {
		r[i] = anyLimb
	}
	return r
}

// pick returns arguments that are in the region, small ones.
func (r *region) pick() (args [6]uint64) {
	for i := range r {
		v, _ := r[i].pick()
		args[i/limbs] |= uint64(v) << (16 * (i % limbs))
	}
	return args
}

// cut is a restriction of one limb.
type cut struct {
	at int
	limb
}

// and returns the part of the region that all cuts leave. It is false if there
// is none.
func (r *region) and(cuts []cut) (region, bool) {
	out := *r
	for _, c := range cuts {
		l, ok := out[c.at].and(c.limb)
		if !ok {
			return region{}, false
		}
		out[c.at] = l
	}
	return out, true
}

// pieces returns the arguments for which a condition holds, or for which it
// does not, as disjoint products.
func pieces(c seccomp.Condition, holds bool) [][]cut {
	switch c.Op {
	case seccomp.NE:
		c.Op, holds = seccomp.EQ, !holds
	case seccomp.LT:
		c.Op, holds = seccomp.GE, !holds
	case seccomp.LE:
		c.Op, holds = seccomp.GT, !holds
	}
	switch c.Op {
	case seccomp.EQ:
		c.Op, c.ValueTwo, c.Value = seccomp.MaskedEQ, c.Value, ^uint64(0)>>(64-c.Bits)
		if holds {
			return masked(c)
		}
		return append(order(c, c.ValueTwo, true), order(c, c.ValueTwo, false)...)
	case seccomp.MaskedEQ:
		if holds {
			return masked(c)
		}
		return unmasked(c)
	case seccomp.GT:
		if holds {
			return order(c, c.Value, true)
		}
		return append(order(c, c.Value, false), exactly(c, c.Value)...)
	}
	// GE
	if holds {
		return append(order(c, c.Value, true), exactly(c, c.Value)...)
	}
	return order(c, c.Value, false)
}

// top is the largest value that the condition can see.
func top(c seccomp.Condition) uint64 { return ^uint64(0) >> (64 - c.Bits) }

// limbOf returns limb k of a number.
func limbOf(v uint64, k int) uint16 { return uint16(v >> (16 * k)) }

// at returns the place of limb k of the condition's argument.
func at(c seccomp.Condition, k int) int { return limbs*int(c.Index) + k }

// exactly returns the arguments that equal v.
func exactly(c seccomp.Condition, v uint64) [][]cut {
	return masked(seccomp.Condition{Index: c.Index, Bits: c.Bits, Value: top(c), ValueTwo: v})
}

// masked returns the arguments that have ValueTwo under the mask Value.
func masked(c seccomp.Condition) [][]cut {
	if c.ValueTwo&^(c.Value&top(c)) != 0 {
		return nil
	}
	var cuts []cut
	for k := range int(c.Bits) / 16 {
		if mask := limbOf(c.Value, k); mask != 0 {
			cuts = append(cuts, cut{at(c, k), limb{0, 0xffff, mask, limbOf(c.ValueTwo, k)}})
		}
	}
	return [][]cut{cuts}
}

// unmasked returns the other arguments: those that differ in a bit of the mask
// and are alike in the bits of the mask above it.
func unmasked(c seccomp.Condition) [][]cut {
	if c.ValueTwo&^(c.Value&top(c)) != 0 {
		return [][]cut{nil}
	}
	var list [][]cut
	for bit := int(c.Bits) - 1; bit >= 0; bit-- {
		one := uint64(1) << bit
		if c.Value&one != 0 {
			above := c.Value &^ (one<<1 - 1)
			list = append(list, masked(seccomp.Condition{
				Index: c.Index, Bits: c.Bits, Value: above | one, ValueTwo: c.ValueTwo&above | ^c.ValueTwo&one,
			})...)
		}
	}
	return list
}

// order returns the arguments above v, or those below it.
func order(c seccomp.Condition, v uint64, above bool) [][]cut {
	if v > top(c) {
		if above {
			return nil
		}
		return [][]cut{nil}
	}
	var list [][]cut
	var equal []cut // the limbs above k are as those of v
	for k := int(c.Bits)/16 - 1; k >= 0; k-- {
		d := limbOf(v, k)
		switch {
		case above && d < 0xffff:
			list = append(list, append(equal[:len(equal):len(equal)], cut{at(c, k), limb{lo: d + 1, hi: 0xffff}}))
		case !above && d > 0:
			list = append(list, append(equal[:len(equal):len(equal)], cut{at(c, k), limb{hi: d - 1}}))
		}
		equal = append(equal[:len(equal):len(equal)], cut{at(c, k), limb{lo: d, hi: d}})
	}
	slices.Reverse(list) // examples come from the first piece: those near v read best
	return list
}

// walker asks which rule decides for which arguments. It gives up after some
// time, since the number of regions can grow with the power of that of the
// conditions; what it found out by then is no proof of anything.
type walker struct {
	left  int
	total *budget
	stop  bool // the visitor has seen enough
}

// budget bounds the work for all questions about a profile.
type budget struct {
	left   int
	gaveUp bool // on some question
}

// The bounds of the work for one question and for all. The default profile
// needs some ten thousand steps in all.
const (
	maxSteps = 10000
	maxTotal = 1000000
)

// walker returns a walker for one question.
func (b *budget) walker() walker { return walker{left: min(maxSteps, b.left), total: b} }

// walk calls visit for disjoint regions that together are r, each with the
// index of the first of the rules that holds there, or -1. The visitor returns
// false to stop. Walk is true if all of r was visited.
func (w *walker) walk(r region, rules []seccomp.Rule, visit func(region, int) bool) bool {
	return w.rule(r, rules, 0, visit)
}

func (w *walker) rule(r region, rules []seccomp.Rule, i int, visit func(region, int) bool) bool {
	if i == len(rules) {
		w.stop = !visit(r, -1) || w.stop
		return !w.stop
	}
	return w.condition(r, rules, i, 0, visit)
}

func (w *walker) condition(r region, rules []seccomp.Rule, i, j int, visit func(region, int) bool) bool {
	if w.left--; w.left < 0 {
		w.total.gaveUp = true
		return false
	}
	w.total.left--
	if j == len(rules[i].Args) {
		w.stop = !visit(r, i) || w.stop
		return !w.stop
	}
	for _, cuts := range pieces(rules[i].Args[j], false) {
		if part, ok := r.and(cuts); ok && !w.rule(part, rules, i+1, visit) {
			return false
		}
	}
	for _, cuts := range pieces(rules[i].Args[j], true) {
		if part, ok := r.and(cuts); ok && !w.condition(part, rules, i, j+1, visit) {
			return false
		}
	}
	return true
}

// whole calls visit for disjoint regions that together are all arguments for
// which the rule holds.
func (w *walker) whole(rule seccomp.Rule, visit func(region) bool) bool {
	return w.walk(everything(), []seccomp.Rule{rule}, func(r region, i int) bool { return i < 0 || visit(r) })
}
