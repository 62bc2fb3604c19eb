package seccomp

import (
	"cmp"
	"slices"

	"github.com/brig-run/brig/seccomp/bpf"
)

// call makes the rules of a call whose arguments count.
func (c *compiler) call(a *ArchRules, call *CallRules) ref {
	to := c.ret(c.policy.unlisted(a, call.Nr))
	if c.plain {
		for i := range slices.Backward(call.Rules) {
			to = c.rule(a, &call.Rules[i], to)
		}
		return to
	}
	rules := call.Rules
	for end := len(rules); end > 0; {
		start := rangeRun(rules[:end])
		if start < end {
			to = c.ranges(a, rules[start:end], to)
			end = start
			continue
		}
		end--
		to = c.rule(a, &rules[end], to)
	}
	return c.specialize(to)
}

// rule makes one rule: all of its conditions in order. No is where to go if one
// does not hold.
func (c *compiler) rule(a *ArchRules, r *Rule, no ref) ref {
	to := c.ret(r.Action)
	for _, cond := range slices.Backward(r.Args) {
		to = c.condition(a, cond, to, no)
	}
	return to
}

// words returns the low and the high word of an argument, as far as the
// condition sees them.
func (a *ArchRules) words(c Condition) (low, high word) {
	bits := c.bits()
	return word{bpf.OffArg(a.Arch.Audit(), int(c.Index), false), uint32(bits)},
		word{bpf.OffArg(a.Arch.Audit(), int(c.Index), true), uint32(bits >> 32)}
}

// condition makes one test of an argument.
func (c *compiler) condition(a *ArchRules, cond Condition, yes, no ref) ref {
	low, high := a.words(cond)
	switch cond.Op {
	case NE:
		return c.equal(low, high, cond.Value, no, yes)
	case EQ:
		return c.equal(low, high, cond.Value, yes, no)
	case MaskedEQ:
		low.mask &= uint32(cond.Value)
		high.mask &= uint32(cond.Value >> 32)
		return c.equal(low, high, cond.ValueTwo, yes, no)
	case GE:
		return c.order(bpf.Jge, low, high, cond.Value, yes, no)
	case GT:
		return c.order(bpf.Jgt, low, high, cond.Value, yes, no)
	case LT:
		return c.order(bpf.Jge, low, high, cond.Value, no, yes)
	}
	return c.order(bpf.Jgt, low, high, cond.Value, no, yes)
}

// equal tests whether both words have their part of a value.
func (c *compiler) equal(low, high word, value uint64, yes, no ref) ref {
	return c.equalWord(high, uint32(value>>32), c.equalWord(low, uint32(value), yes, no), no)
}

func (c *compiler) equalWord(w word, value uint32, yes, no ref) ref {
	switch {
	case value&^w.mask != 0:
		return no
	case w.mask != allBits && w.mask != 0 && value == 0:
		return c.test(word{w.off, allBits}, bpf.Jset, w.mask, no, yes)
	case w.mask&(w.mask-1) == 0 && w.mask != 0:
		return c.test(word{w.off, allBits}, bpf.Jset, w.mask, yes, no)
	}
	return c.test(w, bpf.Jeq, value, yes, no)
}

// order tests argument >= value or argument > value, by op.
func (c *compiler) order(op uint16, low, high word, value uint64, yes, no ref) ref {
	highValue := uint32(value >> 32)
	if high.mask == 0 {
		if highValue != 0 {
			return no
		}
		return c.test(low, op, uint32(value), yes, no)
	}
	to := c.test(low, op, uint32(value), yes, no)
	// A is the high word from the first of these on.
	if highValue != 0 {
		to = c.test(high, bpf.Jeq, highValue, to, no)
	}
	return c.test(high, bpf.Jgt, highValue, yes, to)
}

// rangeRun returns the start of the longest tail of rules that all compare the
// same single argument with whole values, so that one search decides them. It
// is len(rules) if the last rule is no such.
func rangeRun(rules []Rule) int {
	start := len(rules)
	for start > 0 {
		r := &rules[start-1]
		if len(r.Args) != 1 || r.Args[0].Op == MaskedEQ {
			break
		}
		if last := &rules[len(rules)-1].Args[0]; r.Args[0].Index != last.Index || r.Args[0].Bits != last.Bits {
			break
		}
		start--
	}
	return start
}

// span is a range of 64-bit values with one outcome: from lo up to the next
// span's lo.
type span struct {
	lo uint64
	to ref
}

// ranges makes a run of rules that compare one argument; see [rangeRun]. No is
// where to go if none holds.
func (c *compiler) ranges(a *ArchRules, rules []Rule, no ref) ref {
	first := rules[0].Args[0]
	top := first.bits()
	spans := append(c.spans[:0], span{0, no})
	for i := range slices.Backward(rules) { // the first rule on top
		to := c.ret(rules[i].Action)
		for _, r := range rules[i].Args[0].ranges(top) {
			spans = c.paint(spans, r[0], r[1], top, to)
		}
	}
	low, high := a.words(first)
	if high.mask == 0 {
		return c.lowWords(spans, low)
	}
	return c.highWords(spans, low, high)
}

