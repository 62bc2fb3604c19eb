// Package witness is the process that records one container: what it is denied,
// or all that it uses. It stays as long as the container: it is the owner of the
// recording, which the kernel ends with it.
//
// It knows a cgroup and a directory, and asks package record. What a denial
// means is the business of package explain, and what else becomes of a recording
// that of whoever gave the witness a [Duty].
package witness

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/record"
)

// Names in the container's directory.
const (
	socketName = "witness.sock"
	resultFile = "witness.json"
)

// Command is the hidden command of the binary that calls [Main].
const Command = "witness"

// Witness is a witness that this process started.
type Witness struct {
	conn *os.File // gets a line when it is ready, and the recording at the end
	cmd  *exec.Cmd
}

// Spawn starts a witness, which prepares itself while the container is made.
// programs is the file in which it keeps its programs; see record.OpenDenials.
func Spawn(programs string) (*Witness, error) { return SpawnAs([]string{Command, programs}) }

// SpawnAs starts a witness by another command line of this binary, which calls
// [Serve] and has the files from descriptor 4 on.
func SpawnAs(args []string, files ...*os.File) (*Witness, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("start the witness: %w", err)
	}
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "brig"
	cmd.ExtraFiles = append([]*os.File{theirs}, files...)
	cmd.Dir, cmd.Env = "/", []string{} // it holds no file system busy
	// Signals of the terminal mean the command, not this.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the witness: %w", err)
	}
	return &Witness{conn: ours, cmd: cmd}, nil
}

// assignment is the first line that a witness reads.
type assignment struct{ Cgroup, Dir string }

// Watch gives the witness the container in a directory, whose v2 cgroup is
// cgroup, and waits until it records.
func (x *Witness) Watch(cgroup, dir string) error {
	if err := json.NewEncoder(x.conn).Encode(assignment{cgroup, dir}); err != nil {
		return fmt.Errorf("start the witness: %w", err)
	}
	var answer [1024]byte
	n, err := x.conn.Read(answer[:])
	if text := string(answer[:n]); err != nil || text != ready {
		return fmt.Errorf("start the witness: %s", strings.TrimSpace(strings.TrimPrefix(text, failed)))
	}
	return nil
}

// Cancel ends a witness whose container did not start.
func (x *Witness) Cancel() {
	x.cmd.Process.Kill() // the kernel ends the recording with it
	x.cmd.Wait()
	x.conn.Close()
}

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "witness"), os.NewFile(uintptr(fds[1]), "starter"), nil
}

const (
	ready  = "ready\n"
	failed = "failed: "
)

// Started tells the witness the container's first process, whose end it waits
// for. Without that, [Close] means that there will be none.
func (x *Witness) Started(pid int) error {
	_, err := fmt.Fprintf(x.conn, "%d\n", pid)
	if err != nil {
		return fmt.Errorf("tell the witness what started: %w", err)
	}
	return nil
}

// Close leaves the witness to itself.
func (x *Witness) Close() { x.conn.Close() }

// Wait waits for the end of the container and returns what was recorded.
func (x *Witness) Wait() (*record.Recording, error) {
	defer x.conn.Close()
	b, err := io.ReadAll(x.conn)
	x.cmd.Wait()
	if err == nil {
		return decode(b)
	}
	return nil, fmt.Errorf("hear the witness: %w", err)
}

func decode(b []byte) (*record.Recording, error) {
	rec := &record.Recording{}
	if err := json.Unmarshal(b, rec); err != nil {
		return nil, fmt.Errorf("hear the witness: it ended early: %w", err)
	}
	return rec, nil
}

// ErrNone says that a container has no witness, and had none.
var ErrNone = errors.New("nobody recorded what it was denied")

