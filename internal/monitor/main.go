package monitor

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/brig-run/brig/internal/nameserver"
	"github.com/brig-run/brig/internal/relay"
	"github.com/brig-run/brig/internal/runtime/inside"
	"github.com/brig-run/brig/internal/socket"
)

// Argv0 is the name under which the binary runs as a monitor.
const Argv0 = "brig-monitor"

// controlFD is the socket to whoever started the monitor.
const controlFD = 3

// container is the running container of this process.
type container struct {
	start  *Start
	listen int
	cgroup int // directory of v2 that processes are cloned into, or -1
	lock   int // held until this process ends: whoever waits for the lock waits for the container
	state  State
	log    *logFile

	stdin   *os.File // write end, or the terminal's master
	inputs  sync.Mutex
	outputs sync.WaitGroup
	chunks  atomic.Int64 // of output that were read

	mu      sync.Mutex // guards what follows, and clone against wait
	pid     int
	exited  bool
	execs   map[int]*execSession
	clients map[*client]struct{}
	// abandoned: the owner of a container on a leash went away.
	abandoned bool
	stopNames func()     // of the name server, or nil
	held      []*os.File // the host's ports
	// watched: somebody has said how to find out whether it is healthy.
	watched bool

	giveUp chan struct{} // gets a value when the container shall not start anew
}

type client struct {
	*conn
	streams Streams
	first   bool // the one that started the container
}

// execSession is a further child of this process, whose exit code done gets.
type execSession struct{ done chan int }

// Main runs the monitor. It does not return.
func Main() {
	// This is the main thread during package initialization, and it stays
	// alive as long as the process: children may die with it.
	runtime.LockOSThread()
	c, err := newConn(controlFD)
	if err != nil {
		os.Exit(125)
	}
	m := &container{execs: map[int]*execSession{}, clients: map[*client]struct{}{}, giveUp: make(chan struct{}, 1)}
	payload, fds, names := m.awaitStart(c)
	if m.start, err = decodeStart(payload); err != nil {
		refuse(c, err)
	}
	if names != nil {
		m.serveNames(names)
	}
	if err := m.run(c, fds); err != nil {
		m.cleanUp()
		refuse(c, err)
	}
	time.Sleep(settled)
	trim()
	select {}
}

// awaitStart takes in what comes before the start, and gives the start and the
// sockets of a name server, if there are any.
func (m *container) awaitStart(c *conn) (payload []byte, fds, names []int) {
	for {
		kind, payload, fds, err := c.receive()
		switch {
		case err != nil:
			os.Exit(125)
		case kind == msgHold:
			m.hold(payload, fds)
		case kind == msgNames && len(fds) == 2 && names == nil:
			names = fds
		case kind == msgStart:
			return payload, fds, names
		default:
			os.Exit(125)
		}
	}
}

// hold keeps the sockets of the host's ports, and relays what reaches them.
func (m *container) hold(payload []byte, fds []int) {
	d := &decoder{b: payload}
	for _, fd := range fds {
		udp, to := d.flag(), socket.Address{IP: d.str(), Port: uint16(d.num())}
		syscall.SetNonblock(fd, true)
		f := os.NewFile(uintptr(fd), "published port")
		m.held = append(m.held, f)
		if udp {
			go relay.UDP(f, to)
		} else {
			go relay.TCP(f, to)
		}
	}
}

