//go:build amd64

package record

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/notify"
)

// denialCase is something that a child does, and the one denial that it means,
// if any.
type denialCase struct {
	run  func() error
	want *Denial
	dies bool // of a signal
}

// By the capability.

// lacking is a case of a call that fails for want of one of the capabilities.
func lacking(errno unix.Errno, call string, caps string, run func(dir string) error) denialCase {
	return denialCase{
		run: func() error {
			dir, victim, _ := strings.Cut(os.Getenv(childArg), "\n")
			os.Setenv("VICTIM", victim)
			if err := dropAll(); err != nil {
				return err
			}
			return run(dir)
		},
		want: &Denial{Syscall: call, ABI: "amd64", Program: "denied", Errno: unix.ErrnoName(errno),
			By: "capability", Capabilities: strings.Fields(caps), Count: 1},
	}
}

// dropAll takes the thread's capabilities away, and sees that they are gone:
// what follows must not be allowed.
func dropAll() error {
	unix.Prctl(unix.PR_SET_NAME, ptr("denied"), 0, 0, 0)
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none, now [2]unix.CapUserData
	if err := unix.Capset(&head, &none[0]); err != nil {
		return err
	}
	if err := unix.Capget(&head, &now[0]); err != nil || now != none {
		return fmt.Errorf("capabilities are left: %v, %v", now, err)
	}
	return nil
}

func expect(want unix.Errno, nr uintptr, args ...uintptr) func(string) error {
	return func(string) error { return raw(want, nr, args...) }
}

func inDir(want unix.Errno, nr uintptr, name string, args ...uintptr) func(string) error {
	return func(dir string) error {
		return raw(want, nr, append([]uintptr{ptr(filepath.Join(dir, name))}, args...)...)
	}
}

// onFile opens a file for reading, then calls with its descriptor.
func onFile(want unix.Errno, name string, nr uintptr, args ...uintptr) func(string) error {
	return func(dir string) error {
		fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return raw(want, nr, append([]uintptr{uintptr(fd)}, args...)...)
	}
}

func onSocket(want unix.Errno, nr uintptr, args ...uintptr) func(string) error {
	return func(string) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		return raw(want, nr, append([]uintptr{uintptr(fd)}, args...)...)
	}
}

func victim() uintptr {
	pid, _ := strconv.Atoi(os.Getenv("VICTIM"))
	return uintptr(pid)
}

func bytesPtr[T any](v *T) uintptr { return uintptr(unsafe.Pointer(v)) }

var (
	someTime  unix.Timespec
	port80    = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: 80 << 8, Addr: [4]byte{127, 0, 0, 1}}
	one       = uint32(1)
	soon      = unix.Utimbuf{Actime: 1, Modtime: 1}
	realTime  = struct{ priority int32 }{1}
	highLimit = unix.Rlimit{Cur: 1 << 30, Max: 1 << 30}
	immutable = uint32(0x10) // FS_IMMUTABLE_FL
	group     = uint32(7)
	handle    = struct {
		size, kind uint32
		data       [8]byte
	}{size: 8, kind: 1}
)

