package report

import (
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/seccomp/syscalls"
)

func TestEveryCallHasAGroup(t *testing.T) {
	for _, arch := range []syscalls.Arch{syscalls.X86_64, syscalls.X32, syscalls.I386, syscalls.AARCH64} {
		for _, name := range syscalls.All(arch) {
			if groups[groupOf(name)].id == "other" {
				t.Errorf("%s: %s has no group", arch.Short(), name)
			}
		}
	}
	if got := groups[groupOf("no_such_call")].id; got != "other" {
		t.Errorf("no_such_call is in group %s", got)
	}
}

func TestGroupsNameCallsOnce(t *testing.T) {
	seen := map[string]string{}
	for _, g := range groups {
		for name := range strings.FieldsSeq(g.members) {
			if !syscalls.Known(name) {
				t.Errorf("group %s: no architecture has %s", g.id, name)
			}
			if other, ok := seen[name]; ok {
				t.Errorf("%s is in the groups %s and %s", name, other, g.id)
			}
			seen[name] = g.id
		}
	}
}

func TestGroupOf(t *testing.T) {
	for name, want := range map[string]string{
		"openat": "files", "stat64": "files", "chown32": "files", "futex_time64": "process", "fadvise64_64": "io",
		"setuid32": "identity", "clock_gettime64": "time", "bpf": "debug", "io_uring_enter": "aio",
	} {
		if got := groups[groupOf(name)].id; got != want {
			t.Errorf("groupOf(%s) = %s, want %s", name, got, want)
		}
	}
}

func TestNotables(t *testing.T) {
	if !slices.IsSortedFunc(notables[:], func(a, b notableCall) int { return strings.Compare(a.name, b.name) }) {
		t.Error("notables are not in the order of the names")
	}
	for _, n := range notables {
		if !syscalls.Known(n.name) {
			t.Errorf("no architecture has %s", n.name)
		}
		if !strings.HasSuffix(n.reason, ".") {
			t.Errorf("%s: %q is no sentence", n.name, n.reason)
		}
	}
	if reasonFor("ptrace") == "" || reasonFor("bpf") == "" || reasonFor("read") != "" {
		t.Error("ptrace and bpf have reasons, read has none")
	}
}
