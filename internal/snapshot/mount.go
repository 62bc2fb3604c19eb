package snapshot

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/mountns"
	"github.com/brig-run/brig/internal/userns"
)

// MountOptions say what a root is made of.
type MountOptions struct {
	Lower       []string // chain IDs, base first; none for an empty image
	Upper, Work string   // the writable layer's directories; both empty for a read-only view

	// IDMap is a user namespace by whose maps the files of all layers belong to
	// others than on the disk; nil leaves their owners as they are.
	IDMap *IDMap

	// Volatile leaves it to chance whether the writable layer survives a power
	// cut: fsync(2) inside returns at once, and unmounting does not sync the
	// whole file system of Upper, which else is most of what a short-lived
	// container costs the disk. For containers that nobody keeps.
	Volatile bool
}

// IDMap gives the files of layers other owners.
type IDMap struct {
	Namespace *os.File // the user namespace whose maps count
	// UID and GID are what its root is outside: in their name overlayfs makes its
	// files, because the mounter's own IDs may not be mapped.
	UID, GID uint32
}

// maxLower is the kernel's limit (fs/overlayfs/params.h, OVL_MAX_STACK).
const maxLower = 500

// Mount makes an overlay file system of the layers and returns the mount,
// attached nowhere: move_mount(2) puts it into a mount namespace, and closing
// the file before that dissolves it.
//
// As Docker does it, the index is off: with it, a lower directory that two
// containers share would be refused. Redirects and metadata-only copies are off
// as well, whatever the kernel's default is, so that the upper directory is the
// container's difference and nothing in it points elsewhere.
func (s *Store) Mount(o MountOptions) (*os.File, error) {
	dirs, err := s.lowerDirs(o)
	if err != nil {
		return nil, fmt.Errorf("mount root: %w", err)
	}
	p := plan{lower: dirs, upper: o.Upper, work: o.Work, volatile: o.Volatile && o.Upper != ""}
	if p.volatile {
		// Overlayfs marks the work directory, and refuses it from then on:
		// after a crash the writable layer may be torn. Whoever starts such a
		// container again has chosen that.
		os.RemoveAll(o.Work + "/work/incompat")
	}
	fd := -1
	mount := func() (err error) {
		if appendsLower() {
			fd, err = mountAppending(p)
		} else {
			fd, err = mountJoined(p)
		}
		return err
	}
	if o.IDMap != nil {
		err = mapped(o.IDMap, []string{s.dir, filepath.Dir(o.Upper)}, mount)
	} else {
		err = mount()
	}
	if err != nil {
		for _, d := range p.lower {
			if !exists(d) {
				return nil, fmt.Errorf("mount root: layer %s: %w", d, ErrNotFound)
			}
		}
		if o.Upper != "" {
			err = fmt.Errorf("with writable layer %s: %w", o.Upper, err)
		}
		return nil, fmt.Errorf("mount root of %d layers: %w", len(o.Lower), err)
	}
	return os.NewFile(uintptr(fd), "overlay root"), nil
}

// mapped calls f in a mount namespace where the directories are mounts of
// themselves with other owners (mount_setattr(2), MOUNT_ATTR_IDMAP): overlayfs
// itself cannot map, and its layers can, since 5.19.
func mapped(m *IDMap, dirs []string, f func() error) error {
	return mountns.Private(func() error {
		for _, dir := range dirs {
			fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
			if err != nil {
				return &os.PathError{Op: "clone the mount of", Path: dir, Err: err}
			}
			err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(m.Namespace.Fd())})
			if err == unix.EINVAL {
				err = fmt.Errorf("%w: its file system cannot map IDs", err)
			}
			if err == nil {
				err = unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
			}
			unix.Close(fd)
			if err != nil {
				return fmt.Errorf("map the IDs of %s: %w", dir, err)
			}
		}
		if err := m.become(); err != nil {
			return fmt.Errorf("become the owner of the layers: %w", err)
		}
		return f()
	})
}

// become makes this thread, which must not serve anything else, the mapped root
// for what concerns files. That takes the capabilities away that concern files
// (capabilities(7), "Effect of user ID changes"), so they are taken back.
func (m *IDMap) become() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&hdr, &caps[0]); err != nil {
		return err
	}
	for _, set := range []struct {
		call uintptr
		id   uint32
	}{{unix.SYS_SETFSGID, m.GID}, {unix.SYS_SETFSUID, m.UID}} {
		unix.RawSyscall(set.call, uintptr(set.id), 0, 0)
		if now, _, _ := unix.RawSyscall(set.call, uintptr(^uint32(0)), 0, 0); uint32(now) != set.id {
			return unix.EPERM // setfsuid(2) itself reports no errors
		}
	}
	return unix.Capset(&hdr, &caps[0])
}

