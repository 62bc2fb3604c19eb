package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

var peer = sync.OnceValues(func() (string, error) { return build("peer", "peer.c", "-lseccomp") })

// peerArchs are libseccomp's names.
var peerArchs = map[string]Arch{"x86_64": X86_64, "x86": I386, "x32": X32, "arm": ARM, "aarch64": ARM64}

func runPeer(t *testing.T, input string, args ...string) []byte {
	t.Helper()
	path, err := peer()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(input), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return out
}

// peerPrograms makes a filter of each profile for t with libseccomp. It is
// empty for one that libseccomp refuses.
func peerPrograms(t *testing.T, profiles []*Profile, target Target) [][]bpf.Instruction {
	t.Helper()
	if !onX86(t) {
		t.Skip("the profiles are for x86, and libseccomp starts with the native architecture")
	}
	var in strings.Builder
	for _, p := range profiles {
		writePeer(&in, p, target)
	}
	out := runPeer(t, in.String())
	var list [][]bpf.Instruction
	for len(out) >= 4 {
		n := binary.LittleEndian.Uint32(out)
		prog := make([]bpf.Instruction, n/8)
		if err := binary.Read(bytes.NewReader(out[4:4+n]), binary.LittleEndian, prog); err != nil {
			t.Fatal(err)
		}
		if err := bpf.Check(prog); n > 0 && err != nil {
			t.Fatal(err)
		}
		list = append(list, prog)
		out = out[4+n:]
	}
	if len(list) != len(profiles) {
		t.Fatalf("%d programs of %d profiles", len(list), len(profiles))
	}
	return list
}

// writePeer writes a profile for the peer, with runc's treatment of the rules.
func writePeer(w *strings.Builder, p *Profile, t Target) {
	fmt.Fprintf(w, "policy %x\n", uint32(p.DefaultAction))
	for _, a := range p.archs(t.Arch) {
		for name, arch := range peerArchs {
			if arch == a {
				fmt.Fprintf(w, "arch %s\n", name)
			}
		}
	}
	for i := range p.Syscalls {
		r := &p.Syscalls[i]
		if !r.applies(t) || r.Action == p.DefaultAction {
			continue
		}
		for _, name := range r.Names {
			if !repeats(r.Args) {
				writePeerRule(w, r.Action, name, r.Args)
				continue
			}
			for j := range r.Args {
				writePeerRule(w, r.Action, name, r.Args[j:j+1])
			}
		}
	}
	fmt.Fprintf(w, "end\n")
}

func writePeerRule(w *strings.Builder, action Action, name string, args []Condition) {
	fmt.Fprintf(w, "rule %x %s %d", uint32(action), name, len(args))
	for _, c := range args {
		fmt.Fprintf(w, " %d %d %d %d", c.Index, c.Op+1, c.Value, c.ValueTwo)
	}
	fmt.Fprintf(w, "\n")
}

// likePeer returns the policy of a profile that compares whole registers, as
// libseccomp does, and is without ENOSYS for newer calls, which is runc's work.
func likePeer(t *testing.T, p *Profile, target Target) *Policy {
	policy, _, err := p.ResolveWith(target, Options{WideArgs: true})
	if err != nil {
		t.Fatal(err)
	}
	policy.Newer = policy.Default
	return policy
}

// peerNames returns p without the names that libseccomp does not know.
func peerNames(t *testing.T, p *Profile) *Profile {
	known := map[string]bool{}
	for _, line := range strings.Split(string(runPeer(t, "", "tables")), "\n") {
		known[line[strings.LastIndexByte(line, ' ')+1:]] = true
	}
	less := *p
	less.Syscalls = nil
	for _, r := range p.Syscalls {
		all := r.Names
		r.Names = nil
		for _, name := range all {
			if known[name] {
				r.Names = append(r.Names, name)
			}
		}
		less.Syscalls = append(less.Syscalls, r)
	}
	return &less
}

