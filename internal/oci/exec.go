package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/runtime/inside"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ExecOptions say what further process a container gets.
type ExecOptions struct {
	ProcessFile   string // JSON of the specification's process; instead of all below
	Args          []string
	TTY           bool
	Cwd           string
	Env           []string
	User          *specs.User // nil: as the container's
	Groups        []uint32
	AppArmor      string
	Label         string
	Caps          []string // more capabilities
	NoNewPrivs    *bool
	Cgroup        []string // below the container's
	IgnorePaused  bool
	Detach        bool
	PIDFile       string
	ConsoleSocket string
	PIDFDSocket   string
	KeepFiles     int
}

// execution is a further process in the making.
type execution struct {
	*Container
	opts    ExecOptions
	spec    *specs.Spec
	files   []*os.File
	prog    *inside.Program
	console *os.File // master and slave of the terminal, or nil
	slave   *os.File
	streams [3]*os.File
}

// Exec runs a process in a container that runs. Unless detached it waits for its
// end and returns the exit code.
func (c *Container) Exec(o ExecOptions) (int, error) {
	if err := seal(); err != nil {
		return 0, err
	}
	status, err := c.Status()
	if err != nil {
		return 0, err
	}
	switch {
	case status == Stopped:
		return 0, errors.New("cannot exec in a stopped container")
	case status == Creating:
		return 0, errors.New("cannot exec in a container that is being created")
	case status == Paused && !o.IgnorePaused:
		return 0, errors.New("cannot exec in a paused container (use --ignore-paused to override)")
	}
	x := &execution{Container: c, opts: o, streams: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}}
	defer x.close()
	if x.spec, err = c.Spec(); err != nil {
		return 0, err
	}
	process, err := x.process()
	if err != nil {
		return 0, err
	}
	if o.Detach || o.ConsoleSocket != "" {
		if err := checkTerminal(process.Terminal, o.ConsoleSocket); err != nil {
			return 0, err
		}
	}
	if o.Detach {
		_, err := x.start(process)
		return 0, err
	}
	sigs := listen()
	pid, err := x.start(process)
	if err != nil {
		return 0, err
	}
	console := x.console
	if o.ConsoleSocket != "" {
		console = nil
	}
	return attend(pid, console, sigs), nil
}

func (x *execution) keep(f *os.File) *os.File {
	x.files = append(x.files, f)
	return f
}

func (x *execution) close() {
	for _, f := range x.files {
		f.Close()
	}
	if x.prog != nil {
		x.prog.Unmap()
	}
}

// process is what to execute, by the caller's file or by its flags over the
// container's own process.
func (x *execution) process() (*specs.Process, error) {
	o := &x.opts
	if o.ProcessFile != "" {
		b, err := os.ReadFile(o.ProcessFile)
		if err != nil {
			return nil, err
		}
		p := &specs.Process{}
		if err := json.Unmarshal(b, p); err != nil {
			return nil, jsonError(o.ProcessFile, b, err)
		}
		if err := runtime.ValidateProcess(p); err != nil {
			return nil, fmt.Errorf("%s: %w", o.ProcessFile, err)
		}
		return p, nil
	}
	p := *x.spec.Process
	p.Args, p.Terminal, p.ConsoleSize = o.Args, o.TTY, nil
	p.Env = append(slices.Clone(p.Env), o.Env...)
	if o.Cwd != "" {
		p.Cwd = o.Cwd
	}
	if o.AppArmor != "" {
		p.ApparmorProfile = o.AppArmor
	}
	if o.Label != "" {
		p.SelinuxLabel = o.Label
	}
	if o.NoNewPrivs != nil {
		p.NoNewPrivileges = *o.NoNewPrivs
	}
	if o.User != nil {
		p.User.UID, p.User.GID = o.User.UID, o.User.GID
	}
	p.User.AdditionalGids = append(slices.Clone(p.User.AdditionalGids), o.Groups...)
	if len(o.Caps) > 0 {
		p.Capabilities = withCaps(p.Capabilities, o.Caps)
	}
	return &p, runtime.ValidateProcess(&p)
}

// withCaps adds capabilities to all sets, to the ambient one as far as they are
// inheritable.
func withCaps(c *specs.LinuxCapabilities, more []string) *specs.LinuxCapabilities {
	out := &specs.LinuxCapabilities{}
	if c != nil {
		*out = *c
	}
	for _, name := range more {
		name = strings.ToUpper(name)
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		for _, set := range []*[]string{&out.Bounding, &out.Effective, &out.Permitted} {
			if !slices.Contains(*set, name) {
				*set = append(slices.Clone(*set), name)
			}
		}
		if slices.Contains(out.Inheritable, name) && !slices.Contains(out.Ambient, name) {
			out.Ambient = append(slices.Clone(out.Ambient), name)
		}
	}
	return out
}

