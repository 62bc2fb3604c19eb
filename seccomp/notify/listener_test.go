package notify_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/notify"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func TestNotifyAnswers(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	for _, tt := range []struct {
		name   string
		arg    int
		answer func(*notify.Request) error
		value  int
		errno  unix.Errno
	}{
		{"a value", 1, func(r *notify.Request) error { return r.Respond(4242) }, 4242, 0},
		{"the largest value", 2, func(r *notify.Request) error { return r.Respond(math.MaxInt) }, math.MaxInt, 0},
		{"zero", 3, func(r *notify.Request) error { return r.Respond(0) }, 0, 0},
		{"an error", 4, func(r *notify.Request) error { return r.Fail(unix.EXDEV) }, -1, unix.EXDEV},
		{"the kernel's own error", -7, (*notify.Request).Continue, -1, unix.ESRCH},
		{"the kernel's own value", w.cmd.Process.Pid, (*notify.Request).Continue, unix.Getpgrp(), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, c := w.getpgid(tt.arg)
			if r.Name() != "getpgid" || r.Nr != unix.SYS_GETPGID || r.Args[0] != uint64(tt.arg) || r.IP == 0 {
				t.Errorf("request %+v", r)
			}
			if tgid := statusField(t, r.PID, "Tgid"); tgid != strconv.Itoa(w.cmd.Process.Pid) {
				t.Errorf("thread %d is of process %s, want %d", r.PID, tgid, w.cmd.Process.Pid)
			}
			w.must(r.Valid())
			w.must(tt.answer(r))
			w.want(c, tt.value, tt.errno)
			if err := r.Valid(); !errors.Is(err, notify.ErrGone) {
				t.Errorf("an answered call is valid: %v", err)
			}
			for _, again := range []error{r.Respond(1), r.Fail(unix.EIO), r.Continue()} {
				if !errors.Is(again, notify.ErrAnswered) {
					t.Errorf("a second answer: %v", again)
				}
			}
			if _, err := r.AddFD(os.Stdin, notify.AddFDOptions{At: -1}); !errors.Is(err, notify.ErrAnswered) {
				t.Errorf("a descriptor after the answer: %v", err)
			}
		})
	}
}

// Who has received a call holds up nobody else, and answers come in any order.
func TestNotifyTwoCallsAtATime(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	first, c1 := w.getpgid(1)
	second, c2 := w.getpgid(2)
	if first.ID == second.ID || first.PID == second.PID || first.Args[0] != 1 || second.Args[0] != 2 {
		t.Fatalf("requests %+v and %+v", first, second)
	}
	w.must(second.Respond(22))
	w.want(c2, 22, 0)
	w.must(first.Valid())
	w.must(first.Respond(11))
	w.want(c1, 11, 0)
}

func TestNotifyAddFD(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	file := func(t *testing.T, text string) *os.File {
		t.Helper()
		name := filepath.Join(t.TempDir(), "file")
		w.must(os.WriteFile(name, []byte(text), 0o600))
		f, err := os.Open(name)
		w.must(err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	holds := func(t *testing.T, fd int, text string, flags int) {
		t.Helper()
		if r := w.do("read", "", fd); r.Errno != 0 || r.Text != text {
			t.Errorf("descriptor %d holds %q, %v; want %q", fd, r.Text, r.Errno, text)
		}
		if r := w.do("getfd", "", fd); r.Errno != 0 || r.Value != flags {
			t.Errorf("descriptor %d has flags %d, %v; want %d", fd, r.Value, r.Errno, flags)
		}
	}
	for _, tt := range []struct {
		name  string
		o     notify.AddFDOptions
		flags int
	}{
		{"the lowest", notify.AddFDOptions{At: -1}, 0},
		{"the lowest, closed by execve", notify.AddFDOptions{At: -1, CloExec: true}, unix.FD_CLOEXEC},
		{"at a number", notify.AddFDOptions{At: 100}, 0},
		{"in the place of another", notify.AddFDOptions{At: 100, CloExec: true}, unix.FD_CLOEXEC},
		{"and answered", notify.AddFDOptions{At: -1, Respond: true}, 0},
		{"at a number, answered, closed by execve", notify.AddFDOptions{At: 101, CloExec: true, Respond: true}, unix.FD_CLOEXEC},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, c := w.getpgid(1)
			at, err := r.AddFD(file(t, tt.name), tt.o)
			w.must(err)
			if tt.o.At >= 0 && at != tt.o.At || at < 3 {
				t.Errorf("number %d, want %d", at, tt.o.At)
			}
			value := at
			if tt.o.Respond {
				if err := r.Respond(7); !errors.Is(err, notify.ErrAnswered) {
					t.Errorf("a second answer: %v", err)
				}
			} else {
				value = 7000
				w.must(r.Respond(7000))
			}
			w.want(c, value, 0)
			holds(t, at, tt.name, tt.flags)
		})
	}
	t.Run("two for one call", func(t *testing.T) {
		r, c := w.getpgid(1)
		a, err := r.AddFD(file(t, "a"), notify.AddFDOptions{At: -1})
		w.must(err)
		b, err := r.AddFD(file(t, "b"), notify.AddFDOptions{At: -1, Respond: true})
		w.must(err)
		w.want(c, b, 0)
		holds(t, a, "a", 0)
		holds(t, b, "b", 0)
	})
	t.Run("while signals come", func(t *testing.T) { signalled(t, w) })
	t.Run("what the process cannot have", func(t *testing.T) {
		r, c := w.getpgid(1)
		for _, o := range []notify.AddFDOptions{{At: 1 << 30}, {At: 1 << 30, Respond: true}} {
			if _, err := r.AddFD(file(t, ""), o); !errors.Is(err, unix.EBADF) {
				t.Errorf("a descriptor above the limit: %v", err)
			}
		}
		w.must(r.Respond(8)) // it still waits
		w.want(c, 8, 0)
	})
}