// serveNames makes this process the container's name server.
func (m *container) serveNames(fds []int) {
	var files [2]*os.File
	for i, fd := range fds {
		syscall.SetNonblock(fd, true)
		files[i] = os.NewFile(uintptr(fd), "name server")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopNames != nil {
		m.stopNames()
	}
	m.stopNames = nameserver.Serve(files[0], files[1], m.start.Dir)
}

func refuse(c *conn, err error) {
	sendFailure(c, err)
	os.Exit(125)
}

// noTag in a failure says that its text is all there is to say.
const noTag = 0xffffffff

// run starts the container and serves it. It returns an error if there is no
// container; then the caller cleans up.
func (m *container) run(c *conn, fds []int) error {
	s := m.start
	if len(fds) < 3 {
		return errShort
	}
	program, rest := fds[0], fds[3:]
	m.lock, m.listen = fds[1], fds[2]
	p, err := inside.Map(program, s.Size)
	if err != nil {
		return err
	}
	syscall.Close(program)
	defer p.Unmap()
	if m.log = newLog(s.Log); m.log != nil {
		m.log.compress = m.compressor
	}
	clone := inside.Clone{Flags: uintptr(s.CloneFlag), PIDNS: -1, CgroupFD: -1, Forks: s.Forks}
	var used []int
	take := func() int {
		if len(rest) == 0 {
			err = errShort
			return -1
		}
		fd := rest[0]
		rest, used = rest[1:], append(used, fd)
		return fd
	}
	if s.HasPIDNS {
		clone.PIDNS = take()
	}
	if s.HasCgroup {
		clone.CgroupFD = take()
		used = used[:len(used)-1] // stays for exec
	}
	m.cgroup = clone.CgroupFD
	for _, r := range s.Regs {
		p.SetReg(r, uint64(take()))
	}
	master := -1
	if s.TTY {
		master = take()
		used = used[:len(used)-1]
	}
	if err != nil {
		return err
	}
	outs, err := m.streams(p, master, &used)
	if err != nil {
		return err
	}
	first := &client{conn: c, streams: s.Attach, first: true}
	if s.Attach != 0 {
		m.clients[first] = struct{}{}
	}
	go m.serve(first)
	pid, err := p.Spawn(clone, func(pid int) {
		m.mu.Lock()
		m.pid = pid
		if m.abandoned {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		m.mu.Unlock()
		m.started(pid)
	}, nil)
	closeAll(used)
	if err != nil {
		return err
	}
	m.event("start") // before anybody can tell of what follows
	c.send(append([]byte{msgStarted}, u32(uint32(pid))...))
	for i, f := range outs {
		m.outputs.Add(1)
		go m.copyOut(f, []byte{msgStdout, msgStderr}[i])
	}
	go m.accept()
	go m.reap()
	return nil
}

// streams makes the container's standard streams: the slave side is opened by
// the child for a terminal; pipes are made here, their child's ends put into
// used. It returns what the container's output is to be read from.
func (m *container) streams(p *inside.Program, master int, used *[]int) ([]*os.File, error) {
	if master >= 0 {
		syscall.SetNonblock(master, true)
		f := os.NewFile(uintptr(master), "terminal")
		m.stdin = f
		return []*os.File{f}, nil
	}
	if m.start.OpenStdin {
		r, w, err := pipe()
		if err != nil {
			return nil, err
		}
		*used = append(*used, r)
		p.SetReg(inside.RegStdin, uint64(r))
		syscall.SetNonblock(w, true)
		m.stdin = os.NewFile(uintptr(w), "stdin")
	} else {
		null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: "/dev/null", Err: err}
		}
		*used = append(*used, null)
		p.SetReg(inside.RegStdin, uint64(null))
	}
	var outs []*os.File
	for _, reg := range []uint8{inside.RegStdout, inside.RegStderr} {
		r, w, err := pipe()
		if err != nil {
			return nil, err
		}
		*used = append(*used, w)
		p.SetReg(reg, uint64(w))
		syscall.SetNonblock(r, true)
		outs = append(outs, os.NewFile(uintptr(r), "output"))
	}
	return outs, nil
}

func pipe() (r, w int, err error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return 0, 0, os.NewSyscallError("pipe2", err)
	}
	return p[0], p[1], nil
}

// started records that the container runs. That is done while the child still
// mounts, when it would die with this process: so there is no moment in which a
// container runs that is not on record.
func (m *container) started(pid int) {
	ticks, _ := ProcessStart(pid)
	m.state = State{Running: true, PID: pid, PIDStart: ticks, Monitor: os.Getpid(), BootID: m.start.BootID,
		StartedAt: time.Now(), Cgroups: m.start.Cgroups, RestartCount: m.start.Restarts, RestartDelay: m.start.Delay}
	if m.start.Health {
		(&health{m: m, status: HealthStarting}).write()
	}
	m.state.Write(m.start.Dir)
}

