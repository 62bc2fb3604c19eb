package bpf

// Step is one instruction that ran, with the registers before it.
type Step struct {
	PC   int // index of the instruction
	A, X uint32
}

// Trace returns the instructions that prog runs for d, in order, and its
// answer. Like [Run], it needs a program that passes [Check].
//
// It asks Run for the registers before each instruction, by letting a copy of
// the program return them there. So it takes time in the square of the number
// of steps.
func Trace(prog []Instruction, d *Data) ([]Step, uint32, error) {
	answer, err := Run(prog, d)
	if err != nil {
		return nil, 0, err
	}
	probe := make([]Instruction, len(prog)+1)
	var steps []Step
	for pc := 0; pc < len(prog); {
		// What runs before pc lies before pc, since jumps go forward only.
		copy(probe, prog)
		probe[pc] = Instruction{Op: RetA}
		a, _ := Run(probe, d)
		probe[pc], probe[pc+1] = Instruction{Op: Txa}, Instruction{Op: RetA}
		x, _ := Run(probe, d)
		steps = append(steps, Step{pc, a, x})
		in := &prog[pc]
		operand := in.K
		if in.Op&SrcX != 0 {
			operand = x
		}
		switch {
		case in.Op == RetK, in.Op == RetA, in.Op == Div|SrcX && x == 0:
			return steps, answer, nil
		case in.Op == Ja:
			pc += int(in.K)
		case in.hasTwoTargets():
			pc += in.skip(a, operand)
		}
		pc++
	}
	return steps, answer, nil
}
