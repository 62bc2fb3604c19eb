package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/runtime/inside"
)

// gateAddr names a socket in a directory that is open, because a socket's path
// is limited to 108 bytes, unix(7).
func (c *Container) gateAddr() (*unix.SockaddrUnix, *os.File, error) {
	d, err := os.Open(c.dir())
	if err != nil {
		return nil, nil, err
	}
	return &unix.SockaddrUnix{Name: filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())), gateFile)}, d, nil
}

func (c *Container) makeGate() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "gate")
	addr, d, err := c.gateAddr()
	if err == nil {
		defer d.Close()
		if err = unix.Bind(fd, addr); err == nil {
			err = unix.Listen(fd, 1)
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("make the gate of the container: %w", err)
	}
	return f, nil
}

// Start lets the waiting process of a created container execute the user's
// program. With the socket of a service manager (or "") it returns when the
// container says that it is ready, sd_notify(3).
func (c *Container) Start(notifySocket string) error {
	n, err := c.start(notifySocket)
	if err != nil {
		return err
	}
	defer n.close()
	if err := n.relay(c.PID, c.PID); err != nil {
		c.rt.Warn(err.Error()) // it runs
	}
	return nil
}

func (c *Container) start(notifySocket string) (*notifier, error) {
	l, err := c.lock(true)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	status, err := c.Status()
	if err != nil {
		return nil, err
	}
	switch status {
	case Created:
	case Stopped:
		return nil, errors.New("cannot start a container that has stopped")
	case Creating:
		return nil, errors.New("cannot start a container that is being created")
	default:
		return nil, errors.New("cannot start an already running container")
	}
	if err := c.startHooks(); err != nil {
		c.end()
		return nil, err
	}
	n, err := c.listenNotify(notifySocket)
	if err != nil {
		return nil, err
	}
	if err := c.openGate(); err != nil {
		n.close()
		return nil, err
	}
	os.Remove(c.file(programFile))
	os.Remove(c.file(gateFile))
	if err := c.poststart(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// openGate connects, and waits for the execve, which ends the connection.
func (c *Container) openGate() error {
	prog, err := inside.Open(c.file(programFile))
	if err != nil {
		return err
	}
	defer prog.Unmap()
	addr, d, err := c.gateAddr()
	if err != nil {
		return err
	}
	defer d.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, addr); err != nil {
		if !c.alive() {
			return errors.New("cannot start a container that has stopped")
		}
		return fmt.Errorf("open the gate of the container: %w", err)
	}
	if c.Listener {
		if err := c.handOver(prog, c.PID); err != nil {
			c.end()
			return err
		}
	}
	var b [1]byte
	for {
		if _, err := unix.Read(fd, b[:]); err != unix.EINTR {
			break
		}
	}
	tag, errno, failed := prog.Failure()
	if !failed {
		return nil
	}
	what := "start"
	if i := int(tag) - int(c.FirstStep); i >= 0 && i < len(c.Steps) {
		what = c.Steps[i]
	}
	return &runtime.StartError{What: what, Errno: errno, Exec: tag >= c.ExecStep}
}
