package reach

import (
	"slices"
	"strings"
)

// fact is a system call that a chunk makes, itself or by a function that it
// gives the number.
type fact struct {
	at    uint64
	in    chunk
	nr    uint32
	entry string // "syscall", "int 0x80" or "sysenter"
}

// passed says that a chunk makes the system call whose number it is given.
type passed struct {
	in    chunk
	term  term
	entry string
}

// callback is what a function is passed that another one calls back, together
// with a structure of its own.
type callback struct {
	in   chunk
	term term
}

// facts are what is known of the numbers of system calls.
type facts struct {
	calls   []fact
	unknown []fact // whose nr means nothing
	passed  []passed
	known   map[callback]bool // of passed: those whose callers by their address are known, too
	seen    map[any]bool
}

// isNew reports whether the fact has not been noted yet.
func (f *facts) isNew(fact any) bool {
	if f.seen == nil {
		f.seen = map[any]bool{}
	}
	if f.seen[fact] {
		return false
	}
	f.seen[fact] = true
	return true
}

// maxPassed is how many chunks of a file may pass numbers on.
const maxPassed = 4096

// add notes that the code at an address makes the system call that v says.
func (f *facts) add(in chunk, at uint64, v value, entry string) {
	for _, t := range v {
		c := fact{at, in, uint32(t.n), entry}
		p := passed{in, t, entry}
		switch {
		case t.kind == termConst:
			if f.isNew(c) {
				f.calls = append(f.calls, c)
			}
		case t.kind != termUnknown && t.kind != termStack && t.kind != termGlobal && len(f.passed) < maxPassed:
			if f.isNew(p) {
				f.passed = append(f.passed, p)
			}
		default:
			c.nr = unknownNumber
			if f.isNew(c) {
				f.unknown = append(f.unknown, c)
			}
		}
	}
}

const unknownNumber = ^uint32(0)

// findFacts finds the numbers of the system calls of a file.
func (c *codeMap) findFacts() *facts {
	f := &facts{}
	last := noChunk
	for _, e := range c.entries {
		n := c.chunkAt(e.at)
		if n == last {
			continue
		}
		last = n
		if c.golang && c.functionAt(c.chunks[n].lo) == goPerThread {
			continue
		}
		found := c.visit(n, func(in *inst, s *state) {
			if kind := in.entryKind(); kind != "" {
				f.addVariables(c, n, in.addr, s.regs[rax], kind)
			}
		})
		if !found {
			f.add(n, e.at, unknown, "syscall")
		}
	}
	c.addAllThreads(f)
	c.follow(f, 0)
	return f
}

// goPerThread is the function of Go's runtime that makes, in every thread, the
// system call that is passed to the function of addAllThreads.
const goPerThread = "runtime.runPerThreadSyscall"

// addAllThreads notes that this function of Go's runtime is passed the number in
// the register of the first argument, if the program has it.
func (c *codeMap) addAllThreads(f *facts) {
	for _, s := range c.funcs {
		if c.golang && strings.HasSuffix(s.name, "runtime_doAllThreadsSyscall") {
			f.add(c.chunkAt(s.addr), s.addr, value{{kind: termReg, reg: rax}}, "syscall")
		}
	}
}

// follow finds what callers pass to the chunks of f.passed from index i on,
// and to those that pass on what they are given.
func (c *codeMap) follow(f *facts, i int) {
	if i == len(f.passed) {
		return
	}
	callers := c.callers()
	for ; i < len(f.passed); i++ {
		p := f.passed[i]
		to := c.chunks[p.in].lo
		if p.term.kind == termField {
			c.followBack(f, p)
		}
		for _, from := range callers[p.in] {
			c.visitCalls(f, from, p, func(in *inst) bool {
				kind, target := in.flow()
				return kind != flowStop && (in.end() == to || kind != flowNext && c.leads(in, kind, target) == to)
			})
		}
	}
}

