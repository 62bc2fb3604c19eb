package seccomp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func parseText(t testing.TB, file, text string) *Profile {
	t.Helper()
	p, err := ParseText(file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMergeText(t *testing.T) {
	for _, tc := range []struct{ name, a, b, union, intersection string }{
		{"lists", "allow read write open", "allow close open mount", "allow close mount open read write",
			"allow open\nerrno EPERM mount write"}, // write is the newest on arm64
		{"conditions", "allow socket when arg0 == AF_UNIX", "allow socket when arg0 == AF_INET\nallow read",
			"allow read\nallow socket when arg0 == AF_UNIX\nallow socket when arg0 == AF_INET", "errno EPERM socket"},
		{"all arguments and some", "allow clone", "allow clone when arg0 & 0x7e020000 == 0",
			"allow clone", "allow clone when arg0 & CLONE_NEWNS|CLONE_NEWCGROUP|CLONE_NEWUTS|CLONE_NEWIPC|CLONE_NEWUSER|CLONE_NEWPID|CLONE_NEWNET == 0"},
		{"different arguments", "allow ioctl when arg1 == 5", "allow ioctl when arg0 == 1",
			"allow ioctl when arg0 == 1\nallow ioctl when arg1 == 5", "allow ioctl when arg0 == 1 and arg1 == 5"},
		{"wider and narrower", "allow ioctl when arg1 < 10", "allow ioctl when arg1 == 3",
			"allow ioctl when arg1 < 10", "allow ioctl when arg1 == 3"},
		{"capabilities", "allow mount if cap SYS_ADMIN", "allow mount unless cap CHOWN",
			"allow mount unless cap CHOWN\nallow mount if cap SYS_ADMIN", "allow mount if cap SYS_ADMIN unless cap CHOWN\nerrno EPERM mount unless cap CHOWN\nerrno EPERM mount if cap SYS_ADMIN"},
		{"alternatives of one rule", "allow socket when arg0 == 1 or arg0 == 2", "allow socket when arg0 == 2",
			"allow socket when arg0 == AF_UNIX\nallow socket when arg0 == AF_INET", "allow socket when arg0 == AF_INET"},
		{"a rule's error counts before the default", "errno ENOSYS clone3", "allow read", "allow read\nerrno ENOSYS clone3", "errno ENOSYS clone3"},
		{"the error of the first", "errno ENOSYS clone3", "errno EACCES clone3", "errno ENOSYS clone3", "errno ENOSYS clone3"},
		{"actions", "log read\nkill-process mount", "allow read\ntrap mount\nlog open",
			"allow read\nlog open\ntrap mount", "log read\nkill-process mount"},
		{"kill beside the default", "kill-process mount", "allow read", "allow read\nerrno EPERM mount", "errno EPERM read\nkill-process mount"},
	} {
		p, q := parseText(t, "a", "default errno EPERM\n"+tc.a), parseText(t, "b", "default errno EPERM\n"+tc.b)
		for i, want := range []string{tc.union, tc.intersection} {
			m, err := []func(...*Profile) (*Profile, error){Merge, Intersect}[i](p, q)
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
				continue
			}
			text, err := m.Text()
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			got := strings.Join(strings.Fields(strings.TrimPrefix(string(text), "default errno EPERM\n")), " ")
			if got != strings.Join(strings.Fields(want), " ") {
				t.Errorf("%s, %s:\n got %s\nwant %s", tc.name, []string{"union", "intersection"}[i], got, want)
			}
		}
	}
}

func TestMergeRefuses(t *testing.T) {
	for _, tc := range []struct {
		a, b, union, intersection string
	}{
		{"default allow", "default errno EPERM", "the default actions differ: ALLOW and ERRNO(EPERM)", "the default actions differ"},
		{"default allow\narch amd64: x86", "default allow", "the architectures differ: on amd64, amd64 x86 and amd64", "the architectures differ"},
		{"default allow\nflag LOG", "default allow", "the flags differ", "the flags differ"},
		{"default allow\nlistener /a\nnotify read", "default allow\nlistener /b\nnotify write", "the listeners differ", "the listeners differ"},
		{"default errno EPERM\nallow ioctl when arg1 >= 3", "default errno EPERM\nallow ioctl when arg1 <= 5",
			"", `ioctl: no rule can ask for "when arg1 >= 3 and arg1 <= 5": it compares an argument once`},
		{"default allow\nerrno EPERM ioctl when arg1 >= 3", "default allow\nerrno EPERM ioctl when arg1 <= 5",
			`ioctl: no rule can ask for "when arg1 >= 3 and arg1 <= 5": it compares an argument once`, ""},
		{"default errno EPERM\nlog ioctl", "default errno EPERM\nallow ioctl when arg1 == 5",
			`ioctl: no rules can give ALLOW for "when arg1 == 5" and LOG for all other arguments`, ""},
		{"default errno EPERM\nallow socketcall", "default errno EPERM\nkill-process socket",
			"", ""},
		{"default allow\nkill-process socket when arg0 == 1", "default allow\nkill-process socket when arg0 == 2",
			`socket, as reached through socketcall: it would get ALLOW, and not KILL_PROCESS, whatever its arguments`, ""},
	} {
		p, q := parseText(t, "a", tc.a), parseText(t, "b", tc.b)
		for i, want := range []string{tc.union, tc.intersection} {
			_, err := []func(...*Profile) (*Profile, error){Merge, Intersect}[i](p, q)
			start := []string{"merge", "intersect"}[i] + " seccomp profiles a and b: "
			switch {
			case want == "" && err != nil:
				t.Errorf("%q and %q: %v", tc.a, tc.b, err)
			case want != "" && (err == nil || !strings.HasPrefix(err.Error(), start+want)):
				t.Errorf("%q and %q:\n got %v\nwant %s", tc.a, tc.b, err, start+want)
			}
		}
	}
	if _, err := Merge(); err == nil {
		t.Error("nothing merged")
	}
}

// mergeProfile draws a profile that others like it can be merged with.
func mergeProfile(rng *rand.Rand, d Action, conditions bool) *Profile {
	p := &Profile{File: "p", DefaultAction: d, ArchMap: []ArchFamily{{X86_64, []Arch{I386, X32}}, {ARM64, []Arch{ARM}}}}
	for range 1 + rng.IntN(5) {
		r := SyscallRule{Action: pick(rng, []Action{Allow, Allow, Allow, Allow, Log, Errno(38), Errno(1), KillProcess, Trap})}
		r.Names = append(some(rng, formNames, 6), pick(rng, formNames))
		if rng.IntN(3) == 0 {
			r.Includes, r.Excludes = formSelector(rng), formSelector(rng)
		}
		for conditions && len(r.Args) < 3 && rng.IntN(2) == 0 {
			c := formCondition(rng, &r)
			c.Index = uint8(rng.IntN(3))
			if rng.IntN(2) == 0 {
				c.Value, c.Op, c.ValueTwo = uint64(rng.IntN(4)), EQ, 0
			}
			if r.possible(c) != nil {
				continue
			}
			r.Args = append(r.Args, c)
		}
		p.Syscalls = append(p.Syscalls, r)
	}
	return p
}

// mergeCheck compares a merged profile with those that it was made of.
type mergeCheck struct {
	t            *testing.T
	merged       *Profile
	parts        []*Profile
	intersection bool
}

// rank orders answers, the most permissive first, without their data.
func rank(a Action) int64 { return -int64(int32(a.Kind())) }

func (c *mergeCheck) at(rng *rand.Rand, target Target) {
	c.t.Helper()
	m := mustResolve(c.t, c.merged, target)
	var parts []*Policy
	for _, p := range c.parts {
		parts = append(parts, mustResolve(c.t, p, target))
	}
	for i := range m.Archs {
		a := &m.Archs[i]
		newest := uint32(0)
		for _, p := range parts {
			if n := p.Archs[i].Newest; n != noCall {
				newest = max(newest, n&^a.Arch.Bit())
			}
		}
		if newest == 0 {
			newest = noCall
		} else {
			newest |= a.Arch.Bit()
		}
		if a.Newest != newest {
			c.t.Fatalf("%v: newest is %#x, want %#x\n%s", a.Arch, a.Newest, newest, c.texts())
		}
		for nr, name := range syscalls.All(a.Arch) {
			c.number(rng, m, parts, a.Arch, nr, name)
		}
		c.number(rng, m, parts, a.Arch, 900|a.Arch.Bit(), "none")
	}
}

func (c *mergeCheck) number(rng *rand.Rand, m *Policy, parts []*Policy, a Arch, nr uint32, name string) {
	c.t.Helper()
	var conds []Condition
	for _, p := range append([]*Policy{m}, parts...) {
		conds = append(conds, conditionsOf(p, a.Audit(), nr)...)
	}
	for range 1 + 8*len(conds) {
		args := randomArgs(rng, conds)
		want := Action(0)
		for i, p := range parts {
			d := p.Decide(a.Audit(), nr, args)
			if d.Reason == ByNewer {
				d.Action = p.Default
			}
			permits := rank(d.Action) < rank(want)
			if i == 0 || permits != c.intersection && rank(d.Action) != rank(want) {
				want = d.Action
			}
		}
		got := m.Decide(a.Audit(), nr, args)
		if got.Reason == ByNewer {
			got.Action = m.Default
		}
		wrong := rank(got.Action) != rank(want)
		if name == socketcall || name == ipc {
			wrong = rank(got.Action) < rank(want) // never more permissive
		}
		if wrong {
			c.t.Fatalf("intersection %v: %v %s %x: %v, want %v\n%s", c.intersection, a, name, args, got, want, c.texts())
		}
	}
}

func (c *mergeCheck) texts() string {
	var b strings.Builder
	for _, p := range append(c.parts, c.merged) {
		text, err := p.Text()
		fmt.Fprintf(&b, "---- %v\n%s", err, text)
	}
	return b.String()
}

func TestMergeAgainstDecide(t *testing.T) {
	done := [2]int{}
	for seed := range uint64(700) {
		rng := rand.New(rand.NewPCG(seed, 13))
		d := pick(rng, []Action{Errno(1), Errno(1), Allow, KillProcess, Trap})
		var parts []*Profile
		for range 2 + rng.IntN(2) {
			parts = append(parts, mergeProfile(rng, d, seed%3 > 0))
		}
		for i, merge := range []func(...*Profile) (*Profile, error){Merge, Intersect} {
			merged, err := merge(parts...)
			if err != nil {
				continue
			}
			done[i]++
			c := mergeCheck{t, merged, parts, i == 1}
			for range 4 {
				s := formSelector(rng)
				c.at(rng, Target{Arch: pick(rng, []Arch{X86_64, ARM64, I386, syscalls.S390X, syscalls.MIPS}), Caps: s.Caps, Kernel: KernelVersion{4 + rng.IntN(3), rng.IntN(20)}})
			}
			roundTrip(t, merged, merged.DockerJSON, ParseProfile)
		}
	}
	t.Logf("%d of 700 could be merged, %d intersected", done[0], done[1])
	if done[0] < 200 || done[1] < 200 {
		t.Errorf("only %v of 700 merged", done)
	}
}

// Recordings have allowances alone: they can always be merged, and what the
// default profile allows, too.
func TestMergeRecordings(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 14))
		var parts []*Profile
		for range 3 {
			p := mergeProfile(rng, Errno(1), true)
			for i := range p.Syscalls {
				p.Syscalls[i].Action = Allow
			}
			parts = append(parts, p)
		}
		if seed%10 == 0 {
			d := Default()
			for _, p := range parts {
				p.ArchMap = d.ArchMap
				for i := range p.Syscalls { // the default profile answers ENOSYS
					r := &p.Syscalls[i]
					r.Names = slices.DeleteFunc(r.Names, func(name string) bool { return name == "clone3" && len(r.Args) > 0 })
				}
			}
			parts = append(parts, d)
		}
		merged, err := Merge(parts...)
		if err != nil {
			t.Fatal(err)
		}
		c := mergeCheck{t, merged, parts, false}
		c.at(rng, Target{Arch: X86_64, Caps: formSelector(rng).Caps, Kernel: KernelVersion{5, 4}})
	}
}

