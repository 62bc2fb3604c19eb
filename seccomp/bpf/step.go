package bpf

// step follows an instruction that neither branches nor returns, and gives the
// place of the next.
func (p *prover) step(pc int, s *state) int {
	in := &p.prog[pc]
	operand := value{kind: constant, k: in.K}
	if in.Op&SrcX != 0 {
		operand = s.x
	}
	switch in.Op {
	case LdAbs:
		s.a = value{wordValue, uint8(in.K / 4), maxWord}
	case LdLen:
		s.a = value{kind: constant, k: dataSize}
	case LdImm:
		s.a = value{kind: constant, k: in.K}
	case LdMem:
		s.a = s.mem[in.K]
	case LdxLen:
		s.x = value{kind: constant, k: dataSize}
	case LdxImm:
		s.x = value{kind: constant, k: in.K}
	case LdxMem:
		s.x = s.mem[in.K]
	case St:
		s.store(in.K, s.a)
	case Stx:
		s.store(in.K, s.x)
	case Tax:
		s.x = s.a
	case Txa:
		s.a = s.x
	case Neg:
		s.a = negate(s.a)
	case Ja:
		return pc + 1 + int(in.K)
	default:
		s.a = compute(in.Op, s.a, operand)
	}
	return pc + 1
}

func (s *state) store(at uint32, v value) {
	var mem [memWords]value
	if s.mem != nil {
		mem = *s.mem
	}
	mem[at] = v
	s.mem = &mem
}

func negate(a value) value {
	if a.kind == constant {
		return value{kind: constant, k: -a.k}
	}
	return value{kind: unknown}
}

// compute follows arithmetic: all of it on constants, and AND with a constant
// on words.
func compute(op uint16, a, operand value) value {
	switch {
	case op&^SrcX == And && a.kind == wordValue && operand.kind == constant:
		return value{wordValue, a.word, a.k & operand.k}
	case op&^SrcX == And && a.kind == constant && operand.kind == wordValue:
		return value{wordValue, operand.word, a.k & operand.k}
	case a.kind != constant || operand.kind != constant:
		return value{kind: unknown}
	case op&^SrcX == Div && operand.k == 0:
		return value{kind: unknown} // the program has ended
	case op&^SrcX == Div:
		return value{kind: constant, k: a.k / operand.k}
	case op&^SrcX == Lsh && operand.k >= 32, op&^SrcX == Rsh && operand.k >= 32:
		return value{kind: unknown} // as the machine does it
	}
	k, _ := arithmetic(op, a.k, operand.k)
	return value{kind: constant, k: k}
}

// assume narrows the state to the calls for which a branch has the outcome
// want. It is false if there are none.
func (p *prover) assume(s *state, in *Instruction, want bool) bool {
	k := in.K
	if in.Op&SrcX != 0 {
		if s.x.kind != constant {
			s.fuzzy = true
			return true
		}
		k = s.x.k
	}
	op := in.Op &^ SrcX
	switch s.a.kind {
	case constant:
		return holds(op, s.a.k, k) == want
	case wordValue:
		return p.narrow(s, int(s.a.word), s.a.k, op, k, want)
	}
	s.fuzzy = true
	return true
}

// narrow narrows a word to the values for which a test has the outcome want.
func (p *prover) narrow(s *state, word int, mask uint32, op uint16, k uint32, want bool) bool {
	d, ok := p.sets.refine(s.words[word], mask, op, k, want)
	s.words[word] = d
	if word != wordNr && word != wordArch {
		s.narrow = true
	}
	return ok
}

// outcomes says which outcomes a test of the spec can have.
func (p *prover) outcomes(s *state, t *Test) (yes, no bool) {
	low, high := s.wordsOf(t)
	lowMask, highMask := uint32(t.Mask), uint32(t.Mask>>32)
	lowK, highK := uint32(t.Value), uint32(t.Value>>32)
	lowYes, lowNo := p.sets.outcomes(s.words[low], lowMask, t.Op, lowK)
	equal, other := p.sets.outcomes(s.words[high], highMask, Jeq, highK)
	if t.Op == Jeq {
		yes, no = equal && lowYes, other || equal && lowNo
	} else {
		above, _ := p.sets.outcomes(s.words[high], highMask, Jgt, highK)
		_, below := p.sets.outcomes(s.words[high], highMask, Jge, highK)
		yes, no = above || equal && lowYes, below || equal && lowNo
	}
	if t.Not {
		return no, yes
	}
	return yes, no
}

// wordsOf returns the words of the argument of a test.
func (s *state) wordsOf(t *Test) (low, high int) {
	return int(OffArg(s.arch, int(t.Arg), false) / 4), int(OffArg(s.arch, int(t.Arg), true) / 4)
}

// parts divides the calls of s for which a test of the spec has the outcome
// want into states, of which there are n.
func (p *prover) parts(s *state, t *Test, want bool) (list [2]*state, n int) {
	low, high := s.wordsOf(t)
	highMask, highK := uint32(t.Mask>>32), uint32(t.Value>>32)
	want = want != t.Not
	add := func(op uint16, outcome, lowMatters bool) {
		part := p.copy(s)
		if !p.narrow(part, high, highMask, op, highK, outcome) ||
			lowMatters && !p.narrow(part, low, uint32(t.Mask), t.Op, uint32(t.Value), want) {
			p.drop(part)
			return
		}
		list[n] = part
		n++
	}
	add(Jeq, true, true)
	switch { // or the high word decides alone
	case t.Op == Jeq && !want:
		add(Jeq, false, false)
	case t.Op != Jeq && want:
		add(Jgt, true, false)
	case t.Op != Jeq:
		add(Jge, false, false)
	}
	return list, n
}

// isBranch reports whether the instruction is a conditional jump.
func (in *Instruction) isBranch() bool {
	switch in.Op &^ SrcX {
	case Jeq, Jgt, Jge, Jset:
		return true
	}
	return false
}
