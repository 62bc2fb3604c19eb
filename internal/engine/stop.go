package engine

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

// Kill sends a signal to a running container's first process.
func (c *Container) Kill(sig unix.Signal) error {
	s, err := c.State()
	if err != nil {
		return err
	}
	if s.Status != StatusRunning {
		return usage("cannot kill container: %s: container %s is not running", c.Name, c.ID)
	}
	fd, err := openProcess(&s.State)
	if err == nil {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
		unix.Close(fd)
	}
	switch {
	case errors.Is(err, unix.ESRCH): // it ended as we looked
		return usage("cannot kill container: %s: container %s is not running", c.Name, c.ID)
	case err != nil:
		return fmt.Errorf("cannot kill container: %s: %w", c.Name, err)
	}
	return nil
}

// stopGrace is how long stop waits for the stop signal to work, by default.
const stopGrace = 10

// Stop asks a container to end, and makes it end after a time in seconds: nil
// for the container's own, -1 for any time. Stopping a stopped one is nothing.
func (c *Container) Stop(timeout *int, signal string) error {
	s, err := c.State()
	if err != nil || s.Status != StatusRunning {
		return err
	}
	if signal == "" {
		signal = c.StopSignal()
	}
	sig, err := spec.ParseStopSignal(signal)
	if err != nil {
		return err
	}
	fd, err := openProcess(&s.State)
	if errors.Is(err, unix.ESRCH) {
		return c.settle()
	}
	if err != nil {
		return fmt.Errorf("stop container %s: %w", c.Name, err)
	}
	defer unix.Close(fd)
	grace := stopGrace
	if timeout == nil {
		timeout = c.Options.StopTimeout
	}
	if timeout != nil {
		grace = *timeout
	}
	if grace != 0 {
		unix.PidfdSendSignal(fd, unix.Signal(sig), nil, 0)
		if waitProcess(fd, grace) {
			return c.settle()
		}
	}
	unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	if !waitProcess(fd, 30) {
		return fmt.Errorf("stop container %s: process %d does not end even after SIGKILL: it hangs in the kernel", c.Name, s.PID)
	}
	return c.settle()
}

// StopSignal is the name of the signal that asks the container to end.
func (c *Container) StopSignal() string {
	switch {
	case c.Options.StopSignal != "":
		return c.Options.StopSignal
	case c.ImageConfig.StopSignal != "":
		return c.ImageConfig.StopSignal
	}
	return "SIGTERM"
}

// waitProcess waits for a process to end, for some seconds or (-1) any time.
func waitProcess(pidfd, seconds int) bool {
	deadline := time.Now().Add(time.Duration(seconds) * time.Second)
	for {
		ms := -1
		if seconds >= 0 {
			ms = max(int(time.Until(deadline).Milliseconds()), 0)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, ms)
		if err == unix.EINTR {
			continue
		}
		return n > 0
	}
}

// settle waits until the container's end is on record. One that removes itself
// is then gone, which is no error.
func (c *Container) settle() error {
	_, err := c.State()
	var gone *NotFoundError
	if err == nil {
		// The process is gone; the record follows when the monitor is done.
		err = c.reconcile()
	}
	if errors.As(err, &gone) {
		return nil
	}
	return err
}

// Wait waits until the container does not run and gives its exit code.
func (c *Container) Wait() (int, error) {
	s, err := c.State()
	if err != nil {
		return 0, err
	}
	if s.Status != StatusRunning {
		return s.ExitCode, nil
	}
	// The monitor's own word is the only one about a container that is removed
	// as it ends.
	if m, err := monitor.Dial(c.dir()); err == nil {
		defer m.Close()
		if m.Attach(monitor.Stdin) == nil {
			for {
				ev, err := m.Next()
				if err != nil {
					break
				}
				if ev.Exited {
					return ev.Code, nil
				}
			}
		}
	}
	return c.waitRecord()
}

// waitRecord waits for a container without the help of its monitor.
func (c *Container) waitRecord() (int, error) {
	s, err := c.State()
	if err == nil && s.Status == StatusRunning {
		fd, perr := openProcess(&s.State)
		if perr == nil {
			waitProcess(fd, -1)
			unix.Close(fd)
		}
		s, err = c.State()
	}
	return s.ExitCode, err
}

// Remove removes a container that does not run, or any with force; with volumes
// its anonymous volumes go with it, unless others hold them.
func (c *Container) Remove(force, volumes bool) error {
	c.doomed = volumes
	for {
		err := c.remove(force)
		var gone *NotFoundError
		switch {
		case force && errors.Is(err, ErrRunning):
			continue // another command has started it anew
		case force && errors.As(err, &gone):
			return nil
		case errors.Is(err, ErrRunning):
			return usage("cannot remove container %q: container is running: stop the container before removing or force remove", c.Name)
		}
		return err
	}
}

func (c *Container) remove(force bool) error {
	s, err := c.State()
	if err != nil {
		return err
	}
	if s.Status == StatusRunning {
		if !force {
			return ErrRunning
		}
		zero := 0
		if err := c.Stop(&zero, ""); err != nil {
			return err
		}
	}
	l, err := c.await() // its monitor may not be quite gone
	if err != nil {
		return err
	}
	defer l.Close()
	return c.discard()
}

// Attach connects to a running container.
func (c *Container) Attach(streams monitor.Streams) (*monitor.Client, error) {
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	if s.Status != StatusRunning {
		return nil, usage("you cannot attach to a stopped container, start it first: brig start %s", c.Name)
	}
	m, err := monitor.Dial(c.dir())
	if err != nil {
		return nil, fmt.Errorf("container %s has lost its monitor; stop it and start it again: %w", c.Name, err)
	}
	if err := m.Attach(streams); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// ExitOf gives the recorded exit code of a container whose monitor's connection
// ended without a word.
func (c *Container) ExitOf(err error) (int, error) {
	if !errors.Is(err, io.EOF) {
		return 0, err
	}
	return c.waitRecord()
}
