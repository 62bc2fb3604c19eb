package notify_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp/notify"
)

// makeNode makes /dev/null, /dev/zero and /dev/full for processes that may make
// no devices, and nothing else. The node is where the process would have it,
// with the rights that it would have.
func makeNode(r *notify.Request) error {
	var dirfd int
	addr, mode, dev := r.Args[0], r.Args[1], r.Args[2]
	switch r.Name() {
	case "mknod":
		dirfd = unix.AT_FDCWD
	case "mknodat":
		dirfd, addr, mode, dev = int(int32(r.Args[0])), r.Args[1], r.Args[2], r.Args[3]
	default:
		return unix.ENOSYS
	}
	dev = uint64(uint32(dev)) // as the kernel reads it
	if mode&unix.S_IFMT != unix.S_IFCHR || dev != unix.Mkdev(1, 3) && dev != unix.Mkdev(1, 5) && dev != unix.Mkdev(1, 7) {
		return unix.EPERM
	}
	name, err := r.ReadString(addr, unix.PathMax)
	if err != nil {
		return err
	}
	umask, err := umask(r)
	if err != nil {
		return err
	}
	parent, last, err := r.OpenParent(dirfd, name)
	if err != nil {
		return err
	}
	defer parent.Close()
	// The agent's own umask must not matter; chmod through a name could follow
	// a link that was put there meanwhile. A thread of its own has its own umask.
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		unix.Umask(umask)
		return unix.Mknodat(int(parent.Fd()), last, uint32(mode)&(unix.S_IFMT|0o7777), int(dev))
	})
	if err != nil {
		return err
	}
	return r.Respond(0)
}

func umask(r *notify.Request) (int, error) {
	text, err := status(r.PID, "Umask")
	if err != nil {
		return 0, err
	}
	if err := r.Valid(); err != nil {
		return 0, err
	}
	mask, err := strconv.ParseInt(text, 8, 32)
	return int(mask), err
}

// onThread does something on a thread that ends with it.
func onThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- do()
	}()
	return <-done
}

func TestNotifyEmulateMknod(t *testing.T) {
	root := jail(t)
	w := watch(t, 0, nil, "mknod", "mknodat")
	for _, c := range []result{w.do("chroot", root), w.do("chdir", "/dir"), w.do("umask", "", 0o027)} {
		if c.Errno != 0 {
			t.Fatal(c)
		}
	}
	char := func(mode int) int { return unix.S_IFCHR | mode }
	// The process cannot do it itself.
	c := w.start("mknod", "/itself", unix.AT_FDCWD, char(0o666), int(unix.Mkdev(1, 3)))
	r := w.recv()
	w.must(r.Continue())
	w.wantErrno(c, unix.EPERM)

	stop, cancel := w.serve(2, makeNode)
	defer cancel()
	sub := w.do("open", "/dir/sub", unix.O_PATH).Value
	for _, tt := range []struct {
		dirfd        int
		name         string
		mode         int
		major, minor uint32
		errno        unix.Errno
		made         string // below root
	}{
		{unix.AT_FDCWD, "/null", char(0o666), 1, 3, 0, "null"},
		{unix.AT_FDCWD, "zero", char(0o600), 1, 5, 0, "dir/zero"},
		{sub, "full", char(0o666), 1, 7, 0, "dir/sub/full"},
		{unix.AT_FDCWD, "/../../null2", char(0o666), 1, 3, 0, "null2"},
		{unix.AT_FDCWD, "/dir/abs/null", char(0o666), 1, 3, 0, "etc/null"},
		{unix.AT_FDCWD, "/null", char(0o666), 1, 3, unix.EEXIST, "null"},
		{unix.AT_FDCWD, "/mem", char(0o666), 1, 1, unix.EPERM, ""},
		{unix.AT_FDCWD, "/loop", char(0o666), 7, 0, unix.EPERM, ""},
		{unix.AT_FDCWD, "/disk", unix.S_IFBLK | 0o666, 1, 3, unix.EPERM, ""},
		{unix.AT_FDCWD, "/none/null", char(0o666), 1, 3, unix.ENOENT, ""},
		{unix.AT_FDCWD, "/host/null", char(0o666), 1, 3, unix.ENOENT, ""},
		{unix.AT_FDCWD, "../null3", char(0o666), 1, 3, unix.EXDEV, ""},
		{77, "null", char(0o666), 1, 3, unix.EBADF, ""},
	} {
		w.wantErrno(w.start("mknod", tt.name, tt.dirfd, tt.mode, int(unix.Mkdev(tt.major, tt.minor))), tt.errno)
		if tt.made == "" {
			continue
		}
		var st unix.Stat_t
		w.must(unix.Lstat(filepath.Join(root, tt.made), &st))
		if got := uint64(st.Rdev); tt.errno == 0 && (got != unix.Mkdev(tt.major, tt.minor) || int(st.Mode) != tt.mode&^0o027) {
			t.Errorf("%s: device %#x, mode %#o", tt.made, got, st.Mode)
		}
	}
	if names, err := filepath.Glob(filepath.Dir(root) + "/outside/*"); len(names) > 0 || err != nil {
		t.Errorf("outside of the root: %q, %v", names, err)
	}
	// What was made works in the process.
	fd := w.do("open", "/dir/zero", unix.O_RDONLY)
	if r := w.do("read", "", fd.Value); fd.Errno != 0 || r.Text != string(make([]byte, 100)) {
		t.Errorf("zero: %+v, read %+v", fd, r)
	}
	if err := stop(w.kill); err != nil {
		t.Error(err)
	}
}