func TestTablesAgreeWithLibseccomp(t *testing.T) {
	known := map[Arch]map[string]bool{}
	last := map[Arch]uint32{}
	lines := strings.Split(strings.TrimSpace(string(runPeer(t, "", "tables"))), "\n")
	for _, line := range lines {
		f := strings.Fields(line)
		nr, err := strconv.Atoi(f[1])
		if err != nil {
			t.Fatal(err)
		}
		if !syscalls.Known(f[2]) {
			t.Errorf("unknown: %s", line)
		}
		a, ok := peerArchs[f[0]]
		if !ok || nr < 0 {
			continue
		}
		if known[a] == nil {
			known[a] = map[string]bool{}
		}
		known[a][f[2]] = true
		if nr&^int(a.Bit()) < 512 { // the common ones, which grow
			last[a] = max(last[a], uint32(nr))
		}
		if got, ok := syscalls.Number(a, f[2]); !ok || got != uint32(nr) {
			t.Errorf("%s: we have %#x, %v", line, got, ok)
		}
		if got, ok := syscalls.Name(a, uint32(nr)); !ok || got != f[2] {
			t.Errorf("%s: we have %q, %v", line, got, ok)
		}
	}
	for a, names := range known {
		for nr, name := range syscalls.All(a) {
			// Newer calls than libseccomp's are fine, and so are two of
			// x86-64 that got numbers from a gap.
			if !names[name] && nr <= last[a] && name != "uprobe" && name != "uretprobe" {
				t.Errorf("%v: libseccomp has no %s", a, name)
			}
		}
	}
	if len(lines) < 5000 || len(known) != len(peerArchs) {
		t.Errorf("libseccomp has only %d calls", len(lines))
	}
}

func TestDefaultProfileAgreesWithLibseccomp(t *testing.T) {
	for name, caps := range map[string]capability.Set{"none": 0, "docker": capability.Default(), "all": capability.Known()} {
		t.Run(name, func(t *testing.T) {
			p := peerNames(t, Default())
			theirs := peerPrograms(t, []*Profile{p}, target(caps))[0]
			ours := likePeer(t, p, target(caps))
			n := comparePeer(t, ours, theirs, rand.New(rand.NewPCG(12, 12)), nil)
			if d := provePeer(t, ours, theirs); d != nil {
				t.Errorf("%v, where %v", d, d.Where)
			}
			f, err := Compile(ours)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d calls agree; libseccomp's filter has %d instructions, ours %d", n, len(theirs), len(f.Program))
		})
	}
}

// The profile for other machines, too: libseccomp makes filters for all.
func TestDefaultProfileForARMAgreesWithLibseccomp(t *testing.T) {
	p := peerNames(t, Default())
	arm := Target{Arch: ARM64, Caps: capability.Default(), Kernel: KernelVersion{6, 1}}
	theirs := peerPrograms(t, []*Profile{p}, arm)[0]
	ours := likePeer(t, p, arm)
	if len(ours.Archs) != 2 || ours.Archs[1].Arch != ARM {
		t.Fatalf("ABIs %v", ours.Archs)
	}
	comparePeer(t, ours, theirs, rand.New(rand.NewPCG(15, 15)), nil)
	checkFilter(t, ours, 15)
	for _, nr := range []uint32{0xf0001, 0xf0002, 0xf0005, 0xf0006, 0xf0007, 0xf0000} {
		d := &bpf.Data{Nr: nr, Arch: ARM.Audit()}
		got, err := bpf.Run(theirs, d)
		if want := ours.Action(d.Arch, nr, d.Args); err != nil || Action(got) != want {
			t.Errorf("%#x: libseccomp %v, %v, we %v", nr, Action(got), err, want)
		}
	}
}

// comparePeer asks both for every number, with many arguments, and returns how
// many answers it compared. Differ is told of each difference; without it, one
// fails the test.
func comparePeer(t *testing.T, ours *Policy, theirs []bpf.Instruction, rng *rand.Rand, differ func(d *bpf.Data, ours Decision, theirs Action)) int {
	t.Helper()
	n := 0
	for _, a := range ours.Archs {
		audit := a.Arch.Audit()
		for nr := range uint32(500) {
			nr |= a.Arch.Bit()
			if name, _ := syscalls.Name(a.Arch, nr); name != "" {
				if real, _ := syscalls.Number(a.Arch, name); real != nr {
					continue // a second number, which libseccomp does not know
				}
			}
			conds := conditionsOf(ours, audit, nr)
			for range 1 + 40*len(conds) {
				d := &bpf.Data{Nr: nr, Arch: audit, Args: randomArgs(rng, conds)}
				want := ours.Decide(audit, nr, d.Args)
				got, err := bpf.Run(theirs, d)
				if err != nil {
					t.Fatal(err)
				}
				n++
				if Action(got) == want.Action {
					continue
				}
				if differ == nil {
					t.Fatalf("%v nr %#x args %#x: libseccomp says %v, we %+v", a.Arch, nr, d.Args, Action(got), want)
				}
				differ(d, want, Action(got))
			}
		}
	}
	return n
}

