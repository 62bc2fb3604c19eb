//go:build amd64

package record

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func countModes() map[string]func() error {
	return map[string]func() error{
		"exec":      func() error { return unix.Exec(os.Getenv(childArg), []string{"program"}, nil) },
		"threads":   threadsMode,
		"processes": processesMode,
		"phases":    phasesMode,
		"i386": func() error {
			call := int80()
			for range 5 {
				call(64, 0, 0, 0)
			}
			repeat(3, unix.SYS_GETPPID)
			return nil
		},
		"odd": func() error {
			for _, nr := range []uintptr{1000, 0x3fffffff, 638, 639, 640, 1<<30 | unix.SYS_GETPPID, 1<<30 | 5000} {
				repeat(2, nr)
			}
			call := int80()
			call(777, 0, 0, 0)
			return nil
		},
		"args":   argsMode,
		"signal": signalMode,
	}
}

// threadsMode makes 1,000 calls in each of 8 threads.
func threadsMode() error {
	unix.Prctl(unix.PR_SET_NAME, ptr("first"), 0, 0, 0)
	repeat(1, unix.SYS_GETPPID)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			runtime.LockOSThread()
			repeat(1000, unix.SYS_GETPPID)
		})
	}
	all.Wait()
	return nil
}

// processesMode makes 100 calls in each of 20 processes, by way of exec.
func processesMode() error {
	for range 20 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{childMode + "=threads"}
		cmd.Stdin = nil
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

func phasesMode() error {
	repeat(3, unix.SYS_GETPPID)
	fmt.Println("phase")
	var b [1]byte
	syscall.Read(0, b[:])
	repeat(4, unix.SYS_GETPPID)
	repeat(1, unix.SYS_GETPGID)
	return nil
}

func TestThreads(t *testing.T) {
	c := startChild(t, "threads", nil)
	s := start(t, recorder(t), Target{PID: c.pid})
	repeat(500, unix.SYS_GETPPID) // ours
	c.mustEnd()
	rec := stop(t, s)
	complete(t, rec)
	got := find(rec, "amd64", "getppid")
	if got.Count != 8001 || got.Startup != 8001 || got.Running != 0 || got.Blocked != 0 {
		t.Errorf("getppid: %+v, want 8001 at startup", got)
	}
	if got.FirstProgram != "first" || got.FirstPID != c.pid || got.FirstAfter <= 0 {
		t.Errorf("first: %+v, want program first of process %d", got, c.pid)
	}
	if rec.Kernel == "" || rec.Machine != "amd64" || rec.Version != 1 || !rec.Ended.After(rec.Started) {
		t.Errorf("recording: %+v", rec)
	}
}

func TestProcesses(t *testing.T) {
	rec := recordChild(t, "processes")
	complete(t, rec)
	if got := find(rec, "amd64", "getppid").Count; got != 20*8001 {
		t.Errorf("getppid: %d calls, want %d", got, 20*8001)
	}
	if got := find(rec, "amd64", "execve").Count; got != 20 {
		t.Errorf("execve: %d calls, want 20", got)
	}
}

// TestForkStorm counts all calls of 10,004 processes exactly.
func TestForkStorm(t *testing.T) {
	rec := recordProgram(t, program(t, 64, stormCode...))
	complete(t, rec)
	want := map[string]uint64{"fork": 10003, "wait4": 10000, "getppid": 10000, "exit": 10004}
	for _, call := range rec.Syscalls {
		if call.Count != want[call.Name] || call.ABI != "amd64" {
			t.Errorf("%s %s: %d calls, want %d", call.ABI, call.Name, call.Count, want[call.Name])
		}
		delete(want, call.Name)
	}
	if len(want) > 0 || len(rec.Denials) > 0 {
		t.Errorf("not seen: %v; denials %+v", want, rec.Denials)
	}
}

// TestInFlight: the call that the child waits in is not recorded.
func TestInFlight(t *testing.T) {
	c := startChild(t, "phases", nil)
	s := start(t, recorder(t), Target{PID: c.pid})
	c.let()
	if line, err := c.out.ReadString('\n'); line != "phase\n" {
		t.Fatal(line, err)
	}
	waitSleeping(t, c.pid)
	if got, err := s.Snapshot(); err != nil || find(got, "amd64", "read").Count != 1 || find(got, "amd64", "getppid").Count != 3 {
		t.Errorf("snapshot: %+v, %v", got.Syscalls, err)
	}
	if err := s.Ready(); err != nil {
		t.Fatal(err)
	}
	c.mustEnd()
	rec := stop(t, s)
	if got := find(rec, "amd64", "read"); got.Count != 1 || got.Startup != 1 {
		t.Errorf("read: %+v, want 1: the one in flight is left out", got)
	}
	if got := find(rec, "amd64", "getppid"); got.Startup != 3 || got.Running != 4 || got.Count != 7 {
		t.Errorf("getppid: %+v, want 3 and 4", got)
	}
	if got := find(rec, "amd64", "getpgid"); got.Startup != 0 || got.Running != 1 {
		t.Errorf("getpgid: %+v, want 0 and 1", got)
	}
}

func TestI386(t *testing.T) {
	rec := recordChild(t, "i386")
	if got := find(rec, "x86", "getppid").Count; got != 5 {
		t.Errorf("getppid of x86: %d, want 5", got)
	}
	if got := find(rec, "amd64", "getppid").Count; got != 3 {
		t.Errorf("getppid of amd64: %d, want 3", got)
	}
	if got := find(rec, "amd64", "semget").Count; got != 0 {
		t.Errorf("semget, which has the number of x86's getppid: %d, want 0", got)
	}
}

func TestI386Program(t *testing.T) {
	rec := recordProgram(t, program(t, 32, i386Code...))
	complete(t, rec)
	if len(rec.Syscalls) != 2 || find(rec, "x86", "getppid").Count != 7 || find(rec, "x86", "exit").Count != 1 {
		t.Errorf("calls: %+v, want getppid 7 and exit 1 of x86", rec.Syscalls)
	}
	if got := find(rec, "x86", "getppid").FirstProgram; got != "program" {
		t.Errorf("first program: %q", got)
	}
}

func TestOddNumbers(t *testing.T) {
	rec := recordChild(t, "odd")
	got := map[string]uint64{}
	for _, call := range rec.Syscalls {
		if call.Name == "" || call.ABI != "amd64" {
			got[call.ABI+" "+strconv.FormatUint(uint64(call.Nr), 16)+call.Name] = call.Count
		}
	}
	want := map[string]uint64{
		"amd64 3e8": 2, "amd64 3fffffff": 2, "amd64 27e": 2, "amd64 27f": 2, "amd64 280": 2,
		"x32 4000006egetppid": 2, "x32 40001388": 2, "x86 309": 1,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	complete(t, rec)
}