// Alive reports whether the container in a directory has a witness now.
func Alive(dir string) bool {
	conn, err := dial(dir)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// PID is the process of a witness that this process started.
func (x *Witness) PID() int { return x.cmd.Process.Pid }

// Ask returns what the witness of the container in a directory has recorded, by
// now or in all.
func Ask(dir string) (*record.Recording, error) {
	conn, err := dial(dir)
	if err == nil {
		defer conn.Close()
		b, err := io.ReadAll(conn)
		if err != nil {
			return nil, fmt.Errorf("ask the witness: %w", err)
		}
		if len(b) > 0 {
			return decode(b)
		} // it has just left its result
	}
	b, err := os.ReadFile(filepath.Join(dir, resultFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, ErrNone
	case err != nil:
		return nil, fmt.Errorf("read what the witness recorded: %w", err)
	}
	return decode(b)
}

// dial connects by a short name: the directory's may be too long for a socket.
func dial(dir string) (net.Conn, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return net.DialTimeout("unix", fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName), 5*time.Second)
}

// Duty is what a witness does.
type Duty struct {
	Programs string // file for its programs; see record.Open
	All      bool   // record all that the container uses, and not its denials alone
	Files    int    // that it was given, from descriptor 4 on
	// Keep, if not nil, gets the recording of the container in a directory, at its
	// end and, if Every is more than 0, now and then before: soon, and then at longer
	// intervals up to Every. It may add notes, which those who ask are told.
	Keep  func(dir string, rec *record.Recording, ended bool)
	Every time.Duration
}

// Main is the witness of a container started with --explain.
func Main(programs string) error { return Serve(Duty{Programs: programs}) }

// Serve is a witness's work. Descriptor 3 is the socket of whoever spawned it.
func Serve(d Duty) error {
	letGo(3 + d.Files)
	os.WriteFile("/proc/self/comm", []byte("brig-witness"), 0) // for ps(1); it was executed as "exe"
	starter := os.NewFile(3, "starter")
	w := &witness{duty: d, left: make(chan struct{})}
	failure := w.open()
	if w.recorder != nil {
		defer w.recorder.Close()
	}
	lines := bufio.NewScanner(starter)
	if !lines.Scan() {
		return nil // there will be no container
	}
	if failure == nil {
		failure = w.start(lines.Bytes())
	}
	if failure != nil {
		fmt.Fprintf(starter, "%s%v", failed, failure)
		return failure
	}
	if _, err := io.WriteString(starter, ready); err != nil {
		return nil // nobody wants it
	}
	go w.serve()
	if err := w.stay(lines); err != nil {
		return err
	}
	return w.finish(starter)
}

// letGo closes what the caller has left open for this process by accident: whoever
// waits for the end of a pipe would wait for the end of the container. Descriptors
// as far as last are this process's, and those of Go's are marked.
func letGo(last int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		if fd <= last {
			unix.CloseOnExec(fd)
		} else if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

type witness struct {
	duty        Duty
	cgroup, dir string
	recorder    *record.Recorder
	session     *record.Session
	listener    net.Listener
	left        chan struct{} // closed once the result is in the directory
}

// open loads the programs.
func (w *witness) open() (err error) {
	if w.duty.All {
		w.recorder, err = record.Open(1, w.duty.Programs)
	} else {
		w.recorder, err = record.OpenDenials(w.duty.Programs)
	}
	return err
}

// stay waits for the end of the container, and keeps what was recorded by then.
func (w *witness) stay(lines *bufio.Scanner) error {
	var pause time.Duration
	var tick <-chan time.Time
	if w.duty.Keep != nil && w.duty.Every > 0 {
		pause = w.duty.Every / 16
		tick = time.After(pause)
	}
	ended := make(chan error, 1)
	go func() { ended <- untilEmpty(lines, w.cgroup) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick:
			if rec, err := w.session.Snapshot(); err == nil {
				w.duty.Keep(w.dir, rec, false)
			}
			pause = min(2*pause, w.duty.Every)
			tick = time.After(pause)
		}
	}
}

// start begins to record what the line names.
func (w *witness) start(line []byte) error {
	var a assignment
	if err := json.Unmarshal(line, &a); err != nil {
		return fmt.Errorf("read what to record: %w", err)
	}
	w.cgroup, w.dir = a.Cgroup, a.Dir
	target, err := record.CgroupTarget(a.Cgroup)
	if err != nil {
		return err
	}
	target.AtExec = true // the runtime's own calls do not count
	if w.session, err = w.recorder.Start(target); err == nil {
		w.listener, err = listen(a.Dir)
	}
	return err
}

func listen(dir string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	name := fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName)
	os.Remove(name) // of a start before
	os.Remove(filepath.Join(dir, resultFile))
	l, err := net.Listen("unix", name)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the name is of a descriptor that is closed by then
	return l, os.Chmod(filepath.Join(dir, socketName), 0o600)
}

// serve tells everyone who asks what was recorded by now.
func (w *witness) serve() {
	for {
		conn, err := w.listener.Accept()
		if err != nil {
			return
		}
		conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if rec, err := w.session.Snapshot(); err == nil {
			json.NewEncoder(conn).Encode(rec)
		} else {
			<-w.left
		}
		conn.Close()
	}
}

// finish leaves the recording in the container's directory, if that is still
// there, and with whoever waits.
func (w *witness) finish(starter *os.File) error {
	defer w.listener.Close()
	defer os.Remove(filepath.Join(w.dir, socketName))
	defer close(w.left)
	rec, err := w.session.Stop()
	if err != nil {
		return err
	}
	if w.duty.Keep != nil {
		w.duty.Keep(w.dir, rec, true)
	}
	b, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	tmp := filepath.Join(w.dir, "."+resultFile)
	if os.WriteFile(tmp, b, 0o600) == nil {
		os.Rename(tmp, filepath.Join(w.dir, resultFile))
	}
	starter.Write(b) // nobody may listen
	return nil
}
