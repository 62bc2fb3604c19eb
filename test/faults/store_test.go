package faults

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

// smallStore makes a store on a file system of its own, in memory.
func smallStore(t *testing.T, size string) *harness.Root {
	t.Helper()
	dir, err := os.MkdirTemp(harness.Scratch(), "brig-small-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("the store's file system is still in use: %v", err)
			unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	root, err := harness.Open(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	root.LoadBusybox(t)
	return root
}

// fill writes until the disk of the store is full, to the last block, and
// gives a function that makes room again.
func fill(t *testing.T, root *harness.Root) (release func()) {
	t.Helper()
	name := filepath.Join(filepath.Dir(root.Dir), "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// failsClearly expects a command to fail with a code and one line about the
// reason.
func failsClearly(t *testing.T, root *harness.Root, code int, reason string, args ...string) {
	t.Helper()
	res := root.Run(args...)
	if res.Code != code || strings.Count(res.Stderr, "\n") != 1 || !strings.Contains(res.Stderr, reason) {
		t.Errorf("brig %s: exit code %d, want %d and one line with %q: %s", strings.Join(args, " "), res.Code, code, reason, res.Stderr)
	}
}

func TestFullDisk(t *testing.T) {
	root := smallStore(t, "16m")
	root.Must(t, "run", "-d", "--name", "before", "busybox", "sh", "-c", "trap 'exit 5' TERM; while :; do echo a line that fills the log, again and again; sleep 0.01; done")
	root.Must(t, "run", "-d", "--rm", "--name", "removed", "busybox", "sleep", "600")
	root.Must(t, "create", "--name", "created", "busybox", "true")
	release := fill(t, root)

	const reason = "no space left on device"
	for range 3 {
		failsClearly(t, root, 125, reason, "run", "--rm", "busybox", "true")
		failsClearly(t, root, 125, reason, "run", "-d", "--name", "new", "busybox", "true")
		failsClearly(t, root, 125, reason, "create", "--name", "new", "busybox", "true")
	}
	if out := root.Must(t, "ps", "-a", "--format", "{{.Names}} {{.State}}"); out != "created created\nremoved running\nbefore running" {
		t.Errorf("ps says %q", out)
	}
	// What ran goes on, and its end is on record though nothing can be written.
	root.Must(t, "exec", "before", "true")
	root.Must(t, "stop", "before")
	if code := root.Must(t, "wait", "before"); code != "5" {
		t.Errorf("exit code %s on a full disk, want 5", code)
	}
	root.Must(t, "logs", "before")
	root.Must(t, "stop", "-t", "0", "removed")
	if out := root.Must(t, "ps", "-a", "--format", "{{.Names}} {{.State}}"); out != "created created\nbefore exited" {
		t.Errorf("ps says %q", out)
	}
	// To remove needs no room.
	root.Must(t, "rm", "before", "created")
	image, err := harness.Busybox("other")
	if err != nil {
		t.Fatal(err)
	}
	image.Add(harness.File("more", 0o644, make([]byte, 4<<20)))
	again := fill2(t, root)
	if err := root.Load(image); err == nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("load on a full disk: %v", err)
	}
	again()
	release()

	if out := root.Must(t, "images", "-q"); len(strings.Fields(out)) != 1 {
		t.Errorf("images after a load that failed: %q", out)
	}
	if err := root.Load(image); err != nil {
		t.Error(err)
	}
	root.Must(t, "run", "--rm", "--name", "new", "other", "ls", "/more")
	if err := root.Settle(); err != nil {
		t.Error(err)
	}
}

// fill2 fills what the removal of containers has freed.
func fill2(t *testing.T, root *harness.Root) func() {
	t.Helper()
	name := filepath.Join(filepath.Dir(root.Dir), "ballast")
	if err := os.Rename(name, name+".first"); err != nil {
		t.Fatal(err)
	}
	release := fill(t, root)
	return func() {
		release()
		if err := os.Rename(name+".first", name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDiskInside: a container that fills the disk hurts itself, not the
// commands that look at it or stop it.
func TestFullDiskInside(t *testing.T) {
	root := smallStore(t, "16m")
	res := root.Run("run", "--name", "greedy", "busybox", "dd", "if=/dev/zero", "of=/big", "bs=1M")
	if res.Code != 1 || !strings.Contains(res.Stderr, "No space left") {
		t.Errorf("exit code %d: %s", res.Code, res.Stderr)
	}
	if out := root.Must(t, "ps", "-a", "--format", "{{.Names}} {{.Status}}"); !strings.HasPrefix(out, "greedy Exited (1)") {
		t.Errorf("ps says %q", out)
	}
	root.Must(t, "rm", "greedy")
	root.Must(t, "run", "--rm", "busybox", "true")
}

func TestReadOnlyStore(t *testing.T) {
	root := smallStore(t, "32m")
	dir := filepath.Dir(root.Dir)
	remount := func(flags uintptr) error { return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, "") }
	if r := root.Run("run", "--name", "done", "busybox", "sh", "-c", "echo said; exit 3"); r.Code != 3 {
		t.Fatalf("run: %+v", r)
	}
	root.Must(t, "create", "--name", "created", "busybox", "true")
	// A monitor that is about to end may still have a file open.
	if err := harness.Eventually("the store is read-only", func() bool { return remount(unix.MS_RDONLY) == nil }); err != nil {
		t.Fatal(err)
	}
	defer remount(0)

	// What reads, works.
	if out := root.Must(t, "ps", "-a", "--format", "{{.Names}} {{.State}}"); out != "created created\ndone exited" {
		t.Errorf("ps says %q", out)
	}
	if out := root.Must(t, "logs", "done"); out != "said" {
		t.Errorf("logs says %q", out)
	}
	root.Must(t, "inspect", "done", "busybox")
	root.Must(t, "images")
	root.Must(t, "info")
	if out := root.Must(t, "wait", "done"); out != "3" {
		t.Errorf("wait says %q", out)
	}
	// What writes, says why it cannot.
	const reason = "read-only file system"
	failsClearly(t, root, 125, reason, "run", "--rm", "busybox", "true")
	failsClearly(t, root, 125, reason, "create", "busybox", "true")
	failsClearly(t, root, 1, reason, "start", "created")
	failsClearly(t, root, 1, reason, "rm", "done")
	failsClearly(t, root, 1, reason, "tag", "busybox", "other")
	failsClearly(t, root, 1, reason, "rmi", "busybox")

	if err := remount(0); err != nil {
		t.Fatal(err)
	}
	if out := root.Must(t, "ps", "-a", "--format", "{{.Names}} {{.State}}"); out != "created created\ndone exited" {
		t.Errorf("ps says %q after the store can be written again", out)
	}
	root.Must(t, "start", "-a", "created")
	root.Must(t, "rm", "created", "done")
}

// TestNoStore: a root directory that cannot be.
func TestNoStore(t *testing.T) {
	root := harness.New(t)
	file := filepath.Join(filepath.Dir(root.Dir), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	failsClearly(t, root, 125, file, "--root", file, "run", "busybox", "true")
	failsClearly(t, root, 1, file, "--root", filepath.Join(file, "below"), "ps")
	failsClearly(t, root, 1, "/proc/none", "--root", "/proc/none", "ps")
}

// TestReboot cuts the power: monitor and container vanish, and the next
// command runs under another boot ID.
func TestReboot(t *testing.T) {
	root := harness.NewWithBusybox(t)
	root.Must(t, "run", "-d", "--name", "ran", "busybox", "sh", "-c", "echo before; exec sleep 600")
	root.Must(t, "run", "-d", "--rm", "--name", "temporary", "busybox", "sleep", "600")
	root.Must(t, "create", "--name", "created", "busybox", "true")
	for _, name := range []string{"ran", "temporary"} {
		pid := pidOf(t, root, name)
		monitor := parent(t, pid)
		unix.Kill(monitor, unix.SIGKILL)
		unix.Kill(pid, unix.SIGKILL)
		if err := harness.Eventually("dead", func() bool { return !harness.Alive(pid) && !harness.Alive(monitor) }); err != nil {
			t.Fatal(err)
		}
	}
	fake := filepath.Join(filepath.Dir(root.Dir), "boot_id")
	if err := os.WriteFile(fake, []byte("11111111-2222-3333-4444-555555555555\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// As on another boot, the recorded process IDs mean nothing, even where
	// there are such processes.
	rebooted := func(args ...string) harness.Result {
		const script = `mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"`
		cmd := exec.Command("unshare", append([]string{"-m", "sh", "-c", script, fake, root.Binary}, args...)...)
		cmd.Env = append(os.Environ(), "BRIG_ROOT="+root.Dir)
		return harness.Finish(cmd)
	}
	res := rebooted("ps", "-a", "--format", "{{.Names}} {{.State}}")
	if res.Code != 0 || res.Output() != "created created\nran exited" {
		t.Errorf("ps after a reboot: exit code %d, %q: %s", res.Code, res.Stdout, res.Stderr)
	}
	if res := rebooted("logs", "ran"); res.Output() != "before" {
		t.Errorf("logs after a reboot: %q: %s", res.Stdout, res.Stderr)
	}
	if res := rebooted("start", "ran"); res.Code != 0 {
		t.Errorf("start after a reboot: %s", res.Stderr)
	}
	if res := rebooted("ps", "--format", "{{.Names}}"); res.Output() != "ran" {
		t.Errorf("ps after a start: %q", res.Stdout)
	}
	if res := rebooted("rm", "-f", "ran"); res.Code != 0 {
		t.Errorf("rm after a reboot: %s", res.Stderr)
	}
	if err := root.Settle(); err != nil {
		t.Error(err)
	}
}

// TestStrangeFiles: what does not belong in the store, or is broken, makes no
// command fail that does not need it.
func TestStrangeFiles(t *testing.T) {
	root := harness.NewWithBusybox(t)
	root.Must(t, "create", "--name", "good", "busybox", "true")
	bad := root.Must(t, "create", "--name", "bad", "busybox", "true")
	dir := filepath.Join(root.Dir, "containers")
	for _, name := range []string{"lost+found", "x", strings.Repeat("0", 64)} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, bad, "config.json"), []byte(`{"id":`), 0o600); err != nil {
		t.Fatal(err)
	}
	res := root.Run("ps", "-a", "--format", "{{.Names}}")
	if res.Code != 0 || !strings.Contains(res.Stdout, "good") {
		t.Errorf("ps: exit code %d, %q: %s", res.Code, res.Stdout, res.Stderr)
	}
	root.Must(t, "start", "-a", "good")
	root.Must(t, "rm", "good")
	if res := root.Run("rm", "-f", bad); res.Code != 0 {
		t.Logf("rm of a broken container: %s", res.Stderr)
	}
	for _, name := range []string{"lost+found", "x", strings.Repeat("0", 64), bad} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	os.Remove(filepath.Join(root.Dir, "names", "bad"))
}
