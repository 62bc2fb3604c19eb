package seccomp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/bpf"
)

// loadMode makes the test binary a child that loads a filter into itself: one
// of loadModes.
const loadMode = "SECCOMP_TEST_LOAD"

var loadModes = map[string]func() error{
	"thread": loadThread, "tsync": loadTSync, "notify": loadNotify, "notify tsync": loadNotifyTSync, "refused": loadRefused,
	"tsync diverged": loadTSyncDiverged, "speculation": loadSpeculation,
}

func loadChild(mode string) {
	runtime.LockOSThread()
	load := loadModes[mode]
	if load == nil {
		load = func() error { return loadNested(mode) }
	}
	if err := load(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func TestLoad(t *testing.T) {
	skipWithoutTable(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for mode := range loadModes {
		t.Run(mode, func(t *testing.T) {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), loadMode+"="+mode)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// filterFor makes the filter of a profile that allows all but getpgid, for
// this process.
func filterFor(a Action, flags Flags) (*Filter, error) {
	target, err := Here(capability.Default())
	if err != nil {
		return nil, err
	}
	p := &Profile{DefaultAction: Allow, Flags: flags, Syscalls: []SyscallRule{{Names: []string{"getpgid"}, Action: a}}}
	policy, _, err := p.Resolve(target)
	if err != nil {
		return nil, err
	}
	return Compile(policy)
}

func getpgid() (uintptr, unix.Errno) {
	r, _, errno := unix.RawSyscall(unix.SYS_GETPGID, 0, 0, 0)
	return r, errno
}

// elsewhere calls getpgid on another thread, which exists already.
type elsewhere struct{ ask, answer chan unix.Errno }

func newElsewhere() elsewhere {
	e := elsewhere{make(chan unix.Errno), make(chan unix.Errno)}
	go func() {
		runtime.LockOSThread()
		for range e.ask {
			_, errno := getpgid()
			e.answer <- errno
		}
	}()
	e.getpgid() // the thread is there when this returns
	return e
}

func (e elsewhere) getpgid() unix.Errno {
	e.ask <- 0
	return <-e.answer
}

func loadThread() error {
	other := newElsewhere()
	f, err := filterFor(Errno(99), FlagLog|FlagSpecAllow)
	if err != nil {
		return err
	}
	if listener, err := f.Load(); err != nil || listener != nil {
		return fmt.Errorf("load: %v, listener %v", err, listener)
	}
	if _, errno := getpgid(); errno != 99 {
		return fmt.Errorf("getpgid: %v", errno)
	}
	if errno := other.getpgid(); errno != 0 {
		return fmt.Errorf("getpgid on another thread: %v", errno)
	}
	if mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); mode != 2 || err != nil {
		return fmt.Errorf("mode %d, %v", mode, err)
	}
	if nnp, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); nnp != 1 || err != nil {
		return fmt.Errorf("no_new_privs %d, %v", nnp, err)
	}
	return nil
}

func loadTSync() error {
	other := newElsewhere()
	f, err := filterFor(Errno(98), FlagTSync)
	if err != nil {
		return err
	}
	if _, err := f.Load(); err != nil {
		return err
	}
	if errno := other.getpgid(); errno != 98 {
		return fmt.Errorf("getpgid on another thread: %v", errno)
	}
	return nil
}

// loadTSyncDiverged holds that a filter for all threads is for none if one of
// them has a filter that the caller has not.
func loadTSyncDiverged() error {
	loaded, stop := make(chan error), make(chan struct{})
	defer close(stop)
	var tid int
	go func() {
		runtime.LockOSThread()
		tid = unix.Gettid()
		f, err := filterFor(Errno(97), 0)
		if err == nil {
			_, err = f.Load()
		}
		loaded <- err
		<-stop
	}()
	if err := <-loaded; err != nil {
		return err
	}
	for a, want := range map[Action]string{Errno(98): fmt.Sprintf("thread %d has another filter", tid), Notify: unix.ESRCH.Error()} {
		f, err := filterFor(a, FlagTSync)
		if err != nil {
			return err
		}
		if listener, err := f.Load(); listener != nil || err == nil || !strings.Contains(err.Error(), want) {
			return fmt.Errorf("%v: %v, %w; want %s", a, listener, err, want)
		}
		if _, errno := getpgid(); errno != 0 {
			return fmt.Errorf("%v: getpgid: %v", a, errno)
		}
	}
	return nil
}

// loadSpeculation holds that SPEC_ALLOW leaves the state of speculation as it is.
func loadSpeculation() error {
	state := func() (s [3]int) {
		for which := range s {
			s[which], _ = unix.PrctlRetInt(unix.PR_GET_SPECULATION_CTRL, uintptr(which), 0, 0, 0)
		}
		return s
	}
	before := state()
	f, err := filterFor(Errno(96), FlagSpecAllow)
	if err != nil {
		return err
	}
	if _, err := f.Load(); err != nil {
		return err
	}
	if after := state(); after != before {
		return fmt.Errorf("speculation was %v and is %v", before, after)
	}
	return nil
}

// loadNested loads filters for getpgid with these actions, one after the other,
// calls it and prints what came of that.
func loadNested(actions string) error {
	for _, text := range strings.Split(actions, ",") {
		name, flag, _ := strings.Cut(text, "+")
		a, flags := nestedActions[name], Flags(0)
		if flag != "" {
			flags = FlagLog
		}
		f, err := filterFor(a, flags)
		if err != nil {
			return err
		}
		listener, err := f.Load()
		if errors.Is(err, unix.EBUSY) {
			fmt.Print("one listener is enough")
			return nil
		} else if err != nil {
			return err
		}
		if listener != nil {
			go serve(listener)
		}
	}
	r, errno := getpgid()
	switch {
	case errno != 0:
		fmt.Print(errno)
	case r == 4242:
		fmt.Print("notified")
	default:
		fmt.Print("allowed")
	}
	return nil
}

var nestedActions = map[string]Action{
	"ALLOW": Allow, "LOG": Log, "TRACE": Trace(1), "NOTIFY": Notify, "ERRNO 5": Errno(5), "ERRNO 6": Errno(6), "TRAP": Trap, "KILL_PROCESS": KillProcess,
}

// Of several filters the strictest decides, in whatever order they were
// loaded, and of equal ones the youngest.
func TestLoadNested(t *testing.T) {
	skipWithoutTable(t)
	strict := []struct{ action, outcome string }{
		{"ALLOW", "allowed"}, {"LOG", "allowed"}, {"TRACE", unix.ENOSYS.Error()}, {"NOTIFY", "notified"},
		{"ERRNO 5", unix.Errno(5).Error()}, {"ERRNO 6", unix.Errno(6).Error()}, {"TRAP", "exit status 2"}, {"KILL_PROCESS", "signal: bad system call"},
	}
	kind := func(action string) string { return strings.Fields(action)[0] }
	for i, first := range strict {
		for j, second := range strict {
			want := strict[max(i, j)].outcome
			switch {
			case first.action == "NOTIFY" && second.action == "NOTIFY":
				want = "one listener is enough"
			case kind(first.action) == kind(second.action):
				want = second.outcome
			}
			if got, _ := nested(t, first.action+","+second.action); got != want {
				t.Errorf("%s, then %s: %s, want %s", first.action, second.action, got, want)
			}
		}
	}
	if got, _ := nested(t, "ALLOW,ERRNO 5,LOG,NOTIFY,ALLOW"); got != unix.Errno(5).Error() {
		t.Errorf("five filters: %s", got)
	}
}

// nested runs a child under filters with these actions, and returns what came
// of its call and its number.
func nested(t *testing.T, actions string) (outcome string, pid int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), loadMode+"="+actions)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case err != nil && strings.HasPrefix(stderr.String(), "SIGSYS") || cmd.ProcessState != nil && !cmd.ProcessState.Exited():
		return err.Error(), cmd.Process.Pid
	case err != nil:
		t.Fatalf("%s: %v: %s", actions, err, stderr.String())
	}
	return string(out), cmd.Process.Pid
}

