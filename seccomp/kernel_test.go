package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/bpf"
)

// scratch is a directory for the programs that tests build, or "" before.
var scratch string

func TestMain(m *testing.M) {
	if mode := os.Getenv(loadMode); mode != "" {
		loadChild(mode)
	}
	code := m.Run()
	if scratch != "" {
		os.RemoveAll(scratch)
	}
	os.Exit(code)
}

// build compiles a C program of testdata and returns its path.
func build(name, source string, flags ...string) (string, error) {
	if scratch == "" {
		dir, err := os.MkdirTemp("", "seccomp-test-")
		if err != nil {
			return "", err
		}
		scratch = dir
	}
	out := filepath.Join(scratch, name)
	args := append([]string{"-O1", "-Wall", "-Werror", "-o", out, filepath.Join("testdata", source)}, flags...)
	if text, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", name, err, text)
	}
	return out, nil
}

var freestanding = []string{"-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie"}

var probe64 = sync.OnceValues(func() (string, error) { return build("probe64", "probe.c", freestanding...) })

var probe32 = sync.OnceValues(func() (string, error) {
	return build("probe32", "probe.c", append([]string{"-m32"}, freestanding...)...)
})

// probeCall is one system call of the probe.
type probeCall struct {
	Int80 uint32 // 1: by int 0x80
	Nr    uint32
	Args  [6]uint64
}

// What the probe can be told.
const (
	probeHandle = 1 << iota // SIGSYS
	probeTraced
	probeThread
)

// probeResult is struct result of probe.c.
type probeResult struct {
	head struct {
		Load, Status int32
		Done, Traps  uint32
		TrapErrno    int32
		TrapNr       int32
		TrapArch     uint32
		Traced       uint32
		Message      uint32
		Alive        uint32
	}
	values []int64
}

func (r *probeResult) status() unix.WaitStatus { return unix.WaitStatus(r.head.Status) }

// returned reports whether all calls returned and the child ended as it should.
func (r *probeResult) returned(t *testing.T) {
	t.Helper()
	s := r.status()
	if r.head.Load != 0 || int(r.head.Done) != len(r.values) || !s.Signaled() || s.Signal() != unix.SIGILL {
		t.Fatalf("load: %v, %d of %d calls returned, status %#x", unix.Errno(-r.head.Load), r.head.Done, len(r.values), r.head.Status)
	}
}

