package main

import (
	"embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// steps is how many instructions a program executed for one call.
type steps struct {
	all    int
	before int // of them before the first that looks at an argument
}

func (s steps) args() int { return s.all - s.before }

// machine executes programs and counts.
type machine struct {
	a, x uint32
	mem  [16]uint32
}

// count runs a program and fails if it answers other than Brig's interpreter.
func count(prog []bpf.Instruction, d *bpf.Data) (steps, error) {
	got, s, err := execute(prog, d)
	if err != nil {
		return s, err
	}
	if want, err := bpf.Run(prog, d); err != nil || got != want {
		return s, fmt.Errorf("%+v: counting answers %#x, the interpreter %#x: %w", d, got, want, err)
	}
	return s, nil
}

// execute runs a program that the kernel accepts and returns its answer.
func execute(prog []bpf.Instruction, d *bpf.Data) (uint32, steps, error) {
	var m machine
	s := steps{before: -1}
	for pc := 0; pc < len(prog); pc++ {
		in := &prog[pc]
		if in.Op == bpf.LdAbs && in.K >= bpf.OffArgs && s.before < 0 {
			s.before = s.all
		}
		s.all++
		switch {
		case in.Op == bpf.RetK || in.Op == bpf.RetA:
			if s.before < 0 {
				s.before = s.all
			}
			if in.Op == bpf.RetA {
				return m.a, s, nil
			}
			return in.K, s, nil
		case in.Op == bpf.Ja:
			pc += int(in.K)
		case in.Op&7 == bpf.Ja:
			pc += m.jump(in)
		case !m.step(in, d):
			return 0, s, fmt.Errorf("instruction %d: %v is not counted", pc, in)
		}
	}
	return 0, s, fmt.Errorf("the program has no end")
}

func (m *machine) operand(in *bpf.Instruction) uint32 {
	if in.Op&bpf.SrcX != 0 {
		return m.x
	}
	return in.K
}

func (m *machine) jump(in *bpf.Instruction) int {
	v := m.operand(in)
	taken := false
	switch in.Op &^ bpf.SrcX {
	case bpf.Jeq:
		taken = m.a == v
	case bpf.Jgt:
		taken = m.a > v
	case bpf.Jge:
		taken = m.a >= v
	case bpf.Jset:
		taken = m.a&v != 0
	}
	if taken {
		return int(in.JT)
	}
	return int(in.JF)
}

// step does an instruction that neither jumps nor ends. It knows those that
// compilers of filters use.
func (m *machine) step(in *bpf.Instruction, d *bpf.Data) bool {
	switch in.Op {
	case bpf.LdAbs:
		m.a = word(d, in.K)
	case bpf.LdImm:
		m.a = in.K
	case bpf.LdMem:
		m.a = m.mem[in.K]
	case bpf.LdxImm:
		m.x = in.K
	case bpf.LdxMem:
		m.x = m.mem[in.K]
	case bpf.St:
		m.mem[in.K] = m.a
	case bpf.Stx:
		m.mem[in.K] = m.x
	case bpf.Tax:
		m.x = m.a
	case bpf.Txa:
		m.a = m.x
	case bpf.Neg:
		m.a = -m.a
	default:
		return m.arithmetic(in)
	}
	return true
}

func (m *machine) arithmetic(in *bpf.Instruction) bool {
	v := m.operand(in)
	switch in.Op &^ bpf.SrcX {
	case bpf.And:
		m.a &= v
	case bpf.Or:
		m.a |= v
	case bpf.Xor:
		m.a ^= v
	case bpf.Add:
		m.a += v
	case bpf.Sub:
		m.a -= v
	case bpf.Lsh:
		m.a <<= v & 31
	case bpf.Rsh:
		m.a >>= v & 31
	default:
		return false
	}
	return true
}

// word returns a word of struct seccomp_data on a little-endian machine.
func word(d *bpf.Data, off uint32) uint32 {
	words := [16]uint32{d.Nr, d.Arch, uint32(d.IP), uint32(d.IP >> 32)}
	for i, arg := range d.Args {
		words[4+2*i], words[5+2*i] = uint32(arg), uint32(arg>>32)
	}
	return words[off/4]
}

//go:embed mix/*.txt
var recordings embed.FS

// mix is what a program was recorded to call.
type mix struct {
	name  string
	calls []recorded
}

type recorded struct {
	name  string
	nr    uint32
	share float64 // of all calls of the recording
	arg0  uint64  // 0 where no filter looks at it
}

// readMixes reads the recordings.
func readMixes() ([]mix, error) {
	entries, err := recordings.ReadDir("mix")
	if err != nil {
		return nil, err
	}
	var mixes []mix
	for _, e := range entries {
		text, err := recordings.ReadFile("mix/" + e.Name())
		if err != nil {
			return nil, err
		}
		m := mix{name: strings.TrimSuffix(e.Name(), ".txt")}
		if err := m.parse(string(text)); err != nil {
			return nil, fmt.Errorf("mix/%s:%w", e.Name(), err)
		}
		mixes = append(mixes, m)
	}
	return mixes, nil
}

func (m *mix) parse(text string) error {
	sum := 0.0
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 2 {
			return fmt.Errorf("%d: want NAME COUNT [ARGUMENT]", i+1)
		}
		c := recorded{name: f[0]}
		var ok bool
		if c.nr, ok = syscalls.Number(seccomp.X86_64, f[0]); !ok {
			return fmt.Errorf("%d: unknown system call %s", i+1, f[0])
		}
		n, err := strconv.ParseUint(f[1], 10, 32)
		if err == nil && len(f) > 2 {
			c.arg0, err = strconv.ParseUint(f[2], 0, 64)
		}
		if err != nil {
			return fmt.Errorf("%d: %w", i+1, err)
		}
		c.share = float64(n)
		sum += c.share
		m.calls = append(m.calls, c)
	}
	for i := range m.calls {
		m.calls[i].share /= sum
	}
	return nil
}