// signalled gives descriptors while signals reach the thread that gives them,
// as those of Go's scheduler do. The kernel, interrupted while it gives a
// descriptor and the answer, would give the answer alone.
func signalled(t *testing.T, w *watched) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid, stop, stopped := unix.Gettid(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	for i := range 1000 {
		r, c := w.getpgid(i)
		at, err := r.AddFD(os.Stdin, notify.AddFDOptions{At: 200, CloExec: true, Respond: true})
		if err != nil || at != 200 {
			t.Errorf("descriptor %d of 1000: %d, %v", i, at, err)
		}
		w.want(c, 200, 0)
		if t.Failed() {
			return
		}
	}
}

// Nobody can be answered who is dead.
func TestNotifyGone(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	r, _ := w.getpgid(1)
	unreceived := w.start("getpgid", "", 2)
	_ = unreceived
	w.kill()
	_, addErr := r.AddFD(os.Stdin, notify.AddFDOptions{At: -1, Respond: true})
	_, readErr := r.ReadAt(make([]byte, 1), 1)
	_, _, openErr := r.OpenParent(unix.AT_FDCWD, "x")
	_, absErr := r.ReadString(1, 10)
	for name, err := range map[string]error{
		"valid": r.Valid(), "add a descriptor": addErr, "read": readErr, "read a string": absErr, "open": openErr,
		"respond": r.Respond(1), "fail": r.Fail(unix.EIO), "continue": r.Continue(),
	} {
		if !errors.Is(err, notify.ErrGone) {
			t.Errorf("%s: %v, want %v", name, err, notify.ErrGone)
		}
	}
	w.eof()
	w.eof() // again and again
}

func TestNotifyClose(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	r, received := w.getpgid(1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	waiting := make(chan error)
	go func() {
		r, err := w.Recv(ctx)
		if r != nil { // The second call was faster; wait for a third.
			r, err = w.Recv(ctx)
		}
		if r != nil {
			err = errors.New("a call that nobody made")
		}
		waiting <- err
	}()
	second := w.start("getpgid", "", 2)
	w.must(w.Close())
	w.want(received, -1, unix.ENOSYS)
	w.want(second, -1, unix.ENOSYS)
	w.want(w.start("getpgid", "", 3), -1, unix.ENOSYS)
	select {
	case err := <-waiting:
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("receive while it is closed: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("receive does not end")
	}
	for _, err := range []error{r.Respond(1), r.Valid(), w.SyncWakeUp()} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("after it was closed: %v", err)
		}
	}
}