// The flag LOG makes the kernel report what a filter refuses, to the audit log.
func TestLoadLog(t *testing.T) {
	skipWithoutTable(t)
	logged, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_logged")
	if err != nil || !slices.Contains(strings.Fields(string(logged)), "errno") {
		t.Skipf("this machine logs no errors of filters: %s %v", logged, err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_AUDIT)
	if err != nil {
		t.Skipf("no audit log: %v", err)
	}
	defer unix.Close(fd)
	const readLog = 1 // AUDIT_NLGRP_READLOG, include/uapi/linux/audit.h
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: readLog}); err != nil {
		t.Skipf("no audit log: %v", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60}); err != nil {
		t.Fatal(err)
	}
	_, silent := nested(t, "ERRNO 5")
	_, loud := nested(t, "ERRNO 5+LOG")
	field := func(pid int) string { return fmt.Sprintf(" pid=%d ", pid) }
	for buf := make([]byte, 9000); ; { // records come in the order of the calls
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			t.Fatalf("read the audit log: %v", err)
		}
		text := string(buf[:n])
		if strings.Contains(text, field(silent)) {
			t.Errorf("logged without the flag: %q", text)
		}
		if strings.Contains(text, field(loud)) {
			if !strings.Contains(text, fmt.Sprintf(" syscall=%d ", unix.SYS_GETPGID)) || !strings.Contains(text, fmt.Sprintf(" code=%#x", uint32(Errno(0)))) {
				t.Errorf("record %q", text)
			}
			return
		}
	}
}

