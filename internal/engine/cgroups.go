package engine

import (
	"os"

	"github.com/brig-run/brig/internal/cgroup"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/network/undo"
	"github.com/brig-run/brig/internal/userns"
)

// delegatedFile has the path of the cgroup that an ordinary user's container was
// given.
const delegatedFile = "cgroup"

// cgroupPath is the container's cgroup, below the root of each hierarchy.
func (c *Container) cgroupPath() string {
	if p := c.Options.CgroupParent; p != "" {
		return p + "/" + c.ID
	}
	if userns.Inside() {
		if b, err := os.ReadFile(c.file(delegatedFile)); err == nil {
			return string(b)
		}
	}
	return "/brig/" + c.ID
}

// delegate finds a cgroup for an ordinary user's container, whose monitor is pid.
func (c *Container) delegate(pid int) error {
	path, err := cgroup.Delegate(c.ID, pid)
	if err != nil {
		os.Remove(c.file(delegatedFile))
		return err
	}
	return os.WriteFile(c.file(delegatedFile), []byte(path), 0o600)
}

func (c *Container) cgroupDirs() []string { return cgroup.Existing(c.cgroupPath()) }

// clearCgroups ends what still runs in the container's cgroups, removes them, and
// frees what else the container has outside of its namespaces.
func (c *Container) clearCgroups() {
	undo.Perform(c.dir())
	dirs := c.cgroupDirs()
	monitor.KillAll(dirs)
	for _, d := range dirs {
		monitor.RemoveCgroup(d)
	}
}
