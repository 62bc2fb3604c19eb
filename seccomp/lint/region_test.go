package lint

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// borders are values around which mistakes happen.
var borders = [...]uint64{
	0, 1, 2, 5, 0x7fff, 0x8000, 0xffff, 0x10000, 0x10001, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
	1 << 32, 1<<32 + 1, 1<<32 + 5, 1 << 48, 1<<63 - 1, 1 << 63, 1<<64 - 2, 1<<64 - 1,
}

func value(r *rand.Rand) uint64 {
	v := borders[r.IntN(len(borders))]
	if r.IntN(4) == 0 {
		v ^= borders[r.IntN(len(borders))]
	}
	return v
}

func randomCondition(r *rand.Rand, bits uint8) seccomp.Condition {
	c := seccomp.Condition{Index: uint8(r.IntN(2)), Op: seccomp.Op(r.IntN(7)), Value: value(r), Bits: bits}
	if c.Op == seccomp.MaskedEQ {
		c.Value &= top(c)
		c.ValueTwo = value(r)
		if r.IntN(4) > 0 {
			c.ValueTwo &= c.Value
		}
	}
	return c
}

func randomRules(r *rand.Rand) []seccomp.Rule {
	actions := []seccomp.Action{seccomp.Allow, seccomp.Errno(1), seccomp.KillProcess}
	list := make([]seccomp.Rule, 1+r.IntN(4))
	for i := range list {
		list[i] = seccomp.Rule{Action: actions[r.IntN(3)], Index: i}
		for range 1 + r.IntN(2) {
			list[i].Args = append(list[i].Args, randomCondition(r, []uint8{16, 32, 64}[r.IntN(3)]))
		}
	}
	return list
}

// decided asks the policy which rule decides; it counts the rules from 0.
func decided(list []seccomp.Rule, args [6]uint64) int {
	p := seccomp.Policy{Archs: []seccomp.ArchRules{{Arch: syscalls.X86_64, Newest: 9, Calls: []seccomp.CallRules{{Nr: 1, Rules: list}}}}}
	return p.Decide(syscalls.X86_64.Audit(), 1, args).Rule
}

// contains reports whether arguments are in a region.
func (r *region) contains(args [6]uint64) bool {
	for i, l := range r {
		v := limbOf(args[i/limbs], i%limbs)
		if v < l.lo || v > l.hi || v&l.mask != l.val {
			return false
		}
	}
	return true
}

// The regions of a walk are disjoint, together everything, and each is decided
// by the rule that the policy names.
func TestWalk(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1500 {
		list := randomRules(r)
		var regions []region
		var by []int
		w := walker{left: 1 << 20, total: &budget{}}
		if !w.walk(everything(), list, func(part region, i int) bool {
			regions, by = append(regions, part), append(by, i)
			return true
		}) {
			t.Fatalf("gave up on %+v", list)
		}
		for i := range regions {
			if got := decided(list, regions[i].pick()); got != by[i] || !regions[i].contains(regions[i].pick()) {
				t.Fatalf("%+v with %#x: rule %d decides, not %d", list, regions[i].pick(), got, by[i])
			}
		}
		for range 20 {
			args := [6]uint64{value(r), value(r)}
			in := -1
			for i := range regions {
				if regions[i].contains(args) {
					if in >= 0 {
						t.Fatalf("%+v: %#x is in two regions", list, args)
					}
					in = i
				}
			}
			if in < 0 || by[in] != decided(list, args) {
				t.Fatalf("%+v: %#x is in no region, or in a wrong one", list, args)
			}
		}
	}
}

func TestLimb(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		l := limb{uint16(r.Uint32()), uint16(r.Uint32()), uint16(r.Uint32() & r.Uint32()), 0}
		l.val = uint16(r.Uint32()) & l.mask
		want, found := uint16(0), false
		for v := int(l.lo); v <= int(l.hi) && !found; v++ {
			want, found = uint16(v), uint16(v)&l.mask == l.val
		}
		if got, ok := l.pick(); ok != found || ok && got != want {
			t.Fatalf("%+v: got %#x %v, want %#x %v", l, got, ok, want, found)
		}
	}
}

