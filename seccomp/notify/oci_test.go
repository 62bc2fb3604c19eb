package notify_test

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp/notify"
)

func openDescriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestNotifyState(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	if w.State.Pid != w.cmd.Process.Pid || w.State.Metadata != "of a test" || w.State.Version != specs.Version || !slices.Equal(w.State.Fds, []string{specs.SeccompFdName}) {
		t.Errorf("state %+v", w.State)
	}
}

// A large state arrives whole, on every kind of socket, and the listener stays
// with the sender too.
func TestNotifySend(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	f, err := os.Open("/dev/null")
	w.must(err)
	defer f.Close()
	state := &specs.ContainerProcessState{Metadata: strings.Repeat("m", 50000), Fds: []string{"mine"}}
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET, unix.SOCK_DGRAM} {
		here, there := socketPair(t, kind)
		sender := unixConn(t, there)
		w.must(notify.SendListener(sender, state, f))
		if len(state.Fds) != 1 || state.Fds[0] != "mine" {
			t.Errorf("the caller's state was changed: %v", state.Fds)
		}
		// It gets as far as to look at the descriptor.
		if _, _, err := notify.ReceiveListener(here); err == nil || !strings.Contains(err.Error(), "the descriptor is no seccomp listener") {
			t.Errorf("socket of kind %d: %v", kind, err)
		}
		if _, err := f.Stat(); err != nil {
			t.Errorf("the sender's descriptor: %v", err)
		}
		long := &specs.ContainerProcessState{Metadata: strings.Repeat("m", 65536)}
		if err := notify.SendListener(sender, long, f); err == nil || !strings.Contains(err.Error(), "at most 65536") {
			t.Errorf("a state that is too long: %v", err)
		}
		sender.Close()
		if err := notify.SendListener(sender, state, f); err == nil {
			t.Error("no error on a closed socket")
		}
	}
}

// What is no proper message leaves no descriptor behind.
func TestNotifyReceiveBad(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close what leaks
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	const good = `{"ociVersion":"1.0","fds":["seccompFd"],"pid":1}`
	for _, tt := range []struct {
		name        string
		kind        int
		text        string
		descriptors int
		want        string
	}{
		{"nothing", unix.SOCK_STREAM, "", 0, "EOF"},
		{"an empty message with descriptors", unix.SOCK_SEQPACKET, "", 2, "EOF"},
		{"an empty datagram with descriptors", unix.SOCK_DGRAM, "", 2, "the container process state"},
		{"no descriptor", unix.SOCK_STREAM, good, 0, "no seccompFd"},
		{"too few descriptors", unix.SOCK_STREAM, `{"fds":["a","seccompFd"]}`, 1, "no seccompFd"},
		{"descriptors of other names", unix.SOCK_STREAM, `{"fds":["a","b"]}`, 2, "no seccompFd"},
		{"no names", unix.SOCK_STREAM, `{}`, 3, "no seccompFd"},
		{"no JSON", unix.SOCK_STREAM, "{", 3, "the container process state: unexpected EOF"},
		{"more than JSON", unix.SOCK_STREAM, good + "\n}", 1, "more after its end"},
		{"wrong JSON", unix.SOCK_STREAM, `{"fds":"seccompFd"}`, 3, "the container process state"},
		{"too long", unix.SOCK_STREAM, `{"metadata":"` + strings.Repeat("m", 70000), 3, "longer than"},
		{"too long in one packet", unix.SOCK_SEQPACKET, good + strings.Repeat(" ", 70000), 3, "longer than"},
		{"more descriptors than there is room for", unix.SOCK_STREAM, good, 40, "more than"},
		{"some other file", unix.SOCK_STREAM, good, 1, "no seccomp listener"},
		{"some other file, second of three", unix.SOCK_STREAM, `{"fds":["a","seccompFd","b"]}`, 3, "no seccomp listener"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			here, there := socketPair(t, tt.kind)
			sendRaw(t, there, tt.text, slices.Repeat([]int{int(null.Fd())}, tt.descriptors)...)
			there.Close()
			before := openDescriptors(t)
			l, state, err := notify.ReceiveListener(here)
			if l != nil || state != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v, %v; want %s", l, state, err, tt.want)
			}
			if tt.want == "EOF" && !errors.Is(err, io.EOF) {
				t.Errorf("%v is not EOF", err)
			}
			if after := openDescriptors(t); after != before {
				t.Errorf("%d descriptors before and %d after", before, after)
			}
		})
	}
}

