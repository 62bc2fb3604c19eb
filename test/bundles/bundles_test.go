// Package bundles gives the same OCI bundles to Brig, runc and crun, and
// compares what the program in the container sees: its mounts, devices, limits,
// identity and capabilities. What differs on purpose is named here.
package bundles

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// bundle is a directory with a root of busybox and a specification.
type bundle struct {
	dir  string
	spec *specs.Spec
}

// lookAround prints all that is compared, in sections.
const lookAround = `
echo == mounts; cat /proc/self/mountinfo
echo == nodes; for f in /dev/* /dev/pts/*; do stat -c '%n %F %a %u:%g %t:%T' $f; readlink $f; done
echo == status; grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status
echo == limits; cat /proc/self/limits
echo == other; umask; pwd; hostname; cat /proc/self/oom_score_adj; cat /proc/self/uid_map; env | grep -vE '^(SHLVL|PWD|OLDPWD)=' | sort; ls /proc/self/fd | wc -w
cat /proc/sys/kernel/shmmax; test -w / && echo writable; true`

func newBundle(t *testing.T) *bundle {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0o755) // for the users of other user namespaces
	}
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "tmp", "mnt"} {
		if err := os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "rootfs/bin/busybox"), busybox, 0o755)
	for _, name := range strings.Fields("sh cat echo ls stat readlink grep hostname env sort wc pwd id ip mount touch sleep tail") {
		os.Symlink("busybox", filepath.Join(dir, "rootfs/bin", name))
	}
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	return &bundle{dir, &specs.Spec{
		Version:  "1.0.2", // the peers are of that time
		Root:     &specs.Root{Path: "rootfs"},
		Hostname: "box",
		Process: &specs.Process{Args: []string{"sh", "-c", lookAround}, Cwd: "/", Env: []string{"PATH=/bin", "A=b c"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}, NoNewPrivileges: true},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces:    []specs.LinuxNamespace{{Type: "pid"}, {Type: "network"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}},
			MaskedPaths:   []string{"/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/none"},
		},
	}}
}

// userns gives the container a user namespace, whose root owns the root file
// system.
func (b *bundle) userns(t *testing.T) {
	t.Helper()
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = ids, ids
	filepath.WalkDir(filepath.Join(b.dir, "rootfs"), func(name string, _ fs.DirEntry, _ error) error {
		return os.Lchown(name, 100000, 100000)
	})
}

func (b *bundle) mount(m ...specs.Mount) { b.spec.Mounts = append(b.spec.Mounts, m...) }

type output struct {
	code           int
	stdout, stderr string
}

