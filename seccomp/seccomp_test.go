package seccomp

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/bpf"
)

// target is a fixed target, so that tests do not depend on the machine.
func target(caps capability.Set) Target {
	return Target{Arch: X86_64, Caps: caps, Kernel: KernelVersion{6, 1}}
}

// audits are the architectures that tests ask about: all with a table, and none.
var audits = []uint32{X86_64.Audit(), I386.Audit(), ARM.Audit(), ARM64.Audit(), 0}

// checkFilter compares the filter of a policy with the policy itself, over all
// numbers of all ABIs, with arguments at and around the values of the rules
// and at random.
func checkFilter(t *testing.T, p *Policy, seed uint64) *Filter {
	t.Helper()
	f, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	edges := []uint32{1<<30 - 1, 1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1, 1<<30 + 1024}
	for _, audit := range audits {
		for nr := range uint32(1024) {
			checkNumber(t, p, f, audit, nr, rng)
			checkNumber(t, p, f, audit, nr|1<<30, rng)
		}
		for _, nr := range edges {
			checkNumber(t, p, f, audit, nr, rng)
		}
	}
	return f
}

func checkNumber(t *testing.T, p *Policy, f *Filter, audit, nr uint32, rng *rand.Rand) {
	t.Helper()
	conds := conditionsOf(p, audit, nr)
	tries := 1
	if len(conds) > 0 {
		tries = 40 + 30*len(conds)
	}
	checkTimes(t, p, f, audit, nr, rng, conds, tries)
}

// checkTimes compares the filter with the policy for a number, with as many
// sets of arguments as tries.
func checkTimes(t *testing.T, p *Policy, f *Filter, audit, nr uint32, rng *rand.Rand, conds []Condition, tries int) {
	t.Helper()
	for range tries {
		d := bpf.Data{Nr: nr, Arch: audit, IP: rng.Uint64(), Args: randomArgs(rng, conds)}
		want := p.Decide(audit, nr, d.Args)
		got, err := bpf.Run(f.Program, &d)
		if err != nil || Action(got) != want.Action {
			t.Fatalf("arch %#x nr %#x args %#x: filter says %v, %v; policy says %+v\n%s",
				audit, nr, d.Args, Action(got), err, want, bpf.Format(f.Program))
		}
	}
	ret, ok := bpf.Constant(f.Program, audit, nr)
	if !ok && len(conds) == 0 {
		t.Fatalf("arch %#x nr %#x: not decided by number alone", audit, nr)
	}
	if want := p.Action(audit, nr, [6]uint64{}); ok && Action(ret) != want {
		t.Fatalf("arch %#x nr %#x: %v by number alone, want %v", audit, nr, Action(ret), want)
	}
}

// conditionsOf returns the conditions that can matter for a number.
func conditionsOf(p *Policy, audit, nr uint32) []Condition {
	rules := p.find(audit, nr)
	if rules == nil {
		return nil
	}
	call := rules.call(nr)
	if call == nil {
		return nil
	}
	var conds []Condition
	for _, r := range call.Rules {
		if len(r.Args) == 0 {
			break
		}
		conds = append(conds, r.Args...)
	}
	return conds
}

// randomArgs draws arguments, most of them near a value of a condition.
func randomArgs(rng *rand.Rand, conds []Condition) [6]uint64 {
	var args [6]uint64
	for i := range args {
		switch rng.IntN(4) {
		case 0:
			args[i] = rng.Uint64()
		case 1:
			args[i] = uint64(rng.IntN(16))
		}
	}
	for _, i := range rng.Perm(len(conds)) {
		c := conds[i]
		v := c.Value
		switch {
		case c.Op == MaskedEQ && rng.IntN(2) == 0:
			v = rng.Uint64()&^c.Value | c.ValueTwo
		case c.Op == MaskedEQ:
			v = c.ValueTwo ^ 1<<rng.IntN(64)
		default:
			v += uint64(rng.IntN(3)) - 1
		}
		switch rng.IntN(8) {
		case 0:
			v ^= 1 << (32 + rng.IntN(32))
		case 1:
			v = uint64(uint32(v))
		case 2:
			v ^= 1 << rng.IntN(64)
		}
		args[c.Index] = v
	}
	return args
}

func mustResolve(t testing.TB, p *Profile, target Target) *Policy {
	t.Helper()
	policy, _, err := p.Resolve(target)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

func TestDefaultProfileFilter(t *testing.T) {
	for name, caps := range map[string]capability.Set{
		"none": 0, "docker": capability.Default(), "all": capability.Known(),
		"admin": capability.Of(capability.SYS_ADMIN),
	} {
		t.Run(name, func(t *testing.T) {
			f := checkFilter(t, mustResolve(t, Default(), target(caps)), 1)
			t.Logf("%d instructions", len(f.Program))
		})
	}
}

// Profiles as they are in the field: Docker's, those of its tests, in the old
// form too, and, where it is installed, Podman's.
func TestRealProfiles(t *testing.T) {
	mod := profileModule(t)
	files, err := filepath.Glob(filepath.Join(mod, "fixtures", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no profiles in %s: %v", mod, err)
	}
	files = append(files, filepath.Join(mod, "default.json"))
	if podman := "/usr/share/containers/seccomp.json"; exists(podman) {
		files = append(files, podman)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			p, err := LoadProfile(file)
			if filepath.Base(file) == "example.json" {
				// Its error number is made up: the kernel would cut it.
				if err == nil || !strings.HasSuffix(err.Error(), "errnoRet: 12345 is no error number; they go from 0 to 4095") {
					t.Errorf("errnoRet 12345: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, caps := range []capability.Set{0, capability.Default(), capability.Known()} {
				checkFilter(t, mustResolve(t, p, target(caps)), 2)
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// profileModule returns the directory of the module that has Docker's profile.
func profileModule(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/profiles/seccomp").Output()
	if err != nil {
		t.Fatalf("find Docker's profile: %v", err)
	}
	return strings.TrimSpace(string(out))
}