// plan is MountOptions with paths.
type plan struct {
	lower       []string // topmost first
	upper, work string
	volatile    bool
}

// attr is the mount's attributes, see fsmount(2).
func (p plan) attr() int {
	if p.upper == "" {
		return unix.MOUNT_ATTR_RDONLY
	}
	return 0
}

// options are those that do not depend on the layers. A value "" is a flag.
func (p plan) options() [][2]string {
	opts := [][2]string{{"index", "off"}, {"metacopy", "off"}, {"redirect_dir", "nofollow"}}
	if userns.Inside() {
		opts = append(opts, [2]string{"userxattr", ""})
	}
	if p.volatile {
		opts = append(opts, [2]string{"volatile", ""})
	}
	return opts
}

// lowerDirs returns the paths of the lower directories, topmost first.
func (s *Store) lowerDirs(o MountOptions) ([]string, error) {
	if (o.Upper == "") != (o.Work == "") {
		return nil, fmt.Errorf("upper directory %q, work directory %q: give both or none", o.Upper, o.Work)
	}
	if len(o.Lower) > maxLower {
		return nil, fmt.Errorf("%d layers: the kernel's overlayfs takes %d at most", len(o.Lower), maxLower)
	}
	dirs := make([]string, 0, len(o.Lower)+2)
	for i := len(o.Lower) - 1; i >= 0; i-- {
		name, err := layerName(o.Lower[i])
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, s.dir+"/"+name+"/fs")
	}
	// The kernel wants one lower directory below an upper one, and two
	// without. An empty one adds nothing to see, and with it a single layer's
	// whiteouts are hidden as they should be.
	need := 1
	if o.Upper == "" {
		need = 2
	}
	for i := 0; len(dirs) < need; i++ {
		empty := s.dir + "/empty/" + strconv.Itoa(i)
		if !exists(empty) {
			if err := os.MkdirAll(empty, 0o755); err != nil {
				return nil, err
			}
			if err := os.Chmod(empty, 0o755); err != nil {
				return nil, err
			}
		}
		dirs = append(dirs, empty)
	}
	return dirs, nil
}

// appendsLower says whether overlayfs takes lower directories one by one, as
// "lowerdir+", which it does since 6.5. Asking overlayfs itself would write a
// complaint into the kernel's log on older ones.
func appendsLower() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	major, minor := release(unix.ByteSliceToString(u.Release[:]))
	return major > 6 || major == 6 && minor >= 5
}

// release reads "6.18.44-rc1" as 6, 18.
func release(s string) (major, minor int) {
	m, rest, _ := strings.Cut(s, ".")
	major, _ = strconv.Atoi(m)
	end := 0
	for end < len(rest) && '0' <= rest[end] && rest[end] <= '9' {
		end++
	}
	minor, _ = strconv.Atoi(rest[:end])
	return major, minor
}

// fsContext is a file system being configured, see fsopen(2). The first error
// stays in err, and later calls do nothing.
type fsContext struct {
	fd    int
	held  []int // descriptors that option values refer to
	err   error
	after string // what was being done when err came
}

func openOverlay() (*fsContext, error) {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open file system type overlay: %w", err)
	}
	return &fsContext{fd: fd}, nil
}

func (c *fsContext) close() {
	unix.Close(c.fd)
	for _, fd := range c.held {
		unix.Close(fd)
	}
}

func (c *fsContext) set(key, value string) {
	if c.err == nil {
		c.err, c.after = unix.FsconfigSetString(c.fd, key, value), key+"="+value
	}
}

// setDir sets an option whose value is a directory. The kernel takes values of
// up to 255 bytes, and takes backslashes for escapes; other paths are given
// by descriptor.
func (c *fsContext) setDir(key, path string) {
	if c.err == nil && (len(path) > 255 || strings.ContainsAny(path, `\:,`)) {
		path = c.hold(path)
	}
	c.set(key, path)
}

// hold opens the directory and returns its name among the process's
// descriptors, which is short and has no special characters.
func (c *fsContext) hold(path string) string {
	if c.err != nil {
		return ""
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		c.err, c.after = err, "open "+path
		return ""
	}
	c.held = append(c.held, fd)
	return "/proc/self/fd/" + strconv.Itoa(fd)
}

