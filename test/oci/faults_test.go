package oci

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

// number reads a number from the environment.
func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// TestKilled kills commands at random moments. What is left then, delete --force
// removes, and it does not hang. FAULTS_ROUNDS is how often each command is killed,
// FAULTS_SEED repeats a run's moments.
func TestKilled(t *testing.T) {
	seed := uint64(number("FAULTS_SEED", int(time.Now().UnixNano())))
	t.Logf("FAULTS_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	agent := func(r *rig) *bundle {
		b := r.bundle("/bin/sleep", "600")
		b.spec.Linux.Seccomp = notified(newAgent(t, r, unix.EPERM).path)
		return b
	}
	plain, hooked, inUser := func(r *rig) *bundle { return r.bundle("/bin/sleep", "600") },
		func(r *rig) *bundle {
			b := r.bundle("/bin/sleep", "600")
			for _, k := range kinds {
				b.hook(k, "true")
			}
			return b
		},
		func(r *rig) *bundle { return withUserns(t, r.bundle("/bin/sleep", "600")) }
	commands := []struct {
		name   string
		bundle func(*rig) *bundle
		before func(r *rig, b *bundle, id string)
		args   func(b *bundle, id string) []string
	}{
		{"create", plain, nil, func(b *bundle, id string) []string { return []string{"create", "--bundle", b.dir, id} }},
		{"create with hooks", hooked, nil, func(b *bundle, id string) []string { return []string{"create", "--bundle", b.dir, id} }},
		{"create in a user namespace", inUser, nil, func(b *bundle, id string) []string { return []string{"create", "--bundle", b.dir, id} }},
		{"run", plain, nil, func(b *bundle, id string) []string { return []string{"run", "-d", "--bundle", b.dir, id} }},
		{"start", hooked, func(r *rig, b *bundle, id string) { r.must("create", "--bundle", b.dir, id) }, func(b *bundle, id string) []string { return []string{"start", id} }},
		{"start with an agent", agent, func(r *rig, b *bundle, id string) { r.must("create", "--bundle", b.dir, id) }, func(b *bundle, id string) []string { return []string{"start", id} }},
		{"exec", plain, running, func(b *bundle, id string) []string { return []string{"exec", id, "sleep", "500"} }},
		{"delete", plain, running, func(b *bundle, id string) []string { return []string{"delete", "--force", id} }},
		{"pause", plain, running, func(b *bundle, id string) []string { return []string{"pause", id} }},
	}
	for _, c := range commands {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			b := c.bundle(r)
			span := r.takes(b, c.before, c.args)
			for range number("FAULTS_ROUNDS", 14) {
				id := r.id()
				r.write(b, id)
				if c.before != nil {
					c.before(r, b, id)
				}
				cmd := r.command(c.args(b, id)...)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				after := time.Duration(random.Int64N(int64(span) * 5 / 4))
				time.Sleep(after)
				cmd.Process.Kill()
				cmd.Wait()
				if res := r.quiet("list"); res.Code != 0 {
					t.Errorf("killed after %v: list: %+v", after, res)
				}
				if res := r.quiet("delete", "--force", id); res.Code != 0 {
					t.Errorf("killed after %v: delete --force: %+v", after, res)
				}
				var left []string
				if harness.Eventually("clean", func() bool { left = r.left(); return len(left) == 0 }) != nil {
					t.Fatalf("killed after %v: left behind: %q", after, left)
				}
			}
		})
	}
}

// takes measures how long a command runs if nobody kills it; one that does not
// end by itself has its time in which to start.
func (r *rig) takes(b *bundle, before func(*rig, *bundle, string), args func(*bundle, string) []string) time.Duration {
	r.t.Helper()
	id := r.id()
	r.write(b, id)
	if before != nil {
		before(r, b, id)
	}
	defer r.must("delete", "--force", id)
	a := args(b, id)
	if a[0] == "exec" {
		a = []string{"exec", "--detach", id, "true"}
	}
	begin := time.Now()
	r.must(a...)
	return time.Since(begin)
}

