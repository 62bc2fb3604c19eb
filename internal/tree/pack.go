package tree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// PackOptions say what goes into an archive.
type PackOptions struct {
	// Name is what the top is called in the archive. "" and "." are the root of
	// the archive: its content has names of its own.
	Name string
	// Owner gives the user and group for the archive; nil keeps the files'.
	Owner func(uid, gid int) (int, int)
	// Skip leaves a path out, with all below it; paths are relative to the top,
	// "" for the top itself.
	Skip func(path string) bool
	// Entry may change an entry, and give others, without content, that follow
	// it, or without ok stand in its place: then nothing below it is visited. f
	// is an O_PATH descriptor of what the entry is made of.
	Entry func(h *tar.Header, f *os.File) (after []*tar.Header, ok bool)
}

// Pack writes the file or directory that top refers to, an O_PATH descriptor,
// into an archive. Links are packed as links. Sockets are left out, as in every
// tar. A file that shrinks meanwhile is filled up with zeros.
func Pack(ctx context.Context, w *tar.Writer, top *os.File, o PackOptions) error {
	p := &packer{ctx: ctx, w: w, o: o, names: map[inode]string{}}
	name := o.Name
	if name == "." {
		name = ""
	}
	return p.pack(top, name, "")
}

type inode struct{ dev, ino uint64 }

type packer struct {
	ctx   context.Context
	w     *tar.Writer
	o     PackOptions
	names map[inode]string // of files with several names
	buf   []byte
}

// pack packs one file and what is below it; name is its name in the archive,
// rel its path below the top.
func (p *packer) pack(f *os.File, name, rel string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if p.o.Skip != nil && p.o.Skip(rel) {
		return nil
	}
	at, st, err := ReadAttrs(int(f.Fd()))
	if err != nil {
		return p.failed(name, err)
	}
	if p.o.Owner != nil {
		at.UID, at.GID = p.o.Owner(at.UID, at.GID)
	}
	h, err := header(f, name, at, &st)
	if err != nil {
		return p.failed(name, err)
	}
	if h == nil {
		return nil
	}
	id := inode{st.Dev, st.Ino}
	if first, ok := p.names[id]; ok && st.Nlink > 1 {
		h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
	}
	after, ok := []*tar.Header(nil), true
	if p.o.Entry != nil {
		after, ok = p.o.Entry(h, f)
	}
	if ok {
		if err := p.write(h, f); err != nil {
			return p.failed(name, err)
		}
		if _, known := p.names[id]; !known && st.Nlink > 1 && h.Typeflag != tar.TypeDir {
			p.names[id] = h.Name
		}
	}
	for _, a := range after {
		if err := p.w.WriteHeader(a); err != nil {
			return p.failed(name, err)
		}
	}
	if ok && h.Typeflag == tar.TypeDir {
		return p.children(f, name, rel)
	}
	return nil
}

func (p *packer) write(h *tar.Header, f *os.File) error {
	if err := p.w.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeReg {
		return p.content(f, h.Size)
	}
	return nil
}

func (p *packer) failed(name string, err error) error {
	if name == "" {
		name = "/"
	}
	return fmt.Errorf("%s: %w", name, err)
}

// children packs what is in a directory, in the order of names.
func (p *packer) children(f *os.File, name, rel string) error {
	dir, err := reopen(f, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return p.failed(name, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return p.failed(name, err)
	}
	slices.Sort(names)
	for _, n := range names {
		fd, err := unix.Openat(int(dir.Fd()), n, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT {
			continue // it has gone meanwhile
		}
		if err != nil {
			return p.failed(path.Join(name, n), err)
		}
		c := os.NewFile(uintptr(fd), n)
		err = p.pack(c, path.Join(name, n), path.Join(rel, n))
		c.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// header makes the entry of an inode; nil for a socket.
func header(f *os.File, name string, at Attrs, st *unix.Stat_t) (*tar.Header, error) {
	h := &tar.Header{
		Name: name, Mode: int64(at.Mode), Uid: at.UID, Gid: at.GID, Format: tar.FormatPAX,
		ModTime: time.Unix(st.Mtim.Unix()),
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
		if h.Name += "/"; name == "" {
			h.Name = "./"
		}
	case unix.S_IFLNK:
		target, err := readlink(f)
		if err != nil {
			return nil, err
		}
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, target, 0o777
	case unix.S_IFCHR:
		h.Typeflag = tar.TypeChar
	case unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, nil
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	for _, x := range at.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+x.Name] = string(x.Value)
	}
	return h, nil
}

// content writes exactly size bytes.
func (p *packer) content(f *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	r, err := reopen(f, unix.O_RDONLY|unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) { // not ours, open(2)
		r, err = reopen(f, unix.O_RDONLY)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if p.buf == nil {
		p.buf = make([]byte, copySize)
	}
	n, err := io.CopyBuffer(p.w, WithContext(p.ctx, io.LimitReader(r, size)), p.buf)
	if err == nil && n < size {
		_, err = io.CopyN(p.w, zeros{}, size-n)
	}
	return err
}

// WithContext is a reader that fails once its context has ended, for archives
// and files that take long.
func WithContext(ctx context.Context, r io.Reader) io.Reader { return &contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
