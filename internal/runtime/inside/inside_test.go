package inside

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped puts a built program into a memfd, as the engine does, and maps it.
func mapped(t testing.TB, b *Builder) *Program {
	t.Helper()
	raw := b.Assemble()
	fd, err := unix.MemfdCreate("program", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, raw); err != nil {
		t.Fatal(err)
	}
	p, err := Map(fd, len(raw))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Unmap)
	return p
}

func runProgram(t testing.TB, p *Program, c Clone) syscall.WaitStatus {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := p.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	return ws
}

var plain = Clone{PIDNS: -1, CgroupFD: -1}

func TestExecReplacesTheChild(t *testing.T) {
	b := NewBuilder()
	b.What("exec sh")
	b.Call(syscall.SYS_EXECVE, b.Str("/bin/sh"), b.Strs([]string{"sh", "-c", "exit $X"}), b.Strs([]string{"X=37"}))
	p := mapped(t, b)
	if ws := runProgram(t, p, plain); ws.ExitStatus() != 37 {
		t.Fatalf("exit status %d, want 37", ws.ExitStatus())
	}
	if _, _, failed := p.Failure(); failed {
		t.Fatal("a failure was reported")
	}
}

func TestFailureNamesTheStep(t *testing.T) {
	b := NewBuilder()
	b.What("first")
	b.Call(syscall.SYS_GETPID)
	b.What("open a missing file")
	b.Call(syscall.SYS_OPENAT, V(-100), b.Str("/nonexistent/x"), V(0))
	p := mapped(t, b)
	if ws := runProgram(t, p, plain); ws.ExitStatus() != 125 {
		t.Fatalf("exit status %d, want 125", ws.ExitStatus())
	}
	tag, errno, ok := p.Failure()
	if !ok || b.Tags[tag] != "open a missing file" || errno != syscall.ENOENT {
		t.Fatalf("got %v %v %v", tag, errno, ok)
	}
}

func TestErrorRulesAndRegisters(t *testing.T) {
	b := NewBuilder()
	b.What("steps")
	r, fd := b.NewReg(), b.NewReg()
	miss := b.Call(syscall.SYS_OPENAT, V(-100), b.Str("/nonexistent/x"), V(0)).Later(uint16(syscall.ENOENT))
	b.Pseudo(FailIf, V(0), V(0), V(int(syscall.EIO))) // must be jumped over
	b.Land(miss)
	b.Call(syscall.SYS_MKDIRAT, V(-100), b.Str("/"), V(0)).On(AnyErrno, 0)
	b.Pseudo(Set, V(5)).To(r)
	b.Pseudo(Expect, R(r), V(5), V(int(syscall.EIO)))
	b.Call(syscall.SYS_OPENAT, V(-100), b.Str("/dev/null"), V(0)).To(fd)
	skip := b.Pseudo(Jump)
	b.Pseudo(FailIf, V(0), V(0), V(int(syscall.EIO)))
	b.Land(skip)
	b.Pseudo(Stage, V(9))
	b.Call(syscall.SYS_EXIT_GROUP, V(3))
	p := mapped(t, b)
	if ws := runProgram(t, p, plain); ws.ExitStatus() != 3 {
		tag, errno, _ := p.Failure()
		t.Fatalf("exit status %d, failure %d %v", ws.ExitStatus(), tag, errno)
	}
	if p.Progress() != 9 || p.Reg(r) != 5 || p.Reg(fd) < 3 {
		t.Fatalf("stage %d, registers %d %d", p.Progress(), p.Reg(r), p.Reg(fd))
	}
}