// executed returns how many instructions a program executes for a call of the
// mix, on average, and the share of calls for which the kernel does not run it,
// since they are in its bitmap of calls that are allowed.
func (m *mix) executed(prog []bpf.Instruction) (mean, bitmap float64, err error) {
	for _, c := range m.calls {
		d := bpf.Data{Nr: c.nr, Arch: seccomp.X86_64.Audit(), Args: [6]uint64{c.arg0}}
		s, err := count(prog, &d)
		if err != nil {
			return 0, 0, err
		}
		mean += c.share * float64(s.all)
		if action, ok := bpf.Constant(prog, d.Arch, d.Nr); ok && action == uint32(seccomp.Allow) {
			bitmap += c.share
		}
	}
	return mean, bitmap, nil
}

// lastNumber is the highest that is looked at of the usual numbers.
const lastNumber = 600

// numbers calls f with every number of the ABIs of a policy that a call might
// have, and some that none has.
func (j *job) numbers(f func(a seccomp.Arch, nr uint32) error) error {
	for i := range j.policy.Archs {
		a := j.policy.Archs[i].Arch
		for n := range uint32(lastNumber + 1) {
			if err := f(a, n|a.Bit()); err != nil {
				return err
			}
		}
		for _, n := range []uint32{1023, 0xffff, syscalls.X32Bit - 1} {
			if err := f(a, n|a.Bit()); err != nil {
				return err
			}
		}
	}
	return nil
}

// worst is the most that a program executes.
type worst struct {
	Before int `json:"beforeArguments"` // for any number, before it looks at an argument
	All    int `json:"withArguments"`   // for any number and the arguments that were tried
	Socket int `json:"socketArguments"` // for socket, from where it looks at an argument
}

// worstCase tries numbers and arguments.
func (j *job) worstCase(prog []bpf.Instruction) (worst, error) {
	var w worst
	values := interesting(prog)
	err := j.numbers(func(a seccomp.Arch, nr uint32) error {
		name, _ := syscalls.Name(a, nr)
		for i, v := range values {
			s, err := count(prog, &bpf.Data{Nr: nr, Arch: a.Audit(), Args: [6]uint64{v, v, v, v, v, v}})
			if err != nil {
				return err
			}
			w.Before, w.All = max(w.Before, s.before), max(w.All, s.all)
			if name == "socket" {
				w.Socket = max(w.Socket, s.args())
			}
			if i == 0 && s.args() == 0 {
				break // no argument is looked at, whatever its value
			}
		}
		return nil
	})
	return w, err
}

// interesting returns values around those that a program compares with, alone
// and with a high word that is not zero.
func interesting(prog []bpf.Instruction) []uint64 {
	var low []uint32
	for n := range uint32(64) {
		low = append(low, n)
	}
	for _, in := range prog {
		if in.Op&7 == bpf.Ja && in.Op != bpf.Ja || in.Op == bpf.And {
			low = append(low, in.K-1, in.K, in.K+1)
		}
	}
	low = append(low, 1<<31-1, 1<<31, 1<<32-1)
	slices.Sort(low)
	low = slices.Compact(low)
	values := make([]uint64, 0, 3*len(low))
	for _, high := range []uint64{0, 1, 1<<32 - 1} {
		for _, v := range low {
			values = append(values, high<<32|uint64(v))
		}
	}
	return values
}

// difference is where a program answers other than the policy.
type difference struct {
	Newer int      `json:"newer"` // numbers that are newer than the profile
	Other []string `json:"other"` // calls
}

// compare looks for differences over all numbers, with arguments of 32 bits:
// beyond them, Brig means something else than its peers on purpose.
func (j *job) compare(prog []bpf.Instruction) (difference, error) {
	var diff difference
	err := j.numbers(func(a seccomp.Arch, nr uint32) error {
		for _, v := range []uint64{0, 1, 2, 3, 9, 16, 38, 39, 40, 41, 63, 0x20000, 0x3d0f00, 0x10000000, 0xffffffff} {
			args := [6]uint64{v}
			got, err := bpf.Run(prog, &bpf.Data{Nr: nr, Arch: a.Audit(), Args: args})
			if err != nil {
				return err
			}
			want := j.policy.Decide(a.Audit(), nr, args)
			if got == uint32(want.Action) {
				continue
			}
			if want.Reason == seccomp.ByNewer {
				diff.Newer++
				return nil
			}
			name, ok := syscalls.Name(a, nr)
			if !ok {
				name = fmt.Sprintf("%#x", nr)
			}
			if a != seccomp.X86_64 {
				name = fmt.Sprintf("%v %s", a, name)
			}
			if !slices.Contains(diff.Other, name) {
				diff.Other = append(diff.Other, name)
			}
			return nil
		}
		return nil
	})
	return diff, err
}
