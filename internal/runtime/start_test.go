package runtime_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	_ "github.com/brig-run/brig/internal/boot" // the test binary is its own monitor
	"github.com/brig-run/brig/internal/cgroup"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/runtime"
)

// busyboxRoot makes a root file system of Debian's static busybox.
func busyboxRoot(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("busybox-static is needed: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "true", "cat", "id", "ls", "mount", "readlink", "hostname", "echo", "stat", "wc", "grep", "ip", "sleep", "pwd", "ps"} {
		os.Symlink("busybox", filepath.Join(dir, "bin", name))
	}
	return dir
}

// defaultSpec is a container as an engine would ask for it.
func defaultSpec(args ...string) *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_KILL"}
	return &specs.Spec{
		Hostname: "box",
		Root:     &specs.Root{},
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/usr/bin:/bin"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=64m"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: "pid"}, {Type: "network"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}, {Type: "cgroup"}},
			MaskedPaths: []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/timer_list",
				"/proc/sched_debug", "/proc/scsi", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

type result struct {
	code   int
	stdout string
	stderr string
	err    error
}

// run performs a spec on a root directory to the end.
func run(t testing.TB, rootDir string, spec *specs.Spec, edit func(*runtime.Config)) result {
	t.Helper()
	dir := t.TempDir()
	fd, err := unix.OpenTree(unix.AT_FDCWD, rootDir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	root := os.NewFile(uintptr(fd), rootDir)
	defer root.Close()
	group, err := cgroup.New("/brig-test/" + filepath.Base(filepath.Dir(dir)) + filepath.Base(dir))
	if err == nil {
		err = group.Make()
	}
	if err == nil {
		err = group.Limit(&specs.LinuxResources{})
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg := runtime.Config{Spec: spec, Root: root, MountPoint: dir, Cgroups: group.Layout}
	if edit != nil {
		edit(&cfg)
	}
	plan, err := runtime.New(cfg)
	if err != nil {
		group.Remove()
		return result{err: err}
	}
	return perform(t, dir, plan, group)
}

func perform(t testing.TB, dir string, plan *runtime.Plan, group *cgroup.Group) result {
	t.Helper()
	c, err := monitor.Spawn("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lock, _ := os.Create(filepath.Join(dir, "lock"))
	defer lock.Close()
	listen, err := monitor.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer listen.Close()
	files := monitor.Files{Program: memfd(t, plan.Program), Lock: lock, Listen: listen}
	if files.Cgroup, err = group.Open(); err != nil {
		t.Fatal(err)
	}
	start := &monitor.Start{HasCgroup: files.Cgroup != nil, Dir: dir, CloneFlag: uint64(plan.Flags), Size: len(plan.Program), Cgroups: group.Dirs,
		Attach: monitor.Stdout | monitor.Stderr, OwnPIDNS: true}
	for _, f := range plan.Files {
		start.Regs = append(start.Regs, f.Reg)
		files.Regs = append(files.Regs, f.File)
	}
	if err := c.Start(start, files); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	for {
		ev, err := c.Next()
		var f *monitor.Failure
		switch {
		case errors.As(err, &f) && f.AtStep():
			return result{err: plan.Failure(f.Tag, f.Errno)}
		case err != nil:
			return result{err: err}
		case ev.Stream == 1:
			out.Write(ev.Data)
		case ev.Stream == 2:
			errOut.Write(ev.Data)
		case ev.Exited:
			return result{code: ev.Code, stdout: out.String(), stderr: errOut.String()}
		}
	}
}

func memfd(t testing.TB, b []byte) *os.File {
	fd, err := unix.MemfdCreate("program", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "program")
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestContainerSeesOnlyItsOwn(t *testing.T) {
	root := busyboxRoot(t)
	r := run(t, root, defaultSpec("sh", "-c", `
		echo pid $$; hostname; pwd
		echo fds $(ls /proc/self/fd | wc -l)
		grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status
		ls /sys/fs/cgroup >/dev/null && cat /proc/self/cgroup | grep -v ':/$' 
		ip link show lo | grep -o UP | ls -la /dev/null /dev/ptmx /dev/fd | wc -l
		test -d /sys/firmware && ls /sys/firmware | wc -l
		echo x > /proc/sys/kernel/hostname; echo y > /proc/fs/x
		exit 7`), nil)
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Log(r.stdout, r.stderr)
	for _, want := range []string{"pid 1\n", "box\n", "/\n", "CapBnd:\t0000000000000021\n", "CapEff:\t0000000000000021\n",
		"CapInh:\t0000000000000000\n", "CapAmb:\t0000000000000000\n"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	if !strings.Contains(r.stderr, "hostname: Read-only file system") {
		t.Errorf("/proc/sys is not read-only: %s", r.stderr)
	}
	if r.code != 7 {
		t.Errorf("exit code %d, want 7", r.code)
	}
}

func TestExecFailures(t *testing.T) {
	root := busyboxRoot(t)
	os.WriteFile(filepath.Join(root, "bin/noexec"), []byte("x"), 0o644)
	os.WriteFile(filepath.Join(root, "bin/garbage"), []byte("x"), 0o755)
	for _, c := range []struct {
		arg   string
		errno syscall.Errno
	}{{"missing", unix.ENOENT}, {"/bin/missing", unix.ENOENT}, {"noexec", unix.EACCES}, {"/bin", unix.EACCES}, {"garbage", unix.ENOEXEC}} {
		var se *runtime.StartError
		r := run(t, root, defaultSpec(c.arg), nil)
		if !errors.As(r.err, &se) || !se.Exec || se.Errno != c.errno {
			t.Errorf("%s: got %v, want an exec failure with %v", c.arg, r.err, c.errno)
		}
	}
}

func TestCommandMayChangeNothingOutside(t *testing.T) {
	root := busyboxRoot(t)
	os.Symlink("/proc/self/fd/7", filepath.Join(root, "evil"))
	spec := defaultSpec("true")
	spec.Process.Cwd = "/evil"
	if r := run(t, root, spec, nil); r.err == nil {
		t.Error("a working directory through a magic link was accepted")
	}
	spec = defaultSpec("true")
	host := t.TempDir()
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/link/x", Type: "bind", Source: host, Options: []string{"rbind"}})
	os.Symlink("../../../../../../../.."+host, filepath.Join(root, "link"))
	if r := run(t, root, spec, nil); r.err != nil {
		t.Error(r.err)
	}
	if e, _ := os.ReadDir(host); len(e) != 0 {
		t.Errorf("a mount point was made on the host: %v", e)
	}
}

func TestDanglingLinkAsMountPoint(t *testing.T) {
	root := busyboxRoot(t)
	os.Symlink("../run/systemd/stub-resolv.conf", filepath.Join(root, "etc/resolv.conf"))
	src := filepath.Join(t.TempDir(), "resolv.conf")
	os.WriteFile(src, []byte("nameserver 192.0.2.1\n"), 0o644)
	spec := defaultSpec("cat", "/etc/resolv.conf")
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: src, Options: []string{"rbind", "ro"}})
	if r := run(t, root, spec, nil); r.err != nil || r.stdout != "nameserver 192.0.2.1\n" {
		t.Errorf("%+v", r)
	}
}

func TestReadOnlyRootAndUser(t *testing.T) {
	root := busyboxRoot(t)
	spec := defaultSpec("sh", "-c", "id; echo > /x; grep Cap /proc/self/status")
	spec.Root.Readonly = true
	spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{27, 4}}
	r := run(t, root, spec, nil)
	if r.err != nil {
		t.Fatal(r.err)
	}
	if !strings.Contains(r.stdout, "uid=1000 gid=1001 groups=4,27") && !strings.Contains(r.stdout, "uid=1000 gid=1001 groups=27,4") {
		t.Errorf("identity: %s", r.stdout)
	}
	if !strings.Contains(r.stderr, "Read-only file system") {
		t.Errorf("root is writable: %s", r.stderr)
	}
	if !strings.Contains(r.stdout, "CapPrm:\t0000000000000000") || !strings.Contains(r.stdout, "CapBnd:\t0000000000000021") {
		t.Errorf("capabilities of an ordinary user: %s", r.stdout)
	}
}

// Without no_new_privs the filter needs CAP_SYS_ADMIN to load. The program
// must not have it afterwards, and the filter may forbid capset and exit.
func TestFilterIsLast(t *testing.T) {
	root := busyboxRoot(t)
	for _, nnp := range []bool{false, true} {
		for _, uid := range []uint32{0, 1000} {
			deny := []uint32{unix.SYS_CAPSET, unix.SYS_PRCTL, unix.SYS_SETUID, unix.SYS_CHDIR, unix.SYS_GETCWD}
			prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
			for _, nr := range deny {
				prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: nr},
					unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
			}
			prog = append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
			spec := defaultSpec("cat", "/proc/self/status")
			spec.Process.NoNewPrivileges = nnp
			spec.Process.User.UID = uid
			r := run(t, root, spec, func(c *runtime.Config) { c.Filter = &runtime.Filter{Program: prog} })
			if r.err != nil || r.code != 0 {
				t.Fatalf("nnp %v uid %d: %+v", nnp, uid, r)
			}
			want := []string{"Seccomp:\t2", "Seccomp_filters:\t1", "CapBnd:\t0000000000000021", "CapAmb:\t0000000000000000", "CapInh:\t0000000000000000"}
			if uid == 0 {
				want = append(want, "CapPrm:\t0000000000000021", "CapEff:\t0000000000000021")
			} else {
				want = append(want, "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000")
			}
			for _, w := range want {
				if !strings.Contains(r.stdout, w+"\n") {
					t.Errorf("nnp %v uid %d: no %q in %s", nnp, uid, w, r.stdout)
				}
			}
		}
	}
}

func TestNothingIsLeft(t *testing.T) {
	before, _ := os.ReadFile("/proc/self/mountinfo")
	root := busyboxRoot(t)
	run(t, root, defaultSpec("true"), nil)
	run(t, root, defaultSpec("missing"), nil)
	after, _ := os.ReadFile("/proc/self/mountinfo")
	if !bytes.Equal(before, after) {
		t.Error("mounts of the host changed")
	}
	out, _ := exec.Command("find", "/sys/fs/cgroup", "-path", "*brig-test/*", "-name", filepath.Base(root)+"*").Output()
	if len(out) > 0 {
		t.Errorf("cgroups are left:\n%s", out)
	}
}

func BenchmarkRunTrue(b *testing.B) {
	root := busyboxRoot(b)
	for b.Loop() {
		if r := run(b, root, defaultSpec("true"), nil); r.err != nil {
			b.Fatal(r.err)
		}
	}
}

// The streams are given to the container's user only where they are Brig's own:
// a closed input is the host's /dev/null.
func TestHostFilesKeepTheirOwner(t *testing.T) {
	var before, after unix.Stat_t
	if err := unix.Stat("/dev/null", &before); err != nil {
		t.Fatal(err)
	}
	spec := defaultSpec("/bin/sh", "-c", "echo x > /dev/stdout")
	spec.Process.User = specs.User{UID: 1000, GID: 1000}
	spec.Process.Capabilities = nil
	r := run(t, busyboxRoot(t), spec, func(c *runtime.Config) { c.OwnStreams = [3]bool{false, true, true} })
	if r.err != nil || r.stdout != "x\n" {
		t.Errorf("%+v", r)
	}
	if err := unix.Stat("/dev/null", &after); err != nil {
		t.Fatal(err)
	}
	if after.Uid != before.Uid || after.Ctim != before.Ctim {
		t.Errorf("/dev/null belongs to %d and belonged to %d", after.Uid, before.Uid)
	}
}
