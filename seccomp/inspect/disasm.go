package inspect

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Disassemble returns how to write a filter for a machine of the architecture
// arch so that people can read it: with labels for the architectures that it
// tells apart, the names of system calls beside the numbers that it compares,
// and the names of actions beside its answers.
//
//	bpf.Format(prog)                            // plain
//	inspect.Disassemble(prog, arch).Format(prog)
//
// A number's name depends on the architecture, which is known where the
// program has asked for it; a program that never does is taken to be for arch
// alone. The program need not be valid.
func Disassemble(prog []bpf.Instruction, arch seccomp.Arch) bpf.Style {
	return disassemble(prog, arch).style
}

func disassemble(prog []bpf.Instruction, arch seccomp.Arch) *disassembler {
	d := &disassembler{prog: prog, states: make([]flowState, len(prog)), named: map[string]int{}}
	d.style = bpf.Style{
		BigEndian: seccomp.ByteOrder(arch) == binary.BigEndian, Labels: make([]string, len(prog)), Comments: make([]string, len(prog)),
	}
	d.enter(arch)
	for pc := range prog {
		if s := &d.states[pc]; s.reached {
			d.visit(pc, s)
		} else {
			d.style.Comments[pc] = "never reached"
		}
	}
	d.nameAnswers()
	return d
}

// nameAnswers names the answers that jumps lead to by their actions.
func (d *disassembler) nameAnswers() {
	for pc, in := range d.prog {
		name := actionLabel(seccomp.Action(in.K))
		if in.Op != bpf.RetK || !d.states[pc].target || d.style.Labels[pc] != "" || name == "" {
			continue
		}
		if d.named[name]++; d.named[name] > 1 {
			name = fmt.Sprintf("%s_%d", name, d.named[name])
		}
		d.style.Labels[pc] = name
	}
}

// actionLabel returns an action as a label, or "" if it has no name.
func actionLabel(a seccomp.Action) string {
	name := strings.ToLower(a.String())
	if a.IsErrno() {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "errno("), ")")
		if name[0] <= '9' {
			name = "errno_" + name
		}
	}
	if strings.HasPrefix(name, "0x") {
		return ""
	}
	return strings.NewReplacer("(", "_", ")", "").Replace(name)
}

// disassembler follows what a program knows at each instruction. Jumps go
// forward only, so one pass sees every way to an instruction before it.
type disassembler struct {
	prog   []bpf.Instruction
	style  bpf.Style
	states []flowState // by instruction; of the ways seen so far
	named  map[string]int
}

// flowState is what is known when the program is at an instruction.
type flowState struct {
	reached bool
	target  bool // some jump skips others to get here
	acc     accumulator
	calls   []callRange // of each ABI that the call can be of
}

// accumulator is what A holds.
type accumulator struct {
	field uint32 // offset in seccomp_data, or noField
	mask  uint32 // of its bits that are left
}

const noField = 1 << 31

// callRange is the numbers from lo to hi of an ABI.
type callRange struct {
	arch   seccomp.Arch
	lo, hi uint32
}

// noCall is a number that no system call has.
const noCall = 1<<32 - 1

// noArch stands for the architectures that have no name.
const noArch seccomp.Arch = 255

// enter sets what is known at the start.
func (d *disassembler) enter(arch seccomp.Arch) {
	if len(d.prog) == 0 {
		return
	}
	asks := slices.ContainsFunc(d.prog, func(in bpf.Instruction) bool { return in.Op == bpf.LdAbs && in.K == bpf.OffArch })
	s := flowState{reached: true, acc: accumulator{field: noField}}
	for a := range seccomp.Arches() {
		if asks || a.Audit() == arch.Audit() {
			s.calls = append(s.calls, numbersOf(a))
		}
	}
	if asks {
		s.calls = append(s.calls, callRange{noArch, 0, noCall})
	}
	d.states[0] = s
}

// numbersOf returns all numbers of an ABI.
func numbersOf(a seccomp.Arch) callRange {
	switch a {
	case seccomp.X86_64:
		return callRange{a, 0, syscalls.X32Bit - 1}
	case seccomp.X32:
		return callRange{a, syscalls.X32Bit, noCall}
	}
	return callRange{a, 0, noCall}
}

