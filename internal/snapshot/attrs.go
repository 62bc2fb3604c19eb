package snapshot

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attrs is what an inode has besides its content.
type attrs struct {
	uid, gid     int
	mode         uint32 // the twelve permission bits
	xattrs       []xattr
	atime, mtime unix.Timespec
}

type xattr struct {
	name  string
	value []byte
}

const defaultACL = "system.posix_acl_default"

// layerXattr says whether a layer may set the extended attribute. Those of
// overlayfs would let it redirect a directory or hide others' files. Labels of
// the host's security modules (security.selinux, security.ima, ...) belong to
// the host's policy, not to an image.
func layerXattr(name string) bool {
	switch {
	case strings.HasPrefix(name, "trusted.overlay."):
		return false
	case strings.HasPrefix(name, "user."), strings.HasPrefix(name, "trusted."):
		return true
	}
	switch name {
	case "security.capability", "system.posix_acl_access", defaultACL:
		return true
	}
	return false
}

// headerAttrs reads the attributes from a tar header.
func headerAttrs(h *tar.Header) (attrs, error) {
	// The largest 32-bit number means "leave it as it is" to chown(2).
	const top = 1<<32 - 2
	if h.Uid < 0 || h.Uid > top {
		return attrs{}, fmt.Errorf("user ID %d is out of range", h.Uid)
	}
	if h.Gid < 0 || h.Gid > top {
		return attrs{}, fmt.Errorf("group ID %d is out of range", h.Gid)
	}
	at := attrs{uid: h.Uid, gid: h.Gid, mode: uint32(h.Mode & 0o7777)}
	at.mtime = timespec(h.ModTime)
	at.atime = at.mtime
	if !h.AccessTime.IsZero() {
		at.atime = timespec(h.AccessTime)
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && layerXattr(name) {
			at.xattrs = append(at.xattrs, xattr{name, []byte(value)})
		}
	}
	return at, nil
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{}
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// inodeAttrs reads the attributes of the inode that fd, which may be an O_PATH
// descriptor, refers to.
func inodeAttrs(fd int) (attrs, unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return attrs{}, st, err
	}
	at := attrs{uid: int(st.Uid), gid: int(st.Gid), mode: st.Mode & 0o7777, atime: st.Atim, mtime: st.Mtim}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return at, st, nil // /proc/self/fd would lead on to the target
	}
	names, err := listXattrs(procPath(fd))
	if err != nil {
		return attrs{}, st, err
	}
	for _, name := range names {
		if !layerXattr(name) {
			continue
		}
		value, err := getXattr(procPath(fd), name)
		if err != nil {
			return attrs{}, st, err
		}
		at.xattrs = append(at.xattrs, xattr{name, value})
	}
	return at, st, nil
}

// procPath names what fd refers to; the kernel follows it to that very inode.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func listXattrs(path string) ([]string, error) {
	buf := make([]byte, 1024)
	for {
		n, err := unix.Listxattr(path, buf)
		if err == unix.ERANGE && len(buf) < 1<<16 {
			buf = make([]byte, 1<<16)
			continue
		}
		if err == unix.ENOTSUP {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list extended attributes: %w", err)
		}
		var names []string
		for name := range bytes.SplitSeq(buf[:n], []byte{0}) {
			if len(name) > 0 {
				names = append(names, string(name))
			}
		}
		return names, nil
	}
}

func getXattr(path, name string) ([]byte, error) {
	buf := make([]byte, 1<<16) // the largest value, XATTR_SIZE_MAX
	n, err := unix.Getxattr(path, name, buf)
	if err != nil {
		return nil, fmt.Errorf("get extended attribute %s: %w", name, err)
	}
	return buf[:n:n], nil
}

// setXattrs sets attributes through set. A file system without user or trusted
// attributes or ACLs loses them, as in Docker; a lost file capability would
// break a program, so it is an error. User attributes of what cannot have them
// (xattr(7): only files and directories can) are dropped.
func setXattrs(xattrs []xattr, set func(name string, value []byte) error) error {
	for _, x := range xattrs {
		err := set(x.name, x.value)
		switch {
		case err == nil:
		case err == unix.ENOTSUP && x.name != "security.capability":
		case err == unix.EPERM && strings.HasPrefix(x.name, "user."):
		default:
			return fmt.Errorf("set extended attribute %s (%d bytes): %w", x.name, len(x.value), err)
		}
	}
	return nil
}

// setFile sets the attributes of the regular file fd. The order matters:
// chown(2) takes away set-user-ID bits and file capabilities.
func setFile(fd int, at attrs) error {
	if err := unix.Fchown(fd, at.uid, at.gid); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", at.uid, at.gid, err)
	}
	if err := unix.Fchmod(fd, at.mode); err != nil {
		return fmt.Errorf("chmod to %o: %w", at.mode, err)
	}
	if err := setXattrs(at.xattrs, func(name string, value []byte) error {
		return unix.Fsetxattr(fd, name, value, 0)
	}); err != nil {
		return err
	}
	return setTimes(fd, "", at)
}

// setSpecial sets the attributes of the symbolic link, device or pipe base,
// which was made just now in the directory.
func setSpecial(dirfd int, base string, at attrs, link bool) error {
	if err := unix.Fchownat(dirfd, base, at.uid, at.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", at.uid, at.gid, err)
	}
	// Symbolic links have no mode. fchmodat would follow one; nobody else
	// writes here who could put one in the place of what was just made.
	if !link {
		if err := unix.Fchmodat(dirfd, base, at.mode, 0); err != nil {
			return fmt.Errorf("chmod to %o: %w", at.mode, err)
		}
	}
	path := procPath(dirfd) + "/" + base
	if err := setXattrs(at.xattrs, func(name string, value []byte) error {
		return unix.Lsetxattr(path, name, value, 0)
	}); err != nil {
		return err
	}
	return setTimes(dirfd, base, at)
}

// setTimes sets the times of base in the directory dirfd, or of dirfd itself
// when base is empty.
func setTimes(dirfd int, base string, at attrs) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if base == "" {
		flags = unix.AT_EMPTY_PATH
	}
	ts := []unix.Timespec{at.atime, at.mtime}
	if err := unix.UtimesNanoAt(dirfd, base, ts, flags); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}
