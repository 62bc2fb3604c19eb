package reach

import "encoding/binary"

// inst is one x86-64 instruction, as far as control flow and the values of
// general registers need it.
type inst struct {
	addr   uint64
	imm    int64   // immediate or branch displacement, sign extended
	disp   int64   // displacement of the memory operand
	len    uint8   // bytes
	opmap  uint8   // mapOne, map0F, map38, map3A, or mapOther
	op     uint8   // opcode byte in its map
	modrm  bool    // has a ModRM byte: mod, reg, rm are valid
	mod    uint8   // 3: rm is a register
	reg    uint8   // with REX.R
	rm     uint8   // with REX.B; the register when mod is 3
	base   int8    // base register of the memory operand, regRIP or noReg
	index  int8    // index register or noReg
	scale  uint8   // 1, 2, 4, 8
	width  uint8   // operand size in bytes by prefixes: 2, 4 or 8
	vector bool    // VEX, EVEX or XOP encoded
	vvvv   uint8   // second source or destination of a VEX instruction
	vlen   uint8   // bytes of a vector register: 16, 32 or 64
	rex    bool    // has a REX prefix (which renames AH, CH, DH and BH)
	rep    uint8   // last of the prefixes 0xf2 and 0xf3, or 0
	seg    bool    // has an FS or GS prefix
	_      [2]int8 // keeps the struct at one size
}

// Opcode maps. The names of the VEX maps are those of the legacy ones.
const (
	mapOne = iota
	map0F
	map38
	map3A
	mapOther // nothing in it touches a general register that matters here
)

const (
	noReg  = -1
	regRIP = -2
)

// General registers by their number in instructions.
const (
	rax = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
)

// What follows an opcode, one letter an opcode:
//
//	.  nothing              m  ModRM              x  not an instruction
//	b  imm8                 B  ModRM and imm8     p  prefix
//	w  imm16                z  imm16 or imm32     Z  ModRM, and imm16 or imm32
//	v  as z, 64 with REX.W  o  an address         e  imm16 and imm8
//	r  rel8                 R  rel32              f, F  ModRM; /0 and /1 imm8, z
//	2, 8, A  next map       V  VEX, EVEX           i  ModRM and two imm8
//
// Source: Intel SDM volume 2, appendix A, tables.
const (
	formsOne = "mmmmbzxxmmmmbzx2" +
		"mmmmbzxxmmmmbzxx" +
		"mmmmbzpxmmmmbzpx" +
		"mmmmbzpxmmmmbzpx" +
		"pppppppppppppppp" +
		"................" +
		"xxVmppppzZbB...." +
		"rrrrrrrrrrrrrrrr" +
		"BZxBmmmmmmmmmmmm" +
		"..........x....." +
		"oooo....bz......" +
		"bbbbbbbbvvvvvvvv" +
		"BBw.VVBZe.w..bx." +
		"mmmmxxx.mmmmmmmm" +
		"rrrrbbbbRRxr...." +
		"p.pp..fF......mm"
	forms0F = "mmmmx.....x.xm.B" +
		"mmmmmmmmmmmmmmmm" +
		"mmmmxxxxmmmmmmmm" +
		"......x.8xAxxxxx" +
		"mmmmmmmmmmmmmmmm" +
		"mmmmmmmmmmmmmmmm" +
		"mmmmmmmmmmmmmmmm" +
		"BBBBmmm.mmxxmmmm" +
		"RRRRRRRRRRRRRRRR" +
		"mmmmmmmmmmmmmmmm" +
		"...mBmmm...mBmmm" +
		"mmmmmmmmmmBmmmmm" +
		"mmBmBBBm........" +
		"mmmmmmmmmmmmmmmm" +
		"mmmmmmmmmmmmmmmm" +
		"mmmmmmmmmmmmmmmm"
)

const maxInst = 15 // bytes; a longer instruction faults

