package seccomp

import (
	"slices"
	"testing"

	"github.com/brig-run/brig/capability"
)

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
