package snapshot

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/tree"
	"github.com/brig-run/brig/internal/userns"
)

// maxDepth is how deep directories may nest. Deleting a tree holds a descriptor
// for each level, and the usual limit of those is 1024. (A path of PATH_MAX
// bytes has up to 2048 levels; trees of real images stay below 60.)
const maxDepth = 500

// maxLinks is how many symbolic links one path may lead through, as in the
// kernel (path_resolution(7)).
const maxLinks = 40

// dir is an open directory of the layer.
type dir struct {
	fd   int    // O_PATH or readable
	path string // relative to the layer, without links; "" for its root
}

func (d dir) close() { unix.Close(d.fd) }

// child is the path of a name in the directory.
func (d dir) child(base string) string {
	if d.path == "" {
		return base
	}
	return d.path + "/" + base
}

// openDirAt opens a directory by one name, and nothing that a link points to.
func openDirAt(dirfd int, base string, how int) (int, error) {
	return unix.Openat(dirfd, base, how|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// openBeneath opens a path of several names, of which none may be a link.
func openBeneath(root int, path string, flags int) (int, error) {
	if path == "" {
		path = "."
	}
	for {
		fd, err := unix.Openat2(root, path, &unix.OpenHow{
			Flags:   uint64(flags | unix.O_CLOEXEC),
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
		})
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// open returns the directory of that path in the layer. Missing directories are
// made; symbolic links that the layer itself holds are followed, with the layer
// as their root.
func (a *applier) open(path string) (dir, error) {
	if strings.Count(path, "/") >= maxDepth {
		return dir{}, fmt.Errorf("more than %d directories deep", maxDepth)
	}
	fd, err := openBeneath(a.root, path, unix.O_PATH|unix.O_DIRECTORY)
	switch err {
	case nil:
		return dir{fd, path}, nil
	case unix.ENOENT, unix.ELOOP, unix.ENOTDIR:
		return a.walk(path)
	}
	return dir{}, fmt.Errorf("open directory %s: %w", path, err)
}

// walk is open for paths with links or with missing directories: one name at a
// time, each relative to a descriptor, so that whatever the links say the walk
// cannot leave the layer.
func (a *applier) walk(path string) (dir, error) {
	var names []string // the directories entered, below the layer's root
	at := dir{fd: -1}
	reset := func(to []string) error { // go to a directory reached before
		at.close()
		fd, err := openBeneath(a.root, strings.Join(to, "/"), unix.O_PATH|unix.O_DIRECTORY)
		names, at = to, dir{fd, strings.Join(to, "/")}
		return err
	}
	if err := reset(nil); err != nil {
		return dir{}, err
	}
	links := 0
	rest := strings.Split(path, "/")
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		var err error
		switch name {
		case "", ".":
			continue
		case "..": // from a link's target; the root is its own parent
			err = reset(names[:max(len(names)-1, 0)])
			if err != nil {
				return dir{}, err
			}
			continue
		}
		var next int
		next, err = a.enter(at, name)
		if err == nil {
			at.close()
			names = append(names[:len(names):len(names)], name)
			at = dir{next, at.child(name)}
			if len(names) > maxDepth {
				err = fmt.Errorf("more than %d directories deep", maxDepth)
			} else {
				continue
			}
		}
		if link := (*linkError)(nil); errors.As(err, &link) {
			if links++; links > maxLinks {
				at.close()
				return dir{}, fmt.Errorf("directory %s: %w", path, unix.ELOOP)
			}
			rest = append(strings.Split(link.target, "/"), rest...)
			if !strings.HasPrefix(link.target, "/") {
				continue
			}
			err = reset(nil)
			if err == nil {
				continue
			}
		}
		at.close()
		return dir{}, fmt.Errorf("directory %s: %w", path, err)
	}
	return at, nil
}

// linkError says that a name is a symbolic link.
type linkError struct{ target string }

func (e *linkError) Error() string { return "symbolic link to " + e.target }

// enter opens the directory name in d, and makes it when it is missing or was
// deleted by the layer. It returns a *linkError for a symbolic link.
func (a *applier) enter(d dir, name string) (int, error) {
	for {
		fd, err := openDirAt(d.fd, name, unix.O_PATH)
		if err == nil {
			return fd, nil
		}
		if err == unix.ENOENT {
			err = a.imply(d, name)
			if err == nil {
				continue
			}
			return -1, err
		}
		if err != unix.ENOTDIR && err != unix.ELOOP {
			return -1, err
		}
		var st unix.Stat_t
		if err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return -1, err
		}
		switch {
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			target, err := readlinkat(d.fd, name)
			if err != nil {
				return -1, err
			}
			return -1, &linkError{target}
		case isWhiteout(&st):
			if err := a.mkdir(d, name); err != nil {
				return -1, err
			}
			continue
		}
		return -1, fmt.Errorf("%s is not a directory", d.child(name))
	}
}

// imply makes a directory that the layer only implies by an entry below it. It
// is the one of the layers below, when they have one there, so it takes its
// attributes from it.
func (a *applier) imply(d dir, name string) error {
	path := d.child(name)
	at, found, err := a.lowerDir(path)
	if err != nil {
		return err
	}
	if err := a.mkdir(d, name); err != nil {
		return err
	}
	if !found {
		// Exactly this mode, whatever the umask.
		at = tree.Attrs{Mode: 0o755}
	}
	fd, err := openDirAt(d.fd, name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := a.setDir(fd, path, at); err != nil {
		return err
	}
	if !found {
		delete(a.late, path)
	}
	return nil
}

// lowerDir returns the attributes of the directory path in the layers below.
func (a *applier) lowerDir(path string) (tree.Attrs, bool, error) {
	fd, err := a.visible(path)
	if err != nil || fd < 0 {
		return tree.Attrs{}, false, err
	}
	defer unix.Close(fd)
	at, st, err := tree.ReadAttrs(fd)
	return at, st.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// visible opens what path is in the view of this layer and those below, with
// O_PATH and without following links. It returns -1 when there is nothing.
func (a *applier) visible(path string) (int, error) {
	fd, last, err := a.find(a.root, path)
	for i := 0; fd < 0 && !last && err == nil && i < len(a.lower); i++ {
		fd, last, err = a.find(a.lower[i], path)
	}
	return fd, err
}

// find opens path in one layer, or returns -1. last says that the layer hides
// the ones below it: by a whiteout, an opaque directory, or something in the
// place of a directory.
func (a *applier) find(layer int, path string) (fd int, last bool, err error) {
	cur := layer
	defer func() {
		if cur != layer && cur != fd {
			unix.Close(cur)
		}
	}()
	for name, rest, more := "", path, true; more; {
		name, rest, more = strings.Cut(rest, "/")
		next, err := unix.Openat(cur, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		switch err {
		case nil:
		case unix.ENOENT:
			return -1, last, nil
		default:
			return -1, true, err
		}
		if cur != layer {
			unix.Close(cur)
		}
		cur = next
		var st unix.Stat_t
		if err := unix.Fstat(cur, &st); err != nil {
			return -1, true, err
		}
		if isWhiteout(&st) || more && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return -1, true, nil
		}
		if more && isOpaque(cur) {
			last = true
		}
	}
	return cur, last, nil
}

// mkdir makes a directory, or finds one there. In the place of something else
// it must not show what layers below have under its name: it gets opaque.
func (a *applier) mkdir(d dir, base string) error {
	err := unix.Mkdirat(d.fd, base, 0o700)
	if err == nil {
		delete(a.late, d.child(base))
		return nil
	}
	if err != unix.EEXIST {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if err := unix.Unlinkat(d.fd, base, 0); err != nil {
		return err
	}
	a.forget()
	if err := unix.Mkdirat(d.fd, base, 0o700); err != nil {
		return err
	}
	delete(a.late, d.child(base))
	return a.setOpaque(d, base)
}

// setOpaque makes the directory base hide those of the layers below. base may
// be ".".
func (a *applier) setOpaque(d dir, base string) error {
	fd, err := openDirAt(d.fd, base, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fsetxattr(fd, opaqueXattr(), []byte("y"), 0); err != nil {
		return fmt.Errorf("make the directory opaque: set extended attribute %s: %w", opaqueXattr(), err)
	}
	return nil
}

// opaqueXattr is the attribute by which overlayfs knows an opaque directory. In a
// user namespace nobody may set trusted ones, and overlayfs is mounted with the
// option userxattr there (Documentation/filesystems/overlayfs.rst).
func opaqueXattr() string {
	if userns.Inside() {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// isOpaque says whether the directory hides those of the layers below.
func isOpaque(fd int) bool {
	var b [1]byte
	n, err := unix.Getxattr(tree.FDPath(fd), opaqueXattr(), b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

// isWhiteout says whether the inode is overlayfs's mark of a deleted name.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// remove deletes base, whatever it is, with all that is in it.
func (a *applier) remove(d dir, base string) error {
	a.forget()
	err := unix.Unlinkat(d.fd, base, 0)
	if err != unix.EISDIR {
		return err
	}
	root, err := os.OpenRoot(tree.FDPath(d.fd))
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(base)
}

func readlinkat(dirfd int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dirfd, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
