package bpf

// Spec says what a program should answer: for every architecture, number and
// arguments. [Spec.Answer] defines it, and [Prove] holds a program against it.
type Spec struct {
	Archs []ArchSpec
	Other uint32 // answer for architectures that are not in Archs
}

// ArchSpec is the part of a [Spec] for one AUDIT_ARCH value.
type ArchSpec struct {
	Arch  uint32
	Cases []Case // for the numbers from Lo up to the next one's; the first from 0
}

// Case has the rules for a range of numbers. The first that holds answers.
type Case struct {
	Lo    uint32
	Rules []Rule
	Else  uint32 // answer if none holds
}

// Rule answers Ret if all tests hold.
type Rule struct {
	Tests []Test
	Ret   uint32
}

// Test compares the bits of an argument that Mask selects: with Jeq, Jgt or
// Jge they are equal to Value, above it, or not below it. Not turns that
// around. Jgt and Jge need a mask of low bits without a gap.
type Test struct {
	Arg   uint8
	Op    uint16
	Not   bool
	Mask  uint64
	Value uint64
}

// Answer returns what the program should answer for d.
func (s *Spec) Answer(d *Data) uint32 {
	for i := range s.Archs {
		if s.Archs[i].Arch == d.Arch {
			return s.Archs[i].find(d.Nr).answer(d)
		}
	}
	return s.Other
}

// find returns the case of a number.
func (a *ArchSpec) find(nr uint32) *Case { return &a.Cases[a.place(nr)] }

func (a *ArchSpec) place(nr uint32) int {
	low, high := 0, len(a.Cases)
	for high-low > 1 {
		if mid := (low + high) / 2; a.Cases[mid].Lo <= nr {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

func (c *Case) answer(d *Data) uint32 {
	for i := range c.Rules {
		if c.Rules[i].holds(d) {
			return c.Rules[i].Ret
		}
	}
	return c.Else
}

func (r *Rule) holds(d *Data) bool {
	for i := range r.Tests {
		if !r.Tests[i].holds(d.Args[r.Tests[i].Arg]) {
			return false
		}
	}
	return true
}

func (t *Test) holds(v uint64) bool {
	v &= t.Mask
	switch t.Op {
	case Jeq:
		return (v == t.Value) != t.Not
	case Jgt:
		return (v > t.Value) != t.Not
	}
	return (v >= t.Value) != t.Not
}