func runProbe(t *testing.T, prog func() (string, error), f *Filter, options uint32, calls []probeCall) *probeResult {
	t.Helper()
	if !onX86(t) {
		t.Skip("the probe is for x86")
	}
	path, err := prog()
	if err != nil {
		t.Fatal(err)
	}
	var in bytes.Buffer
	for _, v := range []any{uint32(f.Flags), uint32(len(f.Program)), f.Program, options, uint32(len(calls)), calls} {
		if err := binary.Write(&in, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(path)
	cmd.Stdin, cmd.Stderr = &in, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	r := &probeResult{values: make([]int64, len(calls))}
	for _, v := range []any{&r.head, r.values} {
		n, err := binary.Decode(out, binary.LittleEndian, v)
		if err != nil {
			t.Fatalf("%s: result: %v", path, err)
		}
		out = out[n:]
	}
	return r
}

func onX86(t *testing.T) bool {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(uts.Machine[:]) == "x86_64"
}

// verdicts returns a filter that answers as f does, but with an error number
// for each action, so that a process can ask for every call without making any
// and see the answer.
func verdicts(f *Filter) (*Filter, map[Action]int64) {
	v := &Filter{Program: slices.Clone(f.Program)}
	numbers := map[Action]int64{}
	for i, in := range v.Program {
		if in.Op != bpf.RetK {
			continue
		}
		a := Action(in.K)
		if _, ok := numbers[a]; !ok {
			numbers[a] = int64(2000 + len(numbers))
		}
		v.Program[i].K = uint32(Errno(uint16(numbers[a])))
	}
	return v, numbers
}

// kernelCalls are calls by which tests ask the kernel: every number, by both
// entries, with arguments near those of the rules.
func kernelCalls(p *Policy, rng *rand.Rand, entry uint32) []probeCall {
	audit := X86_64.Audit()
	numbers := []uint32{1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1, 1<<30 - 1, 1<<30 + 1024}
	if entry == 1 {
		audit = I386.Audit()
	}
	for nr := range uint32(1024) {
		numbers = append(numbers, nr, nr|1<<30)
	}
	var calls []probeCall
	for _, nr := range numbers {
		if entry == 0 && (nr == 335 || nr == 336) {
			continue // uretprobe and uprobe, which newer kernels never filter
		}
		conds := conditionsOf(p, audit, nr)
		for range 1 + 10*len(conds) {
			calls = append(calls, probeCall{entry, nr, randomArgs(rng, conds)})
		}
	}
	return calls
}

// checkKernel compares what the kernel answers with the policy.
func checkKernel(t *testing.T, prog func() (string, error), p *Policy, audit uint32, calls []probeCall) {
	t.Helper()
	f, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	v, numbers := verdicts(f)
	r := runProbe(t, prog, v, 0, calls)
	r.returned(t)
	for i, c := range calls {
		args := c.Args
		want := p.Decide(audit, c.Nr, args)
		if got := -r.values[i]; got != numbers[want.Action] {
			name := Action(0)
			for a, n := range numbers {
				if n == got {
					name = a
				}
			}
			t.Fatalf("audit %#x nr %#x args %#x: kernel says %v (%d), policy %+v", audit, c.Nr, c.Args, name, got, want)
		}
	}
}

func TestKernelAgreesOnDefaultProfile(t *testing.T) {
	for name, caps := range map[string]capability.Set{"none": 0, "docker": capability.Default(), "all": capability.Known()} {
		t.Run(name, func(t *testing.T) {
			p := mustResolve(t, Default(), target(caps))
			rng := rand.New(rand.NewPCG(3, 3))
			checkKernel(t, probe64, p, X86_64.Audit(), kernelCalls(p, rng, 0))
			checkKernel(t, probe64, p, I386.Audit(), kernelCalls(p, rng, 1))
			checkKernel(t, probe32, p, I386.Audit(), kernelCalls(p, rng, 1))
		})
	}
}

func TestKernelAgreesOnRandomPolicies(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 20 {
		p := randomPolicy(rng, 3)
		checkKernel(t, probe64, p, X86_64.Audit(), kernelCalls(p, rng, 0))
		checkKernel(t, probe64, p, I386.Audit(), kernelCalls(p, rng, 1))
	}
}

// The interpreter of package bpf answers what the kernel does, for programs
// that compute.
func TestKernelAgreesWithInterpreter(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 11))
	tried := 0
	for tried < 100 {
		prog := randomProgram(rng)
		if bpf.Check(prog) != nil {
			continue
		}
		tried++
		calls := make([]probeCall, 40)
		for i := range calls {
			calls[i] = probeCall{Nr: uint32(rng.IntN(300))}
			for j := range calls[i].Args {
				calls[i].Args[j] = randomValue(rng)
			}
		}
		r := runProbe(t, probe64, &Filter{Program: prog}, 0, calls)
		r.returned(t)
		for i, c := range calls {
			want, err := bpf.Run(prog, &bpf.Data{Nr: c.Nr, Arch: X86_64.Audit(), Args: c.Args})
			if err != nil || want&0xffff != uint32(-r.values[i]) {
				t.Fatalf("%+v: kernel %d, interpreter %#x, %v\n%s", c, r.values[i], want, err, bpf.Format(prog))
			}
		}
	}
}