func capabilityCases() map[string]denialCase {
	dir := unix.AT_FDCWD
	here := uintptr(dir)
	return map[string]denialCase{
		"SYS_TIME":        lacking(unix.EPERM, "clock_settime", "SYS_TIME", expect(unix.EPERM, unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, bytesPtr(&someTime))),
		"CHOWN":           lacking(unix.EPERM, "chown", "CHOWN", inDir(unix.EPERM, unix.SYS_CHOWN, "own", 1, 1)),
		"FOWNER":          lacking(unix.EPERM, "chmod", "FOWNER", inDir(unix.EPERM, unix.SYS_CHMOD, "others", 0o600)),
		"FOWNER of utime": lacking(unix.EPERM, "utime", "FOWNER", inDir(unix.EPERM, unix.SYS_UTIME, "readable", bytesPtr(&soon))),
		"SYS_ADMIN mount": lacking(unix.EPERM, "mount", "SYS_ADMIN", func(dir string) error {
			return raw(unix.EPERM, unix.SYS_MOUNT, ptr("none"), ptr(dir), ptr("tmpfs"), 0, 0)
		}),
		"SYS_ADMIN name":   lacking(unix.EPERM, "sethostname", "SYS_ADMIN", expect(unix.EPERM, unix.SYS_SETHOSTNAME, ptr("x"), 1)),
		"SYS_ADMIN ns":     lacking(unix.EPERM, "unshare", "SYS_ADMIN", expect(unix.EPERM, unix.SYS_UNSHARE, unix.CLONE_NEWNS)),
		"SYS_ADMIN xattr":  lacking(unix.EPERM, "setxattr", "SYS_ADMIN", inDir(unix.EPERM, unix.SYS_SETXATTR, "own", ptr("trusted.x"), ptr("y"), 1)),
		"SYS_CHROOT":       lacking(unix.EPERM, "chroot", "SYS_CHROOT", expect(unix.EPERM, unix.SYS_CHROOT, ptr("/"))),
		"SYS_NICE EACCES":  lacking(unix.EACCES, "setpriority", "SYS_NICE", expect(unix.EACCES, unix.SYS_SETPRIORITY, 0, 0, ^uintptr(4))),
		"SYS_NICE":         lacking(unix.EPERM, "sched_setscheduler", "SYS_NICE", expect(unix.EPERM, unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, bytesPtr(&realTime))),
		"SYSLOG":           lacking(unix.EPERM, "syslog", "SYSLOG", expect(unix.EPERM, unix.SYS_SYSLOG, 8, 0, 4)),
		"NET_BIND_SERVICE": lacking(unix.EACCES, "bind", "NET_BIND_SERVICE", onSocket(unix.EACCES, unix.SYS_BIND, bytesPtr(&port80), unsafe.Sizeof(port80))),
		"NET_RAW":          lacking(unix.EPERM, "socket", "NET_RAW", expect(unix.EPERM, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_RAW, 1)),
		"NET_ADMIN":        lacking(unix.EPERM, "setsockopt", "NET_ADMIN NET_RAW", onSocket(unix.EPERM, unix.SYS_SETSOCKOPT, unix.SOL_SOCKET, unix.SO_MARK, bytesPtr(&one), 4)),
		"MKNOD":            lacking(unix.EPERM, "mknod", "MKNOD", inDir(unix.EPERM, unix.SYS_MKNOD, "device", unix.S_IFCHR|0o600, 1<<8|3)),
		"KILL":             lacking(unix.EPERM, "kill", "KILL", func(string) error { return raw(unix.EPERM, unix.SYS_KILL, victim(), 0) }),
		"SYS_PTRACE":       lacking(unix.EPERM, "ptrace", "SYS_PTRACE", func(string) error { return raw(unix.EPERM, unix.SYS_PTRACE, unix.PTRACE_SEIZE, victim(), 0, 0) }),
		"SETUID":           lacking(unix.EPERM, "setuid", "SETUID", expect(unix.EPERM, unix.SYS_SETUID, 5)),
		"SETGID":           lacking(unix.EPERM, "setgroups", "SETGID", expect(unix.EPERM, unix.SYS_SETGROUPS, 1, bytesPtr(&group))),
		"SETPCAP":          lacking(unix.EPERM, "prctl", "SETPCAP", expect(unix.EPERM, unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, 0)),
		"DAC read": lacking(unix.EACCES, "openat", "DAC_OVERRIDE DAC_READ_SEARCH", func(dir string) error {
			return raw(unix.EACCES, unix.SYS_OPENAT, here, ptr(dir+"/others"), unix.O_RDONLY)
		}),
		"DAC write": lacking(unix.EACCES, "openat", "DAC_OVERRIDE", func(dir string) error {
			return raw(unix.EACCES, unix.SYS_OPENAT, here, ptr(dir+"/others"), unix.O_WRONLY)
		}),
		"DAC_READ_SEARCH": lacking(unix.EPERM, "open_by_handle_at", "DAC_READ_SEARCH", expect(unix.EPERM, unix.SYS_OPEN_BY_HANDLE_AT, here, bytesPtr(&handle), 0)),
		"LINUX_IMMUTABLE": lacking(unix.EPERM, "ioctl", "LINUX_IMMUTABLE", onFile(unix.EPERM, "own", unix.SYS_IOCTL, unix.FS_IOC_SETFLAGS, bytesPtr(&immutable))),
		"LEASE":           lacking(unix.EACCES, "fcntl", "LEASE", onFile(unix.EACCES, "readable", unix.SYS_FCNTL, unix.F_SETLEASE, unix.F_RDLCK)),
		"WAKE_ALARM":      lacking(unix.EPERM, "timerfd_create", "WAKE_ALARM", expect(unix.EPERM, unix.SYS_TIMERFD_CREATE, unix.CLOCK_BOOTTIME_ALARM, 0)),
		"SYS_PACCT":       lacking(unix.EPERM, "acct", "SYS_PACCT", expect(unix.EPERM, unix.SYS_ACCT, 0)),
		"SYS_TTY_CONFIG":  lacking(unix.EPERM, "vhangup", "SYS_TTY_CONFIG", expect(unix.EPERM, unix.SYS_VHANGUP)),
		"SYS_RESOURCE":    lacking(unix.EPERM, "setrlimit", "SYS_RESOURCE", raiseLimit),
		"IPC_LOCK":        lacking(unix.EPERM, "mlock", "IPC_LOCK", lockMemory),
		"BPF":             lacking(unix.EPERM, "bpf", "BPF SYS_ADMIN", expect(unix.EPERM, unix.SYS_BPF, unix.BPF_BTF_LOAD, bytesPtr(&[32]byte{}), 32)),
		"PERFMON":         lacking(unix.EACCES, "perf_event_open", "PERFMON SYS_ADMIN", perfEvent),
		"AUDIT_CONTROL":   {},
	}
}

