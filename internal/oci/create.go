package oci

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/annotation"
	"github.com/brig-run/brig/internal/cgroup"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/runtime/inside"
	"github.com/brig-run/brig/internal/userns"
)

// CreateOptions are what a caller says beside the bundle.
type CreateOptions struct {
	ID            string
	Bundle        string // directory
	PIDFile       string // gets the process ID of the first process
	ConsoleSocket string // gets the master of the terminal
	PIDFDSocket   string // gets a pidfd of the first process
	NoPivot       bool
	NoKeyring     bool
	KeepFiles     int // descriptors from 3 on that the container's program inherits
	// Listen are the variables LISTEN_* that tell the program which of these are
	// listening sockets, sd_listen_fds(3).
	Listen []string
	// NotifySocket is the service manager's socket of sd_notify(3), for which the
	// container gets one of its own.
	NotifySocket string
}

// creation is a container in the making: what there is so far, to undo it.
type creation struct {
	*Container
	opts  CreateOptions
	text  *config // the bundle's configuration
	spec  *specs.Spec
	group *cgroup.Group
	plan  *runtime.Plan
	files []*os.File // closed at the end in any case
	lock  *os.File

	source   *filterSource
	filter   *runtime.Filter
	prog     *inside.Program
	terminal *runtime.Terminal // nil without one
	console  *os.File          // the master, once there is one
	child    *inside.Spawning
	request  annotation.Request
	recorder *annotation.Recorder // nil if none is asked for, or possible
	notify   *notifier
	gated    bool // the process waits for Start
	grouped  bool // the cgroup is this container's: what is in it may be killed
}

// Create makes a container of a bundle, up to the user's program, which Start
// executes.
func (rt *Runtime) Create(o CreateOptions) error {
	c, err := rt.begin(o, true)
	if err != nil {
		return err
	}
	defer c.close()
	c.gated = true
	if err := c.create(); err != nil {
		c.undo()
		return err
	}
	return nil
}

// begin takes the ID and reads the bundle. Nothing is made but the container's
// directory.
func (rt *Runtime) begin(o CreateOptions, detach bool) (*creation, error) {
	if err := seal(); err != nil {
		return nil, err
	}
	if err := checkID(o.ID); err != nil {
		return nil, err
	}
	bundle, err := filepath.Abs(o.Bundle)
	if err != nil {
		return nil, err
	}
	text, err := readConfig(bundle)
	if err != nil {
		return nil, err
	}
	source, err := rt.findFilter(text)
	if err != nil {
		return nil, err
	}
	spec, err := text.decode(source.cached != nil)
	if err != nil {
		return nil, err
	}
	if err := rt.checkSpec(spec, bundle); err != nil {
		return nil, err
	}
	request, err := annotation.Parse(spec.Annotations)
	if err != nil {
		return nil, err
	}
	if request != (annotation.Request{}) && source.cached != nil { // it is told in the words of the profile
		if err := text.decodeRules(spec); err != nil {
			return nil, err
		}
	}
	if detach || o.ConsoleSocket != "" {
		if err := checkTerminal(spec.Process.Terminal, o.ConsoleSocket); err != nil {
			return nil, err
		}
	}
	rootfs := spec.Root.Path
	if !filepath.IsAbs(rootfs) {
		rootfs = filepath.Join(bundle, rootfs)
	}
	spec.Root.Path = rootfs
	c := &creation{opts: o, text: text, source: source, spec: spec, request: request, Container: &Container{rt: rt, spec: spec, Record: Record{
		ID: o.ID, Version: spec.Version, Bundle: bundle, Rootfs: rootfs, Created: time.Now().UTC(), Annotations: spec.Annotations,
		Owner: os.Getuid(), BootID: bootID(), Systemd: rt.Systemd, NoKeyring: o.NoKeyring,
	}}}
	if c.group, err = cgroup.ForSpec(spec, o.ID, cgroup.Options{Systemd: rt.Systemd, Rootless: userns.Inside()}); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(c.dir()); err == nil {
		return nil, fmt.Errorf("%w: %s", ErrExist, o.ID)
	}
	// Before it is written down whose cgroup it is, and delete believes it.
	if err := c.group.Free(); err != nil {
		return nil, err
	}
	if err := c.claim(); err != nil {
		return nil, err
	}
	ownFileLimit(spec.Process) // this caller's; that of an exec may be another
	return c, nil
}