// randomProgram draws a program that computes an error number from all that it
// can see but the instruction pointer.
func randomProgram(rng *rand.Rand) []bpf.Instruction {
	var prog []bpf.Instruction
	alu := []uint16{bpf.Add, bpf.Sub, bpf.Mul, bpf.Div, bpf.Or, bpf.And, bpf.Xor, bpf.Lsh, bpf.Rsh}
	jumps := []uint16{bpf.Jeq, bpf.Jgt, bpf.Jge, bpf.Jset}
	const length = 30
	for i := range length {
		in := bpf.Instruction{K: uint32(randomValue(rng))}
		switch rng.IntN(10) {
		case 0, 1:
			in = bpf.Instruction{Op: bpf.LdAbs, K: bpf.OffArg(X86_64.Audit(), rng.IntN(6), rng.IntN(2) == 0)}
		case 2:
			in.Op = []uint16{bpf.LdImm, bpf.LdxImm, bpf.LdLen, bpf.LdxLen, bpf.Tax, bpf.Txa, bpf.Neg}[rng.IntN(7)]
		case 3:
			in = bpf.Instruction{Op: []uint16{bpf.St, bpf.Stx, bpf.LdMem, bpf.LdxMem}[rng.IntN(4)], K: uint32(rng.IntN(3))}
		case 4, 5, 6:
			in.Op = alu[rng.IntN(len(alu))] | uint16(rng.IntN(2))*bpf.SrcX
			if in.Op == bpf.Lsh || in.Op == bpf.Rsh {
				in.K %= 32
			}
			if in.Op == bpf.Lsh|bpf.SrcX || in.Op == bpf.Rsh|bpf.SrcX || in.Op == bpf.Div|bpf.SrcX {
				// A shift by more than 31 has no one answer, and a division
				// by zero kills.
				in.Op &^= bpf.SrcX
				in.K = in.K%31 + 1
			}
			if in.Op == bpf.Div && in.K == 0 {
				in.K = 3
			}
		default:
			in.Op = jumps[rng.IntN(len(jumps))] | uint16(rng.IntN(2))*bpf.SrcX
			in.JT, in.JF = uint8(rng.IntN(min(5, length-i))), uint8(rng.IntN(min(5, length-i)))
		}
		prog = append(prog, in)
	}
	return append(prog, bpf.Instruction{Op: bpf.And, K: 0x7ff}, bpf.Instruction{Op: bpf.Or, K: uint32(Errno(1))}, bpf.Instruction{Op: bpf.RetA})
}

// The numbers of getppid, whose real answer is the probe's process number.
const (
	getppid64 = 110
	getppid32 = 64
)

