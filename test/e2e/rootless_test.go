package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

// ordinary is a user without rights, with a home and subordinate IDs, as
// useradd(8) makes one.
type ordinary struct {
	uid, gid uint32
	home     string
	brig     string
}

func newOrdinary(t *testing.T, more ...string) *ordinary {
	t.Helper()
	name := fmt.Sprintf("brig-t%d", os.Getpid())
	args := append([]string{"--create-home", "--home-dir", filepath.Join(harness.Scratch(), name)}, more...)
	if out, err := exec.Command("useradd", append(args, name)...).CombinedOutput(); err != nil {
		t.Fatalf("useradd: %v: %s", err, out)
	}
	t.Cleanup(func() {
		exec.Command("pkill", "-KILL", "-u", name).Run()
		harness.Eventually("no process of the user is left", func() bool { return exec.Command("pgrep", "-u", name).Run() != nil })
		if out, err := exec.Command("userdel", name).CombinedOutput(); err != nil {
			t.Errorf("userdel: %v: %s", err, out)
		}
	})
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	o := &ordinary{uid: uint32(uid), gid: uint32(gid), home: u.HomeDir, brig: filepath.Join(u.HomeDir, "brig")}
	t.Cleanup(func() { os.RemoveAll(o.home) })
	binary, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(binary)
	if err == nil {
		err = os.WriteFile(o.brig, b, 0o755)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(o.home, "run"), 0o700)
	}
	if err == nil {
		err = os.Chown(filepath.Join(o.home, "run"), uid, gid)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *ordinary) command(args ...string) *exec.Cmd {
	cmd := exec.Command(o.brig, args...)
	cmd.Dir = o.home
	cmd.Env = []string{"HOME=" + o.home, "XDG_RUNTIME_DIR=" + o.home + "/run", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: o.uid, Gid: o.gid}}
	return cmd
}

func (o *ordinary) run(args ...string) harness.Result { return harness.Finish(o.command(args...)) }

func (o *ordinary) must(t *testing.T, args ...string) string {
	t.Helper()
	res := o.run(args...)
	if res.Code != 0 {
		t.Fatalf("brig %s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), res.Code, res.Stdout, res.Stderr)
	}
	return res.Output()
}

// load gives the user an image of a busybox, with files of another user and a
// device, which is left out.
func (o *ordinary) load(t *testing.T) {
	t.Helper()
	image, err := harness.Busybox("box")
	if err != nil {
		t.Fatal(err)
	}
	image.Add(harness.Entry{Header: tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 8, Mode: 0o600}})
	image.Add(harness.Entry{Header: tar.Header{Name: "mail", Typeflag: tar.TypeDir, Uid: 8, Gid: 8, Mode: 0o755}})
	cmd := o.command("load")
	cmd.Stdin = bytes.NewReader(harness.Archive(t, image))
	if res := harness.Finish(cmd); res.Code != 0 {
		t.Fatalf("brig load: %s", res.Stderr)
	}
}

// openTun lets users make interfaces, as systemd's udev rules do everywhere.
func openTun(t *testing.T) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/dev/net/tun", &st); err != nil {
		t.Skipf("this kernel has no TUN devices, which pasta needs: %v", err)
	}
	if err := unix.Chmod("/dev/net/tun", 0o666); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Chmod("/dev/net/tun", st.Mode&0o7777) })
}

