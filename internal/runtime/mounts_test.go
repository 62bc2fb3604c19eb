package runtime_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime"
)

// tmpfsAt mounts a tmpfs for the test.
func tmpfsAt(t *testing.T, flags uintptr) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

func with(spec *specs.Spec, m ...specs.Mount) *specs.Spec {
	spec.Mounts = append(spec.Mounts, m...)
	return spec
}

// mountInfo runs a container and returns the fields 6 (options), 7 (propagation)
// and the last of mountinfo for a mount point.
func mountInfo(t *testing.T, spec *specs.Spec, at string) (options, propagation, super string) {
	t.Helper()
	spec.Process.Args = []string{"cat", "/proc/self/mountinfo"}
	r := run(t, busyboxRoot(t), spec, nil)
	if r.err != nil || r.code != 0 {
		t.Fatalf("%+v", r)
	}
	for line := range strings.Lines(r.stdout) {
		f := strings.Fields(line)
		if f[4] == at {
			options, super = f[5], f[len(f)-1]
			propagation = strings.TrimSuffix(strings.Join(f[6:len(f)-3], " "), "-")
		}
	}
	if options == "" {
		t.Fatalf("nothing is mounted on %s:\n%s", at, r.stdout)
	}
	return options, propagation, super
}

// A bind without flags keeps those of its source, one with flags has these
// alone, and the access time mode stays if none is named: mount(8).
func TestBindMountFlags(t *testing.T) {
	for _, c := range []struct {
		host uintptr
		opts string
		want string
	}{
		{unix.MS_RDONLY | unix.MS_NOEXEC | unix.MS_NOSYMFOLLOW | unix.MS_NODIRATIME, "bind", "ro,noexec,nodiratime,relatime,nosymfollow"},
		{unix.MS_RDONLY | unix.MS_NOEXEC | unix.MS_NOSYMFOLLOW | unix.MS_NODIRATIME, "bind,dev", "rw,nodiratime,relatime"},
		{unix.MS_RDONLY, "bind,nosuid,nodev,rprivate", "rw,nosuid,nodev,relatime"},
		{unix.MS_RDONLY, "bind,rw", "rw,relatime"},
		{unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME, "bind,dev,suid,exec,atime", "rw,noatime"},
		{unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME, "bind,ro", "ro,noatime"},
		{unix.MS_NODEV | unix.MS_NOSYMFOLLOW, "bind,ro,symfollow", "ro,relatime"},
		{unix.MS_NOATIME, "bind,norelatime", "rw,noatime"},
		{unix.MS_NOATIME, "bind,relatime", "rw,relatime"},
		{unix.MS_NOATIME, "bind,nodiratime", "rw,nodiratime,relatime"},
		{unix.MS_NODIRATIME, "bind,strictatime", "rw"},
		{unix.MS_NOATIME, "bind,nodiratime,strictatime", "rw,nodiratime"},
		{unix.MS_NOATIME, "bind,rro", "ro,noatime"},
		{0, "bind,rnoatime,rnodev", "rw,nodev,noatime"},
		{0, "bind,rstrictatime,rnosymfollow,rnodiratime", "rw,nodiratime,nosymfollow"},
		{unix.MS_NOATIME, "bind,ratime", "rw,relatime"},
		{0, "bind,silent,loud,lazytime,iversion,mand,sync", "rw,relatime"},
	} {
		src := tmpfsAt(t, c.host)
		spec := with(defaultSpec(), specs.Mount{Destination: "mnt", Source: src, Options: strings.Split(c.opts, ",")})
		if got, _, _ := mountInfo(t, spec, "/mnt"); got != c.want {
			t.Errorf("source %#x with %s: %s, want %s", c.host, c.opts, got, c.want)
		}
	}
}

