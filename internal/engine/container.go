package engine

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

// Container is what was fixed when a container was created.
type Container struct {
	ID          string           `json:"id"`
	Name        string           `json:"name"`
	Created     time.Time        `json:"created"`
	Image       string           `json:"image"`   // as the user named it
	ImageID     string           `json:"imageID"` // digest of its config
	Layers      []string         `json:"layers"`  // chain IDs, base first
	ImageConfig spec.ImageConfig `json:"imageConfig"`
	Options     spec.Options     `json:"options"`
	AutoRemove  bool             `json:"autoRemove,omitempty"`
	// Starting marks a container that its maker starts at once. If it never
	// was, and nobody holds its lock, its maker died: with AutoRemove nobody
	// wants it any more.
	Starting bool   `json:"starting,omitempty"`
	Detached bool   `json:"detached,omitempty"` // run -d: input outlives its clients
	Platform string `json:"platform,omitempty"`
	Policy   string `json:"policy,omitempty"`  // the file that its confinement is of
	Explain  bool   `json:"explain,omitempty"` // a witness records what it is denied
	// Health is the health check, the image's and the user's together; nil if
	// there is none. Shell is the image's SHELL, for it.
	Health *spec.Healthcheck `json:"health,omitempty"`
	Shell  []string          `json:"shell,omitempty"`

	engine  *Engine
	observe func(cgroup string) error // see CreateOptions
	leash   bool                      // see CreateOptions
	profile []byte                    // the seccomp profile's text, if this process made the container
	doomed  bool                      // its anonymous volumes go with it, as with AutoRemove
}

// Status of a container, in Docker's words.
const (
	StatusCreated = "created"
	StatusRunning = "running"
	StatusExited  = "exited"
	// StatusPaused is a running container whose processes stand still.
	StatusPaused = "paused"
	// StatusRestarting is an ended container that its monitor will start anew.
	StatusRestarting = "restarting"
)

func (c *Container) dir() string { return c.engine.path("containers", c.ID) }

func (c *Container) file(name string) string { return filepath.Join(c.dir(), name) }

// LogPath is the file of the json-file log, "" if there is none.
func (c *Container) LogPath() string {
	if c.Options.Log.Name() == spec.LogNone {
		return ""
	}
	return c.file(c.ID + "-json.log")
}

// Dir is the container's directory.
func (c *Container) Dir() string { return c.dir() }

func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// lockFile is the name of the lock in a container's directory.
const lockFile = "lock"

// makeLocked makes the container's directory with its lock held. The lock file
// appears already locked (O_TMPFILE, then link), so that a lock that is free
// always means that its holder is dead.
//
// Meanwhile it shares the lock of names, which sweep wants for itself before it
// takes a directory without a lock file for a dead one.
func (c *Container) makeLocked() (*os.File, error) {
	making, err := c.engine.lockNames(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer making.Close()
	if err := os.Mkdir(c.dir(), 0o700); err != nil {
		return nil, err
	}
	fd, err := unix.Open(c.dir(), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		if err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err == nil {
			err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, c.file(lockFile), unix.AT_SYMLINK_FOLLOW)
		}
		if err == nil {
			return os.NewFile(uintptr(fd), c.file(lockFile)), nil
		}
		unix.Close(fd)
	}
	os.Remove(c.dir())
	return nil, &os.PathError{Op: "lock", Path: c.dir(), Err: err}
}

// lockNames takes the lock of the names and of containers in the making.
func (e *Engine) lockNames(how int) (*os.File, error) {
	f, err := os.OpenFile(e.path("names.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		switch err := unix.Flock(int(f.Fd()), how); err {
		case nil:
			return f, nil
		case unix.EINTR:
		default:
			f.Close()
			return nil, err
		}
	}
}

var errLocked = errors.New("locked")

// lock takes the container's lock, or fails with errLocked while it is held.
func (c *Container) lock() (*os.File, error) { return c.flock(unix.LOCK_EX | unix.LOCK_NB) }

