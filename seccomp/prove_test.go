package seccomp

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// The terms of package bpf mean what Decide says.
func TestSpecAgreesWithDecide(t *testing.T) {
	rng := rand.New(rand.NewPCG(20, 20))
	for range 60 {
		p := randomPolicy(rng, 5)
		s := p.Spec()
		for range 3000 {
			d := bpf.Data{Nr: uint32(rng.IntN(600)), Arch: audits[rng.IntN(len(audits))]}
			switch rng.IntN(8) {
			case 0:
				d.Nr |= 1 << 30
			case 1:
				d.Nr = rng.Uint32()
			case 2:
				d.Nr = []uint32{noCall, noCall - 1, 1 << 30, 1<<30 - 1, 1 << 31, 0x400001ff, 0x40000200, 0x40000223, 0x40000224}[rng.IntN(9)]
			}
			d.Args = randomArgs(rng, conditionsOf(p, d.Arch, d.Nr))
			if got, want := Action(s.Answer(&d)), p.Action(d.Arch, d.Nr, d.Args); got != want {
				t.Fatalf("%+v: spec says %v, policy %v", d, got, want)
			}
		}
	}
}

// mutants returns prog with one field of one instruction changed, in all ways
// that matter for small fields and several for the constant, as far as the
// kernel accepts the result.
func mutants(prog []bpf.Instruction, rng *rand.Rand) [][]bpf.Instruction {
	ops := []uint16{bpf.LdAbs, bpf.LdImm, bpf.LdLen, bpf.And, bpf.Or, bpf.Add, bpf.Sub, bpf.Xor, bpf.Neg, bpf.Ja, bpf.Jeq, bpf.Jgt, bpf.Jge, bpf.Jset, bpf.Jeq | bpf.SrcX, bpf.Tax, bpf.Txa, bpf.RetK, bpf.RetA}
	var list [][]bpf.Instruction
	for i, in := range prog {
		add := func(m bpf.Instruction) {
			if m == in {
				return
			}
			mutant := append([]bpf.Instruction(nil), prog...)
			mutant[i] = m
			if bpf.Check(mutant) == nil {
				list = append(list, mutant)
			}
		}
		m := in
		m.Op = ops[rng.IntN(len(ops))]
		add(m)
		for _, k := range []uint32{in.K + 1, in.K - 1, in.K ^ 1<<rng.IntN(32), rng.Uint32()} {
			m = in
			m.K = k
			add(m)
		}
		if in.Op&7 == 5 && in.Op != bpf.Ja {
			m = in
			m.JT, m.JF = m.JF, m.JT
			add(m)
			for range 2 {
				m = in
				m.JT = uint8(rng.IntN(min(256, len(prog))))
				add(m)
				m = in
				m.JF = uint8(rng.IntN(min(256, len(prog))))
				add(m)
			}
		}
	}
	return list
}

// checkMutants changes a filter in many ways. The prover must find each
// change, with a call that shows it, unless it changes no answer.
func checkMutants(t *testing.T, p *Policy, rng *rand.Rand) (found, equal, unsure int) {
	t.Helper()
	f, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	spec := p.Spec()
	for _, mutant := range mutants(f.Program, rng) {
		err := bpf.Prove(mutant, spec)
		var d *bpf.Difference
		switch {
		case err == nil:
			equal++
			sample(t, p, mutant, rng)
		case errors.As(err, &d):
			found++
			got, err := bpf.Run(mutant, &d.Example)
			want := p.Action(d.Example.Arch, d.Example.Nr, d.Example.Args)
			if err != nil || Action(got) == want || got != d.Got || want != Action(d.Want) {
				t.Fatalf("%v is none: the program answers %#x, %v, the policy %v\n%s", d, got, err, want, bpf.Format(mutant))
			}
		default:
			unsure++
		}
	}
	return found, equal, unsure
}

// sample looks for a call that prog and the policy answer differently.
func sample(t *testing.T, p *Policy, prog []bpf.Instruction, rng *rand.Rand) {
	t.Helper()
	for i := range p.Archs {
		a := &p.Archs[i]
		for nr := range uint32(600) {
			d := bpf.Data{Nr: a.Arch.Number(0) + nr, Arch: a.Arch.Audit()}
			conds := conditionsOf(p, d.Arch, d.Nr)
			for range 1 + 6*len(conds) {
				d.Args = randomArgs(rng, conds)
				got, err := bpf.Run(prog, &d)
				if want := p.Action(d.Arch, d.Nr, d.Args); err != nil || Action(got) != want {
					t.Fatalf("%+v: proved, but the program answers %#x, %v, the policy %v\n%s", d, got, err, want, bpf.Format(prog))
				}
			}
		}
	}
}

