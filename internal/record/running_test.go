//go:build amd64

package record

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const someID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestCgroupOf(t *testing.T) {
	for _, test := range []struct{ line, id, path string }{
		{"0::/brig/" + someID, "01234567", "/brig/" + someID},
		{"0::/system.slice/docker-" + someID + ".scope", someID, "/system.slice/docker-" + someID + ".scope"},
		{"0::/machine.slice/libpod-" + someID + ".scope/container", "0123", "/machine.slice/libpod-" + someID + ".scope"},
		{"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + someID + ".scope/below", "0123", "/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + someID + ".scope"},
		{"1:name=systemd:/docker/" + someID, "0123", "/docker/" + someID},
		{"0::/machine.slice/libpod-conmon-" + someID + ".scope", "0123", ""},
		{"0::/docker/" + someID, "123", ""},
		{"0::/docker/" + someID + "0", "0123", ""},
		{"0::/", "0123", ""},
		{"0::/user.slice", "user", ""},
		{"", "0123", ""},
		{"0::", "", ""},
	} {
		full, path, unified := cgroupOf(test.line, test.id)
		if path != test.path || (full == someID) != (path != "") || unified != (path != "" && test.line[0] == '0') {
			t.Errorf("%s of %s: %q %q %v, want %q", test.id, test.line, full, path, unified, test.path)
		}
	}
}

// container starts a child in a cgroup with a mount namespace of its own.
func container(t *testing.T, dir, mode, arg string) *child {
	t.Helper()
	return startChild(t, mode, func(cmd *exec.Cmd) {
		into(t, dir)(cmd)
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS
	}, arg)
}

// someContainer makes up an ID that no test before had.
func someContainer() string { return fmt.Sprintf("%064x", time.Now().UnixNano()) }

func TestFindContainer(t *testing.T) {
	r := recorder(t)
	id := someContainer()
	dir := cgroup(t, "docker-"+id+".scope")
	c := container(t, dir, "calls", "7")
	beside := startChild(t, "calls", nil, "100")
	for _, name := range []string{id, id[:60], "containerd://" + id} {
		run, err := FindContainer(name)
		if err != nil {
			t.Fatal(err)
		}
		if !run.Alive() || len(run.Targets) != 1 || run.Targets[0].Cgroup == 0 {
			t.Errorf("%s: %+v", name, run)
		}
		run.Close()
	}
	run, err := FindContainer(id)
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Attach(run.Targets...)
	if err != nil {
		t.Fatal(err)
	}
	beside.mustEnd()
	c.mustEnd()
	if got := find(stop(t, s), "amd64", "getppid"); got.Count != 7 || got.Running != 7 {
		t.Errorf("getppid: %+v, want 7 of what runs already", got)
	}
	if run.Alive() {
		t.Error("it is alive")
	}
	for name, want := range map[string]string{id: "no container", "abc": "goes by its ID", "web": "goes by its ID", "../x": "goes by its ID"} {
		if _, err := FindContainer(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestFindContainerAmbiguous(t *testing.T) {
	id := someContainer()
	other := id[:60] + "ffff"
	startChild(t, "calls", into(t, cgroup(t, id)), "1")
	startChild(t, "calls", into(t, cgroup(t, other)), "1")
	if _, err := FindContainer(id[:58]); err == nil || !strings.Contains(err.Error(), "ambiguous: "+id+", "+other) {
		t.Errorf("%v", err)
	}
	run, err := FindContainer(other)
	if err != nil {
		t.Fatal(err)
	}
	run.Close()
}

// TestFindByNamespace: where only v1 has the cgroup, the mount namespace tells
// the container from others.
func TestFindByNamespace(t *testing.T) {
	r := recorder(t)
	const hierarchy = "/sys/fs/cgroup/pids"
	var fs unix.Statfs_t
	if unix.Statfs(hierarchy, &fs) != nil || fs.Type != unix.CGROUP_SUPER_MAGIC {
		t.Skip("this machine has no cgroups of v1")
	}
	id := someContainer()
	dir := filepath.Join(hierarchy, id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	c := startChild(t, "calls", func(cmd *exec.Cmd) { cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS }, "7")
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Appendln(nil, c.pid), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, look := range []func() (*Running, error){
		func() (*Running, error) { return FindContainer(id) },
		func() (*Running, error) { return FindCgroup(dir) },
	} {
		run, err := look()
		if err != nil {
			t.Fatal(err)
		}
		defer run.Close()
		if len(run.Targets) != 1 || run.Targets[0].MountNS != ns(t, c.pid, "mnt") || !run.Alive() {
			t.Errorf("%+v", run)
		}
	}
	run, err := FindContainer(id)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, r, run.Targets...)
	repeat(100, unix.SYS_GETPPID) // ours
	c.mustEnd()
	if got := find(stop(t, s), "amd64", "getppid").Count; got != 7 {
		t.Errorf("getppid: %d, want 7", got)
	}
	if run.Alive() {
		t.Error("it is alive")
	}
}

func TestFindProcess(t *testing.T) {
	c := startChild(t, "calls", nil, "1")
	run, err := FindProcess(c.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if !run.Alive() || run.Targets[0].PID != c.pid {
		t.Errorf("%+v", run)
	}
	c.mustEnd()
	if run.Alive() {
		t.Error("it is alive")
	}
	for _, pid := range []int{c.pid, 0, -1} {
		if _, err := FindProcess(pid); err == nil {
			t.Errorf("process %d was found", pid)
		}
	}
}

func TestFindCgroupErrors(t *testing.T) {
	for dir, want := range map[string]string{"/no/such": "no such file", "/proc": "not a cgroup"} {
		if _, err := FindCgroup(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
}
