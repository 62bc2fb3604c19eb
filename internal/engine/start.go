package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/cgroup"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/mountns"
	"github.com/brig-run/brig/internal/network/undo"
	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/snapshot"
	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/internal/userns"
	"github.com/brig-run/brig/internal/witness"
)

// Run is a started container, with the connection of the command that started
// it.
type Run struct {
	Container *Container
	Client    *monitor.Client
	Warnings  []string
	PID       int
	Witness   *witness.Witness // nil unless Container.Explain and somebody is attached
}

// starter is one start under way: what it has made so far, to undo it.
type starter struct {
	c       *Container
	lock    *os.File
	booting *booting
	group   *cgroup.Group
	plan    *runtime.Plan
	files   []*os.File          // closed at the end in any case
	trees   map[string]*os.File // mounts by what the specification calls their source
	result  *spec.Result
	witness *witness.Witness
	userns  *os.File // the container's own, or nil
	attach  monitor.Streams
	size    ConsoleSize
	net     *attached

	undelegated error // why an ordinary user's container has no cgroup for limits

	byPolicy bool // nobody asked for this start but the restart policy
	restarts int  // how many such starts there were, and the pause before this one
	delay    int64
}

// ConsoleSize is the size that a terminal has from its first moment; zero
// leaves it unset. A program may ask before its user's command can tell.
type ConsoleSize struct{ Rows, Cols uint16 }

// apply sets the size of a terminal by its master.
func (z ConsoleSize) apply(master *os.File) error {
	if z == (ConsoleSize{}) {
		return nil
	}
	raw, err := master.SyscallConn() // not Fd, which would make it blocking
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: z.Rows, Col: z.Cols})
	})
	if err = errors.Join(cerr, err); err != nil {
		return fmt.Errorf("set the size of the terminal: %w", err)
	}
	return nil
}

// Start starts a created or stopped container. attach are the streams that the
// caller wants to see and feed from the very first byte.
func (c *Container) Start(attach monitor.Streams, size ConsoleSize) (*Run, error) {
	for {
		if err := c.startable(); err != nil {
			return nil, err
		}
		l, err := c.await()
		if err != nil {
			return nil, err
		}
		s, err := c.readState()
		if err == nil && (s == nil || !s.Running && !s.Restarting) {
			c.mark(false)
			return c.start(l, c.engine.boot(c.Explain), attach, size)
		}
		l.Close()
		switch {
		case err != nil:
			return nil, err
		case s.Restarting:
			continue // startable mends that
		case alive(s):
			return nil, usage("container %s is running without its monitor; stop it first: brig stop %s", c.Name, c.Name)
		}
		if err := c.reconcile(); err != nil {
			return nil, err
		}
	}
}

// startable refuses to start a container that is paused, or is running in
// Docker's eyes.
func (c *Container) startable() error {
	s, err := c.State()
	switch {
	case err != nil:
		return err
	case s.Status == StatusPaused:
		return usage("cannot start a paused container, try unpause instead: brig unpause %s", c.Name)
	case s.Status == StatusRestarting:
		return fmt.Errorf("container %s is %w", c.Name, ErrRunning)
	}
	return nil
}

// booting is a monitor on its way, and a witness if there is to be one.
type booting struct {
	client *monitor.Client
	err    error
	done   chan struct{}

	witness    *witness.Witness
	witnessErr error
	seen       chan struct{} // closed when the witness has started; nil without
}

// boot starts the processes that will stay with the container. To fork and
// execute a Go program takes a millisecond, in which other work is done.
func (e *Engine) boot(explain bool) *booting {
	b := &booting{done: make(chan struct{})}
	go func() {
		defer close(b.done)
		exe, err := runtime.SealedExecutable()
		if err != nil {
			b.err = err
			return
		}
		defer exe.Close()
		b.client, b.err = monitor.Spawn(runtime.ExecPath(exe))
	}()
	if explain {
		b.seen = make(chan struct{})
		go func() {
			defer close(b.seen)
			b.witness, b.witnessErr = witness.Spawn(e.path("cache", "witness.json"))
		}()
	}
	return b
}

func (b *booting) wait() (*monitor.Client, error) {
	<-b.done
	return b.client, b.err
}

