package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp/notify"
	"github.com/brig-run/brig/test/harness"
)

// A container that may make no devices has some made for it, by a process
// outside that answers its calls.
func TestNotify(t *testing.T) {
	image, err := harness.Busybox("notify")
	if err != nil {
		t.Fatal(err)
	}
	image.Add(harness.File("bin/notifying", 0o755, buildProgram(t, "notifying")))
	r := harness.New(t)
	if err := r.Load(image); err != nil {
		t.Fatal(err)
	}
	without := r.Run("run", "--rm", "--cap-drop", "MKNOD", "notify", "mknod", "/tmp/null", "c", "1", "3")
	if without.Code == 0 {
		t.Error("a container without MKNOD makes a device by itself")
	}
	expect(t, without.Stderr, "Operation not permitted")

	dir := t.TempDir()
	agent := startAgent(t, filepath.Join(dir, "agent.sock"))
	for _, tt := range []struct {
		name, script, out, err string
		code                   int
	}{
		{"a device that may be", "mknod /tmp/null c 1 3 && echo lost > /tmp/null && stat -c '%F %t %T' /tmp/null && wc -c < /tmp/null", "character special file 1 3\n0", "", 0},
		{"where the path leads in the container", "cd /tmp && ln -s /tmp/a /tmp/b && mkdir a && mknod b/null c 1 3; mknod /tmp/b/null c 1 3 && ls a", "null", "Invalid cross-device link", 0},
		{"a device that may not be", "mknod /tmp/loop c 7 0; s=$?; test ! -e /tmp/loop && exit $s", "", "Operation not permitted", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := r.Run("run", "--rm", "--cap-drop", "MKNOD", "-v", dir+":/agent", "notify", "notifying", "/agent/agent.sock", "/bin/sh", "-c", tt.script)
			if res.Code != tt.code || res.Output() != tt.out {
				t.Errorf("exit code %d, %q, %q; want %d, %q", res.Code, res.Stdout, res.Stderr, tt.code, tt.out)
			}
			expect(t, res.Stderr, tt.err)
			agent.ended(t)
		})
	}
	want := []string{"/tmp/null c 1 3", "b/null c 1 3", "/tmp/b/null c 1 3", "/tmp/loop c 7 0"}
	if asked := agent.calls(); !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
}

// buildProgram builds a program of testdata and returns it.
func buildProgram(t *testing.T, name string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-o", out, "./testdata/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", name, err, text)
	}
	program, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// deviceAgent answers the calls of the containers that connect to its socket.
type deviceAgent struct {
	done chan error // an error, or nil, for each container whose processes ended

	mu    sync.Mutex
	asked []string
}

func startAgent(t *testing.T, socket string) *deviceAgent {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &deviceAgent{done: make(chan error, 10)}
	stopped := make(chan struct{})
	t.Cleanup(func() { l.Close(); cancel(); <-stopped })
	go func() {
		defer close(stopped)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			a.done <- a.serve(ctx, conn.(*net.UnixConn))
		}
	}()
	return a
}

func (a *deviceAgent) serve(ctx context.Context, conn *net.UnixConn) error {
	listener, _, err := notify.ReceiveListener(conn)
	conn.Close()
	if err != nil {
		return err
	}
	defer listener.Close()
	return notify.Serve(ctx, listener, 2, a.makeNode)
}

// ended waits until no process of a container is left.
func (a *deviceAgent) ended(t *testing.T) {
	t.Helper()
	select {
	case err := <-a.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(harness.Patience):
		t.Fatal("the processes do not end")
	}
}

func (a *deviceAgent) calls() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// makeNode makes the null device and no other.
func (a *deviceAgent) makeNode(r *notify.Request) error {
	args := r.Args[:]
	dirfd := unix.AT_FDCWD
	if r.Name() == "mknodat" {
		dirfd, args = int(int32(args[0])), args[1:]
	}
	name, err := r.ReadString(args[0], unix.PathMax)
	if err != nil {
		return err
	}
	mode, dev := uint32(args[1]), uint64(uint32(args[2]))
	a.mu.Lock()
	a.asked = append(a.asked, fmt.Sprintf("%s %s %d %d", name, map[uint32]string{unix.S_IFCHR: "c"}[mode&unix.S_IFMT], unix.Major(dev), unix.Minor(dev)))
	a.mu.Unlock()
	if mode&unix.S_IFMT != unix.S_IFCHR || dev != unix.Mkdev(1, 3) {
		return unix.EPERM
	}
	parent, last, err := r.OpenParent(dirfd, name)
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := unix.Mknodat(int(parent.Fd()), last, mode, int(dev)); err != nil {
		return err
	}
	return r.Respond(0)
}