// The end of a context ends the wait of one receiver, and nothing else.
func TestNotifyCancel(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	for range 300 {
		ctx, cancel := context.WithCancel(context.Background())
		go cancel()
		if r, err := w.Recv(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("receive: %+v, %v", r, err)
		}
	}
	for range 300 { // while a call comes
		ctx, cancel := context.WithCancel(context.Background())
		c := w.start("getpgid", "", 1)
		go cancel()
		r, err := w.Recv(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("receive: %v", err)
		}
		if r == nil {
			r = w.recv()
		}
		w.must(r.Respond(2))
		w.want(c, 2, 0)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	c := w.start("getpgid", "", 1)
	if r, err := w.Recv(ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("receive: %+v, %v", r, err)
	}
	r := w.recv() // the call is not lost
	w.must(r.Respond(2))
	w.want(c, 2, 0)

	t.Run("behind another receiver", func(t *testing.T) {
		first := make(chan *notify.Request, 1)
		ctx, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		go func() {
			r, _ := w.Recv(ctx)
			first <- r
		}()
		for range 20 { // until it waits, or nearly
			short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			if _, err := w.Recv(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("receive: %v", err)
			}
			cancel()
		}
		c := w.start("getpgid", "", 3)
		r := <-first
		if r == nil {
			t.Fatal("the first receiver got no call")
		}
		w.must(r.Respond(4))
		w.want(c, 4, 0)
	})
}

// The end comes with the last process, not with the one that loaded the filter.
func TestNotifyEOF(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	if r := w.do("late", ""); r.Errno != 0 {
		t.Fatal(r)
	}
	w.kill()
	w.must(w.pipe.Close())
	r := w.recv()
	if r.PID == w.cmd.Process.Pid || r.Args[0] != 5 {
		t.Errorf("request %+v", r)
	}
	w.must(r.Respond(6))
	w.eof()
}

func TestNotifySyncWakeUp(t *testing.T) {
	kernel, err := seccomp.RunningKernel()
	if err != nil {
		t.Fatal(err)
	}
	w := watch(t, 0, nil, "getpgid")
	err = w.SyncWakeUp()
	if known := kernel.AtLeast(seccomp.KernelVersion{Major: 6, Minor: 6}); known && err != nil || !known && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("on %v: %v", kernel, err)
	}
	for i := range 20 {
		r, c := w.getpgid(i)
		w.must(r.Respond(int64(i)))
		w.want(c, i, 0)
	}
}

// Without the flag a signal ends the wait for an answer: the call begins anew.
func TestNotifyInterrupted(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	w.do("usr1", "")
	r, c := w.getpgid(9)
	w.must(unix.Tgkill(w.cmd.Process.Pid, r.PID, unix.SIGUSR1))
	again := w.recv()
	if again.ID == r.ID || again.PID != r.PID || again.Args[0] != 9 {
		t.Errorf("the call %+v came again as %+v", r, again)
	}
	if err := r.Respond(1); !errors.Is(err, notify.ErrGone) {
		t.Errorf("answer to an interrupted call: %v", err)
	}
	w.must(again.Respond(2))
	w.want(c, 2, 0)
}

// With the flag the signal waits until the call is answered, once it is received.
func TestNotifyWaitKillable(t *testing.T) {
	supported, err := seccomp.Supported()
	if err != nil {
		t.Fatal(err)
	}
	if supported.Flags&seccomp.FlagWaitKillableRecv == 0 {
		t.Skip("this kernel lacks the flag")
	}
	w := watch(t, seccomp.FlagWaitKillableRecv, nil, "getpgid")
	w.do("usr1", "")
	r, c := w.getpgid(9)
	w.must(unix.Tgkill(w.cmd.Process.Pid, r.PID, unix.SIGUSR1))
	deadline := time.Now().Add(patience)
	for !strings.HasPrefix(statusField(t, r.PID, "State"), "D") { // waits and takes no signals
		if time.Now().After(deadline) {
			t.Fatalf("the thread is in state %s", statusField(t, r.PID, "State"))
		}
		time.Sleep(time.Millisecond)
	}
	pending, err := strconv.ParseUint(statusField(t, r.PID, "SigPnd"), 16, 64)
	if err != nil || pending>>(unix.SIGUSR1-1)&1 == 0 {
		t.Errorf("pending signals %#x, %v", pending, err)
	}
	w.must(r.Valid())
	w.must(r.Respond(3))
	w.want(c, 3, 0)

	// Death is not put off.
	r, _ = w.getpgid(10)
	w.kill()
	if err := r.Respond(1); !errors.Is(err, notify.ErrGone) {
		t.Errorf("answer to a dead process: %v", err)
	}
	w.eof()
}

func TestNotifyNew(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pw.Close()
	for _, f := range []*os.File{null, pr} {
		l, err := notify.New(f)
		if err == nil {
			l.Close()
			t.Errorf("%s was taken for a listener", f.Name())
		}
		if _, err := f.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s is still open: %v", f.Name(), err)
		}
	}
}

func TestNotifyName(t *testing.T) {
	x32 := uint32(0x40000000)
	var got []string
	for _, r := range []*notify.Request{
		{Arch: syscalls.X86_64.Audit(), Nr: 165}, {Arch: syscalls.I386.Audit(), Nr: 21}, {Arch: syscalls.X86_64.Audit(), Nr: x32 | 165},
		{Arch: syscalls.X86_64.Audit(), Nr: x32 | 513}, {Arch: syscalls.X86_64.Audit(), Nr: 9999}, {Arch: 1, Nr: 1},
		{Arch: syscalls.AARCH64.Audit(), Nr: 40}, {Arch: syscalls.S390X.Audit(), Nr: 21},
	} {
		got = append(got, r.Name())
	}
	if want := []string{"mount", "mount", "mount", "rt_sigreturn", "", "", "mount", "mount"}; !slices.Equal(got, want) {
		t.Errorf("names %q, want %q", got, want)
	}
}
