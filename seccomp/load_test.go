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
}

func loadChild(mode string) {
	runtime.LockOSThread()
	if err := loadModes[mode](); err != nil {
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

func loadNotify() error { return notify(FlagWaitKillableRecv) }

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
