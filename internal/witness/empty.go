package witness

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// untilEmpty waits until the container has no process any more: until the first
// one, which the starter names, has ended, and the others in the cgroup.
//
// The cgroup's own events say too little: the kernel holds them back for 10 ms
// (CGROUP_FILE_NOTIFY_MIN_INTV), and by then the cgroup of a short container is
// gone, of which inotify(7) tells nothing.
func untilEmpty(starter *bufio.Scanner, cgroup string) error {
	starter.Scan()
	if pid, err := strconv.Atoi(starter.Text()); err == nil {
		if err := waitFor(pid); err != nil {
			return err
		}
	} // else the starter is gone; it may have got as far as a process, or not
	events := filepath.Join(cgroup, "cgroup.events") // cgroup-v2.rst
	for pause := time.Millisecond; populated(events); pause = min(2*pause, 250*time.Millisecond) {
		time.Sleep(pause)
	}
	return nil
}

// waitFor waits for the end of a process, which is no child of this one.
func waitFor(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return fmt.Errorf("wait for process %d: %w", pid, err)
		}
	}
}

// populated reads the line "populated 1"; a cgroup that is gone is empty.
func populated(events string) bool {
	b, err := os.ReadFile(events)
	return err == nil && bytes.Contains(b, []byte("populated 1"))
}