func TestRecursiveFlagsReachMountsBelow(t *testing.T) {
	src := tmpfsAt(t, 0)
	sub := filepath.Join(src, "sub")
	os.Mkdir(sub, 0o755)
	if err := unix.Mount("tmpfs", sub, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(sub, unix.MNT_DETACH) })
	for opts, want := range map[string]string{"rbind,ro,rnosuid": "rw,nosuid,relatime", "rbind,rro": "ro,relatime", "rbind,ro": "rw,relatime"} {
		spec := with(defaultSpec(), specs.Mount{Destination: "/mnt", Source: src, Options: strings.Split(opts, ",")})
		if got, _, _ := mountInfo(t, spec, "/mnt/sub"); got != want {
			t.Errorf("%s: %s below, want %s", opts, got, want)
		}
	}
	spec := with(defaultSpec("ls", "/mnt/sub"), specs.Mount{Destination: "/mnt", Source: src, Options: []string{"bind"}})
	os.WriteFile(filepath.Join(sub, "x"), nil, 0o644)
	if r := run(t, busyboxRoot(t), spec, nil); r.err != nil || r.stdout != "" {
		t.Errorf("bind is recursive: %+v", r)
	}
}

func TestPropagation(t *testing.T) {
	for opts, want := range map[string]string{"bind": "", "bind,shared": "shared", "bind,private": "", "bind,unbindable": "unbindable", "bind,shared,private": "", "bind,rslave": ""} {
		src := tmpfsAt(t, 0)
		spec := with(defaultSpec(), specs.Mount{Destination: "/mnt", Source: src, Options: strings.Split(opts, ",")})
		if _, got, _ := mountInfo(t, spec, "/mnt"); strings.Split(strings.TrimSpace(got), ":")[0] != want {
			t.Errorf("%s: %q, want %q", opts, got, want)
		}
	}
	for kind, want := range map[string]string{"": "", "shared": "shared", "rshared": "shared", "slave": "", "rprivate": "", "unbindable": "unbindable"} {
		spec := defaultSpec()
		spec.Linux.RootfsPropagation = kind
		if _, got, _ := mountInfo(t, spec, "/"); strings.Split(strings.TrimSpace(got), ":")[0] != want {
			t.Errorf("root %s: %q, want %q", kind, got, want)
		}
	}
	spec := defaultSpec("true")
	spec.Linux.RootfsPropagation = "share"
	if r := run(t, busyboxRoot(t), spec, nil); r.err == nil || !strings.Contains(r.err.Error(), "rootfsPropagation") {
		t.Errorf("a typo was accepted: %+v", r)
	}
}

