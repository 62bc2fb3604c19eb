package monitor

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/brig-run/brig/internal/socket"
)

// Client is a command's connection to a monitor.
type Client struct {
	c   *conn
	pid int // of a monitor that was spawned here
}

// Event is what a monitor tells.
type Event struct {
	Started bool   // the process runs; PID is its ID
	PID     int    //
	Stream  byte   // 1 or 2: Data is output
	Data    []byte // valid until the next event
	Exited  bool   // Code is the exit code
	Code    int
	OOM     bool
}

// Failure is a start that failed at a step of the program: the engine, which
// made the program, can say what the step was for.
type Failure struct {
	Tag   uint32
	Errno syscall.Errno
	Text  string // when there is no step to blame
}

func (f *Failure) Error() string {
	if f.Text != "" {
		return f.Text
	}
	return f.Errno.Error()
}

// AtStep says whether a step of the program failed.
func (f *Failure) AtStep() bool { return f.Tag != noTag }

// Spawn starts a monitor from the executable exe. It idles until Start.
func Spawn(exe string) (*Client, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		closeAll(pair[:])
		return nil, &os.PathError{Op: "open", Path: "/dev/null", Err: err}
	}
	pid, err := syscall.ForkExec(exe, []string{Argv0}, &syscall.ProcAttr{
		Dir:   "/",
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(pair[1])},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	syscall.Close(null)
	syscall.Close(pair[1])
	if err != nil {
		syscall.Close(pair[0])
		return nil, &os.PathError{Op: "start the monitor", Path: exe, Err: err}
	}
	c, err := newConn(pair[0])
	return &Client{c: c, pid: pid}, err
}

// Dial connects to the monitor of the container in dir.
func Dial(dir string) (*Client, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := syscall.Connect(fd, socketAddr(d)); err != nil {
		syscall.Close(fd)
		return nil, &os.PathError{Op: "connect to the monitor in", Path: dir, Err: err}
	}
	c, err := newConn(fd)
	return &Client{c: c}, err
}

// PID is the process ID of a monitor that Spawn started.
func (c *Client) PID() int { return c.pid }

// Close leaves. A monitor that was not told to start ends; a running container
// goes on.
func (c *Client) Close() { c.c.close() }

// Port is where a published port leads to.
type Port struct {
	UDP bool
	To  socket.Address
}

// Files are the descriptors that go with a Start or an Exec.
type Files struct {
	Program *os.File // memfd
	Lock    *os.File // Start: the container's lock, held by whoever has it open
	Listen  *os.File // Start: from Listen
	PIDNS   *os.File // or nil
	Cgroup  *os.File // Start: or nil
	Regs    []*os.File
	Master  *os.File // Start: the terminal's master, or nil
	Streams []*os.File
}

func (f *Files) list(head ...*os.File) (fds []int) {
	list := append(append(head, f.PIDNS, f.Cgroup), f.Regs...)
	list = append(append(list, f.Master), f.Streams...)
	for _, file := range list {
		if file != nil {
			fds = append(fds, int(file.Fd()))
		}
	}
	return fds
}

// Start tells a spawned monitor what to run. The answer comes as an Event or
// as an error of Next.
func (c *Client) Start(s *Start, f Files) error {
	fds := f.list(f.Program, f.Lock, f.Listen)
	if len(fds) > maxFDs {
		return errors.New("too many mounts and namespaces for one container")
	}
	return c.c.send(s.encode(), fds...)
}

// Hold gives a spawned monitor, before Start, the sockets of the host's ports. It
// keeps them for as long as the container lives, and carries what reaches them to
// these addresses of the container.
func (c *Client) Hold(files []*os.File, to []Port) error {
	for len(files) > 0 {
		n := min(len(files), maxFDs)
		var fds []int
		e := &encoder{b: []byte{msgHold}}
		for i, f := range files[:n] {
			fds = append(fds, int(f.Fd()))
			e.flag(to[i].UDP)
			e.str(to[i].To.IP)
			e.num(uint64(to[i].To.Port))
		}
		if err := c.c.send(e.b, fds...); err != nil {
			return err
		}
		files, to = files[n:], to[n:]
	}
	return nil
}

