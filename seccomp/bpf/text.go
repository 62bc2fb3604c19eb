package bpf

import (
	"fmt"
	"strings"
)

// Style says how a program is written as text. The zero Style writes one
// instruction a line, each with its index, and jump targets as indexes.
//
// The text is a line for each instruction:
//
//	LABEL: INSTRUCTION ; COMMENT
//
// where the label and the comment may be missing and a label may stand on a
// line of its own. Instructions are those of Linux'
// Documentation/networking/filter.rst, of which "ld [arg0.lo]" loads a word of
// struct seccomp_data by its name, and "ret #0x7fff0000" answers a number. A
// conditional jump names both of its targets: "jeq #0x29, L1, next". A target
// is a label, "next" for the instruction that follows, or "+n" for the one
// after n others. ".insn op, jt, jf, k" is an instruction by its fields, for
// what has no other text. The line ".big" says that words of 64-bit fields
// stand in the order of a big-endian machine.
type Style struct {
	BigEndian bool
	// Labels are names for instructions, by index. If it is not nil, jump
	// targets are labels; those without a name get L1, L2 and so on. Names are
	// made of letters, digits and underscores.
	Labels   []string
	Comments []string // by index
}

// Line is one instruction as text.
type Line struct {
	Label   string // what jumps call it; "" if none needs to
	Text    string
	Comment string
}

// Format returns prog as text, one instruction a line, each with its index.
// Jump targets are indexes. [Parse] reads it.
func Format(prog []Instruction) string { return Style{}.Format(prog) }

// String returns the instruction as text, with jump targets as "+n", the
// number of instructions skipped.
func (in Instruction) String() string {
	return in.text(false, func(skip uint32) string { return fmt.Sprintf("+%d", skip) })
}

// Format returns prog as text, which [Parse] reads.
func (s Style) Format(prog []Instruction) string {
	var b strings.Builder
	if s.BigEndian {
		b.WriteString(".big\n")
	}
	for _, line := range s.Lines(prog) {
		switch {
		case s.Labels == nil:
			fmt.Fprintf(&b, "%4s: ", line.Label)
		case line.Label != "":
			fmt.Fprintf(&b, "%s:\n    ", line.Label)
		default:
			b.WriteString("    ")
		}
		if line.Comment == "" {
			fmt.Fprintf(&b, "%s\n", line.Text)
		} else {
			fmt.Fprintf(&b, "%-30s ; %s\n", line.Text, line.Comment)
		}
	}
	return b.String()
}

// Lines returns the instructions of prog as text.
func (s Style) Lines(prog []Instruction) []Line {
	labels := s.labels(prog)
	lines := make([]Line, len(prog))
	for pc, in := range prog {
		target := func(skip uint32) string {
			to := uint64(pc) + 1 + uint64(skip)
			switch {
			case skip == 0 && s.Labels != nil:
				return nextTarget
			case to < uint64(len(prog)):
				return labels[to]
			}
			return fmt.Sprintf("+%d", skip)
		}
		lines[pc] = Line{Label: labels[pc], Text: in.text(s.BigEndian, target)}
		if pc < len(s.Comments) {
			lines[pc].Comment = s.Comments[pc]
		}
	}
	return lines
}

// nextTarget is the target that follows the jump.
const nextTarget = "next"

// labels returns what jumps call each instruction.
func (s Style) labels(prog []Instruction) []string {
	labels := make([]string, len(prog))
	if s.Labels == nil {
		for pc := range labels {
			labels[pc] = fmt.Sprint(pc)
		}
		return labels
	}
	taken := make(map[string]bool)
	for pc := range labels[:copy(labels, s.Labels)] {
		taken[labels[pc]] = true
	}
	count := 0
	for pc, needed := range targets(prog) {
		if labels[pc] != "" || !needed {
			continue
		}
		for {
			count++
			labels[pc] = fmt.Sprintf("L%d", count)
			if !taken[labels[pc]] {
				break
			}
		}
	}
	return labels
}

