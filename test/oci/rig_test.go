// Package oci tests the OCI runtime from outside, as engines use it: the built
// binary, called by its other name, on bundles made on the spot. Some tests run
// the same bundle with Debian's runc and crun and compare what a program in the
// container sees. Every test ends with a look for what is left on the machine.
package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

func TestMain(m *testing.M) {
	harness.Main(m)
}

// parent is the cgroup of all containers of this package, in each hierarchy.
const parent = "/brig-test-oci"

// rig is a runtime under test with a state directory of its own.
type rig struct {
	t    testing.TB
	bin  string // program to execute
	root string // --root
	dir  string // for bundles and other files of the test
	ids  []string
	mu   sync.Mutex
}

// newRig gives Brig, called as engines call it.
func newRig(t testing.TB) *rig {
	t.Helper()
	bin, err := harness.Runtime()
	if err != nil {
		t.Fatal(err)
	}
	return rigOf(t, bin)
}

// peer gives a runtime of Debian's.
func peer(t testing.TB, name string) *rig {
	t.Helper()
	bin, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("the peers are needed, see test/packages: %v", err)
	}
	return rigOf(t, bin)
}

func rigOf(t testing.TB, bin string) *rig {
	t.Helper()
	dir, err := os.MkdirTemp(harness.Scratch(), "brig-oci-")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, bin: bin, root: filepath.Join(dir, "state"), dir: dir}
	t.Cleanup(func() {
		r.clean()
		os.RemoveAll(dir)
	})
	return r
}

// clean deletes all containers and reports what is left of them.
func (r *rig) clean() {
	r.mu.Lock()
	ids := slices.Clone(r.ids)
	r.mu.Unlock()
	for _, id := range ids {
		if res := r.run("delete", "--force", id); res.Code != 0 {
			r.t.Errorf("delete --force %s: exit code %d: %s", id, res.Code, res.Stderr)
		}
	}
	var left []string
	if harness.Eventually("clean", func() bool { left = r.left(); return len(left) == 0 }) != nil {
		r.t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
		r.killAll()
	}
	removeParents()
}

// removeParents removes the parents of the test's cgroups, once they are empty.
func removeParents() {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + parent)
	for _, dir := range append(dirs, "/sys/fs/cgroup"+parent) {
		os.Remove(dir)
	}
}

func cgroupDirs(id string) []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + parent + "/" + id)
	if more, _ := filepath.Glob("/sys/fs/cgroup" + parent + "/" + id); more != nil {
		dirs = append(dirs, more...)
	}
	return dirs
}

// filters is the directory of filters that stay known.
const filters = "@filters"

