package tree

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Attrs is what an inode has besides its content.
type Attrs struct {
	UID, GID     int
	Mode         uint32 // the twelve permission bits
	Xattrs       []Xattr
	ATime, MTime unix.Timespec
}

// Xattr is an extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// DefaultACL is the attribute that new files in a directory inherit.
const DefaultACL = "system.posix_acl_default"

// Portable says whether an archive may carry the extended attribute. Those of
// overlayfs, of either spelling, would let it redirect a directory or hide
// others' files. Labels of
// the host's security modules (security.selinux, security.ima, ...) belong to
// the host's policy, not to an image.
func Portable(name string) bool {
	switch {
	case strings.HasPrefix(name, "trusted.overlay."), strings.HasPrefix(name, "user.overlay."):
		return false
	case strings.HasPrefix(name, "user."), strings.HasPrefix(name, "trusted."):
		return true
	}
	switch name {
	case "security.capability", "system.posix_acl_access", DefaultACL:
		return true
	}
	return false
}

// HeaderAttrs reads the attributes from a tar header.
func HeaderAttrs(h *tar.Header) (Attrs, error) {
	// The largest 32-bit number means "leave it as it is" to chown(2).
	const top = 1<<32 - 2
	if h.Uid < 0 || h.Uid > top {
		return Attrs{}, fmt.Errorf("user ID %d is out of range", h.Uid)
	}
	if h.Gid < 0 || h.Gid > top {
		return Attrs{}, fmt.Errorf("group ID %d is out of range", h.Gid)
	}
	at := Attrs{UID: h.Uid, GID: h.Gid, Mode: uint32(h.Mode & 0o7777)}
	at.MTime = timespec(h.ModTime)
	at.ATime = at.MTime
	if !h.AccessTime.IsZero() {
		at.ATime = timespec(h.AccessTime)
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && Portable(name) {
			at.Xattrs = append(at.Xattrs, Xattr{name, []byte(value)})
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

// ReadAttrs reads the attributes of the inode that fd, which may be an O_PATH
// descriptor, refers to.
func ReadAttrs(fd int) (Attrs, unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Attrs{}, st, err
	}
	at := Attrs{UID: int(st.Uid), GID: int(st.Gid), Mode: st.Mode & 0o7777, ATime: st.Atim, MTime: st.Mtim}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return at, st, nil // /proc/self/fd would lead on to the target
	}
	names, err := ListXattrs(FDPath(fd))
	if err != nil {
		return Attrs{}, st, err
	}
	for _, name := range names {
		if !Portable(name) {
			continue
		}
		value, err := getXattr(FDPath(fd), name)
		if err != nil {
			return Attrs{}, st, err
		}
		at.Xattrs = append(at.Xattrs, Xattr{name, value})
	}
	return at, st, nil
}

// FDPath names what fd refers to; the kernel follows it to that very inode.
func FDPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func ListXattrs(path string) ([]string, error) {
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

// SetXattrs sets attributes through set. A file system without user or trusted
// attributes or ACLs loses them, as in Docker; a lost file capability would
// break a program, so it is an error. User attributes of what cannot have them
// (xattr(7): only files and directories can) are dropped.
func SetXattrs(xattrs []Xattr, set func(name string, value []byte) error) error {
	for _, x := range xattrs {
		err := set(x.Name, x.Value)
		switch {
		case err == nil:
		case err == unix.ENOTSUP && x.Name != "security.capability":
		case err == unix.EPERM && strings.HasPrefix(x.Name, "user."):
		default:
			return fmt.Errorf("set extended attribute %s (%d bytes): %w", x.Name, len(x.Value), err)
		}
	}
	return nil
}

// SetFile sets the attributes of the regular file fd. The order matters:
// chown(2) takes away set-user-ID bits and file capabilities.
func SetFile(fd int, at Attrs) error {
	if err := unix.Fchown(fd, at.UID, at.GID); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", at.UID, at.GID, err)
	}
	if err := unix.Fchmod(fd, at.Mode); err != nil {
		return fmt.Errorf("chmod to %o: %w", at.Mode, err)
	}
	if err := SetXattrs(at.Xattrs, func(name string, value []byte) error {
		return unix.Fsetxattr(fd, name, value, 0)
	}); err != nil {
		return err
	}
	return SetTimes(fd, "", at)
}

// SetSpecial sets the attributes of the symbolic link, device or pipe base,
// which was made just now in the directory. A container may have put something
// else in its place since: nothing is followed, and what is not of the kind is
// an error.
func SetSpecial(dirfd int, base string, at Attrs, kind uint32) error {
	fd, err := unix.Openat(dirfd, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != kind {
		return fmt.Errorf("%s was replaced while it was made", base)
	}
	if err := unix.Fchownat(fd, "", at.UID, at.GID, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", at.UID, at.GID, err)
	}
	path, set := FDPath(fd), unix.Setxattr
	if kind == unix.S_IFLNK {
		path, set = FDPath(dirfd)+"/"+base, unix.Lsetxattr // the way by the descriptor would lead on
	} else if err := unix.Chmod(path, at.Mode); err != nil { // symbolic links have no mode
		return fmt.Errorf("chmod to %o: %w", at.Mode, err)
	}
	if err := SetXattrs(at.Xattrs, func(name string, value []byte) error {
		return set(path, name, value, 0)
	}); err != nil {
		return err
	}
	return SetTimes(fd, "", at)
}

// SetTimes sets the times of base in the directory dirfd, or of dirfd itself
// when base is empty.
func SetTimes(dirfd int, base string, at Attrs) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if base == "" {
		flags = unix.AT_EMPTY_PATH
	}
	ts := []unix.Timespec{at.ATime, at.MTime}
	if err := unix.UtimesNanoAt(dirfd, base, ts, flags); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}