// A profile merged with itself says what it said.
func TestMergeWithItself(t *testing.T) {
	for _, merge := range []func(...*Profile) (*Profile, error){Merge, Intersect} {
		merged, err := merge(Default(), Default())
		if err != nil {
			t.Fatal(err)
		}
		if n := len(merged.Syscalls); n > len(Default().Syscalls)+15 {
			t.Errorf("%d rules became %d", len(Default().Syscalls), n)
		}
		c := mergeCheck{t, merged, []*Profile{Default()}, false}
		rng := rand.New(rand.NewPCG(1, 15))
		for _, caps := range []capability.Set{0, capability.Default(), capability.Known()} {
			c.at(rng, target(caps))
		}
	}
}

// What is said of pairs of conditions is so for values of every width.
func TestConditionPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 16))
	implied, excluded := 0, 0
	for range 60_000 {
		c, d := formCondition(rng, new(SyscallRule)), formCondition(rng, new(SyscallRule))
		if rng.IntN(2) == 0 {
			d.Value = c.Value + uint64(rng.IntN(3)) - 1
		}
		if d.Op == MaskedEQ {
			d.Value |= c.Value & 0xff
			d.ValueTwo &= d.Value
		}
		d.Index = c.Index
		implies, excludes := c.implies(d), c.excludes(d)
		if implies {
			implied++
		}
		if excludes {
			excluded++
		}
		if !implies && !excludes {
			continue
		}
		for _, bits := range []uint8{16, 32, 64} {
			x, y := c, d
			x.Bits, y.Bits = bits, bits
			x, y = x.cut(), y.cut()
			for range 20 {
				v := randomArgs(rng, []Condition{x, y})[c.Index]
				if implies && x.holds(v) && !y.holds(v) {
					t.Fatalf("%+v does not imply %+v: %#x, %d bits", c, d, v, bits)
				}
				if excludes && x.holds(v) && y.holds(v) {
					t.Fatalf("%+v does not exclude %+v: %#x, %d bits", c, d, v, bits)
				}
			}
		}
	}
	if implied < 500 || excluded < 500 {
		t.Errorf("only %d implied and %d excluded", implied, excluded)
	}
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte("default errno EPERM\nallow socket when arg0 == 1"), []byte("default errno EPERM\nallow socket when arg0 != 2"), uint64(1))
	f.Add([]byte("default allow\nkill-process ipc shmget semop"), []byte("default allow\ntrap shmget if cap BPF"), uint64(2))
	f.Fuzz(func(t *testing.T, a, b []byte, seed uint64) {
		p, err := ParseText("a", a)
		if err != nil {
			return
		}
		q, err := ParseText("b", b)
		if err != nil {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 17))
		for i, merge := range []func(...*Profile) (*Profile, error){Merge, Intersect} {
			merged, err := merge(p, q)
			if err != nil {
				continue
			}
			c := mergeCheck{t, merged, []*Profile{p, q}, i == 1}
			c.at(rng, Target{Arch: pick(rng, []Arch{X86_64, ARM64, I386, syscalls.S390X, syscalls.MIPS}), Caps: formSelector(rng).Caps, Kernel: KernelVersion{5, 4}})
		}
	})
}