func (c *Container) flock(how int) (*os.File, error) {
	f, err := os.OpenFile(c.file(lockFile), os.O_RDWR, 0)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, &NotFoundError{c.ID}
		}
		return nil, err
	}
	for {
		switch err = unix.Flock(int(f.Fd()), how); err {
		case unix.EINTR:
			continue
		case unix.EWOULDBLOCK:
			err = errLocked
		case nil:
			// The container may have gone while we waited.
			if _, err := os.Stat(c.file(lockFile)); err == nil {
				return f, nil
			}
			err = &NotFoundError{c.ID}
			f.Close()
			return nil, err
		}
		f.Close()
		return nil, err
	}
}

// save writes config.json. Its appearance makes the container exist.
func (c *Container) save(durable bool) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return writeAtomic(c.file("config.json"), b, durable)
}

func writeAtomic(name string, b []byte, durable bool) error {
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name))
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

func (e *Engine) load(id string) (*Container, error) {
	b, err := readFile(e.path("containers", id, "config.json"))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, &NotFoundError{id}
		}
		return nil, err
	}
	c := &Container{engine: e}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("container %s: config.json: %w", id, err)
	}
	return c, nil
}

// Find finds a container by its ID, its name, or the beginning of its ID.
func (e *Engine) Find(name string) (*Container, error) {
	name = strings.TrimPrefix(name, "/")
	if name == "" || strings.ContainsAny(name, "/\x00") || name == "." || name == ".." {
		return nil, usage("invalid container name or ID: %q", name)
	}
	if len(name) == 64 {
		if c, err := e.load(name); err == nil {
			return c, nil
		}
	}
	if id, err := os.Readlink(e.path("names", name)); err == nil {
		if c, err := e.load(id); err == nil && c.Name == name {
			return c, nil
		}
	}
	return e.findPrefix(name)
}

func (e *Engine) findPrefix(prefix string) (*Container, error) {
	ids, err := e.ids()
	if err != nil {
		return nil, err
	}
	var found *Container
	for _, id := range ids {
		if !strings.HasPrefix(id, prefix) {
			continue
		}
		c, err := e.load(id)
		if err != nil {
			continue
		}
		if found != nil {
			return nil, usage("multiple IDs found with provided prefix: %s", prefix)
		}
		found = c
	}
	if found == nil {
		return nil, &NotFoundError{prefix}
	}
	return found, nil
}

func (e *Engine) ids() ([]string, error) {
	d, err := os.Open(e.path("containers"))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	sort.Strings(names)
	return names, err
}

// List gives all containers, the newest first. What a killed command left
// half-made is removed on the way.
func (e *Engine) List() ([]*Container, error) {
	ids, err := e.ids()
	if err != nil {
		return nil, err
	}
	found := make([]*Container, len(ids))
	var swept atomic.Bool
	inParallel(len(ids), func(n int) {
		c, err := e.load(ids[n])
		switch {
		case err != nil:
			if e.sweep(ids[n]) {
				swept.Store(true)
			}
		case c.abandoned():
			c.discard()
		default:
			found[n] = c
		}
	})
	list := slices.DeleteFunc(found, func(c *Container) bool { return c == nil })
	if swept.Load() {
		e.sweepNames()
	}
	e.emptyTrash()
	sort.SliceStable(list, func(i, j int) bool { return list[i].Created.After(list[j].Created) })
	return list, nil
}

// inParallel calls f for the numbers up to n, on all processors.
func inParallel(n int, f func(int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	all.Wait()
}

// States gives the states of containers; an error is that of one which went
// meanwhile.
func States(list []*Container) ([]State, []error) {
	states, errs := make([]State, len(list)), make([]error, len(list))
	inParallel(len(list), func(i int) { states[i], errs[i] = list[i].State() })
	return states, errs
}

// readFile is os.ReadFile with half of the system calls, for the many small
// files of a list.
func readFile(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 4096)
	for n := 0; ; {
		m, err := unix.Read(fd, b[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: name, Err: err}
		case m == 0:
			return b[:n], nil
		}
		if n += m; n == len(b) {
			b = append(b, make([]byte, n)...)
		}
	}
}

