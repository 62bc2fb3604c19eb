package bpf

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
)

const allow = 0x7fff0000

func ret(k uint32) Instruction { return Instruction{Op: RetK, K: k} }

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name string
		prog []Instruction
		want string // part of the message; "" for none
	}{
		{"smallest", []Instruction{ret(0)}, ""},
		{"return A", []Instruction{{Op: LdLen}, {Op: RetA}}, ""},
		{"return X", []Instruction{{Op: 0x0e}}, "opcode 0x0e"},
		{"empty", nil, "empty program"},
		{"longest", append(make([]Instruction, MaxLen-1), ret(0)), ""},
		{"too long", append(make([]Instruction, MaxLen), ret(0)), "4097 instructions"},
		{"no return", []Instruction{{Op: LdAbs}}, "last instruction is no return"},
		{"last word", []Instruction{{Op: LdAbs, K: 60}, ret(0)}, ""},
		{"behind the data", []Instruction{{Op: LdAbs, K: 64}, ret(0)}, "load from 64"},
		{"unaligned", []Instruction{{Op: LdAbs, K: 2}, ret(0)}, "load from 2"},
		{"half word", []Instruction{{Op: 0x28}, ret(0)}, "opcode 0x28"},
		{"byte", []Instruction{{Op: 0x30}, ret(0)}, "opcode 0x30"},
		{"indirect", []Instruction{{Op: 0x40}, ret(0)}, "opcode 0x40"},
		{"mod", []Instruction{{Op: 0x94, K: 3}, ret(0)}, "opcode 0x94"},
		{"jump to the end", []Instruction{{Op: Ja}, ret(0)}, ""},
		{"jump behind the end", []Instruction{{Op: Ja, K: 1}, ret(0)}, "jump out"},
		{"jump far", []Instruction{{Op: Ja, K: 1<<32 - 1}, ret(0)}, "jump out"},
		{"branch", []Instruction{{Op: Jeq, JT: 1}, ret(0), ret(1)}, ""},
		{"branch out, true", []Instruction{{Op: Jgt, JT: 2}, ret(0), ret(1)}, "jump out"},
		{"branch out, false", []Instruction{{Op: Jset | SrcX, JF: 2}, ret(0), ret(1)}, "jump out"},
		{"divide", []Instruction{{Op: Div, K: 1}, ret(0)}, ""},
		{"divide by 0", []Instruction{{Op: Div}, ret(0)}, "division by zero"},
		{"divide by X", []Instruction{{Op: Div | SrcX}, ret(0)}, ""},
		{"shift", []Instruction{{Op: Lsh, K: 31}, ret(0)}, ""},
		{"shift too far", []Instruction{{Op: Rsh, K: 32}, ret(0)}, "shift by 32"},
		{"memory", []Instruction{{Op: St, K: 15}, {Op: LdMem, K: 15}, ret(0)}, ""},
		{"memory too high", []Instruction{{Op: Stx, K: 16}, ret(0)}, "no word 16"},
		{"unwritten memory", []Instruction{{Op: St, K: 1}, {Op: LdxMem, K: 0}, ret(0)}, "read before it is written"},
		{"memory written on one path", []Instruction{{Op: Jeq, JT: 1}, {Op: St}, {Op: LdMem}, ret(0)}, "read before it is written"},
		{"memory written on both paths", []Instruction{{Op: Jeq, JT: 2}, {Op: St}, {Op: Ja, K: 1}, {Op: Stx}, {Op: LdMem}, ret(0)}, ""},
	} {
		err := Check(tc.prog)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestRun(t *testing.T) {
	d := &Data{Nr: 7, Arch: 0xc000003e, IP: 0x1122334455667788, Args: [6]uint64{0xaaaabbbbccccdddd, 1, 2, 3, 4, 0x5555666677778888}}
	a := func(in ...Instruction) []Instruction { return append(in, Instruction{Op: RetA}) }
	ld := func(k uint32) Instruction { return Instruction{Op: LdImm, K: k} }
	ldx := func(k uint32) Instruction { return Instruction{Op: LdxImm, K: k} }
	for _, tc := range []struct {
		name string
		prog []Instruction
		want uint32
	}{
		{"return", []Instruction{ret(5)}, 5},
		{"nr", a(Instruction{Op: LdAbs, K: OffNr}), 7},
		{"arch", a(Instruction{Op: LdAbs, K: OffArch}), 0xc000003e},
		{"ip low", a(Instruction{Op: LdAbs, K: OffIP}), 0x55667788},
		{"ip high", a(Instruction{Op: LdAbs, K: OffIP + 4}), 0x11223344},
		{"arg 0 low", a(Instruction{Op: LdAbs, K: OffArg(x86, 0, false)}), 0xccccdddd},
		{"arg 0 high", a(Instruction{Op: LdAbs, K: OffArg(x86, 0, true)}), 0xaaaabbbb},
		{"arg 5 high", a(Instruction{Op: LdAbs, K: OffArg(x86, 5, true)}), 0x55556666},
		{"length", a(Instruction{Op: LdLen}), 64},
		{"length to X", a(Instruction{Op: LdxLen}, Instruction{Op: Txa}), 64},
		{"memory", a(ld(9), Instruction{Op: St, K: 3}, ld(0), Instruction{Op: LdMem, K: 3}), 9},
		{"memory by X", a(ldx(9), Instruction{Op: Stx, K: 3}, ldx(0), Instruction{Op: LdxMem, K: 3}, Instruction{Op: Txa}), 9},
		{"tax", a(ld(9), Instruction{Op: Tax}, ld(0), Instruction{Op: Txa}), 9},
		{"add", a(ld(1<<32-1), Instruction{Op: Add, K: 2}), 1},
		{"sub", a(ld(1), Instruction{Op: Sub, K: 2}), 1<<32 - 1},
		{"mul", a(ld(1<<31), Instruction{Op: Mul, K: 3}), 1 << 31},
		{"div", a(ld(7), Instruction{Op: Div, K: 2}), 3},
		{"div x", a(ld(7), ldx(2), Instruction{Op: Div | SrcX}), 3},
		{"div by zero", a(ld(7), Instruction{Op: Div | SrcX}), 0},
		{"or", a(ld(5), Instruction{Op: Or, K: 2}), 7},
		{"and", a(ld(5), ldx(4), Instruction{Op: And | SrcX}), 4},
		{"xor", a(ld(5), Instruction{Op: Xor, K: 1}), 4},
		{"lsh", a(ld(5), Instruction{Op: Lsh, K: 31}), 1 << 31},
		{"rsh x", a(ld(1<<31), ldx(31), Instruction{Op: Rsh | SrcX}), 1},
		{"neg", a(ld(1), Instruction{Op: Neg}), 1<<32 - 1},
		{"ja", []Instruction{{Op: Ja, K: 1}, ret(1), ret(2)}, 2},
		{"jeq", []Instruction{ld(4), {Op: Jeq, JT: 1, K: 4}, ret(1), ret(2)}, 2},
		{"jgt is not jge", []Instruction{ld(4), {Op: Jgt, JT: 1, K: 4}, ret(1), ret(2)}, 1},
		{"jge", []Instruction{ld(4), {Op: Jge, JT: 1, K: 4}, ret(1), ret(2)}, 2},
		{"jge has no sign", []Instruction{ld(1 << 31), {Op: Jge, JT: 1, K: 4}, ret(1), ret(2)}, 2},
		{"jset", []Instruction{ld(6), {Op: Jset, JT: 1, K: 3}, ret(1), ret(2)}, 2},
		{"jset none", []Instruction{ld(4), {Op: Jset, JT: 1, K: 3}, ret(1), ret(2)}, 1},
		{"jeq x", []Instruction{ld(4), ldx(4), {Op: Jeq | SrcX, JT: 1}, ret(1), ret(2)}, 2},
	} {
		if err := Check(tc.prog); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if got, err := Run(tc.prog, d); err != nil || got != tc.want {
			t.Errorf("%s: got %#x, %v, want %#x", tc.name, got, err, tc.want)
		}
	}
}

func TestRunBadPrograms(t *testing.T) {
	for _, prog := range [][]Instruction{
		nil, {{Op: LdAbs, K: 1}, ret(0)}, {{Op: LdAbs, K: 64}, ret(0)}, {{Op: 0x94, K: 3}, ret(0)},
		{{Op: Ja, K: 1<<32 - 1}, ret(0)}, {{Op: Jeq, JT: 9, JF: 9}, ret(0)}, {{Op: LdImm}},
	} {
		if got, err := Run(prog, &Data{}); err == nil {
			t.Errorf("%v: no error but %#x", prog, got)
		}
	}
}

// x86 is a little-endian architecture.
const x86 = 0xc000003e

func TestConstant(t *testing.T) {
	const arch = 0xc000003e
	prog := []Instruction{
		0:  {Op: LdAbs, K: OffArch},
		1:  {Op: Jeq, JT: 1, K: arch},
		2:  ret(0),
		3:  {Op: LdAbs, K: OffNr},
		4:  {Op: Jeq, JT: 4, K: 1}, // loads an argument
		5:  {Op: Jge, JT: 5, K: 100},
		6:  {Op: And, K: 3},
		7:  {Op: Jset, JT: 1, K: 2},
		8:  ret(8),
		9:  {Op: LdAbs, K: OffArg(x86, 0, false)}, // for nr 1 and nr&2
		10: ret(allow),
		11: {Op: Ja, K: 0},
		12: ret(12),
	}
	if err := Check(prog); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		arch, nr, want uint32
		ok             bool
	}{
		{1, 4, 0, true}, {arch, 4, 8, true}, {arch, 1, 0, false}, {arch, 2, 0, false}, {arch, 100, 12, true},
	} {
		if got, ok := Constant(prog, tc.arch, tc.nr); got != tc.want || ok != tc.ok {
			t.Errorf("arch %#x nr %d: %d, %v", tc.arch, tc.nr, got, ok)
		}
	}
	if _, ok := Constant([]Instruction{{Op: LdImm, K: 1}, ret(allow)}, 0, 0); ok {
		t.Error("the kernel does not follow a load of a constant")
	}
}

