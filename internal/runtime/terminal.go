package runtime

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// TerminalName is what the files of OpenTerminal are called.
const TerminalName = "/dev/ptmx"

// OpenTerminal opens a new terminal in the container's own /dev/pts, having
// made sure that it is one.
func OpenTerminal(root *os.File) (master, slave *os.File, err error) {
	fd, err := unix.Openat2(int(root.Fd()), "dev/pts/ptmx", &unix.OpenHow{
		Flags:   unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC | unix.O_NONBLOCK, // so that reading it can be given up
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open a terminal in the container: %w", err)
	}
	master = os.NewFile(uintptr(fd), TerminalName)
	var fs unix.Statfs_t
	if err = unix.Fstatfs(fd, &fs); err == nil && fs.Type != unix.DEVPTS_SUPER_MAGIC {
		err = errors.New("the container's /dev/pts is not a devpts file system")
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	var peer uintptr
	if err == nil {
		var e unix.Errno
		peer, _, e = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if e != 0 {
			err = e
		}
	}
	if err != nil {
		master.Close()
		return nil, nil, fmt.Errorf("open a terminal in the container: %w", err)
	}
	return master, os.NewFile(peer, TerminalName), nil
}
