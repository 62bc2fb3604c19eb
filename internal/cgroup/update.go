package cgroup

import (
	"fmt"
	"slices"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Update changes the limits named in change, of a running container whose limits
// are was, and returns the limits that hold now, to be recorded. Rules for
// devices stay as they are. On error the limits are those of before, as far as
// the kernel takes them back.
func (g *Group) Update(was, change *specs.LinuxResources) (*specs.LinuxResources, error) {
	now := Merge(was, change)
	err := g.limitAll(written(now, change))
	if err == nil {
		return now, nil
	}
	if undo := written(was, change); g.limitAll(undo) != nil {
		err = fmt.Errorf("%w; some limits have changed all the same", err)
	}
	return was, err
}

// limitAll sets limits but not the rules for devices.
func (g *Group) limitAll(r *specs.LinuxResources) error {
	return g.limit(r, func(res *cgroups.Resources) { res.Devices, res.SkipDevices = nil, true })
}

// Merge gives the limits after a change to limits that hold. What change does
// not name stays.
func Merge(was, change *specs.LinuxResources) *specs.LinuxResources {
	var now specs.LinuxResources
	if was != nil {
		now = *was
	}
	if change == nil {
		return &now
	}
	now.Memory = mergeMemory(now.Memory, change.Memory)
	now.CPU = mergeCPU(now.CPU, change.CPU)
	now.BlockIO = mergeBlockIO(now.BlockIO, change.BlockIO)
	if change.Pids != nil && change.Pids.Limit != nil {
		now.Pids = change.Pids
	}
	for _, h := range change.HugepageLimits {
		now.HugepageLimits = put(now.HugepageLimits, h, func(o specs.LinuxHugepageLimit) bool { return o.Pagesize == h.Pagesize })
	}
	if change.Network != nil {
		now.Network = change.Network
	}
	now.Rdma = join(now.Rdma, change.Rdma)
	now.Unified = join(now.Unified, change.Unified)
	return &now
}

func mergeMemory(was, change *specs.LinuxMemory) *specs.LinuxMemory {
	if change == nil {
		return was
	}
	var now specs.LinuxMemory
	if was != nil {
		now = *was
	}
	if change.Limit != nil && *change.Limit == -1 && change.Swap == nil {
		now.Swap = nil // without a limit of memory there is none with swap, either
	}
	take(&now.Limit, change.Limit)
	take(&now.Swap, change.Swap)
	take(&now.Reservation, change.Reservation)
	take(&now.Kernel, change.Kernel)       //nolint:staticcheck // old engines set them
	take(&now.KernelTCP, change.KernelTCP) //nolint:staticcheck
	take(&now.Swappiness, change.Swappiness)
	take(&now.DisableOOMKiller, change.DisableOOMKiller)
	take(&now.UseHierarchy, change.UseHierarchy) //nolint:staticcheck
	take(&now.CheckBeforeUpdate, change.CheckBeforeUpdate)
	return &now
}

func mergeCPU(was, change *specs.LinuxCPU) *specs.LinuxCPU {
	if change == nil {
		return was
	}
	var now specs.LinuxCPU
	if was != nil {
		now = *was
	}
	take(&now.Shares, change.Shares)
	take(&now.Quota, change.Quota)
	take(&now.Burst, change.Burst)
	take(&now.Period, change.Period)
	take(&now.RealtimeRuntime, change.RealtimeRuntime)
	take(&now.RealtimePeriod, change.RealtimePeriod)
	take(&now.Idle, change.Idle)
	if change.Cpus != "" {
		now.Cpus = change.Cpus
	}
	if change.Mems != "" {
		now.Mems = change.Mems
	}
	return &now
}

func mergeBlockIO(was, change *specs.LinuxBlockIO) *specs.LinuxBlockIO {
	if change == nil {
		return was
	}
	var now specs.LinuxBlockIO
	if was != nil {
		now = *was
	}
	take(&now.Weight, change.Weight)
	take(&now.LeafWeight, change.LeafWeight)
	for _, d := range change.WeightDevice {
		same := func(o specs.LinuxWeightDevice) bool { return o.Major == d.Major && o.Minor == d.Minor }
		if i := slices.IndexFunc(now.WeightDevice, same); i >= 0 { // what is not named stays
			old := now.WeightDevice[i]
			take(&old.Weight, d.Weight)
			take(&old.LeafWeight, d.LeafWeight)
			d = old
		}
		now.WeightDevice = put(now.WeightDevice, d, same)
	}
	throttles := func(list *[]specs.LinuxThrottleDevice, change []specs.LinuxThrottleDevice) {
		for _, d := range change {
			*list = put(*list, d, func(o specs.LinuxThrottleDevice) bool { return o.Major == d.Major && o.Minor == d.Minor })
		}
	}
	throttles(&now.ThrottleReadBpsDevice, change.ThrottleReadBpsDevice)
	throttles(&now.ThrottleWriteBpsDevice, change.ThrottleWriteBpsDevice)
	throttles(&now.ThrottleReadIOPSDevice, change.ThrottleReadIOPSDevice)
	throttles(&now.ThrottleWriteIOPSDevice, change.ThrottleWriteIOPSDevice)
	return &now
}

// written is what of the limits all has to be written for a change: the change,
// and the fields that the kernel keeps together with one of it in one file, or
// compares it with.
func written(all, change *specs.LinuxResources) *specs.LinuxResources {
	out := specs.LinuxResources{}
	if all == nil || change == nil {
		return &out
	}
	if c := change.Memory; c != nil && all.Memory != nil {
		m := *all.Memory
		if c.Limit == nil && c.Swap == nil {
			m.Limit, m.Swap = nil, nil
		}
		drop(&m.Reservation, c.Reservation)
		drop(&m.Swappiness, c.Swappiness)
		drop(&m.DisableOOMKiller, c.DisableOOMKiller)
		m.Kernel, m.KernelTCP = c.Kernel, c.KernelTCP //nolint:staticcheck // for the warning
		m.CheckBeforeUpdate = c.CheckBeforeUpdate
		out.Memory = &m
	}
	if c := change.CPU; c != nil && all.CPU != nil {
		p := *all.CPU
		drop(&p.Shares, c.Shares)
		if c.Quota == nil && c.Period == nil {
			p.Quota, p.Period = nil, nil
		}
		drop(&p.Burst, c.Burst)
		if c.RealtimeRuntime == nil && c.RealtimePeriod == nil {
			p.RealtimeRuntime, p.RealtimePeriod = nil, nil
		}
		drop(&p.Idle, c.Idle)
		if c.Cpus == "" {
			p.Cpus = ""
		}
		if c.Mems == "" {
			p.Mems = ""
		}
		out.CPU = &p
	}
	if change.BlockIO != nil {
		out.BlockIO = all.BlockIO
	}
	if change.Pids != nil {
		out.Pids = all.Pids
	}
	if len(change.HugepageLimits) > 0 {
		out.HugepageLimits = all.HugepageLimits
	}
	if change.Network != nil {
		out.Network = all.Network
	}
	if len(change.Rdma) > 0 {
		out.Rdma = all.Rdma
	}
	for key := range change.Unified {
		if value, ok := all.Unified[key]; ok {
			out.Unified = join(out.Unified, map[string]string{key: value})
		}
	}
	return &out
}

// take puts src in dst if there is one.
func take[T any](dst **T, src *T) {
	if src != nil {
		*dst = src
	}
}

// drop takes dst away if there is no src.
func drop[T any](dst **T, src *T) {
	if src == nil {
		*dst = nil
	}
}

// put replaces the element that is the same, or appends; the list of before
// stays as it was.
func put[T any](list []T, e T, same func(T) bool) []T {
	list = slices.Clone(list)
	if i := slices.IndexFunc(list, same); i >= 0 {
		list[i] = e
		return list
	}
	return append(list, e)
}

// join is a with the keys of b over it.
func join[V any](a, b map[string]V) map[string]V {
	if len(b) == 0 {
		return a
	}
	out := make(map[string]V, len(a)+len(b))
	for _, m := range []map[string]V{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}
