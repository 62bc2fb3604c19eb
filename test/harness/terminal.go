package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a command that runs on a terminal of its own, and the person in
// front of it.
type Terminal struct {
	master *os.File
	fd     int // the master's: File.Fd would make it blocking
	cmd    *exec.Cmd
	done   chan struct{}
	err    error

	mu     sync.Mutex
	screen []byte // all that came, from the last match on
}

// OpenTerminal starts a command on a new terminal of some size, as its
// controlling terminal, pty(7).
func OpenTerminal(cmd *exec.Cmd, rows, cols uint16) (*Terminal, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	t := &Terminal{master: master, fd: fd, cmd: cmd, done: make(chan struct{})}
	slave, err := t.slave()
	if err == nil {
		err = t.Resize(rows, cols)
	}
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		master.Close()
		return nil, err
	}
	go t.read()
	go func() {
		t.err = cmd.Wait()
		close(t.done)
	}()
	return t, nil
}

func (t *Terminal) slave() (*os.File, error) {
	if err := unix.IoctlSetPointerInt(t.fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetInt(t.fd, unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	return os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
}

func (t *Terminal) read() {
	buf := make([]byte, 32<<10)
	for {
		n, err := t.master.Read(buf)
		t.mu.Lock()
		t.screen = append(t.screen, buf[:n]...)
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Resize changes the size of the terminal.
func (t *Terminal) Resize(rows, cols uint16) error {
	return unix.IoctlSetWinsize(t.fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
}

// Type sends keys.
func (t *Terminal) Type(keys string) error {
	_, err := t.master.WriteString(keys)
	return err
}

// Expect waits until a pattern stands on the screen, and forgets what stands
// up to it.
func (t *Terminal) Expect(pattern string) error {
	re := regexp.MustCompile(pattern)
	err := Eventually("the terminal shows "+pattern, func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		at := re.FindIndex(t.screen)
		if at != nil {
			t.screen = t.screen[at[1]:]
		}
		return at != nil
	})
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		return fmt.Errorf("%w; it shows %q", err, t.screen)
	}
	return nil
}

// Raw says whether the terminal hands keys on as they are.
func (t *Terminal) Raw() (bool, error) {
	tio, err := unix.IoctlGetTermios(t.fd, unix.TCGETS)
	if err != nil {
		return false, err
	}
	return tio.Lflag&unix.ICANON == 0, nil
}

// Wait waits for the command to end and gives its exit code.
func (t *Terminal) Wait() (int, error) {
	select {
	case <-t.done:
	case <-time.After(Patience):
		t.cmd.Process.Kill()
		return -1, errors.New("the command does not end")
	}
	var exit *exec.ExitError
	if t.err != nil && !errors.As(t.err, &exit) {
		return -1, t.err
	}
	return t.cmd.ProcessState.ExitCode(), nil
}

// Close takes the terminal away, as when a window is closed.
func (t *Terminal) Close() error {
	err := t.master.Close()
	select {
	case <-t.done:
	case <-time.After(Patience):
		t.cmd.Process.Kill()
	}
	return err
}
