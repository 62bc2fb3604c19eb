package bpf

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

// Domains against what they stand for, over words in which all can be tried.
func TestDomains(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	// Values on both sides of every border that the tests below can make.
	var all []uint32
	for v := range uint32(64) {
		all = append(all, v, v<<26, v<<13, ^v, v|v<<26, 1<<31-32+v)
	}
	value := func() uint32 { return all[rng.IntN(len(all))] + uint32(rng.IntN(3)) - 1 }
	for range 20_000 {
		var m sets
		d := domain{in: everything}
		type made struct {
			mask uint32
			op   uint16
			k    uint32
			want bool
		}
		var tests []made
		passes := func(w uint32) bool {
			for _, x := range tests {
				if holds(x.op, w&x.mask, x.k) != x.want {
					return false
				}
			}
			return true
		}
		for range 1 + rng.IntN(5) {
			x := made{maxWord, []uint16{Jeq, Jgt, Jge, Jset}[rng.IntN(4)], value(), rng.IntN(2) == 0}
			if rng.IntN(2) == 0 {
				x.mask = []uint32{value(), ^uint32(1 << rng.IntN(32)), 0xffff, ^uint32(0x20008), 0}[rng.IntN(5)]
			}
			yes, no := m.outcomes(d, x.mask, x.op, x.k)
			next, ok := m.refine(d, x.mask, x.op, x.k, x.want)
			if ok != (x.want && yes || !x.want && no) {
				t.Fatalf("%+v, then %+v: refine says %v, outcomes %v and %v", tests, x, ok, yes, no)
			}
			tests = append(tests, x)
			w, found := next.witness()
			switch {
			case found != ok:
				t.Fatalf("%+v: refine says %v, witness %v", tests, ok, found)
			case ok && !passes(w):
				t.Fatalf("%+v: witness %#x does not pass", tests, w)
			case !ok:
				for _, w := range all {
					if passes(w) {
						t.Fatalf("%+v: said to be empty, but %#x passes", tests, w)
					}
				}
			}
			if !ok {
				break
			}
			d = next
		}
	}
}

// socketSpec allows number 41 with argument 0 of 1 or 2, in 32 bits, and number
// 0 always, on one architecture.
func socketSpec() *Spec {
	return &Spec{Other: 9, Archs: []ArchSpec{{Arch: x86, Cases: []Case{
		{Lo: 0, Else: 1}, {Lo: 1, Else: 2},
		{Lo: 41, Else: 2, Rules: []Rule{
			{Ret: 1, Tests: []Test{{Arg: 0, Op: Jeq, Mask: 1<<32 - 1, Value: 1}}},
			{Ret: 1, Tests: []Test{{Arg: 0, Op: Jeq, Mask: 1<<32 - 1, Value: 2}}},
		}},
		{Lo: 42, Else: 2},
	}}}}
}

func TestProve(t *testing.T) {
	head := func(rest ...Instruction) []Instruction {
		return append([]Instruction{
			{Op: LdAbs, K: OffArch}, {Op: Jeq, JT: 1, K: x86}, ret(9),
			{Op: LdAbs, K: OffNr}, {Op: Jeq, JT: 0, JF: 1, K: 0}, ret(1), {Op: Jeq, JT: 1, K: 41}, ret(2),
			{Op: LdAbs, K: OffArgs},
		}, rest...)
	}
	for _, tc := range []struct {
		name string
		prog []Instruction
		want *Difference // without the example
	}{
		{"as the spec", head(Instruction{Op: Jeq, JT: 1, K: 1}, Instruction{Op: Jeq, JF: 1, K: 2}, ret(1), ret(2)), nil},
		{"in another way", head(Instruction{Op: Jgt, JT: 2, K: 2}, Instruction{Op: Jset, JF: 1, K: maxWord}, ret(1), ret(2)), nil},
		{"by subtraction of constants", head(Instruction{Op: LdxImm, K: 3}, Instruction{Op: Jge | SrcX, JT: 1}, Instruction{Op: Jgt, JT: 1, K: 0}, ret(2), ret(1)), nil},
		{"through memory", head(Instruction{Op: St, K: 3}, Instruction{Op: LdImm, K: 5}, Instruction{Op: LdMem, K: 3}, Instruction{Op: Jeq, JT: 1, K: 1}, Instruction{Op: Jeq, JF: 1, K: 2}, ret(1), ret(2)), nil},
		{"one value missing", head(Instruction{Op: Jeq, JT: 0, JF: 1, K: 1}, ret(1), ret(2)), &Difference{FirstNr: 41, LastNr: 41, Want: 1, Got: 2}},
		{"one value more", head(Instruction{Op: Jgt, JT: 1, K: 2}, ret(1), ret(2)), &Difference{FirstNr: 41, LastNr: 41, Want: 2, Got: 1}},
		{"no value looked at", head(ret(2)), &Difference{FirstNr: 41, LastNr: 41, Want: 1, Got: 2}},
		{"other architectures", []Instruction{ret(2)}, &Difference{FirstNr: 0, LastNr: 0, Want: 1, Got: 2}},
		{"what cannot be followed", head(Instruction{Op: Add, K: 1}, Instruction{Op: Jeq, JT: 1, K: 2}, Instruction{Op: Jeq, JF: 1, K: 4}, ret(1), ret(2)), &Difference{FirstNr: 41, LastNr: 41, Want: 1, Got: 2}},
	} {
		if err := Check(tc.prog); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		err := Prove(tc.prog, socketSpec())
		var d *Difference
		if errors.As(err, &d) {
			checkDifference(t, tc.prog, socketSpec(), d)
			got := *d
			got.Example, got.Where = Data{}, nil
			if tc.want == nil || !reflect.DeepEqual(got, *tc.want) {
				t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
			}
		} else if err != nil || tc.want != nil {
			t.Errorf("%s: %v, want %+v", tc.name, err, tc.want)
		}
	}
	// Right, but by a sum.
	sum := head(Instruction{Op: Add, K: 1}, Instruction{Op: Jeq, JT: 1, K: 2}, Instruction{Op: Jeq, JF: 1, K: 3}, ret(1), ret(2))
	if err := Prove(sum, socketSpec()); !errors.Is(err, ErrTooComplex) {
		t.Errorf("a sum: %v", err)
	}
}

