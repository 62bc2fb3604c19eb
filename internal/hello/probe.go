package hello

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp/syscalls"
)

// The search for blocked system calls executes none of them.
//
// Filters add up, and of their answers the most restrictive holds: kill, trap
// and errno before user notification, and that before allow (seccomp(2)). So a
// child of this process adds a filter of its own, which answers every call that
// carries a mark in its sixth argument with a user notification, and answers
// the notifications itself with an errno that no kernel gives. A call that comes
// back with that errno passed all other filters; one that comes back with
// another was stopped by them. Neither ran.
//
// A filter that kills ends the child: then the next one goes on behind the call
// that did it. To tell such an end from any other, the child proves ahead of the
// first call that the filters let it answer notifications.

// probeArg makes the program the child that tries the calls.
const probeArg = "--probe"

const (
	mark   = 0x6272_6967_6872_6b21 // in the sixth argument
	passed = 3999                  // errno; the kernel's own end at 4095 and are below 600 in use
)

// killed in the place of an errno says that the call ended the child.
const killed = 0xffff

// attempt is one call to try.
type attempt struct {
	name string
	use  string // how the arguments are special, if they are
	nr   uint32
	args [5]uint64
}

// attempts lists all system calls of this machine, with arguments that
// well-known profiles let through, and then some uses that they do not.
func attempts(arch syscalls.Arch) (list []attempt) {
	for nr, name := range syscalls.All(arch) {
		if name == "uprobe" || name == "uretprobe" {
			continue // the kernel's own entry points, which no filter sees (kernel/seccomp.c)
		}
		a := attempt{name: name, nr: nr}
		if name == "socket" || name == "socketpair" {
			a.args = [5]uint64{unix.AF_UNIX, unix.SOCK_STREAM}
		}
		list = append(list, a)
	}
	for _, v := range []attempt{
		{name: "clone", use: "CLONE_NEWUSER", args: [5]uint64{unix.CLONE_NEWUSER}},
		{name: "clone", use: "CLONE_NEWNS", args: [5]uint64{unix.CLONE_NEWNS}},
		{name: "personality", use: "ADDR_NO_RANDOMIZE", args: [5]uint64{0x0040000}},
		{name: "socket", use: "AF_VSOCK", args: [5]uint64{unix.AF_VSOCK, unix.SOCK_STREAM}},
		{name: "socket", use: "AF_ALG", args: [5]uint64{unix.AF_ALG, unix.SOCK_SEQPACKET}},
		{name: "socket", use: "AF_PACKET", args: [5]uint64{unix.AF_PACKET, unix.SOCK_RAW}},
	} {
		if nr, ok := syscalls.Number(arch, v.name); ok {
			v.nr = nr
			list = append(list, v)
		}
	}
	return list
}

// probe fills in which calls are blocked.
func (s *Seccomp) probe() {
	arch, ok := syscalls.Native()
	if !ok {
		s.Error = "no table of system calls for " + runtime.GOARCH
		return
	}
	list := attempts(arch)
	answers, err := tryAll(len(list))
	if err != nil {
		s.Error = err.Error()
		return
	}
	whole := map[string]bool{}
	for i, a := range list {
		if a.use == "" {
			s.Probed++
		}
		if answers[i] == passed || whole[a.name] {
			continue
		}
		if a.use == "" {
			whole[a.name] = true
		}
		s.Blocked = append(s.Blocked, Blocked{Name: a.name, Use: a.use, Answer: answer(answers[i])})
	}
}

func answer(n uint16) string {
	if n == killed {
		return "killed"
	}
	if name := unix.ErrnoName(syscall.Errno(n)); name != "" {
		return name
	}
	return "errno " + strconv.Itoa(int(n))
}

// patience bounds the life of a child, which needs some milliseconds.
const patience = 20 * time.Second

// tryAll runs children until n calls have answers.
func tryAll(n int) ([]uint16, error) {
	var answers []uint16
	for len(answers) < n {
		got, err := try(len(answers))
		answers = append(answers, got...)
		if len(answers) >= n {
			break
		}
		if !errors.Is(err, errKilled) {
			return nil, err
		}
		answers = append(answers, killed)
	}
	return answers[:n], nil
}

// errKilled says that a filter ended the child at the call whose answer is
// missing.
var errKilled = errors.New("killed by a filter")

// try runs one child from the attempt with that index on. The error says why
// the answers are not all there.
func try(from int) ([]uint16, error) {
	exe, err := os.Executable()
	if err != nil {
		exe = "/proc/self/exe"
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, exe, "hello", probeArg, strconv.Itoa(from)).Output()
	if ctx.Err() != nil {
		return nil, errors.New("the child that tries them hangs")
	}
	if len(out) < 2 {
		return nil, beginError(err)
	}
	// The first word says that the filter is in place.
	var got []uint16
	for out = out[2:]; len(out) >= 2; out = out[2:] {
		got = append(got, binary.LittleEndian.Uint16(out))
	}
	if endedByFilter(err) {
		return got, errKilled
	}
	return got, beginError(err)
}

