package notified_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/internal/record/notified"
)

// The test binary is the recorder too, so that each test has a process of its
// own: started with this variable, it records its arguments.
const recorderMode = "NOTIFIED_TEST_RECORDER"

func TestMain(m *testing.M) {
	if os.Getenv(recorderMode) != "" {
		os.Unsetenv(recorderMode)
		os.Exit(recorder())
	}
	os.Exit(m.Run())
}

type answer struct {
	Recording *record.Recording
	Code      int
	Err       string
}

func recorder() int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM)
	c := notified.Command{Args: os.Args[1:], Env: os.Environ(), Signals: signals}
	var a answer
	var err error
	if a.Recording, a.Code, err = c.Run(); err != nil {
		a.Err = err.Error()
		var start *notified.StartError
		if errors.As(err, &start) {
			a.Err = fmt.Sprintf("start: %v", start.Err)
		}
	}
	json.NewEncoder(os.NewFile(3, "answer")).Encode(a)
	return 0
}

// output is what a command wrote so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start starts a recorder; the function that it returns waits for its answer.
func start(t *testing.T, args ...string) (*exec.Cmd, *output, func() answer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), recorderMode+"=1")
	cmd.ExtraFiles = []*os.File{w}
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return cmd, out, func() answer {
		t.Helper()
		defer r.Close()
		var a answer
		if err := json.NewDecoder(r).Decode(&a); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		cmd.Wait()
		return a
	}
}

func run(t *testing.T, args ...string) answer {
	t.Helper()
	_, _, wait := start(t, args...)
	a := wait()
	if a.Err != "" {
		t.Fatalf("%v: %s", args, a.Err)
	}
	return a
}

func counts(rec *record.Recording) map[string]uint64 {
	m := map[string]uint64{}
	for _, c := range rec.Syscalls {
		m[c.Name] += c.Count
	}
	return m
}

var traced = regexp.MustCompile(`^\d+ +([a-z0-9_]+)\(`)

// strace counts calls, without the execve of the program itself.
func strace(t *testing.T, args ...string) map[string]uint64 {
	t.Helper()
	file := filepath.Join(t.TempDir(), "trace")
	if out, err := exec.Command("strace", append([]string{"-f", "-o", file}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("strace: %v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]uint64{}
	for line := range strings.Lines(string(b)) {
		if c := traced.FindStringSubmatch(line); c != nil {
			m[c[1]]++
		}
	}
	if m["execve"]--; m["execve"] == 0 {
		delete(m, "execve")
	}
	return m
}

func TestCountsAreThoseOfStrace(t *testing.T) {
	for _, args := range [][]string{
		{"/bin/cat", "/etc/passwd"},
		{"/bin/busybox", "ls", "-l", "/etc"},
		{"/bin/sh", "-c", "/bin/true; /bin/true; /bin/true"},
	} {
		rec := run(t, args...).Recording
		got, want := counts(rec), strace(t, args...)
		if len(want) < 5 {
			t.Fatalf("%v: strace saw %v", args, want)
		}
		// Where a child ends while its parent waits the kernel may start wait4
		// again.
		for _, m := range []map[string]uint64{got, want} {
			delete(m, "wait4")
			for _, name := range rec.Assumed {
				delete(m, name)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%v:\ngot  %v\nwant %v", args, got, want)
		}
	}
}

func TestRecording(t *testing.T) {
	a := run(t, "/usr/bin/unshare", "-U", "/bin/sh", "-c", "exit 7")
	rec := a.Recording
	if a.Code != 7 || !rec.Complete || rec.Kernel == "" || len(rec.Notes) == 0 || !rec.Ended.After(rec.Started) {
		t.Errorf("code %d, recording %+v", a.Code, rec)
	}
	i := slices.IndexFunc(rec.Syscalls, func(c record.Syscall) bool { return c.Name == "unshare" })
	if i < 0 {
		t.Fatal("no unshare")
	}
	c := rec.Syscalls[i]
	if c.ABI != "amd64" || c.Count != 1 || c.FirstProgram != "unshare" || len(c.Args) != 1 || !slices.Equal(c.Args[0].Values, []uint64{unix.CLONE_NEWUSER}) {
		t.Errorf("%+v", c)
	}
}

// All descendants are recorded, also those that outlive the command.
func TestDescendants(t *testing.T) {
	a := run(t, "/bin/sh", "-c", "(sleep 0.2; busybox sync) & exit 0")
	if counts(a.Recording)["sync"] != 1 {
		t.Errorf("%v", counts(a.Recording))
	}
}

func TestManyProcesses(t *testing.T) {
	a := run(t, "/bin/sh", "-c", "i=0; while [ $i -lt 300 ]; do /bin/true & i=$((i+1)); done; wait")
	if n := counts(a.Recording)["execve"]; n != 300 {
		t.Errorf("%d programs were executed", n)
	}
}

func TestSignals(t *testing.T) {
	cmd, _, wait := start(t, "/bin/sleep", "600")
	time.Sleep(50 * time.Millisecond)
	cmd.Process.Signal(unix.SIGTERM)
	if a := wait(); a.Code != 128+15 {
		t.Errorf("%+v", a)
	}
}

// What is recorded ends with a recorder that is killed: nobody would answer.
func TestKilledRecorder(t *testing.T) {
	// Without a child of its own, which would be told only at its next call.
	cmd, out, _ := start(t, "/bin/sh", "-c", "echo $$; exec sleep 600")
	var pid int
	for end := time.Now().Add(time.Minute); pid == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		fmt.Sscan(out.String(), &pid)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for end := time.Now().Add(time.Minute); pid != 0 && unix.Kill(pid, 0) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d outlives its recorder", pid)
		}
	}
	if pid == 0 {
		t.Error("the command did not start")
	}
}

// The command has its caller's limits, streams and signals.
func TestCommandIsAsItWouldBe(t *testing.T) {
	const script = "ulimit -n; ulimit -Hn; grep -E '^(Sig(Blk|Ign|Cgt)|NoNewPrivs|Groups|Uid)' /proc/self/status; ls /proc/self/fd"
	plain, err := exec.Command("/bin/sh", "-c", "ulimit -Sn 512; /bin/sh -c \""+script+"\" 3>/dev/null").Output()
	if err != nil {
		t.Fatal(err)
	}
	exe, _ := os.Executable()
	cmd := exec.Command("/bin/sh", "-c", "ulimit -Sn 512; "+recorderMode+"=1 "+exe+" /bin/sh -c \""+script+"\" 3>/dev/null")
	recorded, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(string(plain), "NoNewPrivs:\t0", "NoNewPrivs:\t1", 1)
	if got := string(recorded); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestFaults(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	exe, _ := os.Executable()
	t.Setenv("NESTED", "1")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"/no/such"}, "start: no such file or directory"},
		{[]string{"nosuchprogram"}, "start: no such file or directory"},
		{[]string{"/etc"}, "start: "},
		{[]string{script}, "start: exec format error"},
	} {
		_, _, wait := start(t, c.args...)
		if a := wait(); !strings.HasPrefix(a.Err, c.want) {
			t.Errorf("%v: %+v", c.args, a)
		}
	}
	// A process can have one listener.
	_, out, wait := start(t, "/bin/sh", "-c", recorderMode+"=1 "+exe+" /bin/true 3>&1")
	wait()
	if !strings.Contains(out.String(), "another program receives the notifications of this process already") {
		t.Errorf("nested: %s", out)
	}
}
