package engine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

// shutdownMark is what the file monitor.StoppedFile holds if not a user but the
// end of the system stopped the container: then StartEnabled starts it.
const shutdownMark = "shutdown"

// mark notes that somebody stopped the container, so that its restart policy
// does not start it anew, or with false that it may again.
func (c *Container) mark(stopped bool) error { return c.markAs(stopped, "") }

func (c *Container) markAs(stopped bool, text string) error {
	name := c.file(monitor.StoppedFile)
	if !stopped {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stop container %s: %w", c.Name, err)
	}
	return nil
}

// stopped says whether somebody stopped the container since its last start.
func (c *Container) stopped() bool {
	_, err := os.Lstat(c.file(monitor.StoppedFile))
	return err == nil
}

// notRunning is the error of what needs a running container.
func (c *Container) notRunning(s *State) error {
	switch s.Status {
	case StatusPaused:
		return usage("container %s is paused; unpause it first: brig unpause %s", c.ID, c.Name)
	case StatusRestarting:
		return usage("container %s is restarting, wait until the container is running", c.ID)
	}
	return usage("container %s is not running", c.ID)
}

// Kill sends a signal to a running container's first process. The stop signal
// and SIGKILL also keep a restart policy from starting it anew, and reach a
// paused container, as under Docker.
func (c *Container) Kill(sig unix.Signal) error {
	s, err := c.State()
	if err != nil {
		return err
	}
	for s.Status == StatusRestarting {
		if err := c.cancelRestart(""); err != nil {
			return err
		}
		if s, err = c.State(); err != nil || !s.Up() && s.Status != StatusRestarting {
			return err
		}
	}
	if !s.Up() {
		return usage("cannot kill container: %s: container %s is not running", c.Name, c.ID)
	}
	stop, err := spec.ParseStopSignal(c.StopSignal())
	last := sig == unix.SIGKILL || err == nil && sig == stop
	if last {
		if err := c.mark(true); err != nil {
			return err
		}
	}
	fd, err := openProcess(&s.State)
	if err == nil {
		err = c.send(fd, sig)
		unix.Close(fd)
	}
	if err == nil && last && s.Status == StatusPaused {
		err = c.thaw(&s)
	}
	switch {
	case errors.Is(err, unix.ESRCH): // it ended as we looked
		return usage("cannot kill container: %s: container %s is not running", c.Name, c.ID)
	case err != nil:
		return fmt.Errorf("cannot kill container: %s: %w", c.Name, err)
	}
	return nil
}

// send sends a signal. The event comes first: that of the container's end may
// follow at once.
func (c *Container) send(pidfd int, sig unix.Signal) error {
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil {
		return err
	}
	c.Event("kill", "signal", strconv.Itoa(int(sig)))
	return unix.PidfdSendSignal(pidfd, sig, nil, 0)
}

// stopGrace is how long stop waits for the stop signal to work, by default.
const stopGrace = 10

// Stop asks a container to end, and makes it end after a time in seconds: nil
// for the container's own, -1 for any time. Stopping a stopped one is nothing.
func (c *Container) Stop(timeout *int, signal string) error { return c.stop(timeout, signal, "") }

func (c *Container) stop(timeout *int, signal, mark string) error {
	for {
		s, err := c.State()
		if err != nil {
			return err
		}
		if s.Status != StatusRestarting {
			if !s.Up() {
				return nil
			}
			break
		}
		if err := c.cancelRestart(mark); err != nil {
			return err
		}
	}
	if err := c.markAs(true, mark); err != nil {
		return err
	}
	s, err := c.State()
	if err != nil || !s.Up() {
		return err
	}
	if err := c.end(&s, timeout, signal); err != nil {
		return err
	}
	if err := c.settle(); err != nil {
		return err
	}
	c.Event("stop")
	// It may have ended by itself before it was marked.
	if s, err := c.State(); err == nil && s.Status == StatusRestarting {
		return c.cancelRestart(mark)
	}
	return nil
}

// end ends the first process of a container that is up.
func (c *Container) end(s *State, timeout *int, signal string) error {
	if signal == "" {
		signal = c.StopSignal()
	}
	sig, err := spec.ParseStopSignal(signal)
	if err != nil {
		return err
	}
	fd, err := openProcess(&s.State)
	if errors.Is(err, unix.ESRCH) {
		return nil
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
	send := func(sig unix.Signal) error {
		c.send(fd, sig) // it may have ended by itself
		if s.Status == StatusPaused {
			return c.thaw(s)
		}
		return nil
	}
	if grace != 0 {
		if err := send(unix.Signal(sig)); err != nil {
			return err
		}
		if waitProcess(fd, grace) {
			return nil
		}
	}
	if err := send(unix.SIGKILL); err != nil {
		return err
	}
	if !waitProcess(fd, 30) {
		return fmt.Errorf("stop container %s: process %d does not end even after SIGKILL: it hangs in the kernel", c.Name, s.PID)
	}
	return nil
}

// cancelRestart keeps the monitor from starting an ended container anew. When it
// returns, the container has ended for good, or was started as it came.
func (c *Container) cancelRestart(mark string) error {
	if err := c.markAs(true, mark); err != nil {
		return err
	}
	if m, err := monitor.Dial(c.dir()); err == nil {
		m.GiveUp()
		m.Close()
	}
	l, err := c.await()
	if errors.Is(err, ErrRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	l.Close()
	return c.settleRestart()
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
	if s.Up() || s.Status == StatusRestarting {
		if !force {
			switch s.Status {
			case StatusPaused:
				return usage("cannot remove container %q: container is paused and must be unpaused first: brig unpause %s", c.Name, c.Name)
			case StatusRestarting:
				return usage("cannot remove container %q: container is restarting: stop the container before removing or force remove", c.Name)
			}
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
	if err := c.discard(); err != nil {
		return err
	}
	c.Event("destroy")
	return nil
}

// Attach connects to a running container.
func (c *Container) Attach(streams monitor.Streams) (*monitor.Client, error) {
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	switch {
	case s.Status == StatusPaused || s.Status == StatusRestarting:
		return nil, c.notRunning(&s)
	case s.Status != StatusRunning:
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
	c.Event("attach")
	return m, nil
}

// ExitOf gives the recorded exit code of a container whose monitor's connection
// ended without a word.
func (c *Container) ExitOf(err error) (int, error) {
	if !errors.Is(err, io.EOF) {
		return 0, err
	}
	return c.Wait(UntilNotRunning)
}
