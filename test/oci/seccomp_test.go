package oci

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp/notify"
	"github.com/brig-run/brig/test/harness"
)

func allowBut(action specs.LinuxSeccompAction, names ...string) *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64},
		Syscalls: []specs.LinuxSyscall{{Names: names, Action: action}}}
}

func TestSeccomp(t *testing.T) {
	r := newRig(t)
	b := r.script("mkdir /made; cat /proc/self/status")
	b.spec.Linux.Seccomp = allowBut(specs.ActErrno, "mkdir", "mkdirat")
	res := r.result(b)
	contains(t, res.Stderr, "Operation not permitted")
	same(t, "mode", status(res.Stdout)["Seccomp"], "2")
	for _, noPrivs := range []bool{false, true} {
		b.spec.Process.NoNewPrivileges = noPrivs
		b.spec.Process.Args = []string{"/bin/sleep", "600"}
		id := r.started(b)
		st := status(r.must("exec", id, "cat", "/proc/self/status"))
		same(t, "exec", []string{st["Seccomp"], st["CapEff"]}, []string{"2", "00000000a80425fb"})
		if res := r.run("exec", id, "mkdir", "/made"); res.Code == 0 {
			t.Error("exec is not filtered")
		}
	}
}

// TestSeccompNothing: a filter that allows execve alone does not break the start
// or an exec. The program itself dies of it.
func TestSeccompNothing(t *testing.T) {
	r := newRig(t)
	for _, action := range []specs.LinuxSeccompAction{specs.ActKillProcess, specs.ActKill, specs.ActErrno, specs.ActTrap} {
		b := r.bundle("/bin/true")
		b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: action, Architectures: []specs.Arch{specs.ArchX86_64},
			Syscalls: []specs.LinuxSyscall{{Names: []string{"execve"}, Action: specs.ActAllow}}}
		if res := r.result(b); res.Code < 128 {
			t.Errorf("%s: %+v; want the death of the program", action, res)
		}
		// What fails after the filter is loaded is told, too.
		b.spec.Process.Args = []string{"/bin/false"}
		os.WriteFile(b.rootfs("bad"), []byte("neither"), 0o755)
		b.spec.Process.Args = []string{"/bad"}
		id := r.created(b)
		r.refused("exec format error", "start", id)
		r.becomes(id, "stopped")
	}
	// In a running container: the first process waits without any call.
	b := r.bundle("/bin/sleep", "600")
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64}, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"execve", "brk", "arch_prctl", "set_tid_address", "mprotect", "clock_nanosleep", "nanosleep", "exit_group", "prctl", "rt_sigaction", "uname", "readlink"}, Action: specs.ActAllow}}}
	id := r.started(b)
	if res := r.run("exec", id, "true"); res.Code != 0 {
		t.Errorf("exec: %+v", res)
	}
}

// agent is a seccomp agent that answers mkdir with an error of its own.
type agent struct {
	path  string
	state chan *specs.ContainerProcessState
}

func newAgent(t *testing.T, r *rig, answer unix.Errno) *agent {
	t.Helper()
	a := &agent{path: filepath.Join(r.dir, "agent.sock"), state: make(chan *specs.ContainerProcessState, 8)}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close() })
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			listener, state, err := notify.ReceiveListener(conn)
			conn.Close()
			if errors.Is(err, io.EOF) {
				continue // the runtime was killed before it sent anything; who waits for the state misses it
			}
			if err != nil {
				t.Error(err)
				continue
			}
			a.state <- state
			go serve(ctx, listener, answer)
		}
	}()
	return a
}

func serve(ctx context.Context, l *notify.Listener, answer unix.Errno) {
	defer l.Close()
	for {
		req, err := l.Recv(ctx)
		if err != nil {
			return
		}
		req.Fail(answer)
	}
}

func notified(path string) *specs.LinuxSeccomp {
	s := allowBut(specs.ActNotify, "mkdir", "mkdirat")
	s.ListenerPath, s.ListenerMetadata = path, "the metadata"
	return s
}

func TestSeccompAgent(t *testing.T) {
	r := newRig(t)
	a := newAgent(t, r, unix.EMLINK)
	b := r.script("mkdir /made; exec sleep 600")
	b.spec.Annotations = map[string]string{"k": "v"}
	b.spec.Linux.Seccomp = notified(a.path)
	id := r.started(b)
	s := <-a.state
	same(t, "state", []any{s.Metadata, s.Pid, s.State.Pid, s.State.ID, s.State.Status, s.State.Bundle, s.State.Annotations["k"], s.Fds},
		[]any{"the metadata", r.state(id).PID, r.state(id).PID, id, "created", b.dir, "v", []string{"seccompFd"}})
	res := r.run("exec", id, "mkdir", "/made")
	contains(t, res.Stderr, "Too many links")
	s = <-a.state
	if s.Pid == r.state(id).PID || s.State.Status != "running" {
		t.Errorf("state for exec: %+v", s)
	}
	// In one step, with a terminal of its own, and in a user namespace.
	b = withUserns(t, r.script("mkdir /made"))
	b.spec.Linux.Seccomp = notified(a.path)
	res = r.result(b)
	contains(t, res.Stderr, "Too many links")
	<-a.state
	b.spec.Process.NoNewPrivileges = true
	contains(t, r.result(b).Stderr, "Too many links")
}

