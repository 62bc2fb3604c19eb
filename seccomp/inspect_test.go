package seccomp

import (
	"slices"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func TestUnlockedBy(t *testing.T) {
	skipWithoutTable(t)
	for _, tc := range []struct {
		cap  capability.Cap
		some []string
	}{
		{capability.CHOWN, nil},
		{capability.SYS_TIME, []string{"clock_settime", "settimeofday"}},
		{capability.SYS_CHROOT, []string{"chroot"}},
		{capability.SYS_ADMIN, []string{"clone", "mount", "setns", "unshare"}},
		{capability.BPF, []string{"bpf"}},
	} {
		got, err := UnlockedBy(tc.cap)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSorted(got) || tc.some == nil && got != nil {
			t.Errorf("%v unlocks %v", tc.cap, got)
		}
		for _, name := range tc.some {
			if !slices.Contains(got, name) {
				t.Errorf("%v unlocks %v, without %s", tc.cap, got, name)
			}
		}
	}
}

// What a capability unlocks, the default profile must block without it and
// allow with it, for some arguments at least.
func TestUnlockedCallsAreBlockedWithout(t *testing.T) {
	skipWithoutTable(t)
	none, err := BlockedByDefault(0)
	if err != nil {
		t.Fatal(err)
	}
	native, _ := syscalls.Native()
	for _, c := range capability.Known().List() {
		unlocked, err := UnlockedBy(c)
		if err != nil {
			t.Fatal(err)
		}
		with, err := BlockedByDefault(capability.Of(c))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range none {
			if slices.Contains(unlocked, name) == slices.Contains(with, name) {
				t.Errorf("%v: %s is unlocked: %v, blocked: %v", c, name, slices.Contains(unlocked, name), slices.Contains(with, name))
			}
		}
		for _, name := range unlocked {
			if _, ok := syscalls.Number(native, name); ok && !slices.Contains(none, name) && name != "clone" {
				t.Errorf("%v unlocks %s, which is not blocked without it", c, name)
			}
		}
	}
}

func TestBlockedByDefault(t *testing.T) {
	skipWithoutTable(t)
	got, err := BlockedByDefault(capability.Default())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mount", "kexec_load", "bpf", "keyctl", "io_uring_setup", "userfaultfd"} {
		if !slices.Contains(got, name) {
			t.Errorf("%s is not blocked", name)
		}
	}
	for _, name := range []string{"read", "clone", "socket", "personality", "chroot", "execve"} {
		if slices.Contains(got, name) {
			t.Errorf("%s is blocked", name)
		}
	}
	t.Logf("%d blocked: %v", len(got), got)
}

func TestAccess(t *testing.T) {
	cond := []Condition{{Index: 0, Op: EQ, Value: 1}}
	p := &Policy{
		Default: Errno(1), Newer: Errno(38), OtherArch: KillThread,
		Archs: []ArchRules{{Arch: X86_64, Newest: 10, Calls: []CallRules{
			{0, []Rule{{Action: Allow}}},
			{1, []Rule{{Action: Allow, Args: cond}}},
			{2, []Rule{{Action: KillProcess, Args: cond}, {Action: Trap}}},
			{3, []Rule{{Action: Log, Args: cond}, {Action: Allow}}},
			{4, []Rule{{Action: Notify}}},
			{5, []Rule{{Action: Trace(1)}}},
			{6, []Rule{{Action: Trap, Args: cond}, {Action: Allow}}},
		}}},
	}
	for nr, want := range []Access{Allowed, Conditional, Blocked, Allowed, Conditional, Conditional, Conditional, Blocked} {
		if got := p.Access(X86_64, uint32(nr)); got != want {
			t.Errorf("call %d: %d, want %d", nr, got, want)
		}
	}
	if got := p.Access(I386, 0); got != Blocked {
		t.Errorf("other ABI: %d", got)
	}
	p.Default = Allow
	if got := p.Access(X86_64, 9); got != Allowed {
		t.Errorf("default ALLOW: %d", got)
	}
	if got := p.Access(X86_64, 11); got != Blocked {
		t.Errorf("newer call: %d", got)
	}
}

// skipWithoutTable skips on machines whose system calls the package lacks.
func skipWithoutTable(t *testing.T) {
	t.Helper()
	if _, ok := syscalls.Native(); !ok {
		t.Skip("no table of system calls for this architecture")
	}
}
