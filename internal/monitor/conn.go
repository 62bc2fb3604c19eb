package monitor

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// maxPacket bounds a message; streams are cut into pieces of chunk bytes.
const (
	chunk     = 32 << 10
	maxPacket = 64 << 10
	maxFDs    = 250 // SCM_MAX_FD is 253, unix(7)
)

// conn is one end of a packet connection.
type conn struct {
	f   *os.File
	raw syscall.RawConn
	mu  sync.Mutex // one writer at a time
	buf []byte
	oob []byte
}

// newConn takes over a connected socket.
func newConn(fd int) (*conn, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "monitor connection")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &conn{f: f, raw: raw}, nil
}

func (c *conn) close() { c.f.Close() }

// send writes one message with descriptors.
func (c *conn) send(msg []byte, fds ...int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var oob []byte
	if len(fds) > 0 {
		oob = syscall.UnixRights(fds...)
	}
	var err error
	if werr := c.raw.Write(func(fd uintptr) bool {
		err = syscall.Sendmsg(int(fd), msg, oob, nil, syscall.MSG_NOSIGNAL)
		return err != syscall.EAGAIN
	}); werr != nil {
		return werr
	}
	return err
}

// sendKind writes a message of a kind.
func (c *conn) sendKind(kind byte, payload []byte) error {
	return c.send(append([]byte{kind}, payload...))
}

// receive reads one message. The slice is valid until the next call. The end
// of the connection is io.EOF.
func (c *conn) receive() (kind byte, payload []byte, fds []int, err error) {
	if c.buf == nil {
		c.buf = make([]byte, maxPacket)
		c.oob = make([]byte, syscall.CmsgSpace(maxFDs*4))
	}
	var n, oobn, flags int
	if rerr := c.raw.Read(func(fd uintptr) bool {
		n, oobn, flags, _, err = syscall.Recvmsg(int(fd), c.buf, c.oob, syscall.MSG_CMSG_CLOEXEC)
		return err != syscall.EAGAIN
	}); rerr != nil {
		return 0, nil, nil, rerr
	}
	if err != nil {
		return 0, nil, nil, err
	}
	if oobn > 0 {
		if fds, err = rights(c.oob[:oobn]); err != nil {
			return 0, nil, nil, err
		}
	}
	if flags&(syscall.MSG_CTRUNC|syscall.MSG_TRUNC) != 0 {
		closeAll(fds)
		return 0, nil, nil, errors.New("message truncated: too many descriptors or bytes")
	}
	if n == 0 {
		return 0, nil, nil, io.EOF
	}
	return c.buf[0], c.buf[1:n], fds, nil
}

func rights(oob []byte) (fds []int, err error) {
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range msgs {
		more, err := syscall.ParseUnixRights(&msgs[i])
		if err != nil {
			return fds, err
		}
		fds = append(fds, more...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd)
	}
}

func u32(vs ...uint32) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// socketName is the file of a container's monitor in the container's directory.
const socketName = "monitor.sock"

// socketAddr names a socket in an open directory, because a socket's path is
// limited to 108 bytes and a store may lie deep, unix(7).
func socketAddr(dir *os.File) *syscall.SockaddrUnix {
	return &syscall.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + socketName}
}

// Listen makes the socket of the container in dir, whatever an earlier monitor
// left there.
func Listen(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	err = syscall.Bind(fd, socketAddr(d))
	if err == syscall.EADDRINUSE {
		syscall.Unlink(dir + "/" + socketName)
		err = syscall.Bind(fd, socketAddr(d))
	}
	if err == nil {
		err = syscall.Listen(fd, 64)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, &os.PathError{Op: "listen on", Path: dir + "/" + socketName, Err: err}
	}
	return os.NewFile(uintptr(fd), socketName), nil
}
