package reach

import (
	"container/heap"
	"slices"
)

// Limits on the work for one chunk. Past them all is unknown.
const (
	maxChunkInsts = 1 << 16
	maxMerges     = 12  // of values that come to one place, after which what still changes is unknown
	maxSteps      = 200 // times that each instruction is gone through, on average

	maxWork = 200e6 // steps for all chunks of one file
)

// block is instructions that run one after the other, from first up to,
// without, end.
type block struct {
	first, end int
	next       []int // blocks
	in         *state
	queued     bool
	merged     int // times that it changed
}

// function is a chunk with its instructions and blocks.
type function struct {
	code   *codeMap
	span   span
	insts  []inst
	blocks []block
	at     map[uint64]int // block by its address
	jumps  bool           // to a register
	data   bool           // there are bytes that are no instructions
}

// visit calls f before every instruction of a chunk that can run, with the
// values at that point. It is false when the chunk is too large.
func (c *codeMap) visit(n chunk, f func(*inst, *state)) bool {
	fn := &function{code: c, span: c.chunks[n]}
	if !fn.decode() {
		return false
	}
	if c.work += len(fn.insts); c.work > maxWork {
		return false
	}
	fn.split()
	if !fn.solve() {
		return false
	}
	for i := range fn.blocks {
		b := &fn.blocks[i]
		if b.in == nil {
			continue
		}
		fn.run(b, b.in.clone(), f)
	}
	return true
}

func (fn *function) decode() bool {
	code := fn.code.bytes(fn.span.lo, fn.span.hi-fn.span.lo)
	middles := fn.middles()
	for at := 0; at < len(code); {
		var in inst
		if !decode(code[at:], fn.span.lo+uint64(at), &in) {
			_, framed := find(fn.code.frames, fn.span.lo)
			fn.data = !framed
			at++
			continue
		}
		for len(middles) > 0 && middles[0] <= in.addr {
			middles = middles[1:]
		}
		if len(middles) > 0 && middles[0] < in.end() { // that is no instruction, then
			at = int(middles[0] - fn.span.lo)
			continue
		}
		at += int(in.len)
		if fn.insts = append(fn.insts, in); len(fn.insts) > maxChunkInsts {
			return false
		}
	}
	return len(fn.insts) > 0
}

// middles returns where other code leads into the chunk, other than by calls of
// its start.
func (fn *function) middles() []uint64 {
	all := fn.code.middles
	i, _ := slices.BinarySearch(all, fn.span.lo)
	j, _ := slices.BinarySearch(all, fn.span.hi)
	return all[i:j]
}

// split finds the blocks.
func (fn *function) split() {
	leaders := []uint64{fn.insts[0].addr}
	tables := fn.tables()
	leaders = append(leaders, tables...)
	leaders = append(leaders, fn.middles()...)
	for i := range fn.insts {
		in := &fn.insts[i]
		kind, target := in.flow()
		if kind == flowNext || kind == flowCallMem || kind == flowCall && fn.code.comesBack(in, target, 0) {
			continue
		}
		leaders = append(leaders, in.end())
		if kind == flowJump || kind == flowCond {
			leaders = append(leaders, target)
		}
	}
	slices.Sort(leaders)
	fn.makeBlocks(slices.Compact(leaders))
	fn.connect(tables)
}

func (fn *function) makeBlocks(leaders []uint64) {
	fn.at = make(map[uint64]int, len(leaders))
	for i := range fn.insts {
		addr := fn.insts[i].addr
		for len(leaders) > 0 && leaders[0] < addr {
			leaders = leaders[1:]
		}
		if i == 0 || len(leaders) > 0 && leaders[0] == addr {
			if n := len(fn.blocks); n > 0 {
				fn.blocks[n-1].end = i
			}
			fn.at[addr] = len(fn.blocks)
			fn.blocks = append(fn.blocks, block{first: i})
		}
	}
	fn.blocks[len(fn.blocks)-1].end = len(fn.insts)
}

func (fn *function) connect(tables []uint64) {
	for i := range fn.blocks {
		b := &fn.blocks[i]
		last := &fn.insts[b.end-1]
		kind, target := last.flow()
		if kind == flowJump || kind == flowCond {
			fn.link(b, target)
		}
		if kind == flowJumpMem {
			for _, t := range tables {
				fn.link(b, t)
			}
		}
		ends := kind == flowJump || kind == flowJumpMem || kind == flowStop || kind == flowCall && !fn.code.comesBack(last, target, 0)
		if !ends && i+1 < len(fn.blocks) {
			b.next = append(b.next, i+1)
		}
	}
}

func (fn *function) link(b *block, target uint64) {
	if n, ok := fn.at[target]; ok {
		b.next = append(b.next, n)
	}
}

