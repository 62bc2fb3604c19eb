package seccomp

import (
	"slices"

	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// table says where the numbers of an ABI go, from 0 on. Those of x32 are
// without their bit.
type table struct {
	rules  *ArchRules
	segs   []segment
	shared bool // for x32: up to its own calls it is as that of x86-64
}

// segmentWeight is what each segment weighs beside the calls that are known to
// be frequent, of which there are 10000. It keeps the tree from growing deep
// where they are not.
const segmentWeight = 32

// conditionalWeight is what a call weighs whose arguments count. The kernel
// runs the filter each time for these, and never for one that is always
// allowed.
const conditionalWeight = 300

// table makes the table of an ABI: its segments are the calls with rules and
// the gaps between them.
func (c *compiler) table(a *ArchRules) table {
	t := table{rules: a, segs: make([]segment, 0, 2*len(a.Calls)+4)}
	add := func(lo uint32, to ref) {
		if n := len(t.segs); n == 0 || t.segs[n-1].to != to {
			t.segs = append(t.segs, segment{lo: lo, to: to, weight: segmentWeight})
		}
	}
	next := uint32(0) // the first number that has no segment yet
	gap := func(end uint32) {
		for next < end {
			stop, newer := a.newerUpTo(next)
			action := c.policy.Default
			if newer {
				action = c.policy.Newer
			}
			add(next, c.ret(action))
			if stop >= end-1 {
				break
			}
			next = stop + 1
		}
		next = end
	}
	for i := range a.Calls {
		call := &a.Calls[i]
		nr := call.Nr &^ a.Arch.Bit()
		gap(nr)
		if action, ok := call.constant(); ok {
			add(nr, c.ret(action))
		} else {
			add(nr, c.call(a, call))
			t.segs[len(t.segs)-1].weight += conditionalWeight
		}
		next = nr + 1
	}
	gap(noCall)
	c.weigh(&t)
	return t
}

// constant returns the action of a call that its number alone decides.
func (c *CallRules) constant() (Action, bool) {
	if len(c.Rules) > 0 && len(c.Rules[0].Args) == 0 {
		return c.Rules[0].Action, true
	}
	return 0, false
}

// weigh adds the weights of frequent calls.
func (c *compiler) weigh(t *table) {
	for i := range frequencies {
		f := &frequencies[i]
		if c.frequent[i] == 0 {
			c.frequent[i], _ = syscalls.Find(f.name)
		}
		nr, ok := c.frequent[i].Number(t.rules.Arch)
		if !ok {
			continue
		}
		nr &^= t.rules.Arch.Bit()
		at, exact := slices.BinarySearchFunc(t.segs, nr, func(s segment, nr uint32) int { return int(int64(s.lo) - int64(nr)) })
		if !exact {
			at--
		}
		t.segs[at].weight += uint32(f.weight)
	}
}

// shareEnd lets tables share the search for the high numbers, which are the
// same on most ABIs from number 424 on. It looks for the largest part that the
// first table has in common with some other, and gives it to all that end in
// it.
func (c *compiler) shareEnd(tables []table) {
	first := &tables[0]
	border := uint32(0)
	for i := range tables[1:] {
		t := &tables[i+1]
		if at := commonEnd(first.segs, t.segs); t.rules.Arch != X32 && len(first.segs)-len(upTo(first.segs, at)) >= 3 {
			border = max(border, at)
		}
	}
	if border == 0 {
		return
	}
	end := first.from(border)
	to := c.search(end, maxTests-2)
	tests := uint8(c.depth(to))
	weight := uint32(0)
	for _, s := range end {
		weight += s.weight
	}
	for i := range tables {
		t := &tables[i]
		if t.rules.Arch != X32 && commonEnd(end, t.from(border)) == border {
			t.segs = append(upTo(t.segs, border), segment{border, to, weight, tests})
		}
	}
}

// depth returns how many tests of a number come at most from r on.
func (g *graph) depth(r ref) int {
	if n := g.nodes[r]; n.op == bpf.Jge || n.op == bpf.Jeq {
		return 1 + max(g.depth(n.yes), g.depth(n.no))
	}
	return 0
}

// commonEnd returns the lowest number from which on a and b are equal.
func commonEnd(a, b []segment) uint32 {
	border := uint32(noCall)
	for len(a) > 0 && len(b) > 0 {
		x, y := a[len(a)-1], b[len(b)-1]
		if x.to != y.to {
			break
		}
		border = max(x.lo, y.lo)
		if x.lo != y.lo {
			break
		}
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return border
}

// from returns the segments for the numbers from border on.
func (t *table) from(border uint32) []segment {
	at := len(upTo(t.segs, border))
	if at == len(t.segs) || t.segs[at].lo > border {
		at--
	}
	segs := slices.Clone(t.segs[at:])
	segs[0].lo = border
	return segs
}
