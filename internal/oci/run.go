package oci

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// RunOptions are those of Create, and what becomes of the container.
type RunOptions struct {
	CreateOptions
	Detach      bool // leave it running
	Keep        bool // do not delete it at the end
	NoSubreaper bool
}

// Run creates and starts a container. Unless detached it waits for its end,
// deletes it, and returns the exit code.
func (rt *Runtime) Run(o RunOptions) (int, error) {
	c, err := rt.begin(o.CreateOptions, o.Detach)
	if err != nil {
		return 0, err
	}
	defer c.close()
	var sigs chan os.Signal
	if !o.Detach {
		sigs = listen()
	}
	if !o.Detach && !o.NoSubreaper {
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // orphans of the container's are reaped here
	}
	if err := c.create(); err != nil {
		c.undo()
		return 0, err
	}
	defer c.notify.close()
	if err := c.poststart(); err != nil {
		c.destroyAfter(o)
		return 0, err
	}
	if o.Detach {
		if err := c.notify.relay(c.PID, c.PID); err != nil {
			c.rt.Warn(err.Error())
		}
		return 0, nil
	}
	c.lock.Close()              // from now on others may change the container, or delete it
	go c.notify.relay(c.PID, 0) // the service's main process is this one
	code := attend(c.PID, c.relayed(), sigs)
	return code, c.destroyAfter(o)
}

// destroyAfter deletes the container at its end, unless others have: then the ID
// may be another's.
func (c *creation) destroyAfter(o RunOptions) error {
	if o.Keep {
		return nil
	}
	c.lock.Close()
	l, err := c.Container.lock(true)
	if err == nil {
		defer l.Close()
		var now *Container
		if now, err = c.rt.Find(c.ID); err == nil {
			if now.PID != c.PID || now.PIDStart != c.PIDStart {
				return nil
			}
			now.spec = c.spec
			return now.destroy()
		}
	}
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	return err
}

// relayed is the terminal that this process has to serve.
func (c *creation) relayed() *os.File {
	if c.opts.ConsoleSocket != "" {
		return nil
	}
	return c.console
}

// attend serves a child in the foreground until it ends: signals, terminal and
// orphans. It returns the exit code.
func attend(pid int, console *os.File, sigs <-chan os.Signal) int {
	done := func() {}
	if console != nil {
		done = relay(console)
		resize(console)
	}
	defer done()
	ended := make(chan int, 1)
	go func() { ended <- reap(pid) }()
	for {
		select {
		case code := <-ended:
			return code
		case s := <-sigs:
			switch s {
			case unix.SIGWINCH:
				if console != nil {
					resize(console)
				}
			case unix.SIGCHLD: // reap sees to it
			case unix.SIGURG: // the Go scheduler's own
			default:
				unix.Kill(pid, s.(unix.Signal))
			}
		}
	}
}

// reap waits for children, among them orphans of the container's, until pid has
// ended.
func reap(pid int) int {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 255 // somebody else has waited for it
		case got == pid && ws.Signaled():
			return 128 + int(ws.Signal())
		case got == pid:
			return ws.ExitStatus()
		}
	}
}

// relay connects this process's streams with a terminal. The function that it
// returns waits for the rest of the output.
func relay(console *os.File) (done func()) {
	restore := func() {}
	if fd := int(os.Stdin.Fd()); term.IsTerminal(fd) {
		if old, err := term.MakeRaw(fd); err == nil {
			outputModes(os.Stdin, func(modes uint32) uint32 { return modes | unix.OPOST | unix.ONLCR })
			restore = func() { term.Restore(fd, old) }
		}
	}
	drained := make(chan struct{})
	go copyAll(console, os.Stdin)
	go func() {
		copyAll(os.Stdout, console) // ends with EIO when the last process has closed its side
		close(drained)
	}()
	return func() {
		<-drained
		restore()
	}
}

// plainLines makes a terminal that this process relays pass lines on as they
// are. The caller's, if it is one, ends them with a carriage return, and a pipe
// gets none.
func plainLines(console *os.File) {
	outputModes(console, func(modes uint32) uint32 { return modes &^ unix.ONLCR })
}

// outputModes changes the output modes of a terminal, termios(3).
func outputModes(tty *os.File, change func(uint32) uint32) {
	fd := int(tty.Fd())
	if t, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		t.Oflag = change(t.Oflag)
		unix.IoctlSetTermios(fd, unix.TCSETS, t)
	}
}

func copyAll(dst, src *os.File) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func resize(console *os.File) {
	if ws, err := unix.IoctlGetWinsize(int(os.Stdin.Fd()), unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(int(console.Fd()), unix.TIOCSWINSZ, ws)
	}
}