func raiseLimit(string) error {
	low := unix.Rlimit{Cur: 100, Max: 100}
	unix.RawSyscall(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_SIGPENDING, bytesPtr(&low))
	return raw(unix.EPERM, unix.SYS_SETRLIMIT, unix.RLIMIT_SIGPENDING, bytesPtr(&highLimit))
}

func lockMemory(string) error {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	none := unix.Rlimit{}
	unix.RawSyscall(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_MEMLOCK, bytesPtr(&none))
	return raw(unix.EPERM, unix.SYS_MLOCK, bytesPtr(&page[0]), 4096)
}

func perfEvent(string) error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	return raw(unix.EACCES, unix.SYS_PERF_EVENT_OPEN, bytesPtr(&attr), ^uintptr(0), 0, ^uintptr(0), 0)
}

// By a filter.

// filtered is a case under a filter that answers getpgid so.
func filtered(a seccomp.Action, want *Denial, run func() error) denialCase {
	return denialCase{want: want, run: func() error {
		unix.Prctl(unix.PR_SET_NAME, ptr("filtered"), 0, 0, 0)
		listener, err := loadFilter(a)
		if err != nil {
			return err
		}
		if listener != nil {
			go answer(listener, unix.EACCES)
		}
		return run()
	}}
}

func loadFilter(a seccomp.Action) (*os.File, error) {
	target, err := seccomp.Here(capability.Default())
	if err != nil {
		return nil, err
	}
	p := &seccomp.Profile{DefaultAction: seccomp.Allow, Syscalls: []seccomp.SyscallRule{{Names: []string{"getpgid"}, Action: a}}}
	policy, _, err := p.Resolve(target)
	if err != nil {
		return nil, err
	}
	filter, err := seccomp.Compile(policy)
	if err != nil {
		return nil, err
	}
	return filter.Load()
}

// answer lets getpgid(7) succeed, (0, 8) go on, and others fail.
func answer(f *os.File, errno unix.Errno) {
	l, err := notify.New(f)
	if err != nil {
		panic(err)
	}
	notify.Serve(context.Background(), l, 1, func(r *notify.Request) error {
		switch {
		case r.Args[0] == 7:
			return r.Respond(0)
		case r.Args[1] == 8:
			return r.Continue()
		}
		return r.Fail(errno)
	})
}

