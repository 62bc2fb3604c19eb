package engine

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/monitor"
)

// LogWatch waits for a container's log to grow, without polling: the kernel
// tells of writes (inotify) and of the end of the monitor (pidfd).
type LogWatch struct {
	inotify, process int
	ended            bool
	until            time.Time // zero is for ever
	c                *Container
}

// WatchLog begins to watch, up to a time unless that is zero. Of a container
// that does not run, and that no policy starts anew, nothing more is to come.
func (c *Container) WatchLog(until time.Time) (*LogWatch, error) {
	w := &LogWatch{inotify: -1, process: -1, c: c, until: until}
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	if !s.Up() && s.Status != StatusRestarting {
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
	w.watch(&s)
	return w, nil
}

// watch looks at the monitor, not at the first process: it ends after the last
// line.
func (w *LogWatch) watch(s *State) {
	pid := s.Monitor
	if _, ok := monitor.ProcessStart(pid); !ok {
		pid = s.PID
	}
	var err error
	if w.process, err = unix.PidfdOpen(pid, 0); err != nil {
		w.process, w.ended = -1, true
	}
}

// Wait waits until there may be more to read; false says that all has been
// written.
func (w *LogWatch) Wait() bool {
	if w.ended {
		return false
	}
	ms := -1
	if !w.until.IsZero() {
		ms = int(min(max(time.Until(w.until).Milliseconds()+1, 0), 1<<30))
	}
	fds := []unix.PollFd{{Fd: int32(w.inotify), Events: unix.POLLIN}, {Fd: int32(w.process), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, ms)
	for err == unix.EINTR {
		n, err = unix.Poll(fds, ms)
	}
	var buf [4096]byte
	unix.Read(w.inotify, buf[:])
	if n == 0 {
		w.ended = true
	}
	if fds[1].Revents != 0 {
		w.next()
	}
	return true // what was written last is still to be read
}

// next finds the monitor of a container that its policy has started anew.
func (w *LogWatch) next() {
	unix.Close(w.process)
	w.process = -1
	s, err := w.c.State()
	if err != nil || !s.Up() {
		w.ended = true
		return
	}
	w.watch(&s)
}

// Close ends the watch.
func (w *LogWatch) Close() {
	for _, fd := range []int{w.inotify, w.process} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
