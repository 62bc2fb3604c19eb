package snapshot

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/tree"
)

// Names with these prefixes are instructions, not files (OCI image
// specification, layer.md, "Whiteouts"; the rest is bookkeeping of AUFS, which
// old versions of Docker used).
const (
	whiteoutPrefix = ".wh."
	aufsPrefix     = ".wh..wh."
	opaqueName     = ".wh..wh..opq"
	aufsLinks      = ".wh..wh.plnk"
)

// stack is the lower directories of the layers below, topmost first.
type stack []int

func (s stack) close() {
	for _, fd := range s {
		unix.Close(fd)
	}
}

// applier turns the entries of one tar stream into a lower directory.
type applier struct {
	ctx     context.Context
	root    int // the layer's directory
	lower   stack
	staging string // path of the directory that holds the layer's

	// recent is the directory of the previous entry, under the name that the
	// entry gave it: most entries follow one from the same directory.
	recent     dir
	recentName string
	hasRecent  bool

	// late has what is set on directories when all is unpacked: their times,
	// which a new file changes, and their default ACLs, which it inherits. By
	// path without links.
	late       map[string]tree.Attrs
	opaqueRoot bool
	links      int // AUFS's directory of hard link targets, or -1

	copier tree.Copier
	limits Limits
	bytes  int64 // of all files so far
}

// apply unpacks the tar stream into staging/fs, which it makes. It returns the
// bytes of all files. It reads no further than the end mark of the archive.
func apply(ctx context.Context, staging string, lower stack, limits Limits, r io.Reader) (int64, error) {
	if err := unix.Mkdir(staging+"/fs", 0o755); err != nil {
		return 0, &os.PathError{Op: "mkdir", Path: staging + "/fs", Err: err}
	}
	root, err := unix.Open(staging+"/fs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: staging + "/fs", Err: err}
	}
	a := &applier{ctx: ctx, root: root, lower: lower, staging: staging, late: make(map[string]tree.Attrs), links: -1, limits: limits}
	defer a.close()
	if err := a.begin(); err != nil {
		return 0, fmt.Errorf("root directory: %w", err)
	}
	archive := tar.NewReader(r)
	for n := int64(0); ; n++ {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		// The names are judged here, and by our own rules.
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return 0, fmt.Errorf("read tar entry %d: %w", n, err)
		}
		if n >= limits.Entries {
			return 0, fmt.Errorf("more than the limit of %d entries for one layer", limits.Entries)
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := a.entry(h, archive); err != nil {
			return 0, fmt.Errorf("tar entry %q: %w", h.Name, err)
		}
	}
	return a.bytes, a.finish()
}

func (a *applier) close() {
	a.forget()
	if a.links >= 0 {
		unix.Close(a.links)
	}
	unix.Close(a.root)
}

// begin gives the root directory its attributes: those of the layer below.
func (a *applier) begin() error {
	at := tree.Attrs{Mode: 0o755}
	if len(a.lower) > 0 {
		var err error
		if at, _, err = tree.ReadAttrs(a.lower[0]); err != nil {
			return err
		}
	}
	if err := a.setDir(a.root, "", at); err != nil {
		return err
	}
	if len(a.lower) == 0 {
		delete(a.late, "")
	}
	return nil
}

// finish does what must come after the last entry.
func (a *applier) finish() error {
	if a.opaqueRoot {
		if err := a.hideRoot(); err != nil {
			return fmt.Errorf("opaque root directory: %w", err)
		}
	}
	for path, at := range a.late {
		if err := a.finishDir(path, at); err != nil {
			return fmt.Errorf("directory %q: %w", path, err)
		}
	}
	if a.links >= 0 {
		return os.RemoveAll(a.staging + "/links")
	}
	return nil
}

func (a *applier) finishDir(path string, at tree.Attrs) error {
	fd, err := openBeneath(a.root, path, unix.O_RDONLY|unix.O_DIRECTORY)
	switch err {
	case nil:
	case unix.ENOENT, unix.ELOOP, unix.ENOTDIR:
		return nil // a later entry took its place
	default:
		return err
	}
	defer unix.Close(fd)
	if err := tree.SetXattrs(at.Xattrs, func(name string, value []byte) error {
		return unix.Fsetxattr(fd, name, value, 0)
	}); err != nil {
		return err
	}
	return tree.SetTimes(fd, "", at)
}

// setDir sets the attributes of the directory fd, those now that can be set
// now. What the directory had before goes.
func (a *applier) setDir(fd int, path string, at tree.Attrs) error {
	if err := clearXattrs(fd); err != nil {
		return err
	}
	late := tree.Attrs{ATime: at.ATime, MTime: at.MTime}
	now := at.Xattrs[:0:0]
	for _, x := range at.Xattrs {
		if x.Name == tree.DefaultACL {
			late.Xattrs = append(late.Xattrs, x)
		} else {
			now = append(now, x)
		}
	}
	at.Xattrs = now
	if err := tree.SetFile(fd, at); err != nil {
		return err
	}
	a.late[path] = late
	return nil
}