// Names makes the monitor the container's name server, on sockets for UDP and
// TCP, as the file of package nameserver in the container's directory says.
func (c *Client) Names(sockets [2]*os.File) error {
	return c.c.send([]byte{msgNames}, int(sockets[0].Fd()), int(sockets[1].Fd()))
}

// Exec asks the monitor to run a further process.
func (c *Client) Exec(x *Exec, f Files) error {
	return c.c.send(x.encode(), f.list(f.Program)...)
}

// WatchHealth tells the monitor how to find out whether the container, which
// this client started, does its work.
func (c *Client) WatchHealth(h *Health, f Files) error {
	return c.c.send(h.encode(), f.list(f.Program)...)
}

// Update tells the monitor what has changed, and waits until it holds.
func (c *Client) Update(ch Changeable) error {
	e := &encoder{b: []byte{msgUpdate}}
	ch.encode(e)
	if err := c.c.send(e.b); err != nil {
		return err
	}
	for {
		switch kind, _, fds, err := c.c.receive(); {
		case err != nil:
			return err
		case kind == msgDone:
			return nil
		default:
			closeAll(fds)
		}
	}
}

// GiveUp wakes a monitor that waits to start its container anew, so that it
// looks whether it still shall: see StoppedFile.
func (c *Client) GiveUp() error { return c.c.sendKind(msgGiveUp, nil) }

// Attach asks for the container's output from now on, and its exit.
func (c *Client) Attach(s Streams) error { return c.c.sendKind(msgAttach, []byte{byte(s)}) }

// Write sends bytes to the container's standard input.
func (c *Client) Write(p []byte) (int, error) {
	for sent := 0; sent < len(p); sent += chunk {
		if err := c.c.sendKind(msgStdin, p[sent:min(sent+chunk, len(p))]); err != nil {
			return sent, err
		}
	}
	return len(p), nil
}

// CloseInput ends the container's standard input.
func (c *Client) CloseInput() error { return c.c.sendKind(msgEOF, nil) }

// Resize sets the size of the container's terminal.
func (c *Client) Resize(rows, cols uint16) error {
	b := binary.LittleEndian.AppendUint16(nil, rows)
	return c.c.sendKind(msgResize, binary.LittleEndian.AppendUint16(b, cols))
}

// Keep leaves the master of an Exec's terminal to the monitor, which reads what
// comes and throws it away: without a master the process would be hung up.
func (c *Client) Keep(master *os.File) error {
	return c.c.send([]byte{msgKeep}, int(master.Fd()))
}

// Signal sends a signal to the container's first process, or to the process of
// this connection's Exec.
func (c *Client) Signal(sig syscall.Signal) error { return c.c.sendKind(msgSignal, []byte{byte(sig)}) }

// Next waits for the next event. A failed start is a *Failure; io.EOF means
// that the monitor has gone.
func (c *Client) Next() (Event, error) {
	kind, p, fds, err := c.c.receive()
	if errors.Is(err, syscall.ECONNRESET) {
		// The monitor ended with input of ours unread. The kernel says that
		// once, before it hands out what the monitor sent.
		kind, p, fds, err = c.c.receive()
	}
	closeAll(fds)
	if err != nil {
		if errors.Is(err, syscall.ECONNRESET) {
			err = io.EOF
		}
		return Event{}, err
	}
	num := func(i int) uint32 {
		if len(p) < 4*(i+1) {
			return 0
		}
		return binary.LittleEndian.Uint32(p[4*i:])
	}
	switch kind {
	case msgStarted:
		return Event{Started: true, PID: int(num(0))}, nil
	case msgStdout:
		return Event{Stream: 1, Data: p}, nil
	case msgStderr:
		return Event{Stream: 2, Data: p}, nil
	case msgExit:
		return Event{Exited: true, Code: int(num(0)), OOM: len(p) > 4 && p[4] != 0}, nil
	case msgFailed:
		return Event{}, &Failure{Tag: num(0), Errno: syscall.Errno(num(1)), Text: string(p[min(8, len(p)):])}
	}
	return Event{}, errShort
}
