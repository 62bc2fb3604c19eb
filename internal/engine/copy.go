package engine

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/internal/tree"
)

// CopyOptions say how files are copied into a container or out of it.
type CopyOptions struct {
	// FollowLink copies what a link in the source's last component names.
	FollowLink bool
	// Archive keeps owners, set-ID bits and capabilities of what is copied out.
	// What is copied in then belongs to the container's user.
	Archive bool
}

// origin is what is copied: a file or directory of the host's or a container's.
type origin struct {
	f     *os.File // O_PATH
	isDir bool
	name  string // what the top is called in the archive; "" for a directory's content
	owner func(uid, gid int) (int, int)
}

// openOrigin opens the source of a copy with open, which is told whether to
// follow a link in the last component. A path that ends in a slash is a
// directory; one that ends in "/." is a directory's content.
func openOrigin(p string, follow bool, open func(p string, follow bool) (*os.File, error)) (*origin, error) {
	content := p == "." || strings.HasSuffix(p, "/.") || path.Clean("/"+p) == "/"
	mustBeDir := content || strings.HasSuffix(p, "/")
	f, err := open(p, follow || mustBeDir)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && mustBeDir && !fi.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	o := &origin{f: f, isDir: fi.IsDir()}
	if !content {
		o.name = path.Base(path.Clean("/" + p))
	}
	return o, nil
}

// destination is where a copy goes.
type destination struct {
	path          string // without links
	exists, isDir bool
	wantsDir      bool // it ends in a slash
}

// place decides by Docker's rules (docker cp, "Extended description") into which
// directory a copy is unpacked, and how its top is renamed.
func place(o *origin, d *destination) (dir, from, to string, err error) {
	switch {
	case d.exists && d.isDir:
		return d.path, "", "", nil
	case d.exists && o.isDir:
		return "", "", "", errors.New("cannot copy a directory to a file")
	case d.exists && d.wantsDir:
		return "", "", "", errors.New("it is not a directory")
	case !d.exists && d.wantsDir && !o.isDir:
		return "", "", "", errors.New("the destination directory must exist")
	}
	return path.Dir(d.path), o.name, path.Base(d.path), nil
}

// CopyOut copies a file or directory of the container to the host, and returns
// the bytes of its archive.
func (c *Container) CopyOut(ctx context.Context, src, dst string, o CopyOptions) (int64, error) {
	fs, err := c.open()
	if err != nil {
		return 0, err
	}
	defer fs.Close()
	from, err := c.origin(fs, src, o)
	if err != nil {
		return 0, err
	}
	defer from.f.Close()
	d, err := localDestination(dst)
	if err != nil {
		return 0, err
	}
	dir, old, name, err := place(from, d)
	if err != nil {
		return 0, fmt.Errorf("copy to %s: %w", dst, err)
	}
	root, err := os.Open(dir)
	if err != nil {
		return 0, fmt.Errorf("copy to %s: %w", dst, err)
	}
	defer root.Close()
	u := tree.UnpackOptions{From: old, To: name, NoLinks: true}
	if !o.Archive {
		u.Owner, u.Tame = oneOwner(os.Geteuid(), os.Getegid()), true
	}
	return transfer(ctx, from, root, u)
}

// origin opens what is copied out of the container.
func (c *Container) origin(fs *fileSystem, src string, o CopyOptions) (*origin, error) {
	from, err := openOrigin(src, o.FollowLink, func(p string, follow bool) (*os.File, error) {
		flags := unix.O_PATH
		if !follow {
			flags |= unix.O_NOFOLLOW
		}
		return tree.Open(fs.root, p, flags)
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, usage("could not find the file %s in container %s", src, c.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("copy %s:%s: %w", c.Name, src, err)
	}
	from.owner = fs.inside()
	return from, nil
}

// localDestination looks at a path of the host, whose links are the user's own
// and are followed.
func localDestination(dst string) (*destination, error) {
	d := &destination{wantsDir: strings.HasSuffix(dst, "/") || strings.HasSuffix(dst, "/.") || dst == "."}
	abs, err := filepath.Abs(dst)
	if err != nil {
		return nil, err
	}
	d.path = abs
	for range 40 { // links may lead to what is not there yet
		target, err := os.Readlink(d.path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(d.path), target)
		}
		d.path = target
	}
	fi, err := os.Stat(d.path)
	switch {
	case err == nil:
		d.exists, d.isDir = true, fi.IsDir()
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	default:
		if _, err := os.Stat(filepath.Dir(d.path)); err != nil {
			return nil, fmt.Errorf("copy to %s: the directory %s does not exist; make it first: mkdir -p %s", dst, filepath.Dir(d.path), filepath.Dir(d.path))
		}
	}
	return d, nil
}

// transfer packs a source and unpacks it at once.
func transfer(ctx context.Context, from *origin, root *os.File, u tree.UnpackOptions) (int64, error) {
	r, w := io.Pipe()
	count := &counter{w: w}
	done := make(chan error, 1)
	go func() {
		err := pack(ctx, from, count)
		w.CloseWithError(err)
		done <- err
	}()
	err := tree.Unpack(ctx, root, r, u)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // the end mark of the archive
	}
	r.CloseWithError(errors.New("the copy has ended"))
	if perr := <-done; err == nil {
		err = perr
	}
	return count.n, err
}