// A question that is too large is given up, and proves nothing.
func TestGivesUp(t *testing.T) {
	var list []seccomp.Rule
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 40 {
		mask := r.Uint64()
		list = append(list, seccomp.Rule{Index: i, Args: []seccomp.Condition{
			{Index: uint8(i % 6), Op: seccomp.MaskedEQ, Value: mask, ValueTwo: mask & r.Uint64(), Bits: 64}}})
	}
	b := budget{left: maxTotal}
	rest := seccomp.Rule{Index: 40}
	if _, ok := b.coveredBy(append(list[:2:2], rest), seccomp.Rule{}); !ok || b.gaveUp {
		t.Error("not covered by a rule for all arguments")
	}
	if by, ok := b.coveredBy(append(list, rest), seccomp.Rule{}); ok || !b.gaveUp {
		t.Errorf("covered by %v, which nobody can have found out", by)
	}
}

// randomProfile has a few rules for a few calls.
func randomProfile(r *rand.Rand) *seccomp.Profile {
	names := []string{"socket", "clone", "chmod", "personality"}
	actions := []seccomp.Action{seccomp.Allow, seccomp.Errno(1), seccomp.Errno(38)}
	p := &seccomp.Profile{DefaultAction: actions[r.IntN(2)], Architectures: []seccomp.Arch{syscalls.I386}}
	for range 1 + r.IntN(6) {
		rule := seccomp.SyscallRule{Action: actions[r.IntN(3)], Names: names[:1+r.IntN(3)]}
		if r.IntN(3) == 0 {
			rule.Names = names[3:]
		}
		for range r.IntN(3) {
			c := randomCondition(r, 64)
			c.Bits = 0
			c.ValueTwo &= c.Value
			if c.Op != seccomp.MaskedEQ {
				c.ValueTwo = 0
			}
			rule.Args = append(rule.Args, c)
		}
		p.Syscalls = append(p.Syscalls, rule)
	}
	return p
}

// same reports whether two policies answer alike, as far as chance shows.
func same(r *rand.Rand, a, b *seccomp.Policy, name string) bool {
	for _, arch := range a.Archs {
		nr, ok := syscalls.Number(arch.Arch, name)
		for range 60 {
			args := [6]uint64{value(r), value(r)}
			if ok && a.Action(arch.Arch.Audit(), nr, args) != b.Action(arch.Arch.Audit(), nr, args) {
				return false
			}
		}
	}
	return true
}

// without returns the profile without some names of a rule, whose place stays.
func without(p *seccomp.Profile, rule int, names []string) *seccomp.Profile {
	q := *p
	q.Syscalls = slices.Clone(p.Syscalls)
	var left []string
	for _, name := range p.Syscalls[rule].Names {
		if !slices.Contains(names, name) {
			left = append(left, name)
		}
	}
	q.Syscalls[rule] = seccomp.SyscallRule{Names: left, Action: p.Syscalls[rule].Action, Args: p.Syscalls[rule].Args}
	return &q
}

// What is said to have no effect has none, what is said to be evaded is, and
// what is said to hold always does.
func TestTruth(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	seen := map[string]int{}
	for range 1500 {
		p := randomProfile(r)
		policy, _, err := p.Resolve(target(syscalls.X86_64))
		if err != nil {
			t.Fatal(err)
		}
		list, err := Check(p, target(syscalls.X86_64))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			seen[f.Code]++
			switch f.Code {
			case "shadowed-rule", "no-effect":
				if p.Syscalls[f.Rule].Action == p.DefaultAction {
					continue
				}
				bare, _, err := without(p, f.Rule, f.Names).Resolve(target(syscalls.X86_64))
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range f.Names {
					if !same(r, policy, bare, name) {
						t.Fatalf("%s\nis wrong for %s in %+v", f.Format("p"), name, p.Syscalls)
					}
				}
			case "always-holds":
				for _, name := range f.Names {
					if nr, ok := syscalls.Number(syscalls.X86_64, name); ok && f.Archs == nil && len(p.Syscalls[f.Rule].Args) == 1 {
						for range 30 {
							d := policy.Decide(syscalls.X86_64.Audit(), nr, [6]uint64{value(r), value(r)})
							if d.Reason != seccomp.ByRule {
								t.Fatalf("%s\nis wrong for %s in %+v", f.Format("p"), name, p.Syscalls)
							}
						}
					}
				}
			}
		}
	}
	for _, code := range []string{"shadowed-rule", "no-effect", "always-holds", "wide-compare", "or-ed-conditions"} {
		if seen[code] < 20 {
			t.Errorf("%s: found only %d times", code, seen[code])
		}
	}
}

