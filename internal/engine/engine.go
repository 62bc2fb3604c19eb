// Package engine is a container's life: create, start, stop, logs, exec,
// remove, and what the other commands ask about it.
//
// It owns the directory of each container, its name, its lock and the order in
// which images, snapshots, specs, cgroups and the runtime are asked to do their
// part. It does not parse flags, print, or talk to registries, and it makes no
// system call inside a container: package runtime plans those and package
// monitor performs them.
//
// On disk, below the root (/var/lib/brig):
//
//	containers/ID/config.json  what the user asked for; rename and update alone change it
//	containers/ID/state.json   what happened; written by the monitor
//	containers/ID/health.json  what the health check found; written by the monitor
//	containers/ID/stopped      somebody stopped it: no policy starts it anew
//	containers/ID/lock         held by whoever starts or runs the container
//	containers/ID/cgroup       the cgroup that an ordinary user was given for it
//	containers/ID/...          log, upper layer, /etc files, monitor's socket
//	names/NAME -> ID           a name is taken by making the link
//	events/                    what happened, package events
//	trash/                     renamed here, then deleted
//	images/, layers/, networks/, volumes/  packages image, snapshot, network, volume
package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/network"
	"github.com/brig-run/brig/internal/snapshot"
)

// DefaultRoot is where everything is kept, unless --root or BRIG_ROOT says
// otherwise.
const DefaultRoot = "/var/lib/brig"

// Engine is the store of one root directory. It holds nothing in memory that
// is not on disk: any number of commands may work on the same root.
type Engine struct {
	Root     string
	Layers   *snapshot.Store
	images   func() (*image.Store, error)
	networks func() *network.Store
}

// Open opens the store, made if it is missing. It costs a few system calls.
func Open(root string) (*Engine, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	e := &Engine{Root: root}
	if _, err := os.Stat(e.path("mnt")); err != nil {
		if err := e.makeDirs(); err != nil {
			return nil, fmt.Errorf("open the store: %w", err)
		}
	}
	if e.Layers, err = snapshot.Open(e.path("layers")); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	e.images = sync.OnceValues(func() (*image.Store, error) { return image.Open(e.Root, e.Layers) })
	e.networks = e.openNetworks()
	return e, nil
}

func (e *Engine) path(parts ...string) string {
	return filepath.Join(append([]string{e.Root}, parts...)...)
}

// RecorderFile is where the programs of recorders are kept; see record.Open.
func (e *Engine) RecorderFile() string { return e.path("cache", "recorder.json") }

// BuildCache is the directory in which a builder keeps what the next build can
// use; package build.
func (e *Engine) BuildCache() string { return e.path("cache", "build") }

// spread tells ext4 that the directories in dir have nothing to do with each other
// (chattr(1), T), so that it puts each into another part of the disk. Without a
// journal it does not use an inode again for a minute or more after its removal, and
// looks at each of those of a part to find a free one: where containers come and go
// quickly, a start took twice its time. Other file systems may refuse.
func spread(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	const topdir = 0x00020000 // FS_TOPDIR_FL
	if flags, err := unix.IoctlGetInt(int(d.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, flags|topdir)
	}
}

// makeDirs makes the directories; mnt, the last, says that all are there.
func (e *Engine) makeDirs() error {
	if err := os.MkdirAll(e.Root, 0o711); err != nil {
		return err
	}
	for _, d := range []string{"containers", "names", "trash", "cache", "mnt"} {
		if err := os.Mkdir(e.path(d), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	spread(e.path("containers"))
	return nil
}

// Images is the image store.
func (e *Engine) Images() (*image.Store, error) { return e.images() }

// UsageError is a mistake of the user's, or a state that does not allow what
// was asked: the command line prints it as it is.
type UsageError struct{ msg string }

func (e *UsageError) Error() string { return e.msg }

func usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// ErrRunning says that a container that was to be started runs already.
var ErrRunning = errors.New("already running")

// NotFoundError says that there is no such container.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string { return "no such container: " + e.Name }
