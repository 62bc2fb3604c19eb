package engine

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/monitor"
)

// LogWatch waits for a container's log to grow, without polling: the kernel
// tells of writes (inotify) and of the end of the first process (pidfd).
type LogWatch struct {
	inotify, process int
	ended            bool
	c                *Container
}

// WatchLog begins to watch. Of a container that does not run, nothing more is
// to come.
func (c *Container) WatchLog() (*LogWatch, error) {
	w := &LogWatch{inotify: -1, process: -1, c: c}
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	if s.Status != StatusRunning {
		w.ended = true
		return w, nil
	}
	if w.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		return nil, fmt.Errorf("watch the log: %w", err)
	}
	if _, err = unix.InotifyAddWatch(w.inotify, c.dir(), unix.IN_MODIFY|unix.IN_CREATE); err != nil {
		w.Close()
		return nil, fmt.Errorf("watch the log: %w", err)
	}
	// The monitor, not the first process: it ends after the last line.
	pid := s.Monitor
	if _, ok := monitor.ProcessStart(pid); !ok {
		pid = s.PID
	}
	if w.process, err = unix.PidfdOpen(pid, 0); err != nil {
		w.process, w.ended = -1, true
	}
	return w, nil
}

// Wait waits until there may be more to read; false says that all has been
// written.
func (w *LogWatch) Wait() bool {
	if w.ended {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(w.inotify), Events: unix.POLLIN}, {Fd: int32(w.process), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if err == unix.EINTR {
			continue
		}
		break
	}
	var buf [4096]byte
	unix.Read(w.inotify, buf[:])
	if fds[1].Revents != 0 {
		w.ended = true // what it wrote last is still to be read
	}
	return true
}

// Close ends the watch.
func (w *LogWatch) Close() {
	for _, fd := range []int{w.inotify, w.process} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
