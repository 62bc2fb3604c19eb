package oci

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/annotation"
	"github.com/brig-run/brig/internal/monitor"
)

// spawnRecorder starts the recorder that the container's annotations ask for.
func (c *creation) spawnRecorder() error {
	if !c.request.Any() {
		return nil
	}
	if c.group.UnifiedDir() == "" {
		return c.cannotRecord(errors.New("recording needs a cgroup hierarchy of version 2, which this host lacks"))
	}
	var r *annotation.Recorder
	err := unblocked(func() (err error) {
		r, err = annotation.Spawn(c.rt.Places, c.ID, c.spec, c.request)
		return err
	})
	if err != nil {
		return c.cannotRecord(err)
	}
	c.recorder = r
	return nil
}

// cannotRecord decides what comes of a container that was to be recorded: with
// learn that is what it is started for, and with explain it is a help.
func (c *creation) cannotRecord(err error) error {
	c.cancelRecorder()
	if c.request.Learn != "" {
		return fmt.Errorf("learn from container %s: %w", c.ID, err)
	}
	c.rt.Warn(fmt.Sprintf("annotation %s: container %s starts unrecorded: %v", annotation.Explain, c.ID, err))
	return nil
}

func (c *creation) cancelRecorder() {
	if c.recorder != nil {
		c.recorder.Cancel()
		c.recorder = nil
	}
}

// watch lets the recorder see the cgroup, in which nobody has executed a program
// yet.
func (c *creation) watch() error {
	if c.recorder == nil {
		return nil
	}
	if err := c.recorder.Watch(c.group.UnifiedDir()); err != nil {
		return c.cannotRecord(err)
	}
	return nil
}

// tellRecorder names the first process to the recorder, and notes the recorder's.
func (c *creation) tellRecorder() error {
	if c.recorder == nil {
		return nil
	}
	if err := c.recorder.Started(c.PID); err != nil {
		return c.cannotRecord(err)
	}
	c.Recorder = c.recorder.PID()
	c.RecorderStart, _ = monitor.ProcessStart(c.Recorder)
	return nil
}

// recorderPatience is how long the removal of a container waits for its recorder.
const recorderPatience = 5 * time.Second

// awaitRecorder waits until the results are there, when all processes of the
// container have ended: whoever removed it may look for them.
func (c *Container) awaitRecorder() {
	if c.Recorder == 0 || c.BootID != bootID() {
		return
	}
	fd, err := unix.PidfdOpen(c.Recorder, 0)
	if err != nil {
		return // it has ended
	}
	defer unix.Close(fd)
	if start, ok := monitor.ProcessStart(c.Recorder); !ok || start != c.RecorderStart {
		return // another has its number
	}
	if !pollExit(fd, recorderPatience) {
		c.rt.Warn(fmt.Sprintf("container %s: its recorder (process %d) still works on the results", c.ID, c.Recorder))
	}
}
