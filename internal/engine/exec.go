package engine

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/brig-run/brig/internal/cgroup"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/internal/userns"
)

// Exec runs a further process in a running container. streams become its
// standard streams; with a terminal they are ignored, and the result has the
// terminal's master.
func (c *Container) Exec(o *spec.ExecOptions, streams [3]*os.File, size ConsoleSize) (*monitor.Client, *os.File, error) {
	s, err := c.State()
	if err != nil {
		return nil, nil, err
	}
	if s.Status != StatusRunning {
		return nil, nil, c.notRunning(&s)
	}
	x := &execer{c: c, s: &s, size: size}
	defer x.close()
	return x.run(o, streams)
}

type execer struct {
	c     *Container
	s     *State
	size  ConsoleSize
	files []*os.File
}

func (x *execer) keep(f *os.File) *os.File {
	x.files = append(x.files, f)
	return f
}

func (x *execer) close() {
	for _, f := range x.files {
		f.Close()
	}
}

// root opens the container's root.
func (x *execer) root() (*os.File, error) {
	root, err := os.Open(fmt.Sprintf("/proc/%d/root", x.s.PID))
	if err != nil {
		return nil, fmt.Errorf("open the container's root: %w", err)
	}
	return x.keep(root), nil
}

func (x *execer) run(o *spec.ExecOptions, streams [3]*os.File) (*monitor.Client, *os.File, error) {
	root, err := x.root()
	if err != nil {
		return nil, nil, err
	}
	cfg, err := x.config(root, o)
	if err != nil {
		return nil, nil, err
	}
	var master *os.File
	if o.TTY {
		var slave *os.File
		if master, slave, err = runtime.OpenTerminal(root); err != nil {
			return nil, nil, err
		}
		x.keep(slave)
		if err := x.size.apply(master); err != nil {
			master.Close()
			return nil, nil, err
		}
		streams = [3]*os.File{slave, slave, slave}
	}
	cfg.OwnStreams = ownStreams(streams)
	m, err := x.start(cfg, o, streams)
	if err != nil && master != nil {
		master.Close()
	}
	return m, master, err
}

// config gathers what the plan of a further process needs.
func (x *execer) config(root *os.File, o *spec.ExecOptions) (cfg runtime.ExecConfig, err error) {
	in, err := x.c.specInput(root)
	if err != nil {
		return cfg, err
	}
	process, err := spec.BuildExec(in, o)
	if err != nil {
		return cfg, err
	}
	// What the container was started with: its namespaces and its filter.
	built, err := spec.Build(in)
	if err != nil {
		return cfg, err
	}
	filter, _, err := x.c.filter(built)
	if err != nil {
		return cfg, err
	}
	if o.Privileged {
		filter = nil // as Docker: a privileged exec is not confined
	}
	group, err := cgroup.New(x.c.cgroupPath())
	if err != nil {
		return cfg, err
	}
	if userns.Inside() {
		group.KeepMade()
	}
	return runtime.ExecConfig{Process: process, PID: x.s.PID, Namespaces: built.Spec.Linux.Namespaces, Filter: filter, Cgroups: group.Layout}, nil
}

// plan plans the process, and makes sure that the container is still the one
// that is meant.
func (x *execer) plan(cfg runtime.ExecConfig) (*runtime.Plan, error) {
	plan, err := runtime.NewExec(cfg)
	if err != nil {
		return nil, err
	}
	if !alive(&x.s.State) { // it ended, and its process ID may be another's
		plan.Close()
		return nil, usage("container %s is not running", x.c.ID)
	}
	return plan, nil
}

func (x *execer) start(cfg runtime.ExecConfig, o *spec.ExecOptions, streams [3]*os.File) (*monitor.Client, error) {
	plan, err := x.plan(cfg)
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	program, err := programFile(plan.Program)
	if err != nil {
		return nil, err
	}
	x.keep(program)
	m, err := monitor.Dial(x.c.dir())
	if err != nil {
		return nil, fmt.Errorf("container %s has lost its monitor; stop it and start it again: %w", x.c.Name, err)
	}
	msg := &monitor.Exec{Size: len(plan.Program), HasPIDNS: plan.PIDNS != nil, Forks: plan.Forks, ID: newID(), Command: strings.Join(o.Args, " ")}
	msg.Command = msg.Command[:min(len(msg.Command), 256)]
	files := monitor.Files{Program: program, PIDNS: plan.PIDNS, Streams: streams[:]}
	for _, f := range plan.Files {
		msg.Regs = append(msg.Regs, f.Reg)
		files.Regs = append(files.Regs, f.File)
	}
	if err = m.Exec(msg, files); err == nil {
		_, err = m.Next()
	}
	if err != nil {
		m.Close()
		var f *monitor.Failure
		if errors.As(err, &f) && f.AtStep() {
			err = plan.Failure(f.Tag, f.Errno)
		}
		return nil, err
	}
	return m, nil
}

// ownStreams says which streams are pipes or the terminal that was made for
// this exec, and not files of the host.
func ownStreams(streams [3]*os.File) (own [3]bool) {
	for i, f := range streams {
		fi, err := f.Stat()
		own[i] = err == nil && (fi.Mode()&os.ModeNamedPipe != 0 || f.Name() == runtime.TerminalName)
	}
	return own
}