// onGetppid is the filter that gives getppid an action and allows the rest.
func onGetppid(t *testing.T, a Action) *Filter {
	t.Helper()
	rules := []Rule{{Action: a}}
	f, err := Compile(&Policy{Default: Allow, Newer: Allow, OtherArch: Allow, Archs: []ArchRules{
		{Arch: X86_64, Newest: noCall, Calls: []CallRules{{getppid64, rules}}},
		{Arch: I386, Newest: noCall, Calls: []CallRules{{getppid32, rules}}},
		{Arch: X32, Newest: noCall, Calls: []CallRules{{getppid64 | 1<<30, rules}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// entries are the ways to make a call on x86.
var entries = []struct {
	name string
	prog func() (string, error)
	call probeCall
	arch Arch
}{
	{"x86-64", probe64, probeCall{Nr: getppid64}, X86_64},
	{"x32", probe64, probeCall{Nr: getppid64 | 1<<30}, X32},
	{"int80", probe64, probeCall{Int80: 1, Nr: getppid32}, I386},
	{"i386", probe32, probeCall{Nr: getppid32}, I386},
}

func TestKernelActions(t *testing.T) {
	for _, e := range entries {
		t.Run(e.name, func(t *testing.T) {
			one := func(a Action, options uint32) *probeResult {
				return runProbe(t, e.prog, onGetppid(t, a), options, []probeCall{e.call})
			}
			for _, n := range []uint16{1, 38, 4095} {
				r := one(Errno(n), 0)
				r.returned(t)
				if r.values[0] != -int64(n) {
					t.Errorf("ERRNO(%d): %d", n, r.values[0])
				}
			}
			r := one(Errno(0), 0)
			r.returned(t)
			if r.values[0] != 0 {
				t.Errorf("ERRNO(0): %d", r.values[0])
			}
			for _, a := range []Action{Allow, Log} {
				r := one(a, 0)
				r.returned(t)
				// A kernel without x32 has no such call.
				if r.values[0] <= 0 && !(e.arch == X32 && r.values[0] == -int64(unix.ENOSYS)) {
					t.Errorf("%v: %d", a, r.values[0])
				}
			}
			for _, a := range []Action{KillProcess, KillThread, Trap} {
				r := one(a, 0)
				if s := r.status(); r.head.Load != 0 || r.head.Done != 0 || !s.Signaled() || s.Signal() != unix.SIGSYS {
					t.Errorf("%v: load %d, %d calls done, status %#x", a, r.head.Load, r.head.Done, r.head.Status)
				}
			}
			r = one(Trace(7), 0)
			r.returned(t)
			if r.values[0] != -int64(unix.ENOSYS) {
				t.Errorf("TRACE without a tracer: %d", r.values[0])
			}
			r = one(Trace(0xfedc), probeTraced)
			r.returned(t)
			if r.head.Traced != 1 || r.head.Message != 0xfedc {
				t.Errorf("TRACE: %d stops, message %#x", r.head.Traced, r.head.Message)
			}
			r = one(Trap|5, probeHandle)
			r.returned(t)
			if r.head.Traps != 1 || r.head.TrapErrno != 5 || uint32(r.head.TrapNr) != e.call.Nr || r.head.TrapArch != e.arch.Audit() {
				t.Errorf("TRAP: %+v", r.head)
			}
		})
	}
}

// KILL_THREAD ends one thread, KILL_PROCESS all.
func TestKernelKillsThreadOrProcess(t *testing.T) {
	r := runProbe(t, probe64, onGetppid(t, KillThread), probeThread, []probeCall{{Nr: getppid64}})
	if s := r.status(); r.head.Done != 0 || r.head.Alive != 1 || s.Signal() != unix.SIGILL {
		t.Errorf("KILL_THREAD: %+v", r.head)
	}
	r = runProbe(t, probe64, onGetppid(t, KillProcess), probeThread, []probeCall{{Nr: getppid64}})
	if s := r.status(); r.head.Done != 0 || r.head.Alive != 0 || s.Signal() != unix.SIGSYS {
		t.Errorf("KILL_PROCESS: %+v", r.head)
	}
	r = runProbe(t, probe64, onGetppid(t, Errno(1)), probeThread, []probeCall{{Nr: getppid64}})
	if s := r.status(); r.head.Done != 1 || r.head.Alive != 1 || s.Signal() != unix.SIGILL {
		t.Errorf("ERRNO: %+v", r.head)
	}
}

// An ABI that the policy does not list is killed.
func TestKernelKillsOtherABIs(t *testing.T) {
	p := &Profile{DefaultAction: Allow}
	f, err := Compile(mustResolve(t, p, target(0)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries[:3] {
		r := runProbe(t, e.prog, f, 0, []probeCall{e.call})
		done, signal := uint32(0), unix.SIGSYS
		if e.arch == X86_64 {
			done, signal = 1, unix.SIGILL
		}
		if r.head.Load != 0 || r.head.Done != done || r.status().Signal() != signal {
			t.Errorf("%s: %+v", e.name, r.head)
		}
	}
}

// The kernel cuts arguments to their types, and so do filters: high bits of a
// register do not get around a rule. Libseccomp's comparison lets them.
func TestKernelNarrowArguments(t *testing.T) {
	p := &Profile{
		DefaultAction: Allow, Architectures: []Arch{I386},
		Syscalls: []SyscallRule{
			{Names: []string{"personality"}, Action: Errno(99), Args: []Condition{{Op: EQ, Value: 1<<32 - 1}}},
			{Names: []string{"socket"}, Action: Errno(99), Args: []Condition{{Op: EQ, Value: unix.AF_VSOCK}}},
		},
	}
	const personality32, personality, socket = 136, 135, 41
	calls := []probeCall{
		{Int80: 1, Nr: personality32, Args: [6]uint64{1<<32 - 1}},
		{Int80: 1, Nr: personality32, Args: [6]uint64{0xabcdef00ffffffff}},
		{Nr: personality, Args: [6]uint64{1<<32 - 1}},
		{Nr: personality, Args: [6]uint64{1<<64 - 1}},
		{Nr: socket, Args: [6]uint64{unix.AF_VSOCK, unix.SOCK_STREAM}},
		{Nr: socket, Args: [6]uint64{1<<32 | unix.AF_VSOCK, unix.SOCK_STREAM}},
		{Nr: socket, Args: [6]uint64{unix.AF_UNIX, unix.SOCK_STREAM}},
	}
	for _, tc := range []struct {
		options Options
		refused [7]bool
	}{
		{Options{}, [7]bool{true, true, true, true, true, true, false}},
		{Options{WideArgs: true}, [7]bool{true, true, true, false, true, false, false}},
	} {
		policy, _, err := p.ResolveWith(target(0), tc.options)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Compile(policy)
		if err != nil {
			t.Fatal(err)
		}
		r := runProbe(t, probe64, f, 0, calls)
		r.returned(t)
		for i, want := range tc.refused {
			if got := r.values[i] == -99; got != want {
				t.Errorf("%+v, call %d: %d", tc.options, i, r.values[i])
			}
			// What gets past the rule is the same call to the kernel.
			if !tc.refused[i] && r.values[i] < 0 && r.values[i] != -int64(unix.EAFNOSUPPORT) {
				t.Errorf("%+v, call %d: %d, not cut by the kernel", tc.options, i, r.values[i])
			}
		}
	}
}
