package seccomp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/seccomp/bpf"
)

// source is where random policies come from: a generator, or a fuzzer's bytes.
type source interface {
	IntN(n int) int
	Uint64() uint64
}

// input is the bytes of a fuzzer as a source. It gives zeros at its end.
type input struct{ b []byte }

func (in *input) Uint64() uint64 {
	var b [8]byte
	n := copy(b[:], in.b)
	in.b = in.b[n:]
	return binary.LittleEndian.Uint64(b[:])
}

func (in *input) IntN(n int) int {
	if len(in.b) == 0 {
		return 0
	}
	v := int(in.b[0])
	in.b = in.b[1:]
	if n > 256 && len(in.b) > 0 {
		v = v<<8 | int(in.b[0])
		in.b = in.b[1:]
	}
	return v % n
}

func randomAction(s source) Action {
	switch s.IntN(12) {
	case 0, 1, 2, 3:
		return Allow
	case 4:
		return KillProcess
	case 5:
		return KillThread
	case 6:
		return Trap
	case 7:
		return Trace(uint16(s.IntN(300)))
	case 8:
		return Log
	case 9:
		return Notify
	}
	return Errno(uint16(s.IntN(300)))
}

// randomValue draws values that are near to each other and near to the borders
// of words and signs.
func randomValue(s source) uint64 {
	v := uint64(s.IntN(24))
	switch s.IntN(8) {
	case 0:
		return s.Uint64()
	case 1:
		return v << 32
	case 2:
		return v<<32 | uint64(s.IntN(4))
	case 3:
		return 1<<32 - 2 + v%4
	case 4:
		return -v
	case 5:
		return 1<<31 - 2 + v%4
	}
	return v
}

func randomCondition(s source) Condition {
	c := Condition{Index: uint8(s.IntN(6)), Op: Op(s.IntN(len(opNames))), Value: randomValue(s)}
	if s.IntN(3) > 0 {
		c.Index = 0
	}
	if c.Op == MaskedEQ {
		c.ValueTwo = randomValue(s)
		if s.IntN(4) > 0 {
			c.ValueTwo &= c.Value
		}
	}
	return c
}

// bitsOf are the widths of arguments that a random rule of an ABI sees.
func bitsOf(s source, a Arch, index uint8) uint8 {
	// One argument of a call has one width.
	bits := []uint8{64, 32, 16, 64, 32, 16}[(int(index)+s.IntN(2))%6]
	if !a.Is64() {
		bits = min(bits, 32)
	}
	return bits
}

func randomRules(s source, a Arch) []Rule {
	var rules []Rule
	few := s.IntN(2)
	for range s.IntN(1 + 9*few) {
		r := Rule{Action: randomAction(s), Index: len(rules)}
		for range 1 + s.IntN(3)*s.IntN(2) {
			c := randomCondition(s)
			c.Bits = bitsOf(s, a, c.Index)
			r.Args = append(r.Args, c)
		}
		rules = append(rules, r)
	}
	if few == 0 || s.IntN(4) == 0 {
		rules = append(rules, Rule{Action: randomAction(s), Index: len(rules)})
	}
	if s.IntN(20) == 0 {
		rules = append(rules, Rule{Action: randomAction(s), Index: len(rules)}) // never reached
	}
	return rules
}

// randomPolicy draws a policy of one to max ABIs with any number of calls.
func randomPolicy(s source, max int) *Policy {
	p := &Policy{Default: randomAction(s), Newer: randomAction(s), OtherArch: randomAction(s)}
	archs := []Arch{X86_64, I386, X32, ARM, ARM64}
	start := s.IntN(max)
	for i := range 1 + s.IntN(max) {
		p.Archs = append(p.Archs, randomArch(s, archs[(start+i)%max]))
	}
	return p
}

func randomArch(s source, a Arch) ArchRules {
	rules := ArchRules{Arch: a, Newest: noCall}
	if s.IntN(4) > 0 {
		rules.Newest = uint32(s.IntN(500)) | a.Bit()
	}
	step := 1 + s.IntN(40)
	for nr := s.IntN(20); nr < 500; nr += 1 + s.IntN(step) {
		rules.Calls = append(rules.Calls, CallRules{uint32(nr) | a.Bit(), randomRules(s, a)})
		if len(rules.Calls) > 60 && step < 20 {
			break
		}
	}
	return rules
}

func TestCompileRandomPolicies(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	tooLong := 0
	for i := range 120 {
		p := randomPolicy(rng, 5)
		if !checkFilterIfShort(t, p, uint64(i)) {
			tooLong++
		}
	}
	if tooLong > 12 {
		t.Errorf("%d policies are too long", tooLong)
	}
}

