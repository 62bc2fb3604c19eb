package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/network/undo"
)

// State is a container's state as it is now.
type State struct {
	monitor.State
	Status string
}

// bootID names this boot of the machine, random(4): a process ID recorded under
// another one means nothing.
var bootID = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
})

// readState reads the record; nil without an error if there is none.
func (c *Container) readState() (*monitor.State, error) {
	b, err := readFile(c.file(monitor.StateFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &monitor.State{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("container %s: %s: %w", c.ID, monitor.StateFile, err)
	}
	return s, nil
}

// unknownExit is the exit code of a container whose end nobody saw.
const unknownExit = 255

// State tells the container's state, whatever was killed or rebooted since its
// record was written. A container that is gone is a NotFoundError.
func (c *Container) State() (State, error) {
	for {
		s, err := c.readState()
		if err != nil {
			return State{}, err
		}
		if s == nil {
			if _, err := os.Stat(c.dir()); err != nil {
				return State{}, &NotFoundError{c.ID}
			}
			return State{Status: StatusCreated}, nil
		}
		if s.Restarting {
			held, err := c.held()
			if err != nil {
				return State{}, err
			}
			if held {
				return State{State: *s, Status: StatusRestarting}, nil
			}
			if err := c.settleRestart(); err != nil {
				return State{}, err
			}
			continue
		}
		if !s.Running {
			return State{State: *s, Status: stoppedStatus(s)}, nil
		}
		if alive(s) {
			status := StatusRunning
			if paused(s) {
				status = StatusPaused
			}
			return State{State: *s, Status: status}, nil
		}
		// The process has gone. Either its monitor is about to record that,
		// or there is no monitor any more and the record is ours to mend.
		if err := c.reconcile(); err != nil {
			return State{}, err
		}
	}
}

// Up says whether the container has processes.
func (s *State) Up() bool { return s.Status == StatusRunning || s.Status == StatusPaused }

// held says whether somebody holds the container's lock.
func (c *Container) held() (bool, error) {
	l, err := c.lock()
	switch {
	case err == errLocked:
		return true, nil
	case err != nil:
		return false, err
	}
	l.Close()
	return false, nil
}

// settleRestart mends the record of a container whose monitor was killed while
// it waited to start it anew: it has ended.
func (c *Container) settleRestart() error {
	l, err := c.lock()
	if err == errLocked {
		return nil // somebody starts it
	}
	if err != nil {
		return err
	}
	defer l.Close()
	s, err := c.readState()
	if err != nil || s == nil || !s.Restarting {
		return err
	}
	s.Restarting = false
	return s.Write(c.dir())
}

func stoppedStatus(s *monitor.State) string {
	if s.StartedAt.IsZero() {
		return StatusCreated // its start failed
	}
	return StatusExited
}

// reconcile waits for the monitor to be done, and does its work if it died.
func (c *Container) reconcile() error {
	l, err := c.await()
	if errors.Is(err, ErrRunning) {
		return nil // another command has started it anew
	}
	if err != nil {
		return err
	}
	defer l.Close()
	s, err := c.readState()
	if err != nil || s == nil || !s.Running || alive(s) {
		return err
	}
	if s.BootID == bootID() {
		monitor.KillAll(s.Cgroups)
	}
	undo.Perform(c.dir())
	if c.AutoRemove {
		c.discardState(s)
		return &NotFoundError{c.ID}
	}
	for _, d := range s.Cgroups {
		monitor.RemoveCgroup(d)
	}
	s.Running, s.ExitCode, s.FinishedAt = false, unknownExit, time.Now()
	s.Error = "the monitor ended before the container: its exit code is not known"
	if s.BootID != bootID() {
		s.Error = "the machine went down while the container ran"
	}
	return s.Write(c.dir())
}

func (c *Container) discardState(s *monitor.State) {
	for _, d := range s.Cgroups {
		monitor.RemoveCgroup(d)
	}
	c.discard()
}

// alive says whether the recorded process still runs.
func alive(s *monitor.State) bool {
	if s.BootID != bootID() {
		return false
	}
	ticks, ok := monitor.ProcessStart(s.PID)
	return ok && ticks == s.PIDStart
}

// openProcess opens the container's first process for signals and waiting, and
// makes sure that it is that process.
func openProcess(s *monitor.State) (int, error) {
	fd, err := unix.PidfdOpen(s.PID, 0)
	if err != nil {
		return -1, err
	}
	if !alive(s) {
		unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
}
