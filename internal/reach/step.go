package reach

// step changes the state as the instruction does. What it does not know makes
// the registers that it writes unknown.
func (c *codeMap) step(s *state, in *inst) {
	if in.opmap == mapOne {
		if c.stepMove(s, in) || c.stepStack(s, in) || stepArithmetic(s, in) {
			return
		}
	}
	if stepWide(s, in) {
		return
	}
	c.forget(s, in)
}

// place returns where in the frame the memory operand is.
func (s *state) place(in *inst) (int64, bool) {
	if !in.modrm || in.mod == 3 || in.index != noReg || in.base < 0 || in.seg {
		return 0, false
	}
	at, ok := s.regs[in.base].stackOffset()
	return at + in.disp, ok
}

// load returns the value of the memory operand.
func (c *codeMap) load(s *state, in *inst) value {
	if in.seg || in.index != noReg || in.width == 2 {
		return unknown
	}
	if addr, ok := in.memory(); ok {
		return value{{n: int64(addr), kind: termGlobal}}
	}
	if at, ok := s.place(in); ok {
		return s.slot(at)
	}
	if in.base < 0 {
		return unknown
	}
	var out value
	for _, t := range s.regs[in.base] {
		switch t.kind {
		case termReg:
			out = out.join(value{{n: in.disp, kind: termField, reg: t.reg}})
		case termGlobal:
			out = out.join(value{{n: t.n, off: int32(in.disp), kind: termMember}})
		case termStack:
			out = out.join(s.slot(t.n + in.disp))
		default:
			return unknown
		}
	}
	return out
}

// write sets the register or memory operand.
func (s *state) write(in *inst, v value) {
	if in.mod == 3 {
		s.regs[in.rm] = v
		return
	}
	if at, ok := s.place(in); ok {
		s.store(at, int64(in.width), v)
		return
	}
	if in.base >= 0 && in.base != rsp {
		s.disturb()
	}
}

// narrow cuts a value to the width that an instruction writes.
func narrow(v value, width uint8) value {
	switch width {
	case 8:
		return v
	case 4:
		for _, t := range v {
			if t.kind == termConst && t.n != int64(uint32(t.n)) {
				return v.calculate(func(n int64) int64 { return int64(uint32(n)) }, func(n int64) int64 { return n })
			}
		}
		return v
	}
	return unknown
}

// operand returns the value of the register or memory operand.
func (c *codeMap) operand(s *state, in *inst) value {
	if in.mod == 3 {
		return s.regs[in.rm]
	}
	return c.load(s, in)
}

// stepMove performs the instructions that copy.
func (c *codeMap) stepMove(s *state, in *inst) bool {
	switch op := in.op; {
	case op == 0x89:
		s.write(in, narrow(s.regs[in.reg], in.width))
	case op == 0x8b:
		s.regs[in.reg] = narrow(c.operand(s, in), in.width)
	case op == 0x63:
		s.regs[in.reg] = signExtend(c.operand(s, in))
	case op == 0x8d:
		s.regs[in.reg] = s.address(in)
	case op == 0xc7 && in.reg&7 == 0:
		s.write(in, narrow(constant(in.imm), in.width))
	case op >= 0xb8 && op <= 0xbf:
		s.regs[in.opReg()] = narrow(constant(in.imm), in.width)
	case op >= 0xb0 && op <= 0xb7 && (in.opReg() < 4 || in.rex):
		low := in.imm & 0xff
		s.regs[in.opReg()] = s.regs[in.opReg()].calculate(func(n int64) int64 { return n&^0xff | low }, nil)
	case op == 0x87 && in.mod == 3:
		s.regs[in.reg], s.regs[in.rm] = narrow(s.regs[in.rm], in.width), narrow(s.regs[in.reg], in.width)
	default:
		return false
	}
	return true
}

// opReg returns the register in the low bits of the opcode.
func (in *inst) opReg() uint8 { return in.op&7 | in.rm }

