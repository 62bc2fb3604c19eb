package snapshot

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
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

func (a *applier) regular(d dir, base string, at attrs, content io.Reader, sparse bool) error {
	fd := -1
	err := a.replace(d, base, func(d dir) (err error) {
		fd, err = unix.Openat(d.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return fmt.Errorf("create file: %w", err)
	}
	defer unix.Close(fd)
	if err := a.copier.copy(fd, content, sparse, a.ctx.Err); err != nil {
		return err
	}
	return setFile(fd, at)
}

func (a *applier) directory(d dir, base string, at attrs) error {
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

func (a *applier) symlink(d dir, base string, at attrs, target string) error {
	err := a.replace(d, base, func(d dir) error {
		if err := unix.Symlinkat(target, d.fd, base); err != nil {
			return err
		}
		return setSpecial(d.fd, base, at, true)
	})
	if err != nil {
		return fmt.Errorf("symbolic link to %q: %w", target, err)
	}
	return nil
}

// device makes a device node or a named pipe.
func (a *applier) device(d dir, base string, at attrs, h *tar.Header) error {
	kind, rdev := uint32(unix.S_IFIFO), uint64(0)
	if h.Typeflag != tar.TypeFifo {
		// The kernel's device numbers have 12 and 20 bits (mknod(2) would cut
		// off the rest).
		if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
			return fmt.Errorf("device number %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		kind = unix.S_IFCHR
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	}
	return a.node(d, base, at, kind, rdev)
}

func (a *applier) node(d dir, base string, at attrs, kind uint32, rdev uint64) error {
	err := a.replace(d, base, func(d dir) error {
		if err := unix.Mknodat(d.fd, base, kind|0o600, int(rdev)); err != nil {
			return err
		}
		return setSpecial(d.fd, base, at, false)
	})
	if err != nil {
		return fmt.Errorf("make node: %w", err)
	}
	return nil
}

// hardLink makes path, which has no links in its directories, another name of
// the file target.
func (a *applier) hardLink(path, target string) error {
	targetName, err := cleanName(target)
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
	at, st, err := inodeAttrs(fd)
	if err != nil {
		return err
	}
	switch kind := st.Mode & unix.S_IFMT; kind {
	case unix.S_IFREG:
		f, err := os.Open(procPath(fd))
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

// copier writes the content of files, with one buffer for all.
type copier struct{ buf []byte }

const (
	copySize = 256 << 10
	// Where the archive declares holes they are kept to the block. Elsewhere
	// only long runs of zeros become holes: most archives of sparse files,
	// Docker's among them, hold the zeros themselves (of a terabyte-sized
	// /var/log/lastlog, for one), while small holes only tear files apart.
	declaredHole = 4 << 10
	foundHole    = 64 << 10
)

// copy writes all of content into the new, empty file fd.
func (c *copier) copy(fd int, content io.Reader, sparse bool, check func() error) error {
	if c.buf == nil {
		c.buf = make([]byte, copySize)
	}
	hole := foundHole
	if sparse {
		hole = declaredHole
	}
	var size, written int64
	for {
		n, err := io.ReadFull(content, c.buf)
		if n > 0 {
			var werr error
			if written, werr = writeData(fd, c.buf[:n], size, hole, written); werr != nil {
				return fmt.Errorf("write: %w", werr)
			}
			size += int64(n)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read content: %w", err)
		}
		if err := check(); err != nil {
			return err
		}
	}
	if written < size {
		if err := unix.Ftruncate(fd, size); err != nil {
			return fmt.Errorf("extend to %d bytes: %w", size, err)
		}
	}
	return nil
}

// writeData writes b at the offset, except for aligned runs of zeros of the
// hole's size. It returns the end of what was written last.
func writeData(fd int, b []byte, off int64, hole int, written int64) (int64, error) {
	for len(b) > 0 {
		// n bytes of one kind: all holes, or all data.
		n, zero := 0, false
		for n < len(b) {
			piece := b[n:min(n+hole, len(b))]
			z := len(piece) == hole && isZero(piece)
			if n > 0 && z != zero {
				break
			}
			zero = z
			n += len(piece)
		}
		if !zero {
			if err := pwriteAll(fd, b[:n], off); err != nil {
				return written, err
			}
			written = off + int64(n)
		}
		b, off = b[n:], off+int64(n)
	}
	return written, nil
}

func isZero(b []byte) bool {
	// Comparing with itself, one byte apart, needs no second buffer.
	return b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:])
}

func pwriteAll(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
