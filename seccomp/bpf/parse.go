package bpf

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/brig-run/brig/internal/nearest"
)

// Parse reads a program from text; see [Style] for its form. Numbers are
// decimal, or hexadecimal after 0x. Every error names its line. It does not
// check whether the kernel would accept the program; see [Check].
func Parse(text string) ([]Instruction, error) {
	p := parser{labels: map[string]int{}}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		p.line = i + 1
		if err := p.parseLine(line); err != nil {
			return nil, p.wrap(err)
		}
	}
	for _, j := range p.jumps {
		p.line = j.line
		if err := p.link(j); err != nil {
			return nil, p.wrap(err)
		}
	}
	return p.prog, nil
}

// parser reads a program line by line and then puts in the jump targets.
type parser struct {
	line   int
	big    bool
	prog   []Instruction
	labels map[string]int // to the index of an instruction
	jumps  []jump
}

// jump is a jump to a label that is not known yet.
type jump struct {
	line, pc int
	part     jumpPart
	label    string
}

// jumpPart is the field of an instruction that a target goes to.
type jumpPart uint8

const (
	always jumpPart = iota
	ifTrue
	ifFalse
)

func (p *parser) wrap(err error) error { return fmt.Errorf("line %d: %w", p.line, err) }

func (p *parser) parseLine(line string) error {
	line, _, _ = strings.Cut(line, ";")
	line = strings.TrimSpace(line)
	if label, rest, ok := strings.Cut(line, ":"); ok {
		if err := p.label(strings.TrimSpace(label)); err != nil {
			return err
		}
		line = strings.TrimSpace(rest)
	}
	if line == "" {
		return nil
	}
	name, rest, _ := strings.Cut(line, " ")
	var operands []string
	if rest = strings.TrimSpace(rest); rest != "" {
		for _, o := range strings.Split(rest, ",") {
			operands = append(operands, strings.TrimSpace(o))
		}
	}
	if name == ".big" {
		return p.setBig(operands)
	}
	in, err := p.instruction(name, operands)
	if err == nil {
		p.prog = append(p.prog, in)
	}
	return err
}

// setBig reads the line .big.
func (p *parser) setBig(operands []string) error {
	switch {
	case len(operands) > 0:
		return wants(".big", "nothing", operands)
	case len(p.prog) > 0:
		return fmt.Errorf(".big stands before the first instruction")
	}
	p.big = true
	return nil
}

func (p *parser) label(name string) error {
	if !isLabel(name) {
		return fmt.Errorf("%q is no label; they are made of letters, digits and underscores, and are not %q", name, nextTarget)
	}
	if _, ok := p.labels[name]; ok {
		return fmt.Errorf("label %q is there twice", name)
	}
	p.labels[name] = len(p.prog)
	return nil
}