const formatted = `   0: ld [arch]
   1: jeq #0xc000003e, 2, 27
   2: ld [nr]
   3: jge #0x40000000, 4, 5
   4: ja 27
   5: and #0xff
   6: st M[3]
   7: stx M[4]
   8: ld M[3]
   9: ldx M[4]
  10: ld #0x1
  11: ldx #0x2
  12: ld len
  13: ldx len
  14: add x
  15: sub #0x3
  16: neg
  17: tax
  18: txa
  19: jset x, 20, 21
  20: jgt #0x7, 21, 22
  21: ld [arg0.lo]
  22: ld [arg5.hi]
  23: ld [ip.lo]
  24: ld [ip.hi]
  25: lsh #0x1
  26: ret a
  27: ret #0x7fff0000
  28: .insn 0x94, 1, 2, 0x3
  29: ld [64]
`

func TestFormat(t *testing.T) {
	prog := []Instruction{
		{Op: LdAbs, K: OffArch}, {Op: Jeq, JF: 25, K: 0xc000003e}, {Op: LdAbs}, {Op: Jge, JF: 1, K: 1 << 30},
		{Op: Ja, K: 22}, {Op: And, K: 255}, {Op: St, K: 3}, {Op: Stx, K: 4}, {Op: LdMem, K: 3}, {Op: LdxMem, K: 4},
		{Op: LdImm, K: 1}, {Op: LdxImm, K: 2}, {Op: LdLen}, {Op: LdxLen}, {Op: Add | SrcX}, {Op: Sub, K: 3}, {Op: Neg},
		{Op: Tax}, {Op: Txa}, {Op: Jset | SrcX, JF: 1}, {Op: Jgt, JF: 1, K: 7}, {Op: LdAbs, K: OffArg(x86, 0, false)},
		{Op: LdAbs, K: OffArg(x86, 5, true)}, {Op: LdAbs, K: OffIP}, {Op: LdAbs, K: OffIP + 4}, {Op: Lsh, K: 1}, {Op: RetA},
		{Op: RetK, K: allow}, {Op: 0x94, JT: 1, JF: 2, K: 3}, {Op: LdAbs, K: 64},
	}
	got := strings.Split(Format(prog), "\n")
	for i, want := range strings.Split(formatted, "\n") {
		if i >= len(got) || got[i] != want {
			t.Errorf("line %d: %q, want %q", i, got[i], want)
		}
	}
	if got := (Instruction{Op: Jeq, JT: 3, JF: 4, K: 5}).String(); got != "jeq #0x5, +3, +4" {
		t.Errorf("String: %q", got)
	}
}

