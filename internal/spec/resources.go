package spec

import (
	"fmt"
	"math"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
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
	r.BlockIO, err = b.blockIO()
	return err
}

// Resources are the limits that options ask for, but for those of devices: what
// a running container can be given. The warnings are one-line texts.
func Resources(o *Options, h *Host) (*specs.LinuxResources, []string, error) {
	b, err := newBuilder(Input{Options: o, Host: h})
	if err == nil {
		err = o.Validate()
	}
	if err == nil {
		err = b.resources()
	}
	if err != nil {
		return nil, nil, err
	}
	return b.spec.Linux.Resources, b.res.Warnings, nil
}

// CheckBlockIO finds the devices whose I/O is to be limited, ahead of a start.
func CheckBlockIO(o *Options) error {
	_, err := (&builder{o: o}).blockIO()
	return err
}

// blockIO finds the numbers of the devices that limits name.
func (b *builder) blockIO() (*specs.LinuxBlockIO, error) {
	o := b.o
	io := &specs.LinuxBlockIO{}
	if o.BlkioWeight != 0 {
		io.Weight = &o.BlkioWeight
	}
	for _, d := range o.BlkioWeightDevice {
		major, minor, err := blockDevice("--blkio-weight-device", d.Path)
		if err != nil {
			return nil, err
		}
		w := specs.LinuxWeightDevice{}
		weight := uint16(d.Rate)
		w.Major, w.Minor, w.Weight = major, minor, &weight
		io.WeightDevice = append(io.WeightDevice, w)
	}
	for _, limit := range []struct {
		flag  string
		rates []DeviceRate
		to    *[]specs.LinuxThrottleDevice
	}{
		{"--device-read-bps", o.DeviceReadBps, &io.ThrottleReadBpsDevice},
		{"--device-write-bps", o.DeviceWriteBps, &io.ThrottleWriteBpsDevice},
		{"--device-read-iops", o.DeviceReadIOps, &io.ThrottleReadIOPSDevice},
		{"--device-write-iops", o.DeviceWriteIOps, &io.ThrottleWriteIOPSDevice},
	} {
		for _, d := range limit.rates {
			major, minor, err := blockDevice(limit.flag, d.Path)
			if err != nil {
				return nil, err
			}
			t := specs.LinuxThrottleDevice{Rate: d.Rate}
			t.Major, t.Minor = major, minor
			*limit.to = append(*limit.to, t)
		}
	}
	if io.Weight == nil && len(io.WeightDevice)+len(io.ThrottleReadBpsDevice)+len(io.ThrottleWriteBpsDevice)+
		len(io.ThrottleReadIOPSDevice)+len(io.ThrottleWriteIOPSDevice) == 0 {
		return nil, nil
	}
	return io, nil
}

func blockDevice(flag, path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, badValue(flag, path, "%v", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, badValue(flag, path, "not a block device")
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
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
	if o.MemorySwappiness != nil {
		if b.host.Cgroup == CgroupV2 {
			b.warn("--memory-swappiness: cgroup v2 cannot do this; going on without")
		} else {
			swappiness := uint64(*o.MemorySwappiness)
			m.Swappiness = &swappiness
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
	if o.CPUPeriod > 0 {
		period := uint64(o.CPUPeriod)
		c.Period = &period
	}
	if o.CPUQuota != 0 {
		quota := o.CPUQuota
		c.Quota = &quota
	}
	if o.CPURTPeriod > 0 {
		period := uint64(o.CPURTPeriod)
		c.RealtimePeriod = &period
	}
	if o.CPURTRuntime > 0 {
		runtime := o.CPURTRuntime
		c.RealtimeRuntime = &runtime
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
