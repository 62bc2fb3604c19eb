// Package notify is the other side of the action NOTIFY of seccomp filters: it
// receives the system calls that processes make, and answers for the kernel
// (seccomp_unotify(2)). It knows no containers and no profiles.
//
// An agent decides on what it can see, and a process may change its memory
// while the agent looks. So an agent that lets a call go on ([Request.Continue])
// protects nothing: a call that must not happen must be refused by a filter, or
// done by the agent itself on what the agent has read ([Request.Respond]).
package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// The structures of include/uapi/linux/seccomp.h, which are the same on all
// architectures.
type (
	rawRequest struct {
		id         uint64
		pid, flags uint32
		nr         int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	rawResponse struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
	rawAddFD struct {
		id                        uint64
		flags, from, to, newFlags uint32
	}
	rawSizes struct{ request, response, data uint16 }
)

// Listener receives the calls of the processes under one filter. Its methods
// may be called by several goroutines.
type Listener struct {
	f    *os.File
	conn interface {
		Read(func(fd uintptr) bool) error
		Control(func(fd uintptr)) error
	}
	size   int // of a request, as this kernel has it
	closed atomic.Bool

	// recv has room for one receiver: the kernel blocks a second one for whom
	// nothing is left, and nothing but a signal ends that.
	recv chan struct{}
}

// New returns the listener for a descriptor that loading a filter returned. It
// takes the descriptor over, also if it fails because the descriptor is none of a
// listener.
func New(f *os.File) (*Listener, error) { return newListener(f, true) }

// newListener is New; polled says whether Recv is to be used, which takes Go's
// poller. The kernel tells that of each call and of each answer.
func newListener(f *os.File, polled bool) (*Listener, error) {
	defer f.Close()
	var sizes rawSizes
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&sizes))); errno != 0 {
		return nil, fmt.Errorf("ask the kernel for the sizes of seccomp notifications: %w", errno)
	}
	if int(sizes.request) < int(unsafe.Sizeof(rawRequest{})) || int(sizes.response) < int(unsafe.Sizeof(rawResponse{})) {
		return nil, fmt.Errorf("seccomp notifications of %d and %d bytes, which are too small", sizes.request, sizes.response)
	}
	// A copy, because the runtime's poller takes only what is made for it.
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, polled) // by which package os knows
	}
	if err != nil {
		return nil, fmt.Errorf("take over the seccomp listener: %w", err)
	}
	l := &Listener{f: os.NewFile(uintptr(fd), "seccomp listener"), size: int(sizes.request), recv: make(chan struct{}, 1)}
	if l.conn, err = l.f.SyscallConn(); err == nil {
		err = l.check()
	}
	if err != nil {
		l.f.Close()
		return nil, fmt.Errorf("take over the seccomp listener: %w", err)
	}
	return l, nil
}

// check fails if the descriptor is none of a listener: a peer may send any.
func (l *Listener) check() error {
	var id uint64 // of no call
	if err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id), 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("the descriptor is no seccomp listener: %w", err)
	}
	return nil
}

// Close closes the listener. Calls that wait for an answer, and all that come
// later, fail with ENOSYS. A receiver that waits gets [os.ErrClosed], as does who
// uses the listener or its requests afterwards.
func (l *Listener) Close() error {
	l.closed.Store(true)
	return l.f.Close()
}

// fault makes what the runtime's poller says of a closed file [os.ErrClosed],
// by which callers know it.
func (l *Listener) fault(err error) error {
	if l.closed.Load() {
		return os.ErrClosed
	}
	return err
}

// SyncWakeUp asks the kernel to run the caller of a call and its answerer on one
// processor in turn (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6), which makes
// answers several times quicker where each waits for the other. It is
// [errors.ErrUnsupported] on kernels without it.
func (l *Listener) SyncWakeUp() error {
	err := l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, nil, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	if err == unix.EINVAL || err == unix.ENOTTY {
		return fmt.Errorf("synchronous wake-up of seccomp notifications: %w", errors.ErrUnsupported)
	}
	return err
}