// random draws an instruction that may be wrong in any way.
func random(rng *rand.Rand, rest int) Instruction {
	ops := []uint16{LdAbs, LdLen, LdImm, LdMem, LdxLen, LdxImm, LdxMem, St, Stx, Add, Sub, Mul, Div, Or, And, Lsh, Rsh, Neg,
		Xor, Ja, Jeq, Jgt, Jge, Jset, Tax, Txa, Add | SrcX, Div | SrcX, Lsh | SrcX, Jeq | SrcX, Jset | SrcX, RetK, RetA}
	in := Instruction{Op: ops[rng.IntN(len(ops))], K: uint32(rng.IntN(20)) * 4}
	switch in.Op {
	case LdMem, LdxMem, St, Stx:
		in.K = uint32(rng.IntN(17))
	case Lsh, Rsh:
		in.K = uint32(rng.IntN(34))
	case Ja:
		in.K = uint32(rng.IntN(rest + 1))
	}
	if in.Op&7 == 5 {
		in.JT, in.JF = uint8(rng.IntN(rest+1)), uint8(rng.IntN(rest+1))
	}
	if rng.IntN(40) == 0 {
		in.Op = uint16(rng.IntN(256))
	}
	return in
}

// FuzzRun holds that nothing makes the interpreter, the kernel's evaluator or
// the disassembler fail, and that a program which Check accepts always answers,
// with the answer of the evaluator where that has one.
func FuzzRun(f *testing.F) {
	f.Add([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 0x06, 0, 0, 0, 0, 0, 0xff, 0x7f}, uint32(1), uint64(2))
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		var b []byte
		for i := range 10 {
			in := random(rng, 10-i)
			b = binary.LittleEndian.AppendUint16(b, in.Op)
			b = append(b, in.JT, in.JF)
			b = binary.LittleEndian.AppendUint32(b, in.K)
		}
		f.Add(append(b, 6, 0, 0, 0, 0, 0, 0, 0), rng.Uint32(), rng.Uint64())
	}
	f.Fuzz(func(t *testing.T, b []byte, nr uint32, arg uint64) {
		var prog []Instruction
		for ; len(b) >= 8; b = b[8:] {
			prog = append(prog, Instruction{binary.LittleEndian.Uint16(b), b[2], b[3], binary.LittleEndian.Uint32(b[4:])})
		}
		d := &Data{Nr: nr, Arch: 0xc000003e, Args: [6]uint64{arg, arg >> 7}}
		Format(prog)
		got, err := Run(prog, d)
		want, ok := Constant(prog, d.Arch, d.Nr)
		if Check(prog) != nil {
			return
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, Format(prog))
		}
		if ok && got != want {
			t.Fatalf("Run %#x, Constant %#x\n%s", got, want, Format(prog))
		}
	})
}