// The root of a container on a shared mount of the host: nothing that is
// mounted in the container may appear outside.
func TestNothingLeaksIntoASharedHostMount(t *testing.T) {
	host := tmpfsAt(t, 0)
	if err := unix.Mount("", host, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	root := busyboxRoot(t)
	shared := filepath.Join(host, "root")
	if err := os.CopyFS(shared, os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"", "shared", "rslave", "rprivate"} {
		spec := with(defaultSpec("sh", "-c", "cat /proc/self/mountinfo"), specs.Mount{Destination: "/mnt", Type: "tmpfs", Source: "leak"})
		spec.Linux.RootfsPropagation = kind
		r := run(t, shared, spec, nil)
		if r.err != nil || r.code != 0 {
			t.Fatalf("%q: %+v", kind, r)
		}
		mine, _ := os.ReadFile("/proc/self/mountinfo")
		if strings.Contains(string(mine), shared) {
			t.Errorf("rootfsPropagation %q: a mount of the container is on the host:\n%s", kind, mine)
		}
	}
}

func TestTmpfsModeComesFromTheDirectory(t *testing.T) {
	root := busyboxRoot(t)
	os.Mkdir(filepath.Join(root, "t"), 0o710)
	os.Chmod(filepath.Join(root, "t"), 0o710)
	for _, c := range []struct{ dst, opts, want string }{
		{"/t", "nodev", "710"}, {"/t", "mode=1500", "1500"}, {"/none/x", "nodev", "1777"}, {"/t", "ro", "710"},
	} {
		spec := with(defaultSpec("stat", "-c", "%a", c.dst), specs.Mount{Destination: c.dst, Type: "tmpfs", Source: "tmpfs", Options: strings.Split(c.opts, ",")})
		if r := run(t, root, spec, nil); r.err != nil || strings.TrimSpace(r.stdout) != c.want {
			t.Errorf("%v: %+v", c, r)
		}
	}
}

func TestCopyUp(t *testing.T) {
	root := busyboxRoot(t)
	os.MkdirAll(filepath.Join(root, "d/deep/er"), 0o777)
	os.Chmod(filepath.Join(root, "d/deep"), 0o777|os.ModeSetgid)
	os.WriteFile(filepath.Join(root, "d/deep/er/file"), []byte("content\n"), 0o644)
	os.Chown(filepath.Join(root, "d/deep/er/file"), 7, 8)
	os.Symlink("/etc/passwd", filepath.Join(root, "d/link"))
	unix.Mkfifo(filepath.Join(root, "d/pipe"), 0o600)
	unix.Setxattr(filepath.Join(root, "d/deep/er/file"), "trusted.x", []byte("y"), 0)
	spec := with(defaultSpec("sh", "-c", "cat /d/deep/er/file; stat -c '%n %a %u:%g %F' /d /d/deep /d/deep/er/file /d/pipe; readlink /d/link; echo new > /d/new"),
		specs.Mount{Destination: "/d", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}},
		specs.Mount{Destination: "/d/deep/over", Type: "tmpfs", Source: "tmpfs"})
	r := run(t, root, spec, nil)
	want := "content\n/d 755 0:0 directory\n/d/deep 2777 0:0 directory\n/d/deep/er/file 644 7:8 regular file\n/d/pipe 600 0:0 fifo\n/etc/passwd\n"
	if r.err != nil || r.stdout != want || r.stderr != "" {
		t.Errorf("%+v\nwant %s", r, want)
	}
	if _, err := os.Stat(filepath.Join(root, "d/new")); err == nil {
		t.Error("the original was changed")
	}
	spec = with(defaultSpec("true"), specs.Mount{Destination: "/bin", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "size=16k"}})
	if r := run(t, root, spec, nil); r.err == nil || !strings.Contains(r.err.Error(), "tmpcopyup") || !strings.Contains(r.err.Error(), "no space") {
		t.Errorf("a copy that does not fit: %+v", r)
	}
	// The directory below may itself be a mount of the spec, or a link to the host.
	host := t.TempDir()
	os.WriteFile(filepath.Join(host, "of-host"), nil, 0o644)
	os.Symlink(host, filepath.Join(root, "escape"))
	spec = with(defaultSpec("ls", "/v", "/escape"),
		specs.Mount{Destination: "/v", Source: host, Options: []string{"bind"}},
		specs.Mount{Destination: "/v", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}},
		specs.Mount{Destination: "/escape", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}})
	if r := run(t, root, spec, nil); r.err != nil || strings.Count(r.stdout, "of-host") != 1 {
		t.Errorf("%+v", r)
	}
}

func TestReadOnlyFileSystemsGetTheirMountPointsFirst(t *testing.T) {
	spec := with(defaultSpec("sh", "-c", "ls /mnt/sub; cat /dev/null; echo x > /mnt/y; echo x > /dev/y"),
		specs.Mount{Destination: "/mnt", Type: "tmpfs", Source: "tmpfs", Options: []string{"ro"}},
		specs.Mount{Destination: "/mnt/sub/x", Type: "tmpfs", Source: "tmpfs"})
	spec.Mounts[1].Options = append(spec.Mounts[1].Options, "ro")
	r := run(t, busyboxRoot(t), spec, nil)
	if r.err != nil || r.stdout != "x\n" || strings.Count(r.stderr, "Read-only file system") != 2 {
		t.Errorf("%+v", r)
	}
}

func TestRemount(t *testing.T) {
	src := tmpfsAt(t, unix.MS_NOEXEC)
	spec := with(defaultSpec(), specs.Mount{Destination: "/mnt", Source: src, Options: []string{"bind"}},
		specs.Mount{Destination: "/mnt", Options: []string{"bind", "remount", "ro", "nosuid"}})
	if got, _, super := mountInfo(t, spec, "/mnt"); got != "ro,nosuid,relatime" || !strings.HasPrefix(super, "rw") {
		t.Errorf("bind,remount: %s %s", got, super)
	}
	spec = with(defaultSpec(), specs.Mount{Destination: "/mnt", Type: "tmpfs", Source: "tmpfs"},
		specs.Mount{Destination: "/mnt", Type: "tmpfs", Options: []string{"remount", "ro", "size=1m"}})
	if got, _, super := mountInfo(t, spec, "/mnt"); !strings.HasPrefix(got, "ro") || !strings.HasPrefix(super, "ro,size=1024k") {
		t.Errorf("remount: %s %s", got, super)
	}
}

