package snapshot

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/tree"
	"github.com/brig-run/brig/internal/userns"
)

// replace makes something new under a name by create, which fails with EEXIST
// as long as something is there. Nothing is ever written into what was there:
// it could be a hard link to another file.
func (a *applier) replace(d dir, base string, create func(d dir) error) error {
	err := create(d)
	if err != unix.EEXIST {
		return err
	}
	// remove forgets the parent directory and closes its descriptor, so this
	// needs one of its own.
	fd, err := openDirAt(d.fd, ".", unix.O_PATH)
	if err != nil {
		return err
	}
	own := dir{fd, d.path}
	defer own.close()
	if err := a.remove(own, base); err != nil {
		return fmt.Errorf("remove the earlier entry of that name: %w", err)
	}
	return create(own)
}

func (a *applier) regular(d dir, base string, at tree.Attrs, content io.Reader, sparse bool) error {
	fd := -1
	err := a.replace(d, base, func(d dir) (err error) {
		fd, err = unix.Openat(d.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return fmt.Errorf("create file: %w", err)
	}
	defer unix.Close(fd)
	if err := a.copier.Copy(fd, content, sparse, a.ctx.Err); err != nil {
		return err
	}
	return tree.SetFile(fd, at)
}

func (a *applier) directory(d dir, base string, at tree.Attrs) error {
	// mkdir may forget the parent directory.
	path := d.child(base)
	own, err := openDirAt(d.fd, ".", unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(own)
	if err := a.mkdir(dir{own, d.path}, base); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	fd, err := openDirAt(own, base, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return a.setDir(fd, path, at)
}

func (a *applier) symlink(d dir, base string, at tree.Attrs, target string) error {
	err := a.replace(d, base, func(d dir) error {
		if err := unix.Symlinkat(target, d.fd, base); err != nil {
			return err
		}
		return tree.SetSpecial(d.fd, base, at, unix.S_IFLNK)
	})
	if err != nil {
		return fmt.Errorf("symbolic link to %q: %w", target, err)
	}
	return nil
}

// device makes a device node or a named pipe.
func (a *applier) device(d dir, base string, at tree.Attrs, h *tar.Header) error {
	kind, rdev, err := tree.DeviceOf(h)
	if err != nil {
		return err
	}
	return a.node(d, base, at, kind, rdev)
}

func (a *applier) node(d dir, base string, at tree.Attrs, kind uint32, rdev uint64) error {
	err := a.replace(d, base, func(d dir) error {
		err := unix.Mknodat(d.fd, base, kind|0o600, int(rdev))
		if err == unix.EPERM && kind != unix.S_IFIFO && userns.Inside() {
			return nil // a device, which nobody could use there
		}
		if err != nil {
			return err
		}
		return tree.SetSpecial(d.fd, base, at, kind)
	})
	if err != nil {
		return fmt.Errorf("make node: %w", err)
	}
	return nil
}

// hardLink makes path, which has no links in its directories, another name of
// the file target.
func (a *applier) hardLink(path, target string) error {
	targetName, err := tree.CleanName(target)
	if err != nil {
		return fmt.Errorf("link to %q: %w", target, err)
	}
	if err := a.linkTo(path, targetName); err != nil {
		return fmt.Errorf("link to %q: %w", target, err)
	}
	return nil
}

func (a *applier) linkTo(path, target string) error {
	parent, base := split(target)
	from := dir{fd: a.links}
	if parent != aufsLinks || a.links < 0 {
		var err error
		if from, err = a.open(parent); err != nil {
			return err
		}
		defer from.close()
	}
	if base == "" {
		return errors.New("the root can have no other name")
	}
	if err := a.copyUp(from, base); err != nil {
		return err
	}
	// Opened after copyUp, which may have made directories on the way.
	newParent, newBase := split(path)
	to, err := a.open(newParent)
	if err != nil {
		return err
	}
	defer to.close()
	if same, err := sameFile(from, base, to, newBase); same || err != nil {
		return err
	}
	return a.replace(to, newBase, func(d dir) error {
		return unix.Linkat(from.fd, base, d.fd, newBase, 0)
	})
}

// sameFile says whether two names are of one inode. The first must be there,
// and not be a directory or a whiteout.
func sameFile(a dir, aBase string, b dir, bBase string) (bool, error) {
	var sa, sb unix.Stat_t
	if err := unix.Fstatat(a.fd, aBase, &sa, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, err
	}
	if isWhiteout(&sa) {
		return false, os.ErrNotExist
	}
	if sa.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false, errors.New("it is a directory")
	}
	err := unix.Fstatat(b.fd, bBase, &sb, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && sa.Dev == sb.Dev && sa.Ino == sb.Ino, nil
}

// copyUp copies a file that only the layers below have into this one, under the
// same name, as overlayfs does before it links a file.
func (a *applier) copyUp(d dir, base string) error {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.ENOENT || d.fd == a.links {
		return err
	}
	fd, err := a.visible(d.child(base))
	if err != nil {
		return err
	}
	if fd < 0 {
		return os.ErrNotExist
	}
	defer unix.Close(fd)
	at, st, err := tree.ReadAttrs(fd)
	if err != nil {
		return err
	}
	switch kind := st.Mode & unix.S_IFMT; kind {
	case unix.S_IFREG:
		f, err := os.Open(tree.FDPath(fd))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := a.count(st.Size); err != nil {
			return err
		}
		return a.regular(d, base, at, f, true)
	case unix.S_IFLNK:
		target, err := readlinkat(fd, "")
		if err != nil {
			return err
		}
		return a.symlink(d, base, at, target)
	case unix.S_IFDIR:
		return errors.New("it is a directory")
	default:
		return a.node(d, base, at, kind, st.Rdev)
	}
}