// TestSeccompNoAgent: without an agent nothing starts, and nothing is left.
func TestSeccompNoAgent(t *testing.T) {
	r := newRig(t)
	b := r.bundle("/bin/sleep", "600")
	b.spec.Linux.Seccomp = notified(filepath.Join(r.dir, "missing.sock"))
	id := r.id()
	r.write(b, id)
	r.refused("linux.seccomp.listenerPath", "run", "-d", "--bundle", b.dir, id)
	r.refused("does not exist", "state", id)
	r.must("create", "--bundle", b.dir, id)
	r.refused("linux.seccomp.listenerPath", "start", id)
	same(t, "state", r.state(id).Status, "stopped")
	r.must("delete", id)
	b.spec.Linux.Seccomp.ListenerPath, b.spec.Linux.Seccomp.ListenerMetadata = "", ""
	r.write(b, id)
	r.refused("linux.seccomp.listenerPath", "create", "--bundle", b.dir, id)

	// One that goes away answers ENOSYS by the kernel, and exec says why it fails.
	gone := filepath.Join(r.dir, "gone.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: gone, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if conn, err := l.AcceptUnix(); err == nil {
			if listener, _, err := notify.ReceiveListener(conn); err == nil {
				listener.Close()
			}
			conn.Close()
		}
		l.Close()
	}()
	b = r.script("mkdir /made 2> /said; exec sleep 600")
	b.spec.Linux.Seccomp = notified(gone)
	id = r.started(b)
	if err := harness.Eventually("mkdir is answered", func() bool {
		said, _ := os.ReadFile(b.rootfs("said"))
		return strings.Contains(string(said), "not implemented")
	}); err != nil {
		t.Error(err)
	}
	if res := r.refused("linux.seccomp.listenerPath", "exec", id, "true"); res.Code != 255 {
		t.Errorf("exec: exit code %d, want 255", res.Code)
	}
	same(t, "processes", len(r.pids(id)), 1)
}

// A filter that is known from an earlier container is that of the same profile,
// and of no other; what is not whole is made anew.
func TestSeccompKnown(t *testing.T) {
	r := newRig(t)
	b := r.script("mkdir /made && rm -r /made; chmod 755 /tmp; exit 0")
	kept := func() []string {
		files, _ := filepath.Glob(filepath.Join(r.root, filters, "*"))
		return files
	}
	denied := func(profile *specs.LinuxSeccomp, want string) {
		t.Helper()
		b.spec.Linux.Seccomp = profile
		res := r.result(b)
		for _, call := range []string{"mkdir", "chmod"} {
			if got := strings.Contains(res.Stderr, call+": "); got != (want == call) {
				t.Errorf("want a denied %s: %+v", want, res)
			}
		}
	}
	for range 2 {
		denied(allowBut(specs.ActErrno, "mkdir", "mkdirat"), "mkdir")
		denied(allowBut(specs.ActErrno, "chmod", "fchmodat"), "chmod")
		denied(allowBut(specs.ActAllow, "chmod", "fchmodat"), "nothing")
		// The rules are the same, and what is beside them not.
		allow := allowBut(specs.ActAllow, "mkdir", "mkdirat")
		denied(allow, "nothing")
		errno := *allow
		errno.DefaultAction, errno.Syscalls = specs.ActErrno, append([]specs.LinuxSyscall{{Names: []string{"execve"}, Action: specs.ActAllow}}, allow.Syscalls...)
		b.spec.Linux.Seccomp = &errno
		if res := r.result(b); res.Code == 0 {
			t.Errorf("hardly a call is allowed, and the script ran: %+v", res)
		}
	}
	if n := len(kept()); n != 5 {
		t.Errorf("%d filters are kept, want 5", n)
	}
	for i, f := range kept() {
		if err := os.WriteFile(f, []byte(strings.Repeat("x", 100*i)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	denied(allowBut(specs.ActErrno, "mkdir", "mkdirat"), "mkdir")
	// One that is wrong is told each time, and not kept.
	bad := allowBut(specs.ActErrno, "mkdir")
	bad.Syscalls[0].Args = []specs.LinuxSeccompArg{{Index: 7}}
	b.spec.Linux.Seccomp = bad
	for range 2 {
		id := r.id()
		r.write(b, id)
		r.refused("linux.seccomp", "run", "--bundle", b.dir, id)
	}
	if n := len(kept()); n != 5 {
		t.Errorf("%d filters are kept, want 5", n)
	}
}
