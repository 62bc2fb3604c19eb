package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// every has one instruction of each kind and some that have no text.
var every = []Instruction{
	{Op: LdAbs, K: OffArch}, {Op: LdAbs, K: OffNr}, {Op: LdAbs, K: OffIP}, {Op: LdAbs, K: OffIP + 4},
	{Op: LdAbs, K: OffArgs}, {Op: LdAbs, K: OffArgs + 44}, {Op: LdAbs, K: 64}, {Op: LdAbs, K: 3},
	{Op: LdLen}, {Op: LdImm, K: 1}, {Op: LdMem, K: 3}, {Op: LdxLen}, {Op: LdxImm, K: 1 << 31}, {Op: LdxMem, K: 15},
	{Op: St, K: 0}, {Op: Stx, K: 99}, {Op: Neg}, {Op: Tax}, {Op: Txa}, {Op: Ja, K: 4}, {Op: Ja}, {Op: Ja, K: 1<<32 - 1},
	{Op: Jeq, JT: 0, JF: 2, K: 41}, {Op: Jgt | SrcX, JT: 1, JF: 0}, {Op: Jset, JT: 255, JF: 254, K: 1}, {Op: Jge, JT: 0, JF: 1, K: 9},
	{Op: Add, K: 1}, {Op: Sub | SrcX}, {Op: Mul, K: 2}, {Op: Div, K: 0}, {Op: Or, K: 1}, {Op: And | SrcX}, {Op: Xor, K: 5},
	{Op: Lsh, K: 31}, {Op: Rsh | SrcX}, {Op: RetA}, {Op: RetK, K: 0x7fff0000},
	{Op: RetK, JT: 1}, {Op: Add | SrcX, K: 1}, {Op: 0x94, JT: 1, JF: 2, K: 3}, {Op: 0xffff}, {Op: Neg | SrcX}, {Op: Ja, JT: 7, K: 1},
}

// styles are those of every kind.
func styles(n int) []Style {
	names := make([]string, n)
	comments := make([]string, n)
	for i := range n {
		if i%3 == 0 {
			names[i] = fmt.Sprintf("x%d_", i)
		}
		if i%2 == 0 {
			comments[i] = "ret: a; [comment] #1"
		}
	}
	if n > 1 {
		names[1] = "L1" // a name like those that are given
	}
	return []Style{{}, {BigEndian: true}, {Labels: []string{}}, {Labels: names, Comments: comments}, {BigEndian: true, Labels: names}}
}

func TestParseReadsWhatFormatPrints(t *testing.T) {
	for i, s := range styles(len(every)) {
		text := s.Format(every)
		got, err := Parse(text)
		if err != nil {
			t.Fatalf("style %d: %v\n%s", i, err, text)
		}
		if !slices.Equal(got, every) {
			for pc := range every {
				if pc >= len(got) || got[pc] != every[pc] {
					t.Fatalf("style %d: instruction %d is read as %+v, was %+v\n%s", i, pc, got[pc], every[pc], text)
				}
			}
		}
	}
}

func TestStyles(t *testing.T) {
	prog := []Instruction{
		{Op: LdAbs, K: OffArch}, {Op: Jeq, JT: 0, JF: 3, K: 5}, {Op: LdAbs, K: OffArgs}, {Op: Jgt, JT: 1, JF: 0, K: 2}, ret(0), ret(1),
	}
	named := Style{Labels: []string{2: "native"}, Comments: []string{1: "arch 5", 5: "last"}}
	const want = `    ld [arch]
    jeq #0x5, next, L1             ; arch 5
native:
    ld [arg0.lo]
    jgt #0x2, L1, next
    ret #0x0
L1:
    ret #0x1                       ; last
`
	if got := named.Format(prog); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	const wantBig = ".big\n   0: ld [arch]\n   1: jeq #0x5, 2, 5\n   2: ld [arg0.hi]\n   3: jgt #0x2, 5, 4\n   4: ret #0x0\n   5: ret #0x1\n"
	if got := (Style{BigEndian: true}).Format(prog); got != wantBig {
		t.Errorf("got\n%s\nwant\n%s", got, wantBig)
	}
}