// endedByFilter knows the three ways in which a filter ends a child: the
// process by SIGSYS; Go's runtime, which does not survive a trap; and one
// thread, which the others notice.
func endedByFilter(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && (status.Signaled() && status.Signal() == unix.SIGSYS ||
		exit.ExitCode() == 2 && bytes.Contains(exit.Stderr, []byte("SIGSYS")) ||
		exit.ExitCode() == threadKilled)
}

func beginError(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 && exit.ExitCode() == 1 {
		return errors.New(string(exit.Stderr))
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the child that tries them: %w", err)
}

// probeMain is the child: it writes a word when the filter is in place, and the
// answer to each call as a word.
func probeMain(args []string) int {
	from, err := strconv.Atoi(append(args, "")[0])
	if err == nil {
		err = tryFrom(from)
	}
	if err != nil {
		fmt.Fprint(os.Stderr, err)
		return 1
	}
	return 0
}

func tryFrom(from int) error {
	arch, ok := syscalls.Native()
	if !ok {
		return errors.New("no table of system calls")
	}
	list := attempts(arch)
	if from < 0 || from > len(list) {
		return fmt.Errorf("no attempt %d", from)
	}
	// The calls below hold one of the scheduler's places until they are answered,
	// so there must be another, even on a machine with one processor, and nothing
	// may stop the world.
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(-1)
	runtime.LockOSThread() // the filter is this thread's alone
	listener, err := markFilter()
	if err != nil {
		return err
	}
	if err := canAnswer(listener); err != nil {
		return err
	}
	go answerAll(listener)
	write([]byte{0, 0})
	for _, a := range list[from:] {
		_, _, errno := syscall.RawSyscall6(uintptr(a.nr), uintptr(a.args[0]), uintptr(a.args[1]), uintptr(a.args[2]), uintptr(a.args[3]), uintptr(a.args[4]), mark)
		// The mark must not stay in a register for a call of the runtime's.
		syscall.RawSyscall6(syscall.SYS_GETPID, 0, 0, 0, 0, 0, 0)
		write(binary.LittleEndian.AppendUint16(nil, uint16(errno)))
	}
	os.Exit(0)
	return nil
}

// write writes to the parent.
func write(b []byte) {
	syscall.RawSyscall6(syscall.SYS_WRITE, 1, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
}

// markFilter loads the filter and gives its listener. Offsets are those of
// struct seccomp_data: args begin at 16.
func markFilter() (int, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("set no_new_privs: %w", err)
	}
	const args5 = 16 + 5*8
	lo, hi := uint32(mark&0xffffffff), uint32(mark>>32)
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: args5},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: lo},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: args5 + 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: hi},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := syscall.RawSyscall6(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&prog)), 0, 0, 0)
	runtime.KeepAlive(program)
	if errno != 0 {
		return -1, fmt.Errorf("load a filter: %w", errno)
	}
	return int(fd), nil
}

// notif is the head of struct seccomp_notif, and response is struct
// seccomp_notif_resp, seccomp_unotify(2).
type (
	notif struct {
		id   uint64
		rest [72]byte
	}
	response struct {
		id    uint64
		val   int64
		err   int32
		flags uint32
	}
)

// canAnswer makes the calls of answerAll ahead of it, on a notification that
// does not exist.
func canAnswer(fd int) error {
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err != nil {
		return fmt.Errorf("poll for notifications: %w", err)
	}
	var r response
	if errno := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)); errno != unix.ENOENT {
		return fmt.Errorf("answer a notification: %w", errno)
	}
	return nil
}

// threadKilled is the exit code of a child whose trying thread was killed.
const threadKilled = 3

// answerAll answers every notification. When the thread that tries the calls
// was killed alone, the listener hangs up, and the process must end with it.
func answerAll(fd int) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
		case err != nil:
			giveUp("poll for notifications", err)
		case fds[0].Revents&unix.POLLIN != 0:
			answerOne(fd)
		case fds[0].Revents != 0:
			os.Exit(threadKilled)
		}
	}
}

// answerOne answers one notification. It may be gone by then: a signal that the
// thread got meanwhile makes it ask anew.
func answerOne(fd int) {
	var n notif
	errno := ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n))
	if errno == 0 {
		r := response{id: n.id, err: -passed}
		errno = ioctl(fd, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r))
	}
	if errno != 0 && errno != unix.ENOENT && errno != unix.EINTR {
		giveUp("answer a notification", errno)
	}
}

func giveUp(what string, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v", what, err)
	os.Exit(1)
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) syscall.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return errno
}