func loadNotify() error {
	s, err := Supported()
	if err != nil {
		return err
	}
	return notify(s.Flags & FlagWaitKillableRecv) // from Linux 5.19
}

func loadNotifyTSync() error { return notify(FlagTSync) }

// notify answers a call in place of the kernel, from a thread that makes no
// such call itself.
func notify(flags Flags) error {
	f, err := filterFor(Notify, flags)
	if err != nil {
		return err
	}
	listener, err := f.Load()
	if err != nil {
		return err
	}
	if listener == nil {
		return errors.New("no listener")
	}
	var wait sync.WaitGroup
	var served error
	wait.Go(func() { served = serve(listener) })
	r, errno := getpgid()
	wait.Wait()
	if served != nil || errno != 0 || r != 4242 {
		return fmt.Errorf("getpgid: %d, %v; listener: %v", r, errno, served)
	}
	return nil
}

// serve answers one notification with 4242; see seccomp_unotify(2).
func serve(listener *os.File) error {
	const recv, send = 0xc0502100, 0xc0182101
	var note struct {
		ID         uint64
		PID, Flags uint32
		Data       bpf.Data
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, listener.Fd(), recv, uintptr(unsafe.Pointer(&note))); errno != 0 {
		return fmt.Errorf("receive: %w", errno)
	}
	if note.Data.Nr != unix.SYS_GETPGID {
		return fmt.Errorf("notified of call %d", note.Data.Nr)
	}
	answer := struct {
		ID         uint64
		Value      int64
		Err, Flags int32
	}{ID: note.ID, Value: 4242}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, listener.Fd(), send, uintptr(unsafe.Pointer(&answer))); errno != 0 {
		return fmt.Errorf("answer: %w", errno)
	}
	return nil
}

// loadRefused holds that what cannot be loaded is not, and says why.
func loadRefused() error {
	good, err := filterFor(Errno(1), 0)
	if err != nil {
		return err
	}
	for want, f := range map[string]*Filter{
		"program of 0 instructions":    {},
		"program of 5000 instructions": {Program: make([]bpf.Instruction, 5000)},
		// 65537 instructions would be 1 in the kernel's 16 bits.
		"program of 65537 instructions":     {Program: slices.Repeat(good.Program[len(good.Program)-1:], 65537)},
		"lacks the seccomp flag 0x40000000": {Program: good.Program, Flags: 1 << 30},
		"lacks the seccomp action 0x7":      {Program: []bpf.Instruction{{Op: bpf.RetK, K: 0x70000000}}},
		"invalid argument":                  {Program: []bpf.Instruction{{Op: bpf.LdAbs}}},
	} {
		if _, err := f.Load(); err == nil || !strings.Contains(err.Error(), want) {
			return fmt.Errorf("%s: %w", want, err)
		}
	}
	if mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); mode != 0 || err != nil {
		return fmt.Errorf("mode %d, %v", mode, err)
	}
	return nil
}

func TestSupported(t *testing.T) {
	s, err := Supported()
	if err != nil {
		t.Fatal(err)
	}
	// The oldest kernel that Brig runs on, 5.14, has all but one flag.
	for _, a := range []Action{Allow, Errno(3), KillProcess, KillThread, Trap, Trace(1), Log, Notify} {
		if !s.Has(a) {
			t.Errorf("no %v", a)
		}
	}
	if s.Has(0x70000000) || len(s.Actions) != 8 {
		t.Errorf("actions %v", s.Actions)
	}
	if want := FlagTSync | FlagLog | FlagSpecAllow | FlagNewListener | FlagTSyncESRCH; s.Flags&want != want || s.Flags&^(want|FlagWaitKillableRecv) != 0 {
		t.Errorf("flags %v", s.Flags)
	}
	kernel, err := RunningKernel()
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Flags&FlagWaitKillableRecv != 0; got != kernel.AtLeast(KernelVersion{5, 19}) {
		t.Errorf("WAIT_KILLABLE_RECV: %v on kernel %v", got, kernel)
	}
}
