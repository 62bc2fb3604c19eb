package initproc

import (
	"os"
	"strings"
	"syscall"
	"unsafe"
)

// lookPath finds a command as exec(3) does.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	result := error(syscall.ENOENT)
	for _, dir := range strings.Split(os.Getenv("PATH"), ":") {
		if dir == "" {
			dir = "."
		}
		p := dir + "/" + name
		var st syscall.Stat_t
		if syscall.Stat(p, &st) != nil || st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			continue
		}
		const execOK = 1 // X_OK, access(2)
		if err := syscall.Access(p, execOK); err != nil {
			result = err
			continue
		}
		return p, nil
	}
	return "", result
}

func isTerminal(fd int) bool {
	var t syscall.Termios
	_, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TCGETS, uintptr(unsafe.Pointer(&t)))
	return e == 0
}
