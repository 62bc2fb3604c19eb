package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
)

// Live is a filter that a process runs under.
type Live struct {
	Program []bpf.Instruction
	Flags   seccomp.Flags // those that the kernel tells, which is LOG alone
}

// OfThread returns the filters of a thread, the newest first; the kernel runs
// all of them. A process ID stands for the first thread of the process.
//
// It needs root in the initial user namespace (CAP_SYS_ADMIN and
// CAP_SYS_PTRACE), and a caller without a filter of its own. The thread is
// stopped for a moment by ptrace(2) and then goes on, or stays stopped if it
// was. A system call in which it waits is restarted or, for the few that
// signal(7) lists under "Interruption of system calls by stop signals", fails
// with EINTR.
func OfThread(tid int) ([]Live, error) {
	type result struct {
		filters []Live
		err     error
	}
	done := make(chan result)
	go func() {
		// ptrace belongs to the thread of the kernel. It ends with this
		// goroutine, and with it whatever trace is left.
		runtime.LockOSThread()
		filters, err := ofThread(tid)
		done <- result{filters, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("read the seccomp filters of process %d: %w", tid, r.err)
	}
	return r.filters, nil
}

func ofThread(tid int) (filters []Live, err error) {
	mode, err := seccompMode(tid)
	if err != nil {
		return nil, err
	}
	switch mode {
	case unix.SECCOMP_MODE_DISABLED:
		return nil, nil
	case unix.SECCOMP_MODE_STRICT:
		return nil, errors.New("it is in strict mode, which allows read, write, _exit and sigreturn and has no filter")
	}
	// No options: nothing must happen to the thread if this process dies.
	if err := ptrace(unix.PTRACE_SEIZE, tid, 0, 0); err != nil {
		return nil, seizeError(tid, err)
	}
	if err := ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0); err != nil {
		return nil, fmt.Errorf("stop it: %w", err)
	}
	signal, err := awaitStop(tid)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := ptrace(unix.PTRACE_DETACH, tid, 0, uintptr(signal)); e != nil && !errors.Is(e, unix.ESRCH) && err == nil {
			err = fmt.Errorf("let it go on: %w", e)
		}
	}()
	return dump(tid)
}

// dump reads the filters of a thread that this one has stopped. The kernel
// counts from the oldest.
func dump(tid int) ([]Live, error) {
	var filters []Live
	for i := uintptr(0); ; i++ {
		n, err := getFilter(tid, i, nil)
		if errors.Is(err, unix.ENOENT) {
			return filters, nil
		}
		if err != nil {
			return nil, err
		}
		f := Live{Program: make([]bpf.Instruction, n)}
		if _, err := getFilter(tid, i, f.Program); err != nil {
			return nil, err
		}
		// struct seccomp_metadata; since Linux 4.16.
		meta := [2]uint64{uint64(i), 0}
		if ptrace(unix.PTRACE_SECCOMP_GET_METADATA, tid, unsafe.Sizeof(meta), uintptr(unsafe.Pointer(&meta))) == nil {
			f.Flags = seccomp.Flags(meta[1])
		}
		filters = append([]Live{f}, filters...)
	}
}

// getFilter asks for a filter and returns its length; see ptrace(2),
// PTRACE_SECCOMP_GET_FILTER.
func getFilter(tid int, index uintptr, into []bpf.Instruction) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(tid), index,
		uintptr(unsafe.Pointer(unsafe.SliceData(into))), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.ENOENT:
		return 0, errno
	case unix.EACCES:
		return 0, errors.New("the kernel shows filters only to root of the initial user namespace with CAP_SYS_ADMIN, and only to a process that has no filter itself; run this outside of containers")
	case unix.EIO, unix.EINVAL:
		return 0, errors.New("this kernel cannot show filters; it was built without CONFIG_CHECKPOINT_RESTORE")
	}
	return 0, fmt.Errorf("read filter %d: %w", index, errno)
}

// stopTimeout bounds the wait for a thread to stop. One that hangs in the
// kernel does not.
const stopTimeout = 5 * time.Second

// awaitStop waits until the thread stops and returns the signal that it must
// get when it goes on, or 0.
func awaitStop(tid int) (unix.Signal, error) {
	deadline := time.Now().Add(stopTimeout)
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		var status unix.WaitStatus
		pid, err := unix.Wait4(tid, &status, unix.WALL|unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait until it stops: %w", err)
		case pid == tid && !status.Stopped():
			return 0, errors.New("it ended meanwhile")
		case pid == tid && int(status)>>16 == unix.PTRACE_EVENT_STOP:
			return 0, nil
		case pid == tid:
			return status.StopSignal(), nil
		case time.Now().After(deadline):
			return 0, fmt.Errorf("it hangs in the kernel and did not stop within %v", stopTimeout)
		}
		time.Sleep(wait)
	}
}

func ptrace(request, tid int, addr, data uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// seizeError says why a thread cannot be traced.
func seizeError(tid int, err error) error {
	if tracer, e := statusField(tid, "TracerPid:"); e == nil && tracer != 0 {
		return fmt.Errorf("process %d traces it already, such as a debugger or strace", tracer)
	}
	if errors.Is(err, unix.EPERM) {
		return errors.New("not permitted to trace it; run this as root, outside of containers")
	}
	return fmt.Errorf("trace it: %w", err)
}

// seccompMode returns the SECCOMP_MODE_* of a thread.
func seccompMode(tid int) (int, error) { return statusField(tid, "Seccomp:") }

// statusField returns a number of /proc/PID/status.
func statusField(tid int, name string) (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, errors.New("no such process")
	}
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return strconv.Atoi(string(bytes.TrimSpace(rest)))
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no line %s", tid, name)
}
