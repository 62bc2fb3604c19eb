package cli

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/moby/term"
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

func newExec(a *app) *cobra.Command {
	o := &spec.ExecOptions{}
	var detach, interactive bool
	var keys string
	var envs, envFiles []string
	cmd := &cobra.Command{
		Use:   "exec [flags] CONTAINER COMMAND [ARG...]",
		Short: "Run a further command in a running container",
		Long: `Run a further command in a running container, with the container's own
capabilities and seccomp filter, never more, unless --privileged is given.`,
		Example: `  brig exec -it web sh
  brig exec -u postgres db psql -c 'select 1'`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return argsError(c, "at least 2 arguments: the container and the command")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&detach, "detach", "d", false, "run in the background")
	f.BoolVarP(&interactive, "interactive", "i", false, "pass the input on")
	f.BoolVarP(&o.TTY, "tty", "t", false, "give the command a terminal")
	f.StringArrayVarP(&envs, "env", "e", nil, "set a variable: NAME=VALUE, or NAME to pass the one here on")
	f.StringArrayVar(&envFiles, "env-file", nil, "read variables from a file, one a line")
	parsed(f, "workdir", "w", "path", "working directory in the container", spec.ParseWorkdir, func(v string) { o.Workdir = v })
	parsed(f, "user", "u", "name|uid[:group|gid]", "user and group of the command", spec.ParseUser, func(v string) { o.User = v })
	f.BoolVar(&o.Privileged, "privileged", false, "give the command all capabilities and no filter")
	f.StringVar(&keys, "detach-keys", defaultDetachKeys, "keys that leave a terminal and let the command run")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		d, err := parseDetachKeys(keys)
		if err != nil {
			return err
		}
		flags := createFlags{envs: envs, envFiles: envFiles}
		if err := flags.environment(); err != nil {
			return err
		}
		o.Env, o.Args = flags.o.Env, args[1:]
		c, err := a.container(args[0])
		if err != nil {
			return err
		}
		x := &execution{a: a, c: c, o: o, s: &session{a: a, tty: o.TTY, stdin: interactive && !detach, detach: d}}
		if detach {
			o.TTY = false // nobody would hold its other end
			return x.detached()
		}
		return x.foreground()
	}
	return cmd
}

// execution is one brig exec.
type execution struct {
	a *app
	c *engine.Container
	o *spec.ExecOptions
	s *session
}

// start runs the command with the streams, which it closes here.
func (x *execution) start(streams [3]*os.File) (*monitor.Client, *os.File, error) {
	m, master, err := x.c.Exec(x.o, streams, x.s.size())
	for _, f := range streams {
		if f != nil {
			f.Close()
		}
	}
	if err == nil {
		return m, master, nil
	}
	code := engine.ExitCode(err)
	if code == engineFailed {
		code = 1 // as Docker
	}
	return nil, nil, &exitError{code, err}
}

func (x *execution) detached() error {
	var streams [3]*os.File
	for i := range streams {
		f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		streams[i] = f
	}
	m, _, err := x.start(streams)
	if err == nil {
		m.Close()
	}
	return err
}

func (x *execution) foreground() error {
	if err := x.s.checkTTY(); err != nil {
		return err
	}
	if x.o.TTY {
		return x.onTerminal()
	}
	// Pipes, always: the container gets no descriptor of a file or a terminal
	// of the host.
	p, err := newPipes(x.s.stdin)
	if err != nil {
		return err
	}
	m, _, err := x.start(p.inner)
	if err != nil {
		return err
	}
	defer m.Close()
	if p.stdin != nil {
		go func() {
			io.Copy(p.stdin, x.a.in)
			p.stdin.Close()
		}()
	}
	ended := make(chan struct{})
	out := drain(x.a.out, p.stdout, ended)
	errs := drain(x.a.err, p.stderr, ended)
	code, err := exitOf(m)
	close(ended)
	<-out
	<-errs
	return leave(x.a, code, err)
}

func (x *execution) onTerminal() error {
	m, master, err := x.start([3]*os.File{})
	if err != nil {
		return err
	}
	defer m.Close()
	x.s.raw()
	defer x.s.close()
	stop := x.s.follow(func(rows, cols uint16) {
		resize(master, rows, cols)
	}, func(syscall.Signal) {})
	defer stop()
	detached := make(chan struct{})
	if x.s.stdin {
		go x.s.input(master, func() {}, detached)
	}
	gone := make(chan struct{})
	ended := make(chan struct{})
	out := drain(x.a.out, master, ended)
	var code int
	go func() {
		code, err = exitOf(m)
		close(gone)
	}()
	select {
	case <-gone:
		close(ended)
		<-out
		return leave(x.a, code, err)
	case <-detached:
		if err := m.Keep(master); err != nil {
			return leave(x.a, 0, err)
		}
		return leave(x.a, 0, errDetached)
	}
}

// resize sets the size of a terminal, without Fd, which would make it blocking.
func resize(master *os.File, rows, cols uint16) {
	if raw, err := master.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { term.SetWinsize(fd, &term.Winsize{Height: rows, Width: cols}) })
	}
}

// exitOf waits for the end of the command. Where the container itself ends
// first, its monitor goes without a word, and the command was killed.
func exitOf(m *monitor.Client) (int, error) {
	for {
		ev, err := m.Next()
		if errors.Is(err, io.EOF) {
			return 128 + int(syscall.SIGKILL), nil
		}
		if err != nil || ev.Exited {
			return ev.Code, err
		}
	}
}

// pipes are the streams of a command: inner for it, the others for us.
type pipes struct {
	inner          [3]*os.File
	stdin          *os.File
	stdout, stderr *os.File
}

func newPipes(stdin bool) (p pipes, err error) {
	if stdin {
		p.inner[0], p.stdin, err = os.Pipe()
	} else {
		p.inner[0], err = os.Open(os.DevNull)
	}
	if err == nil {
		p.stdout, p.inner[1], err = os.Pipe()
	}
	if err == nil {
		p.stderr, p.inner[2], err = os.Pipe()
	}
	return p, err
}

// drain copies r to w until the end of r, or until the command has ended and
// what it wrote is read: a process that it left behind may keep r open.
func drain(w io.Writer, r *os.File, ended <-chan struct{}) <-chan struct{} {
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		io.Copy(w, r)
	}()
	go func() {
		defer close(done)
		select {
		case <-finished:
			return
		case <-ended:
		}
		select {
		case <-finished:
			return
		default:
		}
		r.SetReadDeadline(time.Unix(1, 0)) // long ago: stop waiting
		<-finished
		readRest(w, r)
	}()
	return done
}

// readRest copies what can be read without waiting.
func readRest(w io.Writer, r *os.File) {
	raw, err := r.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	raw.Control(func(fd uintptr) {
		for {
			n, err := syscall.Read(int(fd), buf)
			if err == syscall.EINTR {
				continue
			}
			if n <= 0 || err != nil {
				return
			}
			w.Write(buf[:n])
		}
	})
}