func TestParse(t *testing.T) {
	const text = `
; a filter by hand
start:  ld [arch]
        jeq #0xc000003e, numbers, kill
numbers:
        ld [nr]
        jge #41, next, +1
        ret #327681   ; ERRNO
        ld  [20]
        jset #1 , allow,kill
kill:   ret #0
allow:  ret #0x7fff0000`
	want := []Instruction{
		{Op: LdAbs, K: OffArch}, {Op: Jeq, JT: 0, JF: 5, K: 0xc000003e}, {Op: LdAbs, K: OffNr}, {Op: Jge, JT: 0, JF: 1, K: 41},
		ret(0x50001), {Op: LdAbs, K: 20}, {Op: Jset, JT: 1, JF: 0, K: 1}, ret(0), ret(allow),
	}
	got, err := Parse(text)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("%v, %v", got, err)
	}
	if got, err := Parse(""); err != nil || len(got) != 0 {
		t.Fatalf("empty: %v, %v", got, err)
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"ret #0\njqe #1, next, next", `line 2: unknown instruction "jqe"; did you mean jeq?`},
		{"frobnicate", `line 1: unknown instruction "frobnicate"`},
		{"ret", "line 1: ret takes one operand"},
		{"ret #0, #1", "ret takes one operand"},
		{"neg #1", "neg takes nothing"},
		{"jeq #1, next", "jeq takes an operand and two targets"},
		{"add #1, #2", "add takes one operand"},
		{"ret 5", `"5" is no constant`},
		{"ret #0x100000000", "more than 32 bits"},
		{"ret #x", `"x" is no number`},
		{"ret #-1", `"-1" is no number`},
		{"ld [arg6.lo]", `unknown word "arg6.lo"`},
		{"ld [nr", "closing bracket"},
		{"ld nr", "as [nr]"},
		{"ldx [nr]", "ld only"},
		{"ld M[x]", `"x" is no number`},
		{"st 3", `"3" is no scratch word`},
		{"ja nowhere\nret #0\nnowere: ret #1", `line 1: unknown label "nowhere"; did you mean nowere?`},
		{"ja nowhere\nret #0", `line 1: unknown label "nowhere"`},
		{"ret #0\nback: ret #1\nja back", `line 3: jump back to "back"`},
		{"self: ja self", `jump back to "self"`},
		{"a: ret #0\na: ret #1", `line 2: label "a" is there twice`},
		{"a b: ret #0", `"a b" is no label`},
		{": ret #0", `"" is no label`},
		{"next: ret #0", `"next" is no label`},
		{"jeq #1, +256, next", "at most 255 instructions, not 256"},
		{"jeq #1, far, next\n" + strings.Repeat("ret #0\n", 256) + "far: ret #0", "line 1: a conditional jump skips at most 255"},
		{"ja +x", `"x" is no number`},
		{"ja a-b", `"a-b" is no target`},
		{".insn 1, 2, 3", ".insn takes four numbers"},
		{".insn 0x10000, 0, 0, 0", "more than 16 bits"},
		{".insn 0, 256, 0, 0", "more than 8 bits"},
		{"ret #0\n.big", "line 2: .big stands before"},
		{".big endian", ".big takes nothing"},
	} {
		if got, err := Parse(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "line ") {
			t.Errorf("%q: %v, %v; want %q", tc.text, got, err, tc.want)
		}
	}
}