// checkFilterIfShort compares a policy with its filter, if the kernel would
// accept a filter as long.
func checkFilterIfShort(t *testing.T, p *Policy, seed uint64) bool {
	t.Helper()
	if _, err := Compile(p); err != nil {
		if strings.Contains(err.Error(), "the kernel accepts at most") {
			return false
		}
		t.Fatal(err)
	}
	checkFilter(t, p, seed)
	return true
}

// FuzzCompile holds that a filter answers what its policy does.
func FuzzCompile(f *testing.F) {
	rng := rand.New(rand.NewPCG(6, 6))
	for range 10 {
		b := make([]byte, 200)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := randomPolicy(&input{b}, 5)
		filter, err := Compile(p)
		if err != nil {
			return
		}
		rng := rand.New(rand.NewPCG(7, uint64(len(b))))
		check := func(audit, nr uint32) {
			conds := conditionsOf(p, audit, nr)
			checkTimes(t, p, filter, audit, nr, rng, conds, 1+3*len(conds))
		}
		for i := range p.Archs {
			a := &p.Archs[i]
			for _, call := range a.Calls {
				check(a.Arch.Audit(), call.Nr)
			}
			check(a.Arch.Audit(), a.Newest)
			check(a.Arch.Audit(), a.Newest+1)
		}
	})
}

// Programs in which jumps have to reach further than a conditional jump can.
func TestCompileLongJumps(t *testing.T) {
	for _, calls := range []int{100, 200, 300, 360} {
		p := &Policy{Default: Errno(1), Newer: Errno(38), OtherArch: KillThread}
		rules := ArchRules{Arch: X86_64, Newest: 450}
		for nr := range calls {
			// No two calls share anything, and each has several places that
			// go to the same far default.
			v := uint64(nr)<<33 | uint64(nr)
			rules.Calls = append(rules.Calls, CallRules{uint32(nr), []Rule{
				{Action: Errno(uint16(nr + 100)), Args: []Condition{{Index: 0, Op: EQ, Value: v, Bits: 64}, {Index: 1, Op: GT, Value: v, Bits: 64}}},
			}})
		}
		p.Archs = []ArchRules{rules}
		f := checkFilter(t, p, 8)
		far := 0
		for _, in := range f.Program {
			if in.Op == bpf.Ja {
				far++
			}
		}
		if len(f.Program) < 10*calls {
			t.Errorf("only %d instructions", len(f.Program))
		}
		t.Logf("%d calls: %d instructions, %d long jumps", calls, len(f.Program), far)
	}
}

// One call whose rules alone are longer than a conditional jump.
func TestCompileManyRules(t *testing.T) {
	for _, op := range []Op{EQ, MaskedEQ, LT} {
		call := CallRules{Nr: 1}
		for i := range 350 {
			c := Condition{Index: uint8(i % 6), Op: op, Value: uint64(i)<<32 | uint64(1000-i), Bits: 64}
			if op == MaskedEQ {
				c.ValueTwo = c.Value
			}
			call.Rules = append(call.Rules, Rule{Action: Errno(uint16(i)), Index: i, Args: []Condition{c}})
		}
		p := &Policy{Default: Allow, Newer: Allow, OtherArch: KillProcess, Archs: []ArchRules{
			{Arch: X86_64, Newest: noCall, Calls: []CallRules{{Nr: 0, Rules: []Rule{{Action: Trap}}}, call}},
		}}
		f := checkFilter(t, p, 9)
		if len(f.Program) < 1000 {
			t.Errorf("%v: only %d instructions", op, len(f.Program))
		}
	}
}

