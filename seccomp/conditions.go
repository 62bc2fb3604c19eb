package seccomp

import (
	"slices"

	"github.com/brig-run/brig/seccomp/bpf"
)

// call emits the rules of a call whose arguments count; fall is where to go if
// none holds.
func (c *compiler) call(call *CallRules, bits int, fall label) label {
	rules := call.Rules
	for end := len(rules); end > 0; {
		start := rangeRun(rules[:end])
		if start < end {
			fall = c.ranges(rules[start:end], bits, fall)
			end = start
			continue
		}
		end--
		fall = c.rule(&rules[end], bits, fall)
	}
	return fall
}

// rule emits one rule: all of its conditions in order.
func (c *compiler) rule(r *Rule, bits int, fall label) label {
	entry := c.ret(r.Action)
	for i := len(r.Args) - 1; i >= 0; i-- {
		entry = c.condition(r.Args[i], bits, entry, fall)
	}
	return entry
}

// condition emits one test of an argument.
func (c *compiler) condition(cond Condition, bits int, yes, no label) label {
	switch cond.Op {
	case NE:
		return c.masked(cond.Index, 1<<64-1, cond.Value, bits, no, yes)
	case EQ:
		return c.masked(cond.Index, 1<<64-1, cond.Value, bits, yes, no)
	case MaskedEQ:
		return c.masked(cond.Index, cond.Value, cond.ValueTwo, bits, yes, no)
	case GE:
		return c.order(bpf.Jge, cond.Index, cond.Value, bits, yes, no)
	case GT:
		return c.order(bpf.Jgt, cond.Index, cond.Value, bits, yes, no)
	case LT:
		return c.order(bpf.Jge, cond.Index, cond.Value, bits, no, yes)
	case LE:
		return c.order(bpf.Jgt, cond.Index, cond.Value, bits, no, yes)
	}
	return no
}

// masked emits argument&mask == value.
func (c *compiler) masked(index uint8, mask, value uint64, bits int, yes, no label) label {
	if bits == 32 {
		// The high half of the argument is 0.
		if value>>32 != 0 {
			return no
		}
		mask = uint64(uint32(mask))
	}
	if value&^mask != 0 {
		return no
	}
	entry := c.maskedWord(bpf.OffArg(int(index), false), uint32(mask), uint32(value), yes, no)
	return c.maskedWord(bpf.OffArg(int(index), true), uint32(mask>>32), uint32(value>>32), entry, no)
}

func (c *compiler) maskedWord(off, mask, value uint32, yes, no label) label {
	if mask == 0 {
		return yes
	}
	entry := c.branch(bpf.Jeq, value, yes, no)
	if mask != 1<<32-1 {
		entry = c.step(bpf.Instruction{Op: bpf.And, K: mask}, entry)
	}
	return c.load(off, entry)
}

// order emits argument >= value or argument > value, by op.
func (c *compiler) order(op uint16, index uint8, value uint64, bits int, yes, no label) label {
	low, high := uint32(value), uint32(value>>32)
	if bits == 32 {
		if high != 0 {
			return no
		}
		return c.load(bpf.OffArg(int(index), false), c.branch(op, low, yes, no))
	}
	entry := c.load(bpf.OffArg(int(index), false), c.branch(op, low, yes, no))
	if high != 0 {
		entry = c.branch(bpf.Jeq, high, entry, no)
	}
	entry = c.branch(bpf.Jgt, high, yes, entry)
	return c.load(bpf.OffArg(int(index), true), entry)
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
		if start < len(rules) && r.Args[0].Index != rules[start].Args[0].Index {
			break
		}
		start--
	}
	return start
}

// span is a range of 64-bit values with one outcome: from lo up to the next
// span's lo. The target is an action, or -1 for none.
type span struct {
	lo     uint64
	target int64
}

