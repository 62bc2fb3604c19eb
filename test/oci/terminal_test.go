package oci

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

// consoles is a socket that gets descriptors, as containerd and conmon make it.
func consoles(t *testing.T, r *rig) (path string, next func() *os.File) {
	t.Helper()
	path = filepath.Join(r.dir, fmt.Sprintf("console-%d.sock", counter.Add(1)))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path, func() *os.File {
		t.Helper()
		l.SetDeadline(time.Now().Add(harness.Patience))
		conn, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		buf, oob := make([]byte, 4096), make([]byte, 4096)
		_, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil {
			t.Fatal(err)
		}
		msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(msgs) != 1 {
			t.Fatalf("control messages: %v, %v", msgs, err)
		}
		fds, err := unix.ParseUnixRights(&msgs[0])
		if err != nil || len(fds) != 1 {
			t.Fatalf("descriptors: %v, %v", fds, err)
		}
		return os.NewFile(uintptr(fds[0]), "received")
	}
}

// everything reads a terminal's output to its end.
func everything(f *os.File) string {
	b, _ := io.ReadAll(f) // ends with EIO
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

const aboutTerminal = "tty; test -t 0 -a -t 1 -a -t 2 && echo all; stat -c '%u:%g %a' $(tty); : > /dev/tty && echo controlling"

func TestConsoleSocket(t *testing.T) {
	for _, how := range []string{"create", "run -d", "user namespace", "other user"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			b := r.script(aboutTerminal + "; stty size")
			b.spec.Process.Terminal = true
			b.spec.Process.ConsoleSize = &specs.Box{Height: 33, Width: 99}
			owner := "0:5 620"
			switch how {
			case "user namespace":
				withUserns(t, b)
			case "other user":
				b.spec.Process.User = specs.User{UID: 1000, GID: 1000}
				owner = "1000:5 620"
			}
			path, next := consoles(t, r)
			id := r.id()
			r.write(b, id)
			if how == "run -d" {
				r.must("run", "-d", "--bundle", b.dir, "--console-socket", path, id)
			} else {
				r.must("create", "--bundle", b.dir, "--console-socket", path, id)
			}
			f := next()
			defer f.Close()
			if how != "run -d" {
				r.must("start", id)
			}
			same(t, "output", everything(f), "/dev/pts/0\nall\n"+owner+"\ncontrolling\n33 99\n")
			r.becomes(id, "stopped")
		})
	}
}

func TestConsoleOfExec(t *testing.T) {
	for _, how := range []string{"plain", "user namespace"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			b := r.bundle("/bin/sleep", "600")
			if how != "plain" {
				withUserns(t, b)
			}
			owner := "0:5 620"
			id := r.started(b)
			path, next := consoles(t, r)
			r.must("exec", "-d", "-t", "--console-socket", path, id, "sh", "-c", aboutTerminal)
			f := next()
			defer f.Close()
			same(t, "output", everything(f), "/dev/pts/0\nall\n"+owner+"\ncontrolling\n")
		})
	}
}

// TestTerminal: a person at a terminal, in front of run and exec.
func TestTerminal(t *testing.T) {
	r := newRig(t)
	b := r.bundle("/bin/sh")
	b.spec.Process.Terminal = true
	b.spec.Process.Env = append(b.spec.Process.Env, "PS1=ready> ")
	id := r.id()
	r.write(b, id)
	tty, err := harness.OpenTerminal(r.command("run", "--bundle", b.dir, id), 24, 80)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	talk := func(tty *harness.Terminal, words ...string) {
		t.Helper()
		for i := 0; i < len(words); i += 2 {
			if err := tty.Type(words[i]); err != nil {
				t.Fatal(err)
			}
			if err := tty.Expect(words[i+1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	talk(tty, "", "ready> ", "stty size\n", "24 80\r", "tty\n", "/dev/pts/0\r")
	if err := tty.Resize(30, 90); err != nil {
		t.Fatal(err)
	}
	talk(tty, "until [ \"$(stty size)\" = '30 90' ]; do sleep 0.1; done; echo resized\n", "resized\r\n", "sleep 100\n", "sleep 100\r", "\x03", "ready> ") // interrupts sleep, not the runtime
	exec, err := harness.OpenTerminal(r.command("exec", "-t", "-e", "PS1=second> ", id, "sh"), 20, 70)
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Close()
	talk(exec, "", "second> ", "stty size\n", "20 70\r", "tty\n", "/dev/pts/1\r", "exit 4\n", "exit 4")
	if code, err := exec.Wait(); err != nil || code != 4 {
		t.Errorf("exec: exit code %d: %v", code, err)
	}
	talk(tty, "exit 3\n", "exit 3")
	if code, err := tty.Wait(); err != nil || code != 3 {
		t.Errorf("run: exit code %d: %v", code, err)
	}
	if raw, err := tty.Raw(); err != nil || raw {
		t.Errorf("the terminal is left raw: %v %v", raw, err)
	}
}

func TestConsoleRefused(t *testing.T) {
	r := newRig(t)
	b := r.bundle("/bin/true")
	id := r.id()
	path, _ := consoles(t, r)
	r.write(b, id)
	r.refused("console socket", "create", "--bundle", b.dir, "--console-socket", path, id)
	b.spec.Process.Terminal = true
	r.write(b, id)
	r.refused("console socket", "create", "--bundle", b.dir, id)
	r.refused("console socket", "run", "-d", "--bundle", b.dir, id)
	r.refused("no such file or directory", "create", "--bundle", b.dir, "--console-socket", path+"-missing", id)
	if left := r.left(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestPIDFD(t *testing.T) {
	r := newRig(t)
	path, next := consoles(t, r)
	id := r.created(r.bundle("/bin/sleep", "600"), "--pidfd-socket", path)
	check := func(pid int) {
		t.Helper()
		f := next()
		defer f.Close()
		info := status(readFile(t, fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd())))
		same(t, "process of the pidfd", info["Pid"], fmt.Sprint(pid))
	}
	check(r.state(id).PID)
	r.must("start", id)
	pidFile := filepath.Join(r.dir, "pid")
	r.must("exec", "-d", "--pidfd-socket", path, "--pid-file", pidFile, id, "sleep", "500")
	var pid int
	fmt.Sscan(readFile(t, pidFile), &pid)
	check(pid)
}
