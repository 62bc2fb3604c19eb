package cgroup

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// resources translates the spec's limits. What the kind of cgroup that this host
// has cannot express, and engines ask for all the same, is left out with a
// warning, as runc does.
func (g *Group) resources(r *specs.LinuxResources) (*cgroups.Resources, error) {
	out := &cgroups.Resources{}
	if r == nil {
		r = &specs.LinuxResources{}
	}
	if err := deviceRules(out, r.Devices); err != nil {
		return nil, err
	}
	out.Devices = append(out.Devices, g.defaults...)
	if len(out.Devices) == 0 { // without rules the cgroup restricts nothing
		deviceRules(out, []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}})
	}
	if err := g.memory(out, r.Memory); err != nil {
		return nil, err
	}
	g.cpu(out, r.CPU)
	if r.Pids != nil {
		out.PidsLimit = r.Pids.Limit
	}
	g.blockIO(out, r.BlockIO)
	if err := g.others(out, r); err != nil {
		return nil, err
	}
	if len(r.Unified) > 0 {
		if !cgroups.IsCgroup2UnifiedMode() {
			return nil, fmt.Errorf("linux.resources.unified: this host has cgroup v1: %w", cgroups.ErrV1NoUnified)
		}
		out.Unified = maps.Clone(r.Unified)
	}
	return out, nil
}

func (g *Group) cpu(out *cgroups.Resources, c *specs.LinuxCPU) {
	if c == nil {
		return
	}
	set(&out.CpuShares, c.Shares)
	out.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(out.CpuShares)
	set(&out.CpuQuota, c.Quota)
	set(&out.CpuPeriod, c.Period)
	set(&out.CpuRtRuntime, c.RealtimeRuntime)
	set(&out.CpuRtPeriod, c.RealtimePeriod)
	out.CpuBurst, out.CPUIdle = c.Burst, c.Idle
	out.CpusetCpus, out.CpusetMems = c.Cpus, c.Mems
	if out.CpuRtRuntime != 0 || out.CpuRtPeriod != 0 {
		g.onlyV1("cpu.realtimeRuntime and realtimePeriod")
	}
}

func (g *Group) blockIO(out *cgroups.Resources, b *specs.LinuxBlockIO) {
	if b == nil {
		return
	}
	set(&out.BlkioWeight, b.Weight)
	set(&out.BlkioLeafWeight, b.LeafWeight)
	if out.BlkioLeafWeight != 0 {
		g.onlyV1("blockIO.leafWeight")
	}
	for _, d := range b.WeightDevice {
		var weight, leaf uint16
		set(&weight, d.Weight)
		set(&leaf, d.LeafWeight)
		out.BlkioWeightDevice = append(out.BlkioWeightDevice, cgroups.NewWeightDevice(d.Major, d.Minor, weight, leaf))
	}
	for _, t := range []struct {
		to   *[]*cgroups.ThrottleDevice
		from []specs.LinuxThrottleDevice
	}{
		{&out.BlkioThrottleReadBpsDevice, b.ThrottleReadBpsDevice},
		{&out.BlkioThrottleWriteBpsDevice, b.ThrottleWriteBpsDevice},
		{&out.BlkioThrottleReadIOPSDevice, b.ThrottleReadIOPSDevice},
		{&out.BlkioThrottleWriteIOPSDevice, b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range t.from {
			*t.to = append(*t.to, cgroups.NewThrottleDevice(d.Major, d.Minor, d.Rate))
		}
	}
}

// others: huge pages, RDMA and the network.
func (g *Group) others(out *cgroups.Resources, r *specs.LinuxResources) error {
	for i, h := range r.HugepageLimits {
		if sizes := cgroups.HugePageSizes(); !slices.Contains(sizes, h.Pagesize) {
			return fmt.Errorf("linux.resources.hugepageLimits[%d].pageSize: %q: this machine has %s", i, h.Pagesize, strings.Join(sizes, ", "))
		}
		out.HugetlbLimit = append(out.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: h.Pagesize, Limit: h.Limit})
	}
	for device, limit := range r.Rdma {
		if out.Rdma == nil {
			out.Rdma = map[string]cgroups.LinuxRdma{}
		}
		out.Rdma[device] = cgroups.LinuxRdma{HcaHandles: limit.HcaHandles, HcaObjects: limit.HcaObjects}
	}
	if n := r.Network; n != nil {
		set(&out.NetClsClassid, n.ClassID)
		for _, p := range n.Priorities {
			out.NetPrioIfpriomap = append(out.NetPrioIfpriomap, &cgroups.IfPrioMap{Interface: p.Name, Priority: int64(p.Priority)})
		}
		if out.NetClsClassid != 0 || len(n.Priorities) > 0 {
			g.onlyV1("network")
		}
	}
	return nil
}

// onlyV1 warns of a limit that v2 does not have.
func (g *Group) onlyV1(field string) {
	if cgroups.IsCgroup2UnifiedMode() {
		g.warn("linux.resources.%s: cgroup v2 has no such limit: ignored", field)
	}
}