func isLabel(name string) bool {
	for _, c := range []byte(name) {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return name != "" && name != nextTarget
}

// instruction reads one instruction.
func (p *parser) instruction(name string, operands []string) (Instruction, error) {
	switch name {
	case "neg", "tax", "txa":
		if len(operands) > 0 {
			return Instruction{}, wants(name, "nothing", operands)
		}
		return Instruction{Op: withoutOperand(name)}, nil
	case ".insn":
		return parseInsn(operands)
	case "ld", "ldx", "st", "stx", "ret", "ja":
		if len(operands) != 1 {
			return Instruction{}, wants(name, "one operand", operands)
		}
	}
	switch name {
	case "ld", "ldx":
		return p.load(name, operands[0])
	case "st":
		k, err := parseScratch(operands[0])
		return Instruction{Op: St, K: k}, err
	case "stx":
		k, err := parseScratch(operands[0])
		return Instruction{Op: Stx, K: k}, err
	case "ret":
		if operands[0] == "a" {
			return Instruction{Op: RetA}, nil
		}
		k, err := parseConstant(operands[0])
		return Instruction{Op: RetK, K: k}, err
	case "ja":
		in := Instruction{Op: Ja}
		err := p.target(&in, always, operands[0])
		return in, err
	}
	return p.operation(name, operands)
}

// withoutOperand returns the opcode of an instruction without operands.
func withoutOperand(name string) uint16 {
	for _, op := range []uint16{Neg, Tax} {
		if fixed(op) == name {
			return op
		}
	}
	return Txa
}

// load reads the operand of ld or ldx.
func (p *parser) load(name, operand string) (Instruction, error) {
	imm, mem, length := uint16(LdImm), uint16(LdMem), uint16(LdLen)
	if name == "ldx" {
		imm, mem, length = LdxImm, LdxMem, LdxLen
	}
	switch {
	case operand == "len":
		return Instruction{Op: length}, nil
	case strings.HasPrefix(operand, "#"):
		k, err := parseConstant(operand)
		return Instruction{Op: imm, K: k}, err
	case strings.HasPrefix(operand, "M["):
		k, err := parseScratch(operand)
		return Instruction{Op: mem, K: k}, err
	case name == "ld" && strings.HasPrefix(operand, "["):
		k, err := p.field(operand)
		return Instruction{Op: LdAbs, K: k}, err
	}
	return Instruction{}, fmt.Errorf("%s %s: write a constant as #1, a scratch word as M[0], a word of the call as [nr], [arch] or [arg0.lo] (ld only), or len", name, operand)
}

// operation reads an operation on A and its operand, or a conditional jump.
func (p *parser) operation(name string, operands []string) (Instruction, error) {
	var in Instruction
	for i := range operations {
		if operations[i].name == name {
			in.Op = operations[i].op
		}
	}
	if in.Op == 0 {
		return in, unknownInstruction(name)
	}
	branch := in.hasTwoTargets()
	switch {
	case branch && len(operands) != 3:
		return in, wants(name, "an operand and two targets", operands)
	case !branch && len(operands) != 1:
		return in, wants(name, "one operand", operands)
	case operands[0] == "x":
		in.Op |= SrcX
	default:
		var err error
		if in.K, err = parseConstant(operands[0]); err != nil {
			return in, err
		}
	}
	if !branch {
		return in, nil
	}
	if err := p.target(&in, ifTrue, operands[1]); err != nil {
		return in, err
	}
	return in, p.target(&in, ifFalse, operands[2])
}

func unknownInstruction(name string) error {
	near := nearest.Name(name, func(yield func(string) bool) {
		for _, known := range []string{"ld", "ldx", "st", "stx", "ret", "ja", "neg", "tax", "txa", ".insn", ".big"} {
			if !yield(known) {
				return
			}
		}
		for i := range operations {
			if !yield(operations[i].name) {
				return
			}
		}
	})
	if near == "" {
		return fmt.Errorf("unknown instruction %q", name)
	}
	return fmt.Errorf("unknown instruction %q; did you mean %s?", name, near)
}

// target sets a jump target of the instruction that follows those read, or
// remembers it for the end.
func (p *parser) target(in *Instruction, part jumpPart, text string) error {
	pc := len(p.prog)
	if text == nextTarget {
		return in.setTarget(part, 0)
	}
	if digits, ok := strings.CutPrefix(text, "+"); ok {
		skip, err := parseNumber(digits, 32)
		if err != nil {
			return err
		}
		return in.setTarget(part, skip)
	}
	if !isLabel(text) {
		return fmt.Errorf("%q is no target of a jump; write a label, next, or +1", text)
	}
	p.jumps = append(p.jumps, jump{p.line, pc, part, text})
	return nil
}

func (in *Instruction) setTarget(part jumpPart, skip uint64) error {
	switch {
	case part == always:
		in.K = uint32(skip)
	case skip > 255:
		return fmt.Errorf("a conditional jump skips at most 255 instructions, not %d; jump to a ja", skip)
	case part == ifTrue:
		in.JT = uint8(skip)
	default:
		in.JF = uint8(skip)
	}
	return nil
}

// link puts the place of a label into a jump.
func (p *parser) link(j jump) error {
	to, ok := p.labels[j.label]
	switch {
	case !ok:
		if near := nearest.Name(j.label, slices.Values(slices.Sorted(maps.Keys(p.labels)))); near != "" {
			return fmt.Errorf("unknown label %q; did you mean %s?", j.label, near)
		}
		return fmt.Errorf("unknown label %q", j.label)
	case to <= j.pc:
		return fmt.Errorf("jump back to %q; jumps go forward only", j.label)
	}
	return p.prog[j.pc].setTarget(j.part, uint64(to-j.pc-1))
}

// field reads a word of seccomp_data, as in [nr] or [16].
func (p *parser) field(operand string) (uint32, error) {
	name, ok := strings.CutSuffix(operand[1:], "]")
	if !ok {
		return 0, fmt.Errorf("%q lacks its closing bracket", operand)
	}
	for off := uint32(0); off < dataSize; off += 4 {
		if field(off, p.big) == name {
			return off, nil
		}
	}
	if n, err := parseNumber(name, 32); err == nil {
		return uint32(n), nil
	}
	return 0, fmt.Errorf("unknown word %q of a call; there are nr, arch, ip.lo, ip.hi, arg0.lo, arg0.hi to arg5.hi, and offsets in bytes", name)
}

// parseInsn reads the fields of .insn.
func parseInsn(operands []string) (Instruction, error) {
	if len(operands) != 4 {
		return Instruction{}, wants(".insn", "four numbers", operands)
	}
	var n [4]uint64
	for i, bits := range [4]int{16, 8, 8, 32} {
		var err error
		if n[i], err = parseNumber(operands[i], bits); err != nil {
			return Instruction{}, err
		}
	}
	return Instruction{Op: uint16(n[0]), JT: uint8(n[1]), JF: uint8(n[2]), K: uint32(n[3])}, nil
}

// parseConstant reads a number such as #0x10.
func parseConstant(operand string) (uint32, error) {
	digits, ok := strings.CutPrefix(operand, "#")
	if !ok {
		return 0, fmt.Errorf("%q is no constant; write it as #1 or #0x1", operand)
	}
	n, err := parseNumber(digits, 32)
	return uint32(n), err
}

// parseScratch reads a scratch word such as M[3].
func parseScratch(operand string) (uint32, error) {
	digits, ok := strings.CutPrefix(operand, "M[")
	digits, end := strings.CutSuffix(digits, "]")
	if !ok || !end {
		return 0, fmt.Errorf("%q is no scratch word; write it as M[0]", operand)
	}
	n, err := parseNumber(digits, 32)
	return uint32(n), err
}

func parseNumber(digits string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(digits, 0, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is no number", digits)
	case n>>bits != 0:
		return 0, fmt.Errorf("number %s has more than %d bits", digits, bits)
	}
	return n, nil
}

func wants(name, what string, operands []string) error {
	return fmt.Errorf("%s takes %s, not %q", name, what, strings.Join(operands, ", "))
}
