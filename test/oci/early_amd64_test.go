package oci

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// early is a rig whose program begins before Go does, see package early.
func early(t *testing.T) *rig {
	r := newRig(t)
	r.bin = filepath.Join(r.dir, "brig-runtime")
	goBuild(t, "-ldflags=-E=github.com/brig-run/brig/internal/early.entry", "-o", r.bin, "../../cmd/brig-runtime")
	return r
}

// TestEarly: that program executes itself anew before it does anything else, passes
// on what it was given, and is as good as the other where it need not.
func TestEarly(t *testing.T) {
	r := early(t)
	b := r.bundle("/bin/sh", "-c", `echo "$A $1"; exit 3`, "sh", "x y")
	b.spec.Process.Env = append(b.spec.Process.Env, "A=1")
	res := r.result(b)
	same(t, "the container", []any{res.Stdout, res.Code}, []any{"1 x y\n", 3})
	id := r.sleeper()
	same(t, "exec", r.must("exec", id, "echo", "hello"), "hello")
	same(t, "state", strings.Contains(r.must("state", id), `"running"`), true)
	log := filepath.Join(r.dir, "calls")
	cmd := exec.Command("strace", "-o", log, r.bin, "--root", r.root, "exec", id, "/bin/true")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, "(")
		calls = append(calls, name)
	}
	want := []string{"execve", "arch_prctl", "statfs", "open_tree", "mount_setattr", "rt_sigprocmask", "execve"}
	same(t, "calls before the second start", calls[:min(len(want), len(calls))], want)
}

// TestEarlyOwnExecutable is TestOwnExecutable of that program.
func TestEarlyOwnExecutable(t *testing.T) { testOwnExecutable(t, early(t)) }
