package seccomp

import (
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// The table has a reason for each call that the default profile blocks, wholly
// or for some arguments, on any ABI of any architecture, and for no other.
func TestReasons(t *testing.T) {
	blocked := make(map[string]bool)
	for native := range Arches() {
		if !native.HasTable() {
			continue
		}
		p, _, err := Default().Resolve(Target{Arch: native, Caps: capability.Default(), Kernel: KernelVersion{6, 18}})
		if err != nil {
			t.Fatal(err)
		}
		for _, rules := range p.Archs {
			for nr, name := range syscalls.All(rules.Arch) {
				if p.Access(rules.Arch, nr) != Allowed {
					blocked[name] = true
				}
			}
		}
	}
	for name := range blocked {
		if BlockReason(name) == "" {
			t.Errorf("no reason for %s, which is blocked", name)
		}
	}
	for _, r := range reasons {
		if !blocked[r.call] {
			t.Errorf("a reason for %s, which is not blocked", r.call)
		}
		if BlockReason(r.call) != r.text {
			t.Errorf("%s: not found", r.call)
		}
		if n := len(r.text); n < 30 || n > 200 || !strings.HasSuffix(r.text, ".") || strings.Count(r.text, ". ") > 0 {
			t.Errorf("%s: no sentence: %q", r.call, r.text)
		}
	}
	if !slices.IsSortedFunc(reasons[:], func(a, b blockReason) int { return strings.Compare(a.call, b.call) }) {
		t.Error("not in the order of the names")
	}
	if got := BlockReason("read"); got != "" {
		t.Errorf("read: %q", got)
	}
}