func denied(errno string, killed bool) *Denial {
	return &Denial{Syscall: "getpgid", ABI: "amd64", Program: "filtered", Errno: errno, By: "seccomp",
		Killed: killed, Count: 1, Args: [6]uint64{1, 2, 3, 4, 5, 6}}
}

// ofThread is a denial in a thread with a name of its own.
func ofThread(d *Denial) *Denial {
	d.Program, d.Thread = "exe", d.Program
	return d
}

func getpgid(want unix.Errno) func() error {
	return func() error { return raw(want, unix.SYS_GETPGID, 1, 2, 3, 4, 5, 6) }
}

func seccompCases() map[string]denialCase {
	cases := map[string]denialCase{
		"EPERM":   filtered(seccomp.Errno(uint16(unix.EPERM)), denied("EPERM", false), getpgid(unix.EPERM)),
		"EACCES":  filtered(seccomp.Errno(uint16(unix.EACCES)), denied("EACCES", false), getpgid(unix.EACCES)),
		"ENOSYS":  filtered(seccomp.Errno(uint16(unix.ENOSYS)), denied("ENOSYS", false), getpgid(unix.ENOSYS)),
		"odd":     filtered(seccomp.Errno(4000), denied("errno 4000", false), getpgid(4000)),
		"success": filtered(seccomp.Errno(0), nil, getpgid(0)),
		"TRACE":   filtered(seccomp.Trace(1), denied("ENOSYS", false), getpgid(unix.ENOSYS)),
		"LOG":     filtered(seccomp.Log, nil, getpgid(0)),
		"TRAP": filtered(seccomp.Trap, denied("", false), func() error {
			handleSIGSYS()
			return getpgidAny()
		}),
		"TRAP kills": filtered(seccomp.Trap, denied("", true), func() error {
			var byDefault [4]uint64
			unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGSYS), bytesPtr(&byDefault), 0, 8, 0, 0)
			return getpgidAny()
		}),
		"KILL_PROCESS": filtered(seccomp.KillProcess, denied("", true), getpgidAny),
		"KILL_THREAD":  {want: ofThread(denied("", true)), run: killThread},
		"NOTIFY":       filtered(seccomp.Notify, denied("EACCES", false), getpgid(unix.EACCES)),
		"NOTIFY success": filtered(seccomp.Notify, nil, func() error {
			return raw(0, unix.SYS_GETPGID, 7)
		}),
		"NOTIFY continue": filtered(seccomp.Notify, nil, func() error {
			return raw(0, unix.SYS_GETPGID, 0, 8)
		}),
		"other ABI": filtered(seccomp.Errno(uint16(unix.EPERM)),
			&Denial{Syscall: "getppid", ABI: "x86", Program: "filtered", By: "seccomp", Killed: true, Count: 1, Args: [6]uint64{1, 2, 3}},
			func() error { return killedThread(func() { int80()(64, 1, 2, 3) }) }),
	}
	for _, dies := range []string{"TRAP kills", "KILL_PROCESS"} {
		c := cases[dies]
		c.dies = true
		cases[dies] = c
	}
	return cases
}

func getpgidAny() error {
	unix.RawSyscall6(unix.SYS_GETPGID, 1, 2, 3, 4, 5, 6)
	return nil
}

// handleSIGSYS sets a handler that does nothing.
func handleSIGSYS() {
	handler := machineCode(0xc3)                                       // ret
	restorer := machineCode(0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05) // rt_sigreturn
	addr := func(f func(a, b, c, d uintptr) uintptr) uint64 { return uint64(**(**uintptr)(unsafe.Pointer(&f))) }
	action := [4]uint64{addr(handler), 0x4 | 0x08000000 | 0x04000000, addr(restorer), 0} // SA_SIGINFO, ONSTACK, RESTORER
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGSYS), bytesPtr(&action), 0, 8, 0, 0)
}