// TestParallel: of many starts of one container one works, and many commands can
// be executed in it at once.
func TestParallel(t *testing.T) {
	r := newRig(t)
	id := r.created(r.bundle("/bin/sleep", "600"))
	var worked atomic.Int64
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			if harness.Finish(r.command("start", id)).Code == 0 {
				worked.Add(1)
			}
		})
	}
	wait.Wait()
	same(t, "starts that worked", worked.Load(), 1)
	for i := range 20 {
		wait.Go(func() {
			if res := r.run("exec", id, "sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i)); res.Output() != strconv.Itoa(i) || res.Code != i {
				t.Errorf("exec: %+v, want %d", res, i)
			}
		})
	}
	wait.Wait()
	same(t, "processes", len(r.pids(id)), 1)
}

func running(r *rig, b *bundle, id string) {
	r.must("create", "--bundle", b.dir, id)
	r.must("start", id)
}

// TestFrozen: a frozen container, or one that froze a cgroup of its own, is
// killed and deleted like any.
func TestFrozen(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{{"delete", "--force"}, {"kill", "--all"}} {
		id := r.started(r.script("sleep 500 & exec sleep 600"))
		r.must("pause", id)
		if args[0] == "kill" {
			r.must("kill", "--all", id, "KILL")
			r.becomes(id, "stopped")
			args = []string{"delete"}
		}
		r.must(append(args, id)...)
	}
}

// TestStateDirectory: one that cannot be written stops the start, with nothing made.
func TestStateDirectory(t *testing.T) {
	for name, options := range map[string]string{"read-only": "", "full": "size=16k"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if err := os.Mkdir(r.root, 0o711); err != nil {
				t.Fatal(err)
			}
			flags := uintptr(unix.MS_RDONLY)
			if name == "full" {
				flags = 0
			}
			if err := unix.Mount("tmpfs", r.root, "tmpfs", flags, options); err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(r.root, unix.MNT_DETACH)
			words := "read-only file system"
			if name == "full" {
				words = "no space left on device"
				os.WriteFile(filepath.Join(r.root, "ballast"), make([]byte, 12<<10), 0o600)
			}
			b := r.bundle("/bin/sleep", "600")
			id := r.id()
			r.write(b, id)
			r.refused(words, "create", "--bundle", b.dir, id)
			r.refused(words, "run", "--bundle", b.dir, id)
			os.Remove(filepath.Join(r.root, "ballast"))
			if left := r.left(); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			same(t, "list", r.must("list", "-q"), "")
		})
	}
}

