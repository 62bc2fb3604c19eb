package tree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// opened opens a directory of the test's.
func opened(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// sh runs a script in a new directory and opens that.
func sh(t *testing.T, script string) *os.File {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return opened(t, dir)
}

const sample = `
	mkdir -m 2750 d; chown 3:4 d; echo a > d/a; chmod 4711 d/a; chown 5:6 d/a; ln d/a d/b; ln -s /nowhere d/l
	mkfifo -m 620 p; mknod -m 640 n c 1 3; truncate -s 10M hole; echo end >> hole
	setfattr -n user.k -v v d 2>/dev/null || true; setcap cap_net_raw+ep d/b
	mkdir -p deep/er/e/s/t; touch -d @1000000000.5 deep/er d/a; : > "odd name$(printf '\n')"`

// describe lists a tree by other programs than ours.
func describe(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", `cd "$1"; find . -printf '%P|%y|%m|%U:%G|%n|%l|%s|%T@\n' | sort
		find . -type f | sort | xargs -d '\n' sha256sum; getcap -r . | sort; find . -type c -exec stat -c '%n %t:%T' {} +`, "sh", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func TestCopy(t *testing.T) {
	from := sh(t, sample)
	to := sh(t, "")
	if err := Copy(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	if got, want := describe(t, to.Name()), describe(t, from.Name()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var st unix.Stat_t
	if unix.Stat(to.Name()+"/hole", &st); st.Blocks > 2048 {
		t.Errorf("the hole was filled: %d blocks", st.Blocks)
	}
}

// GNU tar reads what Pack writes as it was.
func TestPackForTar(t *testing.T) {
	from, to := sh(t, sample), sh(t, "")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := Pack(t.Context(), w, from, PackOptions{Name: "top", Skip: func(p string) bool { return p == "deep/er/e" }}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tar", "-xpf", "-", "--xattrs", "--xattrs-include=*", "-C", to.Name())
	cmd.Stdin = &b
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.RemoveAll(from.Name() + "/deep/er/e"); err != nil {
		t.Fatal(err)
	}
	exec.Command("touch", "-d", "@1000000000.5", from.Name()+"/deep/er").Run()
	if got, want := describe(t, to.Name()+"/top"), describe(t, from.Name()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// archive makes an archive; entries are "NAME" of a file, "NAME/" of a directory,
// "NAME -> TARGET" of a link, "NAME = TARGET" of a hard link.
func archive(t testing.TB, entries ...string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e, Typeflag: tar.TypeReg, Mode: 0o6755, Size: int64(len(e)), Uid: 7, Gid: 8}
		if name, target, ok := strings.Cut(e, " -> "); ok {
			h.Name, h.Linkname, h.Typeflag, h.Size = name, target, tar.TypeSymlink, 0
		} else if name, target, ok := strings.Cut(e, " = "); ok {
			h.Name, h.Linkname, h.Typeflag, h.Size = name, target, tar.TypeLink, 0
		} else if strings.HasSuffix(e, "/") {
			h.Typeflag, h.Size = tar.TypeDir, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, e)
		}
	}
	w.Close()
	return &b
}

func TestUnpack(t *testing.T) {
	for _, c := range []struct {
		name    string
		before  string
		o       UnpackOptions
		entries []string
		check   string // a shell's condition in the tree
		wantErr string
	}{
		{"parents are made", "", UnpackOptions{}, []string{"a/b/c"}, `[ "$(cat a/b/c)" = a/b/c ] && [ "$(stat -c %a:%u a)" = 755:0 ]`, ""},
		{"into a directory", "mkdir -p x/y", UnpackOptions{Dir: "x/y"}, []string{"f"}, `[ -f x/y/f ]`, ""},
		{"by a link of the tree", "mkdir x; ln -s /x l", UnpackOptions{Dir: "l"}, []string{"f"}, `[ -f x/f ]`, ""},
		{"a link on the way", "mkdir x; ln -s /x l", UnpackOptions{}, []string{"l/f"}, `[ -f x/f ]`, ""},
		{"a link on the way is refused", "mkdir x; ln -s x l", UnpackOptions{NoLinks: true}, []string{"l/f"}, `[ ! -e x/f ]`, "too many levels"},
		{"a file is replaced, not written to", "echo old > f; ln f g", UnpackOptions{}, []string{"f"}, `[ "$(cat f)" = f ] && [ "$(cat g)" = old ]`, ""},
		{"a link is replaced, not followed", "echo old > g; ln -s g f", UnpackOptions{}, []string{"f"}, `[ ! -L f ] && [ "$(cat g)" = old ]`, ""},
		{"a directory stays", "mkdir d; echo x > d/x", UnpackOptions{}, []string{"d/", "d/y"}, `[ -f d/x ] && [ -f d/y ] && [ "$(stat -c %a:%u d)" = 6755:7 ]`, ""},
		{"a directory for a file", "mkdir d", UnpackOptions{}, []string{"d"}, `[ -d d ]`, "cannot overwrite directory"},
		{"a file for a directory", "echo x > d", UnpackOptions{}, []string{"d/"}, `[ -f d ]`, "cannot overwrite non-directory"},
		{"a link for a directory", "mkdir e; ln -s e d", UnpackOptions{}, []string{"d/", "d/f"}, `[ ! -e e/f ]`, "cannot overwrite non-directory"},
		{"the top is renamed", "", UnpackOptions{From: "a", To: "b"}, []string{"a/", "a/x", "a/y = a/x", "ab"}, `[ -f b/x ] && [ "$(stat -c %h b/y)" = 2 ] && [ -f ab ] && [ ! -e a ]`, ""},
		{"the root gets a name", "", UnpackOptions{To: "b"}, []string{"./", "x"}, `[ -f b/x ] && [ ! -e x ]`, ""},
		{"owner and tame", "", UnpackOptions{Owner: func(int, int) (int, int) { return 1, 2 }, Tame: true}, []string{"f"}, `[ "$(stat -c %a:%u:%g f)" = 755:1:2 ]`, ""},
		{"dots", "", UnpackOptions{}, []string{"../f"}, "", ".. component"},
		{"dots within", "", UnpackOptions{}, []string{"a/../f"}, "", ".. component"},
		{"dots in a hard link", "", UnpackOptions{}, []string{"f = ../../etc/passwd"}, `[ ! -e f ]`, ".. component"},
		{"a hard link by a link out", "ln -s /etc l", UnpackOptions{}, []string{"f = l/passwd"}, `[ ! -e f ]`, "no such file"},
		{"a link out, then through it", "", UnpackOptions{}, []string{"l -> ../../../../tmp", "l/brig-tree-test"}, `[ ! -e /tmp/brig-tree-test ]`, ""},
		{"the root as a file", "", UnpackOptions{}, []string{"/"}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := sh(t, c.before)
			err := Unpack(t.Context(), root, archive(t, c.entries...), c.o)
			if (err == nil) != (c.wantErr == "") && c.name != "a link out, then through it" || err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("error %v, want %q", err, c.wantErr)
			}
			cmd := exec.Command("sh", "-c", c.check)
			cmd.Dir = root.Name()
			if out, err := cmd.CombinedOutput(); err != nil {
				ls, _ := exec.Command("ls", "-lR", root.Name()).Output()
				t.Errorf("not so: %s\n%s%s", c.check, out, ls)
			}
		})
	}
}

func TestUnpackLimits(t *testing.T) {
	root := sh(t, "")
	if err := Unpack(t.Context(), root, archive(t, "a", "b"), UnpackOptions{Entries: 1}); err == nil {
		t.Error("more entries than the limit")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Unpack(ctx, root, archive(t, "c"), UnpackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestResolve(t *testing.T) {
	root := sh(t, "mkdir -p a/b; ln -s /a abs; ln -s ../../../../a/b up; ln -s loop loop; ln -s a/new dangling; ln -s ../.. a/b/out; ln -s dangling two")
	for name, want := range map[string]string{
		"": "/", "/": "/", "a": "/a", "abs/b": "/a/b", "up": "/a/b", "../../a": "/a", "dangling": "/a/new", "two": "/a/new", "dangling/x/y": "/a/new/x/y",
		"a/b/out/a": "/a", "abs/b/..": "/a", "no/such/..": "/no",
	} {
		if got, err := Resolve(root, name); got != want || err != nil {
			t.Errorf("Resolve(%q): %q, %v, want %q", name, got, err, want)
		}
	}
	if got, err := Resolve(root, "loop/x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop is %q, %v", got, err)
	}
}

func TestMkdirAll(t *testing.T) {
	root := sh(t, "mkdir a; ln -s /a/made l; echo > f")
	for _, name := range []string{"x/y/z", "l/sub", "a"} {
		d, err := MkdirAll(root, name, 5, 6)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		d.Close()
	}
	var st unix.Stat_t
	if err := unix.Stat(root.Name()+"/a/made/sub", &st); err != nil || st.Uid != 5 || st.Gid != 6 || st.Mode&0o7777 != 0o755 {
		t.Errorf("%v %+v", err, st)
	}
	if _, err := MkdirAll(root, "f/x", 0, 0); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

// While somebody swaps a directory of the tree for a link out of it, nothing is
// read or written outside.
func TestSwapped(t *testing.T) {
	outside := sh(t, "echo secret > file; chmod 600 file")
	root := sh(t, "mkdir d; echo inside > d/file")
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		d, away, link := root.Name()+"/d", root.Name()+"/away", root.Name()+"/link"
		if err := os.Symlink(outside.Name(), link); err != nil {
			t.Error(err)
			return
		}
		if err := os.Rename(d, away); err != nil {
			t.Error(err)
		}
		for !stop.Load() {
			unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, d, 0)
			unix.Renameat2(unix.AT_FDCWD, away, unix.AT_FDCWD, d, unix.RENAME_EXCHANGE)
			unix.Renameat2(unix.AT_FDCWD, away, unix.AT_FDCWD, d, unix.RENAME_EXCHANGE)
			os.Rename(d, link)
		}
		os.Rename(away, d)
	}()
	before := describe(t, outside.Name())
	for i := range 100 {
		Unpack(t.Context(), root, archive(t, "d/", fmt.Sprintf("d/f%d", i), "d/file"), UnpackOptions{})
		Unpack(t.Context(), root, archive(t, "./", "file"), UnpackOptions{Dir: "d"})
		if f, err := Open(root, "d/file", unix.O_PATH); err == nil {
			var b bytes.Buffer
			Pack(t.Context(), tar.NewWriter(&b), f, PackOptions{Name: "x"})
			if f.Close(); strings.Contains(b.String(), "secret") {
				t.Fatal("read a file outside")
			}
		}
		var b bytes.Buffer
		top, err := Open(root, ".", unix.O_PATH)
		if err != nil {
			t.Fatal(err)
		}
		Pack(t.Context(), tar.NewWriter(&b), top, PackOptions{})
		if top.Close(); strings.Contains(b.String(), "secret") {
			t.Fatal("packed a file outside")
		}
	}
	stop.Store(true)
	<-done
	if after := describe(t, outside.Name()); after != before {
		t.Errorf("changed outside:\n%s\n%s", before, after)
	}
}

// Whatever the archive says, nothing outside of the tree changes.
func FuzzUnpack(f *testing.F) {
	add := func(entries ...string) {
		b, _ := io.ReadAll(archive(f, entries...))
		f.Add(b, "a", "b")
	}
	add("a/", "a/f", "a/l -> /etc", "a/l/x", "h = a/f")
	add("../x", "/abs", "l -> ..", "l/../../y")
	f.Fuzz(func(t *testing.T, b []byte, from, to string) {
		base := t.TempDir()
		if err := os.MkdirAll(filepath.Join(base, "root"), 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.Open(filepath.Join(base, "root"))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if strings.Contains(to, "/") || strings.Contains(to, "\x00") || to == ".." {
			to = "to" // a base name, as callers give it
		}
		Unpack(t.Context(), root, bytes.NewReader(b), UnpackOptions{From: from, To: to, Entries: 100, Bytes: 1 << 20})
		if names, _ := os.ReadDir(base); len(names) != 1 {
			t.Errorf("made outside: %v", names)
		}
	})
}
