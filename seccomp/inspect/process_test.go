package inspect

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// processMode makes the test binary a child of one of the kinds below.
const processMode = "SECCOMP_TEST_PROCESS"

func init() {
	mode := os.Getenv(processMode)
	if mode == "" {
		return
	}
	runtime.LockOSThread()
	err := map[string]func() error{
		"held": loadHeld, "reader": readForever, "filtered reader": readFiltered, "tracer": traceForever,
	}[mode]()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// targetTID tells a child which thread it has to do with.
const targetTID = "SECCOMP_TEST_TID"

func targetThread() int {
	tid, _ := strconv.Atoi(os.Getenv(targetTID))
	return tid
}

// counted is a signal that held.c counts and of which each is delivered,
// however many wait.
const counted = unix.Signal(40)

// filterFor makes the filter of a profile that allows all but getpgid, for
// this process.
func filterFor(a seccomp.Action, flags seccomp.Flags) (*seccomp.Filter, error) {
	target, err := seccomp.Here(capability.Default())
	if err != nil {
		return nil, err
	}
	p := &seccomp.Profile{DefaultAction: seccomp.Allow, Flags: flags, Syscalls: []seccomp.SyscallRule{{Names: []string{"getpgid"}, Action: a}}}
	policy, _, err := p.Resolve(target)
	if err != nil {
		return nil, err
	}
	return seccomp.Compile(policy)
}

// heldFilters are those that loadHeld loads, the oldest first.
func heldFilters() ([]*seccomp.Filter, error) {
	var list []*seccomp.Filter
	for i, flags := range []seccomp.Flags{0, seccomp.FlagLog, seccomp.FlagSpecAllow} {
		f, err := filterFor(seccomp.Errno(uint16(10+i)), flags)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// heldProgram tells a child what to run.
const heldProgram = "SECCOMP_TEST_PROGRAM"

// loadHeld loads three filters and becomes the program held.c.
func loadHeld() error {
	filters, err := heldFilters()
	if err != nil {
		return err
	}
	if os.Getenv("SECCOMP_TEST_UNFILTERED") == "" {
		for _, f := range filters {
			if _, err := f.Load(); err != nil {
				return err
			}
		}
	}
	path := os.Getenv(heldProgram)
	return unix.Exec(path, []string{path}, nil)
}

func readForever() error {
	for {
		filters, err := OfThread(targetThread())
		if err != nil {
			return err
		}
		fmt.Println(len(filters))
	}
}

func readFiltered() error {
	f, err := filterFor(seccomp.Errno(1), seccomp.FlagTSync)
	if err != nil {
		return err
	}
	if _, err := f.Load(); err != nil {
		return err
	}
	_, err = OfThread(targetThread())
	fmt.Println(err)
	return nil
}

func traceForever() error {
	runtime.LockOSThread()
	if err := ptrace(unix.PTRACE_SEIZE, targetThread(), 0, 0); err != nil {
		return err
	}
	fmt.Println("traced")
	for {
		unix.Pause()
	}
}

// child is this test binary in one of the modes above.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(t *testing.T, mode string, env ...string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: exec.Command(self)}
	c.cmd.Env = append(append(os.Environ(), processMode+"="+mode), env...)
	c.cmd.Stderr = os.Stderr
	c.in, err = c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
	return c
}

// line returns the next line that the child prints.
func (c *child) line() string {
	c.t.Helper()
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatalf("the child ended: %v", err)
	}
	return strings.TrimSpace(line)
}

func skipWithoutTable(t *testing.T) {
	t.Helper()
	if _, ok := syscalls.Native(); !ok {
		t.Skip("no table of system calls for this architecture")
	}
}

// held starts a process with three filters and returns the ID of its thread.
func held(t *testing.T, env ...string) (*child, int) {
	t.Helper()
	skipWithoutTable(t)
	program := filepath.Join(t.TempDir(), "held")
	if text, err := exec.Command("gcc", "-O1", "-Wall", "-Werror", "-o", program, "testdata/held.c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	c := startChild(t, "held", append(env, heldProgram+"="+program)...)
	tid, err := strconv.Atoi(c.line())
	if err != nil {
		t.Fatal(err)
	}
	return c, tid
}

// finish lets a held process end, which it must do with so many signals.
func (c *child) finish(signals int) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, "\n"); err != nil {
		c.t.Fatal(err)
	}
	if got, want := c.line(), fmt.Sprintf("signals: %d", signals); got != want {
		c.t.Errorf("got %s, want %s", got, want)
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Error(err)
	}
}