func pack(ctx context.Context, from *origin, w io.Writer) error {
	t := tar.NewWriter(w)
	if err := tree.Pack(ctx, t, from.f, tree.PackOptions{Name: from.name, Owner: from.owner}); err != nil {
		return err
	}
	return t.Close()
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// ArchiveOut writes a file or directory of the container as a tar archive.
func (c *Container) ArchiveOut(ctx context.Context, src string, w io.Writer, o CopyOptions) error {
	fs, err := c.open()
	if err != nil {
		return err
	}
	defer fs.Close()
	from, err := c.origin(fs, src, o)
	if err != nil {
		return err
	}
	defer from.f.Close()
	return pack(ctx, from, w)
}

// CopyIn copies a file or directory of the host into the container, and returns
// the bytes of its archive.
func (c *Container) CopyIn(ctx context.Context, src, dst string, o CopyOptions) (int64, error) {
	from, err := openOrigin(src, o.FollowLink, func(p string, follow bool) (*os.File, error) {
		flags := unix.O_PATH | unix.O_CLOEXEC
		if !follow {
			flags |= unix.O_NOFOLLOW
		}
		return os.OpenFile(p, flags, 0)
	})
	if err != nil {
		return 0, err
	}
	defer from.f.Close()
	fs, err := c.open()
	if err != nil {
		return 0, err
	}
	defer fs.Close()
	d, err := c.destination(fs, dst)
	if err != nil {
		return 0, err
	}
	dir, old, name, err := place(from, d)
	if err != nil {
		return 0, fmt.Errorf("copy to %s:%s: %w", c.Name, dst, err)
	}
	u := tree.UnpackOptions{Dir: dir, From: old, To: name}
	if u.Owner, err = c.copyOwner(fs, o); err != nil {
		return 0, err
	}
	if err := c.needDir(fs, dir); err != nil {
		return 0, err
	}
	var n int64
	err = fs.asRoot(func() (err error) {
		n, err = transfer(ctx, from, fs.root, u)
		return err
	})
	return n, c.intoError(dst, err)
}

// intoError says where a copy failed.
func (c *Container) intoError(dst string, err error) error {
	if errors.Is(err, unix.EROFS) {
		return usage("copy to %s:%s: the file system is mounted read-only in the container", c.Name, dst)
	}
	if err != nil {
		return fmt.Errorf("copy to %s:%s: %w", c.Name, dst, err)
	}
	return nil
}

// destination looks at a path of the container.
func (c *Container) destination(fs *fileSystem, dst string) (*destination, error) {
	d := &destination{wantsDir: strings.HasSuffix(dst, "/") || strings.HasSuffix(dst, "/.") || dst == "."}
	var err error
	if d.path, err = tree.Resolve(fs.root, dst); err != nil {
		return nil, fmt.Errorf("copy to %s:%s: %w", c.Name, dst, err)
	}
	st, err := tree.Stat(fs.root, d.path)
	switch {
	case err == nil:
		d.exists, d.isDir = true, st.Mode&unix.S_IFMT == unix.S_IFDIR
	case !errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("copy to %s:%s: %w", c.Name, dst, err)
	}
	return d, nil
}

// needDir refuses a directory that is not there: a copy makes no parents.
func (c *Container) needDir(fs *fileSystem, dir string) error {
	f, err := tree.Open(fs.root, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return usage("could not find the directory %s in container %s", dir, c.Name)
	}
	return f.Close()
}

// copyOwner is whose the files become that are copied in; nil leaves them.
func (c *Container) copyOwner(fs *fileSystem, o CopyOptions) (func(uid, gid int) (int, int), error) {
	if !o.Archive {
		return fs.outside(), nil
	}
	in := spec.Input{Options: &c.Options, Image: &c.ImageConfig, ID: c.ID, Host: c.engine.host(), Root: fs.root}
	p, err := spec.BuildExec(in, &spec.ExecOptions{Args: []string{"true"}})
	if err != nil {
		return nil, fmt.Errorf("find the user of container %s: %w", c.Name, err)
	}
	if p.User.UID == 0 && p.User.GID == 0 {
		return fs.outside(), nil
	}
	uid, gid := int(p.User.UID), int(p.User.GID)
	if out := fs.outside(); out != nil {
		uid, gid = out(uid, gid)
	}
	return oneOwner(uid, gid), nil
}

// ArchiveIn unpacks a tar archive in a directory of the container.
func (c *Container) ArchiveIn(ctx context.Context, r io.Reader, dst string, o CopyOptions) error {
	fs, err := c.open()
	if err != nil {
		return err
	}
	defer fs.Close()
	d, err := c.destination(fs, dst)
	if err != nil {
		return err
	}
	if !d.exists || !d.isDir {
		return usage("destination \"%s:%s\" must be a directory", c.Name, dst)
	}
	u := tree.UnpackOptions{Dir: d.path}
	if u.Owner, err = c.copyOwner(fs, o); err != nil {
		return err
	}
	return c.intoError(dst, fs.asRoot(func() error { return tree.Unpack(ctx, fs.root, r, u) }))
}

// Export writes the container's own file system as a tar archive, without what
// is mounted in it.
func (c *Container) Export(ctx context.Context, w io.Writer) error {
	fs, err := c.openOwn()
	if err != nil {
		return err
	}
	defer fs.Close()
	top, err := tree.Open(fs.root, ".", unix.O_PATH)
	if err != nil {
		return err
	}
	defer top.Close()
	if err := pack(ctx, &origin{f: top, isDir: true, owner: fs.inside()}, w); err != nil {
		return fmt.Errorf("export container %s: %w", c.Name, err)
	}
	return nil
}