// mountTmpfs mounts a tmpfs for processes that may mount nothing.
func mountTmpfs(r *notify.Request) error {
	kind, err := r.ReadString(r.Args[2], 100)
	if err != nil {
		return err
	}
	if kind != "tmpfs" {
		return unix.EPERM
	}
	name, err := r.ReadString(r.Args[1], unix.PathMax)
	if err != nil {
		return err
	}
	parent, last, err := r.OpenParent(unix.AT_FDCWD, name)
	if err != nil {
		return err
	}
	defer parent.Close()
	target, err := unix.Openat(int(parent.Fd()), last, unix.O_PATH|unix.O_NOFOLLOW|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	space, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", r.PID), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(space)
	if err := r.Valid(); err != nil {
		return err
	}
	// The flags are the agent's; the process's data are not used at all.
	if err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if err := unix.Setns(space, unix.CLONE_NEWNS); err != nil {
			return err
		}
		return unix.Mount("tmpfs", fmt.Sprintf("/proc/thread-self/fd/%d", target), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64k")
	}); err != nil {
		return err
	}
	return r.Respond(0)
}

func TestNotifyEmulateMount(t *testing.T) {
	root := jail(t)
	w := watch(t, 0, &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}, "mount")
	for _, c := range []result{w.do("chroot", root), w.do("chdir", "/dir")} {
		if c.Errno != 0 {
			t.Fatal(c)
		}
	}
	c := w.start("mount", "/dir/sub\x00tmpfs", 0)
	r := w.recv()
	w.must(r.Continue())
	w.wantErrno(c, unix.EPERM) // the process cannot do it itself

	stop, cancel := w.serve(1, mountTmpfs)
	defer cancel()
	for _, tt := range []struct {
		name, kind string
		errno      unix.Errno
		at         string
	}{
		{"/dir/sub", "tmpfs", 0, "/dir/sub"},
		{"sub/../loops", "tmpfs", unix.ENOENT, ""},
		{"/../../secret", "tmpfs", 0, "/secret"},
		{"/host", "tmpfs", unix.ENOTDIR, ""}, // a link, and links are not followed
		{"/dir/file", "tmpfs", unix.ENOTDIR, ""},
		{"/etc", "proc", unix.EPERM, ""},
	} {
		w.wantErrno(w.start("mount", tt.name+"\x00"+tt.kind, 0), tt.errno)
		if tt.at == "" {
			continue
		}
		if fs := w.do("fstype", tt.at); fs.Errno != 0 || fs.Value != unix.TMPFS_MAGIC {
			t.Errorf("%s: %+v, want a tmpfs", tt.at, fs)
		}
		// It is the process's mount alone.
		var here, above unix.Stat_t
		w.must(unix.Stat(root+tt.at, &here))
		w.must(unix.Stat(root, &above))
		if here.Dev != above.Dev {
			t.Errorf("%s is mounted here too", tt.at)
		}
	}
	if fs := w.do("fstype", "/etc"); fs.Value == unix.PROC_SUPER_MAGIC {
		t.Error("/etc is a proc")
	}
	if err := stop(w.kill); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(root); err != nil {
		t.Error(err)
	}
}