func killThread() error {
	return killedThread(func() {
		unix.Prctl(unix.PR_SET_NAME, ptr("filtered"), 0, 0, 0)
		if _, err := loadFilter(seccomp.KillThread); err != nil {
			panic(err)
		}
		getpgidAny()
	})
}

// killedThread runs a function that ends a thread, with those of the caller's
// filters that it has, and waits until the thread is gone.
func killedThread(run func()) error {
	tid := make(chan int, 1)
	if filters, _ := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); filters != 0 {
		// This thread is the one with the filter, so it goes.
		go func() {
			if waitGone(<-tid) == nil {
				os.Exit(0)
			}
		}()
		tid <- unix.Gettid()
		run()
		return fmt.Errorf("the thread lives")
	}
	go func() {
		runtime.LockOSThread()
		tid <- unix.Gettid()
		run()
		fmt.Fprintln(os.Stderr, "the thread lives")
		os.Exit(1)
	}()
	return waitGone(<-tid)
}

// waitGone waits until a thread has ended. The first one of a process stays,
// as a zombie.
func waitGone(tid int) error {
	for range 2000 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("thread %d does not end", tid)
}

// Not denied.

func innocentCases() map[string]denialCase {
	harmless := seccomp.Errno(uint16(unix.EPERM))
	return map[string]denialCase{
		"fork": filtered(harmless, nil, func() error {
			for _, nr := range []uintptr{unix.SYS_CLONE, unix.SYS_FORK} {
				pid, _, errno := forkAnd(nr, uintptr(unix.SIGCHLD), 0)
				if errno != 0 {
					return errno
				}
				unix.Wait4(int(pid), nil, 0, nil)
			}
			return nil
		}),
		"vfork and exec": filtered(harmless, nil, func() error { return exec.Command("/bin/true").Run() }),
		"errors": filtered(harmless, nil, func() error {
			unix.RawSyscall(unix.SYS_SETPGID, 1, 1, 0) // EPERM or ESRCH without a capability
			unix.RawSyscall(unix.SYS_CLOSE, 999, 0, 0)
			unix.RawSyscall(5000, 0, 0, 0) // ENOSYS
			_, err := net.Dial("tcp", "127.0.0.1:1")
			if err == nil {
				return fmt.Errorf("somebody listens")
			}
			return nil
		}),
		"signals": filtered(harmless, nil, signalMode),
		"exec of another thread": {run: func() error {
			go func() {
				runtime.LockOSThread()
				if _, err := loadFilter(seccomp.KillThread); err != nil {
					panic(err)
				}
				unix.Exec("/bin/true", []string{"true"}, nil)
			}()
			time.Sleep(10 * time.Second)
			return fmt.Errorf("the program was not executed")
		}},
		"exit_group": filtered(harmless, nil, func() error {
			go func() { runtime.LockOSThread(); unix.Pause() }()
			os.Exit(0)
			return nil
		}),
		"killed by SIGSYS": {dies: true, run: func() error {
			var byDefault [4]uint64
			unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGSYS), bytesPtr(&byDefault), 0, 8, 0, 0)
			return unix.Kill(unix.Getpid(), unix.SIGSYS)
		}},
		"traced":   filtered(harmless, nil, traced),
		"emulated": {run: emulated},
	}
}

// signalMode interrupts calls with signals: EINTR, and those that restart.
func signalMode() error {
	self, thread := unix.Getpid(), unix.Gettid()
	stop := make(chan bool)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				unix.Tgkill(self, thread, unix.SIGURG)
			}
		}
	}()
	for range 20 {
		ms := unix.Timespec{Nsec: 5e6}
		unix.RawSyscall(unix.SYS_NANOSLEEP, bytesPtr(&ms), 0, 0) // ERESTART_RESTARTBLOCK
		unix.RawSyscall(unix.SYS_POLL, 0, 0, 5)
	}
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil {
		return err
	}
	go func() { time.Sleep(20 * time.Millisecond); unix.Write(fds[1], []byte{1}) }()
	var b [1]byte
	unix.RawSyscall(unix.SYS_READ, uintptr(fds[0]), bytesPtr(&b), 1) // ERESTARTSYS
	close(stop)
	return nil
}