// TestFullWhileRunning: a container whose state directory fills up, or turns
// read-only, can still be looked at, ended, and once that is over, deleted.
func TestFullWhileRunning(t *testing.T) {
	r := newRig(t)
	os.Mkdir(r.root, 0o711)
	if err := unix.Mount("tmpfs", r.root, "tmpfs", 0, "size=2M"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(r.root, unix.MNT_DETACH)
	id := r.sleeper()
	// Busy as long as the process that becomes the container's has its files open.
	var err error
	if harness.Eventually("the state directory is read-only", func() bool {
		err = unix.Mount("", r.root, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=2M")
		return err == nil
	}) != nil {
		t.Fatal(err)
	}
	same(t, "state", r.state(id).Status, "running")
	same(t, "list", r.must("list", "-q"), id)
	same(t, "exec", r.must("exec", id, "echo", "works"), "works")
	r.must("kill", id, "KILL")
	r.becomes(id, "stopped")
	if res := r.quiet("delete", "--force", id); res.Code == 0 || !strings.Contains(res.Stderr, "read-only") {
		t.Errorf("delete on a read-only file system: %+v", res)
	}
	if err := unix.Mount("", r.root, "", unix.MS_REMOUNT, "size=2M"); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(r.root, "ballast"), make([]byte, 4<<20), 0o600) // as far as it goes
	r.must("delete", "--force", id)
	os.Remove(filepath.Join(r.root, "ballast"))
}

// TestMany starts many containers at once: none fails and nothing is left.
// OCI_MANY is how many.
func TestMany(t *testing.T) {
	r := newRig(t)
	many := number("OCI_MANY", 60)
	rootfs := r.bundle("/bin/true").rootfs()
	slots := make(chan struct{}, 50)
	var failed atomic.Int64
	var wait sync.WaitGroup
	for i := range many {
		id := r.id()
		dir := filepath.Join(r.dir, "many", strconv.Itoa(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		b := &bundle{dir: dir, spec: specification([]string{"/bin/sh", "-c", "exit 7"})}
		b.spec.Root.Path = rootfs
		r.write(b, id)
		wait.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wait.Done() }()
			cmd := r.command("run", "--bundle", dir, id)
			if res := harness.Finish(cmd); res.Code != 7 {
				failed.Add(1)
				t.Errorf("%s: %+v", id, res)
			}
		}()
	}
	wait.Wait()
	if left := r.left(); len(left) > 0 {
		t.Errorf("%d of %d failed; left behind: %q", failed.Load(), many, left)
	}
}

// TestDeleteRace: many that create, delete and look at one ID at the same time.
func TestDeleteRace(t *testing.T) {
	r := newRig(t)
	b := r.bundle("/bin/sleep", "600")
	id := r.id()
	r.write(b, id)
	var wait sync.WaitGroup
	for worker := range 6 {
		wait.Go(func() {
			for range 6 {
				args := [][]string{{"create", "--bundle", b.dir, id}, {"delete", "--force", id}, {"state", id}}[worker%3]
				cmd := r.command(args...)
				errs, err := os.CreateTemp(r.dir, "err") // no pipe, which a container would keep open
				if err != nil {
					t.Error(err)
					return
				}
				defer errs.Close()
				cmd.Stderr = errs
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				timer := time.AfterFunc(harness.Patience, func() { t.Errorf("%q hangs", args); cmd.Process.Kill() })
				cmd.Wait()
				timer.Stop()
				if worker%3 == 1 && cmd.ProcessState.ExitCode() != 0 {
					t.Errorf("delete --force: %v: %s", cmd.ProcessState, readFile(t, errs.Name()))
				}
			}
		})
	}
	wait.Wait()
}

// flip exchanges two names again and again until stop is closed.
func flip(stop chan struct{}, a, b string) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		}
	}()
	return done
}

