package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/notify"
)

// The test binary is the watched process too: started with childMode, it loads
// a filter into itself, sends the listener away and does what it is told.
const (
	childMode = "NOTIFY_TEST_CHILD" // the filter, see childFilter
	lateMode  = "NOTIFY_TEST_LATE"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(lateMode) != "":
		late()
	case os.Getenv(childMode) != "":
		if err := child(os.Getenv(childMode)); err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// patience bounds waits for what must happen. It is no expectation of speed.
const patience = 60 * time.Second

// command is what the child shall do, and result what came of it.
type (
	command struct {
		ID   int
		Op   string
		Path string
		Num  []int
	}
	result struct {
		ID    int
		Value int
		Errno unix.Errno
		Text  string
	}
)

// childFilter are the flags of a filter and the calls that it notifies of. All
// others are allowed.
type childFilter struct {
	Flags seccomp.Flags
	Calls []string
}

func (c childFilter) load() (*os.File, error) {
	target, err := seccomp.Here(capability.Default())
	if err != nil {
		return nil, err
	}
	p := &seccomp.Profile{DefaultAction: seccomp.Allow, Flags: c.Flags, Syscalls: []seccomp.SyscallRule{{Names: c.Calls, Action: seccomp.Notify}}}
	policy, _, err := p.Resolve(target)
	if err != nil {
		return nil, err
	}
	f, err := seccomp.Compile(policy)
	if err != nil {
		return nil, err
	}
	return f.Load()
}

// child runs the commands on its input, all at the same time, until it ends.
func child(filter string) error {
	var c childFilter
	if err := json.Unmarshal([]byte(filter), &c); err != nil {
		return err
	}
	listener, err := c.load()
	if err != nil {
		return err
	}
	socket := os.NewFile(3, "socket")
	conn, err := net.FileConn(socket)
	if err != nil {
		return err
	}
	state := &specs.ContainerProcessState{Version: specs.Version, Pid: os.Getpid(), Metadata: "of a test"}
	if err := notify.SendListener(conn.(*net.UnixConn), state, listener); err != nil {
		return err
	}
	// Nobody but the agent has the listener from here.
	conn.Close()
	socket.Close()
	listener.Close()

	var mu sync.Mutex
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var cmd command
		if err := in.Decode(&cmd); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		go func() {
			r := cmd.do()
			r.ID = cmd.ID
			mu.Lock()
			defer mu.Unlock()
			out.Encode(r)
		}()
	}
}

func (c *command) do() (r result) {
	var err error
	switch c.Op {
	case "getpgid":
		r.Value, err = getpgid(uintptr(c.Num[0]))
	case "string":
		r.Value, err = stringCall(c.Num[0], c.Num[1], c.Num[2] != 0)
	case "chroot":
		if err = unix.Chroot(c.Path); err == nil {
			err = unix.Chdir("/")
		}
	case "chdir":
		err = unix.Chdir(c.Path)
	case "open":
		r.Value, err = unix.Open(c.Path, c.Num[0]|unix.O_CLOEXEC, 0)
	case "getfd":
		r.Value, err = unix.FcntlInt(uintptr(c.Num[0]), unix.F_GETFD, 0)
	case "read":
		buf := make([]byte, 100)
		n, rerr := unix.Pread(c.Num[0], buf, 0)
		r.Text, err = string(buf[:max(n, 0)]), rerr
	case "usr1":
		signal.Notify(make(chan os.Signal, 1), unix.SIGUSR1)
	case "umask":
		r.Value = unix.Umask(c.Num[0])
	case "mknod":
		err = powerless(unix.CAP_MKNOD, func() error { return unix.Mknodat(c.Num[0], c.Path, uint32(c.Num[1]), c.Num[2]) })
	case "mount":
		target, kind, _ := strings.Cut(c.Path, "\x00")
		err = powerless(unix.CAP_SYS_ADMIN, func() error { return unix.Mount("none", target, kind, 0, "") })
	case "fstype":
		var fs unix.Statfs_t
		err = unix.Statfs(c.Path, &fs)
		r.Value = int(fs.Type)
	case "late":
		err = startLate()
	default:
		err = unix.ENOTSUP
	}
	if err != nil {
		errno, ok := err.(unix.Errno)
		if !ok {
			errno, r.Text = unix.EIO, err.Error()
		}
		r.Errno = errno
	}
	return r
}

func getpgid(arg uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_GETPGID, arg, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// stringCall calls getpgid with the address of a string of length bytes, which
// begins before bytes ahead of the end of a page. The page after the next is
// not there. Without a zero byte the string goes on to the end of the memory.
func stringCall(before, length int, zero bool) (int, error) {
	page := os.Getpagesize()
	mem, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return -1, err
	}
	defer unix.Munmap(mem)
	if err := unix.Mprotect(mem[2*page:], unix.PROT_NONE); err != nil {
		return -1, err
	}
	text := mem[page-before : 2*page]
	for i := range text {
		text[i] = letter(i)
	}
	if zero {
		text[length] = 0
	}
	return getpgid(uintptr(unsafe.Pointer(&text[0])))
}

func letter(i int) byte { return byte('a' + i%26) }

// powerless does something on a thread that lacks a capability.
func powerless(capability int, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		done <- func() error {
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var sets [2]unix.CapUserData
			if err := unix.Capget(&header, &sets[0]); err != nil {
				return err
			}
			set, bit := &sets[capability/32], uint32(1)<<(capability%32)
			set.Effective &^= bit
			set.Permitted &^= bit
			if err := unix.Capset(&header, &sets[0]); err != nil {
				return err
			}
			return do()
		}()
	}()
	return <-done
}

