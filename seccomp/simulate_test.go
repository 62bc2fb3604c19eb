package seccomp

import (
	"slices"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/bpf"
)

func TestSimulate(t *testing.T) {
	p, err := ParseProfile("p.json", []byte(explained))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		d      bpf.Data
		call   string
		arch   string
		action string
		cached bool
		by     string
		line   int
	}{
		{bpf.Data{Nr: 0, Arch: X86_64.Audit()}, "read", "amd64", "ALLOW", true, "rule", 5},
		{bpf.Data{Nr: 3, Arch: I386.Audit()}, "read", "x86", "ALLOW", true, "rule", 5},
		{bpf.Data{Nr: 1 << 30, Arch: X86_64.Audit()}, "read", "x32", "KILL_THREAD", false, "architecture", 0},
		{bpf.Data{Nr: 41, Arch: X86_64.Audit(), Args: [6]uint64{0x100000028}}, "socket", "amd64", "ERRNO(EPERM)", false, "default", 0},
		{bpf.Data{Nr: 41, Arch: X86_64.Audit(), Args: [6]uint64{1}}, "socket", "amd64", "ALLOW", false, "rule", 13},
		{bpf.Data{Nr: 1000, Arch: X86_64.Audit()}, "", "amd64", "ERRNO(ENOSYS)", false, "newer", 0},
	} {
		s, err := p.Simulate(Target{X86_64, 0, KernelVersion{6, 1}}, &tc.d)
		if err != nil {
			t.Fatal(err)
		}
		if s.Call != tc.call || s.Arch != tc.arch || s.Action != tc.action || s.Cached != tc.cached || s.Policy.By != tc.by ||
			s.Policy.Line != tc.line || s.Policy.Action != tc.action || s.Executed != len(s.Steps) || s.Executed < 4 {
			t.Errorf("%+v: %+v %+v", tc.d, s, s.Policy)
		}
	}
	if _, err := Simulate([]bpf.Instruction{{Op: bpf.LdImm}}, &bpf.Data{}); err == nil {
		t.Error("no error for a program without an end")
	}
}

func TestBlocked(t *testing.T) {
	list, err := Default().Blocked(target(capability.Default()), X86_64)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]BlockedCall)
	last := ""
	for _, c := range list {
		if c.Name <= last || c.Reason == "" || c.Reason != BlockReason(c.Name) {
			t.Errorf("%+v after %s", c, last)
		}
		last = c.Name
		found[c.Name] = c
	}
	for _, want := range []struct {
		name        string
		conditional bool
		action      string
		by          []string
	}{
		{"mount", false, "ERRNO(EPERM)", []string{"CAP_SYS_ADMIN"}},
		{"bpf", false, "ERRNO(EPERM)", []string{"CAP_SYS_ADMIN", "CAP_BPF"}},
		{"clone", true, "ERRNO(EPERM)", []string{"CAP_SYS_ADMIN"}},
		{"clone3", false, "ERRNO(ENOSYS)", []string{"CAP_SYS_ADMIN"}},
		{"socket", true, "ERRNO(EPERM)", nil},
		{"keyctl", false, "ERRNO(EPERM)", nil},
	} {
		c := found[want.name]
		if c.Conditional != want.conditional || c.Action != want.action || !slices.Equal(c.UnlockedBy, want.by) {
			t.Errorf("%+v, want %+v", c, want)
		}
	}
	for _, name := range []string{"read", "chroot", "execve"} {
		if _, ok := found[name]; ok {
			t.Errorf("%s is not blocked", name)
		}
	}
	with, err := Default().Blocked(target(capability.Known()), X86_64)
	if err != nil || len(with) >= len(list) {
		t.Errorf("%d blocked with all capabilities, %d with the default ones, %v", len(with), len(list), err)
	}
	for _, c := range with {
		if len(c.UnlockedBy) > 0 {
			t.Errorf("%+v: nothing is left to unlock it", c)
		}
	}
}
