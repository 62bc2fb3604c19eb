package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/annotation"
	"github.com/brig-run/brig/internal/cgroup"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/resctrl"
	"github.com/brig-run/brig/internal/runtime/inside"
)

// DefaultRoot is where the state is kept, unless --root says otherwise. It is
// in memory: no state outlives the machine.
const DefaultRoot = "/run/brig-runtime"

// Runtime is the state below one root directory.
type Runtime struct {
	Root    string
	Systemd bool              // cgroups are made by systemd
	Places  annotation.Places // of what annotations ask for
	Warn    func(msg string)  // for what does not stop an operation
}

// Errors with the words that engines look for.
var (
	ErrNotExist   = errors.New("container does not exist")
	ErrExist      = errors.New("container with given ID already exists")
	ErrNotRunning = errors.New("container not running")
)

// Container is a container with its record.
type Container struct {
	Record
	rt   *Runtime
	spec *specs.Spec // see Spec
}

// Record is what a container's directory says about it, whatever its process
// does.
type Record struct {
	ID          string            `json:"id"`
	Version     string            `json:"ociVersion"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       int               `json:"owner"`
	BootID      string            `json:"bootID"`
	Cgroups     []string          `json:"cgroups"`
	Systemd     bool              `json:"systemd,omitempty"`
	Resources   json.RawMessage   `json:"resources,omitempty"` // as last updated; a specs.LinuxResources
	Rdt         *resctrl.Group    `json:"rdt,omitempty"`       // to be removed
	NoKeyring   bool              `json:"noKeyring,omitempty"` // of exec, too

	PID      int    `json:"pid"`
	PIDStart uint64 `json:"pidStart"`
	// Ready says that create has come to its end.
	Ready bool `json:"ready"`
	// Hooked says that hooks have begun, so that poststop hooks are due.
	Hooked bool `json:"hooked,omitempty"`
	// Steps are the messages of the steps after the gate, the first of which
	// has the index FirstStep in the plan; from ExecStep on they are of the
	// execve.
	Steps       []string `json:"steps,omitempty"`
	FirstStep   uint32   `json:"firstStep,omitempty"`
	ExecStep    uint32   `json:"execStep,omitempty"`
	ListenerReg uint8    `json:"listenerReg,omitempty"`
	Listener    bool     `json:"listener,omitempty"`

	// Recorder is the process that annotations asked for.
	Recorder      int    `json:"recorder,omitempty"`
	RecorderStart uint64 `json:"recorderStart,omitempty"`
}

// Status of a container: those of the specification, and paused.
type Status string

// The states.
const (
	Creating Status = "creating"
	Created  Status = "created"
	Running  Status = "running"
	Paused   Status = "paused"
	Stopped  Status = "stopped"
)

// Files of a container's directory.
const (
	lockFile    = "lock"
	recordFile  = "record.json"
	configFile  = "config.json"
	filterFile  = "filter"
	programFile = "program"
	gateFile    = "gate"
	notifyFile  = "notify"
)

// filterDir is the directory of filters beside those of containers; no ID can be
// this.
const filterDir = "@filters"

// checkID refuses what is not a name: it becomes a directory and a cgroup.
func checkID(id string) error {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_+-.", r))
	}
	if id == "" || id == "." || id == ".." || len(id) > 255 || strings.ContainsFunc(id, bad) {
		return fmt.Errorf("invalid container ID %q: want letters, digits, and _ + - .", id)
	}
	return nil
}

func (c *Container) dir() string { return filepath.Join(c.rt.Root, c.ID) }

func (c *Container) file(name string) string { return filepath.Join(c.dir(), name) }

// Find gives the container with an ID.
func (rt *Runtime) Find(id string) (*Container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	c := &Container{Record: Record{ID: id}, rt: rt}
	b, err := os.ReadFile(c.file(recordFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotExist, id)
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &c.Record); err != nil {
		return nil, fmt.Errorf("container %s: %s: %w", id, recordFile, err)
	}
	return c, nil
}

// List gives all containers, by ID.
func (rt *Runtime) List() ([]*Container, error) {
	entries, err := os.ReadDir(rt.Root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var list []*Container
	for _, e := range entries {
		c, err := rt.Find(e.Name())
		if err != nil {
			continue // is going, or is none
		}
		list = append(list, c)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].ID < list[j].ID })
	return list, nil
}

// save writes the record: a reader sees the old or the new one.
func (c *Container) save() error {
	b, err := json.Marshal(&c.Record)
	if err == nil {
		err = writeAtomic(c.file(recordFile), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("record container %s: %w", c.ID, err)
	}
	return nil
}

func writeAtomic(name string, b []byte, mode os.FileMode) error {
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name))
	if err := os.WriteFile(tmp, b, mode); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		os.Remove(tmp)
		return err
	}
	return nil
}

// Spec is the configuration that the container was created with.
func (c *Container) Spec() (*specs.Spec, error) {
	if c.spec != nil {
		return c.spec, nil
	}
	b, err := os.ReadFile(c.file(configFile))
	if err != nil {
		return nil, fmt.Errorf("read the container's configuration: %w", err)
	}
	spec, err := decodeSpec(b)
	if err != nil {
		return nil, fmt.Errorf("container %s: %s: %w", c.ID, configFile, err)
	}
	if spec.Linux == nil {
		spec.Linux = &specs.Linux{}
	}
	c.spec = spec
	return spec, nil
}

// lock takes the container's lock. With wait it waits for its holder; else a
// lock that is held is an error. A lock that went away with its container, while
// it was waited for, protects nothing: then the lock of a new one is taken.
func (c *Container) lock(wait bool) (*os.File, error) {
	for {
		f, err := c.tryLock(wait)
		if err != nil {
			return nil, err
		}
		held, err := f.Stat()
		if err == nil {
			var named os.FileInfo
			if named, err = os.Stat(c.file(lockFile)); err == nil && os.SameFile(held, named) {
				return f, nil
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
}

func (c *Container) tryLock(wait bool) (*os.File, error) {
	f, err := os.OpenFile(c.file(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotExist, c.ID)
	}
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		switch err := unix.Flock(int(f.Fd()), how); err {
		case nil:
			return f, nil
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			f.Close()
			return nil, fmt.Errorf("container %s is being created or changed by another process", c.ID)
		default:
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: c.file(lockFile), Err: err}
		}
	}
}

var bootID = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
})

// alive says whether the recorded process still runs.
func (c *Container) alive() bool {
	if c.PID == 0 || c.BootID != bootID() {
		return false
	}
	ticks, ok := monitor.ProcessStart(c.PID)
	return ok && ticks == c.PIDStart
}

// group is the container's cgroup.
func (c *Container) group() (*cgroup.Group, error) {
	return cgroup.Load(c.Cgroups, cgroup.Options{Systemd: c.Systemd})
}

// Status is the container's state now.
func (c *Container) Status() (Status, error) {
	if !c.alive() {
		if c.Ready || !c.beingMade() {
			return Stopped, nil
		}
		return Creating, nil
	}
	if !c.Ready {
		return Creating, nil
	}
	started, err := c.started()
	switch {
	case err != nil:
		return "", err
	case !started:
		return Created, nil
	}
	g, err := c.group()
	if err != nil {
		return "", err
	}
	frozen, err := g.Frozen()
	if err == nil && frozen {
		return Paused, nil
	}
	return Running, err
}

// beingMade says whether the process that creates the container lives.
func (c *Container) beingMade() bool {
	l, err := c.lock(false)
	if err != nil {
		return true
	}
	l.Close()
	return false
}

// started says whether the waiting process has passed the gate.
func (c *Container) started() (bool, error) {
	stage, err := inside.ReadProgress(c.file(programFile))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil // removed after the start
	}
	return stage > 0, err
}

// State is the container's state in the form of the specification.
func (c *Container) State() (*specs.State, error) {
	status, err := c.Status()
	if err != nil {
		return nil, err
	}
	return c.stateAs(status), nil
}

func (c *Container) stateAs(status Status) *specs.State {
	s := &specs.State{Version: c.Version, ID: c.ID, Status: specs.ContainerState(status), Bundle: c.Bundle, Annotations: c.Annotations}
	if status != Stopped {
		s.Pid = c.PID
	}
	return s
}
