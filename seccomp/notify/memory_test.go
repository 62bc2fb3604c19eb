package notify_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp/notify"
)

func TestNotifyReadString(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	page := os.Getpagesize()
	for _, tt := range []struct {
		name           string
		before, length int
		zero           bool
		max            int
		err            error
	}{
		{"empty", 10, 0, true, 0, nil},
		{"within a page", 100, 50, true, 4096, nil},
		{"up to the end of a page", 10, 9, true, 4096, nil},
		{"the zero byte on the next page", 10, 10, true, 4096, nil},
		{"across pages", 10, 100, true, 4096, nil},
		{"all of a page and more", page, page + 5, true, page + 5, nil},
		{"up to the end of memory", 10, page + 9, true, page + 100, nil},
		{"as long as it may be", 10, 50, true, 50, nil},
		{"too long by one", 10, 51, true, 50, unix.ENAMETOOLONG},
		{"too long, and the next page is not needed", 10, 11, true, 9, unix.ENAMETOOLONG},
		{"too long and without an end", 10, 0, false, 100, unix.ENAMETOOLONG},
		{"beyond the end of memory", 10, 0, false, 2 * page, unix.EFAULT},
	} {
		t.Run(tt.name, func(t *testing.T) {
			zero := 0
			if tt.zero {
				zero = 1
			}
			c := w.start("string", "", tt.before, tt.length, zero)
			r := w.recv()
			got, err := r.ReadString(r.Args[0], tt.max)
			w.must(r.Respond(1))
			w.want(c, 1, 0)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			want := make([]byte, tt.length)
			for i := range want {
				want[i] = letter(i)
			}
			if got != string(want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestNotifyReadAt(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	page := os.Getpagesize()
	c := w.start("string", "", 3, 0, 0)
	r := w.recv()
	addr := int64(r.Args[0])
	buf := make([]byte, 5)
	if n, err := r.ReadAt(buf, addr); n != 5 || err != nil || string(buf) != "abcde" {
		t.Errorf("read %d bytes %q, %v", n, buf, err)
	}
	if n, err := r.ReadAt(nil, 0); n != 0 || err != nil {
		t.Errorf("read nothing: %d, %v", n, err)
	}
	// The memory ends after one more page.
	n, err := r.ReadAt(make([]byte, 2*page), addr)
	if n != page+3 || !errors.Is(err, unix.EFAULT) {
		t.Errorf("read beyond the end: %d bytes, %v; want %d, EFAULT", n, err, page+3)
	}
	for _, bad := range []int64{0, addr + int64(page) + 3, -4096} {
		if n, err := r.ReadAt(buf, bad); n != 0 || !errors.Is(err, unix.EFAULT) {
			t.Errorf("read at %#x: %d bytes, %v; want EFAULT", bad, n, err)
		}
	}
	w.must(r.Respond(1))
	w.want(c, 1, 0)
	if _, err := r.ReadAt(buf, addr); !errors.Is(err, notify.ErrGone) {
		t.Errorf("read of a process that waits no more: %v", err)
	}
}

// jail makes a directory to be the root of a child, with ways that lead out.
func jail(t *testing.T) string {
	t.Helper()
	outside := t.TempDir()
	root := filepath.Join(outside, "jail")
	for _, dir := range []string{"outside", "jail/etc", "jail/dir/sub/deep", "jail/secret"} {
		if err := os.MkdirAll(filepath.Join(outside, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"up": "../../../../outside", "host": filepath.Join(outside, "outside"), "slash": "/", "within": "/dir/sub",
		"dir/abs": "/etc", "dir/up": "../secret", "dir/down": "sub/deep", "dir/loop": "loop",
		"dir/back": "sub/..",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "dir/file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

// Wherever a path of a process in a root of its own leads, it leads there for
// the agent too, and never out of the root.
func TestNotifyOpenParent(t *testing.T) {
	root := jail(t)
	w := watch(t, 0, nil, "getpgid")
	for _, c := range []result{w.do("chroot", root), w.do("chdir", "/dir")} {
		if c.Errno != 0 {
			t.Fatal(c)
		}
	}
	dir, file := w.do("open", "/dir/sub", unix.O_PATH).Value, w.do("open", "/dir/file", unix.O_RDONLY).Value
	const cwd = unix.AT_FDCWD
	for _, tt := range []struct {
		dirfd     int
		name      string
		dir, last string // dir below root
		err       error
	}{
		{cwd, "/x", "/", "x", nil},
		{cwd, "//dir//x", "/dir", "x", nil},
		{dir, "/dir/x", "/dir", "x", nil}, // the descriptor does not matter
		{-1, "/dir/x", "/dir", "x", nil},
		{cwd, "/dir/sub/../x", "/dir", "x", nil},
		{cwd, "/../../../x", "/", "x", nil},
		{cwd, "/dir/../../../etc/x", "/etc", "x", nil},
		{cwd, "/within/x", "/dir/sub", "x", nil},
		{cwd, "/slash/etc/x", "/etc", "x", nil},
		{cwd, "/slash/../slash/x", "/", "x", nil},
		{cwd, "/dir/abs/x", "/etc", "x", nil},
		{cwd, "/dir/up/x", "/secret", "x", nil},
		{cwd, "/up/x", "", "", unix.ENOENT},   // /outside, which the root has not
		{cwd, "/host/x", "", "", unix.ENOENT}, // nor this
		{cwd, "/host", "/", "host", nil},      // the last part is not followed

		{cwd, "x", "/dir", "x", nil},
		{cwd, "./x", "/dir", "x", nil},
		{cwd, "sub/deep/x", "/dir/sub/deep", "x", nil},
		{cwd, "sub/../x", "/dir", "x", nil},
		{cwd, "down/x", "/dir/sub/deep", "x", nil},
		{cwd, "back/x", "/dir", "x", nil},
		{cwd, "../x", "", "", unix.EXDEV},
		{cwd, "abs/x", "", "", unix.EXDEV},
		{cwd, "up/x", "", "", unix.EXDEV},
		{cwd, "loop/x", "", "", unix.ELOOP},
		{cwd, "file/x", "", "", unix.ENOTDIR},
		{cwd, "none/x", "", "", unix.ENOENT},

		{dir, "x", "/dir/sub", "x", nil},
		{dir, "deep/x", "/dir/sub/deep", "x", nil},
		{dir, "deep/../x", "/dir/sub", "x", nil},
		{dir, "../x", "", "", unix.EXDEV},
		{file, "x", "", "", unix.ENOTDIR},
		{1000, "x", "", "", unix.EBADF},
		{-1, "x", "", "", unix.EBADF},

		{cwd, "", "", "", unix.ENOENT},
		{cwd, "/", "", "", unix.EEXIST},
		{cwd, "/dir/", "", "", unix.EEXIST},
		{cwd, "/dir/.", "", "", unix.EEXIST},
		{cwd, "..", "", "", unix.EEXIST},
	} {
		r, c := w.getpgid(1)
		parent, last, err := r.OpenParent(tt.dirfd, tt.name)
		w.must(r.Respond(1))
		w.want(c, 1, 0)
		if !errors.Is(err, tt.err) || err != nil != (parent == nil) || last != tt.last {
			t.Errorf("%d %q: %v, %q, %v; want %q, %v", tt.dirfd, tt.name, parent, last, err, tt.last, tt.err)
		}
		if parent == nil {
			continue
		}
		got, err := parent.Stat()
		w.must(err)
		want, err := os.Stat(root + tt.dir)
		w.must(err)
		if !os.SameFile(got, want) {
			t.Errorf("%d %q: not %s", tt.dirfd, tt.name, tt.dir)
		}
		parent.Close()
	}
}

// The links of /proc to open files and to roots could lead anywhere.
func TestNotifyOpenParentMagicLink(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	r, c := w.getpgid(1)
	own := fmt.Sprintf("/proc/%d/", w.cmd.Process.Pid)
	for _, name := range []string{own + "root/x", own + "cwd/x", own + "fd/0/x", "/proc/thread-self/root/x"} {
		if f, _, err := r.OpenParent(unix.AT_FDCWD, name); !errors.Is(err, unix.ELOOP) {
			f.Close()
			t.Errorf("%s: %v, want ELOOP", name, err)
		}
	}
	w.must(r.Respond(1))
	w.want(c, 1, 0)
}
