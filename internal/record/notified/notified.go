// Package notified records the system calls of a command without privileges: a
// seccomp filter that the command gets hands each call to this process, which
// counts it and lets it go on (seccomp_unotify(2)). It takes some microseconds a
// call, sees no capabilities and no denials, and gives the command no_new_privs.
// Where root may use BPF, package record is cheaper and sees more.
//
// It owns the command's start and the counting. What a recording is is the
// business of package record.
package notified

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/internal/runtime/inside"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/notify"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Command is a command that is recorded.
type Command struct {
	Args []string // the program, found as execvp(3) finds it, and its arguments
	Env  []string
	// Signals are sent to the command.
	Signals <-chan os.Signal
	// Keep, if not nil, is given what there is a few times a second, if that is
	// more than before: this process may be killed.
	Keep func(*record.Recording)
}

// StartError says that the command could not be executed.
type StartError struct {
	Name string
	Err  error // unix.ENOENT, unix.EACCES, ...
}

func (e *StartError) Error() string { return fmt.Sprintf("execute %s: %v", e.Name, e.Err) }
func (e *StartError) Unwrap() error { return e.Err }

// Run runs the command with this process's streams, until it and all that it
// started have ended, and returns what it used, and its exit code (128+n for
// signal n). The recording begins after the execve of the program. If this process
// is killed, the command is too.
func (c *Command) Run() (*record.Recording, int, error) {
	program, err := exec.LookPath(c.Args[0])
	if err != nil {
		return nil, 0, &StartError{c.Args[0], lookError(err)}
	}
	filter, err := filter()
	if err != nil {
		return nil, 0, fmt.Errorf("record without privileges: %w", err)
	}
	mapped, err := load(c.program(program, filter))
	if err != nil {
		return nil, 0, fmt.Errorf("record without privileges: %w", err)
	}
	defer mapped.Unmap()
	return c.run(mapped, program)
}

// lookError is the kernel's error for a program that LookPath did not find.
func lookError(err error) error {
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, os.ErrPermission):
		return unix.EACCES
	}
	return unix.ENOENT
}

// filter notifies of all calls of all ABIs but those that are assumed.
func filter() (*seccomp.Filter, error) {
	policy := &seccomp.Policy{Default: seccomp.Notify, Newer: seccomp.Notify, OtherArch: seccomp.Notify}
	for _, abi := range abis {
		rules := seccomp.ArchRules{Arch: abi}
		for _, name := range assumed() {
			call, _ := syscalls.Find(name)
			if nr, ok := call.Number(abi); ok {
				rules.Calls = append(rules.Calls, seccomp.CallRules{Nr: nr, Rules: []seccomp.Rule{{Action: seccomp.Allow}}})
				rules.Newest = max(rules.Newest, nr)
			}
		}
		slices.SortFunc(rules.Calls, func(a, b seccomp.CallRules) int { return cmp.Compare(a.Nr, b.Nr) })
		policy.Archs = append(policy.Archs, rules)
	}
	f, err := seccomp.Compile(policy)
	if err != nil {
		return nil, err
	}
	if err := f.CheckKernel(); err != nil {
		return nil, err
	}
	// With it a signal does not make a call that is being counted start again.
	f.Flags |= seccomp.FlagWaitKillableRecv
	if f.CheckKernel() != nil {
		f.Flags &^= seccomp.FlagWaitKillableRecv
	}
	return f, nil
}

// regListener is the register of the start's program that gets the listener.
const regListener = 200

// program is the start as system calls: see package inside. The filter is loaded
// last, so that nothing but the execve comes before the program's own calls.
func (c *Command) program(path string, f *seccomp.Filter) []byte {
	b := inside.NewBuilder()
	zero := b.Words(0, 0, 0, 0) // struct sigaction of the kernel with SIG_DFL; an empty set of signals
	b.What("prepare the command")
	b.Call(unix.SYS_PRCTL, inside.V(unix.PR_SET_PDEATHSIG), inside.V(int(unix.SIGKILL)), inside.V(0), inside.V(0), inside.V(0))
	for sig := 1; sig <= 64; sig++ {
		if sig != int(unix.SIGKILL) && sig != int(unix.SIGSTOP) {
			b.Call(unix.SYS_RT_SIGACTION, inside.V(sig), zero, inside.V(0), inside.V(8))
		}
	}
	b.Call(unix.SYS_RT_SIGPROCMASK, inside.V(2 /* SIG_SETMASK */), zero, inside.V(0), inside.V(8))
	if limit, ok := openFiles(); ok {
		b.Call(unix.SYS_PRLIMIT64, inside.V(0), inside.V(unix.RLIMIT_NOFILE), b.Words(limit.Cur, limit.Max), inside.V(0))
	}
	b.What("set no_new_privs")
	b.Call(unix.SYS_PRCTL, inside.V(unix.PR_SET_NO_NEW_PRIVS), inside.V(1), inside.V(0), inside.V(0), inside.V(0))
	b.What("load the filter that notifies")
	insns := b.Bytes(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(f.Program))), 8*len(f.Program)))
	prog := b.Words(uint64(len(f.Program)), b.Offset(insns)) // struct sock_fprog
	b.Relocate(prog, 8)
	b.Call(unix.SYS_SECCOMP, inside.V(unix.SECCOMP_SET_MODE_FILTER), inside.V(int(f.Flags)), prog).To(regListener)
	b.Pseudo(inside.Stage, inside.V(1))
	b.What("execute the program")
	b.Call(unix.SYS_EXECVE, b.Str(path), b.Strs(c.Args), b.Strs(c.Env))
	return b.Assemble()
}

