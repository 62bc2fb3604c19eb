package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// memoryDir is a directory in memory where there is one, because Unpack syncs
// the whole file system that it works on. On a disk that others write to, that
// takes longer than all the rest of these tests.
func memoryDir(t testing.TB) string {
	t.Helper()
	var st unix.Statfs_t
	if unix.Statfs("/dev/shm", &st) != nil || st.Type != unix.TMPFS_MAGIC {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "snapshot-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// file is a regular file's tar header with its content.
func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, content}
}

func directory(name string) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

func symlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, ""}
}

func whiteout(name string) entry { return file(name, "") }

type entry struct {
	tar.Header
	content string
}

// with returns the entry with its header changed.
func (e entry) with(change func(h *tar.Header)) entry {
	change(&e.Header)
	return e
}

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.Header
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// layerOf describes the layer with that content on top of the parents.
func layerOf(content []byte, parents ...digest.Digest) Layer {
	l := Layer{DiffID: digest.FromBytes(content), Parents: parents}
	l.ChainID = l.DiffID
	if n := len(parents); n > 0 {
		l.ChainID = digest.FromString(parents[n-1].String() + " " + l.DiffID.String())
	}
	return l
}

func unpackBytes(s *Store, content []byte, parents ...digest.Digest) (digest.Digest, error) {
	l := layerOf(content, parents...)
	return l.ChainID, s.Unpack(context.Background(), l, bytes.NewReader(content))
}

// unpackAll unpacks layers on top of each other and returns their chain IDs.
func unpackAll(t testing.TB, s *Store, layers ...[]entry) []digest.Digest {
	t.Helper()
	var chain []digest.Digest
	for i, entries := range layers {
		id, err := unpackBytes(s, makeTar(t, entries...), chain...)
		if err != nil {
			t.Fatalf("layer %d: %v", i, err)
		}
		chain = append(chain, id)
	}
	return chain
}

func stringsOf(chain []digest.Digest) []string {
	var out []string
	for _, c := range chain {
		out = append(out, string(c))
	}
	return out
}

// lowerOf is the lower directory of an unpacked layer.
func lowerOf(t testing.TB, s *Store, chain digest.Digest) string {
	t.Helper()
	dir, err := s.layerDir(chain)
	if err != nil {
		t.Fatal(err)
	}
	return dir + "/fs"
}

// mounted mounts the layers and returns the path of the root.
func mounted(t testing.TB, s *Store, o MountOptions) string {
	t.Helper()
	f, err := s.Mount(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return fmt.Sprintf("/proc/self/fd/%d/.", f.Fd())
}

// describe lists a tree, one line for each inode name: what it is, whose, its
// time, its content and extended attributes. Further names of one inode say
// which the first one is.
func describe(t testing.TB, root string) map[string]string {
	t.Helper()
	lines := make(map[string]string)
	first := make(map[uint64]string)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		line, ino, err := describeInode(path)
		if err != nil {
			return err
		}
		if seen, ok := first[ino]; ok {
			line += " = " + seen
		} else {
			first[ino] = name
		}
		lines[name] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func describeInode(path string) (string, uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", 0, err
	}
	line := fmt.Sprintf("%06o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(path)
		if err != nil {
			return "", 0, err
		}
		line += fmt.Sprintf(" %d %x", st.Size, sha256.Sum256(b))
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return "", 0, err
		}
		line += " -> " + target
	case unix.S_IFCHR, unix.S_IFBLK:
		line += fmt.Sprintf(" dev %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	xattrs, err := describeXattrs(path)
	return line + xattrs, st.Ino, err
}

func describeXattrs(path string) (string, error) {
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return "", err
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	sort.Strings(names)
	var out strings.Builder
	for _, name := range names {
		if name == "" {
			continue
		}
		n, err := unix.Lgetxattr(path, name, buf)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, " %s=%q", name, buf[:n])
	}
	return out.String(), nil
}

// diff says where two trees differ.
func diff(want, got map[string]string) string {
	var out strings.Builder
	for name, w := range want {
		if g, ok := got[name]; !ok {
			fmt.Fprintf(&out, "missing %q: %s\n", name, w)
		} else if g != w {
			fmt.Fprintf(&out, "%q:\n  want %s\n  got  %s\n", name, w, g)
		}
	}
	for name, g := range got {
		if _, ok := want[name]; !ok {
			fmt.Fprintf(&out, "unexpected %q: %s\n", name, g)
		}
	}
	return out.String()
}

// contents lists the paths below root, sorted, directories with a slash and
// regular files with their content.
func contents(t testing.TB, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		switch {
		case e.IsDir():
			name += "/"
		case e.Type().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name += "=" + string(b)
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			name += "->" + target
		case e.Type()&fs.ModeCharDevice != 0:
			name += " char"
		}
		out = append(out, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(out)
	return out
}

// wantEmptyTmp checks that nothing half-made lies in the store.
func wantEmptyTmp(t testing.TB, s *Store) {
	t.Helper()
	left, err := os.ReadDir(s.tmp())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		t.Errorf("left behind in the store: tmp/%s", e.Name())
	}
}
