package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/moby/term"
	xterm "golang.org/x/term"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/monitor"
)

// session connects this command's streams, terminal and signals with a process
// in a container.
type session struct {
	a        *app
	tty      bool
	stdin    bool
	sigProxy bool
	detach   []byte // key sequence that leaves, with a terminal
	restore  func()
	once     sync.Once
	// complained: the container wrote that something was refused.
	complained bool
}

// defaultDetachKeys is Docker's.
const defaultDetachKeys = "ctrl-p,ctrl-q"

// errDetached ends a session whose user pressed the detach keys.
var errDetached = errors.New("detached")

func parseDetachKeys(keys string) ([]byte, error) {
	b, err := term.ToBytes(keys)
	if err != nil {
		return nil, fmt.Errorf("--detach-keys %q: %w; write as in %q", keys, err, defaultDetachKeys)
	}
	return b, nil
}

// checkTTY refuses a terminal whose input is none: the program in the container
// would wait for keys that cannot come.
func (s *session) checkTTY() error {
	if s.tty && s.stdin && !xterm.IsTerminal(int(s.a.in.Fd())) {
		return &exitError{1, errors.New("the input device is not a TTY; leave out -t, or use -t without -i")}
	}
	return nil
}

// with prepares the session for a container that exists, and says which of its
// streams to attach.
func (s *session) with(c *engine.Container) (monitor.Streams, error) {
	s.tty = c.Options.TTY
	s.stdin = s.stdin && c.Options.OpenStdin
	streams := monitor.Stdout | monitor.Stderr
	if s.stdin {
		streams |= monitor.Stdin
	}
	return streams, s.checkTTY()
}

// raw puts this command's terminal into raw mode: keys go to the container, not
// to the line discipline here.
func (s *session) raw() {
	fd := int(s.a.in.Fd())
	if !s.tty || !s.stdin || !xterm.IsTerminal(fd) {
		return
	}
	if old, err := xterm.MakeRaw(fd); err == nil {
		s.restore = func() { xterm.Restore(fd, old) }
	}
}

// die ends this command by a signal, with its terminal as it was.
func (s *session) die(n syscall.Signal) {
	s.close()
	signal.Reset(n)
	syscall.Kill(os.Getpid(), n)
	select {} // the signal is on its way
}

func (s *session) close() {
	s.once.Do(func() {
		if s.restore != nil {
			s.restore()
		}
	})
}

// input copies this command's input to w until its end, which end reports, or
// until the detach keys.
func (s *session) input(w io.Writer, end func(), detached chan<- struct{}) {
	var r io.Reader = s.a.in
	if s.tty && len(s.detach) > 0 {
		r = term.NewEscapeProxy(r, s.detach)
	}
	_, err := io.Copy(w, r)
	var left term.EscapeError
	if errors.As(err, &left) {
		close(detached)
		return
	}
	end()
}

// follow keeps the size of the container's terminal like this one's, and
// forwards signals. With a terminal it forwards none, as Docker: keys such as
// ctrl-c reach the container as bytes, and a signal means this command alone.
func (s *session) follow(resize func(rows, cols uint16), send func(syscall.Signal)) (stop func()) {
	ch := make(chan os.Signal, 64)
	switch {
	case s.tty:
		signal.Notify(ch, syscall.SIGWINCH, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	case s.sigProxy:
		signal.Notify(ch)
	}
	size := func() {
		if z := s.size(); z != (engine.ConsoleSize{}) {
			resize(z.Rows, z.Cols)
		}
	}
	size()
	go func() {
		for sig := range ch {
			switch n := sig.(syscall.Signal); n {
			case syscall.SIGWINCH:
				if s.tty {
					size()
				} else {
					send(n)
				}
			case syscall.SIGCHLD, syscall.SIGPIPE, syscall.SIGURG: // ours, or the Go runtime's
			case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCONT: // job control of this shell
			default:
				if s.tty {
					s.die(n)
				}
				send(n)
			}
		}
	}()
	return func() { signal.Stop(ch) }
}

// size is that of this command's terminal, if the session has one.
func (s *session) size() engine.ConsoleSize {
	if !s.tty {
		return engine.ConsoleSize{}
	}
	ws, err := term.GetWinsize(s.a.outFD())
	if err != nil {
		return engine.ConsoleSize{}
	}
	return engine.ConsoleSize{Rows: ws.Height, Cols: ws.Width}
}

// outFD is the terminal whose size counts.
func (a *app) outFD() uintptr {
	if f, ok := a.out.(*os.File); ok && xterm.IsTerminal(int(f.Fd())) {
		return f.Fd()
	}
	return a.in.Fd()
}

// attached runs a session with the container's own first process until it ends
// and gives its exit code, or errDetached.
func (s *session) attached(m *monitor.Client, exitOf func(error) (int, error)) (int, error) {
	s.raw()
	defer s.close()
	stop := s.follow(func(r, c uint16) { m.Resize(r, c) }, func(n syscall.Signal) { m.Signal(n) })
	defer stop()
	detached := make(chan struct{})
	if s.stdin {
		go s.input(m, func() { m.CloseInput() }, detached)
	}
	type result struct {
		code int
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		code, err := s.output(m)
		if err != nil {
			code, err = exitOf(err)
		}
		ended <- result{code, err}
	}()
	select {
	case r := <-ended:
		return r.code, r.err
	case <-detached:
		return 0, errDetached
	}
}

// output prints what the container writes until its exit.
func (s *session) output(m *monitor.Client) (int, error) {
	for {
		ev, err := m.Next()
		switch {
		case err != nil:
			return 0, err
		case ev.Exited:
			return ev.Code, nil
		case ev.Stream == 1:
			s.a.out.Write(ev.Data)
			s.listen(ev.Data)
		case ev.Stream == 2:
			s.a.err.Write(ev.Data)
			s.listen(ev.Data)
		}
	}
}

// leave turns the end of a session into the end of the command.
func leave(a *app, code int, err error) error {
	switch {
	case errors.Is(err, errDetached):
		fmt.Fprint(a.err, "\r\n")
		return nil
	case err != nil:
		return &exitError{engineFailed, err}
	case code != 0:
		return &exitError{code: code}
	}
	return nil
}
