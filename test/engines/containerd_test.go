package engines

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// containerd is a daemon of a test's own.
type containerd struct{ dir string }

// startContainerd starts it with more of a configuration than where its files
// are: in %[1]s is its directory.
func startContainerd(t *testing.T, more string) *containerd {
	t.Helper()
	c := &containerd{scratch(t)}
	config := fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
  address = "%[1]s/sock"
[ttrpc]
  address = "%[1]s/ttrpc"
`+more, c.dir)
	if err := os.WriteFile(c.dir+"/config.toml", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(c.dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command("containerd", "--config", c.dir+"/config.toml")
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		daemon.Process.Signal(os.Interrupt)
		daemon.Wait()
		log.Close()
		if text, _ := os.ReadFile(c.dir + "/log"); t.Failed() {
			t.Logf("the end of the daemon's log: %s", text[max(0, len(text)-4000):])
		}
	})
	if err := harness.Eventually("containerd answers", func() bool { return c.run(nil, "version").Code == 0 }); err != nil {
		text, _ := os.ReadFile(c.dir + "/log")
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

func (c *containerd) run(in []byte, args ...string) harness.Result {
	cmd := exec.Command("ctr", append([]string{"-a", c.dir + "/sock"}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	return harness.Finish(cmd)
}

func (c *containerd) must(t *testing.T, args ...string) string {
	t.Helper()
	res := c.run(nil, args...)
	if res.Code != 0 {
		t.Fatalf("ctr %v: %d: %s", args, res.Code, res.Stderr)
	}
	return res.Stdout
}

// load imports the image of the tests, and returns its name.
func (c *containerd) load(t *testing.T, more ...string) string {
	t.Helper()
	args := append(more, "image", "import", "--base-name", "localhost/busybox", "-")
	if res := c.run(imageArchive(t), args...); res.Code != 0 {
		t.Fatalf("ctr %v: %s", args, res.Stderr)
	}
	names := strings.Fields(c.must(t, append(more, "image", "ls", "-q")...))
	if len(names) == 0 {
		t.Fatal("no image")
	}
	return names[0]
}

// ctr run --runc-binary with Brig prints what it prints with runc.
func TestContainerd(t *testing.T) {
	c := startContainerd(t, `disabled_plugins = ["io.containerd.grpc.v1.cri"]`+"\n")
	image := c.load(t)
	brig, runc := brigRuntime(t), reference(t)
	dir := workDir(t)
	for name, tt := range map[string]struct{ flags, command string }{
		"code":         {"", "sh -c 'echo out; exit 7'"},
		"capabilities": {"", "grep ^Cap /proc/self/status"},
		"one more":     {"--cap-add CAP_SYS_TIME", "grep ^Cap /proc/self/status"},
		"one less":     {"--cap-drop CAP_CHOWN", "chown 1 /tmp"},
		"seccomp":      {"--seccomp", "grep ^Seccomp: /proc/self/status"},
		"profile":      {"--seccomp --seccomp-profile " + dir + "/profile.json", "sh -c 'mkdir /x; touch /y && echo touched'"},
		"limits":       {"--memory-limit 67108864 --cpu-quota 40000 --cpu-period 80000", "sh -c 'cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes memory.max cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu.max 2>/dev/null'"},
		"user":         {"--user 1000:1000", "id"},
		"read only":    {"--read-only", "touch /x"},
		"mount":        {"--mount type=bind,src=" + dir + ",dst=/mnt,options=rbind:ro", "ls /mnt"},
		"directory":    {"--cwd /usr/bin --env A=b", "sh -c 'pwd; echo $A'"},
		"no program":   {"", "nonesuch"},
		"host network": {"--net-host", "sh -c 'ip -o link show lo | cut -d\" \" -f2'"},
		"host pid":     {"--with-ns pid:/proc/1/ns/pid", "readlink /proc/self/ns/mnt"},
	} {
		t.Run(name, func(t *testing.T) {
			try := func(runtime string) harness.Result {
				id := filepath.Base(runtime) + "-" + strings.ReplaceAll(name, " ", "-")
				args := append([]string{"run", "--rm", "--runc-binary", runtime}, strings.Fields(tt.flags)...)
				return c.run(nil, append(append(args, image, id), words(tt.command)...)...)
			}
			want, got := try(runc), try(brig)
			if name == "host pid" {
				want.Stdout, got.Stdout = "", ""
			}
			if want.Code != got.Code || want.Stdout != got.Stdout {
				t.Errorf("with runc: %+v\nwith brig: %+v", want, got)
			}
		})
	}
	t.Run("life", func(t *testing.T) { ctrLife(t, c, image, brig) })
}

// ctrLife takes a container through all that a task of containerd can be told.
func ctrLife(t *testing.T, c *containerd, image, runtime string) {
	t.Cleanup(func() { c.run(nil, "task", "rm", "-f", "life"); c.run(nil, "container", "rm", "life") })
	c.must(t, "run", "-d", "--runc-binary", runtime, "--memory-limit", "67108864", image, "life", "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done")
	if out := c.must(t, "task", "ls"); !strings.Contains(out, "RUNNING") {
		t.Errorf("not running: %s", out)
	}
	if out := c.must(t, "task", "exec", "--exec-id", "one", "life", "sh", "-c", "echo in; id -u"); out != "in\n0\n" {
		t.Errorf("exec printed %q", out)
	}
	if res := c.run(nil, "task", "exec", "--exec-id", "two", "life", "sh", "-c", "exit 5"); res.Code != 5 {
		t.Errorf("exec: %+v", res)
	}
	if res := c.run(nil, "task", "exec", "--exec-id", "three", "life", "nonesuch"); res.Code == 0 || !strings.Contains(res.Stderr, "executable file not found in $PATH") {
		t.Errorf("exec of nothing: %+v", res)
	}
	c.must(t, "task", "pause", "life")
	if out := c.must(t, "task", "ls"); !strings.Contains(out, "PAUSED") {
		t.Errorf("not paused: %s", out)
	}
	c.must(t, "task", "resume", "life")
	if out := c.must(t, "task", "ps", "life"); len(strings.Split(strings.TrimSpace(out), "\n")) < 2 {
		t.Errorf("processes: %s", out)
	}
	c.must(t, "task", "kill", "--signal", "TERM", "life")
	if err := harness.Eventually("it stops", func() bool { return strings.Contains(c.must(t, "task", "ls"), "STOPPED") }); err != nil {
		t.Error(err)
	}
	if res := c.run(nil, "task", "rm", "life"); res.Code != 9 && res.Code != 0 {
		t.Errorf("task rm: %+v", res)
	}
}
