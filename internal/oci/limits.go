package oci

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/cgroup"
)

// Update changes the limits that change and rdt (or nil) name.
func (c *Container) Update(change *specs.LinuxResources, rdt *specs.LinuxIntelRdt) error {
	l, err := c.lock(true)
	if err != nil {
		return err
	}
	defer l.Close()
	now, err := c.update(change)
	if err != nil {
		return err
	}
	if c.Record.Resources, err = json.Marshal(now); err != nil {
		return err
	}
	if rdt != nil {
		if err := c.updateRdt(rdt); err != nil {
			return err
		}
	}
	return c.save()
}

func (c *Container) update(change *specs.LinuxResources) (*specs.LinuxResources, error) {
	status, err := c.Status()
	if err != nil {
		return nil, err
	}
	if status == Stopped {
		return nil, ErrNotRunning
	}
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	before, err := c.resources()
	if err != nil {
		return nil, err
	}
	return g.Update(before, change)
}

// resources are the limits that hold: those of the last update, or else of the
// configuration. (The record does not repeat the latter: the JSON library takes a
// third of a millisecond to learn how to.)
func (c *Container) resources() (*specs.LinuxResources, error) {
	if c.Record.Resources == nil {
		spec, err := c.Spec()
		if err != nil {
			return nil, err
		}
		return spec.Linux.Resources, nil
	}
	r := &specs.LinuxResources{}
	if err := json.Unmarshal(c.Record.Resources, r); err != nil {
		return nil, fmt.Errorf("container %s: %s: resources: %w", c.ID, recordFile, err)
	}
	return r, nil
}

// Stats reads what the container has used.
func (c *Container) Stats() (*cgroup.Stats, error) {
	if !c.alive() {
		return nil, ErrNotRunning
	}
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	return g.Stats()
}

// OOMEvents tells of each time that the container ran out of memory.
func (c *Container) OOMEvents() (<-chan struct{}, error) {
	if !c.alive() {
		return nil, ErrNotRunning
	}
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	return g.OOMEvents()
}

// Ended is closed when the container's first process has ended.
func (c *Container) Ended() (<-chan struct{}, error) {
	fd, err := c.open()
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer unix.Close(fd)
		for !pollExit(fd, time.Hour) {
		}
		close(ended)
	}()
	return ended, nil
}
