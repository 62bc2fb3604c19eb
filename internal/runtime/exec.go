package runtime

import (
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
)

// ExecConfig is what a further process of a running container is made of.
type ExecConfig struct {
	Process *specs.Process
	// Program is the file to execute, if it is not what Process.Args names.
	Program string
	// PID is the container's first process, whose namespaces are joined.
	PID int
	// Namespaces are those that the container has of its own or joined; the
	// others are the host's.
	Namespaces []specs.LinuxNamespace
	Filter     *Filter
	Cgroups    CgroupLayout
	OwnStreams [3]bool
	KeepFiles  int  // as in Config
	Ready      bool // as in Config
	// Linux is the container's, for what every process of it gets: personality
	// and memory policy. It may be nil.
	Linux         *specs.Linux
	NoKeyring     bool // as in Config
	ResetAffinity bool // as in Config
}

// NewExec plans a process that joins a running container. The caller makes
// sure that PID is still the process it means after NewExec has returned: the
// plan holds it by descriptor.
func NewExec(cfg ExecConfig) (*Plan, error) {
	p := newPlanner(&Config{Filter: cfg.Filter, OwnStreams: cfg.OwnStreams, KeepFiles: cfg.KeepFiles, Ready: cfg.Ready,
		NoKeyring: cfg.NoKeyring, ResetAffinity: cfg.ResetAffinity}, nil)
	p.program, p.linux = cfg.Program, cfg.Linux
	p.inUserns = slices.ContainsFunc(cfg.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.UserNamespace })
	fd, err := unix.PidfdOpen(cfg.PID, 0)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", cfg.PID, err)
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	if err := p.exec(cfg, pidfd); err != nil {
		p.plan.Files = p.files
		p.plan.Close()
		return nil, err
	}
	return p.finish(), nil
}

func (p *planner) exec(cfg ExecConfig, pidfd *os.File) error {
	reg := p.pass(pidfd)
	p.prologue()
	if a := cfg.Process.ExecCPUAffinity; a != nil {
		if err := p.affinity("initial", a.Initial); err != nil {
			return err
		}
	}
	p.joinCgroups(cfg.Cgroups)
	if p.cfg.ResetAffinity && (cfg.Process.ExecCPUAffinity == nil || cfg.Process.ExecCPUAffinity.Initial == "") {
		p.allCPUs()
	}
	if a := cfg.Process.ExecCPUAffinity; a != nil {
		if err := p.affinity("final", a.Final); err != nil {
			return err
		}
	}
	if err := p.asCaller(cfg.Process); err != nil {
		return err
	}
	var flags uintptr
	for _, ns := range cfg.Namespaces {
		flag, ok := cloneFlag(ns.Type)
		switch {
		case !ok:
			return fmt.Errorf("namespace type %q is not supported yet", ns.Type)
		case flag == unix.CLONE_NEWPID && mayReturn():
			f, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", cfg.PID))
			if err != nil {
				return fmt.Errorf("open the container's PID namespace: %w", err)
			}
			p.plan.PIDNS = f
		default:
			flags |= flag
		}
	}
	p.What("join the container's namespaces")
	p.Call(unix.SYS_SETNS, inside.R(reg), inside.V(flags))
	if flags&unix.CLONE_NEWPID != 0 {
		p.plan.Forks = true
		p.What("enter the container's PID namespace")
		p.Pseudo(inside.Fork, inside.V(0))
		p.leader()
		p.Ask(inside.AskForked)
	}
	if flags&unix.CLONE_NEWUSER != 0 {
		p.becomeRoot()
	}
	if p.program != "" {
		p.run = cfg.Process // a hook, whose environment is what it was given
	} else {
		p.setProcess(cfg.Process, func(name string) (*os.File, error) { return openIn(cfg.PID, name) })
	}
	return p.process(p.run)
}

// openIn opens (O_PATH) a file of a running container.
func openIn(pid int, name string) (*os.File, error) {
	root, err := os.Open(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	fd, err := openat2(root, name, openPath, inRoot)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// asCaller sets what only a process in the caller's namespaces can.
func (p *planner) asCaller(proc *specs.Process) error {
	if err := p.apparmor(proc); err != nil {
		return err
	}
	if p.spec != nil && p.has(specs.UserNamespace) {
		return nil // its first process has no rights over the caller's: RaiseLimits
	}
	p.oomScore(proc)
	if p.inUserns {
		p.raiseLimits(proc)
	}
	return nil
}

// oomScore sets the score through the host's /proc, before the child leaves it;
// to lower it needs CAP_SYS_RESOURCE.
func (p *planner) oomScore(proc *specs.Process) {
	if proc.OOMScoreAdj == nil {
		return
	}
	v := fmt.Sprint(*proc.OOMScoreAdj)
	p.What("set oom_score_adj to " + v)
	p.Call(unix.SYS_OPENAT, inside.V(atCWD), p.Str("/proc/self/oom_score_adj"), inside.V(unix.O_WRONLY|unix.O_CLOEXEC), inside.V(0)).To(p.tmp)
	p.Call(unix.SYS_WRITE, inside.R(p.tmp), p.Str(v), inside.V(len(v)))
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
}
