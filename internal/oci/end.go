package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Kill sends a signal to the container's first process, or with all to all its
// processes. Without a PID namespace of its own, SIGKILL goes to all, because
// the end of the first would leave the others.
func (c *Container) Kill(sig unix.Signal, all bool) error {
	spec, err := c.Spec()
	if err != nil {
		return err
	}
	group, err := c.group()
	if err != nil {
		return err
	}
	if all || sig == unix.SIGKILL && !ownPIDs(spec) {
		if pids, err := group.Pids(); err == nil && len(pids) == 0 {
			return ErrNotRunning
		}
		return group.Signal(sig)
	}
	if err := c.signal(sig); err != nil {
		return err
	}
	if sig == unix.SIGKILL {
		if frozen, err := group.Frozen(); err == nil && frozen {
			return group.Freeze(false) // a frozen process does not even die, on v1
		}
	}
	return nil
}

func ownPIDs(spec *specs.Spec) bool {
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace {
			return ns.Path == ""
		}
	}
	return false
}

// open opens the container's first process, and makes sure that it is that one.
func (c *Container) open() (int, error) {
	if c.PID == 0 {
		return -1, ErrNotRunning
	}
	fd, err := unix.PidfdOpen(c.PID, 0)
	if err == nil && !c.alive() {
		unix.Close(fd)
		err = unix.ESRCH
	}
	if err == unix.ESRCH {
		return -1, ErrNotRunning
	}
	return fd, err
}

func (c *Container) signal(sig unix.Signal) error {
	fd, err := c.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if err == unix.ESRCH {
		return ErrNotRunning
	}
	return err
}

// end ends all processes of the container and waits for that.
func (c *Container) end() error {
	group, err := c.group()
	if err != nil {
		return err
	}
	fd, err := c.open()
	if err == nil {
		defer unix.Close(fd)
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
	if err := group.Kill(); err != nil {
		return err
	}
	if fd >= 0 && !pollExit(fd, 10*time.Second) {
		return fmt.Errorf("container %s: process %d does not end", c.ID, c.PID)
	}
	return group.Wait(10 * time.Second)
}

// Delete removes a container that has stopped, or was created and never
// started; with force any. With force it is no error if there is none.
func (rt *Runtime) Delete(id string, force bool) error {
	c, err := rt.Find(id)
	if errors.Is(err, ErrNotExist) {
		return rt.deleteRest(id, force, err)
	}
	if err != nil {
		return err
	}
	l, err := c.lock(force)
	if err == nil {
		defer l.Close()
		c, err = rt.Find(id) // as it is now that nobody changes it
	}
	if force && errors.Is(err, ErrNotExist) {
		return nil // another has deleted it
	}
	if err != nil {
		return err
	}
	status := Stopped
	if c.alive() {
		if status, err = c.Status(); err != nil {
			return err
		}
	}
	if !force && status != Stopped && status != Created {
		return fmt.Errorf("cannot delete container %s that is not stopped: %s", id, status)
	}
	return c.destroy()
}

// endsWithFirst ends a container whose processes end with its first, and says
// whether that has been so. Whoever is in doubt looks at all of its processes,
// which takes longer.
func (c *Container) endsWithFirst() bool {
	spec, err := c.Spec()
	if err != nil || !c.Ready || !ownPIDs(spec) {
		return false
	}
	fd, err := c.open()
	if err != nil {
		return errors.Is(err, ErrNotRunning)
	}
	defer unix.Close(fd)
	unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	return pollExit(fd, 50*time.Millisecond) // a frozen one does not end
}

// destroy removes the container, whatever its state.
func (c *Container) destroy() error {
	group, err := c.group()
	if err != nil {
		return err
	}
	if !c.endsWithFirst() || !group.RemoveEmpty() {
		if err := c.end(); err != nil {
			return err
		}
		if err := group.Remove(); err != nil {
			return err
		}
	}
	c.awaitRecorder()
	c.removeRdt()
	if c.Ready || c.Hooked {
		c.poststop()
	}
	return c.remove()
}

// deleteRest removes a directory that never became a container.
func (rt *Runtime) deleteRest(id string, force bool, missing error) error {
	if checkID(id) != nil {
		return missing
	}
	c := &Container{Record: Record{ID: id}, rt: rt}
	l, err := c.lock(force)
	if err == nil {
		if _, err := os.Stat(c.file(recordFile)); err == nil {
			l.Close() // it was about to become one
			return rt.Delete(id, force)
		}
		err = c.remove()
		l.Close()
	}
	if err != nil && !errors.Is(err, ErrNotExist) {
		return err
	}
	rt.sweep()
	if force {
		return nil
	}
	return missing
}

// trash begins the names of directories that are being deleted, which no ID can
// have. The process that deletes comes next.
const trash = ":"

func trashName() string {
	return fmt.Sprintf("%s%d:%d", trash, os.Getpid(), time.Now().UnixNano())
}

// sweep deletes what a killed removal left.
func (rt *Runtime) sweep() {
	entries, _ := os.ReadDir(rt.Root)
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), trash)
		if pid, _, _ := strings.Cut(rest, ":"); ok && !rt.remover(pid) {
			os.RemoveAll(filepath.Join(rt.Root, e.Name()))
		}
	}
}

// remover says whether the process that deletes a directory still lives.
func (rt *Runtime) remover(pid string) bool {
	_, err := os.Stat("/proc/" + pid)
	return err == nil
}

// Pause freezes the container's processes.
func (c *Container) Pause() error {
	status, err := c.Status()
	if err != nil {
		return err
	}
	if status != Running && status != Created {
		return fmt.Errorf("cannot pause a container that is %s", status)
	}
	g, err := c.group()
	if err != nil {
		return err
	}
	return g.Freeze(true)
}

// Resume lets them go on.
func (c *Container) Resume() error {
	g, err := c.group()
	if err != nil {
		return err
	}
	if frozen, err := g.Frozen(); err != nil || !frozen {
		return errors.Join(err, errors.New("container not paused"))
	}
	return g.Freeze(false)
}

// Pids lists the container's processes.
func (c *Container) Pids() ([]int, error) {
	g, err := c.group()
	if err != nil {
		return nil, err
	}
	return g.Pids()
}