// copyOut hands the container's output to the log and to the clients. The
// terminal's end is EIO, the pipes' is end of file.
func (m *container) copyOut(f *os.File, kind byte) {
	defer m.outputs.Done()
	s := &stream{log: m.log, name: "stdout"}
	want := Stdout
	if kind == msgStderr {
		s.name, want = "stderr", Stderr
	}
	buf := make([]byte, 1+chunk)
	buf[0] = kind
	for {
		n, err := f.Read(buf[1:])
		if n > 0 {
			m.chunks.Add(1)
			s.write(buf[1 : 1+n])
			for _, c := range m.attached(want) {
				if c.send(buf[:1+n]) != nil {
					m.detach(c)
				}
			}
		}
		if err != nil {
			break
		}
	}
	s.end()
	if !m.start.TTY {
		f.Close()
	}
}

func (m *container) attached(want Streams) (list []*client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.clients {
		if c.streams&want != 0 {
			list = append(list, c)
		}
	}
	return list
}

func (m *container) detach(c *client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.clients, c)
}

// serve handles one client until it goes away.
func (m *container) serve(c *client) {
	var session int // process that resize and signals are for
	for {
		kind, payload, fds, err := c.receive()
		if err != nil {
			break
		}
		switch {
		case kind == msgExec:
			session = m.exec(c.conn, payload, fds)
			fds = nil
		case kind == msgKeep && len(fds) == 1:
			go discard(fds[0])
			fds = nil
		case kind == msgNames && len(fds) == 2:
			m.serveNames(fds)
			fds = nil
		case kind == msgHealth && c.first:
			m.mu.Lock()
			m.watched = m.watchHealth(payload, fds) == nil
			m.mu.Unlock()
			fds = nil
		case kind == msgUpdate:
			m.update(payload)
			c.sendKind(msgDone, nil)
		case kind == msgGiveUp:
			select {
			case m.giveUp <- struct{}{}:
			default:
			}
		case kind == msgAttach && len(payload) == 1:
			m.attach(c, Streams(payload[0]))
		case kind == msgStdin:
			m.input(payload)
		case kind == msgEOF:
			m.endInput(c)
		case kind == msgResize && len(payload) == 4:
			m.resize(payload)
		case kind == msgSignal && len(payload) == 1:
			m.signal(session, syscall.Signal(payload[0]))
		}
		closeAll(fds)
	}
	m.detach(c)
	if c.first && c.streams&Stdin != 0 {
		m.endInput(c)
	}
	if c.first && m.start.Leash {
		m.abandon()
	}
	m.mu.Lock()
	unwatched := c.first && m.start.Health && m.pid != 0 && !m.watched
	m.mu.Unlock()
	if unwatched {
		m.noHealth()
	}
}

// update takes over what may change while the container runs.
func (m *container) update(payload []byte) {
	var c Changeable
	d := &decoder{b: payload}
	if c.decode(d); d.err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// What happens at the end is settled once that has come; finish reads it
	// without the lock.
	if !m.exited {
		m.start.Changeable = c
	} else {
		m.start.Attributes = c.Attributes
	}
}

// abandon ends a container whose owner went away, also one that is just being
// cloned.
func (m *container) abandon() {
	m.mu.Lock()
	m.abandoned = true
	m.mu.Unlock()
	m.signal(0, syscall.SIGKILL)
}

func (m *container) attach(c *client, s Streams) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.streams = s
	if m.exited {
		return // its exit message comes from finish, or has come
	}
	m.clients[c] = struct{}{}
}

// input blocks while the container does not read: that holds up this client
// alone, and the inputs lock keeps two clients' bytes apart.
func (m *container) input(p []byte) {
	m.inputs.Lock()
	defer m.inputs.Unlock()
	if m.stdin != nil {
		m.stdin.Write(p)
	}
}

func (m *container) endInput(c *client) {
	if m.start.TTY || !m.start.StdinOnce || c.streams&Stdin == 0 {
		return
	}
	m.inputs.Lock()
	defer m.inputs.Unlock()
	if m.stdin != nil {
		m.stdin.Close()
		m.stdin = nil
	}
}

func (m *container) signal(pid int, sig syscall.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if pid == 0 && !m.exited {
		pid = m.pid
	} else if m.execs[pid] == nil {
		return
	}
	if pid > 0 {
		syscall.Kill(pid, sig)
	}
}

