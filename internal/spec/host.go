package spec

import (
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/userns"
)

// CgroupMode says which cgroup hierarchies the machine mounts.
type CgroupMode int

const (
	CgroupV1 CgroupMode = iota + 1
	CgroupHybrid
	CgroupV2
)

// Host is what [Build] must know of the machine.
type Host struct {
	// Capabilities are those that the kernel knows and the caller may grant.
	Capabilities capability.Set
	Cgroup       CgroupMode
	AppArmor     bool
	// CPUs is how many the machine has; 0 skips the checks against it.
	CPUs     int
	Hostname string
	// ThermalThrottle are the per-CPU directories of that name in /sys.
	ThermalThrottle []string
	// HardLimit gives the highest value to which the caller may set a limit,
	// named as in [Ulimit]. Nil is no bound.
	HardLimit func(name string) uint64
	// LastGroup is the highest group ID that there is in the user namespace; 0 in
	// the machine's first, which has all.
	LastGroup uint32
	// SharedMount says how the mount that holds a path propagates. Nil skips
	// the check of shared and slave binds.
	SharedMount func(path string) (shared, slave bool, err error)
}

// Probe asks the running kernel; capabilities are given, because the caller
// has read them already. It costs some ten system calls.
func Probe(caps capability.Set) *Host {
	h := &Host{Capabilities: caps, Cgroup: probeCgroup(), HardLimit: hardLimit, SharedMount: sharedMount}
	h.Hostname, _ = os.Hostname()
	if userns.Inside() {
		h.LastGroup = userns.LastGroup()
	}
	aa, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	h.AppArmor = strings.HasPrefix(string(aa), "Y")
	online, _ := os.ReadFile("/sys/devices/system/cpu/online")
	if last, bad := lastOfList(strings.TrimSpace(string(online))); bad == "" {
		h.CPUs = last + 1
		h.ThermalThrottle = thermalThrottle(h.CPUs)
	}
	return h
}

// lastGroup is the highest group ID that may ping: the kernel's own bound, or that
// of the user namespace (net/ipv4/sysctl_net_ipv4.c, ipv4_ping_group_range).
func (h *Host) lastGroup() uint32 {
	if h.LastGroup == 0 {
		return math.MaxInt32
	}
	return min(h.LastGroup, math.MaxInt32)
}

// probeCgroup looks at what is mounted at /sys/fs/cgroup (cgroups(7)).
func probeCgroup() CgroupMode {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return CgroupV2
	}
	if unix.Statfs("/sys/fs/cgroup/unified", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return CgroupHybrid
	}
	return CgroupV1
}

// thermalThrottle lists directories whose counters leak the load of the
// machine. They exist on real hardware and for all CPUs or none.
func thermalThrottle(cpus int) []string {
	dir := func(i int) string {
		return "/sys/devices/system/cpu/cpu" + strconv.Itoa(i) + "/thermal_throttle"
	}
	var st unix.Stat_t
	if unix.Stat(dir(0), &st) != nil {
		return nil
	}
	dirs := make([]string, 0, cpus)
	for i := range cpus {
		if unix.Stat(dir(i), &st) == nil {
			dirs = append(dirs, dir(i))
		}
	}
	return dirs
}

// hardLimit: with SYS_RESOURCE any value goes, but for the number of files,
// which fs.nr_open bounds (setrlimit(2)).
func hardLimit(name string) uint64 {
	if mayRaiseLimits() {
		if name != "nofile" {
			return math.MaxUint64
		}
		b, _ := os.ReadFile("/proc/sys/fs/nr_open")
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil {
			return n
		}
		return 1 << 20 // the kernel's default, fs/file.c sysctl_nr_open
	}
	var lim unix.Rlimit
	if unix.Prlimit(0, resource(name), nil, &lim) != nil {
		return math.MaxUint64
	}
	return lim.Max
}

func mayRaiseLimits() bool {
	if userns.Inside() { // the capability counts in the first user namespace only
		return false
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// resource gives the kernel's number of a limit (getrlimit(2)).
func resource(name string) int {
	switch name {
	case "core":
		return unix.RLIMIT_CORE
	case "cpu":
		return unix.RLIMIT_CPU
	case "data":
		return unix.RLIMIT_DATA
	case "fsize":
		return unix.RLIMIT_FSIZE
	case "locks":
		return unix.RLIMIT_LOCKS
	case "memlock":
		return unix.RLIMIT_MEMLOCK
	case "msgqueue":
		return unix.RLIMIT_MSGQUEUE
	case "nice":
		return unix.RLIMIT_NICE
	case "nofile":
		return unix.RLIMIT_NOFILE
	case "nproc":
		return unix.RLIMIT_NPROC
	case "rss":
		return unix.RLIMIT_RSS
	case "rtprio":
		return unix.RLIMIT_RTPRIO
	case "rttime":
		return unix.RLIMIT_RTTIME
	case "sigpending":
		return unix.RLIMIT_SIGPENDING
	case "stack":
		return unix.RLIMIT_STACK
	}
	return -1
}