// openFiles is the limit of open files that the command should have. Go raises
// that of its own process when it starts; whoever started this one has it still.
func openFiles() (limit unix.Rlimit, ok bool) {
	var ours unix.Rlimit
	if unix.Prlimit(os.Getppid(), unix.RLIMIT_NOFILE, nil, &limit) != nil || unix.Getrlimit(unix.RLIMIT_NOFILE, &ours) != nil {
		return limit, false
	}
	limit.Max = ours.Max
	limit.Cur = min(limit.Cur, ours.Max)
	return limit, true
}

// load maps a program.
func load(program []byte) (*inside.Program, error) {
	fd, err := unix.MemfdCreate("start", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, program); err != nil {
		return nil, os.NewSyscallError("write", err)
	}
	return inside.Map(fd, len(program))
}

// started is what the goroutine that starts the command tells.
type started struct {
	pid int
	err error
}

// run starts the command and counts until all have ended.
func (c *Command) run(p *inside.Program, program string) (*record.Recording, int, error) {
	begun := make(chan started)
	status := make(chan unix.WaitStatus, 1)
	go c.start(p, begun, status)
	s := <-begun
	if s.err != nil {
		return nil, 0, fmt.Errorf("start %s: %w", program, s.err)
	}
	listener, err := listenerOf(p, s.pid)
	if err != nil {
		<-status
		return nil, 0, fmt.Errorf("record without privileges: %w", err)
	}
	done := make(chan struct{})
	go c.forward(s.pid, done)

	count := newCounter()
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		c.keep(count, done)
	}()
	err = notify.ServeHere(listener, count.handle)
	close(done)
	<-kept
	ws := <-status
	if _, errno, failed := p.Failure(); failed {
		return nil, 0, &StartError{program, errno}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("record without privileges: %w", err)
	}
	return count.recording(), exitCode(ws), nil
}

// start clones the command, which shares this process's descriptors until its
// execve: so the listener that it gets is here without a call of the command's.
// The command dies with this thread, which waits for it.
func (c *Command) start(p *inside.Program, begun chan<- started, status chan<- unix.WaitStatus) {
	runtime.LockOSThread()
	pid, err := p.Start(inside.Clone{Flags: unix.CLONE_FILES, PIDNS: -1, CgroupFD: -1})
	begun <- started{pid, err}
	if err != nil {
		return
	}
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			break
		}
	}
	status <- ws
}

// listenerOf waits until the command has loaded the filter. From then on it
// waits for an answer, so there is nobody to tell but the memory they share.
func listenerOf(p *inside.Program, pid int) (*os.File, error) {
	for p.Progress() == 0 {
		// Asked before its failure is: the failed command writes that down and ends.
		ended := unix.Kill(pid, 0) == unix.ESRCH
		if _, errno, failed := p.Failure(); failed {
			if errno == unix.EBUSY {
				return nil, errors.New("another program receives the notifications of this process already")
			}
			return nil, fmt.Errorf("load the filter that notifies: %w", errno)
		}
		if ended && p.Progress() == 0 {
			return nil, errors.New("the command was killed at its start")
		}
		time.Sleep(20 * time.Microsecond)
	}
	fd := int(p.Reg(regListener))
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		return nil, fmt.Errorf("descriptor %d is no listener", fd)
	}
	return os.NewFile(uintptr(fd), "seccomp listener"), nil
}

// keep hands out what was counted from time to time, until done is closed.
func (c *Command) keep(count *counter, done <-chan struct{}) {
	if c.Keep == nil {
		return
	}
	for tick, before := time.Tick(200*time.Millisecond), uint64(0); ; {
		select {
		case <-tick:
			if n := count.total(); n > before {
				before = n
				c.Keep(count.recording())
			}
		case <-done:
			return
		}
	}
}

// forward sends signals to the command.
func (c *Command) forward(pid int, done <-chan struct{}) {
	for {
		select {
		case s := <-c.Signals:
			unix.Kill(pid, s.(syscall.Signal))
		case <-done:
			return
		}
	}
}

func exitCode(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