// claim makes the container's directory. From its record on, delete can clean
// up whatever comes.
func (c *creation) claim() error {
	if err := os.MkdirAll(c.rt.Root, 0o711); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	if err := os.Mkdir(c.dir(), 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%w: %s", ErrExist, c.ID)
		}
		return fmt.Errorf("make the container's state: %w", err)
	}
	var err error
	if c.lock, err = c.Container.lock(false); err != nil {
		return err
	}
	c.Cgroups = c.group.Dirs
	if err = c.save(); err == nil {
		err = c.saveSpec()
	}
	if err != nil {
		c.remove()
	}
	return err
}

// saveSpec keeps the configuration for the operations that follow, which have the
// filter and need no rules.
func (c *creation) saveSpec() error {
	return os.WriteFile(c.file(configFile), c.text.brief, 0o600)
}

func (c *creation) keep(f *os.File) *os.File {
	c.files = append(c.files, f)
	return f
}

func (c *creation) close() {
	for _, f := range c.files {
		f.Close()
	}
	if c.recorder != nil {
		c.recorder.Close()
	}
	if c.plan != nil {
		c.plan.Close()
	}
	if c.prog != nil {
		c.prog.Unmap()
	}
	c.lock.Close()
}

// undo removes what a failed creation has made. Its process has been waited for.
func (c *creation) undo() {
	if c.grouped {
		c.group.Kill()
	}
	c.cancelRecorder()
	if c.grouped {
		if err := c.group.Remove(); err != nil {
			c.rt.Warn(err.Error())
		}
	}
	c.removeRdt()
	if c.Hooked || c.Ready {
		c.poststop()
	}
	c.remove()
}

// remove makes the directory vanish in one step, and then deletes it.
func (c *Container) remove() error {
	gone := filepath.Join(c.rt.Root, trashName())
	if err := os.Rename(c.dir(), gone); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("remove the container's state: %w", err)
	}
	return os.RemoveAll(gone)
}

// create makes the container. Gated, its process waits for Start; else it has executed the user's program when create returns.
func (c *creation) create() error {
	// What this process has inherited is for the container's program, if it was
	// asked for, and not for hooks.
	if err := unix.CloseRange(uint(3+c.opts.KeepFiles), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return os.NewSyscallError("close_range", err)
	}
	c.listenVariables()
	if err := c.offerNotify(); err != nil {
		return err
	}
	if err := c.spawnRecorder(); err != nil {
		return err
	}
	made := make(chan error, 1)
	if userns.Inside() { // some cgroups may be refused, and what there is belongs to the plan
		made <- c.makeGroup()
	} else {
		go func() { made <- c.makeGroup() }()
	}
	err := c.prepare()
	if merr := <-made; err == nil {
		err = merr
	}
	if err == nil && !c.Systemd {
		err = c.watch()
	}
	if err != nil {
		return err
	}
	return c.spawn()
}

// listenVariables adds those that the configuration lacks.
func (c *creation) listenVariables() {
	env := &c.spec.Process.Env
	for _, kv := range c.opts.Listen {
		name, _, _ := strings.Cut(kv, "=")
		if !slices.ContainsFunc(*env, func(have string) bool { return strings.HasPrefix(have, name+"=") }) {
			*env = append(*env, kv)
		}
	}
}

// makeGroup makes the cgroup with its limits, unless systemd does it later.
func (c *creation) makeGroup() error {
	if err := c.group.Make(); err != nil {
		return err
	}
	c.grouped = true
	if c.Systemd {
		return nil
	}
	return c.group.Limit(c.spec.Linux.Resources)
}

