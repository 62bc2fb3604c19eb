package tree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// UnpackOptions say how an archive's entries become files.
type UnpackOptions struct {
	// Dir is the path below the root that the entries' names are relative to.
	Dir string
	// Rename replaces the first component of every name, if it is From; "" is a
	// root of the archive, or the directory itself.
	From, To string
	// Owner gives the user and group for those of the archive; nil keeps them.
	Owner func(uid, gid int) (int, int)
	// Tame takes away set-user-ID and set-group-ID bits, capabilities, and
	// device nodes (which are an error): for files that a container hands to
	// the host.
	Tame bool
	// NoLinks refuses to go through links that are in the way, which else are
	// followed with the root as their root.
	NoLinks bool
	// Entries and Bytes are the largest number of entries and of the bytes of all
	// files, holes counted; 0 is no limit.
	Entries, Bytes int64
}

// Unpack reads an archive and makes its files below a directory of the tree
// root. Directories that are there are kept, and take the attributes of the
// archive's; other files are replaced. A directory is never replaced by
// something else, nor the other way round.
func Unpack(ctx context.Context, root *os.File, r io.Reader, o UnpackOptions) error {
	u := &unpacker{ctx: ctx, root: root, o: o, late: map[string]lateDir{}}
	archive := tar.NewReader(WithContext(ctx, r))
	for n := int64(0); ; n++ {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // names are judged here
			return fmt.Errorf("read tar entry %d: %w", n, err)
		}
		if o.Entries > 0 && n >= o.Entries {
			return fmt.Errorf("more than the limit of %d entries", o.Entries)
		}
		if u.bytes += h.Size; o.Bytes > 0 && (u.bytes > o.Bytes || u.bytes < 0) {
			return fmt.Errorf("more than the limit of %d bytes", o.Bytes)
		}
		if err := u.entry(h, archive); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
	return u.finish()
}

type unpacker struct {
	ctx    context.Context
	root   *os.File
	o      UnpackOptions
	late   map[string]lateDir // attributes of directories, set when all is in them
	copier Copier
	bytes  int64 // of all files so far
}

// lateDir is a directory that was made or found, and what it shall have.
type lateDir struct {
	id inode
	at Attrs
}

// CleanName returns an archive's name relative to the archive's root, "" for
// the root itself. Names with ".." are refused, even those that would stay
// inside: no archiver writes them.
func CleanName(name string) (string, error) {
	if len(name) >= unix.PathMax {
		return "", fmt.Errorf("name of %d bytes: longer than %d", len(name), unix.PathMax-1)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", errors.New("name with a zero byte")
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			return "", errors.New("name with a .. component")
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "/"), nil
}

// rename applies From and To to a clean name.
func (u *unpacker) rename(name string) string {
	if u.o.From == u.o.To {
		return name
	}
	rest := name
	if u.o.From != "" {
		first, more, _ := strings.Cut(name, "/")
		if first != u.o.From {
			return name
		}
		rest = more
	}
	return strings.Trim(path.Join(u.o.To, rest), "/")
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := CleanName(h.Name)
	if err != nil {
		return err
	}
	name = u.rename(name)
	at, err := HeaderAttrs(h)
	if err != nil {
		return err
	}
	u.tame(&at)
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root can only be a directory")
		}
		dir, err := u.open("")
		if err != nil {
			return err
		}
		defer dir.Close()
		return u.setLate("", int(dir.Fd()), at)
	}
	dir, base, err := u.parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if h.Typeflag == tar.TypeDir {
		return u.directory(dir, base, name, at)
	}
	if err := u.makeRoom(dir, base); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, 0, tar.TypeCont, tar.TypeGNUSparse:
		return u.regular(dir, base, at, content)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, int(dir.Fd()), base); err != nil {
			return err
		}
		return SetSpecial(int(dir.Fd()), base, at, unix.S_IFLNK)
	case tar.TypeLink:
		return u.hardLink(dir, base, h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return u.node(dir, base, at, h)
	}
	return fmt.Errorf("unknown entry type %q", h.Typeflag)
}

// tame adjusts an entry's attributes to the options.
func (u *unpacker) tame(at *Attrs) {
	if u.o.Owner != nil {
		at.UID, at.GID = u.o.Owner(at.UID, at.GID)
	}
	if u.o.Tame {
		at.Mode &^= unix.S_ISUID | unix.S_ISGID
		var kept []Xattr
		for _, x := range at.Xattrs {
			if strings.HasPrefix(x.Name, "user.") {
				kept = append(kept, x)
			}
		}
		at.Xattrs = kept
	}
}

