package oci

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/runtime/inside"
	"github.com/brig-run/brig/seccomp/notify"
)

// handOver takes the notification descriptor of the filter that the process has
// just loaded, and sends it to the agent. The process makes no system call
// meanwhile: the filter might stop it, and nobody answers yet.
func (c *Container) handOver(prog *inside.Program, pid int) error {
	for pause := 20 * time.Microsecond; prog.Progress() < runtime.StageListener; pause = min(2*pause, 5*time.Millisecond) {
		if _, _, failed := prog.Failure(); failed {
			return nil // the caller sees why
		}
		if unix.Kill(pid, 0) != nil {
			return errors.New("the container's process ended before its seccomp filter was loaded")
		}
		time.Sleep(pause)
	}
	defer prog.Release()
	listener, err := takeFile(pid, int(prog.Reg(c.ListenerReg)), "seccomp listener")
	if err != nil {
		return fmt.Errorf("take the seccomp listener: %w", err)
	}
	defer listener.Close()
	spec, err := c.Spec()
	if err != nil {
		return err
	}
	path := spec.Linux.Seccomp.ListenerPath
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("linux.seccomp.listenerPath: connect to the agent: %w", err)
	}
	defer conn.Close()
	return notify.SendListener(conn, &specs.ContainerProcessState{
		Version: c.Version, Pid: pid, Metadata: spec.Linux.Seccomp.ListenerMetadata, State: *c.stateAs(c.statusAt(pid)),
	}, listener)
}

// statusAt is the state that an agent is told: the first process is on its way
// to its program, and another one joins a running container.
func (c *Container) statusAt(pid int) Status {
	if pid == c.PID {
		return Created
	}
	return Running
}

// takeFile duplicates a descriptor of another process, pidfd_getfd(2).
func takeFile(pid, fd int, name string) (*os.File, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	got, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_getfd", err)
	}
	return os.NewFile(uintptr(got), name), nil
}

// finishWithListener grants the last question and hands over the listener on
// the way to the execve.
func (c *creation) finishWithListener() error {
	if err := c.child.Run(inside.AskReady); err != nil || c.child.Done() {
		return err
	}
	if err := c.ready(c.child.PID); err != nil {
		c.child.Abort()
		return err
	}
	c.child.Grant()
	if err := c.handOver(c.prog, c.PID); err != nil {
		c.child.Abort()
		return err
	}
	return c.child.Run(0)
}
