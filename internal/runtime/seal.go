package runtime

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// SealedExecutable gives a handle to this program through which nobody can
// write to it. A container's process can reach the file of the program that
// started it (by /proc/PID/exe, or an entry point of /proc/self/exe), and would
// otherwise overwrite the host's brig once nobody runs it (CVE-2019-5736).
//
// The handle is a read-only bind mount that is attached nowhere: three system
// calls, and no copy. Where the kernel refuses that (a program in a file system
// of its own kind), it is a sealed copy in memory.
func SealedExecutable() (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/exe", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		if err == nil {
			return outOfTheWay(fd)
		}
		unix.Close(fd)
	}
	f, err := sealedCopy()
	if err != nil {
		return nil, fmt.Errorf("seal brig's own program against containers: %w", err)
	}
	defer f.Close()
	return reopen(f)
}

// outOfTheWay moves a descriptor above those that a child of ours gets, so that
// its number still means the program when the child comes to execute it.
func outOfTheWay(fd int) (*os.File, error) {
	defer unix.Close(fd)
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		return nil, fmt.Errorf("seal brig's own program against containers: %w", err)
	}
	return os.NewFile(uintptr(high), "brig"), nil
}

// reopen opens the copy for reading: a file that is open for writing cannot be
// executed.
func reopen(f *os.File) (*os.File, error) {
	fd, err := unix.Open(ExecPath(f), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("seal brig's own program against containers: %w", err)
	}
	return outOfTheWay(fd)
}

func sealedCopy() (*os.File, error) {
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer src.Close()
	fd, err := unix.MemfdCreate("brig", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	dst := os.NewFile(uintptr(fd), "brig")
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(dst.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		dst.Close()
		return nil, err
	}
	return dst, nil
}

// ExecPath is the path by which a sealed program is started.
func ExecPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