// cancel ends the witness and lets the monitor go: without a container it ends. Its end is waited
// for, because it may hold the container's lock.
func (b *booting) cancel() {
	if b.seen != nil {
		if <-b.seen; b.witness != nil {
			b.witness.Cancel()
		}
	}
	m, err := b.wait()
	if err != nil {
		return
	}
	m.Close()
	for {
		if _, err := unix.Wait4(m.PID(), nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}

// start takes over the lock and the monitor.
func (c *Container) start(l *os.File, b *booting, attach monitor.Streams, size ConsoleSize) (*Run, error) {
	return (&starter{c: c, lock: l, booting: b, attach: attach, size: size}).start()
}

func (s *starter) start() (*Run, error) {
	c, l, b := s.c, s.lock, s.booting
	if s.attach != 0 {
		c.Event("attach")
	}
	before, _ := c.readState()
	if before != nil {
		c.clearCgroups()
	} else {
		undo.Perform(c.dir()) // of a first start that was killed
	}
	pid, err := s.run(before)
	if err == nil && c.Health != nil {
		s.watchHealth(pid)
	}
	for _, f := range s.files {
		f.Close()
	}
	if err != nil {
		b.cancel()
		c.recordFailure(before, err)
		l.Close()
		return nil, err
	}
	l.Close() // the monitor has it now
	if s.witness != nil && s.attach == 0 {
		s.witness.Close() // nobody will wait for it
		s.witness = nil
	}
	return &Run{Container: c, Client: b.client, Warnings: append(s.result.Warnings, s.group.Warnings...), PID: pid, Witness: s.witness}, nil
}

func (s *starter) keep(f *os.File) *os.File {
	if f != nil {
		s.files = append(s.files, f)
	}
	return f
}

func (s *starter) run(before *monitor.State) (int, error) {
	var err error
	if before != nil && s.byPolicy {
		s.restarts, s.delay = before.RestartCount, before.RestartDelay
	}
	if s.group, err = s.newGroup(); err != nil {
		return 0, err
	}
	// The kernel may let mkdir of a cgroup wait for milliseconds (package
	// boot); the file system and the specification are made meanwhile.
	made := make(chan error, 1)
	if userns.Inside() { // some cgroups may be refused, and what there is belongs to the plan
		made <- s.makeGroup()
	} else {
		go func() { made <- s.makeGroup() }()
	}
	// So may the kernel's part of networks, for which it makes a namespace.
	if err = s.userNamespace(); err == nil {
		err = s.attachNetworks()
	}
	var cfg runtime.Config
	if err == nil {
		cfg, err = s.prepare()
	}
	if merr := <-made; err == nil {
		err = merr
	}
	if err == nil {
		if err = s.group.Limit(s.result.Spec.Linux.Resources); err != nil && s.undelegated != nil {
			err = fmt.Errorf("%w (%v)", err, s.undelegated)
		}
	}
	if err == nil && s.c.observe != nil {
		err = s.c.observe(s.group.UnifiedDir())
	}
	var pid int
	if err == nil {
		err = s.finishNetworks()
	}
	if err == nil {
		pid, err = s.perform(cfg.Terminal)
	}
	if err != nil {
		s.dropNetworks()
		s.group.Remove()
	} else if s.witness != nil {
		if err := s.witness.Started(pid); err != nil {
			s.result.Warnings = append(s.result.Warnings, err.Error())
		}
	}
	return pid, err
}

// newGroup plans the cgroup. That of an ordinary user's container is where somebody
// has let the user have one.
func (s *starter) newGroup() (*cgroup.Group, error) {
	if userns.Inside() && s.c.Options.CgroupParent == "" {
		m, err := s.booting.wait()
		if err != nil {
			return nil, err
		}
		if err := s.c.delegate(m.PID()); err != nil {
			s.undelegated = err
		}
	}
	return cgroup.New(s.c.cgroupPath())
}

// makeGroup makes the cgroup and, if wanted, the witness of what happens in it.
func (s *starter) makeGroup() error {
	err := s.group.Make()
	if err != nil || !s.c.Explain {
		return err
	}
	if userns.Inside() {
		err = errors.New("--explain needs root of this machine: what a container is denied is recorded in the kernel; use sudo")
	} else if s.group.UnifiedDir() == "" {
		err = errors.New("--explain needs a cgroup hierarchy of version 2, which this host lacks")
	} else if err = s.watch(); err != nil {
		err = fmt.Errorf("--explain: %w", err)
	}
	if err != nil {
		s.group.Remove()
	}
	return err
}

// watch lets the witness see the cgroup.
func (s *starter) watch() error {
	<-s.booting.seen
	if s.booting.witnessErr != nil {
		return s.booting.witnessErr
	}
	s.witness = s.booting.witness
	return s.witness.Watch(s.group.UnifiedDir(), s.c.dir())
}

// prepare makes all that the container needs but its cgroup.
func (s *starter) prepare() (cfg runtime.Config, err error) {
	root, err := s.mount()
	if err != nil {
		return cfg, err
	}
	if err := s.spec(root); err != nil {
		return cfg, err
	}
	if err := s.c.bindSources(true); err != nil {
		return cfg, err
	}
	filter, warnings, err := s.c.filter(s.result)
	if err != nil {
		return cfg, err
	}
	s.result.Warnings = append(s.result.Warnings, warnings...)
	if err := s.sharedMemory(); err != nil {
		return cfg, err
	}
	cfg = runtime.Config{
		Spec: s.result.Spec, Root: root, MountPoint: s.c.engine.path("mnt"), Filter: filter,
		WritablePaths: s.result.WritablePaths, Cgroups: s.group.Layout, Trees: s.trees,
		OwnStreams: [3]bool{s.c.Options.OpenStdin || s.c.Options.TTY, true, true}, // a closed input is /dev/null
	}
	if s.userns != nil {
		cfg.MountPoint = "/" // the way to the store is closed to the container's root
	}
	if err := s.terminal(&cfg); err != nil {
		return cfg, err
	}
	s.plan, err = runtime.New(cfg)
	return cfg, err
}

// mount mounts the root file system, nowhere: the container's mount namespace
// will be the first to see it.
func (s *starter) mount() (*os.File, error) {
	root, err := s.c.mountMapped(s.c.idMap(s.userns))
	if err != nil {
		return nil, err
	}
	return s.keep(root), nil
}

// mount mounts the container's root as it is on the disk.
func (c *Container) mount() (*os.File, error) { return c.mountMapped(nil) }

// mountMapped mounts it with the owners that a user namespace gives it.
func (c *Container) mountMapped(ids *snapshot.IDMap) (*os.File, error) {
	upper, work, err := snapshot.PrepareUpper(c.dir())
	if err != nil {
		return nil, err
	}
	root, err := c.engine.Layers.Mount(snapshot.MountOptions{Lower: c.Layers, Upper: upper, Work: work, IDMap: ids, Volatile: c.AutoRemove})
	if err != nil {
		return nil, fmt.Errorf("mount the image's layers: %w", err)
	}
	return root, nil
}

// spec builds the runtime-spec.
func (s *starter) spec(root *os.File) error {
	in, err := s.c.specInput(root)
	if err != nil {
		return err
	}
	if s.userns != nil {
		in.UserPath = fmt.Sprintf("/proc/self/fd/%d", s.userns.Fd())
	}
	if err := s.etc(&in); err != nil {
		return err
	}
	if err := s.volumes(&in); err != nil {
		return err
	}
	if s.net.Attachment != nil {
		ns, err := s.net.Namespace()
		if err != nil {
			return networkError(err)
		}
		in.NetworkPath = fmt.Sprintf("/proc/self/fd/%d", s.keep(ns).Fd())
	}
	if s.net.ns != nil {
		in.NetworkPath = fmt.Sprintf("/proc/self/fd/%d", s.net.ns.Fd())
	}
	if s.result, err = spec.Build(in); err != nil {
		return err
	}
	if s.c.isStarter() {
		s.result.Spec.Process.Env = append(s.result.Spec.Process.Env, hostNamespaces())
	}
	return nil
}

// bindSources makes the missing directories that -v asks for, as Docker does,
// and refuses a missing source of --mount.
func (c *Container) bindSources(create bool) error {
	for _, m := range c.Options.Mounts {
		if m.Type != spec.MountBind {
			continue
		}
		_, err := os.Stat(m.Source)
		switch {
		case !errors.Is(err, os.ErrNotExist):
		case !m.CreateSource:
			return usage("--mount source=%s: the bind source path does not exist; make it first: mkdir -p %s", m.Source, m.Source)
		case create:
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return fmt.Errorf("-v: make the missing source: %w", err)
			}
		}
	}
	return nil
}

// sharedMemory takes a copy of the mount of another container's /dev/shm, for
// one that shares its IPC namespace.
func (s *starter) sharedMemory() error {
	if s.c.Options.IPC.Container() == "" {
		return nil
	}
	for _, m := range s.result.Spec.Mounts {
		if m.Destination != "/dev/shm" || m.Type != "bind" {
			continue
		}
		f, err := treeOf(strings.TrimSuffix(m.Source, "/root/dev/shm"), "dev/shm")
		if err != nil {
			return fmt.Errorf("share /dev/shm with container %s: %w", s.c.Options.IPC.Container(), err)
		}
		s.tree(m.Source, f)
	}
	return nil
}

// tree makes a mount the source of what the specification calls name.
func (s *starter) tree(name string, mount *os.File) {
	if s.trees == nil {
		s.trees = map[string]*os.File{}
	}
	s.trees[name] = s.keep(mount)
}

// treeOf clones the mount at a path of a process's root, whose directory in
// /proc is proc. It takes a thread that joins the process's mount namespace, as
// the kernel clones mounts of the caller's namespace only; links of the
// container are not followed.
func treeOf(proc, name string) (*os.File, error) {
	ns, err := os.Open(proc + "/ns/mnt")
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	fd := -1
	err = mountns.Join(ns, func() (err error) {
		fd, err = cloneTree(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func cloneTree(name string) (int, error) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(root)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS}
	dir, err := unix.Openat2(root, name, how)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	return unix.OpenTree(dir, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
}

// terminal makes the container's terminal if it wants one.
func (s *starter) terminal(cfg *runtime.Config) error {
	if !s.c.Options.TTY {
		return nil
	}
	pts := specs.Mount{Options: []string{"newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}}
	for _, m := range s.result.Spec.Mounts {
		if m.Type == "devpts" {
			pts = m
		}
	}
	pts.Options = s.c.terminalOwner(pts.Options)
	t, err := runtime.NewTerminal(pts)
	if err != nil {
		return err
	}
	s.keep(t.Mount)
	s.keep(t.Master)
	cfg.Terminal = t
	return s.size.apply(t.Master)
}

// perform hands the plan to the monitor and waits for the execve.
func (s *starter) perform(t *runtime.Terminal) (int, error) {
	start, files, err := s.message(t)
	if err != nil {
		return 0, err
	}
	client, err := s.booting.wait()
	if err != nil {
		return 0, fmt.Errorf("start the monitor: %w", err)
	}
	if err := client.Start(start, files); err != nil {
		return 0, fmt.Errorf("talk to the monitor: %w", err)
	}
	ev, err := client.Next()
	var f *monitor.Failure
	switch {
	case errors.As(err, &f) && f.AtStep():
		return 0, s.plan.Failure(f.Tag, f.Errno)
	case err != nil:
		return 0, fmt.Errorf("start the container: the monitor: %w", err)
	case !ev.Started:
		return 0, errors.New("start the container: the monitor answered out of turn")
	}
	return ev.PID, nil
}

func (s *starter) message(t *runtime.Terminal) (*monitor.Start, monitor.Files, error) {
	c, e := s.c, s.c.engine
	files := monitor.Files{Lock: s.lock, PIDNS: s.plan.PIDNS}
	var err error
	if files.Program, err = programFile(s.plan.Program); err != nil {
		return nil, files, err
	}
	s.keep(files.Program)
	if files.Listen, err = monitor.Listen(c.dir()); err != nil {
		return nil, files, err
	}
	s.keep(files.Listen)
	log, err := c.logTarget()
	if err != nil {
		return nil, files, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, files, err
	}
	start := &monitor.Start{
		Dir: c.dir(), Trash: e.path("trash"), Lock: e.path("names.lock"),
		BootID: bootID(), CloneFlag: uint64(s.plan.Flags), Size: len(s.plan.Program), HasPIDNS: s.plan.PIDNS != nil,
		Cgroups: s.group.Dirs, TTY: t != nil, OpenStdin: c.Options.OpenStdin, StdinOnce: !c.Detached,
		Attach: s.attach, Log: log, OwnPIDNS: s.plan.Flags&unix.CLONE_NEWPID != 0,
		Leash: c.leash, Forks: s.plan.Forks, Events: e.path("events"), Health: c.Health != nil, Changeable: c.changeable(), Restarts: s.restarts, Delay: s.delay,
		Self: self, Root: e.Root,
	}
	if c.AutoRemove {
		start.Volumes, start.Anonymous = c.heldVolumes()
	}
	if files.Cgroup, err = s.group.Open(); err != nil {
		return nil, files, fmt.Errorf("open the container's cgroup: %w", err)
	}
	s.keep(files.Cgroup)
	start.HasCgroup = files.Cgroup != nil
	for _, f := range s.plan.Files {
		start.Regs = append(start.Regs, f.Reg)
		files.Regs = append(files.Regs, f.File)
	}
	if t != nil {
		files.Master = t.Master
	}
	return start, files, nil
}

// programFile puts a program where the monitor can map it.
func programFile(program []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("brig-program", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the start program: %w", err)
	}
	f := os.NewFile(uintptr(fd), "program")
	if _, err := f.Write(program); err != nil {
		f.Close()
		return nil, fmt.Errorf("make the start program: %w", err)
	}
	return f, nil
}

// ExitCode is what a command ends with when a start failed: 127 if the program
// was not found, 126 if it cannot be executed, 125 for all else.
func ExitCode(err error) int {
	var se *runtime.StartError
	if !errors.As(err, &se) || !se.Exec {
		return 125
	}
	if se.Errno == unix.ENOENT || se.Errno == unix.ENOTDIR {
		return 127
	}
	return 126
}

// recordFailure leaves in the state why a container did not start; s is its
// state before, or nil. One that shall not stay goes.
func (c *Container) recordFailure(s *monitor.State, err error) {
	if c.AutoRemove {
		c.discard()
		c.Event("destroy")
		return
	}
	c.clearCgroups()
	if s == nil {
		s = &monitor.State{}
	}
	s.Running, s.Restarting, s.ExitCode, s.Error, s.BootID = false, false, ExitCode(err), err.Error(), bootID()
	if !s.StartedAt.IsZero() {
		s.FinishedAt = time.Now()
	}
	s.Write(c.dir())
}

// specInput gathers what a spec is built from, for a start or an exec.
func (c *Container) specInput(root *os.File) (spec.Input, error) {
	in := spec.Input{
		Options: &c.Options, Image: &c.ImageConfig, ID: c.ID, Host: c.engine.host(), Root: root,
		RootPath: filepath.Join(c.dir(), "rootfs"), CgroupsPath: c.cgroupPath(),
	}
	var err error
	if in.PIDPath, err = c.engine.namespaceOf(c.Options.PID.Container(), "pid"); err != nil {
		return in, err
	}
	if in.IPCPath, err = c.engine.namespaceOf(c.Options.IPC.Container(), "ipc"); err != nil {
		return in, err
	}
	if c.Options.Network.Container() != "" {
		if in.NetworkPath, in.SharedHostname, err = c.sharedNetwork(); err != nil {
			return in, err
		}
	}
	if c.Options.IPC.Container() != "" {
		in.ShmPath = filepath.Join(filepath.Dir(filepath.Dir(in.IPCPath)), "root/dev/shm")
	}
	if c.Options.Init {
		if in.InitPath, err = os.Executable(); err != nil {
			return in, err
		}
	}
	return in, nil
}

// namespaceOf is the path of a running container's namespace.
func (e *Engine) namespaceOf(name, ns string) (string, error) {
	if name == "" {
		return "", nil
	}
	c, err := e.Find(name)
	if err != nil {
		return "", err
	}
	s, err := c.State()
	if err != nil {
		return "", err
	}
	if !s.Up() {
		return "", usage("cannot join the %s namespace of %s: it is not running; start it first: brig start %s", ns, name, name)
	}
	return fmt.Sprintf("/proc/%d/ns/%s", s.PID, ns), nil
}