// A filter that forbids everything must neither hide the failure nor leave a
// process behind.
func TestFailureUnderAFilterThatForbidsExit(t *testing.T) {
	filter := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}}
	b := NewBuilder()
	b.What("block")
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&filter[0])), 8*len(filter))
	insns := b.Bytes(raw)
	prog := b.Words(uint64(len(filter)), uint64(insns.val))
	b.Relocate(prog, 8)
	b.Call(unix.SYS_PRCTL, V(unix.PR_SET_NO_NEW_PRIVS), V(1), V(0), V(0), V(0))
	for sig := 1; sig < 65; sig++ {
		b.Call(unix.SYS_RT_SIGACTION, V(sig), b.Bytes(make([]byte, 32)), V(0), V(8)).On(AnyErrno, 0)
	}
	b.Call(unix.SYS_SECCOMP, V(unix.SECCOMP_SET_MODE_FILTER), V(0), prog)
	b.What("exec")
	b.Call(unix.SYS_EXECVE, b.Str("/bin/true"), b.Strs([]string{"true"}), b.Strs(nil))
	p := mapped(t, b)
	ws := runProgram(t, p, plain)
	if !ws.Signaled() {
		t.Fatalf("wait status %v, want death by a signal", ws)
	}
	if tag, errno, ok := p.Failure(); !ok || b.Tags[tag] != "exec" || errno != syscall.EPERM {
		t.Fatalf("failure %v %v %v", tag, errno, ok)
	}
}

func TestPIDNamespaceOfTheChildOnly(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, _ := os.Readlink("/proc/thread-self/ns/pid_for_children")
	// A holder keeps a PID namespace alive for the second child to join.
	hold := NewBuilder()
	hold.Call(syscall.SYS_PPOLL, V(0), V(0), V(0), V(0)) // for ever
	hp := mapped(t, hold)
	holder, err := hp.Start(Clone{Flags: syscall.CLONE_NEWPID, PIDNS: -1, CgroupFD: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Wait4(holder, nil, 0, nil)
	defer syscall.Kill(holder, syscall.SIGKILL)
	ns, err := os.Open("/proc/" + itoa(holder) + "/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	b := NewBuilder()
	r := b.NewReg()
	b.Call(syscall.SYS_GETPID).To(r)
	b.Call(syscall.SYS_EXIT_GROUP, V(0))
	p := mapped(t, b)
	runProgram(t, p, Clone{PIDNS: int(ns.Fd()), CgroupFD: -1})
	if p.Reg(r) != 2 {
		t.Fatalf("child is process %d of the namespace, want 2", p.Reg(r))
	}
	if after, _ := os.Readlink("/proc/thread-self/ns/pid_for_children"); after != before {
		t.Fatalf("the thread's children would go to %s, want %s", after, before)
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

func TestMapRefusesGarbage(t *testing.T) {
	for _, n := range []int{4096, headerSize + 4096} {
		fd, _ := unix.MemfdCreate("garbage", unix.MFD_CLOEXEC)
		unix.Write(fd, make([]byte, n))
		if _, err := Map(fd, n); err == nil {
			t.Errorf("%d zero bytes were taken for a program", n)
		}
		unix.Close(fd)
	}
}

func BenchmarkStartTrue(bm *testing.B) {
	for bm.Loop() {
		b := NewBuilder()
		b.Call(syscall.SYS_EXECVE, b.Str("/bin/true"), b.Strs([]string{"true"}), b.Strs(nil))
		p := mapped(bm, b)
		runProgram(bm, p, plain)
		p.Unmap()
	}
}

// TestLineEndsTheChild: a child that waits for an answer ends when its parent has
// let go of the line, however that came about.
func TestLineEndsTheChild(t *testing.T) {
	b := NewBuilder()
	b.What("wait for an answer")
	b.Ask(AskReady)
	p := mapped(t, b)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s, err := p.Begin(plain, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	ended := make(chan syscall.WaitStatus)
	go func() { ended <- waitFor(s.PID) }()
	select {
	case ws := <-ended:
		if ws.ExitStatus() != 125 {
			t.Errorf("wait status %#x, want exit status 125", ws)
		}
	case <-time.After(30 * time.Second):
		syscall.Kill(s.PID, syscall.SIGKILL)
		t.Error("the child waits forever")
	}
}