// sweep removes a directory that never became a container, if its maker is
// dead.
func (e *Engine) sweep(id string) bool {
	c := &Container{ID: id, engine: e}
	l, err := c.lock()
	var missing *NotFoundError
	switch {
	case err == nil:
		defer l.Close()
		if _, err := os.Stat(c.file("config.json")); err == nil {
			return false // it became one meanwhile
		}
	case errors.As(err, &missing):
		making, err := e.lockNames(unix.LOCK_EX | unix.LOCK_NB)
		if err != nil {
			return false // one may be in the making
		}
		_, err = os.Stat(c.file(lockFile))
		making.Close()
		if err == nil {
			return false
		}
	default:
		return false
	}
	return c.discard() == nil
}

// sweepNames frees names of containers that are gone.
func (e *Engine) sweepNames() {
	names, err := os.ReadDir(e.path("names"))
	if err != nil {
		return
	}
	for _, n := range names {
		link := e.path("names", n.Name())
		if id, err := os.Readlink(link); err == nil {
			if _, err := os.Stat(e.path("containers", id)); errors.Is(err, os.ErrNotExist) {
				monitor.FreeName(link, id, e.path("names.lock"))
			}
		}
	}
}

// abandoned says that nobody will ever start or remove this container.
func (c *Container) abandoned() bool {
	if !c.Starting || !c.AutoRemove {
		return false
	}
	if s, err := c.readState(); err != nil || s != nil {
		return false // State and reconcile look after it
	}
	l, err := c.lock()
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// discard removes the container's directory and name, whatever its state. Its
// processes end: a monitor that was killed before its record was written may
// have left some.
func (c *Container) discard() error {
	c.clearCgroups()
	if err := c.releaseVolumes(); err != nil {
		return err
	}
	return monitor.RemoveContainer(c.dir(), c.nameLink(), c.engine.path("trash"), c.engine.path("names.lock"))
}

func (c *Container) nameLink() string {
	if c.Name == "" {
		return ""
	}
	return c.engine.path("names", c.Name)
}

// emptyTrash deletes what a killed removal left.
func (e *Engine) emptyTrash() {
	d, err := os.Open(e.path("trash"))
	if err != nil {
		return
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, n := range names {
		os.RemoveAll(e.path("trash", n))
	}
}

// takeName gives the container its name: the link is made in one step, so of
// two commands only one can have it. A link to a container that is gone is
// taken over.
func (c *Container) takeName() error {
	err := os.Symlink(c.ID, c.nameLink())
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	l, err := c.engine.lockNames(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer l.Close()
	return c.takeNameLocked()
}

// takeNameLocked is takeName for whoever has the lock of names.
func (c *Container) takeNameLocked() error {
	link := c.nameLink()
	owner, err := os.Readlink(link)
	if err == nil && !c.engine.nameIsStale(c.Name, owner) {
		return usage("the container name \"/%s\" is already in use by container %q: remove or rename that container to be able to reuse that name, or choose another", c.Name, owner)
	}
	if err == nil {
		os.Remove(link)
	}
	return os.Symlink(c.ID, link)
}

// nameIsStale says whether the container that holds a name is gone, was
// abandoned by a killed command, or has another name by now.
func (e *Engine) nameIsStale(name, id string) bool {
	owner := &Container{ID: id, engine: e}
	if _, err := os.Stat(owner.dir()); err != nil {
		return true
	}
	loaded, err := e.load(id)
	if err != nil {
		l, err := owner.lock()
		if err != nil {
			return false
		}
		l.Close()
		if loaded, err = e.load(id); err != nil {
			return true
		} // else it has become one in between
	}
	return loaded.Name != name || loaded.abandoned()
}

// Labels are the container's labels: the image's, and the user's over them.
func (c *Container) Labels() map[string]string {
	all := map[string]string{}
	for k, v := range c.ImageConfig.Labels {
		all[k] = v
	}
	for k, v := range c.Options.Labels {
		all[k] = v
	}
	return all
}

// Command is what the container runs: the entrypoint and its arguments.
func (c *Container) Command() []string { return spec.Command(&c.Options, &c.ImageConfig) }

// Network is the mode of the container's network.
func (c *Container) Network() spec.NetworkMode { return c.Options.NetworkMode() }
