package engine

import (
	"fmt"

	"github.com/brig-run/brig/internal/cgroup"
	"github.com/brig-run/brig/internal/monitor"
)

// Pause makes all processes of a running container stand still.
func (c *Container) Pause() error {
	s, err := c.State()
	if err != nil {
		return err
	}
	switch {
	case s.Status == StatusPaused:
		return usage("container %s is already paused", c.ID)
	case s.Status != StatusRunning:
		return c.notRunning(&s)
	}
	g, err := cgroup.Load(s.Cgroups, cgroup.Options{})
	if err == nil {
		if err = g.Freeze(true); err != nil {
			g.Freeze(false)
		}
	}
	if err != nil {
		return fmt.Errorf("pause container %s: %w", c.Name, err)
	}
	c.Event("pause")
	return nil
}

// Unpause lets the processes of a paused container go on.
func (c *Container) Unpause() error {
	s, err := c.State()
	if err != nil {
		return err
	}
	if s.Status != StatusPaused {
		return usage("container %s is not paused", c.ID)
	}
	if err := c.thaw(&s); err != nil {
		return err
	}
	c.Event("unpause")
	return nil
}

func (c *Container) thaw(s *State) error {
	g, err := cgroup.Load(s.Cgroups, cgroup.Options{})
	if err == nil {
		err = g.Freeze(false)
	}
	if err != nil {
		return fmt.Errorf("unpause container %s: %w", c.Name, err)
	}
	s.Status = StatusRunning
	return nil
}

// paused asks the kernel, not a record: what is frozen is paused, whoever did
// it.
func paused(s *monitor.State) bool { return cgroup.Paused(s.Cgroups) }