func TestLayoutReach(t *testing.T) {
	// A branch whose targets are any distance away must go where it says,
	// whichever is placed first.
	for _, distance := range []int{1, 126, 127, 128, 253, 254, 255, 256, 257, 511, 1000} {
		for _, gap := range []int{1, 100, 254, 255, 256, 300} {
			g := newGraph()
			// A chain has a node for each of its length.
			chain := func(length int, end, other ref) ref {
				for i := range length {
					end = g.branch(bpf.Jeq, uint32(1000+length+i), other, end)
				}
				return end
			}
			none := g.ret(3)
			no := chain(gap, g.ret(1), none)
			yes := chain(distance, g.load(bpf.OffNr, g.branch(bpf.Jeq, 7, g.ret(2), no)), none)
			prog := g.layout(g.load(bpf.OffNr, g.branch(bpf.Jge, 5, yes, no)))
			if err := bpf.Check(prog); err != nil {
				t.Fatalf("%d, %d: %v", distance, gap, err)
			}
			for nr, want := range map[uint32]uint32{4: 1, 5: 1, 7: 2, uint32(1000 + gap): 3} {
				if got, err := bpf.Run(prog, &bpf.Data{Nr: nr}); err != nil || got != want {
					t.Errorf("distance %d, gap %d, nr %d: %d, %v, want %d\n%s", distance, gap, nr, got, err, want, bpf.Format(prog))
				}
			}
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	cond := func(c Condition) []CallRules { return []CallRules{{Rules: []Rule{{Args: []Condition{c}}}}} }
	one := func(a ArchRules) *Policy { return &Policy{Archs: []ArchRules{a}} }
	var long []CallRules
	for nr := range 500 {
		c := CallRules{Nr: uint32(nr)}
		for i := range 10 {
			c.Rules = append(c.Rules, Rule{Action: Errno(uint16(nr)), Args: []Condition{{Op: MaskedEQ, Value: 3 << (i + 10), ValueTwo: 3 << (i + 10), Bits: 64}}})
		}
		long = append(long, c)
	}
	for _, tc := range []struct {
		name   string
		policy *Policy
		want   string
	}{
		{"empty", &Policy{}, "no architecture"},
		{"too long", one(ArchRules{Calls: long}), "instructions; the kernel accepts at most 4096"},
		{"no table", one(ArchRules{Arch: 200}), "no table of system calls"},
		{"twice", &Policy{Archs: []ArchRules{{}, {}}}, "SCMP_ARCH_X86_64 is listed twice"},
		{"bits", one(ArchRules{Calls: cond(Condition{Bits: 8})}), "an argument of 8 bits"},
		{"x32 number", one(ArchRules{Calls: []CallRules{{Nr: 1 << 30}}}), "0x40000000 is no number"},
		{"no x32 number", one(ArchRules{Arch: X32, Calls: []CallRules{{Nr: 1}}}), "0x1 is no number"},
		{"no number", one(ArchRules{Calls: []CallRules{{Nr: noCall}}}), "0xffffffff is no number"},
		{"order", one(ArchRules{Calls: []CallRules{{Nr: 2}, {Nr: 1}}}), "call 0x1 is not in the order"},
		{"double", one(ArchRules{Calls: []CallRules{{Nr: 2}, {Nr: 2}}}), "call 0x2 is not in the order"},
		{"argument", one(ArchRules{Calls: cond(Condition{Index: 6})}), "no argument 6"},
		{"operator", one(ArchRules{Calls: cond(Condition{Op: 7, Bits: 64})}), "operator SCMP_CMP_7"},
	} {
		f, err := Compile(tc.policy)
		if err == nil || !strings.Contains(err.Error(), tc.want) || f != nil {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestCompileIsDeterministic(t *testing.T) {
	rng := rand.New(rand.NewPCG(10, 10))
	for range 20 {
		p := randomPolicy(rng, 5)
		a, err1 := Compile(p)
		b, err2 := Compile(p)
		if fmt.Sprint(err1) != fmt.Sprint(err2) || err1 == nil && !slices.Equal(a.Program, b.Program) {
			t.Fatal("two runs differ")
		}
	}
}

func TestCompileFlags(t *testing.T) {
	notify := []CallRules{{Rules: []Rule{{Action: Notify}}}}
	for _, tc := range []struct {
		flags Flags
		calls []CallRules
		want  Flags
	}{
		{FlagTSync | FlagLog, nil, FlagTSync | FlagLog},
		{FlagLog, notify, FlagLog | FlagNewListener},
		{FlagTSync, notify, FlagTSync | FlagTSyncESRCH | FlagNewListener},
		{FlagWaitKillableRecv, notify, FlagWaitKillableRecv | FlagNewListener},
	} {
		p := &Policy{Flags: tc.flags, ListenerPath: "/l", ListenerMetadata: "m", Archs: []ArchRules{{Calls: tc.calls}}}
		f, err := Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		if f.Flags != tc.want || f.Notify != (tc.calls != nil) || f.Notify != p.UsesNotify() {
			t.Errorf("%v: flags %v, notify %v", tc.flags, f.Flags, f.Notify)
		}
		if want := map[bool]string{true: "/l"}[f.Notify]; f.ListenerPath != want {
			t.Errorf("%v: listener path %q", tc.flags, f.ListenerPath)
		}
	}
}
