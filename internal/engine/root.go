package engine

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/mountns"
	"github.com/brig-run/brig/internal/snapshot"
	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/internal/tree"
)

// fileSystem is a container's file system, open. The container may change it
// meanwhile if it runs: package tree opens what is in it.
type fileSystem struct {
	root *os.File   // a descriptor for paths
	held []*os.File // what must stay open: a lock, a mount namespace
	// userns is the container's user namespace, if its files are seen with the
	// host's IDs; else they have the container's.
	userns *spec.UserNS
}

func (f *fileSystem) Close() {
	f.root.Close()
	for _, h := range f.held {
		h.Close()
	}
}

// open opens the container's file system as its processes see it, with volumes
// and binds; of one that does not run, without /proc, /sys and /dev. As long as it
// is open, such a container cannot be started.
func (c *Container) open() (*fileSystem, error) {
	return c.openAs(c.openRunning, c.openStopped)
}

// openOwn opens the container's own file system, without all that is mounted
// in it.
func (c *Container) openOwn() (*fileSystem, error) {
	return c.openAs(c.openRunningOwn, func() (*fileSystem, error) {
		root, err := c.mount()
		if err != nil {
			return nil, err
		}
		return &fileSystem{root: root}, nil
	})
}

func (c *Container) openAs(running func(*monitor.State) (*fileSystem, error), stopped func() (*fileSystem, error)) (*fileSystem, error) {
	for {
		s, err := c.State()
		if err != nil {
			return nil, err
		}
		if s.State.Running && alive(&s.State) {
			fs, err := running(&s.State)
			if err == nil && alive(&s.State) { // its process ID was not another's
				return fs, nil
			}
			if err == nil {
				fs.Close()
			}
			if alive(&s.State) {
				return nil, fmt.Errorf("open the file system of container %s: %w", c.Name, err)
			}
			continue // it ended meanwhile
		}
		l, err := c.await()
		if errors.Is(err, ErrRunning) {
			continue
		}
		if err != nil {
			return nil, err
		}
		fs, err := stopped()
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("open the file system of container %s: %w", c.Name, err)
		}
		fs.held = append(fs.held, l)
		return fs, nil
	}
}

func (c *Container) openRunning(s *monitor.State) (*fileSystem, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", s.PID), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &fileSystem{root: os.NewFile(uintptr(fd), c.Name), userns: c.ownUserNS()}, nil
}

func (c *Container) openRunningOwn(s *monitor.State) (*fileSystem, error) {
	root, err := treeOf(fmt.Sprintf("/proc/%d", s.PID), ".")
	if err != nil {
		return nil, err
	}
	return &fileSystem{root: root, userns: c.ownUserNS()}, nil
}

// openStopped mounts the root in a mount namespace of its own, and volumes and
// binds in it.
func (c *Container) openStopped() (*fileSystem, error) {
	if err := c.bindSources(true); err != nil {
		return nil, err
	}
	root, err := c.mount()
	if err != nil {
		return nil, err
	}
	fs := &fileSystem{root: root}
	err = mountns.Private(func() error {
		ns, err := mountns.Keep()
		if err != nil {
			return err
		}
		fs.held = append(fs.held, ns)
		err = unix.MoveMount(int(root.Fd()), "", unix.AT_FDCWD, c.engine.path("mnt"), unix.MOVE_MOUNT_F_EMPTY_PATH)
		if err != nil {
			return err
		}
		return c.mountAll(root)
	})
	if err != nil {
		fs.Close()
		return nil, err
	}
	return fs, nil
}

// mountAll mounts what the user wants mounted, parents first.
func (c *Container) mountAll(root *os.File) error {
	list := slices.DeleteFunc(slices.Clone(c.Options.Mounts), func(m spec.Mount) bool { return m.Type == spec.MountTmpfs })
	slices.SortStableFunc(list, func(a, b spec.Mount) int {
		return cmp.Compare(strings.Count(a.Target, "/"), strings.Count(b.Target, "/"))
	})
	for i := range list {
		if err := c.mountIn(root, &list[i]); err != nil {
			return fmt.Errorf("mount at %s: %w", list[i].Target, err)
		}
	}
	if c.Options.ReadOnly {
		return setReadOnly(root, false)
	}
	return nil
}

