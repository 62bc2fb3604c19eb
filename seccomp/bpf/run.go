package bpf

import "errors"

// Run returns what prog answers for d. The program must pass [Check]; one that
// does not ends in an error or in an answer without meaning, but never in a
// panic or an endless loop.
func Run(prog []Instruction, d *Data) (uint32, error) {
	var a, x uint32
	var mem [memWords]uint32
	for pc := 0; pc < len(prog); pc++ {
		in := &prog[pc]
		operand := in.K
		if in.Op&SrcX != 0 {
			operand = x
		}
		switch in.Op {
		case LdAbs:
			if in.K >= dataSize || in.K%4 != 0 {
				return 0, errBadProgram
			}
			a = d.word(in.K)
		case LdLen:
			a = dataSize
		case LdImm:
			a = in.K
		case LdMem:
			a = mem[in.K%memWords]
		case LdxLen:
			x = dataSize
		case LdxImm:
			x = in.K
		case LdxMem:
			x = mem[in.K%memWords]
		case St:
			mem[in.K%memWords] = a
		case Stx:
			mem[in.K%memWords] = x
		case Div, Div | SrcX:
			// The kernel ends a program that divides by zero with 0, which
			// seccomp takes for SECCOMP_RET_KILL_THREAD.
			if operand == 0 {
				return 0, nil
			}
			a /= operand
		case Neg:
			a = -a
		case Ja:
			pc += int(min(in.K, uint32(len(prog))))
		case Jeq, Jgt, Jge, Jset, Jeq | SrcX, Jgt | SrcX, Jge | SrcX, Jset | SrcX:
			pc += in.skip(a, operand)
		case RetK:
			return in.K, nil
		case RetA:
			return a, nil
		case Tax:
			x = a
		case Txa:
			a = x
		default:
			var ok bool
			if a, ok = arithmetic(in.Op, a, operand); !ok {
				return 0, errBadProgram
			}
		}
	}
	return 0, errBadProgram
}

var errBadProgram = errors.New("the program is no valid seccomp filter")

func arithmetic(op uint16, a, operand uint32) (uint32, bool) {
	switch op &^ SrcX {
	case Add:
		return a + operand, true
	case Sub:
		return a - operand, true
	case Mul:
		return a * operand, true
	case Or:
		return a | operand, true
	case And:
		return a & operand, true
	case Xor:
		return a ^ operand, true
	case Lsh:
		return a << (operand & 31), true
	case Rsh:
		return a >> (operand & 31), true
	}
	return 0, false
}

// skip returns how many instructions a conditional jump skips.
func (in *Instruction) skip(a, operand uint32) int {
	var taken bool
	switch in.Op &^ SrcX {
	case Jeq:
		taken = a == operand
	case Jgt:
		taken = a > operand
	case Jge:
		taken = a >= operand
	case Jset:
		taken = a&operand != 0
	}
	if taken {
		return int(in.JT)
	}
	return int(in.JF)
}

// Constant returns what prog answers for every call of number nr on the given
// architecture, as far as the kernel itself can tell at load. The kernel
// (5.11 and later) keeps a bitmap of the numbers for which this is
// SECCOMP_RET_ALLOW and does not run the filter for them again. It follows
// only loads of nr and arch, jumps on constants, and AND with a constant; at
// anything else it gives up, and so does Constant.
func Constant(prog []Instruction, arch, nr uint32) (uint32, bool) {
	var a uint32
	for pc := 0; pc < len(prog); pc++ {
		in := &prog[pc]
		switch in.Op {
		case LdAbs:
			switch in.K {
			case OffNr:
				a = nr
			case OffArch:
				a = arch
			default:
				return 0, false
			}
		case RetK:
			return in.K, true
		case Ja:
			pc += int(min(in.K, uint32(len(prog))))
		case Jeq, Jgt, Jge, Jset:
			pc += in.skip(a, in.K)
		case And:
			a &= in.K
		default:
			return 0, false
		}
	}
	return 0, false
}
