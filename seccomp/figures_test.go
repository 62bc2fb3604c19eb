package seccomp

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// executed returns how many instructions a program runs for a call, and how
// many of them before it looks at an argument.
func executed(t *testing.T, prog []bpf.Instruction, d bpf.Data) (all, before int) {
	t.Helper()
	pc := 0
	var a uint32
	argument := false
	for {
		in := prog[pc]
		all++
		argument = argument || in.Op == bpf.LdAbs && in.K >= bpf.OffArgs
		if !argument {
			before++
		}
		taken := false
		switch in.Op {
		case bpf.RetK:
			return all, before
		case bpf.LdAbs:
			ret, err := bpf.Run([]bpf.Instruction{in, {Op: bpf.RetA}}, &d)
			if err != nil {
				t.Fatal(err)
			}
			a = ret
		case bpf.And:
			a &= in.K
		case bpf.Ja:
			pc += int(in.K)
		case bpf.Jeq:
			taken = a == in.K
		case bpf.Jgt:
			taken = a > in.K
		case bpf.Jge:
			taken = a >= in.K
		case bpf.Jset:
			taken = a&in.K != 0
		default:
			t.Fatalf("instruction %v", in)
		}
		switch {
		case in.Op&7 != 5 || in.Op == bpf.Ja:
		case taken:
			pc += int(in.JT)
		default:
			pc += int(in.JF)
		}
		pc++
	}
}

// mix returns the recorded shares of calls, of which all together are 1.
func mix(t *testing.T) map[string]float64 {
	t.Helper()
	files, err := filepath.Glob("../bench/seccomp/mix/*.txt")
	if err != nil || len(files) != 3 {
		t.Fatalf("recordings %q: %v", files, err)
	}
	share := map[string]float64{}
	for _, file := range files {
		counts, total := map[string]float64{}, 0.0
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for sc := bufio.NewScanner(strings.NewReader(string(text))); sc.Scan(); {
			var name string
			var n float64
			if strings.HasPrefix(sc.Text(), "#") {
				continue
			}
			if _, err := fmt.Sscan(sc.Text(), &name, &n); err != nil {
				continue
			}
			counts[name] += n
			total += n
		}
		for name, n := range counts {
			share[name] += n / total / float64(len(files))
		}
	}
	return share
}

// What Docker's default profile costs: the length of its filter, and how much
// of it a call runs.
func TestFigures(t *testing.T) {
	all := mustResolve(t, Default(), target(capability.Default()))
	native := *all
	native.Archs = all.Archs[:1]
	for _, tc := range []struct {
		name   string
		policy *Policy
		length int
	}{{"three ABIs", all, 220}, {"x86-64", &native, 100}} {
		f, err := Compile(tc.policy)
		if err != nil {
			t.Fatal(err)
		}
		worst, worstAt := 0, ""
		for _, a := range tc.policy.Archs {
			sum, n := 0, 0
			for nr := range uint32(600) {
				_, before := executed(t, f.Program, bpf.Data{Nr: nr | a.Arch.Bit(), Arch: a.Arch.Audit()})
				if before > worst {
					worst, worstAt = before, fmt.Sprint(a.Arch, nr)
				}
				if nr < 470 {
					sum += before
					n++
				}
			}
			t.Logf("%s %v: mean %.2f", tc.name, a.Arch, float64(sum)/float64(n))
		}
		mean := 0.0
		for name, share := range mix(t) {
			nr, _ := syscalls.Number(X86_64, name)
			n, _ := executed(t, f.Program, bpf.Data{Nr: nr, Arch: X86_64.Audit()})
			mean += share * float64(n)
		}
		arguments := 0
		for family := range uint64(64) {
			n, before := executed(t, f.Program, bpf.Data{Nr: 41, Arch: X86_64.Audit(), Args: [6]uint64{family}})
			arguments = max(arguments, n-before)
		}
		_, socket := executed(t, f.Program, bpf.Data{Nr: 41, Arch: X86_64.Audit()})
		_, clone := executed(t, f.Program, bpf.Data{Nr: 56, Arch: X86_64.Audit()})
		pers, p := executed(t, f.Program, bpf.Data{Nr: 135, Arch: X86_64.Audit(), Args: [6]uint64{0xffffffff}})
		t.Logf("%s: %d instructions; %.2f run for a call of the mix, %d at worst (%s); socket %d + %d, clone %d, personality %d of %d", tc.name, len(f.Program), mean, worst, worstAt, socket, arguments, clone, p, pers)
		if len(f.Program) > tc.length || worst > 16 || arguments > 8 {
			t.Error("that is too much")
		}
	}
}
