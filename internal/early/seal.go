package early

import "unsafe"

// Link is the name by which engines call the binary as an OCI runtime.
const Link = "brig-runtime"

// Sealed says that this process executes a file to which nobody can write through
// it: in a read-only mount.
var Sealed = seal()

// Numbers and flags of the kernel, the same on all architectures.
const (
	sysOpenTree     = 428
	sysMountSetattr = 442

	cwd           = ^uintptr(100 - 1) // AT_FDCWD
	closeOnExec   = 0x80000           // O_CLOEXEC
	openTreeClone = 1
	emptyPath     = 0x1000 // AT_EMPTY_PATH
	readOnly      = 1      // MOUNT_ATTR_RDONLY, and ST_RDONLY of statfs(2)
)

// seal executes this program anew from a read-only copy of its own mount, which
// is attached nowhere, if it is a command that starts processes in containers. It
// returns if that has been done, or is not needed, or is not possible; then
// package oci finds another way.
func seal() bool {
	args := read("/proc/self/cmdline\x00")
	if !startsProcesses(words(args)) {
		return false
	}
	self := pointer("/proc/self/exe\x00")
	var fs [32]uint64 // struct statfs
	const flags = 10  // f_flags, in words
	if kernel(sysStatfs, self, uintptr(unsafe.Pointer(&fs)), 0, 0, 0, 0) < 0 {
		return false
	}
	if fs[flags]&readOnly != 0 {
		return true
	}
	fd := kernel(sysOpenTree, cwd, self, openTreeClone|closeOnExec, 0, 0, 0)
	if fd < 0 {
		return false
	}
	attr := [4]uint64{readOnly} // struct mount_attr
	if kernel(sysMountSetattr, uintptr(fd), pointer("\x00"), emptyPath, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0) == 0 {
		execute(fd, args, read("/proc/self/environ\x00"))
	}
	kernel(sysClose, uintptr(fd), 0, 0, 0, 0, 0)
	return false
}

// execute executes the descriptor fd, which the execve closes, with the same arguments and environment. It
// returns if that fails.
func execute(fd int, args, env []byte) {
	path := append([]byte("/proc/self/fd/"), decimal(fd)...)
	path = append(path, 0)
	argv, envp := addresses(args), addresses(env)
	var old uint64
	attends := attends(words(args))
	if attends {
		block(&old)
	}
	kernel(sysExecve, uintptr(unsafe.Pointer(&path[0])), uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envp[0])), 0, 0, 0)
	if attends {
		const set = 2 // SIG_SETMASK
		kernel(sysSigprocmask, set, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	}
}

// block blocks the signals that package oci reads from a signalfd. Go leaves
// blocked most of what is blocked when it starts; to have it notify of each of the
// 60 costs it two changes of threads for each, 10 ms in all.
func block(old *uint64) {
	mask := ^uint64(0)
	// ILL, TRAP, ABRT, BUS, FPE, SEGV, URG, PROF, SYS, and the three of libraries:
	// the program's own.
	for _, s := range [...]uint{4, 5, 6, 7, 8, 11, 23, 27, 31, 32, 33, 34} {
		mask &^= 1 << (s - 1)
	}
	const block = 0 // SIG_BLOCK
	kernel(sysSigprocmask, block, uintptr(unsafe.Pointer(&mask)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
}

// startsProcesses says whether the arguments are of a command of the OCI runtime
// that starts processes in containers.
func startsProcesses(args []string) bool {
	switch {
	case len(args) == 0:
		return false
	case base(args[0]) == Link:
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

// attends says whether the command stays to hand signals to what it starts. Where
// that is in doubt (an argument of the program to execute looks like a flag) it
// says no, which costs only time.
func attends(args []string) bool {
	stays := false
	for _, a := range args {
		switch a {
		case "run", "exec":
			stays = true
		case "create", "-d", "--detach", "--detach=true":
			return false
		}
	}
	return stays
}

func base(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}

func decimal(n int) []byte {
	if n < 10 {
		return []byte{byte('0' + n)}
	}
	return append(decimal(n/10), byte('0'+n%10))
}

// pointer is the address of a string that ends with a zero byte.
func pointer(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s))) }

// read reads a file whose name ends with a zero byte; nil if that fails.
func read(name string) []byte {
	fd := kernel(sysOpenat, cwd, pointer(name), closeOnExec, 0, 0, 0)
	if fd < 0 {
		return nil
	}
	b := make([]byte, 0, 4096)
	for {
		if len(b) == cap(b) {
			b = append(make([]byte, 0, 2*cap(b)), b...)
		}
		n := kernel(sysRead, uintptr(fd), uintptr(unsafe.Pointer(&b[:cap(b)][len(b)])), uintptr(cap(b)-len(b)), 0, 0, 0)
		if n <= 0 {
			break
		}
		b = b[:len(b)+n]
	}
	kernel(sysClose, uintptr(fd), 0, 0, 0, 0, 0)
	return b
}

// words are the strings that end with zero bytes.
func words(b []byte) (list []string) {
	for start, i := 0, 0; i < len(b); i++ {
		if b[i] == 0 {
			list = append(list, string(b[start:i]))
			start = i + 1
		}
	}
	return list
}

// addresses are those of the strings, and nil at the end, as execve(2) wants them.
func addresses(b []byte) (list []*byte) {
	for start, i := 0, 0; i < len(b); i++ {
		if b[i] == 0 {
			list = append(list, &b[start])
			start = i + 1
		}
	}
	return append(list, nil)
}
