package scripts

import (
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// terminal starts brig on a terminal of 31 rows and 97 columns.
func terminal(t *testing.T, root *harness.Root, args ...string) *person {
	t.Helper()
	term, err := harness.OpenTerminal(root.Command(args...), 31, 97)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { term.Close() })
	return &person{t, term}
}

// person sits in front of a terminal and gives up the test when it is not as
// it should be.
type person struct {
	t    *testing.T
	term *harness.Terminal
}

func (p *person) sees(pattern string) {
	p.t.Helper()
	if err := p.term.Expect(pattern); err != nil {
		p.t.Fatal(err)
	}
}

// waitsForRaw waits until brig has taken over the terminal: what is typed
// earlier is echoed here, whether or not a container gets to see it.
func (p *person) waitsForRaw() {
	p.t.Helper()
	if err := harness.Eventually("the terminal is raw", func() bool {
		raw, err := p.term.Raw()
		return err == nil && raw
	}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *person) types(keys string) {
	p.t.Helper()
	if err := p.term.Type(keys); err != nil {
		p.t.Fatal(err)
	}
}

func (p *person) resizes(rows, cols uint16) {
	p.t.Helper()
	if err := p.term.Resize(rows, cols); err != nil {
		p.t.Fatal(err)
	}
}

// ends expects an exit code, and a terminal that is as it was.
func (p *person) ends(want int) {
	p.t.Helper()
	code, err := p.term.Wait()
	if err != nil {
		p.t.Fatal(err)
	}
	if code != want {
		p.t.Errorf("exit code %d, want %d", code, want)
	}
	if raw, err := p.term.Raw(); err != nil || raw {
		p.t.Errorf("the terminal is left in raw mode (%v)", err)
	}
}

const (
	ctrlC  = "\x03"
	ctrlD  = "\x04"
	detach = "\x10\x11" // ctrl-p ctrl-q
	resize = `trap "stty size" WINCH; trap "exit 130" INT; echo ready; while :; do sleep 0.05; done`
)

func newRoot(t *testing.T) *harness.Root {
	t.Helper()
	root := harness.NewWithBusybox(t)
	return root
}

func TestTerminal(t *testing.T) {
	root := newRoot(t)
	t.Run("shell", func(t *testing.T) {
		p := terminal(t, root, "run", "--rm", "-it", "busybox", "sh")
		p.sees(`# `)
		p.types("tty; stty size; echo $TERM\r")
		p.sees(`/dev/(pts/0|console)\s`)
		p.sees(`31 97\s`)
		p.sees(`xterm\s`)
		p.types("exit 3\r")
		p.ends(3)
	})
	t.Run("resize", func(t *testing.T) {
		p := terminal(t, root, "run", "--rm", "-it", "busybox", "sh", "-c", resize)
		p.sees("ready")
		p.resizes(44, 123)
		p.sees(`44 123\s`)
		p.resizes(5, 6)
		p.sees(`5 6\s`)
		p.types(ctrlC)
		p.ends(130)
	})
	t.Run("ctrl-c goes to the container alone", func(t *testing.T) {
		p := terminal(t, root, "run", "--rm", "-it", "busybox", "sh", "-c", `trap "echo caught; exit 7" INT; echo ready; while :; do sleep 0.05; done`)
		p.sees("ready")
		p.types(ctrlC)
		p.sees("caught")
		p.ends(7)
	})
	t.Run("end of input", func(t *testing.T) {
		p := terminal(t, root, "run", "--rm", "-it", "busybox", "cat")
		p.types("line\r")
		p.sees(`line\r\nline\r\n`)
		p.types(ctrlD)
		p.ends(0)
	})
	t.Run("output without input", func(t *testing.T) {
		p := terminal(t, root, "run", "--rm", "-t", "busybox", "sh", "-c", "test -t 1 && stty size < /dev/tty")
		p.sees(`31 97\s`)
		p.ends(0)
	})
	t.Run("without -t there is none", func(t *testing.T) {
		p := terminal(t, root, "run", "--rm", "-i", "busybox", "sh", "-c", "test -t 0 || test -t 1 || echo none")
		p.sees("none")
		p.ends(0)
	})
	t.Run("jobs", func(t *testing.T) {
		p := terminal(t, root, "run", "--rm", "-it", "--name", "jobs", "busybox", "sh")
		p.sees("# ")
		p.types("sh -c 'echo begun; exec sleep 600'\r")
		p.sees(`begun\r`)
		p.types("\x1a") // ctrl-z: the shell in the container has job control
		p.sees("Stopped")
		root.Must(t, "kill", "jobs")
		p.ends(137)
	})
	t.Run("screen", func(t *testing.T) {
		p := terminal(t, root, "run", "--rm", "-it", "busybox", "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo; echo the end")
		p.sees("the end")
		p.ends(0)
	})
}

func TestDetach(t *testing.T) {
	root := newRoot(t)
	p := terminal(t, root, "run", "-it", "--name", "shell", "busybox", "sh")
	p.sees("# ")
	p.types("X=kept\r")
	p.sees("# ")
	p.types(detach)
	p.ends(0)
	if out := root.Must(t, "ps", "--format", "{{.Names}} {{.Status}}"); !strings.HasPrefix(out, "shell Up") {
		t.Fatalf("the container does not run on: %q", out)
	}

	// The keys come in two pieces, and a lone first one is for the container.
	p = terminal(t, root, "attach", "shell")
	p.waitsForRaw()
	p.types("echo $X\r")
	p.sees("kept\r")
	p.types("cat -v\r")
	p.sees("cat -v")
	p.types("\x10a\r")
	p.sees(`\^Pa`)
	p.types("\x10")
	p.types("\x11")
	p.ends(0)

	// Other keys.
	p = terminal(t, root, "attach", "--detach-keys", "ctrl-x,x", "shell")
	p.waitsForRaw()
	p.types("word\r")
	p.sees(`word\r\nword`)
	p.types(detach)
	p.types("\x18x")
	p.ends(0)
	p = terminal(t, root, "attach", "--detach-keys", "nonsense-keys", "shell")
	p.sees("detach-keys")
	p.ends(1)

	// Two look at one terminal; the size is the last one's.
	first := terminal(t, root, "attach", "shell")
	first.waitsForRaw()
	first.types("one\r")
	first.sees(`one\r\n\^Pone`) // the container's echo, then cat's line, which the key above began
	second := terminal(t, root, "attach", "shell")
	second.waitsForRaw()
	second.types("both\r")
	second.sees(`both`)
	first.sees(`both`)
	second.types(ctrlC)
	second.sees("# ")
	second.types("stty size; exit 9\r")
	second.ends(9)
	first.ends(9)
	if code := root.Run("wait", "shell").Output(); code != "9" {
		t.Errorf("recorded exit code %s, want 9", code)
	}
	if logs := root.Must(t, "logs", "shell"); !strings.Contains(logs, "kept") {
		t.Errorf("the log lacks the terminal's output: %q", logs)
	}
}

// A window that is closed hangs up the command, not the container.
func TestWindowClosed(t *testing.T) {
	root := newRoot(t)
	p := terminal(t, root, "run", "-it", "--name", "box", "busybox", "sh")
	p.sees("# ")
	if err := p.term.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.term.Wait(); err != nil {
		t.Fatal(err)
	}
	if out := root.Must(t, "ps", "--format", "{{.Names}} {{.Status}}"); !strings.HasPrefix(out, "box Up") {
		t.Fatalf("the container does not run on: %q", out)
	}
}

func TestExecTerminal(t *testing.T) {
	root := newRoot(t)
	root.Must(t, "run", "-d", "--name", "box", "busybox", "sleep", "600")
	p := terminal(t, root, "exec", "-it", "box", "sh")
	p.sees("# ")
	p.types("tty; stty size\r")
	p.sees(`/dev/pts/\d`)
	p.sees(`31 97\s`)
	p.resizes(20, 50)
	p.types("stty size\r")
	p.sees(`20 50\s`)
	p.types("sh -c 'echo begun; exec sleep 600'\r")
	p.sees(`begun\r`)
	p.types(ctrlC)
	p.types("exit 4\r")
	p.ends(4)

	// Detached, the command goes on.
	p = terminal(t, root, "exec", "-it", "box", "sh", "-c", "echo begun; exec sleep 601")
	p.sees("begun")
	p.types(detach)
	p.ends(0)
	if out := root.Must(t, "exec", "box", "ps"); !strings.Contains(out, "sleep 601") {
		t.Errorf("the command has gone: %s", out)
	}
}

func TestExecDetachedTerminal(t *testing.T) {
	root := newRoot(t)
	root.Must(t, "run", "-d", "--name", "box", "busybox", "sleep", "600")
	root.Must(t, "exec", "-d", "-t", "box", "sh", "-c", "tty > /tmp/tty; head -c 1000000 /dev/zero; touch /tmp/written; exec sleep 602")
	if err := harness.Eventually("it writes without a reader", func() bool {
		return root.Run("exec", "box", "cat", "/tmp/written", "/tmp/tty").Code == 0
	}); err != nil {
		t.Fatal(err)
	}
	if out := root.Must(t, "exec", "box", "ps"); !strings.Contains(out, "sleep 602") {
		t.Errorf("the command has gone: %s", out)
	}
}

// A container with a terminal is started again, or made detached and attached to later.
func TestStartOnTerminal(t *testing.T) {
	root := newRoot(t)
	root.Must(t, "create", "-it", "--name", "box", "busybox", "sh", "-c", "stty size; read x; echo got $x; exit 6")
	for range 2 {
		p := terminal(t, root, "start", "-ai", "box")
		p.sees(`31 97\s`)
		p.types("this\r")
		p.sees("got this")
		p.ends(6)
	}
	p := terminal(t, root, "run", "-d", "-it", "--name", "den", "busybox", "sh")
	p.sees("[0-9a-f]{64}")
	p.ends(0)
	p = terminal(t, root, "attach", "den")
	p.waitsForRaw()
	p.types("stty size\r")
	p.sees(`31 97\s`)
	p.types("kill -KILL $$; exit 5\r")
	p.ends(5)
}