func signExtend(v value) value {
	for _, t := range v {
		if t.kind == termConst && t.n != int64(int32(t.n)) {
			return v.calculate(func(n int64) int64 { return int64(int32(n)) }, nil)
		}
	}
	return v
}

// address returns the value of LEA.
func (s *state) address(in *inst) value {
	if addr, ok := in.memory(); ok {
		return constant(int64(addr))
	}
	if in.index != noReg || in.base < 0 || in.width == 2 {
		return unknown
	}
	add := func(n int64) int64 { return n + in.disp }
	v := s.regs[in.base].calculate(add, add)
	if in.disp == 0 {
		v = s.regs[in.base]
	}
	for _, t := range v {
		if t.kind == termStack && t.n < 0 {
			s.taken = min(s.taken, t.n)
		}
	}
	return v
}

// stepStack performs the instructions that move the stack pointer.
func (c *codeMap) stepStack(s *state, in *inst) bool {
	op := in.op
	switch {
	case op >= 0x50 && op <= 0x57:
		s.push(s.regs[in.opReg()])
	case op >= 0x58 && op <= 0x5f:
		s.regs[in.opReg()] = s.pop()
	case op == 0x68, op == 0x6a:
		s.push(constant(in.imm))
	case op == 0xff && in.reg&7 == 6:
		s.push(c.operand(s, in))
	case op == 0x8f:
		s.write(in, s.pop())
	case op == 0x9c:
		s.push(unknown)
	case op == 0x9d:
		s.pop()
	case op == 0xc9:
		s.regs[rsp] = s.regs[rbp]
		s.regs[rbp] = s.pop()
	default:
		return false
	}
	return true
}

func (s *state) push(v value) {
	at, ok := s.regs[rsp].stackOffset()
	if !ok {
		return
	}
	s.regs[rsp] = value{{n: at - 8, kind: termStack}}
	s.store(at-8, 8, v)
}

func (s *state) pop() value {
	at, ok := s.regs[rsp].stackOffset()
	if !ok {
		return unknown
	}
	s.regs[rsp] = value{{n: at + 8, kind: termStack}}
	return s.slot(at)
}

// stepArithmetic performs the arithmetic that can make a number or move a
// pointer to the stack.
func stepArithmetic(s *state, in *inst) bool {
	op, kind := in.op, in.reg&7
	switch {
	case (op == 0x31 || op == 0x33 || op == 0x29 || op == 0x2b) && in.mod == 3 && in.reg == in.rm:
		s.regs[in.rm] = constant(0)
	case (op == 0x81 || op == 0x83) && kind == 7: // CMP
	case (op == 0x81 || op == 0x83) && in.mod == 3 && in.width >= 4:
		s.regs[in.rm] = narrow(immediateArithmetic(s.regs[in.rm], kind, in.imm), in.width)
	case (op == 0x05 || op == 0x0d || op == 0x25 || op == 0x2d || op == 0x35) && in.width >= 4:
		s.regs[rax] = narrow(immediateArithmetic(s.regs[rax], op>>3, in.imm), in.width)
	case op == 0xff && kind < 2 && in.mod == 3 && in.width >= 4:
		s.regs[in.rm] = narrow(immediateArithmetic(s.regs[in.rm], kind*5, 1), in.width)
	default:
		return false
	}
	return true
}

// immediateArithmetic returns v ADD (0), OR (1), AND (4), SUB (5) or XOR (6) imm.
func immediateArithmetic(v value, kind uint8, imm int64) value {
	switch kind {
	case 0:
		add := func(n int64) int64 { return n + imm }
		return v.calculate(add, add)
	case 1:
		if imm == -1 {
			return constant(-1)
		}
		return v.calculate(func(n int64) int64 { return n | imm }, nil)
	case 4:
		if imm == 0 {
			return constant(0)
		}
		// At the start of a function the stack pointer is 8 below a multiple of 16.
		return v.calculate(func(n int64) int64 { return n & imm }, func(n int64) int64 { return (n+8)&imm - 8 })
	case 5:
		sub := func(n int64) int64 { return n - imm }
		return v.calculate(sub, sub)
	case 6:
		return v.calculate(func(n int64) int64 { return n ^ imm }, nil)
	}
	return unknown
}

