package runtime

import (
	"fmt"
	"os"

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
}

// NewExec plans a process that joins a running container. The caller makes
// sure that PID is still the process it means after NewExec has returned: the
// plan holds it by descriptor.
func NewExec(cfg ExecConfig) (*Plan, error) {
	p := newPlanner(&Config{Filter: cfg.Filter, OwnStreams: cfg.OwnStreams, KeepFiles: cfg.KeepFiles, Ready: cfg.Ready}, nil)
	p.program = cfg.Program
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
	p.joinCgroups(cfg.Cgroups)
	p.apparmor(cfg.Process)
	p.hostOOMScore(cfg.Process)
	var flags uintptr
	for _, ns := range cfg.Namespaces {
		flag, ok := cloneFlag(ns.Type)
		switch {
		case !ok:
			return fmt.Errorf("namespace type %q is not supported yet", ns.Type)
		case flag == unix.CLONE_NEWPID:
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
	if flags&unix.CLONE_NEWUSER != 0 {
		p.becomeRoot()
	}
	return p.process(cfg.Process, false)
}

// hostOOMScore sets the score through the host's /proc, before the child
// leaves it.
func (p *planner) hostOOMScore(proc *specs.Process) {
	if proc.OOMScoreAdj == nil {
		return
	}
	v := fmt.Sprint(*proc.OOMScoreAdj)
	p.What("set oom_score_adj to " + v)
	p.Call(unix.SYS_OPENAT, inside.V(atCWD), p.Str("/proc/self/oom_score_adj"), inside.V(unix.O_WRONLY|unix.O_CLOEXEC), inside.V(0)).To(p.tmp)
	p.Call(unix.SYS_WRITE, inside.R(p.tmp), p.Str(v), inside.V(len(v)))
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
}