// tables returns where the tables of the chunk's switches lead.
func (fn *function) tables() []uint64 {
	var out []uint64
	for i := range fn.insts {
		in := &fn.insts[i]
		if kind, _ := in.flow(); kind == flowJumpMem {
			fn.jumps = true
		}
	}
	if !fn.jumps {
		return nil
	}
	for i := range fn.insts {
		in := &fn.insts[i]
		addr, ok := in.memory()
		if !ok && in.modrm && in.mod != 3 && in.base == noReg && !in.seg {
			addr, ok = uint64(in.disp), true
		}
		if ok && len(out) < maxTableEntries {
			out = append(out, fn.code.table(addr, fn.span)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// solve finds what is known at the start of each block.
func (fn *function) solve() bool {
	fn.blocks[0].in = entryState()
	work := []int{0}
	enter := func(addr uint64) {
		if n, ok := fn.at[addr]; ok {
			if b := &fn.blocks[n]; b.in == nil {
				b.in = strangeState()
			} else {
				b.in.merge(strangeState(), true)
			}
			work = append(work, n)
		}
	}
	for _, m := range fn.middles() {
		enter(m)
	}
	budget := maxSteps * len(fn.insts)
	for next := 0; ; next++ {
		before := budget
		budget = fn.settle(work, budget)
		fn.code.work += before - budget
		if budget < 0 {
			return false
		}
		work = work[:0]
		for next < len(fn.blocks) && (fn.blocks[next].in != nil || fn.padding(&fn.blocks[next])) {
			next++
		}
		if next >= len(fn.blocks) || fn.data {
			return true
		}
		enter(fn.insts[fn.blocks[next].first].addr) // entered in a way that is not seen
	}
}

// padding reports whether a block only fills the space before the next one.
func (fn *function) padding(b *block) bool {
	for i := b.first; i < b.end; i++ {
		if !fn.insts[i].padding() {
			return false
		}
	}
	return true
}

// settle carries states on until nothing changes, in the order of addresses as
// far as it can, which comes to an end soonest.
func (fn *function) settle(work []int, budget int) int {
	queue := blockQueue(work)
	heap.Init(&queue)
	for len(queue) > 0 && budget >= 0 {
		b := &fn.blocks[heap.Pop(&queue).(int)]
		b.queued = false
		s := b.in.clone()
		budget -= b.end - b.first + len(b.next) + len(s.slots)/4
		fn.run(b, s, nil)
		for _, n := range b.next {
			to := &fn.blocks[n]
			budget -= len(s.slots) / 4
			out := fn.assume(b, to, s)
			if to.in == nil {
				to.in = out.clone()
			} else if !to.in.merge(out, to.merged > maxMerges) {
				continue
			}
			to.merged++
			if !to.queued {
				to.queued = true
				heap.Push(&queue, n)
			}
		}
	}
	return budget
}

// blockQueue is a heap of the indices of blocks.
type blockQueue []int

func (q blockQueue) Len() int           { return len(q) }
func (q blockQueue) Less(i, j int) bool { return q[i] < q[j] }
func (q blockQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *blockQueue) Push(x any)        { *q = append(*q, x.(int)) }
func (q *blockQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// assume returns what is known on the way from b to one of its successors: more
// than at the end of b, where that is reached only if a register has a value.
func (fn *function) assume(b, to *block, s *state) *state {
	if b.end-b.first < 2 {
		return s
	}
	jump, test := &fn.insts[b.end-1], &fn.insts[b.end-2]
	kind, target := jump.flow()
	if kind != flowCond || jump.op&0x0e != 0x04 || jump.opmap == mapOne && jump.op >= 0xe0 || target == jump.end() {
		return s
	}
	reg, n, ok := test.comparison()
	equal := jump.op&1 == 0
	if !ok || equal != (fn.insts[to.first].addr == target) {
		return s
	}
	out := s.clone()
	out.regs[reg] = constant(n)
	return out
}

// comparison returns the register, and the number that in compares it with.
func (in *inst) comparison() (reg uint8, n int64, ok bool) {
	if in.opmap != mapOne || in.width < 4 {
		return 0, 0, false
	}
	switch {
	case in.op == 0x85 && in.mod == 3 && in.reg == in.rm:
		return in.rm, 0, true
	case (in.op == 0x81 || in.op == 0x83) && in.mod == 3 && in.reg&7 == 7:
		return in.rm, in.imm, true
	case in.op == 0x3d:
		return rax, in.imm, true
	}
	return 0, 0, false
}

func (fn *function) run(b *block, s *state, f func(*inst, *state)) {
	for i := b.first; i < b.end; i++ {
		in := &fn.insts[i]
		if f != nil {
			f(in, s)
		}
		switch kind, _ := in.flow(); kind {
		case flowCall, flowCallMem:
			s.clobber(fn.code.golang)
		case flowNext:
			fn.code.step(s, in)
		}
	}
}
