package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// copyTree copies the content of one directory into another that is empty, for
// tmpcopyup: files, directories, links, devices and pipes, with owners, modes,
// times and attributes. It goes by descriptors and follows no link, because
// the source belongs to an image.
func copyTree(from, to *os.File) error {
	src, err := reopenDir(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := reopenDir(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := copyDir(src, dst, 0); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	return unix.Fchown(int(dst.Fd()), int(st.Uid), int(st.Gid)) // the mode is the mount's option
}

func reopenDir(f *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(f.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// maxDepth bounds the descriptors that a copy holds open at a time.
const maxDepth = 400

func copyDir(src, dst *os.File, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: directories are nested more than %d deep", src.Name(), maxDepth)
	}
	names, err := src.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := copyEntry(src, dst, name, depth); err != nil {
			return err
		}
	}
	return nil
}

func copyEntry(src, dst *os.File, name string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return at(src, name, err)
	}
	s, d := int(src.Fd()), int(dst.Fd())
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		err = withBoth(src, dst, name, unix.O_RDONLY|unix.O_NONBLOCK, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, func(in, out *os.File) error {
			_, err := io.Copy(out, in)
			return errors.Join(err, finish(in, out, &st))
		})
	case unix.S_IFDIR:
		if err = unix.Mkdirat(d, name, 0o700); err == nil {
			err = withBoth(src, dst, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.O_RDONLY|unix.O_DIRECTORY, func(in, out *os.File) error {
				if err := copyDir(in, out, depth+1); err != nil {
					return err
				}
				return finish(in, out, &st)
			})
		}
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		var n int
		if n, err = unix.Readlinkat(s, name, buf); err == nil {
			err = unix.Symlinkat(string(buf[:n]), d, name)
		}
		err = errors.Join(err, setOwner(d, name, &st))
	case unix.S_IFSOCK: // nobody listens on a copy
	default:
		err = errors.Join(unix.Mknodat(d, name, st.Mode, int(st.Rdev)), setOwner(d, name, &st), unix.Fchmodat(d, name, st.Mode&0o7777, 0))
	}
	return at(src, name, err)
}

func at(dir *os.File, name string, err error) error {
	var pe *os.PathError
	if err == nil || errors.As(err, &pe) {
		return err
	}
	return &os.PathError{Op: "copy", Path: path.Join(dir.Name(), name), Err: err}
}

func setOwner(dir int, name string, st *unix.Stat_t) error {
	times := []unix.Timespec{st.Atim, st.Mtim}
	return errors.Join(unix.Fchownat(dir, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW),
		unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW))
}

// withBoth opens the same name in both directories.
func withBoth(src, dst *os.File, name string, sflags, dflags int, f func(in, out *os.File) error) error {
	const always = unix.O_NOFOLLOW | unix.O_CLOEXEC
	sfd, err := unix.Openat(int(src.Fd()), name, sflags|always, 0)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(sfd), path.Join(src.Name(), name))
	defer in.Close()
	dfd, err := unix.Openat(int(dst.Fd()), name, dflags|always, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(dfd), in.Name())
	defer out.Close()
	return f(in, out)
}

// finish gives a copy the owner, mode, attributes and times of its original.
func finish(in, out *os.File, st *unix.Stat_t) error {
	fd := int(out.Fd())
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(int(in.Fd()), fd); err != nil {
		return err
	}
	return unix.UtimesNanoAt(fd, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

// copyXattrs copies extended attributes, as far as the new file system can hold
// them.
func copyXattrs(in, out int) error {
	n, err := unix.Flistxattr(in, nil)
	if err != nil || n == 0 {
		return nil // a file system without
	}
	list := make([]byte, n)
	if n, err = unix.Flistxattr(in, list); err != nil {
		return err
	}
	for _, name := range strings.Split(strings.Trim(string(list[:n]), "\x00"), "\x00") {
		size, err := unix.Fgetxattr(in, name, nil)
		if err != nil {
			continue
		}
		value := make([]byte, size)
		if size, err = unix.Fgetxattr(in, name, value); err != nil {
			continue
		}
		if err := unix.Fsetxattr(out, name, value[:size], 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}