// clearXattrs takes the attributes away that a layer may set.
func clearXattrs(fd int) error {
	names, err := tree.ListXattrs(tree.FDPath(fd))
	if err != nil {
		return err
	}
	for _, name := range names {
		if !tree.Portable(name) {
			continue
		}
		if err := unix.Fremovexattr(fd, name); err != nil && err != unix.ENODATA {
			return fmt.Errorf("remove extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// split cuts the last component off.
func split(path string) (parent, base string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}

// parent opens the directory that an entry goes into. The result is the
// applier's; the caller does not close it.
func (a *applier) parent(name string) (dir, error) {
	if a.hasRecent && a.recentName == name {
		return a.recent, nil
	}
	d, err := a.open(name)
	if err != nil {
		return dir{}, err
	}
	a.forget()
	a.recent, a.recentName, a.hasRecent = d, name, true
	return d, nil
}

// forget drops the remembered directory. Needed whenever something is removed,
// since that may have been on the way to it.
func (a *applier) forget() {
	if a.hasRecent {
		a.recent.close()
		a.hasRecent = false
	}
}

// entry applies one entry of the archive.
func (a *applier) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // a comment, such as git-archive's
	}
	name, err := tree.CleanName(h.Name)
	if err != nil {
		return err
	}
	at, err := tree.HeaderAttrs(h)
	if err != nil {
		return err
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root can only be a directory")
		}
		return a.setDir(a.root, "", at)
	}
	parentName, base := split(name)
	if skip, err := a.aufs(parentName, base, h, at, content); skip || err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return a.whiteout(parentName, base)
	}
	d, err := a.parent(parentName)
	if err != nil {
		return err
	}
	if hasContent(h) {
		if err := a.count(h.Size); err != nil {
			return err
		}
		return a.regular(d, base, at, content, isSparse(h))
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return a.directory(d, base, at)
	case tar.TypeSymlink:
		return a.symlink(d, base, at, h.Linkname)
	case tar.TypeLink:
		return a.hardLink(d.child(base), h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return a.device(d, base, at, h)
	}
	return fmt.Errorf("unknown entry type %q", h.Typeflag)
}

// count adds the bytes of a file to those of the layer.
func (a *applier) count(size int64) error {
	if size > a.limits.Bytes-a.bytes {
		return fmt.Errorf("files larger than the limit of %d bytes for one layer", a.limits.Bytes)
	}
	a.bytes += size
	return nil
}

// hasContent says whether the entry is a regular file, in one of the archive
// format's four spellings.
func hasContent(h *tar.Header) bool {
	switch h.Typeflag {
	case tar.TypeReg, 0, tar.TypeCont, tar.TypeGNUSparse:
		return true
	}
	return false
}

// isSparse says whether the archive declares holes in the file.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// aufs handles what lies in a directory whose name has the whiteout prefix.
// AUFS kept the content of hard-linked files in one such directory, and the
// links point there; everything else of AUFS's is skipped.
func (a *applier) aufs(parent, base string, h *tar.Header, at tree.Attrs, content io.Reader) (skip bool, err error) {
	for part := range strings.SplitSeq(parent, "/") {
		if !strings.HasPrefix(part, whiteoutPrefix) {
			continue
		}
		if !strings.HasPrefix(part, aufsPrefix) {
			return false, fmt.Errorf("directory name %q is that of a whiteout", part)
		}
		if parent == aufsLinks && hasContent(h) {
			if err := a.count(h.Size); err != nil {
				return true, err
			}
			return true, a.aufsLink(base, at, content)
		}
		return true, nil
	}
	return strings.HasPrefix(base, aufsPrefix) && base != opaqueName, nil
}

// aufsLink keeps a hard link target of AUFS outside of the layer.
func (a *applier) aufsLink(base string, at tree.Attrs, content io.Reader) error {
	if a.links < 0 {
		path := a.staging + "/links"
		if err := unix.Mkdir(path, 0o700); err != nil {
			return &os.PathError{Op: "mkdir", Path: path, Err: err}
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		a.links = fd
	}
	return a.regular(dir{fd: a.links}, base, at, content, false)
}

// whiteout hides a name, or all names of a directory, of the layers below.
// What this layer itself has there stays: a whiteout concerns only the layers
// below, wherever in the archive it comes.
func (a *applier) whiteout(parentName, base string) error {
	if base == opaqueName && parentName == "" {
		a.opaqueRoot = true
		return nil
	}
	name := strings.TrimPrefix(base, whiteoutPrefix)
	if name == "" || name == "." || name == ".." {
		return errors.New("whiteout of no name")
	}
	d, err := a.parent(parentName)
	if err != nil {
		return err
	}
	if base == opaqueName {
		return a.setOpaque(d, ".")
	}
	return a.hide(d, name)
}

// hide makes a whiteout of the name, or an opaque directory when this layer has
// a directory there.
func (a *applier) hide(d dir, name string) error {
	err := unix.Mknodat(d.fd, name, unix.S_IFCHR, 0)
	if err != unix.EEXIST {
		return err
	}
	err = a.setOpaque(d, name)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return nil
	}
	return err
}

// hideRoot hides all that the layers below have in their root directories.
// Overlayfs takes no opaque root directory, so each name is hidden by itself.
func (a *applier) hideRoot() error {
	for _, layer := range a.lower {
		fd, err := openDirAt(layer, ".", unix.O_RDONLY)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "lower layer")
		names, err := f.Readdirnames(-1)
		f.Close()
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := a.hide(dir{fd: a.root}, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}
