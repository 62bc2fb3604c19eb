package early

import "unsafe"

// Link is the name by which engines call the binary as an OCI runtime.
const Link = "brig-runtime"

// Sealed says that this process executes a file to which nobody can write through
// it: in a read-only mount. A command that starts processes in containers executes
// this program anew for that.
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

// seal does so in a program that did not begin at entry.
func seal() bool {
	args := read("/proc/self/cmdline\x00")
	argv := addresses(args)
	if !startsProcesses(&argv[0]) {
		return false
	}
	if inReadOnly() {
		return true
	}
	envp := addresses(read("/proc/self/environ\x00"))
	sealAs(&argv[0], &envp[0])
	return false
}

// sealFrom is seal with the stack that the kernel gives a program: the number of its
// arguments, and where they and the environment are, each ended by nil.
//
// It runs before Go does, as does all that it calls: on the system's stack, with no
// goroutine and no memory but that. So each of these functions is nosplit, and none
// makes anything.
//
//go:nosplit
func sealFrom(stack **byte) {
	argc := *(*uintptr)(unsafe.Pointer(stack))
	argv := (**byte)(unsafe.Add(unsafe.Pointer(stack), pointerSize))
	if startsProcesses(argv) && !inReadOnly() {
		sealAs(argv, (**byte)(unsafe.Add(unsafe.Pointer(argv), (argc+1)*pointerSize)))
	}
}

const pointerSize = unsafe.Sizeof(uintptr(0))

// inReadOnly says whether this program is in a read-only mount.
//
//go:nosplit
func inReadOnly() bool {
	var fs [15]uint64 // struct statfs
	const flags = 10  // f_flags, in words
	return kernel(sysStatfs, pointer(self), uintptr(unsafe.Pointer(&fs)), 0, 0, 0, 0) >= 0 && fs[flags]&readOnly != 0
}

// self is this program, with a zero byte for the kernel.
const self = "/proc/self/exe\x00"

// sealAs executes this program anew from a read-only copy of its own mount, which is
// attached nowhere. It returns if that is not possible; then package oci finds
// another way.
//
//go:nosplit
func sealAs(argv, envp **byte) {
	fd := kernel(sysOpenTree, cwd, pointer(self), openTreeClone|closeOnExec, 0, 0, 0)
	if fd < 0 {
		return
	}
	attr := [4]uint64{readOnly} // struct mount_attr
	if kernel(sysMountSetattr, uintptr(fd), pointer("\x00"), emptyPath, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0) == 0 {
		execute(fd, argv, envp)
	}
	kernel(sysClose, uintptr(fd), 0, 0, 0, 0, 0)
}

// execute executes the descriptor fd, which the execve closes, with the same
// arguments and environment. It returns if that fails.
//
//go:nosplit
func execute(fd int, argv, envp **byte) {
	path := [32]byte{'/', 'p', 'r', 'o', 'c', '/', 's', 'e', 'l', 'f', '/', 'f', 'd', '/'}
	const name = 14
	decimal(&path, name, uint(fd))
	var old uint64
	attends := attends(argv)
	if attends {
		block(&old)
	}
	kernel(sysExecve, uintptr(unsafe.Pointer(&path)), uintptr(unsafe.Pointer(argv)), uintptr(unsafe.Pointer(envp)), 0, 0, 0)
	if attends {
		const set = 2 // SIG_SETMASK
		kernel(sysSigprocmask, set, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	}
}

// block blocks the signals that package oci reads from a signalfd. Go leaves
// blocked most of what is blocked when it starts; to have it notify of each of the
// 60 costs it two changes of threads for each, 10 ms in all.
//
//go:nosplit
func block(old *uint64) {
	// Not ILL, TRAP, ABRT, BUS, FPE, SEGV, URG, PROF, SYS, and the three of libraries:
	// the program's own.
	const own = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<10 | 1<<22 | 1<<26 | 1<<30 | 1<<31 | 1<<32 | 1<<33
	mask := ^uint64(own)
	const block = 0 // SIG_BLOCK
	kernel(sysSigprocmask, block, uintptr(unsafe.Pointer(&mask)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
}

// startsProcesses says whether the arguments are of a command of the OCI runtime
// that starts processes in containers.
//
//go:nosplit
func startsProcesses(argv **byte) bool {
	switch {
	case *argv == nil:
		return false
	case is(base(*argv), Link):
	case is(next(argv, 1), "runtime"):
		argv = (**byte)(unsafe.Add(unsafe.Pointer(argv), pointerSize))
	default:
		return false
	}
	for i := uintptr(1); ; i++ {
		a := next(argv, i)
		switch {
		case a == nil:
			return false
		case is(a, "create"), is(a, "run"), is(a, "exec"):
			return true
		case is(a, "start"), is(a, "state"), is(a, "kill"), is(a, "delete"), is(a, "list"), is(a, "ps"), is(a, "pause"),
			is(a, "resume"), is(a, "update"), is(a, "events"), is(a, "spec"), is(a, "features"):
			return false
		}
	}
}

// attends says whether the command stays to hand signals to what it starts. Where
// that is in doubt (an argument of the program to execute looks like a flag) it
// says no, which costs only time.
//
//go:nosplit
func attends(argv **byte) bool {
	stays := false
	for i := uintptr(0); ; i++ {
		a := next(argv, i)
		switch {
		case a == nil:
			return stays
		case is(a, "run"), is(a, "exec"):
			stays = true
		case is(a, "create"), is(a, "-d"), is(a, "--detach"), is(a, "--detach=true"):
			return false
		}
	}
}

// next is the pointer at a place of a list. Behind a nil there is nothing to be asked
// for.
//
//go:nosplit
func next(list **byte, i uintptr) *byte {
	return *(**byte)(unsafe.Add(unsafe.Pointer(list), i*pointerSize))
}

// is compares a string of C, which may be nil, with one of Go.
//
//go:nosplit
func is(c *byte, word string) bool {
	if c == nil {
		return false
	}
	for i := range len(word) {
		if *(*byte)(unsafe.Add(unsafe.Pointer(c), i)) != word[i] {
			return false // also where c ends
		}
	}
	return *(*byte)(unsafe.Add(unsafe.Pointer(c), len(word))) == 0
}

// base is the part of a path behind the last slash.
//
//go:nosplit
func base(path *byte) *byte {
	last := path
	for p := path; *p != 0; {
		slash := *p == '/'
		p = (*byte)(unsafe.Add(unsafe.Pointer(p), 1))
		if slash {
			last = p
		}
	}
	return last
}

// decimal writes a number into b at a place, with a zero byte
// behind it.
//
//go:nosplit
func decimal(b *[32]byte, at, n uint) {
	for rest := n; rest >= 10; rest /= 10 {
		at++
	}
	b[(at+1)%32] = 0
	for ; ; at-- {
		b[at%32] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return
		}
	}
}

// pointer is the address of a string that ends with a zero byte.
//
//go:nosplit
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
