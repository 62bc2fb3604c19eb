package engine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

// Restart stops the container if it runs, and starts it. One with AutoRemove
// stays.
func (c *Container) Restart(timeout *int, signal string) ([]string, error) {
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	if s.Up() && c.AutoRemove {
		keep := c.changeable()
		keep.Remove = false
		if err := c.tellMonitor(keep); err != nil {
			return nil, err
		}
	}
	if err := c.Stop(timeout, signal); err != nil {
		return nil, err
	}
	run, err := c.Start(0, ConsoleSize{})
	if err != nil && !errors.Is(err, ErrRunning) { // another command was faster
		return nil, err
	}
	c.Event("restart")
	if run == nil {
		return nil, nil
	}
	run.Client.Close()
	return run.Warnings, nil
}

// RestartByPolicy starts an ended container anew. It is what a container's
// monitor becomes after the pause; l is the lock that it held.
func (e *Engine) RestartByPolicy(id string, l *os.File) error {
	c, err := e.load(id)
	if err != nil {
		l.Close()
		return err
	}
	s, err := c.readState()
	if err == nil && (s == nil || !s.Restarting) {
		err = fmt.Errorf("container %s is not to be started anew", c.Name)
	}
	if err == nil && (c.stopped() || c.Options.Restart.Name == spec.RestartNo) {
		s.Restarting = false
		err = s.Write(c.dir())
		l.Close()
		return err
	}
	if err != nil {
		l.Close()
		return err
	}
	run, err := (&starter{c: c, lock: l, booting: e.boot(c.Explain), byPolicy: true}).start()
	if err != nil {
		return err
	}
	run.Client.Close()
	return nil
}

// StartEnabled starts the containers that a restart policy wants to run after
// the system has come up: always, unless-stopped if nobody stopped it, and
// on-failure if it failed. It tells of each.
func (e *Engine) StartEnabled(tell func(c *Container, warnings []string, err error)) error {
	return e.each(tell, func(c *Container) (bool, []string, error) {
		s, err := c.State()
		if err != nil || s.Up() || s.Status == StatusRestarting || !c.enabled(&s) {
			return false, nil, err
		}
		run, err := c.Start(0, ConsoleSize{})
		if errors.Is(err, ErrRunning) {
			return false, nil, nil
		}
		if err != nil {
			return true, nil, err
		}
		run.Client.Close()
		return true, run.Warnings, nil
	})
}

// enabled says whether a container that does not run is wanted.
func (c *Container) enabled(s *State) bool {
	if s.Status == StatusCreated {
		return false // nobody has started it yet
	}
	switch c.Options.Restart.Name {
	case spec.RestartAlways:
		return true
	case spec.RestartUnlessStopped:
		return !c.stoppedByUser()
	case spec.RestartOnFailure:
		return s.ExitCode != 0 && !c.stoppedByUser()
	}
	return false
}

// stoppedByUser says whether a user, not the end of the system, stopped it.
func (c *Container) stoppedByUser() bool {
	b, err := os.ReadFile(c.file(monitor.StoppedFile))
	return err == nil && string(b) != shutdownMark
}

// StopAll stops all containers, as the end of the system does: those that a
// policy wants to run are started again by StartEnabled.
func (e *Engine) StopAll(timeout *int, tell func(c *Container, warnings []string, err error)) error {
	return e.each(tell, func(c *Container) (bool, []string, error) {
		s, err := c.State()
		if err != nil || !s.Up() && s.Status != StatusRestarting {
			return false, nil, err
		}
		return true, nil, c.stop(timeout, "", shutdownMark)
	})
}

// each does something with all containers, several at a time, and tells of
// those with which there was something to do.
func (e *Engine) each(tell func(*Container, []string, error), do func(*Container) (bool, []string, error)) error {
	list, err := e.List()
	if err != nil {
		return err
	}
	turns := make(chan struct{}, 4*runtime.NumCPU())
	var all sync.WaitGroup
	var told sync.Mutex
	for _, c := range list {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			done, warnings, err := do(c)
			var gone *NotFoundError
			if errors.As(err, &gone) || err == nil && !done {
				return
			}
			told.Lock()
			defer told.Unlock()
			tell(c, warnings, err)
		})
	}
	all.Wait()
	return nil
}