// run runs the bundle to its end. The streams are pipes: crun gives its
// standard input to the container's root, also if that is the host's /dev/null.
func (b *bundle) run(t *testing.T, runtime ...string) output {
	t.Helper()
	text, err := json.Marshal(b.spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "config.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("t%d", os.Getpid())
	cmd := exec.Command(runtime[0], append(runtime[1:], "--root", t.TempDir(), "run", "--bundle", b.dir, id)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(""), &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return output{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func brig(t *testing.T) []string {
	t.Helper()
	name, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	return []string{name, "runtime"}
}

// sections splits what lookAround printed, and leaves out what may differ.
func sections(text string) map[string][]string {
	all := map[string][]string{}
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "== "); ok {
			name = title
			continue
		}
		if name == "mounts" {
			line = mountLine(line)
		}
		if line != "" {
			all[name] = append(all[name], line)
		}
	}
	for _, lines := range all {
		slices.Sort(lines) // the kernel lists mounts in the order of their making
	}
	return all
}

// mountLine is "mount point, type, options, propagation". A mask is only there
// or not: Brig's are stricter than runc's and as strict as crun's.
func mountLine(line string) string {
	f := strings.Fields(line)
	dash := slices.Index(f, "-")
	var propagation []string
	for _, p := range f[6:dash] {
		kind, _, _ := strings.Cut(p, ":")
		propagation = append(propagation, kind)
	}
	at, kind, options := f[4], f[dash+1], f[5]
	if slices.Contains([]string{"/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware"}, at) || kind == "devtmpfs" {
		options = "" // so are the host's devices, to which a user namespace is no stranger
	}
	return fmt.Sprint(at, " ", kind, " ", options, " ", propagation)
}

// differences lists what the one says and the other does not.
func differences(a, b map[string][]string) (diff []string) {
	for _, name := range []string{"mounts", "nodes", "status", "limits", "other"} {
		for _, line := range a[name] {
			if !slices.Contains(b[name], line) {
				diff = append(diff, "+ "+name+": "+line)
			}
		}
		for _, line := range b[name] {
			if !slices.Contains(a[name], line) {
				diff = append(diff, "- "+name+": "+line)
			}
		}
	}
	return diff
}

// hostTmpfs mounts a tmpfs with the given flags, with another one below it.
func hostTmpfs(t *testing.T, flags uintptr) string {
	t.Helper()
	dir := t.TempDir()
	os.Chmod(filepath.Dir(dir), 0o755)
	mount := func(at string, flags uintptr) {
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, "mode=755"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
		os.Mkdir(filepath.Join(at, "sub"), 0o755)
		if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	mount(dir, flags)
	if flags&unix.MS_RDONLY == 0 {
		mount(filepath.Join(dir, "sub"), 0)
	}
	return dir
}

func TestPeersSeeTheSame(t *testing.T) {
	umask, score := uint32(0o27), 500
	mode := fs.FileMode(0o640)
	id := uint32(7)
	bind := func(dst, src string, options ...string) specs.Mount {
		return specs.Mount{Destination: dst, Type: "bind", Source: src, Options: options}
	}
	for name, edit := range map[string]func(t *testing.T, b *bundle){
		"default": func(t *testing.T, b *bundle) {},
		"ordinary user": func(t *testing.T, b *bundle) {
			b.spec.Root.Readonly = true
			p := b.spec.Process
			p.NoNewPrivileges = false
			p.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 7}, Umask: &umask}
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}, {Type: "RLIMIT_STACK", Soft: 1 << 20, Hard: 1 << 22}}
			p.OOMScoreAdj = &score
			p.Cwd = "/tmp/made/for/it"
		},
		"ambient": func(t *testing.T, b *bundle) {
			caps := b.spec.Process.Capabilities
			caps.Inheritable, caps.Ambient = caps.Bounding, []string{"CAP_KILL"}
			b.spec.Process.User.UID = 1000
		},
		"no capabilities": func(t *testing.T, b *bundle) { b.spec.Process.Capabilities = &specs.LinuxCapabilities{} },
		"devices": func(t *testing.T, b *bundle) {
			b.spec.Linux.Devices = []specs.LinuxDevice{
				{Path: "/dev/fuse2", Type: "c", Major: 10, Minor: 229, FileMode: &mode, UID: &id, GID: &id},
				{Path: "/dev/blk", Type: "b", Major: 7, Minor: 99},
				{Path: "/dev/fifo", Type: "p", FileMode: &mode},
				{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
			}
		},
		"binds": func(t *testing.T, b *bundle) {
			b.mount(
				bind("/mnt/plain", hostTmpfs(t, unix.MS_NOEXEC|unix.MS_NODIRATIME), "bind"),
				bind("/mnt/rec", hostTmpfs(t, unix.MS_NOSUID), "rbind", "rprivate"),
				bind("/mnt/ro", hostTmpfs(t, unix.MS_NOATIME), "bind", "ro"),
				bind("/mnt/rw", hostTmpfs(t, unix.MS_RDONLY), "bind", "rw", "nosuid"),
				bind("/mnt/rro", hostTmpfs(t, 0), "rbind", "ro", "nodev", "noexec"),
				bind("/mnt/file", "/etc/hostname", "rbind", "ro"),
				bind("/mnt/unbindable", hostTmpfs(t, 0), "bind", "unbindable"),
				bind("/mnt/slave", hostTmpfs(t, 0), "rbind", "rslave"),
			)
		},
		"file systems": func(t *testing.T, b *bundle) {
			b.mount(
				specs.Mount{Destination: "/mnt/t", Type: "tmpfs", Source: "tmpfs", Options: []string{"nodev", "noatime", "size=1m", "mode=711"}},
				specs.Mount{Destination: "/mnt/t/ro", Type: "tmpfs", Source: "x", Options: []string{"ro", "noexec", "mode=700", "nodiratime"}},
				specs.Mount{Destination: "mnt/relative", Type: "tmpfs", Source: "tmpfs", Options: []string{"strictatime", "mode=755"}},
				specs.Mount{Destination: "/mnt/p", Type: "proc", Source: "proc", Options: []string{"nosuid", "hidepid=2"}},
			)
		},
		"shared root":  func(t *testing.T, b *bundle) { b.spec.Linux.RootfsPropagation = "shared" },
		"slave root":   func(t *testing.T, b *bundle) { b.spec.Linux.RootfsPropagation = "rslave" },
		"private root": func(t *testing.T, b *bundle) { b.spec.Linux.RootfsPropagation = "rprivate" },
		"sysctls": func(t *testing.T, b *bundle) {
			b.spec.Linux.Sysctl = map[string]string{"kernel.shmmax": "4096000", "net/ipv4/ip_forward": "1"}
		},
		"host's network and IPC": func(t *testing.T, b *bundle) {
			b.spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: "pid"}, {Type: "uts"}, {Type: "mount"}}
		},
		"user namespace": func(t *testing.T, b *bundle) {
			b.userns(t)
			b.spec.Process.OOMScoreAdj = &score
			b.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}}
		},
		"user namespace, binds": func(t *testing.T, b *bundle) {
			b.userns(t)
			b.mount(
				bind("/mnt/plain", hostTmpfs(t, unix.MS_NOEXEC), "rbind"),
				bind("/mnt/rec", hostTmpfs(t, unix.MS_NOSUID), "rbind", "rprivate"),
				bind("/mnt/ro", hostTmpfs(t, 0), "rbind", "ro"),
				bind("/mnt/file", "/etc/hostname", "rbind"),
			)
			b.spec.Process.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{9}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBundle(t)
			edit(t, b)
			mine := b.run(t, brig(t)...)
			if mine.code != 0 {
				t.Fatalf("brig: %+v", mine)
			}
			var all [][]string
			for _, peer := range []string{"runc", "crun"} {
				theirs := b.run(t, peer)
				if theirs.code != 0 {
					t.Fatalf("%s: %+v", peer, theirs)
				}
				all = append(all, differences(sections(mine.stdout), sections(theirs.stdout)))
			}
			// Where the peers differ from each other, either will do.
			for _, d := range all[0] {
				if slices.Contains(all[1], d) {
					t.Errorf("unlike the peers: %s", d)
				}
			}
		})
	}
}
