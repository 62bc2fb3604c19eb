package bpf

import (
	"errors"
	"fmt"
)

// Check reports whether the kernel would accept prog as a seccomp filter, and
// if not, the first reason: its length, an opcode that seccomp does not allow,
// a load that is not of an aligned word of seccomp_data, a jump out of the
// program, a constant that makes the instruction meaningless, scratch memory
// that some path reads before it was written, or an end that is no return.
func Check(prog []Instruction) error {
	if len(prog) == 0 {
		return errors.New("empty program")
	}
	if len(prog) > MaxLen {
		return fmt.Errorf("program has %d instructions; the kernel accepts at most %d", len(prog), MaxLen)
	}
	for pc, in := range prog {
		if err := checkOne(in, len(prog)-pc-1); err != nil {
			return fmt.Errorf("instruction %d: %w", pc, err)
		}
	}
	if op := prog[len(prog)-1].Op; op != RetK && op != RetA {
		return errors.New("last instruction is no return")
	}
	return checkMemory(prog)
}

// checkOne checks an instruction that has rest others behind it.
func checkOne(in Instruction, rest int) error {
	switch in.Op {
	case LdAbs:
		if in.K >= dataSize || in.K%4 != 0 {
			return fmt.Errorf("load from %d, which is no word of seccomp_data", in.K)
		}
	case LdMem, LdxMem, St, Stx:
		if in.K >= memWords {
			return fmt.Errorf("scratch memory has no word %d", in.K)
		}
	case Div:
		if in.K == 0 {
			return errors.New("division by zero")
		}
	case Lsh, Rsh:
		if in.K >= 32 {
			return fmt.Errorf("shift by %d bits", in.K)
		}
	case Ja:
		if in.K >= uint32(rest) {
			return errors.New("jump out of the program")
		}
	case Jeq, Jgt, Jge, Jset, Jeq | SrcX, Jgt | SrcX, Jge | SrcX, Jset | SrcX:
		if max(int(in.JT), int(in.JF)) >= rest {
			return errors.New("jump out of the program")
		}
	case LdLen, LdImm, LdxLen, LdxImm, Add, Sub, Mul, Or, And, Xor, Neg, RetK, RetA, Tax, Txa,
		Add | SrcX, Sub | SrcX, Mul | SrcX, Div | SrcX, Or | SrcX, And | SrcX, Xor | SrcX, Lsh | SrcX, Rsh | SrcX:
	default:
		return fmt.Errorf("opcode %#02x is not allowed in a seccomp filter", in.Op)
	}
	return nil
}

// checkMemory finds loads of scratch words that some path did not store. Jumps
// go forward only, so one pass sees every way to an instruction before it.
func checkMemory(prog []Instruction) error {
	var stored [MaxLen]uint16 // the complement of what every jump to here stored
	const unreachable = 0xffff
	valid := uint16(0)
	for pc, in := range prog {
		valid &^= stored[pc]
		switch in.Op {
		case St, Stx:
			valid |= 1 << in.K
		case LdMem, LdxMem:
			if valid&(1<<in.K) == 0 {
				return fmt.Errorf("instruction %d: scratch word %d may be read before it is written", pc, in.K)
			}
		case Ja:
			stored[pc+1+int(in.K)] |= ^valid
			valid = unreachable
		case Jeq, Jgt, Jge, Jset, Jeq | SrcX, Jgt | SrcX, Jge | SrcX, Jset | SrcX:
			stored[pc+1+int(in.JT)] |= ^valid
			stored[pc+1+int(in.JF)] |= ^valid
			valid = unreachable
		}
	}
	return nil
}