// traced runs a program step by step of its system calls.
func traced() error { return trace(unix.PTRACE_SYSCALL) }

// emulated runs a program whose calls the tracer takes over: none happens.
func emulated() error { return trace(31) } // PTRACE_SYSEMU

func trace(request uintptr) error {
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	unix.Wait4(pid, nil, 0, nil)
	for range 20 {
		if err := raw(0, unix.SYS_PTRACE, request, uintptr(pid), 0, 0); err != nil {
			return err
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || status.Exited() {
			return err
		}
	}
	return unix.Kill(pid, unix.SIGKILL)
}

func denialModes() map[string]func() error {
	all := map[string]func() error{}
	for kind, cases := range denialCases() {
		for name, c := range cases {
			all[kind+"/"+name] = c.run
		}
	}
	return all
}

func denialCases() map[string]map[string]denialCase {
	return map[string]map[string]denialCase{
		"capability": capabilityCases(), "seccomp": seccompCases(), "none": innocentCases(),
	}
}

func TestDenials(t *testing.T) {
	r := recorder(t)
	dir, pid := files(t), victimOf(t)
	eachCase(t, func(t *testing.T, name string, c denialCase) {
		child := startChild(t, name, nil, dir, strconv.Itoa(pid))
		s := start(t, r, Target{PID: child.pid})
		if err := child.end(); (err != nil) != c.dies {
			t.Fatalf("the child: %v: %s", err, child.errs.String())
		}
		rec := stop(t, s)
		complete(t, rec)
		checkDenials(t, rec, c.want)
		if c.want == nil {
			return
		}
		call := find(rec, c.want.ABI, c.want.Syscall)
		if c.want.By == "seccomp" && (call.Blocked != 1 || call.Count != 0) || c.want.By == "capability" && call.Blocked != 0 {
			t.Errorf("counts: %+v", call)
		}
	})
}

// victimOf starts a process of another user, and gives its number.
func victimOf(t *testing.T) int {
	t.Helper()
	victim := exec.Command("/bin/sleep", "100")
	victim.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { victim.Process.Kill(); victim.Wait() })
	return victim.Process.Pid
}

// eachCase runs a test for each case; name is the mode of its child.
func eachCase(t *testing.T, test func(t *testing.T, name string, c denialCase)) {
	for kind, cases := range denialCases() {
		for name, c := range cases {
			if c.run != nil {
				t.Run(kind+"/"+name, func(t *testing.T) { test(t, kind+"/"+name, c) })
			}
		}
	}
}

// files makes a directory with files of this and another user.
func files(t *testing.T) string {
	dir := t.TempDir()
	for d := dir; d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	for _, f := range []struct {
		name string
		mode os.FileMode
		uid  int
	}{{"own", 0o644, 0}, {"others", 0o600, 65534}, {"readable", 0o644, 65534}} {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path, []byte("x"), f.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, f.uid, f.uid); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func checkDenials(t *testing.T, rec *Recording, want *Denial) {
	t.Helper()
	if want == nil {
		if len(rec.Denials) > 0 {
			t.Errorf("denials: %+v, want none", rec.Denials)
		}
		return
	}
	if len(rec.Denials) != 1 {
		t.Fatalf("denials: %+v, want one: %+v", rec.Denials, want)
	}
	got := rec.Denials[0]
	if got.PID <= 0 || got.After <= 0 {
		t.Errorf("process %d after %v", got.PID, got.After)
	}
	got.PID, got.After = 0, 0
	if got.ABI == "x86" {
		clear(got.Args[3:]) // registers that the test leaves alone
	}
	if want.By == "capability" {
		got.Args = want.Args // addresses
		slices.Sort(got.Capabilities)
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", *want) {
		t.Errorf("denied:\n%+v, want\n%+v", got, *want)
	}
}