// TestSwappedTarget: the directory of a mount in the root turns into a link that
// leads out of it, and back, while containers start. Nothing may be made or
// mounted outside (CVE-2021-30465).
func TestSwappedTarget(t *testing.T) {
	r := newRig(t)
	outside := filepath.Join(r.dir, "outside")
	source := filepath.Join(r.dir, "source")
	os.MkdirAll(outside, 0o755)
	os.MkdirAll(source, 0o755)
	b := r.script("true")
	dir, link := b.rootfs("mnt"), b.rootfs("evil")
	os.MkdirAll(filepath.Join(dir), 0o755)
	os.Symlink(outside, link)
	b.spec.Mounts = append(b.spec.Mounts,
		specs.Mount{Destination: "/mnt/a", Source: source, Type: "bind", Options: []string{"bind"}},
		specs.Mount{Destination: "/mnt/b/c", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/mnt/f", Source: "/etc/passwd", Type: "bind", Options: []string{"bind"}})
	stop := make(chan struct{})
	done := flip(stop, dir, link)
	ok := 0
	for range number("FAULTS_ROUNDS", 14) {
		if r.result(b).Code == 0 {
			ok++
		}
	}
	close(stop)
	<-done
	t.Logf("%d starts worked", ok)
	if entries, _ := os.ReadDir(outside); len(entries) > 0 {
		t.Errorf("made outside of the root: %v", entries)
	}
}

// TestLinkedSystem: a root whose /proc, /sys or /dev leads elsewhere.
func TestLinkedSystem(t *testing.T) {
	r := newRig(t)
	for name, words := range map[string]string{"proc": "must be mounted on ordinary directory", "sys": "must be mounted on ordinary directory", "dev": ""} {
		for _, target := range []string{"/tmp", "../../../../../../tmp", "/proc/1/root/tmp"} {
			b := r.script("ls -d /tmp/null /tmp/self /tmp/kernel")
			if err := os.Remove(b.rootfs(name)); err != nil {
				t.Fatal(err)
			}
			os.Symlink(target, b.rootfs(name))
			before, _ := os.ReadDir("/tmp")
			res := r.result(b)
			if words != "" && (res.Code == 0 || !strings.Contains(res.Stderr, words)) {
				t.Errorf("/%s -> %s: %+v, want %q", name, target, res, words)
			}
			if after, _ := os.ReadDir("/tmp"); name == "dev" && len(after) > len(before)+5 {
				t.Errorf("/dev -> %s: devices on the host: %v", target, after)
			}
		}
	}
}

// TestMaskedLink: a masked or read-only path of the image that is a link hides
// what it leads to in the container, never anything of the host.
func TestMaskedLink(t *testing.T) {
	r := newRig(t)
	secret := filepath.Join(r.dir, "host-secret")
	os.WriteFile(secret, []byte("secret"), 0o644)
	b := r.script("cat /masked /hidden; echo code $?; cat /hostfile; echo x > /readonly || echo refused")
	os.WriteFile(b.rootfs("hidden"), []byte("hidden"), 0o644)
	os.WriteFile(b.rootfs("target"), []byte("t"), 0o644)
	os.Symlink("hidden", b.rootfs("masked"))
	os.Symlink("../../../.."+secret, b.rootfs("hostfile"))
	os.Symlink("target", b.rootfs("readonly"))
	b.spec.Linux.MaskedPaths = append(b.spec.Linux.MaskedPaths, "/masked", "/hostfile", "/missing")
	b.spec.Linux.ReadonlyPaths = append(b.spec.Linux.ReadonlyPaths, "/readonly", "/missing")
	res := r.result(b)
	contains(t, res.Stdout, "code 0\n", "refused")
	if strings.Contains(res.Stdout, "hidden") || strings.Contains(res.Stdout, "secret") {
		t.Errorf("not masked: %q", res.Stdout)
	}
	same(t, "the host's file", readFile(t, secret), "secret")
}

// TestNullLink: the image's /dev/null is a link (CVE-2025-31133): with the
// image's own /dev the masks still come from the host's null device.
func TestNullLink(t *testing.T) {
	r := newRig(t)
	b := r.script("cat /proc/kcore | head -c 1 | wc -c; cat /secret")
	var mounts []specs.Mount
	for _, m := range b.spec.Mounts {
		if !strings.HasPrefix(m.Destination, "/dev") {
			mounts = append(mounts, m)
		}
	}
	b.spec.Mounts = mounts
	os.WriteFile(b.rootfs("secret"), []byte("it"), 0o644)
	os.Symlink("/proc/sys/kernel/core_pattern", b.rootfs("dev/null"))
	b.spec.Linux.MaskedPaths = append(b.spec.Linux.MaskedPaths, "/secret")
	b.spec.Linux.ReadonlyPaths = nil
	res := r.result(b)
	if strings.Contains(res.Stdout, "core") || strings.Contains(res.Stdout, "it") {
		t.Errorf("the mask shows something else: %+v", res)
	}
	if res.Code == 0 {
		same(t, "masked files", strings.TrimSpace(res.Stdout), "0")
	}
}

// TestConsoleLink: the image's /dev/console is a link, or its /dev/pts
// (CVE-2025-52565): the terminal is not mounted elsewhere.
func TestConsoleLink(t *testing.T) {
	r := newRig(t)
	for _, target := range []string{"/proc/sys/kernel/core_pattern", "/target", "../../../../../../../.." + r.dir + "/target"} {
		b := r.script("grep console /proc/self/mountinfo; echo | cat /target")
		b.spec.Process.Terminal = true
		var mounts []specs.Mount
		for _, m := range b.spec.Mounts {
			if m.Destination != "/dev" { // the image's own
				mounts = append(mounts, m)
			}
		}
		b.spec.Mounts = mounts
		for _, d := range []string{"dev/pts", "dev/shm", "dev/mqueue"} {
			os.MkdirAll(b.rootfs(d), 0o755)
		}
		os.WriteFile(b.rootfs("target"), []byte("untouched"), 0o644)
		os.WriteFile(filepath.Join(r.dir, "target"), []byte("untouched"), 0o644)
		os.Symlink(target, b.rootfs("dev/console"))
		res := r.result(b)
		if res.Code == 0 && !strings.Contains(res.Stdout, "untouched") {
			t.Errorf("/dev/console -> %s: %+v", target, res)
		}
		same(t, "a file of the host", readFile(t, filepath.Join(r.dir, "target")), "untouched")
	}
}

// TestProcMounts: nothing but proc may lie on /proc while the start writes there
// (CVE-2019-16884, CVE-2025-52881).
func TestProcMounts(t *testing.T) {
	r := newRig(t)
	source := filepath.Join(r.dir, "source")
	os.MkdirAll(source, 0o755)
	for _, m := range []specs.Mount{
		{Destination: "/proc", Source: source, Type: "bind", Options: []string{"bind"}},
		{Destination: "/proc/self/attr", Type: "tmpfs", Source: "tmpfs"},
		{Destination: "/proc/sys/kernel", Source: source, Type: "bind", Options: []string{"bind"}},
		{Destination: "/proc/../proc/self", Source: source, Type: "bind", Options: []string{"rbind"}},
		{Destination: "/link/self", Source: source, Type: "bind", Options: []string{"rbind"}},
	} {
		b := r.bundle("/bin/true")
		os.Symlink("/proc", b.rootfs("link"))
		b.spec.Mounts = append(b.spec.Mounts, m)
		id := r.id()
		r.write(b, id)
		r.refused("cannot be mounted", "create", "--bundle", b.dir, id)
	}
}

// TestLeakedDirectory: a working directory on a descriptor of the runtime's leads
// out of the container (CVE-2024-21626).
func TestLeakedDirectory(t *testing.T) {
	r := newRig(t)
	id := r.sleeper()
	host := readFile(t, "/etc/os-release")
	for fd := 3; fd < 20; fd++ {
		for _, dir := range []string{"/proc/self/fd/%d", "/proc/self/fd/%d/../../../..", "/proc/thread-self/fd/%d", "/proc/1/fd/%d", "/dev/fd/%d"} {
			cwd := fmt.Sprintf(dir, fd)
			if res := r.run("exec", "--cwd", cwd, id, "cat", "etc/os-release"); res.Code == 0 || strings.Contains(res.Stdout, host) {
				t.Errorf("exec --cwd %s: %+v", cwd, res)
			}
			if fd%5 != 0 {
				continue
			}
			b := r.bundle("/bin/cat", "etc/os-release")
			b.spec.Process.Cwd = cwd
			if res := r.result(b); res.Code == 0 || strings.Contains(res.Stdout, host) {
				t.Errorf("run in %s: %+v", cwd, res)
			}
		}
	}
}

// TestOwnExecutable: a container cannot write to the runtime's program file
// (CVE-2019-5736), neither of its first process nor of an exec.
func TestOwnExecutable(t *testing.T) {
	r := newRig(t)
	copied := filepath.Join(r.dir, "brig-runtime")
	if out, err := exec.Command("cp", "-L", r.bin, copied).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	r.bin = copied
	testOwnExecutable(t, r)
}

func testOwnExecutable(t *testing.T, r *rig) {
	copied := r.bin
	before := sum(t, copied)
	overwrite := build(t, "overwrite")
	b := r.bundle("/proc/self/exe", "version")
	text, _ := os.ReadFile(overwrite)
	os.WriteFile(b.rootfs("overwrite"), text, 0o755)
	r.result(b)
	// A process that lies in wait for another's /proc/PID/exe.
	b.spec.Process.Args = []string{"/overwrite"}
	b.spec.Process.Capabilities = all()
	id := r.started(b)
	for range 20 {
		r.run("exec", id, "/proc/self/exe", "runtime", "features")
		r.run("exec", id, "/bin/true")
	}
	same(t, "the program file", sum(t, copied), before)
	if _, err := os.Stat(b.rootfs("seen")); err != nil {
		t.Log("no process of the runtime was ever seen from inside")
	}
	if got, err := os.ReadFile(b.rootfs("written")); err == nil {
		t.Errorf("written to: %s", got)
	}
}

func all() *specs.LinuxCapabilities {
	caps := append([]string{"CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"}, defaults...)
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

func sum(t *testing.T, name string) string {
	out, err := exec.Command("sha256sum", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))[0]
}
