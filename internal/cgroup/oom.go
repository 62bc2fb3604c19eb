package cgroup

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fscommon"
	"golang.org/x/sys/unix"
)

// OOMEvents sends whenever the kernel ends a process of the cgroup for want of
// memory (on v1: whenever memory runs out). The channel is closed when the cgroup is
// gone, and on v2 when its last process is.
func (g *Group) OOMEvents() (<-chan struct{}, error) {
	var events <-chan struct{}
	var err error
	if g.Layout.Unified {
		events, err = oomUnified(g.UnifiedDir())
	} else {
		events, err = oomV1(g.mgr.Path("memory"))
	}
	if err != nil {
		return nil, fmt.Errorf("watch cgroup %s for lack of memory: %w", g.path, err)
	}
	return events, nil
}

// OOMKills is how many processes of the cgroup the kernel has ended for want of
// memory.
func (g *Group) OOMKills() (uint64, error) { return g.mgr.OOMKillCount() }

// oomV1 has the kernel count in an eventfd (Documentation/admin-guide/cgroup-v1/
// memory.rst, OOM Control).
func oomV1(dir string) (<-chan struct{}, error) {
	control, err := cgroups.OpenFile(dir, "memory.oom_control", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		control.Close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	event := os.NewFile(uintptr(fd), "eventfd")
	if err := cgroups.WriteFile(dir, "cgroup.event_control", fmt.Sprintf("%d %d", fd, control.Fd())); err != nil {
		control.Close()
		event.Close()
		return nil, err
	}
	events := make(chan struct{})
	go func() {
		defer close(events)
		defer control.Close()
		defer event.Close()
		for count := make([]byte, 8); ; {
			if _, err := event.Read(count); err != nil {
				return
			}
			// The removal of the cgroup is an event, too.
			if !cgroups.PathExists(filepath.Join(dir, "cgroup.event_control")) {
				return
			}
			events <- struct{}{}
		}
	}()
	return events, nil
}

// oomUnified lets inotify tell of changes to memory.events and cgroup.events,
// which are counters (Documentation/admin-guide/cgroup-v2.rst).
func oomUnified(dir string) (<-chan struct{}, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init", err)
	}
	for _, name := range []string{"memory.events", "cgroup.events"} {
		if _, err := unix.InotifyAddWatch(fd, filepath.Join(dir, name), unix.IN_MODIFY); err != nil {
			unix.Close(fd)
			return nil, &os.PathError{Op: "inotify_add_watch", Path: filepath.Join(dir, name), Err: err}
		}
	}
	kills, _ := fscommon.GetValueByKey(dir, "memory.events", "oom_kill")
	events := make(chan struct{})
	go func() {
		defer close(events)
		defer unix.Close(fd)
		for buf := make([]byte, 4096); ; {
			if _, err := unix.Read(fd, buf); err != nil && err != unix.EINTR {
				return
			}
			now, err := fscommon.GetValueByKey(dir, "memory.events", "oom_kill")
			if err == nil && now > kills {
				kills = now
				events <- struct{}{}
			}
			if populated, err := fscommon.GetValueByKey(dir, "cgroup.events", "populated"); err != nil || populated == 0 {
				return
			}
		}
	}()
	return events, nil
}