// decoder reads one instruction from code.
type decoder struct {
	code   []byte
	pos    int
	rexB   uint8 // 0 or 8, added to rm and base
	rexR   uint8
	rexX   uint8
	w      bool // REX.W or VEX.W
	op16   bool // prefix 0x66
	addr32 bool // prefix 0x67
}

// decode reads the instruction at the start of code, which lies at addr. It is
// false where there is none, or where it is not whole.
func decode(code []byte, addr uint64, in *inst) bool {
	if len(code) > maxInst {
		code = code[:maxInst]
	}
	*in = inst{addr: addr, base: noReg, index: noReg, width: 4}
	d := decoder{code: code}
	form, ok := d.opcode(in)
	if !ok {
		return false
	}
	switch {
	case d.w:
		in.width = 8
	case d.op16:
		in.width = 2
	}
	in.rm = d.rexB // of a register in the opcode; ModRM has its own
	if !d.operands(form, in) || d.pos > len(d.code) {
		return false
	}
	in.len = uint8(d.pos)
	return true
}

func (d *decoder) byte() (byte, bool) {
	if d.pos >= len(d.code) {
		return 0, false
	}
	b := d.code[d.pos]
	d.pos++
	return b, true
}

// opcode reads prefixes and the opcode, and returns the letter for what follows.
func (d *decoder) opcode(in *inst) (byte, bool) {
	for {
		b, ok := d.byte()
		if !ok {
			return 0, false
		}
		form := formsOne[b]
		switch form {
		case 'p':
			d.prefix(b, in)
			continue
		case '2':
			return d.escape(in)
		case 'V':
			return d.vex(b, in)
		case 'x':
			return 0, false
		}
		if b == 0x8f && d.pos < len(d.code) && d.code[d.pos]&0x1f >= 8 {
			return d.xop(in)
		}
		in.op = b
		return form, true
	}
}

// prefix takes a prefix. A REX prefix counts only directly before the opcode.
func (d *decoder) prefix(b byte, in *inst) {
	rex := b&0xf0 == 0x40
	in.rex = rex
	d.w, d.rexR, d.rexX, d.rexB = false, 0, 0, 0
	switch {
	case rex:
		d.w = b&8 != 0
		d.rexR, d.rexX, d.rexB = b<<1&8, b<<2&8, b<<3&8
	case b == 0x66:
		d.op16 = true
	case b == 0x67:
		d.addr32 = true
	case b == 0xf2 || b == 0xf3:
		in.rep = b
	case b == 0x64 || b == 0x65:
		in.seg = true
	}
}

// escape reads an opcode after 0x0f.
func (d *decoder) escape(in *inst) (byte, bool) {
	b, ok := d.byte()
	if !ok {
		return 0, false
	}
	in.opmap, in.op, in.vlen = map0F, b, 16
	switch form := forms0F[b]; form {
	case '8':
		in.opmap = map38
		in.op, ok = d.byte()
		return 'm', ok
	case 'A':
		in.opmap = map3A
		in.op, ok = d.byte()
		return 'B', ok
	case 'x':
		return 0, false
	default:
		if b == 0x78 && (d.op16 || in.rep == 0xf2) { // EXTRQ, INSERTQ of SSE4a
			return 'i', true
		}
		return form, true
	}
}

// vex reads the rest of a VEX (0xc4, 0xc5) or EVEX (0x62) prefix and its opcode.
func (d *decoder) vex(first byte, in *inst) (byte, bool) {
	size := 2
	switch first {
	case 0xc4:
		size = 3
	case 0x62:
		size = 4
	}
	if d.pos+size > len(d.code) {
		return 0, false
	}
	p := d.code[d.pos : d.pos+size]
	d.pos += size
	d.rexR = ^p[0] >> 4 & 8
	in.vector, in.vlen = true, 16
	if size == 2 {
		in.vvvv, in.vlen = ^p[0]>>3&15, 16<<(p[0]>>2&1)
		return d.vexOpcode(1, p[1], in)
	}
	d.rexX, d.rexB, d.w = ^p[0]>>3&8, ^p[0]>>2&8, p[1]&0x80 != 0
	in.vvvv = ^p[1] >> 3 & 15
	if size == 3 {
		in.vlen = 16 << (p[1] >> 2 & 1)
		return d.vexOpcode(p[0]&0x1f, p[2], in)
	}
	in.vlen = 64
	return d.vexOpcode(p[0]&7, p[3], in)
}

