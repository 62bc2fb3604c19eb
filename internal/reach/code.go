package reach

import (
	"cmp"
	"debug/elf"
	"slices"
	"sort"
)

// chunk is a piece of code, in most files a function, that is reached whole
// or not at all. Where functions begin is not always known; a chunk that is
// only part of one has edges to where it goes on.
type chunk = int32

const noChunk chunk = -1

type edgeKind uint8

const (
	edgeCall      edgeKind = iota // a direct call or jump to the start of a chunk, or running on into it
	edgeInto                      // one to its middle
	edgeRef                       // its address is taken
	edgeImport                    // a call of an imported function
	edgeImportRef                 // the address of an imported symbol is taken
	edgeData                      // data is used
)

// edge leads from a chunk to another, to a symbol (an index in dynsyms) or to
// data (an index in words).
type edge struct {
	at   uint64
	to   int32
	kind edgeKind
}

// event is something of note that an instruction does.
type event struct {
	at, to uint64
	kind   eventKind
}

type eventKind uint8

const (
	eventCall    eventKind = iota // a direct call
	eventBranch                   // a direct jump that may leave the function
	eventTake                     // takes the address of code
	eventCompare                  // takes it to compare it
	eventData                     // uses memory that is not code
	eventSlot                     // calls or jumps through a word of memory
	eventEntry                    // enters the kernel
	eventStop                     // does not go on to the instruction after
	eventJump                     // jumps to where a register says
)

// codeMap is the control flow of a file, without what happens within chunks.
type codeMap struct {
	*image
	golang  bool
	frames  []span
	chunks  []span // sorted
	funcs   []symbol
	edges   []edge
	first   []int32 // index in edges of the first one of each chunk, and the end
	entries []event // instructions that enter the kernel
	words   []dataWord
	used    []uint64 // addresses of data that code and data use, sorted
	objects []uint64 // where objects of data begin, sorted; see findObjects
	roots   []int32  // objects that are used in ways that are not seen
	work    int      // see maxWork
	lookups int      // see maxLookups
	returns map[chunk]bool
	middles []uint64 // addresses in chunks, other than their starts, that others lead to
}

// mapCode finds chunks and edges.
func mapCode(m *image) *codeMap {
	c := &codeMap{image: m, frames: m.readFrames()}
	golang := m.readGoFunctions()
	c.golang = golang != nil
	c.funcs = functions(m, golang)
	c.words = m.readWords()
	regions := c.regions()
	var events []event
	for _, r := range regions {
		_, framed := find(c.frames, r.lo)
		events = c.sweep(r, framed, events)
	}
	c.cut(regions, events)
	c.findObjects(events)
	c.connect(events)
	return c
}

