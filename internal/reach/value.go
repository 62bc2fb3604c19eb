package reach

import "slices"

// A value is what a register or a word of the stack can hold: any of a few
// terms, or, when it is anything, only the term unknown. It is never changed
// in place. The empty value is that of code that is not reached.
type value []term

// maxTerms is how many terms a value keeps apart.
const maxTerms = 16

type termKind uint8

const (
	termUnknown termKind = iota
	termConst            // the number n
	termReg              // what register reg held at the start of the chunk
	termSlot             // what the stack held then, n above its pointer
	termStack            // the address n above the stack pointer then
	termField            // the word n above the address in register reg then
	termGlobal           // the word at address n of the file
	termMember           // the word off above the address that is there
)

type term struct {
	n    int64
	off  int32
	kind termKind
	reg  uint8
}

var unknown = value{{}}

func constant(n int64) value { return value{{n: n, kind: termConst}} }

func (v value) isUnknown() bool { return len(v) == 1 && v[0].kind == termUnknown }

// join returns what holds the terms of both.
func (v value) join(w value) value {
	switch {
	case len(v) == 0:
		return w
	case len(w) == 0, v.isUnknown():
		return v
	case w.isUnknown():
		return w
	}
	out := v
	for _, t := range w {
		if slices.Contains(v, t) {
			continue
		}
		if len(out) >= maxTerms {
			return unknown
		}
		if len(out) == len(v) {
			out = slices.Clone(v)
		}
		out = append(out, t)
	}
	return out
}

// stackOffset returns where in the frame a value points.
func (v value) stackOffset() (int64, bool) {
	if len(v) == 1 && v[0].kind == termStack {
		return v[0].n, true
	}
	return 0, false
}

// calculate applies f to all constants, and g to all places in the stack.
// Other terms make the result unknown.
func (v value) calculate(f, g func(int64) int64) value {
	var out value
	for _, t := range v {
		switch {
		case t.kind == termConst && f != nil:
			t.n = f(t.n)
		case t.kind == termStack && g != nil:
			t.n = g(t.n)
		default:
			return unknown
		}
		out = out.join(value{t})
	}
	return out
}

// state is what is known before an instruction.
type state struct {
	regs  [16]value
	slots map[int64]slot // words of the stack, by where they are from the stack pointer at the start
	spilt bool           // there were more words than maxSlots: those that are not in slots are unknown
	taken int64          // the lowest place in the own frame whose address is taken; 0 for none
}

// entryState is the state at the start of a function.
func entryState() *state {
	s := &state{slots: map[int64]slot{}}
	for i := range s.regs {
		s.regs[i] = value{{kind: termReg, reg: uint8(i)}}
	}
	s.regs[rsp] = value{{kind: termStack}}
	return s
}

// strangeState is the state where code is entered in ways that are not seen.
func strangeState() *state {
	s := &state{slots: map[int64]slot{}}
	for i := range s.regs {
		s.regs[i] = unknown
	}
	return s
}

func (s *state) clone() *state {
	c := *s
	c.slots = make(map[int64]slot, len(s.slots))
	for k, v := range s.slots {
		c.slots[k] = v
	}
	return &c
}

// merge adds what is known at another way to the same place, and reports
// whether that changed anything. If wide, what changes is unknown from then on.
func (s *state) merge(o *state, wide bool) bool {
	changed := false
	join := func(v, w value) (value, bool) {
		j := v.join(w)
		if len(j) == len(v) && j.isUnknown() == v.isUnknown() {
			return v, false
		}
		changed = true
		if wide {
			j = unknown
		}
		return j, true
	}
	for i := range s.regs {
		s.regs[i], _ = join(s.regs[i], o.regs[i])
	}
	for k, w := range s.slots {
		v, _ := join(w.value, o.slot(k))
		s.slots[k] = slot{v, max(w.size, o.slots[k].size)}
	}
	for k, w := range o.slots {
		if _, ok := s.slots[k]; !ok {
			if j, differs := join(s.slot(k), w.value); differs {
				s.put(k, slot{j, w.size})
			}
		}
	}
	if o.spilt && !s.spilt {
		s.spilt, changed = true, true
	}
	if o.taken < s.taken {
		s.taken, changed = o.taken, true
	}
	return changed
}

// slot returns a word of the stack.
func (s *state) slot(at int64) value {
	if w, ok := s.slots[at]; ok {
		return w.value
	}
	if at > 0 && !s.spilt {
		return value{{n: at, kind: termSlot}}
	}
	return unknown
}

// store sets n bytes of the stack. Words that they are only part of are unknown.
func (s *state) store(at, n int64, v value) {
	if n != 8 && n != 4 {
		v = unknown
	}
	for k := at - 7; k < at+n; k++ {
		old, ok := s.slots[k]
		if !ok && k > 0 && k%8 == 0 { // an argument that has not been written before
			old, ok = slot{unknown, 8}, true
		}
		if ok && k+old.size > at && k != at {
			s.put(k, slot{unknown, old.size})
		}
	}
	s.put(at, slot{v, n})
}

// slot is a word of the stack of some bytes.
type slot struct {
	value
	size int64
}

func (s *state) put(at int64, w slot) {
	if _, ok := s.slots[at]; !ok && len(s.slots) >= maxSlots {
		s.spilt = true
		return
	}
	s.slots[at] = w
}

// maxSlots is how many words of the stack a state keeps.
const maxSlots = 128

// disturb forgets the words of the frame that others have the address of.
func (s *state) disturb() {
	if s.taken == 0 {
		return
	}
	for k, w := range s.slots {
		if k >= s.taken && k < 0 {
			s.slots[k] = slot{unknown, w.size}
		}
	}
}

// clobber forgets what a called function does not preserve.
func (s *state) clobber(all bool) {
	for i := range s.regs {
		if all && i != rsp && i != rbp || !all && preserved>>i&1 == 0 {
			s.regs[i] = unknown
		}
	}
	s.disturb()
}

// preserved are the registers that a function leaves as they are: RBX, RSP,
// RBP, R12 to R15 (System V ABI for x86-64, section 3.2.1).
const preserved = 1<<rbx | 1<<rsp | 1<<rbp | 0xf000
