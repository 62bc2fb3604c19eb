package engine

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// await takes the lock when its holder is done with it. A holder that turns out
// to run the container keeps it for as long as that runs: then await gives up
// with ErrRunning.
func (c *Container) await() (*os.File, error) {
	if l, err := c.lock(); err != errLocked {
		return l, err
	}
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("wait for container %s: %w", c.Name, err)
	}
	if _, err := unix.InotifyAddWatch(watch, c.dir(), unix.IN_MOVED_TO|unix.IN_MODIFY); err != nil {
		unix.Close(watch)
		if err == unix.ENOENT { // removed meanwhile
			return nil, &NotFoundError{c.ID}
		}
		return nil, fmt.Errorf("wait for container %s: %w", c.Name, err)
	}
	// done stays open: whoever waits for the lock may write to it late.
	done, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(watch)
		return nil, fmt.Errorf("wait for container %s: %w", c.Name, err)
	}
	locked := make(chan lockResult, 1)
	running := make(chan struct{})
	go func() {
		l, err := c.flock(unix.LOCK_EX)
		locked <- lockResult{l, err}
		unix.Write(done, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}()
	go func() {
		if c.untilRunning(watch, done) {
			close(running)
		}
		unix.Close(watch)
	}()
	select {
	case r := <-locked:
		return r.file, r.err
	case <-running:
		go func() { // a lock that nobody wants any more
			if r := <-locked; r.err == nil {
				r.file.Close()
			}
		}()
		return nil, fmt.Errorf("container %s is %w", c.Name, ErrRunning)
	}
}

type lockResult struct {
	file *os.File
	err  error
}

// untilRunning waits for a record that says that the container runs, or is
// about to, or for the event done.
func (c *Container) untilRunning(watch, done int) bool {
	var buf [4096]byte
	for {
		s, err := c.readState()
		if err == nil && s != nil && (s.Running && alive(s) || s.Restarting && !c.stopped()) {
			return true
		}
		fds := []unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}, {Fd: int32(done), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return false
		}
		if fds[1].Revents != 0 {
			return false
		}
		if fds[0].Revents != 0 {
			unix.Read(watch, buf[:])
		}
	}
}