// resize sets the size of the container's terminal; the kernel then signals
// SIGWINCH to whoever is in its foreground.
func (m *container) resize(p []byte) {
	if !m.start.TTY {
		return
	}
	size := [4]uint16{uint16(p[0]) | uint16(p[1])<<8, uint16(p[2]) | uint16(p[3])<<8} // struct winsize
	raw, err := m.stdin.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size)))
	})
}

func (m *container) accept() {
	syscall.SetNonblock(m.listen, true)
	socket.Accept(os.NewFile(uintptr(m.listen), socketName), func(fd int) {
		if c, err := newConn(fd); err == nil {
			go func() {
				defer c.close()
				m.serve(&client{conn: c})
			}()
		}
	})
}

// reap waits for every child: the container's first process and those of exec.
func (m *container) reap() {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WALL, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return // no children left
		}
		m.mu.Lock()
		first, x := pid == m.pid, m.execs[pid]
		delete(m.execs, pid)
		if first {
			m.exited = true
		}
		m.mu.Unlock()
		if x != nil {
			x.done <- exitCode(ws)
		}
		if first {
			go m.finish(exitCode(ws))
		}
	}
}

func exitCode(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// exec runs a further process for a client, and reports its end. The client's
// own descriptors are the process's streams.
func (m *container) exec(c *conn, payload []byte, fds []int) (pid int) {
	defer closeAll(fds)
	x, err := decodeExec(payload)
	if err == nil && len(fds) != 1+len(x.Regs)+3+btoi(x.HasPIDNS) {
		err = errShort
	}
	var p *inside.Program
	if err == nil {
		p, err = inside.Map(fds[0], x.Size)
	}
	if err != nil {
		sendFailure(c, err)
		return 0
	}
	defer p.Unmap()
	clone := inside.Clone{PIDNS: -1, CgroupFD: m.cgroup, Forks: x.Forks}
	rest := fds[1:]
	if x.HasPIDNS {
		clone.PIDNS, rest = rest[0], rest[1:]
	}
	for i, r := range x.Regs {
		p.SetReg(r, uint64(rest[i]))
	}
	for i, fd := range rest[len(x.Regs):] {
		p.SetReg(uint8(inside.RegStdin+i), uint64(fd))
	}
	return m.execSpawn(c, x, p, clone)
}

// discard reads a terminal until nobody has its other side open.
func discard(master int) {
	syscall.SetNonblock(master, true)
	f := os.NewFile(uintptr(master), "terminal")
	defer f.Close()
	buf := make([]byte, 4<<10)
	for {
		if _, err := f.Read(buf); err != nil {
			return
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func sendFailure(c *conn, err error) {
	tag, errno, text := uint32(noTag), uint32(0), err.Error()
	if s, ok := err.(*inside.StepError); ok {
		tag, errno, text = s.Tag, uint32(s.Errno), ""
	}
	c.send(append([]byte{msgFailed}, append(u32(tag, errno), text...)...))
}

func (m *container) execSpawn(c *conn, x *Exec, p *inside.Program, clone inside.Clone) int {
	// The child dies with this thread until its execve.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, done, err := m.child(p, clone)
	if err != nil {
		sendFailure(c, err)
		return 0
	}
	c.send(append([]byte{msgStarted}, u32(uint32(pid))...))
	m.event("exec_create: "+x.Command, "execID", x.ID)
	m.event("exec_start: "+x.Command, "execID", x.ID)
	go func() {
		code := <-done
		m.event("exec_die", "execID", x.ID, "exitCode", strconv.Itoa(code))
		c.send(append(append([]byte{msgExit}, u32(uint32(code))...), 0))
	}()
	return pid
}

// child starts a further process, whose exit code the channel gets. The caller
// has locked its thread.
func (m *container) child(p *inside.Program, clone inside.Clone) (int, <-chan int, error) {
	x := &execSession{done: make(chan int, 1)}
	m.mu.Lock()
	if m.exited {
		m.mu.Unlock()
		return 0, nil, errNotRunning
	}
	locked := true
	pid, err := p.Spawn(clone, func(pid int) {
		m.execs[pid] = x // before the lock goes, so that reap finds it
		m.mu.Unlock()
		locked = false
	}, nil)
	if locked {
		m.mu.Unlock()
	}
	return pid, x.done, err
}

type textError string

func (e textError) Error() string { return string(e) }

const errNotRunning = textError("container is not running")
