package seccomp

import (
	"slices"

	"github.com/brig-run/brig/seccomp/bpf"
)

// label is an instruction to jump to, by its place in assembler.rev.
type label int

// maxSkip is how far a conditional jump reaches.
const maxSkip = 255

// assembler collects the instructions of a program from the last to the first.
// Each method emits instructions that run before those emitted so far, and
// returns the one to enter at.
type assembler struct {
	rev  []bpf.Instruction
	rets []savedRet // the latest return of each action
}

type savedRet struct {
	action Action
	at     label
}

func (a *assembler) emit(in bpf.Instruction) label {
	a.rev = append(a.rev, in)
	return label(len(a.rev) - 1)
}

// skip returns how many instructions lie between one emitted now and l.
func (a *assembler) skip(l label) int { return len(a.rev) - 1 - int(l) }

// ret returns a place that returns action, one in reach if there is any.
func (a *assembler) ret(action Action) label {
	for i := range a.rets {
		r := &a.rets[i]
		if r.action != action {
			continue
		}
		// Leave room for what is emitted before the jump.
		if a.skip(r.at) > maxSkip/2 {
			r.at = a.emit(bpf.Instruction{Op: bpf.RetK, K: uint32(action)})
		}
		return r.at
	}
	at := a.emit(bpf.Instruction{Op: bpf.RetK, K: uint32(action)})
	a.rets = append(a.rets, savedRet{action, at})
	return at
}

// near returns a place that does what l does and that is emitted now: a copy
// of a return, or a jump.
func (a *assembler) near(l label) label {
	if in := a.rev[l]; in.Op == bpf.RetK {
		return a.emit(in)
	}
	return a.emit(bpf.Instruction{Op: bpf.Ja, K: uint32(a.skip(l))})
}

// branch emits a conditional jump: to yes if the test of A holds, else to no.
func (a *assembler) branch(op uint16, k uint32, yes, no label) label {
	if yes == no {
		return yes
	}
	for a.skip(yes) > maxSkip || a.skip(no) > maxSkip {
		if a.skip(yes) > maxSkip {
			yes = a.near(yes)
		}
		if a.skip(no) > maxSkip {
			no = a.near(no)
		}
	}
	return a.emit(bpf.Instruction{Op: op, JT: uint8(a.skip(yes)), JF: uint8(a.skip(no)), K: k})
}

// step emits an instruction that goes on to next.
func (a *assembler) step(in bpf.Instruction, next label) label {
	if a.skip(next) != 0 {
		a.near(next)
	}
	return a.emit(in)
}

// load emits a load of a word of seccomp_data into A.
func (a *assembler) load(off uint32, next label) label {
	return a.step(bpf.Instruction{Op: bpf.LdAbs, K: off}, next)
}

// finish returns the program in its order.
func (a *assembler) finish() []bpf.Instruction {
	slices.Reverse(a.rev)
	return a.rev
}