// stepWide performs what the two-byte opcodes do to numbers: conditional moves
// and moves that widen.
func stepWide(s *state, in *inst) bool {
	if in.opmap != map0F || in.vector || in.mod != 3 {
		return false
	}
	switch op := in.op; {
	case op >= 0x40 && op <= 0x4f:
		s.regs[in.reg] = narrow(s.regs[in.reg].join(s.regs[in.rm]), in.width)
	case op == 0xb7:
		s.regs[in.reg] = s.regs[in.rm].calculate(func(n int64) int64 { return int64(uint16(n)) }, nil)
	case op == 0xb6 && (in.rm < 4 || in.rex):
		s.regs[in.reg] = s.regs[in.rm].calculate(func(n int64) int64 { return int64(uint8(n)) }, nil)
	default:
		return false
	}
	return true
}

// forget makes all registers that in writes unknown, and the words of the
// stack.
func (c *codeMap) forget(s *state, in *inst) {
	mask, toMemory := in.writes()
	for i := range s.regs {
		if mask>>i&1 != 0 {
			s.regs[i] = unknown
		}
	}
	if !toMemory || in.mod == 3 || !in.modrm {
		return
	}
	if at, ok := s.place(in); ok {
		s.store(at, max(int64(in.width), int64(in.vlen)), unknown)
	} else if in.base >= 0 && in.base != rsp {
		s.disturb()
	}
}

// writes returns the general registers that in may write, one bit each, and
// whether it may write its memory operand. It says more rather than less.
func (in *inst) writes() (uint16, bool) {
	switch {
	case in.opmap == mapOne:
		return in.writesOne()
	case in.opmap == map0F && !in.vector:
		return in.writes0F()
	case in.opmap == map0F:
		switch in.op {
		case 0x2c, 0x2d, 0x50, 0xd7, 0xc5, 0x78, 0x79, 0x93:
			return in.bitReg(), false
		case 0x7e:
			return in.bitRM(), true
		}
		return 0, vectorStore(in.op)
	case in.opmap == map38 && in.vector:
		if in.op >= 0xf2 && in.op <= 0xf7 || in.op >= 0xe0 && in.op <= 0xef {
			return in.bitReg() | 1<<in.vvvv, true
		}
		return 0, true
	case in.opmap == map38:
		if in.op >= 0xf0 {
			return in.bitReg() | in.bitRM(), true
		}
		return 0, false
	case in.opmap == map3A:
		switch op := in.op; {
		case op >= 0x14 && op <= 0x17:
			return in.bitRM(), true
		case op >= 0x60 && op <= 0x63:
			return 1 << rcx, false
		case op == 0xf0:
			return in.bitReg(), false
		}
		return 0, in.vector
	}
	return in.bitReg() | in.bitRM() | 1<<in.vvvv, true
}

func vectorStore(op uint8) bool {
	switch op {
	case 0x11, 0x13, 0x17, 0x29, 0x2b, 0x7f, 0xe7, 0xd6, 0x91:
		return true
	}
	return false
}

func (in *inst) bitReg() uint16 {
	if !in.modrm {
		return 0
	}
	return 1 << in.reg
}

func (in *inst) bitRM() uint16 {
	if !in.modrm || in.mod != 3 {
		return 0
	}
	return 1 << in.rm
}