// ioctl calls ioctl(2) with a pointer or, if that is nil, a number.
func (l *Listener) ioctl(op uint, arg unsafe.Pointer, number uintptr) error {
	var errno unix.Errno
	err := l.conn.Control(func(fd uintptr) {
		for {
			if arg != nil {
				_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, uintptr(op), uintptr(arg))
			} else {
				_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, uintptr(op), number)
			}
			if errno != unix.EINTR {
				return
			}
		}
	})
	if err != nil {
		return l.fault(err)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// Recv waits for the next call. The error is [io.EOF] when no process is left
// that is under the filter, and that of the context if it ends before.
func (l *Listener) Recv(ctx context.Context) (*Request, error) {
	select {
	case l.recv <- struct{}{}:
		defer func() { <-l.recv }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// A deadline in the past ends the wait. It must not be set once more after
	// it is taken back, for the next receiver would see it.
	set := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		l.f.SetReadDeadline(time.Unix(1, 0))
		close(set)
	})
	defer func() {
		if !stop() {
			<-set
			l.f.SetReadDeadline(time.Time{})
		}
	}()
	var r *Request
	var err error
	werr := l.conn.Read(func(fd uintptr) bool {
		r, err = l.tryRecv(int(fd))
		return r != nil || err != nil
	})
	switch {
	case r != nil || err != nil:
		return r, err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("receive a seccomp notification: %w", l.fault(werr))
}

// tryRecv returns the next call if there is one; it never waits.
func (l *Listener) tryRecv(fd int) (*Request, error) {
	r := &Request{l: l, fd: -1}
	if got, err := l.receive(fd, 0, make([]uint64, l.words()), r); !got {
		return nil, err
	}
	return r, nil
}

// words is how long a request is, in words of 64 bits.
func (l *Listener) words() int { return (l.size + 7) / 8 }

// receive makes r the next call if there is one within some milliseconds; -1 is for
// ever. buf is for the kernel.
func (l *Listener) receive(fd, ms int, buf []uint64, r *Request) (bool, error) {
	for wait := ms >= 0 || !recvEnds(); ; {
		if wait {
			if ready, err := pollIn(fd, ms); !ready {
				return false, err
			}
		}
		clear(buf) // the kernel wants zeros
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(unix.SECCOMP_IOCTL_NOTIF_RECV), uintptr(unsafe.Pointer(&buf[0])))
		switch errno {
		case 0:
			r.set((*rawRequest)(unsafe.Pointer(&buf[0])))
			return true, nil
		case unix.EINTR:
		case unix.ENOENT: // the process died meanwhile; was it the last?
			wait = true
		default:
			return false, fmt.Errorf("receive a seccomp notification: %w", errno)
		}
	}
}

// recvEnds says whether the wait for a notification ends with the last process that
// is under the filter. Before Linux 6.11 it never does, and only poll(2) tells.
var recvEnds = sync.OnceValue(func() bool {
	v, err := seccomp.RunningKernel()
	return err == nil && v.AtLeast(seccomp.KernelVersion{Major: 6, Minor: 11})
})

// pollIn waits for a notification; the error is [io.EOF] if there is nobody to send
// one.
func pollIn(fd, ms int) (bool, error) {
	for {
		poll := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll[:], ms)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return false, fmt.Errorf("wait for a seccomp notification: %w", err)
		case n == 0:
			return false, nil
		case poll[0].Revents&unix.POLLIN == 0:
			return false, io.EOF // POLLHUP alone
		default:
			return true, nil
		}
	}
}

// Request is a system call that waits for an answer.
type Request struct {
	ID   uint64
	PID  int    // of the thread, as the listener's PID namespace sees it; 0 if it does not
	Arch uint32 // AUDIT_ARCH value
	Nr   uint32
	IP   uint64 // instruction pointer
	Args [6]uint64

	l        *Listener
	fd       int // of the listener, open for as long as the request is used; or -1
	mu       sync.Mutex
	answered bool
	response rawResponse
}

func (r *Request) set(raw *rawRequest) {
	r.ID, r.PID, r.Nr, r.Arch, r.IP, r.Args = raw.id, int(raw.pid), uint32(raw.nr), raw.arch, raw.ip, raw.args
	r.answered = false
}

// Name returns the name of the call, or "" for an unknown one.
func (r *Request) Name() string {
	for a := syscalls.Arch(0); a.Audit() != 0; a++ {
		if a.Audit() != r.Arch || a == syscalls.X86_64 && r.Nr >= syscalls.X32Bit {
			continue
		}
		name, _ := syscalls.Name(a, r.Nr)
		return name
	}
	return ""
}