func TestEncode(t *testing.T) {
	prog := []Instruction{{Op: 0x15, JT: 1, JF: 2, K: 0x11223344}, ret(0x7fff0000)}
	little := []byte{0x15, 0, 1, 2, 0x44, 0x33, 0x22, 0x11, 6, 0, 0, 0, 0, 0, 0xff, 0x7f}
	big := []byte{0, 0x15, 1, 2, 0x11, 0x22, 0x33, 0x44, 0, 6, 0, 0, 0x7f, 0xff, 0, 0}
	for _, tc := range []struct {
		order binary.ByteOrder
		data  []byte
	}{{binary.LittleEndian, little}, {binary.BigEndian, big}} {
		if got := Encode(prog, tc.order); !bytes.Equal(got, tc.data) {
			t.Errorf("%v: %x", tc.order, got)
		}
		if got, err := Decode(tc.data, tc.order); err != nil || !slices.Equal(got, prog) {
			t.Errorf("%v: %v, %v", tc.order, got, err)
		}
		if got, err := Decode(tc.data[:13], tc.order); err == nil || !slices.Equal(got, prog[:1]) {
			t.Errorf("%v: cut off: %v, %v", tc.order, got, err)
		}
	}
}

func TestTrace(t *testing.T) {
	prog := []Instruction{
		{Op: LdAbs, K: OffNr}, {Op: Tax}, {Op: Add, K: 1}, {Op: Jgt | SrcX, JT: 1}, ret(9), {Op: Ja, K: 1}, ret(8),
		{Op: LdxImm, K: 0}, {Op: Div | SrcX}, ret(7),
	}
	if err := Check(prog); err != nil {
		t.Fatal(err)
	}
	steps, answer, err := Trace(prog, &Data{Nr: 5})
	want := []Step{{0, 0, 0}, {1, 5, 0}, {2, 5, 5}, {3, 6, 5}, {5, 6, 5}, {7, 6, 5}, {8, 6, 0}}
	if err != nil || answer != 0 || !slices.Equal(steps, want) {
		t.Errorf("%v, %d, %v", steps, answer, err)
	}
	steps, answer, err = Trace(prog, &Data{Nr: 1<<32 - 1})
	want = []Step{{0, 0, 0}, {1, 1<<32 - 1, 0}, {2, 1<<32 - 1, 1<<32 - 1}, {3, 0, 1<<32 - 1}, {4, 0, 1<<32 - 1}}
	if err != nil || answer != 9 || !slices.Equal(steps, want) {
		t.Errorf("%v, %d, %v", steps, answer, err)
	}
	if _, _, err := Trace([]Instruction{{Op: LdImm}}, &Data{}); err == nil {
		t.Error("no error for a program without an end")
	}
}

// Any program, valid or not, can be printed and is read again as it was.
func FuzzFormat(f *testing.F) {
	f.Add(Encode(every, binary.LittleEndian))
	f.Add(Encode([]Instruction{{Op: Jeq, JT: 1, JF: 0, K: 1}, {Op: Ja}, ret(0)}, binary.LittleEndian))
	f.Fuzz(func(t *testing.T, data []byte) {
		prog, _ := Decode(data, binary.LittleEndian)
		for i, s := range styles(len(prog)) {
			text := s.Format(prog)
			got, err := Parse(text)
			if err != nil || !slices.Equal(got, prog) {
				t.Fatalf("style %d: %v\n%v\n%v\n%s", i, err, prog, got, text)
			}
		}
		if Check(prog) != nil {
			return
		}
		d := &Data{Nr: uint32(len(data)), Arch: 0xc000003e, Args: [6]uint64{1, 2, 3, 4, 5, 6}}
		want, err := Run(prog, d)
		steps, got, traceErr := Trace(prog, d)
		if err != nil || traceErr != nil || got != want || len(steps) == 0 || steps[0].PC != 0 {
			t.Fatalf("Run %#x, %v; Trace %#x, %v, %v", want, err, got, traceErr, steps)
		}
	})
}

// No text makes Parse panic, and what it reads is printed so that it is read
// the same.
func FuzzParse(f *testing.F) {
	for _, s := range styles(len(every)) {
		f.Add(s.Format(every))
	}
	f.Add("a: ja +1\nret #0\n.insn 1,2,3,4 ; b:\nnext:")
	f.Fuzz(func(t *testing.T, text string) {
		prog, err := Parse(text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Fatalf("%q: error without a line: %v", text, err)
			}
			return
		}
		again, err := Parse(Format(prog))
		if err != nil || !slices.Equal(again, prog) {
			t.Fatalf("%q: %v, then %v, %v", text, prog, again, err)
		}
	})
}
