package tree

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links one path may lead through, as in the
// kernel, path_resolution(7).
const maxLinks = 40

// Open opens a path of a tree by openat2(2): links are followed with root as
// their root, and magic links not at all. O_NOFOLLOW in flags concerns the last
// component. The error is the bare errno.
func Open(root *os.File, name string, flags int) (*os.File, error) {
	return open(root, name, flags, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

func open(root *os.File, name string, flags int, resolve uint64) (*os.File, error) {
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: resolve}
	if name == "" {
		name = "."
	}
	// A rename in the tree makes the kernel give up with EAGAIN, openat2(2). A
	// container can do that for ever.
	for try := 0; ; try++ {
		fd, err := unix.Openat2(int(root.Fd()), name, how)
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if err != unix.EINTR && (err != unix.EAGAIN || try > 1000) {
			return nil, err
		}
	}
}

// Stat is the inode that a path of a tree names; a link in the last component
// is not followed.
func Stat(root *os.File, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := Open(root, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return st, err
	}
	defer f.Close()
	return st, unix.Fstat(int(f.Fd()), &st)
}

// Readlink is the target of a link.
func Readlink(root *os.File, name string) (string, error) {
	f, err := Open(root, name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readlink(f)
}

func readlink(f *os.File) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// Resolve follows all links of a path of a tree and returns the path without
// them, absolute. What the path names need not exist: Resolve goes as far as
// there is something. The answer is only a name; whoever uses it opens it
// confined again.
func Resolve(root *os.File, name string) (string, error) {
	done, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..": // done has no links left
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		target, err := Readlink(root, next)
		if err != nil { // not a link (EINVAL or ENOENT, readlink(2)), or missing
			if errors.Is(err, unix.ELOOP) {
				return "", err
			}
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", unix.ELOOP
		}
		if strings.HasPrefix(target, "/") {
			done = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done, nil
}

// MkdirAll opens a directory of a tree; what is missing of it is made with mode
// 0755, for the owner given.
func MkdirAll(root *os.File, name string, uid, gid int) (*os.File, error) {
	dir, err := Open(root, name, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, unix.ENOENT) {
		return dir, err
	}
	// A link to nothing is made to lead somewhere, as in a start.
	if name, err = Resolve(root, name); err != nil {
		return nil, err
	}
	parent, base := path.Split(name)
	if base == "" {
		return nil, unix.ENOENT
	}
	up, err := MkdirAll(root, path.Clean(parent), uid, gid)
	if err != nil {
		return nil, err
	}
	defer up.Close()
	return mkdir(up, base, uid, gid)
}

// mkdir makes a directory of mode 0755, or opens the one that is there.
func mkdir(up *os.File, base string, uid, gid int) (*os.File, error) {
	err := unix.Mkdirat(int(up.Fd()), base, 0o700)
	if err != nil && err != unix.EEXIST {
		return nil, err
	}
	fd, oerr := unix.Openat(int(up.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if oerr != nil {
		return nil, oerr
	}
	dir := os.NewFile(uintptr(fd), base)
	if err == nil {
		if err := SetFile(fd, Attrs{UID: uid, GID: gid, Mode: 0o755, ATime: now(), MTime: now()}); err != nil {
			dir.Close()
			return nil, err
		}
	}
	return dir, nil
}

// now is the time of "set it to now", utimensat(2).
func now() unix.Timespec { return unix.Timespec{Nsec: unix.UTIME_NOW} }

// reopen opens what an O_PATH descriptor refers to for reading: the very inode,
// whatever has happened to its name.
func reopen(f *os.File, flags int) (*os.File, error) {
	fd, err := unix.Open(FDPath(int(f.Fd())), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