func (d *decoder) vexOpcode(m, op byte, in *inst) (byte, bool) {
	in.op = op
	switch m {
	case 1:
		in.opmap = map0F
		switch {
		case op == 0x77:
			return '.', true
		case op >= 0x70 && op <= 0x73, op == 0xc2, op >= 0xc4 && op <= 0xc6:
			return 'B', true
		}
	case 2:
		in.opmap = map38
	case 3:
		in.opmap = map3A
		return 'B', true
	case 5, 6:
		in.opmap = mapOther
	default:
		return 0, false
	}
	return 'm', true
}

// xop reads the rest of AMD's XOP prefix and its opcode.
func (d *decoder) xop(in *inst) (byte, bool) {
	if d.pos+3 > len(d.code) {
		return 0, false
	}
	p := d.code[d.pos:]
	d.pos += 3
	d.rexR, d.rexX, d.rexB = ^p[0]>>4&8, ^p[0]>>3&8, ^p[0]>>2&8
	in.vector, in.opmap, in.op, in.vlen = true, mapOther, p[2], 32
	switch p[0] & 0x1f {
	case 8:
		return 'B', true
	case 9:
		return 'm', true
	case 10:
		return 'Z', true
	}
	return 0, false
}

// operands reads what form says follows the opcode.
func (d *decoder) operands(form byte, in *inst) bool {
	z := 4
	if d.op16 && !d.w {
		z = 2
	}
	switch form {
	case '.':
		return true
	case 'm':
		return d.readModRM(in)
	case 'b', 'r':
		return d.immediate(1, in)
	case 'B':
		return d.readModRM(in) && d.immediate(1, in)
	case 'w':
		return d.immediate(2, in)
	case 'z':
		return d.immediate(z, in)
	case 'Z':
		return d.readModRM(in) && d.immediate(z, in)
	case 'R':
		return d.immediate(4, in)
	case 'v':
		if d.w {
			z = 8
		}
		return d.immediate(z, in)
	case 'o':
		return d.immediate(d.addressSize(), in)
	case 'e':
		return d.immediate(3, in)
	case 'i':
		return d.readModRM(in) && d.immediate(2, in)
	case 'f', 'F':
		if form == 'f' {
			z = 1
		}
		return d.readModRM(in) && (in.reg&7 > 1 || d.immediate(z, in))
	}
	return false
}

func (d *decoder) addressSize() int {
	if d.addr32 {
		return 4
	}
	return 8
}

// immediate reads n bytes. ENTER's three count as none of interest.
func (d *decoder) immediate(n int, in *inst) bool {
	if d.pos+n > len(d.code) {
		return false
	}
	p := d.code[d.pos:]
	d.pos += n
	switch n {
	case 1:
		in.imm = int64(int8(p[0]))
	case 2:
		in.imm = int64(int16(binary.LittleEndian.Uint16(p)))
	case 4:
		in.imm = int64(int32(binary.LittleEndian.Uint32(p)))
	case 8:
		in.imm = int64(binary.LittleEndian.Uint64(p))
	}
	return true
}

// readModRM reads ModRM, SIB and the displacement.
func (d *decoder) readModRM(in *inst) bool {
	b, ok := d.byte()
	if !ok {
		return false
	}
	in.modrm = true
	in.mod, in.reg, in.rm = b>>6, b>>3&7|d.rexR, b&7|d.rexB
	if in.mod == 3 {
		return true
	}
	size := [3]int{0, 1, 4}[in.mod]
	switch {
	case b&7 == 4:
		if size, ok = d.readSIB(size, in); !ok {
			return false
		}
	case b&7 == 5 && in.mod == 0:
		in.base, size = regRIP, 4
	default:
		in.base = int8(in.rm)
	}
	return d.displacement(size, in)
}

