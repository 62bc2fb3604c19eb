package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/cgroups"
)

// named makes an error of the library's say which field of the spec could not
// be had, and what the kernel lacks. The file of a cgroup tells the field.
func named(err error) error {
	if err == nil {
		return nil
	}
	if strings.Contains(err.Error(), "unified resource") {
		return fmt.Errorf("linux.resources.unified: %w", err)
	}
	var pe *fs.PathError
	if !errors.As(err, &pe) {
		if field := fieldOfText(err.Error()); field != "" {
			return fmt.Errorf("linux.resources.%s: %w", field, err)
		}
		return err
	}
	dir, file := filepath.Split(pe.Path)
	field := fieldOfFile(file)
	switch {
	case field == "":
		return err
	case errors.Is(err, os.ErrNotExist) && cgroups.PathExists(dir):
		return fmt.Errorf("linux.resources.%s: %s: %w", field, missing(dir, file), err)
	}
	return fmt.Errorf("linux.resources.%s: %w", field, err)
}

// missing says why a cgroup lacks a file.
func missing(dir, file string) string {
	controller, _, _ := strings.Cut(file, ".")
	if cgroups.IsCgroup2UnifiedMode() {
		have, _ := cgroups.ReadFile(dir, "cgroup.controllers")
		if !strings.Contains(" "+strings.TrimSpace(have)+" ", " "+controller+" ") {
			return fmt.Sprintf("the %s controller is not enabled for this cgroup", controller)
		}
	}
	if option := kernelOption(file); option != "" {
		return fmt.Sprintf("this kernel has no %s (%s)", file, option)
	}
	return "this kernel has no " + file
}

func kernelOption(file string) string {
	switch {
	case strings.HasPrefix(file, "cpu.rt_"):
		return "CONFIG_RT_GROUP_SCHED"
	case strings.HasPrefix(file, "cpu.cfs_"), strings.HasPrefix(file, "cpu.max"):
		return "CONFIG_CFS_BANDWIDTH"
	case strings.Contains(file, "weight") && !strings.HasPrefix(file, "cpu."):
		return "CONFIG_BFQ_GROUP_IOSCHED or CONFIG_BLK_CGROUP_IOCOST"
	case strings.HasPrefix(file, "blkio.throttle."), file == "io.max":
		return "CONFIG_BLK_DEV_THROTTLING"
	case strings.HasPrefix(file, "memory.memsw."), strings.HasPrefix(file, "memory.swap."):
		return "CONFIG_SWAP, or it was booted with swapaccount=0"
	}
	return ""
}

// fieldOfFile is the field below linux.resources that a file of a cgroup holds;
// "" for any other file.
func fieldOfFile(file string) string {
	switch file {
	case "cpu.shares", "cpu.weight":
		return "cpu.shares"
	case "cpu.cfs_quota_us", "cpu.max":
		return "cpu.quota"
	case "cpu.cfs_period_us":
		return "cpu.period"
	case "cpu.cfs_burst_us", "cpu.max.burst":
		return "cpu.burst"
	case "cpu.rt_runtime_us":
		return "cpu.realtimeRuntime"
	case "cpu.rt_period_us":
		return "cpu.realtimePeriod"
	case "cpu.idle":
		return "cpu.idle"
	case "cpuset.cpus", "cpus":
		return "cpu.cpus"
	case "cpuset.mems", "mems":
		return "cpu.mems"
	case "memory.limit_in_bytes", "memory.max":
		return "memory.limit"
	case "memory.memsw.limit_in_bytes", "memory.swap.max":
		return "memory.swap"
	case "memory.soft_limit_in_bytes", "memory.low":
		return "memory.reservation"
	case "memory.swappiness":
		return "memory.swappiness"
	case "memory.oom_control":
		return "memory.disableOOMKiller"
	case "pids.max":
		return "pids.limit"
	case "blkio.weight", "blkio.bfq.weight", "io.weight", "io.bfq.weight":
		return "blockIO.weight"
	case "blkio.leaf_weight":
		return "blockIO.leafWeight"
	case "blkio.weight_device", "blkio.bfq.weight_device", "blkio.leaf_weight_device":
		return "blockIO.weightDevice"
	case "blkio.throttle.read_bps_device":
		return "blockIO.throttleReadBpsDevice"
	case "blkio.throttle.write_bps_device":
		return "blockIO.throttleWriteBpsDevice"
	case "blkio.throttle.read_iops_device":
		return "blockIO.throttleReadIOPSDevice"
	case "blkio.throttle.write_iops_device":
		return "blockIO.throttleWriteIOPSDevice"
	case "io.max":
		return "blockIO"
	case "net_cls.classid":
		return "network.classID"
	case "net_prio.ifpriomap":
		return "network.priorities"
	case "rdma.max":
		return "rdma"
	case "devices.allow", "devices.deny", "devices.list":
		return "devices"
	}
	if strings.HasPrefix(file, "hugetlb.") {
		return "hugepageLimits"
	}
	return ""
}

// fieldOfText is the same for errors of the library's own.
func fieldOfText(text string) string {
	switch {
	case strings.Contains(text, "cpu-shares"):
		return "cpu.shares"
	case strings.Contains(text, "memory+swap"), strings.Contains(text, "swap limit"):
		return "memory.swap"
	case strings.Contains(text, "swappiness"):
		return "memory.swappiness"
	case strings.Contains(text, "memory limit"), strings.Contains(text, "memory value"):
		return "memory.limit"
	case strings.Contains(text, "devices cgroup"), strings.Contains(text, "device rule"):
		return "devices"
	}
	return ""
}