// start plans and performs the process.
func (x *execution) start(process *specs.Process) (int, error) {
	ownFileLimit(process)
	group, err := x.group()
	if err == nil {
		group, err = group.ForExec(x.opts.Cgroup, x.PID)
	}
	if err != nil {
		return 0, err
	}
	filter, err := x.loadFilter()
	if err != nil {
		return 0, err
	}
	if process.Terminal {
		if err := x.openTerminal(process); err != nil {
			return 0, err
		}
	}
	plan, err := runtime.NewExec(runtime.ExecConfig{Process: process, PID: x.PID, Namespaces: x.spec.Linux.Namespaces,
		Filter: filter, Cgroups: group.Layout, OwnStreams: ownStreams(x.streams), KeepFiles: x.opts.KeepFiles, Ready: true,
		Linux: x.spec.Linux, NoKeyring: x.NoKeyring, ResetAffinity: true})
	if err != nil {
		return 0, err
	}
	defer plan.Close()
	x.warn(plan.Warnings)
	if !x.alive() { // its process ID may be another's by now
		return 0, errors.New("cannot exec in a stopped container")
	}
	if x.prog, err = load(plan, x.streams); err != nil {
		return 0, err
	}
	clone := inside.Clone{PIDNS: -1, CgroupFD: -1, Forks: plan.Forks}
	if plan.PIDNS != nil {
		clone.PIDNS = int(plan.PIDNS.Fd())
	}
	v2, err := group.Open()
	if err != nil {
		return 0, fmt.Errorf("open the container's cgroup: %w", err)
	}
	if v2 != nil {
		clone.CgroupFD = int(x.keep(v2).Fd())
	}
	pid, err := x.spawn(clone, plan)
	var step *inside.StepError
	if errors.As(err, &step) {
		err = plan.Failure(step.Tag, step.Errno)
	}
	return pid, err
}

func (x *execution) spawn(clone inside.Clone, plan *runtime.Plan) (int, error) {
	child, err := x.prog.Begin(clone, nil, nil)
	if err != nil {
		return 0, err
	}
	defer child.Close()
	if err := child.Run(inside.AskReady); err != nil {
		return 0, err
	}
	if child.Done() {
		return 0, errors.New("the process ended before it was ready")
	}
	if err = writePIDFile(x.opts.PIDFile, child.PID); err == nil {
		err = sendPIDFD(x.opts.PIDFDSocket, child.PID)
	}
	if err == nil && x.console != nil && x.opts.ConsoleSocket != "" {
		err = sendConsole(x.opts.ConsoleSocket, x.console)
	}
	if err == nil {
		child.Grant()
		if x.Listener {
			x.ListenerReg = plan.ListenerReg
			err = x.handOver(x.prog, child.PID)
		}
	}
	if err != nil {
		child.Abort()
		return 0, err
	}
	if err := child.Run(0); err != nil {
		return 0, err
	}
	if x.slave != nil { // the process's alone, so that its end is seen
		x.slave.Close()
	}
	return child.PID, nil
}

// openTerminal opens a terminal in the container's own /dev/pts, having made
// sure that it is one.
func (x *execution) openTerminal(process *specs.Process) error {
	root, err := os.Open(fmt.Sprintf("/proc/%d/root", x.PID))
	if err != nil {
		return fmt.Errorf("open the container's root: %w", err)
	}
	defer root.Close()
	master, slave, err := runtime.OpenTerminal(root)
	if err != nil {
		return err
	}
	x.console = x.keep(master)
	x.slave = x.keep(slave)
	if x.opts.ConsoleSocket == "" {
		plainLines(master)
	}
	x.streams = [3]*os.File{slave, slave, slave}
	if err := x.ownTerminal(process.User.UID); err != nil {
		return err
	}
	return setSize(master, process.ConsoleSize)
}

// ownTerminal gives the terminal to a user of the container's user namespace,
// where nobody may do it: there it belongs to no one.
func (x *execution) ownTerminal(uid uint32) error {
	if !runtime.InUserNamespace(x.spec) {
		return nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", x.PID))
	if err != nil {
		return fmt.Errorf("read the maps of the user namespace: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		var inside, outside, size uint32
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err == nil && uid >= inside && uid-inside < size {
			return x.slave.Chown(int(outside+uid-inside), -1)
		}
	}
	return fmt.Errorf("user %d has no ID on the host: it is in no range of the user namespace", uid)
}