// prepare plans the start.
func (c *creation) prepare() error {
	root, err := c.openRoot()
	if err != nil {
		return err
	}
	if c.filter, err = c.source.filter(c.spec.Linux.Seccomp); err != nil {
		return err
	}
	if err := c.saveFilter(c.filter); err != nil {
		return err
	}
	cfg := runtime.Config{
		Spec: c.spec, Root: root, MountPoint: c.Rootfs, Filter: c.filter, Cgroups: c.group.Layout,
		OwnStreams: ownStreams([3]*os.File{os.Stdin, os.Stdout, os.Stderr}), Placed: c.Systemd, Setup: c.needsSetup(), Hooks: c.hasEarlyHooks(), Ready: true,
		KeepFiles: c.opts.KeepFiles, NoPivot: c.opts.NoPivot, NoKeyring: c.opts.NoKeyring,
		Bundle: c.Bundle, ResetAffinity: true,
	}
	if !cfg.Hooks {
		// Anywhere will do, and the path to the bundle may be closed to the
		// users of the container's user namespace.
		cfg.MountPoint = "/"
	}
	if cfg.Terminal, err = c.newTerminal(); err != nil {
		return err
	}
	if cfg.Terminal != nil {
		cfg.OwnStreams = [3]bool{true, true, true}
	}
	if c.gated {
		if cfg.Gate, err = c.makeGate(); err != nil {
			return err
		}
		c.keep(cfg.Gate)
	}
	if c.plan, err = runtime.New(cfg); err != nil {
		return err
	}
	c.warn(append(c.plan.Warnings, c.group.Warnings...))
	c.Steps, c.FirstStep, c.ExecStep = lastSteps(c.plan)
	if c.filter != nil && c.filter.Listener {
		c.Listener, c.ListenerReg = true, c.plan.ListenerReg
	}
	return nil
}

// warn tells of what was asked for and cannot be had here.
func (c *Container) warn(texts []string) {
	for _, w := range texts {
		c.rt.Warn(w)
	}
}

// lastSteps keeps the messages that Start may need.
func lastSteps(p *runtime.Plan) (steps []string, first, exec uint32) {
	const enough = 8
	n := max(len(p.Tags)-enough, 0)
	return p.Tags[n:], uint32(n), p.ExecTag()
}

// openRoot takes a copy of the mounts at the bundle's root, which will be the
// container's.
func (c *creation) openRoot() (*os.File, error) {
	fi, err := os.Stat(c.Rootfs)
	if err == nil && !fi.IsDir() {
		err = &os.PathError{Op: "open", Path: c.Rootfs, Err: unix.ENOTDIR}
	}
	if err != nil {
		return nil, fmt.Errorf("root.path: %w", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, c.Rootfs, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, &os.PathError{Op: "clone the mount of", Path: c.Rootfs, Err: err}
	}
	f := c.keep(os.NewFile(uintptr(fd), c.Rootfs))
	// What is mounted in it shall not appear on the host.
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Propagation: unix.MS_SLAVE})
	if err != nil {
		return nil, &os.PathError{Op: "set the propagation of", Path: c.Rootfs, Err: err}
	}
	return f, nil
}

// spawn performs the plan.
func (c *creation) spawn() error {
	var err error
	if c.prog, err = c.mapProgram(); err != nil {
		return err
	}
	clone := inside.Clone{Flags: c.plan.Flags, PIDNS: -1, CgroupFD: -1, Forks: c.plan.Forks}
	if c.plan.PIDNS != nil {
		clone.PIDNS = int(c.plan.PIDNS.Fd())
	}
	v2, err := c.group.Open()
	if err != nil {
		return fmt.Errorf("open the container's cgroup: %w", err)
	}
	if v2 != nil {
		clone.CgroupFD = int(c.keep(v2).Fd())
	}
	for _, f := range c.plan.Files {
		c.prog.SetReg(f.Reg, uint64(f.File.Fd()))
	}
	for r := range uint8(3) {
		c.prog.SetReg(inside.RegStdin+r, uint64(r))
	}
	c.child, err = c.prog.Begin(clone, nil, c.answer)
	if err != nil {
		return err
	}
	defer c.child.Close()
	return c.named(c.finish())
}

// finish sees the child through: gated, to the gate; else to the execve.
func (c *creation) finish() error {
	if !c.gated && c.Listener {
		return c.finishWithListener()
	}
	return c.child.Run(0)
}

// named turns the failure of a step into its meaning.
func (c *creation) named(err error) error {
	var step *inside.StepError
	if errors.As(err, &step) {
		return c.plan.Failure(step.Tag, step.Errno)
	}
	return err
}