// visit comments an instruction and hands on what is known after it.
func (d *disassembler) visit(pc int, s *flowState) {
	in := d.prog[pc]
	d.style.Comments[pc] = s.comment(in)
	switch in.Op {
	case bpf.RetK, bpf.RetA:
		return
	case bpf.Ja:
		d.join(pc, in.K, s.acc, s.calls)
		return
	case bpf.Jeq, bpf.Jgt, bpf.Jge, bpf.Jset:
		yes, no := s.split(in)
		d.branch(pc, uint32(in.JT), s, yes)
		d.branch(pc, uint32(in.JF), s, no)
		return
	case bpf.Jeq | bpf.SrcX, bpf.Jgt | bpf.SrcX, bpf.Jge | bpf.SrcX, bpf.Jset | bpf.SrcX:
		d.join(pc, uint32(in.JT), s.acc, s.calls)
		d.join(pc, uint32(in.JF), s.acc, s.calls)
		return
	}
	d.join(pc, 0, s.acc.after(in), s.calls)
}

// after returns what A holds after an instruction that does not jump.
func (a accumulator) after(in bpf.Instruction) accumulator {
	switch in.Op {
	case bpf.LdAbs:
		return accumulator{in.K, 1<<32 - 1}
	case bpf.And:
		a.mask &= in.K
		return a
	case bpf.St, bpf.Stx, bpf.LdxImm, bpf.LdxLen, bpf.LdxMem, bpf.Tax:
		return a
	}
	return accumulator{field: noField}
}

// branch hands on what is known after one outcome of a comparison, and names
// its target if that tells architectures apart.
func (d *disassembler) branch(pc int, skip uint32, s *flowState, calls []callRange) {
	d.join(pc, skip, s.acc, calls)
	to := pc + 1 + int(skip)
	if to >= len(d.prog) || len(calls) == len(s.calls) || d.style.Labels[to] != "" {
		return
	}
	if name := archLabel(calls); name != "" && d.named[name] == 0 {
		d.named[name]++
		d.style.Labels[to] = name
	}
}

// archLabel returns a label for code that is for a few ABIs, or "".
func archLabel(calls []callRange) string {
	var names []string
	for _, c := range calls {
		switch {
		case c.arch == noArch:
			return ""
		case c.arch == seccomp.X32 && slices.Contains(names, seccomp.X86_64.Short()):
		default:
			names = append(names, c.arch.Short())
		}
	}
	if len(names) > 3 {
		return ""
	}
	return strings.Join(names, "_")
}

// join adds one way to the instruction that is skip others after pc.
func (d *disassembler) join(pc int, skip uint32, acc accumulator, calls []callRange) {
	to := uint64(pc) + 1 + uint64(skip)
	if to >= uint64(len(d.prog)) {
		return
	}
	s := &d.states[to]
	s.target = s.target || skip > 0
	if !s.reached {
		s.reached, s.acc, s.calls = true, acc, slices.Clone(calls)
		return
	}
	if s.acc != acc {
		s.acc = accumulator{field: noField}
	}
	for _, c := range calls {
		at := slices.IndexFunc(s.calls, func(have callRange) bool { return have.arch == c.arch })
		if at < 0 {
			s.calls = append(s.calls, c)
			continue
		}
		s.calls[at].lo, s.calls[at].hi = min(s.calls[at].lo, c.lo), max(s.calls[at].hi, c.hi)
	}
}

// split returns the calls for which a comparison with a constant holds, and
// the others.
func (s *flowState) split(in bpf.Instruction) (yes, no []callRange) {
	for _, c := range s.calls {
		y, n := c, c
		switch {
		case s.acc == accumulator{bpf.OffArch, 1<<32 - 1}:
			y, n = c.splitArch(in)
		case s.acc.field == bpf.OffNr:
			y, n = c.splitNumber(in, s.acc.mask)
		}
		if y.lo <= y.hi {
			yes = append(yes, y)
		}
		if n.lo <= n.hi {
			no = append(no, n)
		}
	}
	return yes, no
}

// none is no number at all.
func (c callRange) none() callRange { return callRange{c.arch, 1, 0} }

func (c callRange) splitArch(in bpf.Instruction) (yes, no callRange) {
	if c.arch == noArch {
		if in.Op == bpf.Jeq && archOf(in.K) != noArch {
			return c.none(), c
		}
		return c, c
	}
	audit := c.arch.Audit()
	holds := false
	switch in.Op {
	case bpf.Jeq:
		holds = audit == in.K
	case bpf.Jgt:
		holds = audit > in.K
	case bpf.Jge:
		holds = audit >= in.K
	case bpf.Jset:
		holds = audit&in.K != 0
	}
	if holds {
		return c, c.none()
	}
	return c.none(), c
}

