//go:build amd64

package record

import (
	"fmt"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func argsMode() error {
	page := uintptr(os.Getpagesize())
	unix.RawSyscall(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	unix.RawSyscall(unix.SYS_SOCKET, 1<<32|unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP) // the kernel reads an int
	unix.RawSyscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
	for i := range uintptr(40) {
		unix.RawSyscall6(unix.SYS_PRCTL, 1000+i, 0, 0, 0, 0, 0)
	}
	for range 40 {
		unix.RawSyscall(unix.SYS_FCNTL, 0, unix.F_GETFD, 0)
	}
	addr, _, errno := unix.RawSyscall6(unix.SYS_MMAP, 0, page, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON, ^uintptr(0), 0)
	if errno != 0 {
		return errno
	}
	unix.RawSyscall(unix.SYS_MPROTECT, addr, page, unix.PROT_EXEC)
	unix.RawSyscall(unix.SYS_IOCTL, 0, 0x5401, 0)
	unix.RawSyscall(unix.SYS_KEYCTL, ^uintptr(0), 0, 0) // an int: 32 bits of ones
	unix.RawSyscall(unix.SYS_UNSHARE, ^uintptr(0), 0, 0)
	if err := clone3(); err != nil {
		return err
	}
	call := int80()
	call(359, unix.AF_UNIX, unix.SOCK_DGRAM, 0) // socket
	call(102, 13, 0, 0)                         // socketcall
	return nil
}

// clone3 makes a child that ends at once.
func clone3() error {
	args := [11]uint64{0: unix.CLONE_CLEAR_SIGHAND, 4: uint64(unix.SIGCHLD)}
	pid, _, errno := forkAnd(435, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
	if errno != 0 {
		return errno
	}
	_, err := unix.Wait4(int(pid), nil, 0, nil)
	return err
}

// forkAnd makes a process by a raw call. The child asks 3 times for its parent
// and ends. It must not grow the stack, so it must not be split.
//
//go:nosplit
//go:norace
func forkAnd(nr, a, b uintptr) (uintptr, uintptr, unix.Errno) {
	pid, _, errno := unix.RawSyscall6(nr, a, b, 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		return pid, 0, errno
	}
	unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

func TestArguments(t *testing.T) {
	rec := recordChild(t, "args")
	for _, want := range []struct {
		abi, name string
		index     uint8
		values    []uint64
	}{
		{"amd64", "socket", 0, []uint64{unix.AF_UNIX, unix.AF_INET}},
		{"amd64", "socket", 1, []uint64{unix.SOCK_DGRAM, unix.SOCK_STREAM | unix.SOCK_CLOEXEC}},
		{"amd64", "socket", 2, []uint64{0, unix.IPPROTO_UDP}},
		{"amd64", "personality", 0, []uint64{0xffffffff}},
		{"amd64", "ioctl", 1, []uint64{0x5401}},
		{"amd64", "keyctl", 0, []uint64{0xffffffff}},
		{"amd64", "unshare", 0, []uint64{1<<64 - 1}},
		{"amd64", "mprotect", 2, []uint64{unix.PROT_EXEC}},
		{"x86", "socket", 0, []uint64{unix.AF_UNIX}},
		{"x86", "socket", 1, []uint64{unix.SOCK_DGRAM}},
		{"x86", "socketcall", 0, []uint64{13}},
	} {
		got := argOf(rec, want.abi, want.name, want.index)
		if fmt.Sprint(got.Values) != fmt.Sprint(want.values) || got.More || got.Memory {
			t.Errorf("%s %s argument %d: %+v, want %#x", want.abi, want.name, want.index, got, want.values)
		}
	}
	if got := argOf(rec, "amd64", "prctl", 0); len(got.Values) != 16 || !got.More {
		t.Errorf("prctl: %+v, want 16 values and more", got)
	}
	if got := argOf(rec, "amd64", "fcntl", 1); got.More || len(got.Values) != 1 || got.Values[0] != unix.F_GETFD {
		t.Errorf("fcntl: %+v, want F_GETFD alone", got)
	}
	prot := argOf(rec, "amd64", "mmap", 2)
	if !contains(prot.Values, unix.PROT_READ|unix.PROT_EXEC) || prot.More {
		t.Errorf("mmap: %+v, want PROT_READ|PROT_EXEC among them", prot)
	}
	flags := argOf(rec, "amd64", "clone3", 0)
	if !flags.Memory || !contains(flags.Values, unix.CLONE_CLEAR_SIGHAND) {
		t.Errorf("clone3: %+v, want CLONE_CLEAR_SIGHAND in memory", flags)
	}
}

func contains(values []uint64, v uint64) bool {
	for _, have := range values {
		if have == v {
			return true
		}
	}
	return false
}

func argOf(rec *Recording, abi, name string, index uint8) ArgValues {
	for _, arg := range find(rec, abi, name).Args {
		if arg.Index == index {
			return arg
		}
	}
	return ArgValues{}
}