func TestIDMappedMounts(t *testing.T) {
	src := t.TempDir()
	for i, name := range []string{"a", "b", "c"} {
		os.WriteFile(filepath.Join(src, name), nil, 0o644)
		os.Chown(filepath.Join(src, name), 100+i, 200+10*i)
	}
	ids := func(c, h, n uint32) []specs.LinuxIDMapping {
		return []specs.LinuxIDMapping{{ContainerID: c, HostID: h, Size: n}}
	}
	spec := with(defaultSpec("stat", "-c", "%u:%g", "/m1/a", "/m1/b", "/m2/c"),
		specs.Mount{Destination: "/m1", Source: src, Options: []string{"bind", "idmap"}, UIDMappings: ids(100, 1000, 10), GIDMappings: ids(200, 2000, 100)},
		specs.Mount{Destination: "m2", Source: src, Options: []string{"rbind", "ridmap"},
			UIDMappings: []specs.LinuxIDMapping{{ContainerID: 100, HostID: 1, Size: 1}, {ContainerID: 102, HostID: 9, Size: 1}}, GIDMappings: ids(220, 3, 1)})
	r := run(t, busyboxRoot(t), spec, nil)
	if r.err != nil || r.stdout != "1000:2000\n1001:2010\n9:3\n" {
		t.Errorf("%+v", r)
	}
	for _, bad := range []specs.Mount{
		{Destination: "/m", Type: "tmpfs", Source: "tmpfs", Options: []string{"idmap"}, UIDMappings: ids(0, 1, 1), GIDMappings: ids(0, 1, 1)},
		{Destination: "/m", Source: src, Options: []string{"bind", "idmap"}},
		{Destination: "/m", Source: "/proc", Options: []string{"bind"}, UIDMappings: ids(0, 1, 1), GIDMappings: ids(0, 1, 1)},
	} {
		if r := run(t, busyboxRoot(t), with(defaultSpec("true"), bad), nil); r.err == nil {
			t.Errorf("%+v was accepted", bad)
		} else {
			t.Log(r.err)
		}
	}
}

func TestNewUserNamespaceLeavesNothing(t *testing.T) {
	before := children(t)
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}}
	ns, err := runtime.NewUserNamespace(maps, maps)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var mine, its unix.Stat_t
	unix.Stat("/proc/self/ns/user", &mine)
	unix.Fstat(int(ns.Fd()), &its)
	if mine.Ino == its.Ino {
		t.Error("the namespace is the host's")
	}
	if _, err := runtime.NewUserNamespace(nil, []specs.LinuxIDMapping{{Size: 0}}); err == nil {
		t.Error("an empty map was accepted")
	}
	if after := children(t); after != before {
		t.Errorf("children %s, before %s", after, before)
	}
}

