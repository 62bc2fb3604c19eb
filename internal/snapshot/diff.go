package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/tree"
)

// ChangeKind says how a path of a container differs from its image.
type ChangeKind byte

// The kinds, with Docker's letters.
const (
	Changed ChangeKind = 'C'
	Added   ChangeKind = 'A'
	Deleted ChangeKind = 'D'
)

// Change is one path that differs.
type Change struct {
	Path string // absolute
	Kind ChangeKind
}

// Diff compares the upper directory of an overlay with what lies below it, by
// Docker's rules: a file differs if its type, mode, owner, size, time of change
// or capabilities do; a directory if its type, mode or owner do, or something in
// it. Of what is deleted only the top is listed. skip leaves out paths, which
// have no first slash, with what is below them.
func Diff(upper, lower *os.File, skip func(name string) bool) ([]Change, error) {
	d := &differ{lower: lower, skip: skip}
	if _, err := d.dir(upper, "", true); err != nil {
		return nil, err
	}
	slices.SortFunc(d.list, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return d.list, nil
}

type differ struct {
	lower *os.File
	skip  func(string) bool
	list  []Change
}

func (d *differ) add(name string, kind ChangeKind) { d.list = append(d.list, Change{"/" + name, kind}) }

// dir compares what is in the directory up; below says whether the lower layers
// show one there. It returns whether anything differs.
func (d *differ) dir(up *os.File, name string, below bool) (bool, error) {
	names, err := readNames(up)
	if err != nil {
		return false, err
	}
	before := len(d.list)
	if below && name != "" && isOpaque(int(up.Fd())) {
		if err := d.hidden(name, names); err != nil {
			return false, err
		}
	}
	for _, n := range names {
		fd, err := unix.Openat(int(up.Fd()), n, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			continue // a container that runs has removed it
		}
		if err != nil {
			return false, &os.PathError{Op: "open", Path: "/" + path.Join(name, n), Err: err}
		}
		f := os.NewFile(uintptr(fd), n)
		err = d.entry(f, path.Join(name, n), below)
		f.Close()
		if err != nil {
			return false, err
		}
	}
	return len(d.list) > before, nil
}

// hidden lists what an opaque directory hides, but for what has the same name.
func (d *differ) hidden(name string, names []string) error {
	old, err := Names(d.lower, name)
	if errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	for _, n := range old {
		if !slices.Contains(names, n) {
			d.add(path.Join(name, n), Deleted)
		}
	}
	return err
}

func (d *differ) entry(f *os.File, name string, below bool) error {
	if d.skip(name) {
		return nil
	}
	at, st, err := tree.ReadAttrs(int(f.Fd()))
	if err != nil {
		return err
	}
	old, err := d.find(name, below)
	if err != nil {
		return err
	}
	if old != nil {
		defer old.Close()
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case isWhiteout(&st):
		if old != nil {
			d.add(name, Deleted)
		}
		return nil
	case old == nil:
		d.add(name, Added)
		if isDir {
			_, err = d.children(f, name, false)
		}
		return err
	}
	oldAt, oldSt, err := tree.ReadAttrs(int(old.Fd()))
	if err != nil {
		return err
	}
	wasDir := oldSt.Mode&unix.S_IFMT == unix.S_IFDIR
	inside := false
	switch {
	case isDir:
		inside, err = d.children(f, name, wasDir)
	case wasDir:
		err = d.hidden(name, nil)
	}
	if inside || differs(at, oldAt, &st, &oldSt) {
		d.add(name, Changed)
	}
	return err
}

// children reads a directory that f, an O_PATH descriptor, refers to.
func (d *differ) children(f *os.File, name string, below bool) (bool, error) {
	dir, err := os.Open(tree.FDPath(int(f.Fd())))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	return d.dir(dir, name, below)
}

func (d *differ) find(name string, below bool) (*os.File, error) {
	if !below {
		return nil, nil
	}
	f, err := openExact(d.lower, name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	return f, err
}

func differs(a, b tree.Attrs, sa, sb *unix.Stat_t) bool {
	if sa.Mode != sb.Mode || sa.Uid != sb.Uid || sa.Gid != sb.Gid || sa.Rdev != sb.Rdev {
		return true
	}
	if sa.Mode&unix.S_IFMT != unix.S_IFDIR && (sa.Size != sb.Size || sa.Mtim != sb.Mtim) {
		return true
	}
	return !bytes.Equal(capabilities(a), capabilities(b))
}

func capabilities(a tree.Attrs) []byte {
	for _, x := range a.Xattrs {
		if x.Name == "security.capability" {
			return x.Value
		}
	}
	return nil
}

// openExact opens a path without following any link.
func openExact(root *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Exists says whether a layer has a path, no link of it followed.
func Exists(root *os.File, name string) bool {
	f, err := openExact(root, name)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// Empty says whether a path is an empty file or directory.
func Empty(root *os.File, name string) bool {
	f, err := openExact(root, name)
	if err != nil {
		return false
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return st.Size == 0
	case unix.S_IFDIR:
		names, err := Names(root, name)
		return err == nil && len(names) == 0
	}
	return false
}

// Names are the names in a directory, sorted. The error is the bare errno where
// there is no directory.
func Names(root *os.File, name string) ([]string, error) {
	f, err := openExact(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd, err := unix.Open(tree.FDPath(int(f.Fd())), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	return readNames(dir)
}

func readNames(dir *os.File) ([]string, error) {
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// WriteLayer writes an upper directory as the archive of a layer: whiteouts and
// opaque directories become entries (OCI image specification, layer.md,
// "Whiteouts"). skip is that of Diff.
func WriteLayer(ctx context.Context, w io.Writer, upper *os.File, skip func(name string) bool) error {
	t := tar.NewWriter(w)
	err := tree.Pack(ctx, t, upper, tree.PackOptions{
		Skip: func(name string) bool { return name != "" && skip(name) },
		Entry: func(h *tar.Header, f *os.File) (after []*tar.Header, ok bool) {
			mark := &tar.Header{Typeflag: tar.TypeReg, Mode: 0o600, ModTime: h.ModTime, Format: tar.FormatPAX}
			switch {
			case h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0:
				dir, base := path.Split(h.Name)
				mark.Name = dir + whiteoutPrefix + base
				return []*tar.Header{mark}, false
			case h.Typeflag == tar.TypeDir && h.Name != "./" && isOpaque(int(f.Fd())):
				mark.Name = h.Name + opaqueName
				return []*tar.Header{mark}, true
			}
			return nil, true
		},
	})
	if err != nil {
		return err
	}
	return t.Close()
}
