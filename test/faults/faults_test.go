// Package faults breaks things while Brig works: it kills commands, monitors
// and containers at random moments, fills the disk, makes the store read-only,
// starts many at once and lets commands race. Afterwards nothing may be left
// on the machine, and what Brig says must be so.
//
// Moments are random; FAULTS_SEED repeats a run's, as far as the machine's
// own timing allows, and FAULTS_ROUNDS changes how often each is tried.
package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// rounds is how often a fault is tried: 34 times for each of the three that
// are killed make a hundred.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("FAULTS_ROUNDS")); err == nil {
		return n
	}
	return 34
}

func newRand(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("FAULTS_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("FAULTS_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// settle removes every container, as a user would, and says what is left. A
// command that was killed may leave something for the next one to clear.
func settle(t *testing.T, root *harness.Root) {
	t.Helper()
	if err := root.Settle(); err != nil {
		t.Fatal(err)
	}
}

// normal is how long a command takes here when nobody disturbs it.
func normal(t *testing.T, root *harness.Root, args ...string) time.Duration {
	t.Helper()
	root.Must(t, args...) // the first time is slower
	begin := time.Now()
	root.Must(t, args...)
	return time.Since(begin)
}

// TestKilledCommand kills commands at random moments of their lives.
func TestKilledCommand(t *testing.T) {
	root := harness.NewWithBusybox(t)
	random := newRand(t)
	span := normal(t, root, "run", "--rm", "busybox", "true")
	commands := []struct {
		name  string
		args  []string
		setUp []string
	}{
		{name: "run --rm", args: []string{"run", "--rm", "busybox", "true"}},
		{name: "run", args: []string{"run", "--name", "box", "busybox", "true"}},
		{name: "run -d", args: []string{"run", "-d", "--name", "box", "busybox", "sleep", "600"}},
		{name: "run --rm with volumes", args: []string{"run", "--rm", "-v", "/anon", "-v", "kept:/etc", "busybox", "true"}},
		{name: "rm -v", args: []string{"rm", "-f", "-v", "box"}, setUp: []string{"run", "-d", "-v", "two:/two", "--name", "box", "busybox", "sleep", "600"}},
		{name: "create", args: []string{"create", "--name", "box", "busybox", "true"}},
		{name: "start", args: []string{"start", "box"}, setUp: []string{"create", "--name", "box", "busybox", "sleep", "600"}},
		{name: "exec", args: []string{"exec", "box", "sh", "-c", "exit 3"}, setUp: []string{"run", "-d", "--name", "box", "busybox", "sleep", "600"}},
		{name: "stop", args: []string{"stop", "-t", "0", "box"}, setUp: []string{"run", "-d", "--name", "box", "busybox", "sleep", "600"}},
		{name: "rm -f", args: []string{"rm", "-f", "box"}, setUp: []string{"run", "-d", "--name", "box", "busybox", "sleep", "600"}},
	}
	for i := range rounds() {
		c := commands[i%len(commands)]
		if c.setUp != nil {
			root.Must(t, c.setUp...)
		}
		cmd := root.Command(c.args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := time.Duration(random.Int64N(int64(span) * 5 / 4))
		time.Sleep(after)
		cmd.Process.Kill()
		cmd.Wait()
		what := fmt.Sprintf("%s killed after %s", c.name, after)
		consistent(t, root, what)
		// The name can be used: by the container that has it, or anew.
		if res := root.Run("start", "box"); res.Code != 0 {
			if res := root.Run("run", "--name", "box", "busybox", "true"); res.Code != 0 {
				t.Errorf("%s: the name is neither a container's nor free: %s", what, res.Stderr)
			}
		}
		settle(t, root)
		if out := root.Must(t, "volume", "ls", "-q"); c.name == "run --rm with volumes" && len(out) > 10 {
			t.Errorf("%s: volumes are left: %q", what, out)
		}
		if t.Failed() {
			return
		}
	}
}

// TestKilledLearn kills brig learn at random moments: its containers end with
// it.
func TestKilledLearn(t *testing.T) {
	root := harness.NewWithBusybox(t)
	random := newRand(t)
	args := []string{"learn", "-o", filepath.Join(t.TempDir(), "policy.json"), "--probe", "true", "busybox", "sleep", "600"}
	span := 150 * time.Millisecond // until the second or third container, of which each takes 10 s to stop
	for range rounds() / 2 {
		cmd := root.Command(args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := time.Duration(random.Int64N(int64(span)))
		time.Sleep(after)
		cmd.Process.Kill()
		cmd.Wait()
		if err := harness.Eventually("the containers of learn end", func() bool {
			return root.Run("ps", "-aq").Output() == ""
		}); err != nil {
			t.Errorf("learn killed after %s: %v: %s", after, err, root.Run("ps", "-a").Stdout)
		}
		settle(t, root)
		if t.Failed() {
			return
		}
	}
}

// consistent checks that what Brig says of each container is so.
func consistent(t *testing.T, root *harness.Root, what string) {
	t.Helper()
	res := root.Run("ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}")
	if res.Code != 0 {
		t.Fatalf("%s: brig ps: %s", what, res.Stderr)
	}
	for line := range strings.Lines(res.Stdout) {
		f := strings.Fields(line)
		if len(f) != 3 {
			t.Fatalf("%s: brig ps prints %q", what, line)
		}
		r := root.Run("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", f[0])
		if r.Code != 0 {
			continue // one with --rm that has just ended
		}
		var status string
		var pid int
		if _, err := fmt.Sscan(r.Stdout, &status, &pid); err != nil {
			t.Fatalf("%s: brig inspect prints %q", what, r.Stdout)
		}
		if (status == "running") != (pid != 0) {
			t.Errorf("%s: status %s with process %d", what, status, pid)
		}
		if pid != 0 && !inContainer(pid, f[0]) {
			if again := root.Run("inspect", "-f", "{{.State.Status}}", f[0]); again.Output() == "running" {
				t.Errorf("%s: said to run as process %d, which is not there", what, pid)
			}
		}
	}
}

// inContainer says whether a process runs in the cgroup of a container.
func inContainer(pid int, id string) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && harness.Alive(pid) && strings.Contains(string(b), id)
}

func pidOf(t *testing.T, root *harness.Root, name string) int {
	t.Helper()
	pid, err := strconv.Atoi(root.Must(t, "inspect", "-f", "{{.State.Pid}}", name))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// parent is the parent of a process: of a container's first, the monitor.
func parent(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "PPid:"); ok {
			ppid, err := strconv.Atoi(strings.TrimSpace(v))
			if err != nil || ppid <= 1 { // never kill the machine's init
				t.Fatalf("process %d has no monitor: its parent is %d (%v)", pid, ppid, err)
			}
			return ppid
		}
	}
	t.Fatal("no parent")
	return 0
}

func children(pid int) (pids []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for _, w := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(w); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// TestKilledMonitor kills the process that stays with a container: while it
// starts the container, while the container runs, and while it ends.
func TestKilledMonitor(t *testing.T) {
	root := harness.NewWithBusybox(t)
	random := newRand(t)
	span := normal(t, root, "run", "--rm", "busybox", "true")
	for i := range rounds() {
		switch i % 3 {
		case 0:
			killStartingMonitor(t, root, time.Duration(random.Int64N(int64(span))))
		case 1:
			killRunningMonitor(t, root, i%2 == 0)
		case 2:
			killEndingMonitor(t, root, time.Duration(random.Int64N(int64(span)/2)))
		}
		settle(t, root)
		if t.Failed() {
			return
		}
	}
}

func killStartingMonitor(t *testing.T, root *harness.Root, after time.Duration) {
	cmd := root.Command("run", "-d", "--name", "box", "busybox", "sleep", "600")
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	for _, pid := range children(cmd.Process.Pid) {
		unix.Kill(pid, unix.SIGKILL)
	}
	err := cmd.Wait()
	what := fmt.Sprintf("monitor killed after %s of run -d", after)
	if err != nil && cmd.ProcessState.ExitCode() != 125 {
		t.Errorf("%s: exit code %d, want 125: %s", what, cmd.ProcessState.ExitCode(), errs.String())
	}
	if err != nil && strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("%s: not one line: %s", what, errs.String())
	}
	consistent(t, root, what)
}

func killRunningMonitor(t *testing.T, root *harness.Root, remove bool) {
	args := []string{"run", "-d", "--name", "box"}
	if remove {
		args = append(args, "--rm")
	}
	root.Must(t, append(args, "busybox", "sleep", "600")...)
	pid := pidOf(t, root, "box")
	monitor := parent(t, pid)
	unix.Kill(monitor, unix.SIGKILL)
	if err := harness.Eventually("the monitor is dead", func() bool { return !harness.Alive(monitor) }); err != nil {
		t.Fatal(err)
	}
	consistent(t, root, "monitor of a running container killed")
	if !harness.Alive(pid) {
		// To end with its monitor is allowed, to be unknown is not.
		return
	}
	if out := root.Must(t, "ps", "--format", "{{.Names}}"); out != "box" {
		t.Errorf("a container that lost its monitor is not listed: %q", out)
	}
	if res := root.Run("stop", "-t", "0", "box"); res.Code != 0 {
		t.Errorf("stop a container that lost its monitor: %s", res.Stderr)
	}
	if out := root.Must(t, "ps", "-q"); out != "" {
		t.Errorf("it still runs: %s", out)
	}
	if remove {
		if out := root.Must(t, "ps", "-aq"); out != "" {
			t.Errorf("--rm is forgotten: %s", out)
		}
		return
	}
	root.Must(t, "start", "box")
	consistent(t, root, "started again")
}

func killEndingMonitor(t *testing.T, root *harness.Root, after time.Duration) {
	root.Must(t, "run", "-d", "--name", "box", "busybox", "sleep", "600")
	pid := pidOf(t, root, "box")
	monitor := parent(t, pid)
	unix.Kill(pid, unix.SIGKILL)
	time.Sleep(after)
	unix.Kill(monitor, unix.SIGKILL)
	what := fmt.Sprintf("monitor killed %s after its container", after)
	consistent(t, root, what)
	// The first process may still be busy dying when its monitor is gone.
	if err := harness.Eventually("exited", func() bool { return root.Must(t, "ps", "-a", "--format", "{{.State}}") == "exited" }); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if code := root.Must(t, "wait", "box"); code != "137" && code != "255" {
		t.Errorf("%s: exit code %s, want 137, or 255 for unknown", what, code)
	}
}

// TestKilledContainer kills the first process, at random moments, with and
// without a command attached.
func TestKilledContainer(t *testing.T) {
	root := harness.NewWithBusybox(t)
	random := newRand(t)
	for i := range rounds() {
		attached := i%2 == 0
		var cmd *exec.Cmd
		if attached {
			cmd = root.Command("run", "--name", "box", "busybox", "sleep", "600")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if err := harness.Eventually("it runs", func() bool {
				return root.Run("inspect", "-f", "{{.State.Status}}", "box").Output() == "running"
			}); err != nil {
				t.Fatal(err)
			}
		} else {
			root.Must(t, "run", "-d", "--name", "box", "busybox", "sh", "-c", "sleep 600 & sleep 600 & wait")
		}
		pid := pidOf(t, root, "box")
		time.Sleep(time.Duration(random.Int64N(int64(10 * time.Millisecond))))
		unix.Kill(pid, unix.SIGKILL)
		if attached {
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 137 {
				t.Errorf("brig run ends with %d, want 137", code)
			}
		}
		if code := root.Must(t, "wait", "box"); code != "137" {
			t.Errorf("recorded exit code %s, want 137", code)
		}
		consistent(t, root, "first process killed")
		settle(t, root)
	}
}

// TestFifty starts fifty at once.
func TestFifty(t *testing.T) {
	const n = 50
	root := harness.NewWithBusybox(t)
	all := func(f func(i int)) {
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { f(i) })
		}
		wg.Wait()
	}
	all(func(i int) {
		res := root.Run("run", "--rm", "busybox", "echo", strconv.Itoa(i))
		if res.Code != 0 || res.Output() != strconv.Itoa(i) {
			t.Errorf("run %d: exit code %d, output %q: %s", i, res.Code, res.Stdout, res.Stderr)
		}
	})
	all(func(i int) {
		if res := root.Run("run", "-d", "--name", fmt.Sprintf("c%d", i), "busybox", "sleep", "600"); res.Code != 0 {
			t.Errorf("run -d %d: %s", i, res.Stderr)
		}
	})
	if got := len(strings.Fields(root.Must(t, "ps", "-q"))); got != n {
		t.Errorf("%d run, want %d", got, n)
		for _, id := range strings.Fields(root.Must(t, "ps", "-aq", "--filter", "status=exited")) {
			t.Error(root.Must(t, "inspect", "-f", "{{json .State}}", id))
			t.Error(root.Run("logs", id))
		}
	}
	all(func(i int) {
		if res := root.Run("exec", fmt.Sprintf("c%d", i), "echo", strconv.Itoa(i)); res.Output() != strconv.Itoa(i) {
			t.Errorf("exec %d: %q: %s", i, res.Stdout, res.Stderr)
		}
	})
	names := strings.Fields(root.Must(t, "ps", "-q"))
	root.Must(t, append([]string{"stop", "-t", "0"}, names...)...)
	if got := root.Must(t, "ps", "-q"); got != "" {
		t.Errorf("still running: %s", got)
	}
	root.Must(t, append([]string{"rm"}, names...)...)
	settle(t, root)
}

