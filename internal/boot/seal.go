package boot

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// ociLink is the name by which engines call the binary as an OCI runtime.
const ociLink = "brig-runtime"

// startsProcesses says whether the arguments are of a command of the OCI runtime
// that starts processes in containers.
func startsProcesses(args []string) bool {
	switch {
	case strings.HasSuffix("/"+args[0], "/"+ociLink):
		args = args[1:]
	case len(args) > 1 && args[1] == "runtime":
		args = args[2:]
	default:
		return false
	}
	for _, a := range args {
		switch a {
		case "create", "run", "exec":
			return true
		case "start", "state", "kill", "delete", "list", "ps", "pause", "resume", "update", "events", "spec", "features":
			return false
		}
	}
	return false
}

// System calls that package syscall does not name; the numbers are the same on
// all architectures.
const (
	sysOpenTree     = 428
	sysMountSetattr = 442

	openTreeClone = 1
	atEmptyPath   = 0x1000
	attrReadOnly  = 1
	statReadOnly  = 1 // ST_RDONLY, statvfs(3)
)

// seal executes this program anew from a read-only copy of its own mount, which
// is attached nowhere: a process in a container can reach the file of the program
// that started it (/proc/PID/exe), and must not be able to write there
// (CVE-2019-5736). It is done before anything else is initialized, because the
// work of this process is lost. It returns if the program is sealed already, or
// if this is not possible; then package oci finds another way.
func seal() {
	var fs syscall.Statfs_t
	if syscall.Statfs("/proc/self/exe", &fs) != nil {
		return
	}
	if fs.Flags&statReadOnly != 0 {
		named(ociLink)
		return
	}
	path, err := syscall.BytePtrFromString("/proc/self/exe")
	if err != nil {
		return
	}
	const cwd = ^uintptr(100 - 1) // AT_FDCWD
	fd, _, e := syscall.Syscall(sysOpenTree, cwd, uintptr(unsafe.Pointer(path)), openTreeClone|syscall.O_CLOEXEC)
	if e != 0 {
		return
	}
	defer syscall.Close(int(fd))
	attr := [4]uint64{attrReadOnly} // struct mount_attr
	var empty byte
	if _, _, e := syscall.Syscall6(sysMountSetattr, fd, uintptr(unsafe.Pointer(&empty)), atEmptyPath, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0); e != 0 {
		return
	}
	// Above the descriptors that the caller may want to pass on, and open across
	// the execve; the new program closes it.
	high, _, e := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, sealFD)
	if e != 0 {
		return
	}
	defer syscall.Close(int(high))
	// By name, and not by execveat: syscall.Exec gives the limit of open files
	// back, and the name of the process is set anyway.
	syscall.Exec("/proc/self/fd/"+strconv.Itoa(int(high)), os.Args, os.Environ())
}

// sealFD is the least descriptor number for the sealed program.
const sealFD = 1000

// named gives this process the name of the program, for ps(1): it was executed
// by a descriptor's number.
func named(name string) {
	b := append([]byte(name), 0)
	syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0)
}
