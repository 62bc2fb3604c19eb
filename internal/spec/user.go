package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxUserFile bounds /etc/passwd and /etc/group of an image.
const maxUserFile = 8 << 20

// lookupUser finds a user as Docker does: numbers need no entry, names do; the
// groups that list the user come along unless a group is given; added groups
// come last. The home directory is "" if there is no entry.
func lookupUser(root *os.File, spec string, groupAdd []string) (specs.User, string, error) {
	passwd, err := readInRoot(root, "etc/passwd")
	if err != nil {
		return specs.User{}, "", err
	}
	group, err := readInRoot(root, "etc/group")
	if err != nil {
		return specs.User{}, "", err
	}
	return resolveUser(spec, groupAdd, passwd, group)
}

// resolveUser works on the contents of the two files; nil is a missing file.
func resolveUser(spec string, groupAdd []string, passwd, group []byte) (specs.User, string, error) {
	for _, g := range groupAdd {
		// The library takes an empty name badly.
		if _, err := ParseGroupAdd(g); err != nil {
			return specs.User{}, "", err
		}
	}
	passwd, group = numbered(passwd, 2, 3), numbered(group, 2)
	u, err := user.GetExecUser(spec, nil, reader(passwd), reader(group))
	if err != nil {
		return specs.User{}, "", err
	}
	added, err := user.GetAdditionalGroups(groupAdd, reader(group))
	if err != nil {
		return specs.User{}, "", err
	}
	slices.Sort(added) // the library's order is random
	out := specs.User{AdditionalGids: make([]uint32, 0, 1+len(u.Sgids)+len(added))}
	if out.UID, err = kernelID(u.Uid); err != nil {
		return specs.User{}, "", fmt.Errorf("user %q: %w", spec, err)
	}
	if out.GID, err = kernelID(u.Gid); err != nil {
		return specs.User{}, "", fmt.Errorf("group of user %q: %w", spec, err)
	}
	out.AdditionalGids = append(out.AdditionalGids, out.GID)
	for _, g := range slices.Concat(u.Sgids, added) {
		gid, err := kernelID(g)
		if err != nil {
			return specs.User{}, "", fmt.Errorf("group of user %q: %w", spec, err)
		}
		if !slices.Contains(out.AdditionalGids, gid) {
			out.AdditionalGids = append(out.AdditionalGids, gid)
		}
	}
	return out, u.Home, nil
}

// numbered keeps the lines of a passwd or group file whose given fields are
// numbers. The library reads any other text there as 0, so that a broken line
// would make its user root; the C library skips such lines too.
func numbered(file []byte, fields ...int) []byte {
	if file == nil {
		return nil
	}
	kept := make([]byte, 0, len(file))
	for line := range bytes.Lines(file) {
		parts := bytes.Split(bytes.TrimSpace(line), []byte(":"))
		ok := true
		for _, i := range fields {
			if ok = ok && i < len(parts); ok {
				_, err := strconv.Atoi(string(parts[i]))
				ok = err == nil
			}
		}
		if ok {
			kept = append(kept, line...)
		}
	}
	return kept
}

// kernelID refuses what a 32-bit ID would turn into another user, root first of
// all: entries of a passwd file are not checked by the library.
func kernelID(id int) (uint32, error) {
	if id < 0 || id > 1<<31-1 {
		return 0, user.ErrRange
	}
	return uint32(id), nil
}

// reader gives nil, the interface, for a missing file.
func reader(b []byte) io.Reader {
	if b == nil {
		return nil
	}
	return bytes.NewReader(b)
}

// readInRoot reads a regular file below root with every link resolved inside
// root. A missing file is nil without an error. The file is opened for reading
// only after it has shown to be a regular one: an image may hold a FIFO, which
// would block, or a device, which would act.
func readInRoot(root *os.File, path string) ([]byte, error) {
	if root == nil {
		return nil, nil
	}
	fd, err := openInRoot(int(root.Fd()), path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open /%s in the container's root: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat /%s in the container's root: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("/%s in the container's root is not a regular file", path)
	}
	if st.Size > maxUserFile {
		return nil, fmt.Errorf("/%s in the container's root has %d bytes; at most %d are read", path, st.Size, maxUserFile)
	}
	f, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(fd), os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open /%s in the container's root: %w", path, err)
	}
	defer f.Close()
	b := make([]byte, st.Size)
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("read /%s in the container's root: %w", path, err)
	}
	return b[:n], nil
}

// openInRoot gives an O_PATH descriptor. The kernel answers EAGAIN when a
// rename anywhere races with ".." in the path (openat2(2)).
func openInRoot(root int, path string) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for range 32 {
		fd, err = unix.Openat2(root, path, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			break
		}
	}
	return fd, err
}