// ranges emits a run of rules that compare one argument; see [rangeRun].
func (c *compiler) ranges(rules []Rule, bits int, fall label) label {
	top := uint64(1<<64 - 1)
	if bits == 32 {
		top = 1<<32 - 1
	}
	spans := append(c.spans[:0], span{0, -1})
	for i := len(rules) - 1; i >= 0; i-- { // the first rule on top
		cond, action := rules[i].Args[0], int64(rules[i].Action)
		v := cond.Value
		switch {
		case cond.Op == NE:
			if v > 0 {
				spans = c.paint(spans, 0, min(v-1, top), top, action)
			}
			if v < top {
				spans = c.paint(spans, v+1, top, top, action)
			}
		case cond.Op == EQ && v <= top:
			spans = c.paint(spans, v, v, top, action)
		case cond.Op == LT && v > 0:
			spans = c.paint(spans, 0, min(v-1, top), top, action)
		case cond.Op == LE:
			spans = c.paint(spans, 0, min(v, top), top, action)
		case cond.Op == GE && v <= top:
			spans = c.paint(spans, v, top, top, action)
		case cond.Op == GT && v < top:
			spans = c.paint(spans, v+1, top, top, action)
		}
	}
	index := int(rules[0].Args[0].Index)
	leaf := func(target int64) label {
		if target < 0 {
			return fall
		}
		return c.ret(Action(target))
	}
	low := func(spans []span) label {
		segs := make([]segment, 0, len(spans))
		for _, s := range spans {
			segs = append(segs, segment{uint32(s.lo), s.target})
		}
		if len(segs) == 1 {
			return leaf(segs[0].target)
		}
		return c.load(bpf.OffArg(index, false), c.tree(segs, leaf))
	}
	if bits == 32 {
		return low(spans)
	}
	return c.highWords(spans, index, leaf, low)
}

// paint gives the values from lo to hi, of those up to top, a target.
func (c *compiler) paint(spans []span, lo, hi, top uint64, target int64) []span {
	after := int64(-2) // the target behind hi
	painted := slices.Grow(c.spare[:0], len(spans)+2)
	add := func(s span) {
		if n := len(painted); n == 0 || painted[n-1].target != s.target {
			painted = append(painted, s)
		}
	}
	for _, s := range spans {
		if s.lo < lo {
			add(s)
		}
		if hi < top && s.lo <= hi+1 {
			after = s.target
		}
	}
	add(span{lo, target})
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

// highWords emits a search over spans by the high word of an argument, and
// below it, for each high word that does not decide, one by the low word.
func (c *compiler) highWords(spans []span, index int, leaf func(int64) label, low func([]span) label) label {
	// Where the outcome, seen by high word only, can change: at the high word
	// of each border, and behind it if the border is within that word.
	starts := []uint64{0}
	for _, s := range spans {
		starts = append(starts, s.lo>>32)
		if uint32(s.lo) != 0 {
			starts = append(starts, s.lo>>32+1)
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)

	var segs []segment
	var mixed [][]span // for targets -2 and below
	for _, high := range starts {
		if high > 1<<32-1 {
			continue
		}
		within := cut(spans, high)
		target := within[0].target
		if len(within) > 1 {
			mixed = append(mixed, within)
			target = int64(-1 - len(mixed))
		}
		if n := len(segs); n == 0 || segs[n-1].target != target {
			segs = append(segs, segment{uint32(high), target})
		}
	}
	entry := c.tree(segs, func(target int64) label {
		if target <= -2 {
			return low(mixed[-2-target])
		}
		return leaf(target)
	})
	if len(segs) == 1 {
		return entry
	}
	return c.load(bpf.OffArg(index, true), entry)
}

// cut returns the spans of the values with the given high word, by their low
// words.
func cut(spans []span, high uint64) []span {
	first, last := high<<32, high<<32|(1<<32-1)
	within := make([]span, 1, 4)
	for _, s := range spans {
		switch {
		case s.lo <= first:
			within[0] = span{0, s.target}
		case s.lo <= last:
			within = append(within, span{s.lo - first, s.target})
		}
	}
	return within
}