// mount creates the file system and a detached mount of it.
func (c *fsContext) mount(p plan) (int, error) {
	c.set("source", "overlay") // the name in mountinfo and df
	for _, o := range p.options() {
		if o[1] != "" {
			c.set(o[0], o[1])
		} else if c.err == nil {
			c.err, c.after = unix.FsconfigSetFlag(c.fd, o[0]), o[0]
		}
	}
	fd := -1
	if c.err == nil {
		c.err, c.after = unix.FsconfigCreate(c.fd), "create overlay"
	}
	if c.err == nil {
		fd, c.err = unix.Fsmount(c.fd, unix.FSMOUNT_CLOEXEC, p.attr())
		c.after = "mount overlay"
	}
	if c.err != nil {
		return -1, fmt.Errorf("%s: %w%s", c.after, c.err, c.reason())
	}
	return fd, nil
}

// reason returns what the kernel says about a failure. Overlayfs says most of it
// to the kernel's log alone.
func (c *fsContext) reason() string {
	said := MountReason(c.fd)
	if said == "" && c.err == unix.EINVAL {
		return ": dmesg tells the reason"
	}
	return said
}

// MountReason reads what the kernel says about a failure in the context of a new
// file system (fsopen(2), "message retrieval interface"), as ": text; text".
func MountReason(fd int) string {
	var all strings.Builder
	buf := make([]byte, 512)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil || n <= 0 {
			return all.String()
		}
		text := strings.TrimSpace(string(buf[:n]))
		if _, after, ok := strings.Cut(text, " "); ok {
			text = after // the first letter is the severity
		}
		if all.Len() == 0 {
			all.WriteString(": ")
		} else {
			all.WriteString("; ")
		}
		all.WriteString(text)
	}
}

// mountAppending is the way of Linux 6.5 and later: one option for each layer.
func mountAppending(p plan) (int, error) {
	c, err := openOverlay()
	if err != nil {
		return -1, err
	}
	defer c.close()
	for _, d := range p.lower {
		c.setDir("lowerdir+", d)
	}
	if p.upper != "" {
		c.setDir("upperdir", p.upper)
		c.setDir("workdir", p.work)
	}
	return c.mount(p)
}

// mountJoined is the way of older kernels: all layers in one option, named by
// descriptors to keep it short. What still exceeds the 255 bytes of fsconfig(2)
// goes through mount(2), which takes a page.
func mountJoined(p plan) (int, error) {
	c, err := openOverlay()
	if err != nil {
		return -1, err
	}
	defer c.close()
	names := make([]string, len(p.lower))
	for i, d := range p.lower {
		names[i] = c.hold(d)
	}
	lower := strings.Join(names, ":")
	if c.err == nil && len(lower) > 255 {
		return mountByPage(p)
	}
	c.set("lowerdir", lower)
	if p.upper != "" {
		c.set("upperdir", c.hold(p.upper))
		c.set("workdir", c.hold(p.work))
	}
	return c.mount(p)
}

// mountByPage mounts with mount(2). That call knows no detached mounts, so a
// thread of its own makes the mount in a mount namespace of its own, takes a
// detached copy along, and ends.
func mountByPage(p plan) (int, error) {
	fd := -1
	err := mountns.Private(func() (err error) {
		fd, err = mountInOwnNamespace(p)
		return err
	})
	return fd, err
}

func mountInOwnNamespace(p plan) (int, error) {
	// The descriptors must be of this namespace: overlayfs refuses others.
	// With their directory as the working directory, a few bytes name a layer.
	held := &fsContext{fd: -1}
	defer held.close()
	number := func(dir string) string {
		return strings.TrimPrefix(held.hold(dir), "/proc/self/fd/")
	}
	var data []string
	for _, o := range p.options() {
		data = append(data, strings.TrimSuffix(o[0]+"="+o[1], "="))
	}
	if p.upper != "" {
		data = append(data, "upperdir="+number(p.upper), "workdir="+number(p.work))
	}
	names := make([]string, len(p.lower))
	for i, d := range p.lower {
		names[i] = number(d)
	}
	data = append(data, "lowerdir="+strings.Join(names, ":"))
	if held.err != nil {
		return -1, fmt.Errorf("%s: %w", held.after, held.err)
	}
	if err := unix.Chdir("/proc/self/fd"); err != nil {
		return -1, fmt.Errorf("enter /proc/self/fd: %w", err)
	}
	// Any directory will do to mount on: nobody else sees it.
	on := p.lower[0]
	if err := unix.Mount("overlay", on, "overlay", 0, strings.Join(data, ",")); err != nil {
		return -1, fmt.Errorf("mount overlay: %w", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, on, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("copy the overlay mount: %w", err)
	}
	if p.attr() != 0 {
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: uint64(p.attr())}); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("make the mount read-only: %w", err)
		}
	}
	return fd, nil
}
