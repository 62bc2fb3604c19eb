//go:build amd64

package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Children are this test binary, told by an environment variable what to do. A
// child says that it is there, waits until the recording has begun, and goes on.
const (
	childMode = "RECORD_TEST_CHILD"
	childArg  = "RECORD_TEST_ARG"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		os.Exit(childMain(mode))
	}
	status := m.Run()
	if sharedOpened {
		if r, err := shared(); err == nil {
			r.Close()
		}
	}
	os.Exit(status)
}

// modes are what children do, by name.
func modes(name string) func() error {
	for _, table := range []map[string]func() error{countModes(), denialModes(), targetModes(), recorderModes()} {
		if run := table[name]; run != nil {
			return run
		}
	}
	return func() error { return fmt.Errorf("no mode %q", name) }
}

func childMain(mode string) int {
	runtime.LockOSThread()
	run := modes(mode)
	fmt.Println("ready")
	var b [1]byte
	syscall.Read(0, b[:])
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", mode, err)
		return 1
	}
	return 0
}

type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs strings.Builder
	pid  int
}

// startChild returns when the child waits to be let go. Argument lists are
// joined with newlines.
func startChild(t *testing.T, mode string, change func(*exec.Cmd), args ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command("/proc/self/exe")}
	c.cmd.Env = []string{childMode + "=" + mode, childArg + "=" + strings.Join(args, "\n")}
	c.cmd.Stderr = &c.errs
	c.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if change != nil {
		change(c.cmd)
	}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.pid = c.cmd.Process.Pid
	t.Cleanup(func() { c.cmd.Process.Kill(); c.cmd.Wait() })
	c.out = bufio.NewReader(out)
	if line, _ := c.out.ReadString('\n'); line != "ready\n" {
		c.cmd.Wait()
		t.Fatalf("the child %s says %q: %s", mode, line, c.errs.String())
	}
	waitSleeping(t, c.pid)
	return c
}

// waitSleeping waits until the child's first thread is in its call of read.
func waitSleeping(t *testing.T, pid int) {
	t.Helper()
	for range 1000 {
		call, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		if err != nil || strings.HasPrefix(string(call), "0 0x0 ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("process %d does not come to wait", pid)
}

// let lets the child go on.
func (c *child) let() { c.in.Write([]byte{'\n'}) }

// end lets the child go on and waits for it and all who share its output.
func (c *child) end() error {
	c.let()
	io.Copy(io.Discard, c.out)
	return c.cmd.Wait()
}

// mustEnd fails the test unless the child succeeds.
func (c *child) mustEnd() {
	c.t.Helper()
	if err := c.end(); err != nil {
		c.t.Fatalf("the child: %v: %s", err, c.errs.String())
	}
}

var (
	sharedOpened bool
	shared       = sync.OnceValues(func() (*Recorder, error) {
		sharedOpened = true
		return Open(8, "")
	})
)

// recorder returns one for all tests that need no own, so that places of the
// maps are used again and again.
func recorder(t testing.TB) *Recorder {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("recording needs root")
	}
	if crowd {
		return crowded(t)
	}
	r, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func start(t testing.TB, r *Recorder, targets ...Target) *Session {
	t.Helper()
	s, err := r.Start(targets...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	return s
}

func stop(t testing.TB, s *Session) *Recording {
	t.Helper()
	rec, err := s.Stop()
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// recordChild records a child from when it is let go to its end.
func recordChild(t *testing.T, mode string, args ...string) *Recording {
	t.Helper()
	c := startChild(t, mode, nil, args...)
	s := start(t, recorder(t), Target{PID: c.pid})
	c.mustEnd()
	return stop(t, s)
}

// recordProgram records a program, and only it and its children.
func recordProgram(t *testing.T, path string) *Recording {
	t.Helper()
	c := startChild(t, "exec", nil, path)
	s := start(t, recorder(t), Target{PID: c.pid, AtExec: true})
	c.mustEnd()
	return stop(t, s)
}

// find returns the call's entry, empty if it was not seen.
func find(rec *Recording, abi, name string) Syscall {
	for _, call := range rec.Syscalls {
		if call.ABI == abi && call.Name == name {
			return call
		}
	}
	return Syscall{}
}

// complete fails the test if something was lost.
func complete(t testing.TB, rec *Recording) {
	t.Helper()
	if !rec.Complete || rec.Lost != nil {
		t.Errorf("complete %v, lost %v", rec.Complete, rec.Lost)
	}
}

// machineCode puts instructions into memory and returns them as a function.
// Parameters are in rax, rbx, rcx and rdi, the result in rax: Go's own
// convention, which is the kernel's of i386 but for edx.
func machineCode(code ...byte) func(a, b, c, d uintptr) uintptr {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(err)
	}
	copy(page, code)
	value := &struct{ code *byte }{&page[0]} // what a func value points to
	return *(*func(a, b, c, d uintptr) uintptr)(unsafe.Pointer(&value))
}

// int80 calls the kernel as i386 programs do.
func int80() func(nr, a, b, c uintptr) uintptr {
	return machineCode(
		0x89, 0xfa, // mov edx, edi
		0xcd, 0x80, // int 0x80
		0xc3, // ret
	)
}

// raw makes a call, and fails if the kernel answers with another errno.
func raw(want unix.Errno, nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != want {
		return fmt.Errorf("call %d%x: errno %d (%v), want %d (%v)", nr, args, errno, errno, want, want)
	}
	return nil
}

func repeat(n int, nr uintptr) {
	for range n {
		unix.RawSyscall(nr, 0, 0, 0)
	}
}

func ptr(s string) uintptr {
	p, _ := unix.BytePtrFromString(s)
	keep = append(keep, p)
	return uintptr(unsafe.Pointer(p))
}

var keep []*byte // what the kernel is given by number

func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	errors.As(err, &errno)
	return errno
}