// checkDifference holds that a difference is one.
func checkDifference(t *testing.T, prog []Instruction, s *Spec, d *Difference) {
	t.Helper()
	got, err := Run(prog, &d.Example)
	if want := s.Answer(&d.Example); err != nil || got == want || got != d.Got || want != d.Want {
		t.Fatalf("%v: is none: %#x, %v, the spec says %#x\n%s", d, got, err, want, Format(prog))
	}
}

// All differences, not only the first.
func TestDifferences(t *testing.T) {
	prog := []Instruction{
		{Op: LdAbs, K: OffArch}, {Op: Jeq, JT: 1, K: x86}, ret(9),
		{Op: LdAbs, K: OffNr}, {Op: Jeq, JT: 1, K: 41}, ret(2), ret(1),
	}
	var nrs []uint32
	if err := Differences(prog, socketSpec(), func(d *Difference) bool {
		checkDifference(t, prog, socketSpec(), d)
		nrs = append(nrs, d.FirstNr)
		return true
	}); err != nil {
		t.Fatal(err)
	}
	// Number 0, and 41 with 0 and with 3 and more.
	if len(nrs) < 2 || nrs[len(nrs)-1] != 0 && nrs[0] != 0 {
		t.Errorf("differences at %v", nrs)
	}
}

// FuzzProve holds that what is proved is so, and that differences are real.
func FuzzProve(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add([]byte{0, 16, 1, 2, 0x15, 41, 1, 2, 0x54, 3, 0x35, 9, 1, 1, 6, 1, 6, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		prog := fuzzProgram(b)
		if Check(prog) != nil {
			return
		}
		s := socketSpec()
		err := Prove(prog, s)
		var d *Difference
		if errors.As(err, &d) {
			checkDifference(t, prog, s, d)
		}
		if err != nil {
			return
		}
		rng := rand.New(rand.NewPCG(2, uint64(len(b))))
		for range 200 {
			d := &Data{Nr: []uint32{0, 1, 40, 41, 42, rng.Uint32()}[rng.IntN(6)], Arch: []uint32{x86, x86, x86, 0, rng.Uint32()}[rng.IntN(5)]}
			d.Args[0] = []uint64{0, 1, 2, 3, 1<<32 | 1, rng.Uint64()}[rng.IntN(6)]
			got, err := Run(prog, d)
			if want := s.Answer(d); err != nil || got != want {
				t.Fatalf("%+v: proved, but %#x, %v, want %#x\n%s", d, got, err, want, Format(prog))
			}
		}
	})
}

// fuzzProgram makes a program of bytes.
func fuzzProgram(b []byte) []Instruction {
	ops := []uint16{LdAbs, LdAbs, And, Jeq, Jeq, Jge, Jgt, Jset, Ja, RetK, RetK, LdImm, St, LdMem, Tax, Txa, LdxImm, Add, Div | SrcX, Jeq | SrcX, RetA, Sub, Lsh, Neg}
	next := func() uint32 {
		if len(b) == 0 {
			return 0
		}
		v := b[0]
		b = b[1:]
		return uint32(v)
	}
	var prog []Instruction
	for len(b) > 0 && len(prog) < 40 {
		in := Instruction{Op: ops[next()%uint32(len(ops))]}
		in.K = next()
		switch {
		case in.Op == LdAbs:
			in.K = in.K % 8 * 4
		case in.K == 255:
			in.K = x86
		case in.K >= 240:
			in.K = 1 << (in.K - 232)
		}
		if in.isBranch() {
			in.JT, in.JF = uint8(next()%6), uint8(next()%6)
		}
		prog = append(prog, in)
	}
	return append(prog, ret(1), ret(2), ret(9))
}
