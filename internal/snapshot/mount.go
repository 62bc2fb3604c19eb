package snapshot

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MountOptions say what a root is made of.
type MountOptions struct {
	Lower       []string // chain IDs, base first; none for an empty image
	Upper, Work string   // the writable layer's directories; both empty for a read-only view
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
	attr := 0
	if o.Upper == "" {
		attr = unix.MOUNT_ATTR_RDONLY
	}
	var fd int
	if appendsLower() {
		fd, err = mountAppending(dirs, o.Upper, o.Work, attr)
	} else {
		fd, err = mountJoined(dirs, o.Upper, o.Work, attr)
	}
	if err != nil {
		for _, d := range dirs {
			if !exists(d) {
				return nil, fmt.Errorf("mount root: layer %s: %w", d, ErrNotFound)
			}
		}
		return nil, fmt.Errorf("mount root of %d layers: %w", len(o.Lower), err)
	}
	return os.NewFile(uintptr(fd), "overlay root"), nil
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

// features sets the options that do not depend on the layers.
func (c *fsContext) features() {
	c.set("source", "overlay") // the name in mountinfo and df
	c.set("index", "off")
	c.set("metacopy", "off")
	c.set("redirect_dir", "nofollow")
}

// mount creates the file system and a detached mount of it.
func (c *fsContext) mount(attr int) (int, error) {
	fd := -1
	if c.err == nil {
		c.err, c.after = unix.FsconfigCreate(c.fd), "create overlay"
	}
	if c.err == nil {
		fd, c.err = unix.Fsmount(c.fd, unix.FSMOUNT_CLOEXEC, attr)
		c.after = "mount overlay"
	}
	if c.err != nil {
		return -1, fmt.Errorf("%s: %w%s", c.after, c.err, c.log())
	}
	return fd, nil
}

// log returns what the kernel says about a failure (fsopen(2), "message
// retrieval interface"), as ": text; text", or nothing.
func (c *fsContext) log() string {
	var all strings.Builder
	buf := make([]byte, 512)
	for {
		n, err := unix.Read(c.fd, buf)
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
func mountAppending(dirs []string, upper, work string, attr int) (int, error) {
	c, err := openOverlay()
	if err != nil {
		return -1, err
	}
	defer c.close()
	for _, d := range dirs {
		c.setDir("lowerdir+", d)
	}
	if upper != "" {
		c.setDir("upperdir", upper)
		c.setDir("workdir", work)
	}
	c.features()
	return c.mount(attr)
}

// mountJoined is the way of older kernels: all layers in one option, named by
// descriptors to keep it short. What still exceeds the 255 bytes of fsconfig(2)
// goes through mount(2), which takes a page.
func mountJoined(dirs []string, upper, work string, attr int) (int, error) {
	c, err := openOverlay()
	if err != nil {
		return -1, err
	}
	defer c.close()
	names := make([]string, len(dirs))
	for i, d := range dirs {
		names[i] = c.hold(d)
	}
	lower := strings.Join(names, ":")
	if c.err == nil && len(lower) > 255 {
		return mountByPage(dirs, upper, work, attr)
	}
	if upper != "" {
		upper, work = c.hold(upper), c.hold(work)
	}
	c.set("lowerdir", lower)
	if upper != "" {
		c.set("upperdir", upper)
		c.set("workdir", work)
	}
	c.features()
	return c.mount(attr)
}

// mountByPage mounts with mount(2). That call knows no detached mounts, so a
// thread of its own makes the mount in a mount namespace of its own, takes a
// detached copy along, and ends.
func mountByPage(dirs []string, upper, work string, attr int) (int, error) {
	type result struct {
		fd  int
		err error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread, which is no longer like the others, ends
		// with the goroutine.
		runtime.LockOSThread()
		fd, err := mountInOwnNamespace(dirs, upper, work, attr)
		done <- result{fd, err}
	}()
	res := <-done
	return res.fd, res.err
}

func mountInOwnNamespace(dirs []string, upper, work string, attr int) (int, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return -1, fmt.Errorf("unshare the mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make mounts private: %w", err)
	}
	// The descriptors must be of this namespace: overlayfs refuses others.
	// With their directory as the working directory, a few bytes name a layer.
	held := &fsContext{fd: -1}
	defer held.close()
	number := func(dir string) string {
		return strings.TrimPrefix(held.hold(dir), "/proc/self/fd/")
	}
	data := "index=off,metacopy=off,redirect_dir=nofollow"
	if upper != "" {
		data += ",upperdir=" + number(upper) + ",workdir=" + number(work)
	}
	names := make([]string, len(dirs))
	for i, d := range dirs {
		names[i] = number(d)
	}
	data += ",lowerdir=" + strings.Join(names, ":")
	if held.err != nil {
		return -1, fmt.Errorf("%s: %w", held.after, held.err)
	}
	if err := unix.Chdir("/proc/self/fd"); err != nil {
		return -1, fmt.Errorf("enter /proc/self/fd: %w", err)
	}
	// Any directory will do to mount on: nobody else sees it.
	on := dirs[0]
	if err := unix.Mount("overlay", on, "overlay", 0, data); err != nil {
		return -1, fmt.Errorf("mount overlay: %w", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, on, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("copy the overlay mount: %w", err)
	}
	if attr != 0 {
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: uint64(attr)}); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("make the mount read-only: %w", err)
		}
	}
	return fd, nil
}
