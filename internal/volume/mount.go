package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/mountns"
	"github.com/brig-run/brig/internal/snapshot"
	"github.com/brig-run/brig/internal/tree"
	"github.com/brig-run/brig/internal/volume/held"
)

// Plain says whether the volume's files are just those in Data.
func (v *Volume) Plain() bool { return len(v.Options) == 0 }

// Tmpfs says whether the volume is a tmpfs, which those who hold it at the same
// time share, and which goes with the last of them.
func (v *Volume) Tmpfs() bool {
	m, err := parseOptions(v.Options)
	return err == nil && m.tmpfs()
}

// Mount makes a mount of the volume, attached nowhere: move_mount(2) puts it
// into a mount namespace, and closing the file before that dissolves it. subpath
// is a directory or file of the volume, "" for all of it; no link in it leads
// out.
func (v *Volume) Mount(subpath string) (*os.File, error) {
	if v.Plain() && subpath != "" {
		data, err := os.Open(v.Data())
		if err != nil {
			return nil, fmt.Errorf("mount volume %s: %w", v.Name, err)
		}
		defer data.Close()
		return v.clone(data, subpath)
	}
	top, err := v.mount()
	if err != nil {
		return nil, fmt.Errorf("mount volume %s: %w", v.Name, err)
	}
	if subpath == "" {
		return top, nil
	}
	defer top.Close()
	return v.Part(top, subpath)
}

// Try says whether the volume can be mounted.
func (v *Volume) Try() error {
	if v.Plain() {
		return nil
	}
	f, err := v.Mount("")
	if err == nil {
		f.Close()
	}
	return err
}

// Part makes a mount of a part of a mount of the volume, or of all of it.
func (v *Volume) Part(top *os.File, subpath string) (*os.File, error) {
	part, err := v.clone(top, subpath)
	if !errors.Is(err, unix.EINVAL) {
		return part, err
	}
	// Until Linux 6.15 only what is mounted somewhere can be cloned.
	err = mountns.Private(func() error {
		err := unix.MoveMount(int(top.Fd()), "", unix.AT_FDCWD, v.Data(), unix.MOVE_MOUNT_F_EMPTY_PATH)
		if err == nil {
			part, err = v.clone(top, subpath)
		}
		return err
	})
	return part, err
}