// state returns the letter of /proc/PID/stat.
func state(t *testing.T, tid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "State:\t")
	return rest[:1]
}

func TestOfThread(t *testing.T) {
	c, tid := held(t)
	want, err := heldFilters()
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(want)
	for range 20 {
		got, err := OfThread(tid)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("%d filters, want %d", len(got), len(want))
		}
		for i := range want {
			if !slices.Equal(got[i].Program, want[i].Program) || got[i].Flags != want[i].Flags&seccomp.FlagLog {
				t.Errorf("filter %d: %+v, want %+v", i, got[i], want[i])
			}
		}
	}
	if tracer, err := statusField(tid, "TracerPid:"); err != nil || tracer != 0 {
		t.Errorf("still traced by %d, %v", tracer, err)
	}
	c.finish(0)
	if _, err := OfThread(tid); err == nil || !strings.Contains(err.Error(), "no such process") {
		t.Errorf("a process that is gone: %v", err)
	}
}

func TestOfThreadWithoutFilter(t *testing.T) {
	c, tid := held(t, "SECCOMP_TEST_UNFILTERED=1")
	if got, err := OfThread(tid); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	c.finish(0)
}

// A stopped process stays stopped and then goes on as ever.
func TestOfThreadStopped(t *testing.T) {
	c, tid := held(t)
	if err := c.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(c.cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatal(err, status)
	}
	if got, err := OfThread(tid); err != nil || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
	for state(t, tid) != "T" { // the thread of ptrace may still be going
		runtime.Gosched()
	}
	if err := c.cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.finish(0)
}

// No signal that arrives meanwhile is lost.
func TestOfThreadKeepsSignals(t *testing.T) {
	c, tid := held(t)
	const count = 300
	sent := make(chan error)
	go func() {
		var err error
		for range count {
			err = errors.Join(err, unix.Tgkill(c.cmd.Process.Pid, tid, counted))
			runtime.Gosched()
		}
		sent <- err
	}()
	reads := 0
	for done := false; !done || reads < 20; reads++ {
		select {
		case err := <-sent:
			if done = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
		if got, err := OfThread(tid); err != nil || len(got) != 3 {
			t.Fatalf("%v, %v", got, err)
		}
	}
	c.finish(count)
}

// The process outlives a reader that is killed in the middle.
func TestOfThreadReaderKilled(t *testing.T) {
	c, tid := held(t)
	for range 5 {
		r := startChild(t, "reader", fmt.Sprintf("%s=%d", targetTID, tid))
		if got := r.line(); got != "3" {
			t.Fatalf("read %q", got)
		}
		r.cmd.Process.Kill()
		r.cmd.Wait()
	}
	c.finish(0)
}

func TestOfThreadErrors(t *testing.T) {
	c, tid := held(t)
	env := fmt.Sprintf("%s=%d", targetTID, tid)
	if got := startChild(t, "filtered reader", env).line(); !strings.Contains(got, "has no filter itself") {
		t.Errorf("a reader with a filter: %s", got)
	}
	tracer := startChild(t, "tracer", env)
	tracer.line()
	_, err := OfThread(tid)
	if want := fmt.Sprintf("read the seccomp filters of process %d: process %d traces it already", tid, tracer.cmd.Process.Pid); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	tracer.cmd.Process.Kill()
	tracer.cmd.Wait()
	c.finish(0)
}