// ranges returns the values up to top for which the condition holds, as ranges
// from [0] to [1].
func (c Condition) ranges(top uint64) [][2]uint64 {
	v := c.Value
	var list [][2]uint64
	add := func(lo, hi uint64) { list = append(list, [2]uint64{lo, min(hi, top)}) }
	switch {
	case c.Op == EQ && v <= top:
		add(v, v)
	case c.Op == LE:
		add(0, v)
	case c.Op == GE && v <= top:
		add(v, top)
	}
	if (c.Op == LT || c.Op == NE) && v > 0 {
		add(0, v-1)
	}
	if (c.Op == GT || c.Op == NE) && v < top {
		add(v+1, top)
	}
	return list
}

// paint gives the values from lo to hi, of those up to top, a place to go.
func (c *compiler) paint(spans []span, lo, hi, top uint64, to ref) []span {
	var after ref // where those behind hi go
	painted := slices.Grow(c.spare[:0], len(spans)+2)
	add := func(s span) {
		if n := len(painted); n == 0 || painted[n-1].to != s.to {
			painted = append(painted, s)
		}
	}
	for _, s := range spans {
		if s.lo < lo {
			add(s)
		}
		if hi < top && s.lo <= hi+1 {
			after = s.to
		}
	}
	add(span{lo, to})
	if hi < top {
		add(span{hi + 1, after})
		for _, s := range spans {
			if s.lo > hi+1 {
				add(s)
			}
		}
	}
	c.spans, c.spare = painted, spans
	return painted
}

// lowWords searches the low word of an argument.
func (c *compiler) lowWords(spans []span, low word) ref {
	if len(spans) == 1 {
		return spans[0].to
	}
	segs := make([]segment, len(spans))
	for i, s := range spans {
		segs[i] = segment{lo: uint32(s.lo), to: c.with(low, s.to), weight: 1}
	}
	if low.mask != allBits {
		return c.loadWord(low, c.search(segs, noLimit))
	}
	segs, mask, to := cube(segs)
	entry := c.search(segs, noLimit)
	if to != 0 {
		entry = c.branch(bpf.Jset, ^mask, entry, to)
	}
	return c.loadWord(low, entry)
}

// minCube is from how many values on one test of their common bits is better
// than one for each.
const minCube = 4

// cube looks for single values that are all combinations of some bits, and go
// to one place: that no bit outside of mask is set tells them. It returns the
// segments that are left for the others. To is 0 if there are no such values.
func cube(segs []segment) (rest []segment, mask uint32, to ref) {
	if segs[0].lo != 0 || len(segs) < 2 || segs[1].lo != 1 || len(segs) > 64 {
		return segs, 0, 0 // 0 is no single value
	}
	to = segs[0].to
	single := func(v uint32) bool {
		at, found := slices.BinarySearchFunc(segs, v, func(s segment, v uint32) int { return cmp.Compare(s.lo, v) })
		return found && segs[at].to == to && at+1 < len(segs) && segs[at+1].lo == v+1
	}
	values := []uint32{0}
	for bit := uint32(1); bit != 0; bit <<= 1 {
		if slices.ContainsFunc(values, func(v uint32) bool { return !single(v | bit) }) {
			continue
		}
		for _, v := range slices.Clone(values) {
			values = append(values, v|bit)
		}
		mask |= bit
	}
	if len(values) < minCube {
		return segs, 0, 0
	}
	// Where they were, the search may go where it is shortest.
	for i, s := range segs {
		if s.lo&^mask == 0 && s.to == to && i > 0 {
			s.to = segs[i-1].to
		} else if i == 0 {
			s.to = segs[1].to
		}
		if n := len(rest); n == 0 || rest[n-1].to != s.to {
			rest = append(rest, s)
		}
	}
	return rest, mask, to
}

// highWords searches the high word of an argument, and below it, for each that
// does not decide, the low word.
func (c *compiler) highWords(spans []span, low, high word) ref {
	// Where the outcome, seen by high word only, can change: at the high word
	// of each border, and behind it if the border is within that word.
	starts := []uint64{0}
	for _, s := range spans {
		starts = append(starts, s.lo>>32)
		if uint32(s.lo) != 0 && s.lo>>32 < allBits {
			starts = append(starts, s.lo>>32+1)
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	var segs []segment
	var only ref // if nothing of the high word matters
	for _, start := range starts {
		only = c.lowWords(cut(spans, start), low)
		if to := c.with(high, only); len(segs) == 0 || segs[len(segs)-1].to != to {
			segs = append(segs, segment{lo: uint32(start), to: to, weight: 1})
		}
	}
	if len(segs) == 1 {
		return only
	}
	return c.loadWord(high, c.search(segs, noLimit))
}

// cut returns the spans of the values with the given high word, by their low
// words.
func cut(spans []span, high uint64) []span {
	first, last := high<<32, high<<32|allBits
	within := make([]span, 1, 4)
	for _, s := range spans {
		switch {
		case s.lo <= first:
			within[0] = span{0, s.to}
		case s.lo <= last:
			within = append(within, span{s.lo - first, s.to})
		}
	}
	return within
}
