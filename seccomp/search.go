package seccomp

import (
	"slices"

	"github.com/brig-run/brig/seccomp/bpf"
)

// segment is a range of 32-bit values that go to one place: from lo up to the
// next segment's lo.
type segment struct {
	lo     uint32
	to     ref
	weight uint32 // how often values of the range come
	tests  uint8  // of the same value, that still come at its place
}

// How many tests a number needs at most, an argument as many as it likes.
const (
	maxTests = 10
	noLimit  = 1 << 10
)

// What an instruction weighs against the time that it saves, if all that comes
// weighs a thousand; how many values a chain tests; and how many segments are
// searched for the best tree.
const (
	instructionWeight = 14
	maxChain          = 4
	maxSearch         = 192
)

// search finds the segment of A and goes to its place. It makes the tree that
// runs the fewest instructions for the weights of the segments, with a price
// for its length. The tree has two kinds of leaves: a segment, and a range with
// one outcome but for single values, which are tested one by one. So a single
// value costs one instruction, where two borders would cost two. No value
// should need more than limit tests, if there are not too many segments.
func (c *compiler) search(segs []segment, limit int) ref {
	if n := len(segs); n > maxSearch {
		mid := middle(segs)
		return c.branch(bpf.Jge, segs[mid].lo, c.search(segs[mid:], limit-1), c.search(segs[:mid], limit-1))
	}
	c.tree.plan(segs)
	return c.grow(segs, 0, len(segs)-1, limit)
}

// middle returns the border that divides the weight most evenly.
func middle(segs []segment) int {
	var total, left uint32
	for _, s := range segs {
		total += s.weight
	}
	for i, s := range segs {
		if left += s.weight; left >= total/2 {
			return min(max(i, len(segs)/4), 3*len(segs)/4)
		}
	}
	return len(segs) / 2
}

// tree is the plan of a search: for the segments from i to j, at [i*n+j].
type tree struct {
	cost []uint32
	cut  []int16  // the first segment of the upper half, if they are cut
	link []bool   // they are a chain instead
	sum  []uint32 // weight of the segments before i
	run  []int16  // the last segment of the chain that starts at i
	deep []uint8  // most tests of any value
}

// plan fills in the costs from short ranges to long ones. The best border of a
// range lies between those of the ranges without its last and without its
// first segment (Knuth's bound for search trees); chains break that rule at
// times, which costs an instruction, but no right answer.
func (t *tree) plan(segs []segment) {
	n := len(segs)
	t.cost = resize(t.cost, n*n)
	t.cut = resize(t.cut, n*n)
	t.link = resize(t.link, n*n)
	t.sum = resize(t.sum, n+1)
	t.run = resize(t.run, n)
	t.deep = resize(t.deep, n*n)
	for i, s := range segs {
		t.sum[i+1] = t.sum[i] + s.weight
		t.cost[i*n+i], t.cut[i*n+i], t.deep[i*n+i] = 0, int16(i), s.tests
		t.run[i] = int16(chainFrom(segs, i))
	}
	price := t.sum[n]*instructionWeight/1000 + 1
	for length := 1; length < n; length++ {
		for i := 0; i+length < n; i++ {
			t.best(segs, i, i+length, price)
		}
	}
}

func (t *tree) best(segs []segment, i, j int, price uint32) {
	n := len(segs)
	best, at := uint32(1<<32-1), i+1
	first, last := max(int(t.cut[i*n+j-1]), i+1), max(int(t.cut[(i+1)*n+j]), i+1)
	if first > last {
		first, last = last, first
	}
	for k := first; k <= last; k++ {
		if cost := t.cost[i*n+k-1] + t.cost[k*n+j]; cost < best {
			best, at = cost, k
		}
	}
	best += t.sum[j+1] - t.sum[i] + price
	deep := 1 + max(t.deep[i*n+at-1], t.deep[at*n+j])
	link := false
	if (j-i)%2 == 0 && j <= int(t.run[i]) {
		if cost := t.chain(segs, i, j, price); cost <= best {
			best, deep, link = cost, uint8((j-i)/2), true
		}
	}
	t.cost[i*n+j], t.cut[i*n+j], t.deep[i*n+j], t.link[i*n+j] = best, int16(at), deep, link
}

// shallower returns the cheapest cut of the segments from i to j after which
// both halves can do with fewer than limit tests.
func (t *tree) shallower(segs []segment, i, j, limit int) int {
	n := len(segs)
	room := func(i, j int) bool {
		leaves := 0
		for _, s := range segs[i : j+1] {
			leaves += 1 << min(s.tests, 20)
		}
		return leaves <= 1<<max(limit-1, 0)
	}
	best, at := uint32(1<<32-1), 0
	for k := i + 1; k <= j; k++ {
		if cost := t.cost[i*n+k-1] + t.cost[k*n+j]; cost < best && room(i, k-1) && room(k, j) {
			best, at = cost, k
		}
	}
	if at == 0 {
		return (i + j + 1) / 2
	}
	return at
}

// chainFrom returns the last segment of the longest chain that starts at
// segment i: every other segment goes to the same place, and those between are
// single values.
func chainFrom(segs []segment, i int) int {
	end := i
	for end+2 < len(segs) && end-i < 2*maxChain && segs[end+2].to == segs[i].to && segs[end+2].lo == segs[end+1].lo+1 {
		end += 2
	}
	return end
}

// chain returns the cost of testing the single values of a chain.
func (t *tree) chain(segs []segment, i, j int, price uint32) uint32 {
	order, n := chainOrder(segs, i, j)
	rest := t.sum[j+1] - t.sum[i]
	cost := uint32(0)
	for _, k := range order[:n] {
		cost += rest + price
		rest -= segs[k].weight
	}
	return cost
}

// chainOrder returns the single values of a chain, the heaviest first.
func chainOrder(segs []segment, i, j int) (order [maxChain]int, n int) {
	for k := i + 1; k < j; k += 2 {
		order[n] = k
		n++
	}
	slices.SortStableFunc(order[:n], func(a, b int) int { return int(segs[b].weight) - int(segs[a].weight) })
	return order, n
}

// grow makes the nodes for the segments from i to j as they are planned, but
// with at most limit tests.
func (c *compiler) grow(segs []segment, i, j, limit int) ref {
	if i == j {
		return segs[i].to
	}
	n := len(segs)
	k, link := int(c.tree.cut[i*n+j]), c.tree.link[i*n+j]
	if int(c.tree.deep[i*n+j]) > limit {
		k, link = c.tree.shallower(segs, i, j, limit), false
	}
	if !link {
		return c.branch(bpf.Jge, segs[k].lo, c.grow(segs, k, j, limit-1), c.grow(segs, i, k-1, limit-1))
	}
	order, count := chainOrder(segs, i, j)
	entry := segs[i].to
	for at := count - 1; at >= 0; at-- {
		s := &segs[order[at]]
		entry = c.branch(bpf.Jeq, s.lo, s.to, entry)
	}
	return entry
}

func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/2)
	}
	return s[:n]
}