// open opens a directory below the one that is unpacked into.
func (u *unpacker) open(name string) (*os.File, error) {
	if u.o.NoLinks {
		return open(u.root, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	}
	return Open(u.root, path.Join(u.o.Dir, name), unix.O_RDONLY|unix.O_DIRECTORY)
}

// parent opens the directory that an entry goes into, made if it is missing.
func (u *unpacker) parent(name string) (dir *os.File, base string, err error) {
	up, base := path.Split(name)
	dir, err = u.open(up)
	if !errors.Is(err, unix.ENOENT) {
		return dir, base, err
	}
	up = strings.TrimSuffix(up, "/")
	above, last, err := u.parent(up)
	if err != nil {
		return nil, "", err
	}
	defer above.Close()
	uid, gid := 0, 0
	if u.o.Owner != nil {
		uid, gid = u.o.Owner(0, 0)
	}
	dir, err = mkdir(above, last, uid, gid)
	return dir, base, err
}

func (u *unpacker) directory(dir *os.File, base, name string, at Attrs) error {
	err := unix.Mkdirat(int(dir.Fd()), base, 0o700)
	if err != nil && err != unix.EEXIST {
		return err
	}
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
	case unix.ENOTDIR, unix.ELOOP:
		return errors.New("cannot overwrite non-directory with directory")
	default:
		return err
	}
	defer unix.Close(fd)
	return u.setLate(name, fd, at)
}

// setLate leaves a directory's attributes to finish: files that are made in it
// change its times and inherit its default ACL.
func (u *unpacker) setLate(name string, fd int, at Attrs) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	u.late[name] = lateDir{inode{st.Dev, st.Ino}, at}
	return nil
}

// makeRoom removes what has the name, unless that is a directory.
func (u *unpacker) makeRoom(dir *os.File, base string) error {
	err := unix.Unlinkat(int(dir.Fd()), base, 0)
	switch err {
	case nil, unix.ENOENT:
		return nil
	case unix.EISDIR:
		return errors.New("cannot overwrite directory with non-directory")
	case unix.EBUSY:
		return errors.New("it is a mount point: copy to it, not over it")
	}
	return fmt.Errorf("replace: %w", err)
}

func (u *unpacker) regular(dir *os.File, base string, at Attrs, content io.Reader) error {
	fd, err := unix.Openat(int(dir.Fd()), base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	defer unix.Close(fd)
	if err := u.copier.Copy(fd, content, false, u.ctx.Err); err != nil {
		return err
	}
	return SetFile(fd, at)
}

func (u *unpacker) hardLink(dir *os.File, base, target string) error {
	name, err := CleanName(target)
	if err != nil {
		return fmt.Errorf("link to %q: %w", target, err)
	}
	name = u.rename(name)
	if name == "" {
		return fmt.Errorf("link to %q: it is a directory", target)
	}
	up, last := path.Split(name)
	from, err := u.open(up)
	if err == nil {
		err = unix.Linkat(int(from.Fd()), last, int(dir.Fd()), base, 0)
		from.Close()
	}
	if err != nil {
		return fmt.Errorf("link to %q: %w", target, err)
	}
	return nil
}

// node makes a device node or a named pipe.
func (u *unpacker) node(dir *os.File, base string, at Attrs, h *tar.Header) error {
	kind, rdev, err := DeviceOf(h)
	if err != nil {
		return err
	}
	if u.o.Tame && kind != unix.S_IFIFO {
		return errors.New("a device node is not copied out of a container; -a copies it")
	}
	if err := unix.Mknodat(int(dir.Fd()), base, kind|0o600, int(rdev)); err != nil {
		return fmt.Errorf("make node: %w", err)
	}
	return SetSpecial(int(dir.Fd()), base, at, kind)
}

// DeviceOf is the kind (S_IFCHR, S_IFBLK or S_IFIFO) and number of an entry
// that is a node.
func DeviceOf(h *tar.Header) (kind uint32, rdev uint64, err error) {
	if h.Typeflag == tar.TypeFifo {
		return unix.S_IFIFO, 0, nil
	}
	// The kernel's device numbers have 12 and 20 bits (mknod(2) would cut
	// off the rest).
	if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
		return 0, 0, fmt.Errorf("device number %d:%d is out of range", h.Devmajor, h.Devminor)
	}
	kind = unix.S_IFCHR
	if h.Typeflag == tar.TypeBlock {
		kind = unix.S_IFBLK
	}
	return kind, unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)), nil
}

// finish sets the attributes of directories, if they are still where they were.
func (u *unpacker) finish() error {
	for name, late := range u.late {
		dir, err := u.open(name)
		if err != nil {
			continue // the container has it no longer
		}
		var st unix.Stat_t
		if err = unix.Fstat(int(dir.Fd()), &st); err == nil && late.id == (inode{st.Dev, st.Ino}) {
			err = SetFile(int(dir.Fd()), late.at)
		}
		dir.Close()
		if err != nil {
			return fmt.Errorf("directory %q: %w", name, err)
		}
	}
	return nil
}