// TestRaces lets commands meet.
func TestRaces(t *testing.T) {
	root := harness.NewWithBusybox(t)
	race := func(commands ...[]string) []harness.Result {
		results := make([]harness.Result, len(commands))
		var wg sync.WaitGroup
		for i, c := range commands {
			wg.Go(func() { results[i] = root.Run(c...) })
		}
		wg.Wait()
		return results
	}
	run := []string{"run", "-d", "--name", "box", "busybox", "sleep", "600"}
	for range 20 {
		r := race(run, run, run)
		won := 0
		for _, res := range r {
			switch {
			case res.Code == 0:
				won++
			case res.Code != 125 || !strings.Contains(res.Stderr, "already in use"):
				t.Errorf("the loser of a name: exit code %d: %s", res.Code, res.Stderr)
			}
		}
		if won != 1 {
			t.Errorf("%d containers got one name", won)
		}
		if out := root.Must(t, "ps", "-a", "--format", "{{.Names}}"); out != "box" {
			t.Errorf("ps says %q after the race", out)
		}
		// All of them may stop it, one may remove it, and it is gone.
		for _, res := range race([]string{"stop", "-t", "0", "box"}, []string{"kill", "box"}, []string{"stop", "-t", "0", "box"}) {
			if res.Code != 0 && !strings.Contains(res.Stderr, "not running") {
				t.Errorf("stop, kill and stop: %s", res.Stderr)
			}
		}
		for _, res := range race([]string{"start", "box"}, []string{"start", "box"}, []string{"ps", "-a"}) {
			if res.Code != 0 {
				t.Errorf("two starts: %s", res.Stderr)
			}
		}
		for _, res := range race([]string{"rm", "-f", "box"}, []string{"rm", "-f", "box"}, []string{"start", "box"}, []string{"logs", "box"}) {
			if res.Code != 0 && !strings.Contains(strings.ToLower(res.Stderr), "no such container") && !strings.Contains(res.Stderr, "being") {
				t.Errorf("rm against rm and start: exit code %d: %s", res.Code, res.Stderr)
			}
		}
		settle(t, root)
	}
}

// TestListWhileOthersWork: containers that come and go do not disturb those
// who look.
func TestListWhileOthersWork(t *testing.T) {
	root := harness.NewWithBusybox(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if res := root.Run("run", "--rm", "busybox", "true"); res.Code != 0 {
					t.Errorf("run: %s", res.Stderr)
					return
				}
			}
		})
	}
	for range 50 {
		if res := root.Run("ps", "-a"); res.Code != 0 || res.Stderr != "" {
			t.Errorf("ps: exit code %d: %s", res.Code, res.Stderr)
		}
		if res := root.Run("info"); res.Code != 0 {
			t.Errorf("info: exit code %d: %s", res.Code, res.Stderr)
		}
	}
	close(stop)
	wg.Wait()
	settle(t, root)
}
