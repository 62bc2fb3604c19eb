package bpf

import (
	"fmt"
	"strings"
)

// Format returns prog as text, one instruction a line, each with its index.
// Jump targets are indexes.
func Format(prog []Instruction) string {
	var b strings.Builder
	for pc, in := range prog {
		fmt.Fprintf(&b, "%4d: %s\n", pc, in.text(pc))
	}
	return b.String()
}

// String returns the instruction as text, with jump targets as "+n", the
// number of instructions skipped.
func (in Instruction) String() string { return in.text(-1) }

func (in Instruction) text(pc int) string {
	target := func(skip uint32) string {
		if pc < 0 {
			return fmt.Sprintf("+%d", skip)
		}
		return fmt.Sprint(uint64(pc) + 1 + uint64(skip))
	}
	switch in.Op {
	case LdAbs:
		return "ld " + field(in.K)
	case LdLen:
		return "ld len"
	case LdImm:
		return fmt.Sprintf("ld #%#x", in.K)
	case LdMem:
		return fmt.Sprintf("ld M[%d]", in.K)
	case LdxLen:
		return "ldx len"
	case LdxImm:
		return fmt.Sprintf("ldx #%#x", in.K)
	case LdxMem:
		return fmt.Sprintf("ldx M[%d]", in.K)
	case St:
		return fmt.Sprintf("st M[%d]", in.K)
	case Stx:
		return fmt.Sprintf("stx M[%d]", in.K)
	case Neg:
		return "neg"
	case Ja:
		return "ja " + target(in.K)
	case RetK:
		return fmt.Sprintf("ret #%#x", in.K)
	case RetA:
		return "ret a"
	case Tax:
		return "tax"
	case Txa:
		return "txa"
	}
	operand := fmt.Sprintf("#%#x", in.K)
	if in.Op&SrcX != 0 {
		operand = "x"
	}
	name, jump := mnemonic(in.Op &^ SrcX)
	switch {
	case name == "":
		return fmt.Sprintf("bad op=%#04x jt=%d jf=%d k=%#x", in.Op, in.JT, in.JF, in.K)
	case jump:
		return fmt.Sprintf("%s %s, %s, %s", name, operand, target(uint32(in.JT)), target(uint32(in.JF)))
	}
	return name + " " + operand
}

func mnemonic(op uint16) (name string, jump bool) {
	switch op {
	case Add:
		return "add", false
	case Sub:
		return "sub", false
	case Mul:
		return "mul", false
	case Div:
		return "div", false
	case Or:
		return "or", false
	case And:
		return "and", false
	case Lsh:
		return "lsh", false
	case Rsh:
		return "rsh", false
	case Xor:
		return "xor", false
	case Jeq:
		return "jeq", true
	case Jgt:
		return "jgt", true
	case Jge:
		return "jge", true
	case Jset:
		return "jset", true
	}
	return "", false
}

// field names the word of seccomp_data at offset off.
func field(off uint32) string {
	switch {
	case off == OffNr:
		return "[nr]"
	case off == OffArch:
		return "[arch]"
	case off == OffIP:
		return "[ip.lo]"
	case off == OffIP+4:
		return "[ip.hi]"
	case off >= OffArgs && off < dataSize && off%8 == 0:
		return fmt.Sprintf("[arg%d.lo]", (off-OffArgs)/8)
	case off >= OffArgs && off < dataSize && off%8 == 4:
		return fmt.Sprintf("[arg%d.hi]", (off-OffArgs)/8)
	}
	return fmt.Sprintf("[%d]", off)
}