// followBack finds what a function is passed by those who take its address, if
// they all give that to another function along with the address of a structure
// in their frame.
func (c *codeMap) followBack(f *facts, p passed) {
	if c.lookups++; c.lookups > maxLookups {
		return
	}
	lo, all := c.chunks[p.in].lo, true
	for n := range c.chunks {
		if !slices.ContainsFunc(c.out(chunk(n)), func(e edge) bool { return e.kind == edgeRef && e.to == p.in }) {
			continue
		}
		found := false
		c.visit(chunk(n), func(in *inst, s *state) {
			if kind, _ := in.flow(); kind != flowCall && kind != flowCallMem {
				return
			}
			for _, v := range c.structures(s, lo, p.term) {
				found = true
				f.add(chunk(n), in.addr, v, p.entry)
			}
		})
		all = all && found
	}
	if f.known == nil {
		f.known = map[callback]bool{}
	}
	f.known[callback{p.in, p.term}] = all
}

// structures returns the words that t means in all structures in the frame
// whose address is an argument, beside the address of code.
func (c *codeMap) structures(s *state, code uint64, t term) []value {
	arguments := [...]uint8{rdi, rsi, rdx, rcx, 8, 9}
	if !slices.ContainsFunc(arguments[:], func(r uint8) bool {
		return len(s.regs[r]) == 1 && s.regs[r][0] == constant(int64(code))[0]
	}) {
		return nil
	}
	var out []value
	for _, r := range arguments {
		if at, ok := s.regs[r].stackOffset(); ok {
			out = append(out, s.slot(at+t.n))
		}
	}
	return out
}

// leads returns the address that a branch in the file leads to, by a stub or a
// word of memory if need be, or 0.
func (c *codeMap) leads(in *inst, kind flow, target uint64) uint64 {
	slot, ok := uint64(0), false
	switch kind {
	case flowCallMem, flowJumpMem:
		if slot, ok = in.memory(); !ok {
			return 0
		}
	default:
		if slot, ok = c.stub(target); !ok {
			return target
		}
	}
	if r, ok := c.relocationAt(slot); ok && r.sym == 0 {
		return r.addend
	}
	return target
}

// visitCalls notes in f what chunk from passes where it calls as is says.
func (c *codeMap) visitCalls(f *facts, from chunk, p passed, is func(*inst) bool) {
	found := c.visit(from, func(in *inst, s *state) {
		if is(in) {
			kind, _ := in.flow()
			if kind == flowNext { // it runs on into what it passes the number to
				s = s.clone()
				c.step(s, in)
			}
			v := c.argument(s, p.term, kind == flowCall || kind == flowCallMem)
			f.addVariables(c, from, in.addr, v, p.entry)
		}
	})
	if !found {
		f.add(from, c.chunks[from].lo, unknown, p.entry)
	}
}

// addVariables is add, but that a variable of the file, or a word of a structure
// to which a variable points, is looked up where the variable is set.
func (f *facts) addVariables(c *codeMap, in chunk, at uint64, v value, entry string) {
	for _, t := range v {
		if t.kind != termMember && t.kind != termGlobal || !f.addVariable(c, in, at, t, entry) {
			f.add(in, at, value{t}, entry)
		}
	}
}

// addVariable notes the system call for each value of a variable or member. It
// is false if anything but simple stores can change the variable.
func (f *facts) addVariable(c *codeMap, in chunk, at uint64, t term, entry string) bool {
	stores, ok := c.storesTo(uint64(t.n))
	if !ok {
		return false
	}
	if t.kind == termGlobal {
		n, _ := c.word(uint64(t.n)) // 0 past what the file has
		f.add(in, at, constant(int64(uint32(n))), entry)
	}
	for _, store := range stores {
		n := c.chunkAt(store)
		found := c.visit(n, func(in *inst, s *state) {
			if in.addr != store {
				return
			}
			v := s.regs[in.reg]
			if t.kind == termMember {
				v = c.argument(s, term{n: int64(t.off), kind: termField, reg: in.reg}, false)
			}
			f.add(n, in.addr, v, entry)
		})
		if !found {
			return false
		}
	}
	return true
}

