package record

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Target says whom to record. Exactly one of Cgroup, MountNS, PIDNS and PID is
// not 0. A process belongs to the first recording of a Recorder that takes it.
type Target struct {
	// Cgroup is the ID of a cgroup of v2: the number of its directory's inode.
	// Cgroups below it belong to it. See CgroupTarget.
	Cgroup uint64
	// MountNS and PIDNS are namespaces: the numbers of the inodes of
	// /proc/PID/ns/mnt and pid.
	MountNS, PIDNS uint32
	// PID is a process, as the host numbers it, with all its descendants.
	PID int
	// AtExec leaves processes that are there at the start out until they
	// execute a program; with PID, the process and each descendant alike.
	AtExec bool
}

// CgroupTarget returns the target for a directory of a v2 hierarchy, such as
// /sys/fs/cgroup/unified/x on a hybrid host.
func CgroupTarget(dir string) (Target, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return Target{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return Target{}, fmt.Errorf("%s is not a cgroup of v2, which recording needs; take the mount namespace of a process instead", dir)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return Target{}, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return Target{Cgroup: st.Ino}, nil
}

// key returns the target's key in the map of targets.
func (t Target) key() (mapTargetKey, error) {
	var keys []mapTargetKey
	add := func(kind uint32, id uint64) {
		if id != 0 {
			keys = append(keys, mapTargetKey{ID: id, Kind: kind})
		}
	}
	add(byCgroup, t.Cgroup)
	add(byMountNS, uint64(t.MountNS))
	add(byPIDNS, uint64(t.PIDNS))
	add(byProcess, uint64(t.PID))
	if len(keys) != 1 {
		return mapTargetKey{}, fmt.Errorf("record %+v: want exactly one of cgroup, mount namespace, PID namespace and PID", t)
	}
	if t.PID != 0 {
		return keys[0], checkPID(t.PID)
	}
	return keys[0], nil
}

// hostPIDNS is the inode of the first PID namespace, include/linux/proc_ns.h.
const hostPIDNS = 0xEFFFFFFC

// checkPID sees that the number means a process, for the kernel too.
func checkPID(pid int) error {
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &ns); err != nil {
		return fmt.Errorf("look at the PID namespace: %w", err)
	}
	if ns.Ino != hostPIDNS {
		return errors.New("record by PID: this works only in the host's PID namespace")
	}
	if err := unix.Kill(pid, 0); pid < 1 || err != nil && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("record process %d: there is no such process", pid)
	}
	return nil
}