// bytes adds the registers that operands of 8 bits are part of, whose 4 to 7 are
// AH to BH. All such opcodes are even, but for 0xb1 to 0xb7, which only say more
// registers than needed here, and SETcc.
func (in *inst) bytes(mask uint16) uint16 {
	set := in.opmap == map0F && in.op >= 0x90 && in.op <= 0x9f
	move := in.opmap == mapOne && in.op >= 0xb0 && in.op <= 0xb7
	if in.rex || in.op&1 != 0 && !set && !move {
		return mask
	}
	return mask | mask>>4&0xf
}

func (in *inst) writesOne() (uint16, bool) {
	switch op := in.op; {
	case op < 0x38:
		switch op & 7 {
		case 0, 1:
			return in.bytes(in.bitRM()), true
		case 2, 3:
			return in.bytes(in.bitReg()), false
		}
		return 1 << rax, false
	case op < 0x40, op == 0x84, op == 0x85, op >= 0x70 && op <= 0x7f, op == 0xa8, op == 0xa9:
		return 0, false
	case op == 0x69, op == 0x6b, op == 0x63, op == 0x8a, op == 0x8b, op == 0x8d:
		return in.bytes(in.bitReg()), false
	case op >= 0x80 && op <= 0x83, op == 0xc0, op == 0xc1, op >= 0xd0 && op <= 0xd3, op == 0x88, op == 0x89, op == 0xc6, op == 0xc7, op == 0xfe, op == 0xff:
		return in.bytes(in.bitRM()), true
	case op == 0x86, op == 0x87:
		return in.bytes(in.bitReg() | in.bitRM()), true
	case op >= 0xb0 && op <= 0xbf:
		return in.bytes(1 << in.opReg()), false
	case op >= 0x90 && op <= 0x97:
		if op == 0x90 && in.rm == 0 {
			return 0, false
		}
		return 1<<rax | 1<<in.opReg(), false
	case op >= 0xd8 && op <= 0xde:
		return 0, true
	case op == 0xdf:
		return 1 << rax, true
	case op == 0xf6, op == 0xf7:
		switch {
		case in.reg&7 < 2:
			return 0, false
		case in.reg&7 < 4:
			return in.bytes(in.bitRM()), true
		}
		return 1<<rax | 1<<rdx, false
	}
	return 1<<rax | 1<<rcx | 1<<rdx | 1<<rsi | 1<<rdi | in.bitReg() | in.bitRM(), true
}

func (in *inst) writes0F() (uint16, bool) {
	switch op := in.op; {
	case op >= 0x10 && op <= 0x1f, op >= 0x28 && op <= 0x2b, op >= 0x51 && op <= 0x7d, op == 0x2e, op == 0x2f, op == 0x7f,
		op == 0xc2, op == 0xc4, op == 0xc6, op >= 0xd0 && op != 0xd7, op == 0x77, op == 0x0d, op == 0xa3:
		return 0, vectorStore(op)
	case op == 0x2c, op == 0x2d, op == 0x50, op == 0xd7, op == 0xc5, op == 0xaf, op == 0xb6, op == 0xb7, op >= 0xbc && op <= 0xbf, op == 0xb8,
		op >= 0x40 && op <= 0x4f, op == 0x02, op == 0x03:
		return in.bitReg(), false
	case op == 0x7e, op >= 0x90 && op <= 0x9f, op == 0xa4, op == 0xa5, op == 0xab, op == 0xac, op == 0xad, op == 0xb3, op == 0xbb, op == 0xba:
		return in.bytes(in.bitRM()), true
	case op == 0xb0, op == 0xb1:
		return in.bytes(in.bitRM()) | 1<<rax, true
	case op >= 0xc8 && op <= 0xcf:
		return 1 << in.opReg(), false
	case op == 0xa2:
		return 1<<rax | 1<<rbx | 1<<rcx | 1<<rdx, false
	case op == 0x05:
		return 1<<rax | 1<<rcx | 1<<11, false
	}
	return 1<<rax | 1<<rcx | 1<<rdx | in.bytes(in.bitReg()|in.bitRM()), true
}