func TestProverFindsMutants(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 21))
	check := func(name string, p *Policy) {
		found, equal, unsure := checkMutants(t, p, rng)
		t.Logf("%s: %d found, %d change no answer, %d could not be decided", name, found, equal, unsure)
		if found < 10*equal || unsure > found/20 {
			t.Errorf("%s: too few were found", name)
		}
	}
	all := mustResolve(t, Default(), target(capability.Default()))
	check("three ABIs", all)
	native := *all
	native.Archs = all.Archs[:1]
	check("x86-64", &native)
	s390x := Target{Arch: syscalls.S390X, Caps: capability.Default(), Kernel: KernelVersion{6, 1}}
	check("s390x", mustResolve(t, Default(), s390x))
	for i := range 12 {
		p := randomPolicy(rng, 3)
		for j := range p.Archs {
			p.Archs[j].Calls = p.Archs[j].Calls[:min(len(p.Archs[j].Calls), 12)]
		}
		found, equal, unsure := checkMutants(t, p, rng)
		if found < equal || unsure > found/4 {
			t.Errorf("random policy %d: %d found, %d change no answer, %d could not be decided", i, found, equal, unsure)
		}
	}
}

// Docker's profile for every architecture and every capability: each program
// is proved, and all calls that are always allowed are in the kernel's bitmap.
func TestDefaultProfileEverywhere(t *testing.T) {
	sets := []capability.Set{0, capability.Default(), capability.Known()}
	for _, c := range capability.Known().List() {
		sets = append(sets, capability.Of(c))
	}
	for a := Arch(0); a < maxArchs; a++ {
		if !a.HasTable() {
			continue
		}
		shortest, longest := 1<<20, 0
		for _, caps := range sets {
			p := mustResolve(t, Default(), Target{Arch: a, Caps: caps, Kernel: KernelVersion{6, 1}})
			f, err := Compile(p)
			if err != nil {
				t.Fatalf("%v, %v: %v", a, caps, err)
			}
			shortest, longest = min(shortest, len(f.Program)), max(longest, len(f.Program))
			checkBitmap(t, p, f)
		}
		t.Logf("%v: %d to %d instructions", a, shortest, longest)
	}
}

// checkBitmap holds that the kernel sees by the number alone what the policy
// decides by the number alone.
func checkBitmap(t *testing.T, p *Policy, f *Filter) {
	t.Helper()
	for i := range p.Archs {
		a := &p.Archs[i]
		for slot := range uint32(syscalls.MaxSlots) {
			nr := a.Arch.Number(slot)
			call := a.call(nr)
			if call != nil {
				if _, constant := call.constant(); !constant {
					continue
				}
			}
			ret, ok := bpf.Constant(f.Program, a.Arch.Audit(), nr)
			if want := p.Action(a.Arch.Audit(), nr, [6]uint64{}); !ok || Action(ret) != want {
				t.Fatalf("%v, number %#x: the kernel sees %v, %v, not %v", a.Arch, nr, Action(ret), ok, want)
			}
		}
	}
}

// Rules that no optimisation can make short: the prover must not take for ever.
func TestCompileHardPolicies(t *testing.T) {
	every := func(rules func(nr int) []Rule) *Policy {
		a := ArchRules{Arch: X86_64, Newest: 460}
		for nr := range 460 {
			a.Calls = append(a.Calls, CallRules{uint32(nr), rules(nr)})
		}
		return &Policy{Default: Errno(1), Newer: Errno(38), OtherArch: KillProcess, Archs: []ArchRules{a}}
	}
	cond := func(index int, op Op, v uint64) Condition {
		return Condition{Index: uint8(index), Op: op, Value: v, Bits: 64}
	}
	for name, p := range map[string]*Policy{
		"all calls conditional": every(func(nr int) []Rule {
			narrow := cond((nr+1)%6, NE, uint64(nr))
			narrow.Bits = 32
			return []Rule{{Action: Allow, Args: []Condition{cond(nr%6, GE, uint64(nr)<<20), narrow}}}
		}),
		"pairs of arguments": {Default: Errno(1), Newer: Errno(38), OtherArch: KillProcess, Archs: []ArchRules{
			{Arch: X86_64, Newest: noCall, Calls: []CallRules{{16, func() (rules []Rule) {
				for i := range 120 {
					rules = append(rules, Rule{Action: Errno(uint16(i + 2)), Args: []Condition{cond(i%3, GT, uint64(i)<<33|7), cond(3+i%3, NE, uint64(i))}})
				}
				return rules
			}()}}},
		}},
		"masks": {Default: Errno(1), Newer: Errno(38), OtherArch: KillProcess, Archs: []ArchRules{
			{Arch: X86_64, Newest: noCall, Calls: []CallRules{{16, func() (rules []Rule) {
				for i := range 60 {
					m := uint64(0x9e3779b97f4a7c15) >> (i % 5)
					rules = append(rules, Rule{Action: Errno(uint16(i + 2)), Args: []Condition{{Index: uint8(i % 2), Op: MaskedEQ, Value: m, ValueTwo: m & (uint64(i) * 0x0101010101010101), Bits: 64}}})
				}
				return rules
			}()}}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := checkFilter(t, p, 22)
			t.Logf("%d instructions", len(f.Program))
		})
	}
}