// ErrGone says that the process that made the call is dead, or that a signal
// interrupted the call: nobody waits for the answer any more.
var ErrGone = errors.New("nobody waits for the answer to this system call any more")

// ErrAnswered says that a call was answered before.
var ErrAnswered = errors.New("this system call is answered already")

// Respond ends the call, which returns value.
func (r *Request) Respond(value int64) error { return r.send(rawResponse{value: value}) }

// Fail ends the call with an error.
func (r *Request) Fail(errno unix.Errno) error { return r.send(rawResponse{errno: -int32(errno)}) }

// Continue lets the kernel perform the call as it is by then. What the agent
// has read of the caller's memory may be different by then too, so this must
// not be used to decide what is allowed: see seccomp_unotify(2), NOTES.
func (r *Request) Continue() error {
	return r.send(rawResponse{flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
}

func (r *Request) send(resp rawResponse) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answered {
		return ErrAnswered
	}
	resp.id = r.ID
	r.response = resp
	err := gone(r.sendResponse())
	r.answered = err == nil
	if err != nil {
		return fmt.Errorf("answer %s of process %d: %w", r.Name(), r.PID, err)
	}
	return nil
}

func (r *Request) sendResponse() error {
	if r.fd < 0 {
		return r.l.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r.response), 0)
	}
	for {
		// It waits for nobody, so Go's scheduler need not be told.
		_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(r.fd), uintptr(unix.SECCOMP_IOCTL_NOTIF_SEND), uintptr(unsafe.Pointer(&r.response)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

func gone(err error) error {
	if err == unix.ENOENT {
		return ErrGone
	}
	return err
}

// Valid fails with [ErrGone] if nobody waits for the answer any more. What was
// found by PID before a call to Valid that succeeds was found of the right
// process: its number was not given to another meanwhile.
func (r *Request) Valid() error {
	id := r.ID
	return gone(r.l.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id), 0))
}

// AddFDOptions says how a descriptor is given to the caller.
type AddFDOptions struct {
	At      int  // the number that it gets, which is replaced if it is open; -1: the lowest free one
	CloExec bool // the caller's execve closes it
	// Respond ends the call as well, which returns the number (Linux 5.14).
	Respond bool
}

// AddFD opens a copy of f in the process that made the call, and returns its
// number there. It waits until that process has taken it: for as long as it is
// stopped or frozen.
func (r *Request) AddFD(f *os.File, o AddFDOptions) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answered {
		return -1, ErrAnswered
	}
	raw := rawAddFD{id: r.ID}
	if o.At >= 0 {
		raw.flags |= unix.SECCOMP_ADDFD_FLAG_SETFD
		raw.to = uint32(o.At)
	}
	if o.CloExec {
		raw.newFlags = unix.O_CLOEXEC
	}
	if o.Respond {
		raw.flags |= unix.SECCOMP_ADDFD_FLAG_SEND
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	at := -1
	if cerr := conn.Control(func(fd uintptr) {
		raw.from = uint32(fd)
		at, err = r.l.addFD(&raw)
	}); cerr != nil {
		err = cerr
	}
	if err != nil {
		return -1, fmt.Errorf("give a descriptor to process %d: %w", r.PID, gone(err))
	}
	r.answered = o.Respond
	return at, nil
}

// addFD waits until the caller has the descriptor. A signal, such as the Go
// scheduler sends, would end the wait. With SECCOMP_ADDFD_FLAG_SEND the kernel
// cannot begin again then: the call ends with 0 and no descriptor
// (seccomp_notify_addfd in kernel/seccomp.c). So none is let through.
func (l *Listener) addFD(raw *rawAddFD) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return -1, err
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	var at uintptr
	var errno unix.Errno
	if err := l.conn.Control(func(fd uintptr) {
		at, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, uintptr(unix.SECCOMP_IOCTL_NOTIF_ADDFD), uintptr(unsafe.Pointer(raw)))
	}); err != nil {
		return -1, l.fault(err)
	}
	if errno != 0 {
		return -1, errno
	}
	return int(at), nil
}