// maxLookups is how often all of a file is gone through for a number.
const maxLookups = 64

// storesTo returns the instructions that store a register to a variable. It is
// false if there are any that could store to it in other ways.
func (c *codeMap) storesTo(addr uint64) ([]uint64, bool) {
	if c.lookups++; c.lookups > maxLookups {
		return nil, false
	}
	var out []uint64
	ok := true
	for _, s := range c.chunks {
		code := c.bytes(s.lo, s.hi-s.lo)
		var in inst
		for at := uint64(0); at < uint64(len(code)); at += max(uint64(in.len), 1) {
			if !decode(code[at:], s.lo+at, &in) {
				continue
			}
			if to, found := in.memory(); !found || to != addr {
				continue
			}
			switch {
			case in.opmap == mapOne && in.op == 0x89 && in.width >= 4:
				out = append(out, in.addr)
			case in.opmap == mapOne && (in.op == 0x8b || in.op == 0x63 || in.op == 0x39 || in.op == 0x3b || in.op == 0x83 && in.reg&7 == 7):
			case in.opmap == mapOne && in.op == 0xc7 && in.imm == 0:
			default:
				ok = false
			}
		}
	}
	return out, ok
}

// argument returns the value of a term of a function where s holds before it
// is called, or jumped to.
func (c *codeMap) argument(s *state, t term, call bool) value {
	switch t.kind {
	case termReg:
		return s.regs[t.reg]
	case termSlot:
		at, ok := s.regs[rsp].stackOffset()
		if !ok {
			return unknown
		}
		if call {
			at -= 8
		}
		return s.slot(at + t.n)
	case termField:
		var out value
		for _, a := range s.regs[t.reg] {
			switch a.kind {
			case termStack:
				out = out.join(s.slot(a.n + t.n))
			case termReg:
				out = out.join(value{{n: t.n, kind: termField, reg: a.reg}})
			default:
				return unknown
			}
		}
		return out
	}
	return unknown
}

// callers returns, for each chunk, which others call it or jump to its start.
func (c *codeMap) callers() [][]chunk {
	out := make([][]chunk, len(c.chunks))
	for n := range c.chunks {
		for _, e := range c.out(chunk(n)) {
			if e.kind != edgeCall {
				continue
			}
			if l := out[e.to]; len(l) == 0 || l[len(l)-1] != chunk(n) {
				out[e.to] = append(l, chunk(n))
			}
		}
	}
	return out
}

// factsOf returns what the file passes where it calls an imported symbol that
// makes the system call p.term.
func (c *codeMap) factsOf(sym string, passed []passed) *facts {
	f := &facts{}
	c.lookups++
	for n := range c.chunks {
		if !slices.ContainsFunc(c.out(chunk(n)), func(e edge) bool {
			return e.kind == edgeImport && c.symbolName(uint32(e.to)) == sym
		}) {
			continue
		}
		if c.lookups > maxLookups {
			f.add(chunk(n), c.chunks[n].lo, unknown, "syscall")
			break
		}
		for _, p := range passed {
			c.visitCalls(f, chunk(n), p, func(in *inst) bool { return c.imports(in) == sym })
		}
	}
	c.follow(f, 0)
	return f
}

// imports returns the name of the symbol that in branches to, or "".
func (c *codeMap) imports(in *inst) string {
	kind, target := in.flow()
	slot, ok := uint64(0), false
	switch kind {
	case flowCall, flowJump, flowCond:
		slot, ok = c.stub(target)
	case flowCallMem, flowJumpMem:
		slot, ok = in.memory()
	}
	if !ok {
		return ""
	}
	r, ok := c.relocationAt(slot)
	if !ok || r.sym == 0 {
		return ""
	}
	return c.symbolName(r.sym)
}
