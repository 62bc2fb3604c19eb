package oci

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brig-run/brig/test/harness"
)

// manager is a service manager that listens for sd_notify(3).
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	addr string
}

func newManager(t *testing.T, r *rig) *manager {
	m := &manager{t: t, addr: filepath.Join(r.dir, "manager.sock")}
	var err error
	if m.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.addr, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.conn.Close() })
	return m
}

// next is the next message. What comes with it, the pipe of a barrier, is closed.
func (m *manager) next() string {
	m.t.Helper()
	buf := make([]byte, 4096)
	m.conn.SetReadDeadline(time.Now().Add(harness.Patience))
	n, err := m.conn.Read(buf)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(buf[:n])
}

func TestNotify(t *testing.T) {
	notify := build(t, "notify")
	for _, how := range []string{"start", "run -d", "run"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			m := newManager(t, r)
			b := r.script("while ! [ -e /go ]; do sleep 0.05; done; /notify STATUS=wait; /notify READY=1; exec sleep 600")
			text, err := os.ReadFile(notify)
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(b.rootfs("notify"), text, 0o755)
			id := r.id()
			r.write(b, id)
			args := []string{"run", "--bundle", b.dir, id}
			switch how {
			case "start":
				cmd := r.command("create", "--bundle", b.dir, id)
				cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.addr)
				if res := r.finish(cmd); res.Code != 0 {
					t.Fatal(res)
				}
				args = []string{"start", id}
			case "run -d":
				args = []string{"run", "-d", "--bundle", b.dir, id}
			}
			cmd := r.command(args...)
			cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.addr)
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				if err := cmd.Wait(); err != nil && how != "run" {
					t.Errorf("%s: %v", how, err)
				}
				close(ended)
			}()
			if err := harness.Eventually("running", func() bool {
				res := r.run("state", id)
				return strings.Contains(res.Stdout, `"running"`)
			}); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
				t.Error("it has returned before the container was ready")
			case <-time.After(50 * time.Millisecond):
			}
			os.WriteFile(b.rootfs("go"), nil, 0o644)
			want := "READY=1"
			if how != "run" {
				want += fmt.Sprintf("\nMAINPID=%d", r.state(id).PID)
			}
			same(t, "message", m.next(), want)
			same(t, "message", m.next(), "BARRIER=1")
			if how == "run" {
				r.must("kill", id, "KILL")
			}
			<-ended
		})
	}
}

// TestNotifyEnd: a container that ends without a word does not keep start.
func TestNotifyEnd(t *testing.T) {
	r := newRig(t)
	m := newManager(t, r)
	b := r.script("exit 1")
	id := r.id()
	r.write(b, id)
	for _, args := range [][]string{{"create", "--bundle", b.dir, id}, {"start", id}} {
		cmd := r.command(args...)
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+m.addr)
		if res := r.finish(cmd); res.Code != 0 {
			t.Fatalf("%q: %+v", args, res)
		}
	}
	r.becomes(id, "stopped")
}
