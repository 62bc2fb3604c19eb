package engines

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// ctr run --runc-binary with Brig prints what it prints with runc.
func TestContainerd(t *testing.T) {
	c := harness.StartContainerd(t, harness.WithoutCRI)
	box, err := harness.Busybox("localhost/busybox")
	if err != nil {
		t.Fatal(err)
	}
	image := c.Load(t, "default", box)
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
				return c.Ctr(nil, append(append(args, image, id), words(tt.command)...)...)
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
func ctrLife(t *testing.T, c *harness.Containerd, image, runtime string) {
	t.Cleanup(func() { c.Ctr(nil, "task", "rm", "-f", "life"); c.Ctr(nil, "container", "rm", "life") })
	c.Must(t, "run", "-d", "--runc-binary", runtime, "--memory-limit", "67108864", image, "life", "sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done")
	if out := c.Must(t, "task", "ls"); !strings.Contains(out, "RUNNING") {
		t.Errorf("not running: %s", out)
	}
	if out := c.Must(t, "task", "exec", "--exec-id", "one", "life", "sh", "-c", "echo in; id -u"); out != "in\n0\n" {
		t.Errorf("exec printed %q", out)
	}
	if res := c.Ctr(nil, "task", "exec", "--exec-id", "two", "life", "sh", "-c", "exit 5"); res.Code != 5 {
		t.Errorf("exec: %+v", res)
	}
	if res := c.Ctr(nil, "task", "exec", "--exec-id", "three", "life", "nonesuch"); res.Code == 0 || !strings.Contains(res.Stderr, "executable file not found in $PATH") {
		t.Errorf("exec of nothing: %+v", res)
	}
	c.Must(t, "task", "pause", "life")
	if out := c.Must(t, "task", "ls"); !strings.Contains(out, "PAUSED") {
		t.Errorf("not paused: %s", out)
	}
	c.Must(t, "task", "resume", "life")
	if out := c.Must(t, "task", "ps", "life"); len(strings.Split(strings.TrimSpace(out), "\n")) < 2 {
		t.Errorf("processes: %s", out)
	}
	c.Must(t, "task", "kill", "--signal", "TERM", "life")
	if err := harness.Eventually("it stops", func() bool { return strings.Contains(c.Must(t, "task", "ls"), "STOPPED") }); err != nil {
		t.Error(err)
	}
	if res := c.Ctr(nil, "task", "rm", "life"); res.Code != 9 && res.Code != 0 {
		t.Errorf("task rm: %+v", res)
	}
}
