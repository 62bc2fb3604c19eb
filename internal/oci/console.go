package oci

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime"
)

// checkTerminal refuses what would leave a terminal with nobody.
func checkTerminal(terminal bool, socket string) error {
	switch {
	case terminal && socket == "":
		return errors.New("process.terminal: cannot allocate tty if the runtime will detach without setting console socket: use --console-socket")
	case !terminal && socket != "":
		return errors.New("cannot use console socket if the process has no terminal (process.terminal)")
	}
	return nil
}

// sendConsole sends the master of a terminal to the socket of the caller.
func sendConsole(socket string, master *os.File) error {
	if err := sendFile(socket, master.Name(), master); err != nil {
		return fmt.Errorf("--console-socket: send the terminal: %w", err)
	}
	return nil
}

// sendPIDFD sends a descriptor of a process to the socket of the caller, if there
// is one.
func sendPIDFD(socket string, pid int) error {
	if socket == "" {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		f := os.NewFile(uintptr(fd), "pidfd")
		defer f.Close()
		err = sendFile(socket, f.Name(), f)
	}
	if err != nil {
		return fmt.Errorf("--pidfd-socket: send the pidfd: %w", err)
	}
	return nil
}

func sendFile(socket, name string, f *os.File) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, _, err = conn.WriteMsgUnix([]byte(name), unix.UnixRights(int(f.Fd())), nil)
	return err
}

// newTerminal makes the container's terminal, with the devpts that it will see.
// In a user namespace the container makes both.
func (c *creation) newTerminal() (*runtime.Terminal, error) {
	if !c.spec.Process.Terminal {
		return nil, nil
	}
	if runtime.InUserNamespace(c.spec) {
		c.terminal = &runtime.Terminal{}
		return c.terminal, nil
	}
	pts := specs.Mount{Options: []string{"newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}}
	for _, m := range c.spec.Mounts {
		if m.Type == "devpts" {
			pts = m
		}
	}
	t, err := runtime.NewTerminal(pts)
	if err != nil {
		return nil, err
	}
	c.keep(t.Mount)
	c.terminal, c.console = t, c.keep(t.Master)
	return t, setSize(t.Master, c.spec.Process.ConsoleSize)
}

// takeTerminal takes the master that the child has opened.
func (c *creation) takeTerminal(pid int) error {
	f, err := takeFile(pid, int(c.prog.Reg(c.plan.TerminalReg)), "/dev/ptmx")
	if err != nil {
		return fmt.Errorf("take the terminal: %w", err)
	}
	c.console = c.keep(f)
	return setSize(f, c.spec.Process.ConsoleSize)
}

func setSize(master *os.File, size *specs.Box) error {
	if size == nil || size.Width == 0 && size.Height == 0 {
		return nil
	}
	err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)})
	if err != nil {
		return fmt.Errorf("process.consoleSize: set the size of the terminal: %w", err)
	}
	return nil
}