func children(t *testing.T) string {
	t.Helper()
	files, _ := filepath.Glob("/proc/self/task/*/children")
	if len(files) == 0 {
		t.Fatal("this kernel does not list children")
	}
	var all []string
	for _, f := range files {
		b, _ := os.ReadFile(f)
		all = append(all, strings.Fields(string(b))...)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// Sources in the container's own tree see the mounts before them.
func TestMountsSeeTheMountsBefore(t *testing.T) {
	root, src := busyboxRoot(t), t.TempDir()
	for _, d := range []string{"a/x", "b/y", "c/z"} {
		os.MkdirAll(filepath.Join(src, d), 0o755)
		os.WriteFile(filepath.Join(src, d, "file"), []byte(d), 0o644)
	}
	os.Symlink("b", filepath.Join(src, "sym-b"))
	os.Symlink("a", filepath.Join(src, "sym-a"))
	os.MkdirAll(filepath.Join(root, "mnt"), 0o755)
	os.MkdirAll(filepath.Join(root, "final"), 0o755)
	spec := defaultSpec("cat", "/final/x/y/z/z/x/y/z/x/file")
	spec.Root.Path = root
	for _, m := range [][2]string{{src + "/a", "/mnt"}, {src + "/sym-b", "/mnt/x"}, {src + "/c", "/mnt/x/y"}, {src + "/sym-a", "/mnt/x/y/z"},
		{root + "/mnt/x", root + "/mnt/x/y/z/x"}, {root + "/mnt/x/y", root + "/mnt/x/y/z"}, {root + "/mnt", root + "/final"}} {
		spec.Mounts = append(spec.Mounts, specs.Mount{Source: m[0], Destination: m[1], Options: []string{"rbind", "rprivate"}})
	}
	if r := run(t, root, spec, nil); r.err != nil || r.stdout != "a/x" {
		t.Errorf("%+v", r)
	}
	// They can have IDs of their own, too.
	for i := 4; i < 7; i++ {
		m := &spec.Mounts[7+i]
		m.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
		m.GIDMappings = m.UIDMappings
	}
	spec.Process.Args = []string{"sh", "-c", "cat /final/x/y/z/z/x/y/z/x/file; stat -c %u /mnt/x /final"}
	if r := run(t, root, spec, nil); r.err != nil || r.stdout != "a/x0\n100000\n" {
		t.Errorf("%+v", r)
	}
}

func TestLinksOnTheWayToAMountPoint(t *testing.T) {
	root, src := busyboxRoot(t), t.TempDir()
	file := filepath.Join(src, "file")
	os.WriteFile(file, []byte("bound"), 0o644)
	os.Symlink("/tmp/foo/bar", filepath.Join(root, "jump"))
	os.Symlink("/jump/baz/hosts", filepath.Join(root, "etc/hosts"))
	os.Symlink("/tmp/dir", filepath.Join(root, "etc/dir"))
	os.Symlink("elsewhere", filepath.Join(src, "inner")) // in a volume that is mounted first
	spec := with(defaultSpec("sh", "-c", "cat /tmp/foo/bar/baz/hosts /tmp/dir/file /vol/elsewhere/f"),
		specs.Mount{Destination: "/etc/hosts", Source: file, Options: []string{"bind"}},
		specs.Mount{Destination: "/etc/dir", Source: src, Options: []string{"bind"}},
		specs.Mount{Destination: "/vol", Source: src, Options: []string{"bind"}},
		specs.Mount{Destination: "/vol/inner/f", Source: file, Options: []string{"bind"}})
	if r := run(t, root, spec, nil); r.err != nil || r.stdout != "boundboundbound" {
		t.Errorf("%+v", r)
	}
}

func TestRefusedMounts(t *testing.T) {
	root, src := busyboxRoot(t), t.TempDir()
	os.Symlink("/proc/sys", filepath.Join(root, "toproc"))
	os.Symlink("/", filepath.Join(root, "toroot"))
	for want, m := range map[string]specs.Mount{
		"inside /proc":                             {Destination: "/proc/sys/kernel", Source: src, Options: []string{"bind"}},
		`/proc/sys/net" cannot`:                    {Destination: "/toproc/net", Type: "tmpfs", Source: "tmpfs"},
		"not of type proc":                         {Destination: "/proc", Type: "tmpfs", Source: "tmpfs"},
		`"/proc" cannot`:                           {Destination: "/proc/", Source: src, Options: []string{"bind"}},
		"root file system":                         {Destination: "/toroot", Source: src, Options: []string{"bind"}},
		"bind source /nonexistent/x: no such file": {Destination: "/x", Source: "/nonexistent/x", Options: []string{"rbind"}},
		"no options of a file system":              {Destination: "/x", Source: src, Options: []string{"bind", "size=1m"}},
	} {
		r := run(t, root, with(defaultSpec("true"), m), nil)
		if r.err == nil || !strings.Contains(r.err.Error(), want) || !strings.Contains(r.err.Error(), "mounts[7]") {
			t.Errorf("%+v: %v, want %q", m, r.err, want)
		}
	}
	for _, dir := range []string{"proc", "sys"} {
		root := busyboxRoot(t)
		os.Remove(filepath.Join(root, dir))
		os.Symlink("/tmp", filepath.Join(root, dir))
		if r := run(t, root, defaultSpec("true"), nil); r.err == nil || !strings.Contains(r.err.Error(), "must be mounted on ordinary directory") {
			t.Errorf("/%s is a link: %+v", dir, r)
		}
	}
	cpuinfo := filepath.Join(src, "cpuinfo")
	os.WriteFile(cpuinfo, []byte("mine\n"), 0o644)
	r := run(t, root, with(defaultSpec("cat", "/proc/cpuinfo"), specs.Mount{Destination: "/proc/cpuinfo", Source: cpuinfo, Options: []string{"bind"}}), nil)
	if r.err != nil || r.stdout != "mine\n" {
		t.Errorf("lxcfs: %+v", r)
	}
}

// A bind of a proc file system is as good as a proc file system.
func TestProcOfTheHost(t *testing.T) {
	spec := defaultSpec("sh", "-c", "cat /proc/self/oom_score_adj; wc -c /proc/uptime; echo x > /proc/sys/kernel/hostname")
	spec.Mounts[0] = specs.Mount{Destination: "/proc", Source: "/proc", Options: []string{"rbind"}}
	spec.Linux.MaskedPaths = append(spec.Linux.MaskedPaths, "/proc/uptime")
	score := 77
	spec.Process.OOMScoreAdj = &score
	r := run(t, busyboxRoot(t), spec, nil)
	if r.err != nil || !strings.HasPrefix(r.stdout, "77\n0 /proc/uptime") || !strings.Contains(r.stderr, "Read-only") {
		t.Errorf("%+v", r)
	}
}

func TestMasks(t *testing.T) {
	root := busyboxRoot(t)
	for _, d := range []string{"d1", "d2", "d3"} {
		os.MkdirAll(filepath.Join(root, d, "secret"), 0o755)
	}
	os.WriteFile(filepath.Join(root, "file"), []byte("secret"), 0o644)
	os.WriteFile(filepath.Join(root, "target"), []byte("secret"), 0o644)
	os.Symlink("target", filepath.Join(root, "link"))
	spec := defaultSpec("sh", "-c", `cat /file /target; ls /d1 /d2 /d3 | grep secret; stat -c %d /d1 /d2 /d3; echo x > /d2/new; echo x > /file; cat /proc/sys/kernel/ostype; grep -c ' /d1 ' /proc/self/mounts; cat /proc/mounts | wc -c; echo x > /proc/sys/kernel/hostname`)
	spec.Linux.MaskedPaths = append(spec.Linux.MaskedPaths, "/d1", "/d2", "/d3", "/d1/", "/d1", "/file", "/link", "/none/x", "/file/x", "/proc/sys/kernel/ostype")
	r := run(t, root, spec, nil)
	if r.err != nil {
		t.Fatal(r.err)
	}
	lines := strings.Fields(r.stdout)
	if len(lines) != 5 || lines[0] != lines[1] || lines[1] != lines[2] || lines[3] != "1" || lines[4] == "0" || strings.Contains(r.stdout, "secret") {
		t.Errorf("output %q", r.stdout)
	}
	if strings.Count(r.stderr, "Read-only file system") != 2 {
		t.Errorf("errors %q", r.stderr)
	}
	// What is masked by another path of the list needs nothing more.
	spec = defaultSpec("true")
	spec.Linux.MaskedPaths = []string{"/proc/sys"}
	spec.Linux.ReadonlyPaths = []string{"/proc/sys/kernel", "/proc/none"}
	if r := run(t, root, spec, nil); r.err != nil {
		t.Error(r.err)
	}
}

// The mask of a file is the host's own /dev/null: nothing of it may be changed.
func TestMasksDoNotOpenTheHostsNullDevice(t *testing.T) {
	var before, after unix.Stat_t
	unix.Stat("/dev/null", &before)
	spec := defaultSpec("sh", "-c", "chmod 600 /proc/uptime; chown 1 /proc/uptime; touch -d 1980-01-01 /proc/uptime; cat /proc/uptime; echo x > /proc/uptime")
	spec.Linux.MaskedPaths = append(spec.Linux.MaskedPaths, "/proc/uptime")
	caps := []string{"CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE"}
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
	root := busyboxRoot(t)
	for _, name := range []string{"chmod", "chown", "touch"} {
		os.Symlink("busybox", filepath.Join(root, "bin", name))
	}
	r := run(t, root, spec, nil)
	if r.err != nil || r.code != 0 || strings.Count(r.stderr, "Read-only file system") != 3 {
		t.Errorf("%+v", r)
	}
	if unix.Stat("/dev/null", &after); after.Mode != before.Mode || after.Uid != before.Uid || after.Ctim != before.Ctim {
		unix.Chmod("/dev/null", before.Mode)
		unix.Chown("/dev/null", int(before.Uid), int(before.Gid))
		t.Error("the host's /dev/null was changed")
	}
}

func TestDevices(t *testing.T) {
	root := busyboxRoot(t)
	mode, uid, gid := os.FileMode(0o640), uint32(5), uint32(6)
	spec := defaultSpec("stat", "-c", "%n %F %a %u:%g %t:%T", "/dev/zero2", "/a/b/blk", "/dev/fifo", "/dev/u", "/dev/null", "/dev/tty")
	spec.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/zero2", Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: &uid, GID: &gid},
		{Path: "/a/b/blk", Type: "b", Major: 7, Minor: 200},
		{Path: "/dev/fifo", Type: "p"},
		{Path: "/dev/u", Type: "u", Major: 1, Minor: 3},
		{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
		{Path: "/dev/ptmx", Type: "c", Major: 5, Minor: 2},
	}
	want := "/dev/zero2 character special file 640 5:6 1:5\n/a/b/blk block special file 666 0:0 7:c8\n/dev/fifo fifo 666 0:0 0:0\n" +
		"/dev/u character special file 666 0:0 1:3\n/dev/null character special file 666 0:0 1:3\n/dev/tty character special file 666 0:0 5:0\n"
	if r := run(t, root, spec, nil); r.err != nil || r.stdout != want {
		t.Errorf("%+v\nwant %s", r, want)
	}
	spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "d"}}
	if r := run(t, root, spec, nil); r.err == nil || !strings.Contains(r.err.Error(), "devices[0]") {
		t.Errorf("%+v", r)
	}
	// Without a tmpfs on /dev, what the image has there stays, but for ptmx.
	os.Mkdir(filepath.Join(root, "dev"), 0o755)
	os.WriteFile(filepath.Join(root, "dev/ptmx"), nil, 0o644)
	spec = defaultSpec("readlink", "/dev/ptmx")
	spec.Mounts = []specs.Mount{spec.Mounts[0], spec.Mounts[2]}
	if r := run(t, root, spec, nil); r.err != nil || r.stdout != "pts/ptmx\n" {
		t.Errorf("%+v", r)
	}
	// A /dev of the host's is left alone.
	spec = defaultSpec("ls", "/dev")
	host := t.TempDir()
	spec.Mounts = []specs.Mount{spec.Mounts[0], {Destination: "/dev", Source: host, Options: []string{"bind"}}}
	if r := run(t, root, spec, nil); r.err != nil || r.stdout != "" {
		t.Errorf("%+v", r)
	}
}

func TestRelativeSourcesStartFromTheBundle(t *testing.T) {
	bundle := t.TempDir()
	os.WriteFile(filepath.Join(bundle, "x"), []byte("hi"), 0o644)
	spec := with(defaultSpec("cat", "/b/x"), specs.Mount{Destination: "/b", Source: ".", Options: []string{"bind"}})
	r := run(t, busyboxRoot(t), spec, func(c *runtime.Config) { c.Bundle = bundle })
	if r.err != nil || r.stdout != "hi" {
		t.Errorf("%+v", r)
	}
}

func FuzzMountOptions(f *testing.F) {
	for _, o := range runtime.MountOptions() {
		f.Add(o, "size=1m")
	}
	dir, err := os.Open("/")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		spec := with(defaultSpec("true"), specs.Mount{Destination: "/x", Type: "tmpfs", Source: "x", Options: []string{a, b}})
		plan, err := runtime.New(runtime.Config{Spec: spec, Root: dup(t, dir), MountPoint: "/mnt"})
		if err == nil {
			plan.Close()
		}
	})
}

func dup(t *testing.T, f *os.File) *os.File {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprint(f.Name()))
}