func setReadOnly(mount *os.File, all bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if all {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(int(mount.Fd()), "", flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

func (c *Container) mountIn(root *os.File, m *spec.Mount) error {
	source, err := c.mountSource(m)
	if err != nil {
		return err
	}
	defer source.Close()
	if m.ReadOnly {
		if err := setReadOnly(source, !m.NonRecursive && !m.ReadOnlyNonRecursive); err != nil {
			return err
		}
	}
	fi, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := mountTarget(root, m.Target, fi.IsDir())
	if err != nil {
		return err
	}
	defer target.Close()
	return unix.MoveMount(int(source.Fd()), "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

func (c *Container) mountSource(m *spec.Mount) (*os.File, error) {
	if m.Type == spec.MountVolume {
		v, err := c.engine.Volumes().Find(m.Source)
		if err != nil {
			return nil, err
		}
		if !v.Tmpfs() {
			return v.Mount(m.Volume.Subpath)
		}
		lock, err := v.Lock()
		if err != nil {
			return nil, err
		}
		defer lock.Close()
		top, err := c.engine.tmpfs(v, c.ID)
		if err != nil {
			return nil, err
		}
		defer top.Close()
		return v.Part(top, m.Volume.Subpath)
	}
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if !m.NonRecursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, flags)
	if err != nil {
		return nil, &os.PathError{Op: "bind", Path: m.Source, Err: err}
	}
	return os.NewFile(uintptr(fd), m.Source), nil
}

// mountTarget opens a mount point, made if it is missing, as a start makes it.
func mountTarget(root *os.File, target string, isDir bool) (*os.File, error) {
	if isDir {
		return tree.MkdirAll(root, target, 0, 0)
	}
	f, err := tree.Open(root, target, unix.O_PATH)
	if !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	if target, err = tree.Resolve(root, target); err != nil {
		return nil, err
	}
	up, err := tree.MkdirAll(root, path.Dir(target), 0, 0)
	if err != nil {
		return nil, err
	}
	defer up.Close()
	if err := unix.Mknodat(int(up.Fd()), path.Base(target), unix.S_IFREG|0o644, 0); err != nil && err != unix.EEXIST {
		return nil, err
	}
	return tree.Open(up, path.Base(target), unix.O_PATH|unix.O_NOFOLLOW)
}

// stubs says which paths of the writable layer, without the first slash, are
// nothing of the container's: files and directories that a start made as mount
// points, where the image has none.
func (c *Container) stubs(upper, lower *os.File) func(name string) bool {
	system := []string{"dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", strings.TrimPrefix(spec.InitTarget, "/")}
	skip := map[string]bool{}
	for _, name := range system {
		if snapshot.Empty(upper, name) && !snapshot.Exists(lower, name) {
			skip[name] = true
		}
	}
	for _, dir := range []string{"etc", path.Dir(system[len(system)-1])} {
		if snapshot.Exists(lower, dir) {
			continue
		}
		names, err := snapshot.Names(upper, dir)
		if err == nil && !slices.ContainsFunc(names, func(n string) bool { return !skip[dir+"/"+n] }) {
			skip[dir] = true
		}
	}
	return func(name string) bool { return skip[name] }
}

// difference opens the container's writable layer and what lies below it.
func (c *Container) difference() (upper, lower *os.File, err error) {
	dir, _, err := snapshot.PrepareUpper(c.dir())
	if err != nil {
		return nil, nil, err
	}
	if lower, err = c.engine.Layers.Mount(snapshot.MountOptions{Lower: c.Layers}); err != nil {
		return nil, nil, err
	}
	if upper, err = os.Open(dir); err != nil {
		lower.Close()
		return nil, nil, err
	}
	return upper, lower, nil
}

// Diff lists what the container has changed of its image, by path.
func (c *Container) Diff() ([]snapshot.Change, error) {
	upper, lower, err := c.difference()
	if err != nil {
		return nil, fmt.Errorf("compare container %s with its image: %w", c.Name, err)
	}
	defer upper.Close()
	defer lower.Close()
	changes, err := snapshot.Diff(upper, lower, c.stubs(upper, lower))
	if err != nil {
		return nil, fmt.Errorf("compare container %s with its image: %w", c.Name, err)
	}
	return changes, nil
}
