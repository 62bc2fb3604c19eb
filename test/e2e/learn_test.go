package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/test/harness"
)

// probes ask the servers for an answer, from outside of their containers.
var probes = map[string]string{
	"nginx":             "busybox wget -qO- http://127.0.0.1/ | grep -q 'Welcome to nginx'",
	"redis as its user": `printf 'PING\r\nQUIT\r\n' | busybox nc -w 2 127.0.0.1 6379 | grep -q PONG`,
	"redis from root":   `printf 'PING\r\nQUIT\r\n' | busybox nc -w 2 127.0.0.1 6379 | grep -q PONG`,
	// The question whether it speaks TLS, and the start of a session.
	"postgres": `printf '\000\000\000\010\004\322\026\057' | busybox nc -w 2 127.0.0.1 5432 | grep -q '[NS]'`,
	"python":   "busybox wget -qO- http://127.0.0.1/ | grep -q 'Directory listing'",
}

// What brig learn finds out about a server is what people found out by trying,
// and the server works under it.
func TestLearn(t *testing.T) {
	r := store(t, "debian")
	for _, s := range servers() {
		t.Run(s.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "policy.json")
			args := []string{"learn", "--probe", probes[s.name], "-o", file, "--tmpfs", "/var/log/nginx", "--tmpfs", "/var/lib/nginx"}
			args = append(append(append(args, s.flags...), "debian"), s.command...)
			if res := r.Run(args...); res.Code != 0 {
				t.Fatalf("learn: %d\n%s", res.Code, res.Stderr)
			}
			p := verified(t, file, s.needs)
			flags := []string{"--policy", file, "--tmpfs", "/var/log/nginx", "--tmpfs", "/var/lib/nginx"}
			s.survives(t, r, p, flags)
		})
	}
}

// A program may need a capability that the kernel never asks for: capset compares
// sets.
func TestLearnUnasked(t *testing.T) {
	r := store(t, "debian")
	file := filepath.Join(t.TempDir(), "policy.json")
	if res := r.Run("learn", "-o", file, "debian", "capsh", "--caps=cap_fowner=p", "--", "-c", "true"); res.Code != 0 {
		t.Fatalf("learn: %d\n%s", res.Code, res.Stderr)
	}
	p := verified(t, file, []string{"FOWNER"})
	if slices.ContainsFunc(p.Capabilities, func(c policy.Capability) bool { return c.Name == "MKNOD" }) {
		t.Errorf("what was only tried is in the policy: %+v", p.Capabilities)
	}
	r.Must(t, "run", "--rm", "--policy", file, "debian", "capsh", "--caps=cap_fowner=p", "--", "-c", "true")
}

// verified reads a policy that grants exactly some capabilities, and shows of
// each what broke without it.
func verified(t *testing.T, file string, want []string) *policy.Policy {
	t.Helper()
	p, err := policy.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	granted, err := p.Granted()
	if err != nil {
		t.Fatal(err)
	}
	set, err := capability.ParseSet(want)
	if err != nil {
		t.Fatal(err)
	}
	if granted != set {
		t.Errorf("granted: %s, want %s", granted, set)
	}
	for _, c := range p.Capabilities {
		if c.Allowed() && (c.Status != policy.Verified || c.Breaks == "") {
			t.Errorf("not verified: %+v", c)
		}
	}
	last := p.Runs[len(p.Runs)-1]
	if last.Purpose != policy.PurposeProve || last.Passed == nil || !*last.Passed {
		t.Errorf("not proved: %+v", last)
	}
	for _, run := range p.Runs {
		if !run.Complete {
			t.Errorf("not complete: %+v", run)
		}
	}
	return p
}

// survives runs the server under its policy and asks it from outside, since a
// program that the policy does not know could not ask from inside.
func (s *server) survives(t *testing.T, r *harness.Root, p *policy.Policy, flags []string) {
	t.Helper()
	if n := slices.IndexFunc(p.Syscalls, func(c policy.Syscall) bool { return c.Name == "mount" && c.Allowed() }); n >= 0 {
		t.Error("the policy allows mount")
	}
	id := s.start(t, r, flags)
	pid := strings.TrimSpace(r.Must(t, "inspect", "-f", "{{.State.Pid}}", id))
	err := harness.Eventually("the server answers", func() bool {
		return run("nsenter", "-t", pid, "-n", "sh", "-c", probes[s.name]) == nil
	})
	if err != nil {
		t.Fatalf("%v\nits log: %+v", err, r.Run("logs", id))
	}
	if _, err := os.Stat("/proc/" + pid); err != nil {
		t.Error(err)
	}
	r.Must(t, "stop", "-t", "20", id)
	if code := strings.TrimSpace(r.Must(t, "inspect", "-f", "{{.State.ExitCode}}", id)); code == "137" {
		t.Error("it had to be killed")
	}
}