func TestRootless(t *testing.T) {
	o := newOrdinary(t)
	o.load(t)
	t.Run("root inside is the user outside", func(t *testing.T) {
		dir := filepath.Join(o.home, "shared")
		os.Mkdir(dir, 0o755)
		os.Chown(dir, int(o.uid), int(o.gid))
		o.must(t, "run", "--rm", "--network", "none", "-v", dir+":/s", "box", "sh", "-c", "id -u > /s/id; touch /s/other; chown 5:6 /s/other")
		var st unix.Stat_t
		if err := unix.Stat(dir+"/id", &st); err != nil || st.Uid != o.uid {
			t.Errorf("the file belongs to %d (%v), want %d", st.Uid, err, o.uid)
		}
		if err := unix.Stat(dir+"/other", &st); err != nil || st.Uid < 100000 {
			t.Errorf("the other user's file belongs to %d (%v), want one of /etc/subuid", st.Uid, err)
		}
		if b, _ := os.ReadFile(dir + "/id"); string(b) != "0\n" {
			t.Errorf("inside the user is %q", b)
		}
	})
	t.Run("exit codes", func(t *testing.T) {
		for want, args := range map[int][]string{3: {"sh", "-c", "exit 3"}, 127: {"missing"}, 126: {"/etc"}, 137: {"sh", "-c", "kill -KILL $$"}} {
			if res := o.run(append([]string{"run", "--rm", "--init", "--network", "none", "box"}, args...)...); res.Code != want {
				t.Errorf("%v: exit code %d, want %d: %s", args, res.Code, want, res.Stderr)
			}
		}
	})
	t.Run("capabilities and the filter", func(t *testing.T) {
		got := o.must(t, "run", "--rm", "--network", "none", "--cap-drop", "ALL", "--cap-add", "CHOWN", "box", "grep", "-E", "^(CapBnd|Seccomp):", "/proc/self/status")
		if !strings.Contains(got, "CapBnd:\t0000000000000001") || !strings.Contains(got, "Seccomp:\t2") {
			t.Errorf("status: %s", got)
		}
	})
	t.Run("a life", func(t *testing.T) {
		o.must(t, "run", "-d", "--name", "life", "--network", "none", "box", "sleep", "1000")
		if got := o.must(t, "exec", "-u", "7:8", "life", "id"); !strings.Contains(got, "uid=7") || !strings.Contains(got, "gid=8") {
			t.Errorf("exec: %s", got)
		}
		if got := o.must(t, "exec", "life", "sh", "-c", "echo $$; ls /proc | grep -c '^[0-9]'"); strings.HasPrefix(got, "1\n") {
			t.Errorf("exec is not in the container's PID namespace: %s", got)
		}
		if got := o.must(t, "ps", "-q"); got == "" {
			t.Error("ps shows nothing")
		}
		o.must(t, "stop", "-t", "0", "life")
		o.must(t, "start", "life")
		o.must(t, "run", "--rm", "--network", "none", "--pid", "container:life", "box", "sh", "-c", "ps | grep -q 'sleep 1000'")
		o.must(t, "rm", "-f", "life")
	})
	t.Run("a recording", func(t *testing.T) {
		out := filepath.Join(o.home, "out")
		os.Mkdir(out, 0o755)
		os.Chown(out, int(o.uid), int(o.gid))
		o.must(t, "run", "--rm", "--network", "none", "-v", o.brig+":/brig:ro", "-v", out+":/out", "box",
			"/brig", "record", "-o", "/out/p.json", "sh", "-c", "ls /; cat /etc/passwd")
		file := filepath.Join(out, "p.json")
		if got := o.must(t, "run", "--rm", "--network", "none", "--policy", file, "box", "sh", "-c", "ls /; cat /etc/passwd"); !strings.Contains(got, "root:x:0") {
			t.Errorf("under the policy: %s", got)
		}
		res := o.run("run", "--rm", "--network", "none", "--policy", file, "box", "sh", "-c", "mkdir /x && echo made")
		if strings.Contains(res.Stdout, "made") || !strings.Contains(res.Stderr, "not permitted") {
			t.Errorf("what was not recorded: %+v", res)
		}
	})
	t.Run("a published port", func(t *testing.T) {
		openTun(t)
		o.must(t, "run", "-d", "--name", "web", "-p", "127.0.0.1:0:8080", "box", "sh", "-c", "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 8080 -h /w")
		addr := strings.TrimPrefix(o.must(t, "port", "web"), "8080/tcp -> ")
		if err := harness.Eventually("the server answers", func() bool {
			out, err := exec.Command("curl", "-s", "http://"+addr+"/").Output()
			return err == nil && string(out) == "hello\n"
		}); err != nil {
			t.Error(err)
		}
		if got := o.must(t, "ps"); !strings.Contains(got, addr+"->8080/tcp") {
			t.Errorf("ps: %s", got)
		}
		if res := o.run("run", "--rm", "-p", addr+":80", "box", "true"); res.Code != 125 || !strings.Contains(res.Stderr, "in use") {
			t.Errorf("a port in use: %d: %s", res.Code, res.Stderr)
		}
		o.must(t, "rm", "-f", "web")
		if err := harness.Eventually("pasta has ended", func() bool {
			return exec.Command("pgrep", "-u", fmt.Sprint(o.uid), "pasta").Run() != nil
		}); err != nil {
			t.Error(err)
		}
	})
	t.Run("what needs root", func(t *testing.T) {
		for _, tt := range []struct {
			args []string
			want string
		}{
			{[]string{"run", "--rm", "--network", "none", "--explain", "box", "true"}, "root"},
			{[]string{"run", "--rm", "--network", "none", "-m", "64m", "box", "true"}, "linux.resources.memory"},
		} {
			res := o.run(tt.args...)
			if res.Code != 125 || !strings.Contains(res.Stderr, tt.want) || strings.Count(res.Stderr, "\n") != 1 {
				t.Errorf("%v: exit code %d: %s", tt.args, res.Code, res.Stderr)
			}
		}
	})
	t.Run("a policy is learned and proved", func(t *testing.T) {
		file := filepath.Join(o.home, "server.json")
		server := []string{"box", "sh", "-c", "chown 1 /tmp && exec httpd -f -p 8000 -h /etc"}
		learn := append([]string{"learn", "--network", "none", "--probe", "busybox wget -qO- http://127.0.0.1:8000/os-release | grep NAME", "-o", file}, server...)
		if res := o.run(learn...); res.Code != 0 {
			t.Fatalf("learn: %+v", res)
		}
		shown := o.must(t, "policy", "show", file)
		for _, want := range []string{"1 capabilities granted", "CHOWN", "verified", "recorded without privileges", " listen "} {
			if !strings.Contains(shown, want) {
				t.Errorf("no %q in\n%s", want, shown)
			}
		}
		o.must(t, append([]string{"run", "-d", "--name", "learned", "--network", "none", "--policy", file}, server...)...)
		status, err := os.ReadFile("/proc/" + o.must(t, "inspect", "-f", "{{.State.Pid}}", "learned") + "/status")
		if err != nil || !strings.Contains(string(status), "CapBnd:\t0000000000000001\n") || !strings.Contains(string(status), "Seccomp_filters:\t1\n") {
			t.Errorf("under the policy, %v:\n%s", err, status)
		}
		o.must(t, "rm", "-f", "learned")
		// What works under no policy is nothing to learn from.
		res := o.run("learn", "--network", "none", "-o", filepath.Join(o.home, "none.json"), "box", "sh", "-c", "exit 3")
		if res.Code == 0 || !strings.Contains(res.Stderr, "the container ended with exit code 3") {
			t.Errorf("%+v", res)
		}
		if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "brig-learn-*")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	t.Run("a signal to the command reaches the container", func(t *testing.T) {
		cmd := o.command("run", "--rm", "--network", "none", "--name", "sig", "box", "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		var b [3]byte
		out.Read(b[:])
		cmd.Process.Signal(unix.SIGTERM)
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 9 {
			t.Errorf("exit code %d, want 9", code)
		}
	})
}
