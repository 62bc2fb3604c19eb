package spec

import (
	"fmt"
	"math"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// cpuPeriod is the CFS period in microseconds that --cpus is a share of.
const cpuPeriod = 100_000

// resources fills in the limits of the cgroup. What is not limited is left out.
func (b *builder) resources() error {
	r := b.spec.Linux.Resources
	r.Memory = b.memory()
	var err error
	if r.CPU, err = b.cpu(); err != nil {
		return err
	}
	if b.o.PidsLimit > 0 {
		limit := b.o.PidsLimit
		r.Pids = &specs.LinuxPids{Limit: &limit}
	}
	return nil
}

// memory: swap counts with memory, and is as much again unless the user says.
func (b *builder) memory() *specs.LinuxMemory {
	o := b.o
	m := &specs.LinuxMemory{}
	if o.Memory > 0 {
		limit, swap := o.Memory, o.MemorySwap
		if swap == 0 {
			swap = math.MaxInt64
			if limit <= math.MaxInt64/2 {
				swap = 2 * limit
			}
		}
		m.Limit, m.Swap = &limit, &swap
	}
	if o.MemoryReservation > 0 {
		reservation := o.MemoryReservation
		m.Reservation = &reservation
	}
	if o.OOMKillDisable {
		if b.host.Cgroup == CgroupV2 {
			b.warn("--oom-kill-disable: cgroup v2 cannot do this; going on without")
		} else {
			disable := true
			m.DisableOOMKiller = &disable
		}
	}
	if *m == (specs.LinuxMemory{}) {
		return nil
	}
	return m
}

func (b *builder) cpu() (*specs.LinuxCPU, error) {
	o := b.o
	c := &specs.LinuxCPU{Cpus: o.CPUSetCPUs, Mems: o.CPUSetMems}
	if o.CPUShares > 0 {
		shares := uint64(o.CPUShares)
		c.Shares = &shares
	}
	if o.NanoCPUs > 0 {
		if n := b.host.CPUs; n > 0 && o.NanoCPUs > int64(n)*1e9 {
			return nil, fmt.Errorf("--cpus %g: range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", float64(o.NanoCPUs)/1e9, n, n)
		}
		period, quota := uint64(cpuPeriod), o.NanoCPUs/(1e9/cpuPeriod)
		c.Period, c.Quota = &period, &quota
	}
	if last, _ := lastOfList(o.CPUSetCPUs); o.CPUSetCPUs != "" && b.host.CPUs > 0 && last >= b.host.CPUs {
		return nil, fmt.Errorf("--cpuset-cpus %q: requested CPUs are not available; this machine has 0-%d", o.CPUSetCPUs, b.host.CPUs-1)
	}
	if *c == (specs.LinuxCPU{}) {
		return nil, nil
	}
	return c, nil
}

// Limits of open files where the user sets none: few enough for programs that
// close or poll all of them, and room to raise (systemd's defaults, which
// Docker inherits).
const (
	nofileSoft = 1024
	nofileHard = 524288
)

// rlimits are the user's, as far as the host lets them be set, and the default
// for open files.
func (b *builder) rlimits() error {
	limits := make([]specs.POSIXRlimit, 0, 1+len(b.o.Ulimits))
	nofile := false
	for _, u := range b.o.Ulimits {
		soft, hard := rlimit(u.Soft), rlimit(u.Hard)
		if top := b.hardLimit(u.Name); hard > top {
			b.warn("--ulimit %s: this host allows at most %d; going on with that", u.Name, top)
			soft, hard = min(soft, top), top
		}
		limits = append(limits, specs.POSIXRlimit{Type: rlimitType(u.Name), Soft: soft, Hard: hard})
		nofile = nofile || u.Name == "nofile"
	}
	if !nofile {
		hard := min(nofileHard, b.hardLimit("nofile"))
		limits = append(limits, specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: min(nofileSoft, hard), Hard: hard})
	}
	b.spec.Process.Rlimits = limits
	return nil
}

func (b *builder) hardLimit(name string) uint64 {
	if b.host.HardLimit == nil {
		return math.MaxUint64
	}
	return b.host.HardLimit(name)
}

// rlimit turns -1 into the kernel's RLIM_INFINITY, which is all ones.
func rlimit(n int64) uint64 { return uint64(n) }

func rlimitType(name string) string { return "RLIMIT_" + strings.ToUpper(name) }