// provePeer proves that libseccomp's program is the policy's too, for all
// numbers of calls and all arguments, and returns a difference if it is not.
func provePeer(t *testing.T, ours *Policy, theirs []bpf.Instruction) (found *bpf.Difference) {
	t.Helper()
	err := bpf.Differences(theirs, ours.Spec(), func(d *bpf.Difference) bool {
		a := X86_64
		for i := range ours.Archs {
			if rules := ours.find(d.Example.Arch, d.FirstNr); rules == &ours.Archs[i] {
				a = rules.Arch
			}
		}
		for nr := d.FirstNr; nr <= d.LastNr; nr++ {
			name, ok := syscalls.Name(a, nr)
			if real, _ := syscalls.Number(a, name); ok && real == nr {
				found = d
				return false
			}
			if nr > a.Number(syscalls.MaxSlots) {
				break
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// shape is a kind of random profile.
type shape struct {
	name    string
	archs   []Arch
	actions int  // how many actions the rules have
	single  bool // one rule for each call
	narrow  bool // values below 2^31
	maxArgs int  // of one rule, all different
	ops     []Op
	// faulty says that libseccomp 2.5 makes wrong programs of some: it shares
	// a test that two rules have in common also where the register holds
	// another argument than the one that the second rule means.
	faulty bool
}

func (sh shape) profile(s source) *Profile {
	names := []string{"personality", "ioctl", "clone", "prctl", "fcntl", "openat", "mmap", "kill"}
	p := &Profile{DefaultAction: randomAction(s), Architectures: sh.archs}
	if p.DefaultAction == Notify {
		p.DefaultAction = Trap
	}
	var actions []Action
	for len(actions) < sh.actions {
		if a := randomAction(s); a != p.DefaultAction {
			actions = append(actions, a)
		}
	}
	for i := range 1 + s.IntN(14) {
		name := names[s.IntN(len(names))]
		if sh.single {
			name = names[i%len(names)]
		}
		if sh.single && i >= len(names) {
			break
		}
		r := SyscallRule{Names: []string{name}, Action: actions[s.IntN(len(actions))]}
		for range s.IntN(sh.maxArgs + 1) {
			if c := sh.condition(s); !repeats(append(r.Args[:len(r.Args):len(r.Args)], c)) {
				r.Args = append(r.Args, c)
			}
		}
		p.Syscalls = append(p.Syscalls, r)
	}
	return p
}

func (sh shape) condition(s source) Condition {
	c := randomCondition(s)
	if sh.ops != nil {
		c.Op = sh.ops[s.IntN(len(sh.ops))]
	}
	if sh.narrow {
		c.Value, c.ValueTwo = uint64(uint32(c.Value)>>1), uint64(uint32(c.ValueTwo)>>1)
	}
	c.ValueTwo &= c.Value
	if c.Op != MaskedEQ {
		c.ValueTwo = 0
	}
	return c
}

// Profiles of the kinds on which libseccomp answers what a plain reading of
// the rules says. TestDifferencesFromLibseccomp has the others.
func TestRandomProfilesAgreeWithLibseccomp(t *testing.T) {
	x86 := []Arch{I386, X32}
	for _, sh := range []shape{
		{name: "one rule for each call", actions: 3, single: true, maxArgs: 3},
		{name: "one rule for each call, three ABIs", archs: x86, actions: 3, single: true, narrow: true, maxArgs: 3},
		{name: "equality, several arguments", archs: x86, actions: 1, narrow: true, maxArgs: 3, ops: []Op{EQ, MaskedEQ}, faulty: true},
		{name: "equality of 64 bits", actions: 1, maxArgs: 3, ops: []Op{EQ, MaskedEQ}, faulty: true},
		{name: "equality and inequality", actions: 1, maxArgs: 1, ops: []Op{EQ, NE}},
		{name: "order, narrow", actions: 1, narrow: true, maxArgs: 1},
	} {
		t.Run(sh.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(13, 13))
			var profiles []*Profile
			for range 500 {
				profiles = append(profiles, sh.profile(rng))
			}
			n, faults := 0, 0
			for i, theirs := range peerPrograms(t, profiles, target(0)) {
				policy := likePeer(t, profiles[i], target(0))
				d := provePeer(t, policy, theirs)
				switch {
				case d == nil:
					n += comparePeer(t, policy, theirs, rng, nil)
				case sh.faulty:
					faults++
					t.Logf("%v, where %v", d, d.Where)
				default:
					t.Fatalf("%v, where %v\n%s", d, d.Where, bpf.Format(theirs))
				}
			}
			if faults > 10 {
				t.Errorf("%d of them", faults)
			}
			t.Logf("%d calls of %d profiles agree", n, len(profiles))
		})
	}
}

// All the ways in which we mean to answer otherwise than libseccomp; the
// package documentation has them in words.
func TestDifferencesFromLibseccomp(t *testing.T) {
	cond := func(index uint8, op Op, value uint64) []Condition {
		return []Condition{{Index: index, Op: op, Value: value}}
	}
	rule := func(name string, a Action, args []Condition) SyscallRule {
		return SyscallRule{Names: []string{name}, Action: a, Args: args}
	}
	const personality, socketcall, ipc = 135, 102, 117
	for _, tc := range []struct {
		name    string
		rules   []SyscallRule
		arch    Arch
		nr      uint32
		args    [6]uint64
		ours    Action
		theirs  Action
		version bool // a fault of some versions of libseccomp, mended in others
	}{
		{
			name:  "rules of different actions overlap: ours is the first, theirs follows the arguments",
			rules: []SyscallRule{rule("personality", Trap, cond(0, EQ, 1)), rule("personality", Allow, cond(1, EQ, 2))},
			nr:    personality, args: [6]uint64{1, 2}, ours: Trap, theirs: Allow,
		},
		{
			name:  "a value of more than 32 bits on a 32-bit ABI: never equal for us, cut by them",
			rules: []SyscallRule{rule("personality", Allow, cond(0, EQ, 0x100000028))},
			arch:  I386, nr: 136, args: [6]uint64{0x28}, ours: Errno(1), theirs: Allow,
		},
		{
			name:  "conditions behind socketcall: no allowance for us, an allowance without conditions for them",
			rules: []SyscallRule{rule("socket", Allow, cond(0, EQ, 1))},
			arch:  I386, nr: socketcall, args: [6]uint64{1, 0x1000}, ours: Errno(1), theirs: Allow,
		},
		{
			name:  "the version in ipc's selector: cut by us as by the kernel, not by them",
			rules: []SyscallRule{rule("shmat", KillProcess, nil)},
			arch:  I386, nr: ipc, args: [6]uint64{1<<16 | 21}, ours: KillProcess, theirs: Errno(1),
		},
		{
			name:  "several bounds of 64 bits",
			rules: []SyscallRule{rule("personality", Allow, cond(0, LT, 10)), rule("personality", Allow, cond(0, GE, 1<<32))},
			nr:    personality, args: [6]uint64{10}, ours: Errno(1), theirs: Allow, version: true,
		},
	} {
		p := &Profile{DefaultAction: Errno(1), Architectures: []Arch{I386}, Syscalls: tc.rules}
		theirs := peerPrograms(t, []*Profile{p}, target(0))[0]
		got, err := bpf.Run(theirs, &bpf.Data{Nr: tc.nr, Arch: tc.arch.Audit(), Args: tc.args})
		if err != nil {
			t.Fatal(err)
		}
		if Action(got) != tc.theirs && !tc.version {
			t.Errorf("%s: they answer %v, want %v", tc.name, Action(got), tc.theirs)
		}
		if got := likePeer(t, p, target(0)).Action(tc.arch.Audit(), tc.nr, tc.args); got != tc.ours {
			t.Errorf("%s: we answer %v, want %v", tc.name, got, tc.ours)
		}
	}

	// The same conditions with different actions: the first is ours, they
	// refuse.
	p := &Profile{DefaultAction: Errno(1), Syscalls: []SyscallRule{
		rule("personality", Trap, cond(0, EQ, 1)), rule("personality", Allow, cond(0, EQ, 1)),
	}}
	if theirs := peerPrograms(t, []*Profile{p}, target(0))[0]; len(theirs) > 0 {
		t.Errorf("the same conditions twice: they make %d instructions", len(theirs))
	}
	if got := likePeer(t, p, target(0)).Action(X86_64.Audit(), personality, [6]uint64{1}); got != Trap {
		t.Errorf("the same conditions twice: we answer %v", got)
	}
}

// Unconditional rules: the first decides, for both, wherever it stands.
func TestUnconditionalRulesAsInLibseccomp(t *testing.T) {
	cond := []Condition{{Index: 0, Op: EQ, Value: 1}}
	for _, rules := range [][]SyscallRule{
		{{Action: Trap, Args: cond}, {Action: Allow}},
		{{Action: Allow}, {Action: Trap, Args: cond}},
		{{Action: Trap}, {Action: Allow}},
		{{Action: Trap}, {Action: Allow, Args: cond}, {Action: KillProcess}},
		{{Action: Errno(1), Args: cond}, {Action: Errno(1)}, {Action: Allow, Args: cond}},
	} {
		for i := range rules {
			rules[i].Names = []string{"personality"}
		}
		p := &Profile{DefaultAction: Errno(1), Architectures: []Arch{I386, X32}, Syscalls: rules}
		theirs := peerPrograms(t, []*Profile{p}, target(0))[0]
		comparePeer(t, likePeer(t, p, target(0)), theirs, rand.New(rand.NewPCG(14, 14)), nil)
	}
}