// mapProgram maps the plan: gated, in a file by which Start can see how far the
// waiting process has come.
func (c *creation) mapProgram() (*inside.Program, error) {
	var f *os.File
	var err error
	if c.gated {
		f, err = os.OpenFile(c.file(programFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	} else {
		var fd int
		fd, err = unix.MemfdCreate("brig-program", unix.MFD_CLOEXEC)
		f = os.NewFile(uintptr(fd), "program")
	}
	if err != nil {
		return nil, fmt.Errorf("make the start program: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(c.plan.Program); err != nil {
		return nil, fmt.Errorf("make the start program: %w", err)
	}
	return inside.Map(int(f.Fd()), len(c.plan.Program))
}

// answer does what the child asks for.
func (c *creation) answer(point byte, pid int) error {
	switch point {
	case inside.AskCgroup:
		if err := c.group.Start(pid); err != nil {
			return err
		}
		if err := c.watch(); err != nil {
			return err
		}
		return c.group.Limit(c.spec.Linux.Resources)
	case inside.AskMaps:
		if err := writeMaps(pid, c.spec.Linux); err != nil {
			return err
		}
		return runtime.RaiseLimits(pid, c.spec.Process)
	case inside.AskOffsets:
		return writeOffsets(pid, c.spec.Linux.TimeOffsets)
	case inside.AskSetup:
		return c.setup(pid)
	case inside.AskHooks:
		return c.earlyHooks(pid)
	case inside.AskTerminal:
		return c.takeTerminal(pid)
	case inside.AskReady:
		return c.ready(pid)
	}
	return nil
}

// ready records the process and tells the caller of it, before it is let go.
func (c *creation) ready(pid int) error {
	ticks, ok := monitor.ProcessStart(pid)
	if !ok {
		return errors.New("the container's process ended before it was ready")
	}
	if c.console != nil && c.opts.ConsoleSocket == "" {
		plainLines(c.console)
	}
	c.PID, c.PIDStart, c.Ready = pid, ticks, true
	if err := c.tellRecorder(); err != nil {
		return err
	}
	if err := c.save(); err != nil {
		return err
	}
	if !c.gated {
		if err := c.startHooks(); err != nil {
			return err
		}
		var err error
		if c.notify, err = c.listenNotify(c.opts.NotifySocket); err != nil {
			return err
		}
	}
	if c.console != nil && c.opts.ConsoleSocket != "" {
		if err := sendConsole(c.opts.ConsoleSocket, c.console); err != nil {
			return err
		}
	}
	if err := sendPIDFD(c.opts.PIDFDSocket, pid); err != nil {
		return err
	}
	return writePIDFile(c.opts.PIDFile, pid)
}

func writePIDFile(name string, pid int) error {
	if name == "" {
		return nil
	}
	if err := writeAtomic(name, strconv.AppendInt(nil, int64(pid), 10), 0o644); err != nil {
		return fmt.Errorf("write the PID file: %w", err)
	}
	return nil
}

// writeMaps gives a new user namespace its maps, user_namespaces(7).
func writeMaps(pid int, l *specs.Linux) error {
	for _, m := range []struct {
		file string
		list []specs.LinuxIDMapping
	}{{"uid_map", l.UIDMappings}, {"gid_map", l.GIDMappings}} {
		var b []byte
		for _, e := range m.list {
			b = fmt.Appendf(b, "%d %d %d\n", e.ContainerID, e.HostID, e.Size)
		}
		name := fmt.Sprintf("/proc/%d/%s", pid, m.file)
		if err := os.WriteFile(name, b, 0); err != nil {
			return fmt.Errorf("map the IDs of the user namespace: %w", err)
		}
	}
	return nil
}

// writeOffsets sets the clocks of the time namespace that a process has made for
// its children, time_namespaces(7).
func writeOffsets(pid int, offsets map[string]specs.LinuxTimeOffset) error {
	var b []byte
	for _, clock := range slices.Sorted(maps.Keys(offsets)) {
		b = fmt.Appendf(b, "%s %d %d\n", clock, offsets[clock].Secs, offsets[clock].Nanosecs)
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", pid), b, 0); err != nil {
		return fmt.Errorf("linux.timeOffsets: %w", err)
	}
	return nil
}

// ownStreams says which of the standard streams may be given to the container's
// user: pipes, sockets and terminals, and no file of the host's.
func ownStreams(streams [3]*os.File) (own [3]bool) {
	for i, f := range streams {
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) != nil {
			continue
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFIFO, unix.S_IFSOCK:
			own[i] = true
		case unix.S_IFCHR:
			major := unix.Major(st.Rdev)
			own[i] = major >= 136 && major <= 143 // Unix98 PTY slaves, devices.txt
		}
	}
	return own
}
