package cgroup

import (
	"fmt"

	"github.com/opencontainers/cgroups"
)

// Stats is what a cgroup has used, in the JSON of the field data of "runc events
// --stats", which engines read. Times are in nanoseconds, sizes in bytes.
type Stats struct {
	CPU     CPUStats           `json:"cpu"`
	CPUSet  CPUSet             `json:"cpuset"`
	Memory  Memory             `json:"memory"`
	Pids    PidsStats          `json:"pids"`
	Blkio   Blkio              `json:"blkio"`
	Hugetlb map[string]Hugetlb `json:"hugetlb"`
	// IntelRdt and NetworkInterfaces are not of cgroups; who knows, fills them in.
	IntelRdt          any   `json:"intel_rdt"`
	NetworkInterfaces []any `json:"network_interfaces"`
}

// CPUStats is the time that processors worked.
type CPUStats struct {
	Usage      CPUUsage          `json:"usage"`
	Throttling Throttling        `json:"throttling"`
	PSI        *cgroups.PSIStats `json:"psi,omitempty"`
}

// CPUUsage: in all, for each processor, for the kernel and for the program.
type CPUUsage struct {
	Total        uint64   `json:"total,omitempty"`
	Percpu       []uint64 `json:"percpu,omitempty"`
	PercpuKernel []uint64 `json:"percpu_kernel,omitempty"`
	PercpuUser   []uint64 `json:"percpu_user,omitempty"`
	Kernel       uint64   `json:"kernel"`
	User         uint64   `json:"user"`
}

// Throttling is how often, and how long, the quota was used up.
type Throttling struct {
	Periods          uint64 `json:"periods,omitempty"`
	ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
	ThrottledTime    uint64 `json:"throttledTime,omitempty"`
}

// CPUSet is the state of v1's cpuset controller.
type CPUSet struct {
	CPUs                  []uint16 `json:"cpus,omitempty"`
	CPUExclusive          uint64   `json:"cpu_exclusive"`
	Mems                  []uint16 `json:"mems,omitempty"`
	MemHardwall           uint64   `json:"mem_hardwall"`
	MemExclusive          uint64   `json:"mem_exclusive"`
	MemoryMigrate         uint64   `json:"memory_migrate"`
	MemorySpreadPage      uint64   `json:"memory_spread_page"`
	MemorySpreadSlab      uint64   `json:"memory_spread_slab"`
	MemoryPressure        uint64   `json:"memory_pressure"`
	SchedLoadBalance      uint64   `json:"sched_load_balance"`
	SchedRelaxDomainLevel int64    `json:"sched_relax_domain_level"`
}

// Memory is the memory in use; Raw is the kernel's memory.stat.
type Memory struct {
	Cache     uint64            `json:"cache,omitempty"`
	Usage     MemoryEntry       `json:"usage"`
	Swap      MemoryEntry       `json:"swap"` // memory and swap together
	Kernel    MemoryEntry       `json:"kernel"`
	KernelTCP MemoryEntry       `json:"kernelTCP"`
	Raw       map[string]uint64 `json:"raw,omitempty"`
	PSI       *cgroups.PSIStats `json:"psi,omitempty"`
}

// MemoryEntry is one kind of memory: now, at most, and how often refused.
type MemoryEntry struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// PidsStats counts tasks; a limit of 0 is none.
type PidsStats struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

// Blkio is the block I/O, by device and operation.
type Blkio struct {
	IoServiceBytesRecursive []BlkioEntry      `json:"ioServiceBytesRecursive,omitempty"`
	IoServicedRecursive     []BlkioEntry      `json:"ioServicedRecursive,omitempty"`
	IoQueuedRecursive       []BlkioEntry      `json:"ioQueueRecursive,omitempty"`
	IoServiceTimeRecursive  []BlkioEntry      `json:"ioServiceTimeRecursive,omitempty"`
	IoWaitTimeRecursive     []BlkioEntry      `json:"ioWaitTimeRecursive,omitempty"`
	IoMergedRecursive       []BlkioEntry      `json:"ioMergedRecursive,omitempty"`
	IoTimeRecursive         []BlkioEntry      `json:"ioTimeRecursive,omitempty"`
	SectorsRecursive        []BlkioEntry      `json:"sectorsRecursive,omitempty"`
	PSI                     *cgroups.PSIStats `json:"psi,omitempty"`
}

// BlkioEntry is one device's count of one operation.
type BlkioEntry struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

// Hugetlb is the use of huge pages of one size.
type Hugetlb struct {
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// Stats reads what the cgroup has used.
func (g *Group) Stats() (*Stats, error) {
	c, err := g.mgr.GetStats()
	if err != nil {
		return nil, fmt.Errorf("read the figures of cgroup %s: %w", g.path, err)
	}
	usage, throttling := c.CpuStats.CpuUsage, c.CpuStats.ThrottlingData
	s := &Stats{
		CPU: CPUStats{
			Usage: CPUUsage{Total: usage.TotalUsage, Percpu: usage.PercpuUsage, PercpuKernel: usage.PercpuUsageInKernelmode,
				PercpuUser: usage.PercpuUsageInUsermode, Kernel: usage.UsageInKernelmode, User: usage.UsageInUsermode},
			Throttling: Throttling{Periods: throttling.Periods, ThrottledPeriods: throttling.ThrottledPeriods, ThrottledTime: throttling.ThrottledTime},
			PSI:        c.CpuStats.PSI,
		},
		Memory: Memory{Cache: c.MemoryStats.Cache, Usage: memoryEntry(c.MemoryStats.Usage), Swap: memoryEntry(c.MemoryStats.SwapUsage),
			Kernel: memoryEntry(c.MemoryStats.KernelUsage), KernelTCP: memoryEntry(c.MemoryStats.KernelTCPUsage),
			Raw: c.MemoryStats.Stats, PSI: c.MemoryStats.PSI},
		Pids:     PidsStats{Current: c.PidsStats.Current, Limit: c.PidsStats.Limit},
		Blkio:    blkio(&c.BlkioStats),
		CPUSet:   CPUSet(c.CPUSetStats),
		Hugetlb:  map[string]Hugetlb{},
		IntelRdt: struct{}{},
	}
	for size, h := range c.HugetlbStats {
		s.Hugetlb[size] = Hugetlb{Usage: h.Usage, Max: h.MaxUsage, Failcnt: h.Failcnt}
	}
	return s, nil
}

func memoryEntry(d cgroups.MemoryData) MemoryEntry {
	return MemoryEntry{Limit: d.Limit, Usage: d.Usage, Max: d.MaxUsage, Failcnt: d.Failcnt}
}

func blkio(b *cgroups.BlkioStats) Blkio {
	entries := func(list []cgroups.BlkioStatEntry) (out []BlkioEntry) {
		for _, e := range list {
			out = append(out, BlkioEntry(e))
		}
		return out
	}
	return Blkio{
		IoServiceBytesRecursive: entries(b.IoServiceBytesRecursive), IoServicedRecursive: entries(b.IoServicedRecursive),
		IoQueuedRecursive: entries(b.IoQueuedRecursive), IoServiceTimeRecursive: entries(b.IoServiceTimeRecursive),
		IoWaitTimeRecursive: entries(b.IoWaitTimeRecursive), IoMergedRecursive: entries(b.IoMergedRecursive),
		IoTimeRecursive: entries(b.IoTimeRecursive), SectorsRecursive: entries(b.SectorsRecursive), PSI: b.PSI,
	}
}