// splitNumber splits by a comparison of the number, of which mask is left.
func (c callRange) splitNumber(in bpf.Instruction, mask uint32) (yes, no callRange) {
	k := in.K
	switch {
	case in.Op == bpf.Jset && k&mask == syscalls.X32Bit && c.arch == seccomp.X86_64:
		return c.none(), c
	case in.Op == bpf.Jset && k&mask == syscalls.X32Bit && c.arch == seccomp.X32:
		return c, c.none()
	case mask == ^uint32(syscalls.X32Bit) && c.arch == seccomp.X32:
		k |= syscalls.X32Bit
	case in.Op == bpf.Jset, mask != 1<<32-1:
		return c, c
	}
	yes, no = c, c
	switch {
	case in.Op == bpf.Jeq:
		yes.lo, yes.hi = max(c.lo, k), min(c.hi, k)
		if k == c.lo {
			no.lo++
		} else if k == c.hi {
			no.hi--
		}
		if c.lo == c.hi && k == c.lo {
			no = c.none()
		}
		return yes, no
	case in.Op == bpf.Jgt && k == noCall:
		return c.none(), c
	case in.Op == bpf.Jgt:
		k++
	}
	if yes.lo = max(c.lo, k); k == 0 {
		return yes, c.none()
	}
	no.hi = min(c.hi, k-1)
	return yes, no
}

// archOf returns the first ABI with an AUDIT_ARCH value, or noArch.
func archOf(audit uint32) seccomp.Arch {
	for a := range seccomp.Arches() {
		if a.Audit() == audit {
			return a
		}
	}
	return noArch
}

// comment says in the words of system calls what an instruction is about.
func (s *flowState) comment(in bpf.Instruction) string {
	switch in.Op {
	case bpf.RetK:
		return seccomp.Action(in.K).String()
	case bpf.LdAbs:
		if in.K >= bpf.OffArgs {
			return s.exactCall()
		}
	case bpf.Jeq, bpf.Jgt, bpf.Jge:
		switch s.acc.field {
		case bpf.OffArch:
			if a := archOf(in.K); a != noArch {
				return comparison(in.Op) + a.Short()
			}
		case bpf.OffNr:
			return s.numberComment(in)
		}
	case bpf.Jset:
		if s.acc.field == bpf.OffNr && in.K == syscalls.X32Bit {
			return "x32"
		}
	}
	return ""
}

// comparison returns the sign of a comparison, and none for equality.
func comparison(op uint16) string {
	switch op {
	case bpf.Jge:
		return ">= "
	case bpf.Jgt:
		return "> "
	}
	return ""
}

// numberComment names the call that a number is compared with.
func (s *flowState) numberComment(in bpf.Instruction) string {
	if in.K == syscalls.X32Bit && in.Op == bpf.Jge {
		return "x32"
	}
	if s.acc.mask != 1<<32-1 && s.acc.mask != ^uint32(syscalls.X32Bit) {
		return ""
	}
	var found nameList
	for _, c := range s.calls {
		nr := in.K
		if s.acc.mask == ^uint32(syscalls.X32Bit) {
			nr |= c.arch.Bit()
		}
		if name, ok := syscalls.Name(c.arch, nr); ok && nr >= c.lo && nr <= c.hi {
			found.add(c.arch, name)
		}
	}
	text := found.String()
	if text == "" {
		return ""
	}
	return fmt.Sprintf("%s%d %s", comparison(in.Op), in.K&^syscalls.X32Bit, text)
}

// exactCall names the call if only one number is left for each ABI.
func (s *flowState) exactCall() string {
	var found nameList
	for _, c := range s.calls {
		name, ok := syscalls.Name(c.arch, c.lo)
		if c.lo != c.hi || !ok {
			return ""
		}
		found.add(c.arch, name)
	}
	return found.String()
}

// nameList collects the names that ABIs have for one thing.
type nameList []struct {
	name  string
	archs []string
}

func (l *nameList) add(a seccomp.Arch, name string) {
	for i := range *l {
		if (*l)[i].name == name {
			(*l)[i].archs = append((*l)[i].archs, a.Short())
			return
		}
	}
	*l = append(*l, struct {
		name  string
		archs []string
	}{name, []string{a.Short()}})
}

// String returns the name, or some of several with their ABIs.
func (l nameList) String() string {
	if len(l) == 1 {
		return l[0].name
	}
	var parts []string
	for i, entry := range l {
		if i == 3 {
			parts = append(parts, "...")
			break
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", entry.name, strings.Join(entry.archs[:min(3, len(entry.archs))], " ")))
	}
	return strings.Join(parts, ", ")
}
