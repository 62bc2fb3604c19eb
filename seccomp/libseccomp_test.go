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

// peerPrograms makes a filter of each profile for t with libseccomp.
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
		if err := bpf.Check(prog); err != nil {
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

// likePeer returns the policy of a profile without ENOSYS for newer calls,
// which is runc's work and not libseccomp's.
func likePeer(t *testing.T, p *Profile, target Target) *Policy {
	policy := mustResolve(t, p, target)
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
			f, err := Compile(ours)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d calls agree; libseccomp's filter has %d instructions, ours %d", n, len(theirs), len(f.Program))
		})
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