// targets tells for each instruction whether a jump skips others to reach it.
func targets(prog []Instruction) []bool {
	found := make([]bool, len(prog))
	add := func(pc int, skip uint32) {
		if to := uint64(pc) + 1 + uint64(skip); skip > 0 && to < uint64(len(prog)) {
			found[to] = true
		}
	}
	for pc, in := range prog {
		switch {
		case in != in.used():
		case in.Op == Ja:
			add(pc, in.K)
		case in.hasTwoTargets():
			add(pc, uint32(in.JT))
			add(pc, uint32(in.JF))
		}
	}
	return found
}

// hasTwoTargets reports whether in is a conditional jump.
func (in Instruction) hasTwoTargets() bool {
	switch in.Op &^ SrcX {
	case Jeq, Jgt, Jge, Jset:
		return true
	}
	return false
}

// used returns in with the fields cleared that mean nothing in it. It is the
// zero Instruction, which is none such, for an opcode without a name.
func (in Instruction) used() Instruction {
	switch in.Op {
	case LdLen, LdxLen, Neg, RetA, Tax, Txa:
		return Instruction{Op: in.Op}
	case LdAbs, LdImm, LdMem, LdxImm, LdxMem, St, Stx, Ja, RetK:
		return Instruction{Op: in.Op, K: in.K}
	}
	name := mnemonic(in.Op &^ SrcX)
	switch {
	case name == "":
		return Instruction{}
	case !in.hasTwoTargets():
		in.JT, in.JF = 0, 0
	}
	if in.Op&SrcX != 0 {
		in.K = 0
	}
	return in
}

// text returns the instruction as text; target names where a jump leads that
// skips so many instructions.
func (in Instruction) text(big bool, target func(skip uint32) string) string {
	if in != in.used() {
		return fmt.Sprintf(".insn %#02x, %d, %d, %#x", in.Op, in.JT, in.JF, in.K)
	}
	if name := fixed(in.Op); name != "" {
		return name
	}
	switch in.Op {
	case LdAbs:
		return "ld [" + field(in.K, big) + "]"
	case LdImm, LdxImm:
		return fmt.Sprintf("%s #%#x", memory(in.Op), in.K)
	case LdMem, LdxMem, St, Stx:
		return fmt.Sprintf("%s M[%d]", memory(in.Op), in.K)
	case Ja:
		return "ja " + target(in.K)
	case RetK:
		return fmt.Sprintf("ret #%#x", in.K)
	}
	operand := fmt.Sprintf("#%#x", in.K)
	if in.Op&SrcX != 0 {
		operand = "x"
	}
	text := mnemonic(in.Op&^SrcX) + " " + operand
	if in.hasTwoTargets() {
		return text + ", " + target(uint32(in.JT)) + ", " + target(uint32(in.JF))
	}
	return text
}

// fixed returns the text of the opcodes that always have the same.
func fixed(op uint16) string {
	switch op {
	case LdLen:
		return "ld len"
	case LdxLen:
		return "ldx len"
	case Neg:
		return "neg"
	case RetA:
		return "ret a"
	case Tax:
		return "tax"
	case Txa:
		return "txa"
	}
	return ""
}

// memory names the opcodes that load a constant or move a scratch word.
func memory(op uint16) string {
	switch op {
	case St:
		return "st"
	case Stx:
		return "stx"
	case LdxImm, LdxMem:
		return "ldx"
	}
	return "ld"
}

// operations are the opcodes that take a constant or X, in the order of their
// names.
var operations = [...]struct {
	name string
	op   uint16
}{
	{"add", Add}, {"and", And}, {"div", Div}, {"jeq", Jeq}, {"jge", Jge}, {"jgt", Jgt}, {"jset", Jset},
	{"lsh", Lsh}, {"mul", Mul}, {"or", Or}, {"rsh", Rsh}, {"sub", Sub}, {"xor", Xor},
}

func mnemonic(op uint16) string {
	for i := range operations {
		if operations[i].op == op {
			return operations[i].name
		}
	}
	return ""
}

// field names the word of seccomp_data at offset off.
func field(off uint32, big bool) string {
	switch {
	case off == OffNr:
		return "nr"
	case off == OffArch:
		return "arch"
	case off >= dataSize || off%4 != 0:
		return fmt.Sprint(off)
	}
	half := ".lo"
	if (off%8 != 0) != big {
		half = ".hi"
	}
	if off < OffArgs {
		return "ip" + half
	}
	return fmt.Sprintf("arg%d%s", (off-OffArgs)/8, half)
}