// functions returns the symbols of functions, sorted.
func functions(m *image, golang []symbol) []symbol {
	var out []symbol
	for _, table := range [][]symbol{m.dynsyms, m.symtab, golang} {
		for _, s := range table {
			if s.defined && s.kind != elf.STT_OBJECT && s.kind != elf.STT_TLS && s.name != "" && m.isCode(s.addr) {
				out = append(out, s)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b symbol) int { return cmp.Compare(a.addr, b.addr) })
	return out
}

// regions returns the pieces that the code is known to be in before it is
// looked at: functions by their frames, and between these what symbols and
// words in data say.
func (c *codeMap) regions() []span {
	starts := []uint64{c.entry}
	for _, s := range c.funcs {
		starts = append(starts, s.addr)
	}
	for _, w := range c.words {
		if !w.isImport && c.isCode(w.to) {
			starts = append(starts, w.to)
		}
	}
	starts = append(starts, c.starters...)
	return disjoint(c.split(fill(c.code, c.frames), starts))
}

// fill returns the frames and what lies between them in the code.
func fill(code, frames []span) []span {
	var out []span
	for _, s := range code {
		at := s.lo
		i, _ := find(frames, s.lo)
		for ; i < len(frames) && frames[i].lo < s.hi; i++ {
			f := span{max(frames[i].lo, s.lo), min(frames[i].hi, s.hi)}
			out = append(out, span{at, f.lo}, f)
			at = f.hi
		}
		out = append(out, span{at, s.hi})
	}
	return disjoint(out)
}

// split cuts the spans that are no frames at the addresses.
func (c *codeMap) split(spans []span, at []uint64) []span {
	slices.Sort(at)
	at = slices.Compact(at)
	var out []span
	for _, s := range spans {
		if _, framed := find(c.frames, s.lo); !framed {
			i, _ := slices.BinarySearch(at, s.lo+1)
			for ; i < len(at) && at[i] < s.hi; i++ {
				out = append(out, span{s.lo, at[i]})
				s.lo = at[i]
			}
		}
		out = append(out, s)
	}
	return out
}

// sweep decodes a region from its start to its end.
func (c *codeMap) sweep(r span, framed bool, events []event) []event {
	code := c.bytes(r.lo, r.hi-r.lo)
	var in inst
	for at := uint64(0); at < uint64(len(code)); {
		if !decode(code[at:], r.lo+at, &in) {
			at++
			continue
		}
		at += uint64(in.len)
		events = c.note(&in, r, framed, events)
	}
	return events
}

// note appends what in does. Branches within a function are of no interest.
func (c *codeMap) note(in *inst, r span, framed bool, events []event) []event {
	kind, target := in.flow()
	switch kind {
	case flowCall:
		return append(events, event{in.addr, target, eventCall})
	case flowJump, flowCond:
		if !framed || !r.has(target) {
			events = append(events, event{in.addr, target, eventBranch})
		}
		if kind == flowJump {
			events = append(events, event{in.addr, in.end(), eventStop})
		}
		return events
	case flowCallMem, flowJumpMem:
		if addr, ok := in.memory(); ok {
			events = append(events, event{in.addr, addr, eventSlot})
		} else if in.mod != 3 && in.base == noReg && kind == flowJumpMem {
			events = append(events, event{in.addr, uint64(in.disp), eventData})
		}
		if kind == flowJumpMem {
			events = append(events, event{in.addr, in.end(), eventStop}, event{in.addr, 0, eventJump})
		}
		return events
	case flowStop:
		return append(events, event{in.addr, in.end(), eventStop})
	}
	if in.entryKind() != "" {
		return append(events, event{in.addr, 0, eventEntry})
	}
	return c.noteOperand(in, events)
}

// noteOperand appends the address that in has as an operand.
func (c *codeMap) noteOperand(in *inst, events []event) []event {
	addr, ok := in.memory()
	switch {
	case ok && in.base == regRIP:
	case c.fixed && in.modrm && in.mod != 3 && !in.seg && in.base == noReg: // also with an index
		addr = uint64(in.disp)
	case c.fixed && (in.takesImmediate() || in.addsImmediate()):
		addr = uint64(uint32(in.imm))
	default:
		return events
	}
	if c.isCode(addr) {
		switch {
		case in.opmap == mapOne && in.op == 0x8d && c.onlyCompares(in):
			events = append(events, event{in.addr, addr, eventCompare})
		case in.opmap == mapOne && (in.op == 0x8d || in.takesImmediate()):
			events = append(events, event{in.addr, addr, eventTake})
		}
		return events
	}
	if c.at(addr) == nil && !c.mapped(addr) {
		return events
	}
	return append(events, event{in.addr, addr, eventData})
}

// onlyCompares reports whether the address that in takes is compared at once, as
// signal handlers do to see what they interrupted.
func (c *codeMap) onlyCompares(in *inst) bool {
	var next inst
	return decode(c.at(in.end()), in.end(), &next) && next.opmap == mapOne && (next.op == 0x39 || next.op == 0x3b) &&
		next.width == 8 && (next.reg == in.reg || next.mod == 3 && next.rm == in.reg)
}

// takesImmediate reports whether in puts a number of 32 bits somewhere, which
// in a file with final addresses can be an address.
func (in *inst) takesImmediate() bool {
	if in.opmap != mapOne || in.width == 2 {
		return false
	}
	return in.op >= 0xb8 && in.op <= 0xbf || in.op == 0xc7 || in.op == 0x68
}

// addsImmediate reports whether in calculates with a number of 32 bits, which
// can be the address of a table.
func (in *inst) addsImmediate() bool {
	return in.opmap == mapOne && in.width != 2 && (in.op == 0x81 || in.op < 0x40 && in.op&7 == 5)
}

// mapped reports whether addr is in a segment, be it past what the file has.
func (m *image) mapped(addr uint64) bool {
	for i := range m.segments {
		if m.segments[i].has(addr) {
			return true
		}
	}
	return false
}

// cut makes chunks: regions, cut where calls and addresses that are taken lead,
// and where jumps from other chunks lead to after an instruction that does not
// go on, or a call that may not return: there begins a function that is only
// jumped to.
func (c *codeMap) cut(regions []span, events []event) {
	var starts, stops, returns []uint64
	for _, e := range events {
		switch e.kind {
		case eventTake, eventCompare:
			starts = append(starts, e.to)
		case eventCall:
			starts = append(starts, e.to)
			returns = append(returns, e.at+5)
		case eventStop:
			stops = append(stops, e.to)
		}
	}
	c.chunks = c.split(regions, starts)
	starts = starts[:0]
	for _, e := range events {
		if e.kind != eventBranch {
			continue
		}
		if n := c.chunkAt(e.to); n != noChunk && !c.chunks[n].has(e.at) && (c.afterStop(e.to, stops) || e.to%16 == 0 && c.afterStop(e.to, returns)) {
			starts = append(starts, e.to)
		}
	}
	c.chunks = c.split(c.chunks, starts)
}

// afterStop reports whether there is only padding between the address and one of
// stops before it.
func (c *codeMap) afterStop(addr uint64, stops []uint64) bool {
	i, ok := slices.BinarySearch(stops, addr)
	if ok {
		return true
	}
	if i == 0 || addr-stops[i-1] > 32 {
		return false
	}
	var in inst
	at := stops[i-1]
	for at < addr && decode(c.at(at), at, &in) && in.padding() {
		at = in.end()
	}
	return at == addr
}

// chunkAt returns the chunk that has the address.
func (c *codeMap) chunkAt(addr uint64) chunk {
	if i, ok := find(c.chunks, addr); ok {
		return chunk(i)
	}
	return noChunk
}

// connect makes edges of events, which are in the order of addresses.
func (c *codeMap) connect(events []event) {
	c.first = make([]int32, 0, len(c.chunks)+1)
	i := 0
	for n, s := range c.chunks {
		c.first = append(c.first, int32(len(c.edges)))
		begin := i
		for ; i < len(events) && events[i].at < s.hi; i++ {
			if events[i].at >= s.lo {
				c.connectEvent(chunk(n), events[i])
			}
		}
		c.connectTables(s, events[begin:i])
		if n+1 < len(c.chunks) && c.chunks[n+1].lo == s.hi {
			c.connectEnd(chunk(n), events[begin:i])
		}
	}
	c.first = append(c.first, int32(len(c.edges)))
	slices.Sort(c.middles)
	c.middles = slices.Compact(c.middles)
}

// out returns the edges of a chunk.
func (c *codeMap) out(n chunk) []edge { return c.edges[c.first[n]:c.first[n+1]] }

func (c *codeMap) connectEvent(from chunk, e event) {
	switch e.kind {
	case eventCall, eventBranch:
		c.connectTo(from, e.at, e.to, edgeCall)
	case eventTake:
		c.connectTo(from, e.at, e.to, edgeRef)
	case eventCompare:
		c.connectTo(from, e.at, e.to, edgeInto)
	case eventSlot:
		if !c.connectSlot(e.at, e.to, true) {
			c.connectData(e.at, e.to)
		}
	case eventData:
		if !c.connectSlot(e.at, e.to, false) {
			c.connectData(e.at, e.to)
		}
	case eventEntry:
		c.entries = append(c.entries, e)
	}
}

// connectTo adds an edge to code, or to what a stub of the PLT leads to.
func (c *codeMap) connectTo(from chunk, at, to uint64, kind edgeKind) {
	if slot, ok := c.stub(to); ok && c.connectSlot(at, slot, kind == edgeCall) {
		return
	}
	n := c.chunkAt(to)
	if n == noChunk || n == from && c.chunks[n].lo != to {
		return
	}
	if c.chunks[n].lo != to {
		c.middles = append(c.middles, to)
		if kind == edgeCall {
			kind = edgeInto
		}
	}
	c.edges = append(c.edges, edge{at, n, kind})
}

// stub returns the word through which code at addr jumps at once.
func (c *codeMap) stub(addr uint64) (uint64, bool) {
	var in inst
	for range 2 {
		if !decode(c.at(addr), addr, &in) {
			return 0, false
		}
		if kind, _ := in.flow(); kind == flowJumpMem {
			slot, ok := in.memory()
			return slot, ok
		}
		if in.opmap != map0F || in.op != 0x1e { // ENDBR64
			return 0, false
		}
		addr = in.end()
	}
	return 0, false
}

// connectSlot adds an edge to what the dynamic linker puts into a word.
func (c *codeMap) connectSlot(at, slot uint64, call bool) bool {
	r, ok := c.relocationAt(slot)
	if !ok {
		return false
	}
	switch {
	case r.kind == elf.R_X86_64_RELATIVE, r.kind == elf.R_X86_64_IRELATIVE:
		n := c.chunkAt(r.addend)
		if n == noChunk {
			if c.inGOT(slot) {
				c.connectData(at, r.addend)
			}
			return false
		}
		kind := edgeRef
		if call && c.chunks[n].lo == r.addend {
			kind = edgeCall
		}
		c.edges = append(c.edges, edge{at, n, kind})
	case r.sym != 0 && r.kind != elf.R_X86_64_COPY:
		kind := edgeImportRef
		if call {
			kind = edgeImport
		}
		c.edges = append(c.edges, edge{at, int32(r.sym), kind})
	default:
		return false
	}
	return true
}

func (m *image) relocationAt(addr uint64) (relocation, bool) {
	i, ok := slices.BinarySearchFunc(m.relocs, addr, func(r relocation, a uint64) int { return cmp.Compare(r.at, a) })
	if !ok {
		return relocation{}, false
	}
	return m.relocs[i], true
}

// connectData adds an edge to the object of data at an address.
func (c *codeMap) connectData(at, addr uint64) {
	n := c.objectAt(addr)
	if n < 0 {
		return
	}
	e := edge{at, n, edgeData}
	if l := len(c.edges); l > 0 && c.edges[l-1].kind == edgeData && c.edges[l-1].to == n && int32(l) > c.first[len(c.first)-1] {
		return
	}
	c.edges = append(c.edges, e)
}

// connectTables adds edges from a chunk without a frame, whose end is a guess,
// to what the tables of its switches lead to.
func (c *codeMap) connectTables(s span, events []event) {
	if _, framed := find(c.frames, s.lo); framed || !slices.ContainsFunc(events, func(e event) bool { return e.kind == eventJump }) {
		return
	}
	for _, e := range events {
		if e.kind != eventData {
			continue
		}
		for _, to := range c.table(e.to, span{s.lo - min(s.lo, 1<<20), s.hi + 1<<20}) {
			if n := c.chunkAt(to); n != noChunk && !s.has(to) && len(c.edges) < maxEdges {
				c.edges = append(c.edges, edge{e.at, n, edgeInto})
				c.middles = append(c.middles, to)
			}
		}
	}
}

const (
	maxTableEntries = 4096
	maxEdges        = 1 << 23 // past which tables add none
)

// table returns where the table of a switch at addr leads: offsets of 32 bits
// from itself, or addresses, as long as they are in the span.
func (c *codeMap) table(addr uint64, in span) []uint64 {
	b := c.at(addr)
	if i, _ := slices.BinarySearch(c.used, addr+1); i < len(c.used) { // the next table has another base
		b = b[:min(uint64(len(b)), c.used[i]-addr)]
	}
	var out []uint64
	for t := b; len(t) >= 4 && len(out) < maxTableEntries; t = t[4:] {
		to := addr + uint64(int64(int32(order.Uint32(t))))
		if !in.has(to) || !c.isCode(to) {
			break
		}
		out = append(out, to)
	}
	if out != nil {
		return out
	}
	for t := b; len(t) >= 8 && len(out) < maxTableEntries; t = t[8:] {
		to := order.Uint64(t)
		if r, ok := c.relocationAt(addr + uint64(len(b)-len(t))); ok {
			to = r.addend
		}
		if !in.has(to) || !c.isCode(to) {
			break
		}
		out = append(out, to)
	}
	return out
}

// connectEnd adds an edge to the next chunk where control can run on into it.
// After a call at the end of a function with a frame it cannot: what is called
// does not return.
func (c *codeMap) connectEnd(n chunk, events []event) {
	s := c.chunks[n]
	_, framed := find(c.frames, s.lo)
	switch last := c.lastOf(s, events); {
	case last == endsStopped, last == endsCalled && framed:
	case last == endsRunning:
		c.edges = append(c.edges, edge{s.hi, n + 1, edgeCall})
	default:
		c.edges = append(c.edges, edge{s.hi, n + 1, edgeInto})
	}
}

// How the instructions of a chunk end.
const (
	endsStopped = iota // control never gets to the end
	endsCalled         // only if a function that is called returns
	endsRunning
	endsEmpty // there is nothing but padding
)

// lastOf returns how a chunk ends.
func (c *codeMap) lastOf(s span, events []event) int {
	at, last := s.lo, endsEmpty
	for i := len(events) - 1; i >= 0; i-- {
		if events[i].kind == eventStop {
			at, last = events[i].to, endsStopped
			break
		}
	}
	var in inst
	for at < s.hi {
		if !decode(c.at(at), at, &in) {
			return endsRunning
		}
		if kind, _ := in.flow(); kind == flowCall || kind == flowCallMem {
			last = endsCalled
		} else if !in.padding() {
			last = endsRunning
		}
		at = in.end()
	}
	return last
}

// functionAt returns the name of the function that addr is in, or "".
func (c *codeMap) functionAt(addr uint64) string {
	i := sort.Search(len(c.funcs), func(i int) bool { return c.funcs[i].addr > addr }) - 1
	n := c.chunkAt(addr)
	if i < 0 || n == noChunk {
		return ""
	}
	if s := c.funcs[i]; s.addr+s.size > addr || c.chunks[n].has(s.addr) {
		return s.name
	}
	return ""
}
