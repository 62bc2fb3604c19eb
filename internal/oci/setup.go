package oci

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/internal/network"
	"github.com/brig-run/brig/internal/resctrl"
)

// needsSetup says whether something is to be done to the child from outside,
// once it is in its namespaces.
func (c *creation) needsSetup() bool {
	return c.spec.Linux.IntelRdt != nil || len(c.spec.Linux.NetDevices) > 0
}

// setup gives the container its interfaces, and its share of caches.
func (c *creation) setup(pid int) error {
	if r := c.spec.Linux.IntelRdt; r != nil {
		if err := c.joinRdt(r, pid); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.spec.Linux.NetDevices)) {
		to := c.spec.Linux.NetDevices[name].Name
		if to == "" {
			to = name
		}
		if err := network.MoveDevice(name, to, fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil {
			return fmt.Errorf("linux.netDevices: %w", err)
		}
	}
	return nil
}

// joinRdt records the container's group of resctrl, makes it, and puts the
// child in it.
func (c *creation) joinRdt(r *specs.LinuxIntelRdt, pid int) error {
	root, err := resctrl.Mountpoint()
	if err != nil {
		return fmt.Errorf("linux.intelRdt: intelRdt is specified in config, but %w", err)
	}
	if c.Rdt, err = resctrl.Plan(root, c.ID, r); err != nil {
		return err
	}
	if err := c.save(); err != nil {
		return err
	}
	return c.Rdt.Apply(r, pid)
}

// removeRdt removes the container's group of resctrl.
func (c *Container) removeRdt() {
	if c.Rdt == nil {
		return
	}
	if err := c.Rdt.Remove(); err != nil {
		c.rt.Warn(err.Error())
	}
}

func (c *Container) updateRdt(rdt *specs.LinuxIntelRdt) error {
	if c.Rdt == nil {
		return errors.New("intelRdt: this container has no group of resctrl")
	}
	return c.Rdt.Update(rdt)
}