// sendRaw sends one message, which may be empty where those of package unix
// have at least one byte.
func sendRaw(t *testing.T, f *os.File, text string, fds ...int) {
	t.Helper()
	if text == "" && len(fds) == 0 {
		return
	}
	buf := append([]byte(text), 0)
	iov := unix.Iovec{Base: &buf[0]}
	iov.SetLen(len(text))
	h := unix.Msghdr{Iov: &iov, Iovlen: 1}
	if len(fds) > 0 {
		oob := unix.UnixRights(fds...)
		h.Control = &oob[0]
		h.SetControllen(len(oob))
	}
	if n, _, errno := unix.Syscall(unix.SYS_SENDMSG, f.Fd(), uintptr(unsafe.Pointer(&h)), 0); errno != 0 || int(n) != len(text) {
		t.Fatal(n, errno)
	}
}

// A state that comes in pieces is read whole; one whose end never comes is not
// taken for whole.
func TestNotifyReceivePieces(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, tt := range []struct {
		pieces []string
		want   string
	}{
		{[]string{`{"fds":["secc`, `ompFd"],"p`, `id":1}`}, "no seccomp listener"},
		{[]string{`{"fds":["seccompFd"]`, ""}, "unexpected EOF"},
		{[]string{`{"fds":["seccompFd"]]`, "}"}, "invalid character"},
	} {
		here, there := socketPair(t, unix.SOCK_STREAM)
		sendRaw(t, there, tt.pieces[0], int(null.Fd()))
		received := make(chan error)
		go func() {
			_, _, err := notify.ReceiveListener(here)
			received <- err
		}()
		for _, piece := range tt.pieces[1:] {
			sendRaw(t, there, piece)
		}
		there.Close()
		if err := <-received; err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v; want %s", tt.pieces, err, tt.want)
		}
	}
}

// A listener among other descriptors, on a socket that was set up to tell who
// sends: only the listener is kept.
func TestNotifyReceiveAmongOthers(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	w, conn := spawn(t, 0, nil, "getpgid")
	listener := receiveRaw(t, conn)
	here, there := socketPair(t, unix.SOCK_STREAM)
	raw, err := here.SyscallConn()
	w.must(err)
	w.must(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }))
	w.must(err)
	null, err := os.Open(os.DevNull)
	w.must(err)
	defer null.Close()
	rights := unix.UnixRights(int(null.Fd()), int(listener.Fd()), int(null.Fd()))
	w.must(unix.Sendmsg(int(there.Fd()), []byte(`{"fds":["a","seccompFd","b"],"pid":7}`), rights, nil, 0))
	listener.Close()
	before := openDescriptors(t)
	l, state, err := notify.ReceiveListener(here)
	w.must(err)
	defer l.Close()
	if state.Pid != 7 {
		t.Errorf("state %+v", state)
	}
	if after := openDescriptors(t); after != before+1 {
		t.Errorf("%d descriptors before and %d after", before, after)
	}
	w.Listener = l
	r, c := w.getpgid(1)
	w.must(r.Respond(2))
	w.want(c, 2, 0)
}

// receiveRaw receives the first descriptor of a message.
func receiveRaw(t *testing.T, conn *net.UnixConn) *os.File {
	t.Helper()
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1000), oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	return os.NewFile(uintptr(fds[0]), "listener")
}

func unixConn(t *testing.T, f *os.File) *net.UnixConn {
	t.Helper()
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UnixConn)
}
