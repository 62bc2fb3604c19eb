package engine

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/cgroup"
	"github.com/brig-run/brig/internal/jsonline"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

// changeable is what the monitor must know of what may change while the
// container runs.
func (c *Container) changeable() monitor.Changeable {
	ch := monitor.Changeable{NameLink: c.nameLink(), Attributes: c.attributes(), Remove: c.AutoRemove, MaxRetries: c.Options.Restart.MaxRetries}
	switch c.Options.Restart.Name {
	case spec.RestartOnFailure:
		ch.Restart = monitor.RestartOnFailure
	case spec.RestartAlways, spec.RestartUnlessStopped:
		ch.Restart = monitor.RestartAlways
	}
	return ch
}

// attributes are those of the container's events: Docker's.
func (c *Container) attributes() string {
	pairs := []string{"image", c.Image, "name", c.Name}
	for k, v := range c.Labels() {
		if k != "image" && k != "name" {
			pairs = append(pairs, k, v)
		}
	}
	return jsonline.Members(pairs...)
}

// change rewrites the container's configuration: edit gets it as it is now, and
// has the lock of names. What it did beforehand is undone by undo if the
// configuration cannot be written.
func (c *Container) change(edit func(now *Container) (undo func(), err error)) error {
	turn, err := c.lockChanges()
	if err != nil {
		return err
	}
	defer turn.Close()
	l, err := c.engine.lockNames(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer l.Close()
	now, err := c.engine.load(c.ID)
	if err != nil {
		return err
	}
	undo, err := edit(now)
	if err != nil {
		return err
	}
	if err := now.save(true); err != nil {
		undo()
		return fmt.Errorf("write the configuration of container %s: %w", c.Name, err)
	}
	now.observe, now.leash, now.profile = c.observe, c.leash, c.profile
	*c = *now
	return nil
}

// tellMonitor lets the monitor know what has changed. One that is just about to
// be replaced by the next start is waited for.
func (c *Container) tellMonitor(ch monitor.Changeable) error {
	for {
		m, err := monitor.Dial(c.dir())
		if err == nil {
			err = m.Update(ch)
			m.Close()
		}
		if err == nil {
			return nil
		}
		s, serr := c.State()
		switch {
		case serr != nil:
			return serr
		case s.Up():
			return fmt.Errorf("container %s has lost its monitor; stop it and start it again: %w", c.Name, err)
		case s.Status != StatusRestarting:
			return nil // whoever starts it reads the configuration
		}
		if err := c.changed(func(now *State) bool { return now.Status != StatusRestarting }); err != nil {
			return err
		}
	}
}

// Rename gives the container another name.
func (c *Container) Rename(name string) error {
	if err := spec.CheckName(name); err != nil {
		return err
	}
	old := c.Name
	err := c.change(func(now *Container) (func(), error) {
		if old = now.Name; old == name {
			return nil, usage("renaming a container with the same name as its current name")
		}
		now.Name = name
		if err := now.takeNameLocked(); err != nil {
			return nil, err
		}
		return func() { os.Remove(now.nameLink()) }, nil
	})
	if err != nil {
		return err
	}
	link := c.engine.path("names", old)
	if owner, err := os.Readlink(link); err == nil && owner == c.ID {
		os.Remove(link)
	}
	c.Event("rename", "oldName", "/"+old)
	if err := c.renameInNetworks(); err != nil {
		return err
	}
	if s, err := c.State(); err == nil && (s.Up() || s.Status == StatusRestarting) {
		return c.tellMonitor(c.changeable())
	}
	return nil
}

// Update changes limits of resources, at once if the container runs, and its
// restart policy. apply changes the options. The warnings are one-line texts.
func (c *Container) Update(apply func(*spec.Options)) ([]string, error) {
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	var warnings []string
	err = c.change(func(now *Container) (func(), error) {
		before := now.Options
		apply(&now.Options)
		if now.AutoRemove && now.Options.Restart.Name != spec.RestartNo {
			return nil, usage("restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		was, _, err := spec.Resources(&before, c.engine.host())
		if err != nil {
			return nil, err
		}
		wanted, warned, err := spec.Resources(&now.Options, c.engine.host())
		if err != nil {
			return nil, err
		}
		warnings = warned
		if before.PidsLimit > 0 && now.Options.PidsLimit <= 0 {
			none := int64(-1)
			wanted.Pids = &specs.LinuxPids{Limit: &none}
		}
		if !s.Up() {
			return func() {}, nil
		}
		g, err := cgroup.Load(s.Cgroups, cgroup.Options{})
		if err != nil {
			return nil, err
		}
		if _, err := g.Update(was, wanted); err != nil {
			return nil, err
		}
		warnings = append(warnings, g.Warnings...)
		return func() { g.Update(wanted, was) }, nil
	})
	var usageError *UsageError
	if errors.As(err, &usageError) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("update container %s: %w", c.Name, err)
	}
	c.Event("update")
	if s.Up() || s.Status == StatusRestarting {
		err = c.tellMonitor(c.changeable())
	}
	return warnings, err
}