func (d *decoder) readSIB(size int, in *inst) (int, bool) {
	sib, ok := d.byte()
	if !ok {
		return 0, false
	}
	if i := sib>>3&7 | d.rexX; i != 4 {
		in.index, in.scale = int8(i), 1<<(sib>>6)
	}
	if sib&7 == 5 && in.mod == 0 {
		return 4, true
	}
	in.base = int8(sib&7 | d.rexB)
	return size, true
}

func (d *decoder) displacement(size int, in *inst) bool {
	if d.pos+size > len(d.code) {
		return false
	}
	p := d.code[d.pos:]
	d.pos += size
	switch size {
	case 1:
		in.disp = int64(int8(p[0]))
	case 4:
		in.disp = int64(int32(binary.LittleEndian.Uint32(p)))
	}
	return true
}

// end returns the address after the instruction.
func (in *inst) end() uint64 { return in.addr + uint64(in.len) }

// memory returns the address of a memory operand that is relative to the
// instruction or absolute.
func (in *inst) memory() (uint64, bool) {
	if !in.modrm || in.mod == 3 || in.seg || in.index != noReg {
		return 0, false
	}
	switch in.base {
	case regRIP:
		return in.end() + uint64(in.disp), true
	case noReg:
		return uint64(in.disp), true
	}
	return 0, false
}

// flow is what an instruction does to control flow.
type flow uint8

const (
	flowNext    flow = iota
	flowCall         // direct
	flowJump         // direct
	flowCond         // direct, or on
	flowCallMem      // through memory or a register
	flowJumpMem
	flowStop // does not go on: RET, UD2, HLT, INT3
)

// flow returns what in does, and the target of a direct branch.
func (in *inst) flow() (flow, uint64) {
	target := in.end() + uint64(in.imm)
	if in.opmap == map0F && !in.vector {
		switch {
		case in.op >= 0x80 && in.op <= 0x8f:
			return flowCond, target
		case in.op == 0x0b || in.op == 0xb9 || in.op == 0xff:
			return flowStop, 0
		}
		return flowNext, 0
	}
	if in.opmap != mapOne {
		return flowNext, 0
	}
	switch op := in.op; {
	case op == 0xe8:
		return flowCall, target
	case op == 0xe9, op == 0xeb:
		return flowJump, target
	case op >= 0x70 && op <= 0x7f, op >= 0xe0 && op <= 0xe3:
		return flowCond, target
	case op == 0xc2, op == 0xc3, op == 0xca, op == 0xcb, op == 0xcf, op == 0xf4, op == 0xcc:
		return flowStop, 0
	case op == 0xff && in.reg&7 == 2, op == 0xff && in.reg&7 == 3:
		return flowCallMem, 0
	case op == 0xff && in.reg&7 == 4, op == 0xff && in.reg&7 == 5:
		return flowJumpMem, 0
	}
	return flowNext, 0
}

// entryKind returns the way into the kernel that in is, or "".
func (in *inst) entryKind() string {
	switch {
	case in.opmap == map0F && !in.vector && in.op == 0x05:
		return "syscall"
	case in.opmap == map0F && !in.vector && in.op == 0x34:
		return "sysenter"
	case in.opmap == mapOne && in.op == 0xcd && uint8(in.imm) == 0x80:
		return "int 0x80"
	}
	return ""
}

// padding reports whether in does nothing: the kinds of NOP that compilers put
// between functions, and INT3.
func (in *inst) padding() bool {
	switch in.opmap {
	case mapOne:
		return in.op == 0x90 && in.rm == 0 || in.op == 0xcc ||
			in.op == 0x8d && in.modrm && in.mod != 3 && in.base == int8(in.reg) && in.disp == 0 && in.index == noReg
	case map0F:
		return in.op == 0x1f && !in.vector
	}
	return false
}