// clone makes a mount of a part of what top shows.
func (v *Volume) clone(top *os.File, subpath string) (*os.File, error) {
	at, err := tree.Open(top, subpath, unix.O_PATH)
	if err != nil {
		return nil, fmt.Errorf("volume %s: volume-subpath %q: %w", v.Name, subpath, err)
	}
	defer at.Close()
	fd, err := unix.OpenTree(int(at.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, fmt.Errorf("volume %s: mount volume-subpath %q: %w", v.Name, subpath, err)
	}
	return os.NewFile(uintptr(fd), v.Name+"/"+subpath), nil
}

func (v *Volume) mount() (*os.File, error) {
	m := mountOptions{bind: true, rbind: true, device: v.Data()}
	if !v.Plain() {
		var err error
		if m, err = parseOptions(v.Options); err != nil {
			return nil, err
		}
	}
	if m.bind {
		return m.bindMount(v.Name)
	}
	if err := m.resolveAddr(); err != nil {
		return nil, err
	}
	return m.newMount(v.Name)
}

// bindMount copies the mount of a path of the host.
func (m *mountOptions) bindMount(name string) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	attr := uint(unix.AT_EMPTY_PATH)
	if m.rbind {
		flags, attr = flags|unix.AT_RECURSIVE, attr|unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.device, flags)
	if err != nil {
		return nil, &os.PathError{Op: "bind", Path: m.device, Err: err}
	}
	if m.set|m.clear != 0 {
		err = unix.MountSetattr(fd, "", attr, &unix.MountAttr{Attr_set: m.set, Attr_clr: m.clear})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set the options of the mount of %s: %w", m.device, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// newMount mounts a file system.
func (m *mountOptions) newMount(name string) (*os.File, error) {
	ctx, err := unix.Fsopen(m.fstype, unix.FSOPEN_CLOEXEC)
	if err == unix.ENODEV {
		return nil, fmt.Errorf("this kernel has no file system type %q", m.fstype)
	}
	if err != nil {
		return nil, fmt.Errorf("open file system type %s: %w", m.fstype, err)
	}
	defer unix.Close(ctx)
	fail := func(what string, err error) (*os.File, error) {
		return nil, fmt.Errorf("%s: %w%s", what, err, snapshot.MountReason(ctx))
	}
	if err := unix.FsconfigSetString(ctx, "source", m.device); err != nil {
		return fail("device="+m.device, err)
	}
	if m.readOnly {
		m.data = append(m.data, [2]string{"ro", ""})
	}
	for _, d := range m.data {
		if d[1] == "" {
			err = unix.FsconfigSetFlag(ctx, d[0])
		} else {
			err = unix.FsconfigSetString(ctx, d[0], d[1])
		}
		if err != nil {
			return fail("o="+strings.TrimSuffix(d[0]+"="+d[1], "="), err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return fail("mount "+m.fstype+" "+m.device, err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, int(m.set))
	if err != nil {
		return fail("mount "+m.fstype+" "+m.device, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Lock makes the caller the only one who starts something with the volume,
// until the file is closed.
func (v *Volume) Lock() (*os.File, error) { return lockDir(v.dir, unix.LOCK_EX) }

// device names the file system that a mount shows, for this boot.
func device(f *os.File, boot string) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d", boot, st.Dev), nil
}

// Shared says whether a mount that was found in a holder is the tmpfs that was
// told to Share.
func (v *Volume) Shared(f *os.File, boot string) bool {
	have, err := device(f, boot)
	want, rerr := os.ReadFile(v.dir + "/mounted")
	return err == nil && rerr == nil && have == string(want)
}

// Share remembers which tmpfs others shall look for.
func (v *Volume) Share(f *os.File, boot string) error {
	d, err := device(f, boot)
	if err == nil {
		err = os.WriteFile(v.dir+"/mounted", []byte(d), 0o600)
	}
	return err
}

// Fill copies a directory of an image, an O_PATH descriptor, into the volume if
// that is empty, with the directory's own owner, mode and attributes. holder is
// who asks; a volume that others hold may be filled under their eyes.
func (v *Volume) Fill(ctx context.Context, from *os.File, subpath, holder string) error {
	lock, err := v.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	top, err := v.Mount(subpath)
	if err != nil {
		return err
	}
	defer top.Close()
	if full, err := hasEntries(top); full || err != nil {
		return err
	}
	names, err := v.holders()
	if err != nil {
		return err
	}
	if v.Plain() && subpath == "" && len(names) == 1 && names[0] == holder && !isMountPoint(v.Data()) {
		return v.fillAside(ctx, from)
	}
	return tree.Copy(ctx, from, top)
}

// fillAside fills a directory that takes the place of the empty one when it is
// whole, so that a kill leaves the volume empty.
func (v *Volume) fillAside(ctx context.Context, from *os.File) error {
	aside := v.dir + "/fill"
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Mkdir(aside, 0o755); err != nil {
		return err
	}
	to, err := os.Open(aside)
	if err != nil {
		return err
	}
	defer to.Close()
	if err = tree.Copy(ctx, from, to); err == nil {
		err = unix.Rename(aside, v.Data()) // os.Rename refuses a directory
	}
	if err != nil {
		os.RemoveAll(aside)
	}
	return err
}

// isMountPoint says whether something is mounted on a directory, statx(2).
func isMountPoint(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// hasEntries says whether a directory is not empty. A file is never empty.
func hasEntries(f *os.File) (bool, error) {
	d, err := tree.Open(f, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer d.Close()
	names, err := d.Readdirnames(1)
	if err == io.EOF {
		err = nil
	}
	return len(names) > 0, err
}

// Size is the bytes that the files of a volume hold. What is mounted from
// elsewhere counts nothing.
func (v *Volume) Size() (int64, error) {
	if !v.Plain() {
		return 0, nil
	}
	return snapshot.DirSize(v.Data())
}

// Release ends a holder's hold; with remove the volume goes if nobody else
// holds it.
func (s *Store) Release(name, holder string, remove bool) error {
	err := held.Release(s.path(name), holder)
	if err == nil && remove {
		if err = held.Remove(s.path(name), s.trash); errors.Is(err, held.ErrHeld) {
			err = nil
		}
	}
	return err
}
