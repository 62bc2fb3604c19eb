package engine

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/monitor"
)

// WaitCondition is what Wait waits for, in Docker's words.
type WaitCondition string

// The conditions.
const (
	UntilNotRunning WaitCondition = "not-running"
	UntilNextExit   WaitCondition = "next-exit"
	UntilRemoved    WaitCondition = "removed"
)

// Wait waits for a condition and gives the container's exit code.
func (c *Container) Wait(until WaitCondition) (int, error) {
	s, err := c.State()
	if err != nil {
		return 0, err
	}
	switch until {
	case UntilNextExit:
		return c.nextExit(&s)
	case UntilRemoved:
		return c.untilRemoved(&s)
	}
	for s.Up() || s.Status == StatusRestarting {
		if s.Up() {
			return c.exit()
		}
		if err := c.changed(func(now *State) bool { return now.Status != StatusRestarting }); err != nil {
			return s.ExitCode, err
		}
		if s, err = c.State(); err != nil {
			return 0, err
		}
	}
	return s.ExitCode, nil
}

// exit waits for the end of a container that is up. The monitor's own word is
// the only one about a container that is removed as it ends.
func (c *Container) exit() (int, error) {
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
	if err == nil && s.Up() {
		fd, perr := openProcess(&s.State)
		if perr == nil {
			waitProcess(fd, -1)
			unix.Close(fd)
		}
		s, err = c.State()
	}
	return s.ExitCode, err
}

func (c *Container) nextExit(s *State) (int, error) {
	if s.Up() {
		return c.exit()
	}
	before := s.FinishedAt
	if err := c.changed(func(now *State) bool { return now.Up() || !now.FinishedAt.Equal(before) }); err != nil {
		return s.ExitCode, err
	}
	now, err := c.State()
	if err == nil && now.Up() {
		return c.exit()
	}
	return now.ExitCode, err
}

func (c *Container) untilRemoved(s *State) (int, error) {
	code := s.ExitCode
	if s.Up() {
		var err error
		if code, err = c.exit(); err != nil {
			return code, err
		}
	}
	err := c.changed(func(now *State) bool { code = now.ExitCode; return false })
	var gone *NotFoundError
	if errors.As(err, &gone) {
		err = nil
	}
	return code, err
}

// changed waits until the container's state is as wanted. It looks after each
// record that is written. A container that goes is a NotFoundError.
func (c *Container) changed(wanted func(*State) bool) error {
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("wait for container %s: %w", c.Name, err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, c.dir(), unix.IN_MOVED_TO|unix.IN_MODIFY|unix.IN_MOVE_SELF|unix.IN_DELETE_SELF); err != nil {
		return &NotFoundError{c.ID}
	}
	var buf [4096]byte
	for {
		s, err := c.State()
		if err != nil {
			return err
		}
		if wanted(&s) {
			return nil
		}
		if s.Status == StatusRestarting {
			// A monitor that is killed writes nothing more.
			unix.Poll([]unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}}, int(time.Second.Milliseconds()))
			continue
		}
		if _, err := unix.Read(watch, buf[:]); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for container %s: %w", c.Name, err)
		}
	}
}
