package learn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probe is a command of the user's that tells whether a container works. It
// runs by /bin/sh, with the host's programs and files but in the container's
// network namespace, so that 127.0.0.1 is the container's.
type probe struct {
	command string
	timeout time.Duration // of one try
	root    string        // directory of the store
}

// try runs the probe once. The error is one line that says how it failed.
func (p *probe) try(ctx context.Context, id string, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	started := time.Now()
	var out tail
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", p.command)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), "BRIG_CONTAINER="+id, fmt.Sprint("BRIG_PID=", pid), "BRIG_ROOT="+p.root)
	// Whatever it started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := startInside(cmd, pid); err != nil {
		return err
	}
	err := cmd.Wait()
	switch {
	case err == nil:
		return nil
	case ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("the probe did not end within %s", time.Since(started).Round(100*time.Millisecond))
	}
	if last := out.lastLine(); last != "" {
		return fmt.Errorf("the probe: %s", last)
	}
	return fmt.Errorf("the probe: %w", err)
}

// errNoNetwork says that the container's first process has ended.
var errNoNetwork = errors.New("the container has ended")

// startInside starts a command in a process's network namespace. The thread
// that joins it is never used again.
func startInside(cmd *exec.Cmd, pid int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return errNoNetwork
	}
	defer ns.Close()
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = cmd.Start()
		} else {
			err = fmt.Errorf("join the container's network namespace: %w", err)
		}
		started <- err
	}()
	return <-started
}

// tail keeps the last part of what is written to it.
type tail struct{ b []byte }

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailSize {
		t.b = append(t.b[:0], t.b[len(t.b)-tailSize:]...)
	}
	return len(p), nil
}

// lastLine is the last line that is not blank.
func (t *tail) lastLine() string {
	text := strings.TrimRight(string(t.b), " \t\r\n")
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	return strings.TrimSpace(text)
}

// tryAfter runs the probe when the container has ended: in this network
// namespace.
func (p *probe) tryAfter(ctx context.Context, id string) error {
	return p.try(ctx, id, os.Getpid())
}
