package oci

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Where a container finds the socket of sd_notify(3), as under runc.
const (
	notifyDir    = "/run/notify"
	notifySocket = "notify.sock"
)

// offerNotify gives the container a directory for the socket on which it says
// that it is ready. The socket itself comes with the start, whose process
// listens.
func (c *creation) offerNotify() error {
	if c.opts.NotifySocket == "" {
		return nil
	}
	dir := c.file(notifyFile)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of the notify socket: %w", err)
	}
	c.spec.Mounts = append(c.spec.Mounts, specs.Mount{Destination: notifyDir, Source: dir, Options: []string{"bind", "nosuid", "noexec", "nodev", "ro"}})
	c.spec.Process.Env = append(c.spec.Process.Env, "NOTIFY_SOCKET="+notifyDir+"/"+notifySocket)
	return nil
}

// notifier passes on to the caller's service manager what a container says.
type notifier struct {
	host string
	sock *net.UnixConn
}

// listenNotify begins to listen; nil if nobody asks, or the container has no
// place for the socket.
func (c *Container) listenNotify(host string) (*notifier, error) {
	if host == "" {
		return nil, nil
	}
	dir, err := os.Open(c.file(notifyFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	// By descriptor, because a socket's path is limited to 108 bytes, unix(7).
	name := filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), notifySocket)
	sock, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		if err = os.Chmod(name, 0o777); err != nil {
			sock.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make the notify socket: %w", err)
	}
	return &notifier{host, sock}, nil
}

func (n *notifier) close() {
	if n != nil {
		n.sock.Close()
	}
}

// relay waits until the container is ready, or has ended, and tells the service
// manager, with mainPID as the process to watch unless it is 0.
func (n *notifier) relay(pid, mainPID int) error {
	if n == nil {
		return nil
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	ready, err := n.ready(pidfd)
	if err != nil || ready == nil {
		return err
	}
	return n.tell(ready, mainPID)
}

func (n *notifier) tell(ready []byte, mainPID int) error {
	if mainPID != 0 {
		ready = fmt.Appendf(ready, "\nMAINPID=%d", mainPID)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.host, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write(ready); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return barrier(conn)
}

// ready reads datagrams until one says so, and gives it; nil at the container's
// end.
func (n *notifier) ready(pidfd int) ([]byte, error) {
	raw, err := n.sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 4<<10)
	for {
		var got int
		var failed error
		err := raw.Control(func(fd uintptr) { got, failed = receive(int(fd), pidfd, buf) })
		if err = errors.Join(err, failed); err != nil || got == 0 {
			return nil, err
		}
		for line := range bytes.Lines(buf[:got]) {
			if strings.TrimSpace(string(line)) == "READY=1" {
				return buf[:got], nil
			}
		}
	}
}

// receive reads one datagram; it gives 0 at the end of the process.
func receive(sock, pidfd int, buf []byte) (int, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(sock), Events: unix.POLLIN}, {Fd: int32(pidfd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return 0, os.NewSyscallError("poll", err)
		}
		if fds[0].Revents == 0 {
			return 0, nil
		}
		n, err := unix.Read(sock, buf)
		if err == unix.EAGAIN || err == nil && n == 0 {
			continue
		}
		return max(n, 0), err
	}
}

// barrier waits until the service manager has read everything up to here, at
// most for 30 seconds: it looks at the sender, which is about to end,
// sd_notify_barrier(3).
func barrier(conn *net.UnixConn) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.Sendmsg(int(fd), []byte("BARRIER=1"), unix.UnixRights(int(w.Fd())), nil, 0)
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	w.Close()
	r.SetReadDeadline(time.Now().Add(30 * time.Second))
	r.Read(make([]byte, 1)) // ends when the other side closes what it got
	return nil
}