// left lists what the test's containers have on the machine.
func (r *rig) left() (found []string) {
	entries, _ := os.ReadDir(r.root)
	for _, e := range entries {
		if e.Name() != filters {
			found = append(found, "state "+e.Name())
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], r.dir+"/") && f[4] != r.root {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.ids {
		for _, dir := range cgroupDirs(id) {
			found = append(found, "cgroup "+dir)
		}
	}
	for _, pid := range r.processes() {
		cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		found = append(found, fmt.Sprintf("process %d %q", pid, bytes.ReplaceAll(cmd, []byte{0}, []byte{' '})))
	}
	return found
}

// processes lists those that are in a cgroup of the test's containers, or whose
// root or working directory is in the test's directory.
func (r *rig) processes() (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !harness.Alive(pid) {
			continue
		}
		cgroups, _ := os.ReadFile("/proc/" + e.Name() + "/cgroup")
		mine := slices.ContainsFunc(r.ids, func(id string) bool {
			return bytes.Contains(cgroups, []byte(parent+"/"+id+"\n")) || bytes.Contains(cgroups, []byte(parent+"/"+id+"/"))
		})
		for _, l := range []string{"root", "cwd"} {
			to, _ := os.Readlink("/proc/" + e.Name() + "/" + l)
			mine = mine || strings.HasPrefix(to, r.dir+"/")
		}
		if mine {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (r *rig) killAll() {
	for _, pid := range r.processes() {
		unix.Kill(pid, unix.SIGKILL)
	}
}

var counter atomic.Int64

// id gives a new ID, whose container the test's cleanup deletes.
func (r *rig) id() string {
	id := fmt.Sprintf("t%d-%d", os.Getpid(), counter.Add(1))
	r.mu.Lock()
	r.ids = append(r.ids, id)
	r.mu.Unlock()
	return id
}

// command prepares the runtime with arguments.
func (r *rig) command(args ...string) *exec.Cmd {
	cmd := exec.Command(r.bin, append([]string{"--root", r.root}, args...)...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "NOTIFY_SOCKET=") || strings.HasPrefix(kv, "LISTEN_")
	})
	return cmd
}

func (r *rig) run(args ...string) harness.Result { return r.input(nil, args...) }

func (r *rig) input(in io.Reader, args ...string) harness.Result {
	cmd := r.command(args...)
	cmd.Stdin = in
	return harness.Finish(cmd)
}

// must runs a command that has to work and gives its output. What a detached
// container inherits must not keep a pipe open, so output goes to files.
func (r *rig) must(args ...string) string {
	r.t.Helper()
	res := r.quiet(args...)
	if res.Code != 0 {
		r.t.Fatalf("%s %s: exit code %d\n%s%s", filepath.Base(r.bin), strings.Join(args, " "), res.Code, res.Stdout, res.Stderr)
	}
	return res.Output()
}

// quiet runs a command whose container may outlive it.
func (r *rig) quiet(args ...string) harness.Result {
	r.t.Helper()
	return r.finish(r.command(args...))
}

func (r *rig) finish(cmd *exec.Cmd) harness.Result {
	r.t.Helper()
	out, err := os.CreateTemp(r.dir, "out")
	if err != nil {
		r.t.Fatal(err)
	}
	errs, err := os.CreateTemp(r.dir, "err")
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		for _, f := range []*os.File{out, errs} {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	cmd.Stdout, cmd.Stderr = out, errs
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	if err := harness.Eventually(strings.Join(cmd.Args, " ")+" ends", func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}); err != nil {
		r.t.Error(err)
		cmd.Process.Kill()
		<-done
	}
	so, _ := os.ReadFile(out.Name())
	se, _ := os.ReadFile(errs.Name())
	return harness.Result{Stdout: string(so), Stderr: string(se), Code: cmd.ProcessState.ExitCode()}
}

// refused runs a command that has to fail, with one line that has the words.
func (r *rig) refused(words string, args ...string) harness.Result {
	r.t.Helper()
	res := r.quiet(args...)
	line := strings.TrimSuffix(res.Stderr, "\n")
	if res.Code == 0 || !strings.Contains(line, words) || strings.Contains(line, "\n") {
		r.t.Errorf("%s: exit code %d, says %q; want a failure with one line that says %q", strings.Join(args, " "), res.Code, line, words)
	}
	return res
}

// state is what a runtime's "state" prints.
type state struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Status      string            `json:"status"`
	PID         int               `json:"pid"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     string            `json:"created"`
	Annotations map[string]string `json:"annotations"`
	Owner       string            `json:"owner"`
}

func (r *rig) state(id string) (s state) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.must("state", id)), &s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// becomes waits until a container is in a state.
func (r *rig) becomes(id, status string) {
	r.t.Helper()
	if err := harness.Eventually(id+" becomes "+status, func() bool { return r.state(id).Status == status }); err != nil {
		r.t.Fatal(err)
	}
}

// bundle is a bundle in the making.
type bundle struct {
	dir  string
	spec *specs.Spec
}

func (b *bundle) rootfs(names ...string) string {
	return filepath.Join(append([]string{b.dir, "rootfs"}, names...)...)
}

// applets are the programs of a root file system besides sh.
var applets = []string{"awk", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dmesg", "echo", "env", "false", "find", "grep",
	"head", "hostname", "id", "ip", "kill", "killall", "ln", "ls", "mkdir", "mknod", "mount", "mv", "nc", "nice", "ps", "pwd", "readlink", "rm", "sed",
	"seq", "setsid", "sh", "sleep", "sort", "stat", "stty", "tail", "test", "timeout", "touch", "tr", "true", "tty", "umount", "uname", "usleep", "wc", "yes"}

// bundle makes a bundle with a root file system of its own, whose process runs
// args, or a shell script if there is one.
func (r *rig) bundle(args ...string) *bundle {
	r.t.Helper()
	dir, err := os.MkdirTemp(r.dir, "bundle-")
	if err != nil {
		r.t.Fatal(err)
	}
	b := &bundle{dir: dir, spec: specification(args)}
	for _, d := range []string{"bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var", "home/user"} {
		if err := os.MkdirAll(b.rootfs(d), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	os.Chmod(b.rootfs("tmp"), 0o1777)
	os.Chmod(dir, 0o755) // for user namespaces
	os.Chmod(r.dir, 0o755)
	program, err := busybox()
	if err == nil {
		err = os.WriteFile(b.rootfs("bin/busybox"), program, 0o755)
	}
	if err != nil {
		r.t.Fatalf("Debian's busybox-static is needed, see test/packages: %v", err)
	}
	for _, a := range applets {
		if err := os.Symlink("busybox", b.rootfs("bin", a)); err != nil {
			r.t.Fatal(err)
		}
	}
	return b
}

var busybox = sync.OnceValues(func() ([]byte, error) { return os.ReadFile("/bin/busybox") })

// script is a bundle whose process runs a shell script.
func (r *rig) script(text string) *bundle { r.t.Helper(); return r.bundle("/bin/sh", "-c", text) }

// defaults are the capabilities of Docker's containers.
var defaults = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}

// specification is much as Docker's, of a version that the peers know.
func specification(args []string) *specs.Spec {
	return &specs.Spec{
		Version: "1.0.2", Root: &specs.Root{Path: "rootfs"}, Hostname: "box",
		Process: &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin:/usr/bin", "HOME=/root"},
			Capabilities: &specs.LinuxCapabilities{Bounding: defaults, Effective: defaults, Permitted: defaults},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 512, Hard: 1024}}},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces:    []specs.LinuxNamespace{{Type: "pid"}, {Type: "network"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}, {Type: "cgroup"}},
			Resources:     &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// write writes the configuration, for a container with an ID.
func (r *rig) write(b *bundle, id string) {
	r.t.Helper()
	if b.spec.Linux != nil && b.spec.Linux.CgroupsPath == "" || filepath.Dir(b.spec.Linux.CgroupsPath) == parent {
		b.spec.Linux.CgroupsPath = parent + "/" + id
	}
	text, err := json.MarshalIndent(b.spec, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(b.dir, "config.json"), text, 0o644)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// output runs a bundle in the foreground and gives what it prints; it has to
// end with exit code 0.
func (r *rig) output(b *bundle, flags ...string) string {
	r.t.Helper()
	res := r.result(b, flags...)
	if res.Code != 0 {
		r.t.Fatalf("%s run: exit code %d\n%s%s", filepath.Base(r.bin), res.Code, res.Stdout, res.Stderr)
	}
	return res.Output()
}

// result runs a bundle in the foreground.
func (r *rig) result(b *bundle, flags ...string) harness.Result {
	r.t.Helper()
	id := r.id()
	r.write(b, id)
	return r.run(append(append([]string{"run", "--bundle", b.dir}, flags...), id)...)
}

// created creates a container of a bundle.
func (r *rig) created(b *bundle, flags ...string) (id string) {
	r.t.Helper()
	id = r.id()
	r.write(b, id)
	r.must(append(append([]string{"create", "--bundle", b.dir}, flags...), id)...)
	return id
}

// started creates and starts one.
func (r *rig) started(b *bundle, flags ...string) (id string) {
	r.t.Helper()
	id = r.created(b, flags...)
	r.must("start", id)
	return id
}

// sleeper is a running container that does nothing.
func (r *rig) sleeper() (id string) { r.t.Helper(); return r.started(r.bundle("/bin/sleep", "600")) }

func contains(t testing.TB, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %q, want %q", what, g, w)
	}
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// build builds a program of testdata, to be put into containers.
func build(t testing.TB, name string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	goBuild(t, "-o", out, "./testdata/"+name)
	return out
}

// goBuild runs go build.
func goBuild(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"build"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
}