// supported looks, before anything is made, whether the hierarchies of v1 that
// the limits need are mounted.
func (g *Group) supported(r *cgroups.Resources) error {
	if g.Layout.Unified {
		if _, err := cgroups.ConvertMemorySwapToCgroupV2Value(r.MemorySwap, r.Memory); err != nil {
			return named(err)
		}
		return nil
	}
	for _, need := range []struct {
		field, controller string
		asked             bool
	}{
		{"cpu", "cpu", r.CpuShares != 0 || r.CpuQuota != 0 || r.CpuPeriod != 0 || r.CpuBurst != nil || r.CPUIdle != nil || r.CpuRtRuntime != 0 || r.CpuRtPeriod != 0},
		{"cpu.cpus and mems", "cpuset", r.CpusetCpus != "" || r.CpusetMems != ""},
		{"memory", "memory", r.Memory != 0 || r.MemorySwap != 0 || r.MemoryReservation != 0 || r.OomKillDisable || r.MemorySwappiness != nil},
		{"pids.limit", "pids", r.PidsLimit != nil},
		{"blockIO", "blkio", r.BlkioWeight != 0 || r.BlkioLeafWeight != 0 || len(r.BlkioWeightDevice)+len(r.BlkioThrottleReadBpsDevice)+len(r.BlkioThrottleReadIOPSDevice)+len(r.BlkioThrottleWriteBpsDevice)+len(r.BlkioThrottleWriteIOPSDevice) > 0},
		{"hugepageLimits", "hugetlb", len(r.HugetlbLimit) > 0},
		{"network.classID", "net_cls", r.NetClsClassid != 0},
		{"network.priorities", "net_prio", len(r.NetPrioIfpriomap) > 0},
		{"rdma", "rdma", len(r.Rdma) > 0},
	} {
		if need.asked && g.mgr.Path(need.controller) == "" {
			return fmt.Errorf("linux.resources.%s: this host has no %s controller mounted, or it is not open to this user", need.field, need.controller)
		}
	}
	return nil
}

func set[T any](dst *T, src *T) {
	if src != nil {
		*dst = *src
	}
}

func (g *Group) memory(out *cgroups.Resources, m *specs.LinuxMemory) error {
	if m == nil {
		return nil
	}
	set(&out.Memory, m.Limit)
	set(&out.MemoryReservation, m.Reservation)
	set(&out.MemorySwap, m.Swap)
	out.MemorySwappiness = m.Swappiness
	set(&out.OomKillDisable, m.DisableOOMKiller)
	set(&out.MemoryCheckBeforeUpdate, m.CheckBeforeUpdate)
	if m.Kernel != nil || m.KernelTCP != nil { //nolint:staticcheck // old engines set them
		g.warn("linux.resources.memory.kernel and kernelTCP: ignored: kernels no longer have them")
	}
	if m.Swappiness != nil {
		g.onlyV1("memory.swappiness")
		if *m.Swappiness > 100 && int64(*m.Swappiness) != -1 && !cgroups.IsCgroup2UnifiedMode() {
			return fmt.Errorf("linux.resources.memory.swappiness: %d: want 0 to 100", *m.Swappiness)
		}
	}
	if out.OomKillDisable {
		g.onlyV1("memory.disableOOMKiller")
	}
	if out.MemorySwap != 0 && !swapLimits() {
		if g.foreign && out.MemorySwap > 0 {
			return nil // fails where it is written
		}
		if out.MemorySwap > 0 {
			g.warn("this kernel cannot limit swap: memory is limited without it")
		}
		out.MemorySwap = 0
	}
	return nil
}

// swapLimits says whether the kernel accounts swap per cgroup.
func swapLimits() bool {
	if cgroups.IsCgroup2UnifiedMode() {
		_, err := os.Stat("/proc/swaps")
		return err == nil
	}
	_, err := os.Stat(Root + "/memory/memory.memsw.limit_in_bytes")
	return err == nil
}

// deviceRules puts the spec's device rules in order; the last match counts.
func deviceRules(out *cgroups.Resources, rules []specs.LinuxDeviceCgroup) error {
	for i, r := range rules {
		rule := &devices.Rule{Type: devices.WildcardDevice, Major: devices.Wildcard, Minor: devices.Wildcard,
			Permissions: devices.Permissions(r.Access), Allow: r.Allow}
		switch r.Type {
		case "", "a":
		case "c", "b":
			rule.Type = devices.Type(r.Type[0])
		default:
			return fmt.Errorf("linux.resources.devices[%d].type: %q: want a, b or c", i, r.Type)
		}
		set(&rule.Major, r.Major)
		set(&rule.Minor, r.Minor)
		if r.Access == "" || strings.Trim(r.Access, "rwm") != "" {
			return fmt.Errorf("linux.resources.devices[%d].access: %q: want letters of rwm", i, r.Access)
		}
		out.Devices = append(out.Devices, rule)
	}
	return nil
}

// defaultDevices are the rules that follow the spec's in runc: any node may be
// made, and the devices of config-linux.md, Default Devices, be used, unless the
// spec makes a node of its own at that path.
func defaultDevices(own []specs.LinuxDevice) []*devices.Rule {
	const any = devices.Wildcard
	rules := []*devices.Rule{
		{Type: 'c', Major: any, Minor: any, Permissions: "m", Allow: true},
		{Type: 'b', Major: any, Minor: any, Permissions: "m", Allow: true},
		{Type: 'c', Major: 136, Minor: any, Permissions: "rwm", Allow: true}, // /dev/pts
		{Type: 'c', Major: 5, Minor: 2, Permissions: "rwm", Allow: true},     // /dev/ptmx
	}
	for _, d := range []struct {
		path         string
		major, minor int64
	}{
		{"/dev/null", 1, 3}, {"/dev/zero", 1, 5}, {"/dev/full", 1, 7}, {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
	} {
		if !slices.ContainsFunc(own, func(o specs.LinuxDevice) bool { return o.Path == d.path }) {
			rules = append(rules, &devices.Rule{Type: 'c', Major: d.major, Minor: d.minor, Permissions: "rwm", Allow: true})
		}
	}
	return rules
}
