package runtime

import (
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
)

// HookConfig is a program that runs in the namespaces of a container in the
// making, with the rights of the caller there: a createContainer hook.
type HookConfig struct {
	PID        int // the container's waiting process
	Namespaces []specs.LinuxNamespace
	Program    string // path, in the mount namespace as it is now
	Args, Env  []string
}

// NewHook plans a hook. Its streams are the registers of the standard streams.
func NewHook(cfg HookConfig) (*Plan, error) {
	p := newPlanner(&Config{}, nil)
	p.program = cfg.Program
	fd, err := unix.PidfdOpen(cfg.PID, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	reg := p.pass(os.NewFile(uintptr(fd), "pidfd"))
	p.prologue()
	var flags uintptr
	for _, ns := range cfg.Namespaces {
		// A process enters a PID namespace by being forked there: it keeps the
		// caller's, in which the container's process ID of the state is right.
		if flag, ok := cloneFlag(ns.Type); ok && flag != unix.CLONE_NEWPID {
			flags |= flag
		}
	}
	if flags != 0 {
		p.What("join the container's namespaces")
		p.Call(unix.SYS_SETNS, inside.R(reg), inside.V(flags))
	}
	if flags&unix.CLONE_NEWUSER != 0 {
		p.becomeRoot()
	}
	proc := &specs.Process{Args: cfg.Args, Env: cfg.Env}
	p.streams(proc)
	p.signals()
	p.execve(proc)
	return p.finish(), nil
}