// startLate starts a process that outlives the child and makes a call when
// descriptor 4 of the child is closed at its other end.
func startLate() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), lateMode+"=1")
	cmd.Stdin = os.NewFile(4, "pipe")
	return cmd.Start()
}

func late() {
	io.Copy(io.Discard, os.Stdin)
	n, err := getpgid(5)
	if n != 6 || err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// watched is a child as the tests see it.
type watched struct {
	*notify.Listener
	State *specs.ContainerProcessState

	t      *testing.T
	cmd    *exec.Cmd
	stderr bytes.Buffer // to be read when the child has ended
	in     *json.Encoder
	pipe   *os.File // whose other end is descriptor 4 of the child
	last   int

	mu      sync.Mutex
	waiting map[int]chan result
}

// watch starts a child whose calls of these names the test answers.
func watch(t *testing.T, flags seccomp.Flags, attr *syscall.SysProcAttr, calls ...string) *watched {
	t.Helper()
	w, conn := spawn(t, flags, attr, calls...)
	var err error
	if w.Listener, w.State, err = notify.ReceiveListener(conn); err != nil {
		w.kill()
		t.Fatalf("%v: %s", err, w.stderr.String())
	}
	return w
}

// spawn starts a child and returns the socket to which it sends its listener.
func spawn(t *testing.T, flags seccomp.Flags, attr *syscall.SysProcAttr, calls ...string) (*watched, *net.UnixConn) {
	t.Helper()
	if _, err := seccomp.Here(capability.Default()); err != nil {
		t.Skip(err)
	}
	// All threads of the child are under the filter.
	filter, err := json.Marshal(childFilter{flags | seccomp.FlagTSync, calls})
	if err != nil {
		t.Fatal(err)
	}
	here, there := socketPair(t, unix.SOCK_STREAM)
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	w := &watched{t: t, pipe: pw, waiting: map[int]chan result{}}
	w.cmd = exec.Command("/proc/self/exe")
	// Signals of Go's scheduler would interrupt the calls.
	w.cmd.Env = append(os.Environ(), childMode+"="+string(filter), "GODEBUG=asyncpreemptoff=1", "GOTRACEBACK=none")
	w.cmd.ExtraFiles = []*os.File{there, pr}
	w.cmd.SysProcAttr = attr
	w.cmd.Stderr = &w.stderr
	stdin, err := w.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	there.Close()
	w.in = json.NewEncoder(stdin)
	t.Cleanup(func() {
		if w.Listener != nil {
			w.Close()
		}
		pw.Close()
		stdin.Close()
		w.kill()
	})
	go w.read(stdout)
	return w, here
}

// kill ends the child if it has not ended.
func (w *watched) kill() {
	w.cmd.Process.Kill()
	w.cmd.Wait()
}

func (w *watched) read(r io.Reader) {
	dec := json.NewDecoder(r)
	for {
		var res result
		if dec.Decode(&res) != nil {
			break
		}
		w.mu.Lock()
		w.waiting[res.ID] <- res
		w.mu.Unlock()
	}
}

// start has the child do something.
func (w *watched) start(op, path string, num ...int) <-chan result {
	w.t.Helper()
	w.mu.Lock()
	w.last++
	id, c := w.last, make(chan result, 1)
	w.waiting[id] = c
	w.mu.Unlock()
	if err := w.in.Encode(command{ID: id, Op: op, Path: path, Num: num}); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// do has the child do something that nobody is notified of.
func (w *watched) do(op, path string, num ...int) result {
	w.t.Helper()
	return w.wait(w.start(op, path, num...))
}

func (w *watched) wait(c <-chan result) result {
	w.t.Helper()
	select {
	case r := <-c:
		return r
	case <-time.After(patience):
		w.t.Fatal("the child does not answer")
	}
	panic("unreachable")
}

// want holds that the child got a value, or else an error.
func (w *watched) want(c <-chan result, value int, errno unix.Errno) {
	w.t.Helper()
	if errno != 0 {
		value = -1
	}
	if r := w.wait(c); r.Value != value || r.Errno != errno {
		w.t.Errorf("the child's call returned %d, %v %q; want %d, %v", r.Value, r.Errno, r.Text, value, errno)
	}
}

// wantErrno is want for calls that return 0.
func (w *watched) wantErrno(c <-chan result, errno unix.Errno) {
	w.t.Helper()
	if r := w.wait(c); r.Errno != errno {
		w.t.Errorf("the child's call: %v %q, want %v", r.Errno, r.Text, errno)
	}
}

func (w *watched) recv() *notify.Request {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := w.Recv(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// getpgid has the child make a call, and receives it.
func (w *watched) getpgid(arg int) (*notify.Request, <-chan result) {
	w.t.Helper()
	c := w.start("getpgid", "", arg)
	return w.recv(), c
}

// eof waits until no process is left.
func (w *watched) eof() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if r, err := w.Recv(ctx); err != io.EOF {
		w.t.Errorf("receive: %+v, %v; want EOF", r, err)
	}
}

func (w *watched) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// socketPair returns the two ends of a socket; the second is for a child.
func socketPair(t *testing.T, kind int) (*net.UnixConn, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	here, there := os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket")
	conn, err := net.FileConn(here)
	here.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); there.Close() })
	return conn.(*net.UnixConn), there
}

// status returns a field of a thread's /proc/PID/status.
func status(pid int, name string) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("no %s in %s", name, text)
}

func statusField(t *testing.T, pid int, name string) string {
	t.Helper()
	value, err := status(pid, name)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
