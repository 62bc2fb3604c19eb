// Package harness lets tests use the real brig: the binary as it is built for
// users, a store of its own for every test, small images made on the spot, a
// terminal to type into, and a check that nothing is left on the machine.
//
// It knows how Brig is used and where its traces would be found (mounts,
// cgroups, processes, directories); it imports nothing of Brig.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Patience bounds every wait for something that must happen. It is no
// expectation of speed: a test that needs it all has found something that hangs.
const Patience = 60 * time.Second

// binary builds brig once in a process. BRIG_BINARY names one that exists.
var binary = sync.OnceValues(func() (string, error) {
	if b := os.Getenv("BRIG_BINARY"); b != "" {
		return filepath.Abs(b)
	}
	dir, err := os.MkdirTemp(scratch(), "brig-bin-")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "brig")
	cmd := exec.Command("go", "build", "-o", name, "github.com/brig-run/brig/cmd/brig")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	built = dir
	return name, nil
})

// built is the directory of the binary made by this process.
var built string

// Main runs the tests of a package that uses the harness, and cleans up.
func Main(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "containers need root: run the tests with sudo")
		os.Exit(1)
	}
	code := m.Run()
	for _, dir := range []string{built, linked} {
		if dir != "" {
			os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

// Binary gives the path of a brig.
func Binary() (string, error) { return binary() }

// Runtime gives the path of a link to brig that makes it an OCI runtime.
var Runtime = sync.OnceValues(func() (string, error) {
	bin, err := binary()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(scratch(), "brig-link-")
	if err != nil {
		return "", err
	}
	linked = dir
	name := filepath.Join(dir, "brig-runtime")
	return name, os.Symlink(bin, name)
})

// linked is the directory of that link.
var linked string

// scratch is a directory for stores. /tmp may be in memory, and an overlay's
// upper directory cannot lie in another overlay.
func scratch() string {
	if dir := os.Getenv("BRIG_TEST_DIR"); dir != "" {
		return dir
	}
	const dir = "/var/tmp"
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return "/dev/shm"
	}
	return dir
}

// Scratch is the directory below which tests may make stores.
func Scratch() string { return scratch() }

// Root is a store of one test.
type Root struct {
	Dir    string // of the store; BRIG_ROOT
	Binary string
	watch  *watch
}

// New makes a store that the test's cleanup takes away, after a look at what
// is left of its containers.
func New(tb testing.TB) *Root {
	tb.Helper()
	dir, err := os.MkdirTemp(scratch(), "brig-test-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	r, err := Open(filepath.Join(dir, "root"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// NewWithBusybox makes a store that has the image busybox.
func NewWithBusybox(tb testing.TB) *Root {
	tb.Helper()
	r := New(tb)
	r.LoadBusybox(tb)
	return r
}

// LoadBusybox loads the image busybox into the store.
func (r *Root) LoadBusybox(tb testing.TB) {
	tb.Helper()
	image, err := Busybox("busybox")
	if err == nil {
		err = r.Load(image)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// Open makes an empty store in dir.
func Open(dir string) (*Root, error) {
	bin, err := binary()
	if err != nil {
		return nil, err
	}
	r := &Root{Dir: dir, Binary: bin}
	// Made ahead of brig, so that every container that ever lives can be seen.
	if err := os.MkdirAll(filepath.Join(dir, "containers"), 0o700); err != nil {
		return nil, err
	}
	r.watch, err = watchDir(filepath.Join(dir, "containers"))
	return r, err
}

// Command prepares a brig on this store.
func (r *Root) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(r.Binary, args...)
	cmd.Env = append(os.Environ(), "BRIG_ROOT="+r.Dir)
	return cmd
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Output is standard output without the space around it.
func (r Result) Output() string { return strings.TrimSpace(r.Stdout) }

// Run runs brig with empty input.
func (r *Root) Run(args ...string) Result { return r.RunInput(nil, args...) }

// RunInput runs brig with some input. A command that hangs is killed, with code -1.
func (r *Root) RunInput(in io.Reader, args ...string) Result {
	cmd := r.Command(args...)
	cmd.Stdin = in
	return Finish(cmd)
}

// Finish runs a command to its end, for Patience at most.
func Finish(cmd *exec.Cmd) Result {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	// What hangs is not the command alone: a process that it left could hold
	// its output open.
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Start()
	if err == nil {
		t := time.AfterFunc(Patience, func() { cmd.Process.Kill() })
		err = cmd.Wait()
		t.Stop()
	}
	res := Result{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		res.Stderr += err.Error()
		res.Code = -1
	}
	return res
}

// Must runs brig and gives its output; the test ends if brig fails.
func (r *Root) Must(tb testing.TB, args ...string) string {
	tb.Helper()
	res := r.Run(args...)
	if res.Code != 0 {
		tb.Fatalf("brig %s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), res.Code, res.Stdout, res.Stderr)
	}
	return res.Output()
}

// Load makes an image and loads it into the store.
func (r *Root) Load(image *Image) error {
	var archive bytes.Buffer
	if err := image.Write(&archive); err != nil {
		return err
	}
	if res := r.RunInput(&archive, "load"); res.Code != 0 {
		return fmt.Errorf("brig load %s: exit code %d: %s", image.Name, res.Code, res.Stderr)
	}
	return nil
}

// Eventually waits until f holds.
func Eventually(what string, f func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for wait := time.Millisecond; !f(); wait = min(2*wait, 100*time.Millisecond) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("still not after %s: %s", Patience, what)
		case <-time.After(wait):
		}
	}
	return nil
}