// Where an example of a wrong comparison is given, the two policies differ in
// the way that is said; where none is, they agree, as far as chance shows.
func TestWidths(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	evaded := 0
	for range 1500 {
		p := randomProfile(r)
		narrow, _, err := p.Resolve(target(syscalls.X86_64))
		if err != nil {
			t.Fatal(err)
		}
		wide, _, err := p.ResolveWith(target(syscalls.X86_64), seccomp.Options{WideArgs: true})
		if err != nil {
			t.Fatal(err)
		}
		for i, a := range narrow.Archs {
			for j, call := range a.Calls {
				b := budget{left: maxTotal}
				f, found := b.compare(call.Rules, wide.Archs[i].Calls[j].Rules, p.DefaultAction, everything(), stricter)
				ask := func(args [6]uint64) (kernel, runtime seccomp.Action) {
					return narrow.Action(a.Arch.Audit(), call.Nr, args), wide.Action(a.Arch.Audit(), call.Nr, args)
				}
				if found {
					evaded++
					if kernel, runtime := ask(f.example); kernel != f.kernel || runtime != f.runtime || !stricter(kernel, runtime) {
						t.Fatalf("%#x: %v and %v, not %v and %v: %+v", f.example, kernel, runtime, f.kernel, f.runtime, p.Syscalls)
					}
					continue
				}
				for range 60 {
					args := [6]uint64{value(r), value(r)}
					if kernel, runtime := ask(args); stricter(kernel, runtime) {
						t.Fatalf("%#x evades %v and gets %v, and was not found: %+v", args, kernel, runtime, p.Syscalls)
					}
				}
			}
		}
	}
	if evaded < 100 {
		t.Errorf("only %d examples", evaded)
	}
}

// Rules apply to the targets for which Resolve keeps them.
func TestApplies(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	kernels := []seccomp.KernelVersion{{}, {Major: 4, Minor: 8}, {Major: 6, Minor: 1}, {Major: 7, Minor: 0}}
	applied := 0
	for range 2000 {
		pick := func() seccomp.Selector {
			s := seccomp.Selector{Caps: target(0).Caps &^ (1<<r.IntN(40) - 1), MinKernel: kernels[r.IntN(4)]}
			if r.IntN(2) == 0 {
				s.Caps = 0
			}
			if r.IntN(2) == 0 {
				s.Arches = []seccomp.Arch{seccomp.Arch(r.IntN(5))}
			}
			return s
		}
		p := &seccomp.Profile{DefaultAction: seccomp.Errno(1), Syscalls: []seccomp.SyscallRule{
			{Names: []string{"read"}, Action: seccomp.Allow, Includes: pick(), Excludes: pick()}}}
		if r.IntN(2) == 0 {
			p.Syscalls[0].Excludes = seccomp.Selector{}
		}
		at := target(seccomp.Arch(r.IntN(5)))
		policy, _, err := p.Resolve(at)
		if err != nil {
			t.Fatal(err)
		}
		c := checker{profile: p, target: at, policy: policy}
		if got, want := c.applies(&p.Syscalls[0]), len(policy.Archs[0].Calls) == 1; got != want {
			t.Fatalf("%v for %+v: %+v", got, at, p.Syscalls[0])
		} else if got {
			applied++
		}
		if why, _ := contradiction(&p.Syscalls[0]); why != "" && at.Arch != syscalls.X32 && c.applies(&p.Syscalls[0]) {
			t.Fatalf("applies although %s", why)
		}
	}
	if applied == 0 {
		t.Error("no rule applied")
	}
}
