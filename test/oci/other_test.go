package oci

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

// TestLog: the forms that engines read. containerd reads JSON lines and takes
// those of level error; podman takes the whole file as one; conmon and dockerd
// show the standard error.
func TestLog(t *testing.T) {
	r := newRig(t)
	log := filepath.Join(r.dir, "log")
	res := r.run("--log", log, "--log-format", "json", "state", "none")
	same(t, "exit code", res.Code, 1)
	contains(t, res.Stderr, "container does not exist")
	var line map[string]string
	if err := json.Unmarshal([]byte(readFile(t, log)), &line); err != nil {
		t.Fatal(err)
	}
	same(t, "fields", []any{len(line), line["level"]}, []any{3, "error"})
	contains(t, line["msg"], "container does not exist")
	r.run("--log", log, "--log-format=json", "state", "again")
	same(t, "lines", strings.Count(readFile(t, log), "\n"), 2) // appended
	os.Remove(log)
	r.run("--log", log, "--debug", "state", "none")
	if text := readFile(t, log); !regexp.MustCompile(`(?m)^time="\d{4}-\S+" level=error msg="container does not exist.*"$`).MatchString(text) {
		t.Errorf("text: %q", text)
	}
	os.Remove(log)
	id := r.created(r.bundle("/bin/true"))
	r.must("--log", log, "start", id)
	if text, err := os.ReadFile(log); err == nil && len(text) > 0 {
		t.Errorf("a command that works says %q", text)
	}
	res = r.run("--log", "/nowhere/log", "list")
	if res.Code != 1 || !strings.Contains(res.Stderr, "--log") {
		t.Errorf("a log that cannot be: %+v", res)
	}
	// Without a file the standard error has the form too.
	if err := json.Unmarshal([]byte(r.run("--log-format", "json", "state", "none").Stderr), &line); err != nil {
		t.Errorf("JSON on the standard error: %v", err)
	}
}

func TestRoot(t *testing.T) {
	r := newRig(t)
	id := r.sleeper()
	other := rigOf(t, r.bin)
	other.root = filepath.Join(r.dir, "other/deep")
	other.refused("does not exist", "state", id)
	same(t, "list", other.must("list", "-q"), "")
}

func TestPIDFile(t *testing.T) {
	r := newRig(t)
	b := r.bundle("/bin/true")
	id := r.id()
	r.write(b, id)
	r.refused("PID file", "create", "--bundle", b.dir, "--pid-file", "/nowhere/pid", id)
	if left := r.left(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	// A relative one is the caller's, and a reader never sees half of it.
	name := filepath.Join(r.dir, "pid")
	os.WriteFile(name, []byte("old"), 0o600)
	cmd := r.command("create", "--bundle", b.dir, "--pid-file", "pid", id)
	cmd.Dir = r.dir
	if res := r.finish(cmd); res.Code != 0 {
		t.Fatalf("%+v", res)
	}
	var pid int
	if err := json.Unmarshal([]byte(readFile(t, name)), &pid); err != nil || pid != r.state(id).PID {
		t.Errorf("PID file %d, %v", pid, err)
	}
	// A bundle is the current directory unless told otherwise.
	id = r.id()
	r.write(b, id)
	cmd = r.command("create", id)
	cmd.Dir = b.dir
	if res := r.finish(cmd); res.Code != 0 {
		t.Errorf("%+v", res)
	}
}

func TestUpdate(t *testing.T) {
	r := newRig(t)
	b := r.bundle("/bin/sleep", "600")
	limit := int64(64 << 20)
	b.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	id := r.started(b)
	value := func(v1, v2 string) string {
		for _, dir := range cgroupDirs(id) {
			for _, f := range []string{v1, v2} {
				if text, err := os.ReadFile(filepath.Join(dir, f)); err == nil {
					return strings.TrimSpace(string(text))
				}
			}
		}
		return "?"
	}
	memory := func() string { return value("memory.limit_in_bytes", "memory.max") }
	pids := func() string { return value("pids.max", "pids.max") }
	same(t, "memory at first", memory(), 64<<20)
	r.must("update", "--memory", "32M", "--pids-limit", "20", id)
	same(t, "memory", []string{memory(), pids()}, []any{32 << 20, 20})
	file := filepath.Join(r.dir, "resources.json")
	os.WriteFile(file, []byte(`{"memory":{"limit":16777216},"pids":{"limit":30}}`), 0o644)
	r.must("update", "-r", file, id)
	same(t, "of a file", []string{memory(), pids()}, []any{16 << 20, 30})
	cmd := r.command("update", "--resources", "-", id)
	cmd.Stdin = strings.NewReader(`{"pids":{"limit":40}}`)
	if res := harness.Finish(cmd); res.Code != 0 {
		t.Errorf("of the standard input: %+v", res)
	}
	same(t, "of the standard input", []string{memory(), pids()}, []any{16 << 20, 40})
	r.must("update", id, "--pids-limit", "-1")
	same(t, "no limit", pids(), "max")
	for _, args := range [][]string{{"--memory", "lots"}, {"--pids-limit", "few"}, {"-r", "/nowhere"}, {"--cpu-period", "-5"}, {"--cpu-quota", "10"}} {
		res := r.quiet(append(append([]string{"update"}, args...), id)...)
		if res.Code != 1 || strings.Count(res.Stderr, "\n") != 1 {
			t.Errorf("update %q: %+v", args, res)
		}
	}
	os.WriteFile(file, []byte(`{"memory":`), 0o644)
	r.refused(file, "update", "-r", file, id)
	same(t, "unchanged", memory(), 16<<20)
	r.must("kill", id, "KILL")
	r.becomes(id, "stopped")
	r.refused("not running", "update", "--pids-limit", "5", id)
}

func TestEvents(t *testing.T) {
	r := newRig(t)
	id := r.sleeper()
	var e struct {
		Type, ID string
		Data     struct {
			CPU    struct{ Usage struct{ Total uint64 } }
			Memory struct{ Usage struct{ Usage uint64 } }
			Pids   struct{ Current uint64 }
		}
	}
	if err := json.Unmarshal([]byte(r.must("events", "--stats", id)), &e); err != nil {
		t.Fatal(err)
	}
	if e.Type != "stats" || e.ID != id || e.Data.Pids.Current != 1 || e.Data.Memory.Usage.Usage == 0 || e.Data.CPU.Usage.Total == 0 {
		t.Errorf("stats: %+v", e)
	}
	cmd := r.command("events", "--interval", "20ms", id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for range 3 {
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &e) != nil || e.Type != "stats" {
			t.Fatalf("events: %q", lines.Text())
		}
	}
	r.must("kill", id, "KILL")
	for lines.Scan() { // to the end, which comes with the container's
	}
	cmd.Wait()
	same(t, "exit code", cmd.ProcessState.ExitCode(), 0)
	r.refused("must be positive", "events", "--interval", "0s", id)
	r.refused("not running", "events", "--stats", id)
}

// TestOOM: a container that runs out of memory is told of.
func TestOOM(t *testing.T) {
	r := newRig(t)
	b := r.script("while ! [ -e /go ]; do sleep 0.05; done; tail /dev/zero; exec sleep 600")
	limit := int64(16 << 20)
	b.spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit, Swap: &limit}
	b.spec.Linux.Resources.Devices = nil
	id := r.started(b)
	cmd := r.command("events", "--interval", "1h", id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	first := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		first <- line
	}()
	// Until the command listens, nothing tells of it: the container waits for it.
	if err := harness.Eventually("events waits", func() bool {
		wchan, _ := os.ReadDir("/proc/" + itoa(cmd.Process.Pid) + "/fd")
		return len(wchan) > 6
	}); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(b.rootfs("go"), nil, 0o644)
	same(t, "event", <-first, `{"type":"oom","id":"`+id+`"}`+"\n")
	r.must("delete", "-f", id)
	cmd.Wait()
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestSpec(t *testing.T) {
	r := newRig(t)
	b := r.bundle("x")
	for _, flags := range [][]string{{}, {"--rootless"}} {
		os.Remove(filepath.Join(b.dir, "config.json"))
		r.must(append([]string{"spec", "--bundle", b.dir}, flags...)...)
		r.refused("exists", "spec", "-b", b.dir)
		s := &specs.Spec{}
		if err := json.Unmarshal([]byte(readFile(t, filepath.Join(b.dir, "config.json"))), s); err != nil {
			t.Fatal(err)
		}
		// It runs as it is, but for the terminal.
		s.Process.Terminal = false
		s.Process.Args = []string{"sh", "-c", "id -u; hostname"}
		made := &bundle{dir: b.dir, spec: s}
		contains(t, r.output(made), "0\n")
	}
}

func TestFeatures(t *testing.T) {
	r := newRig(t)
	var f features.Features
	if err := json.Unmarshal([]byte(r.must("features")), &f); err != nil {
		t.Fatal(err)
	}
	if f.OCIVersionMin == "" || f.OCIVersionMax == "" {
		t.Errorf("features: %+v", f)
	}
	version := r.must("--version")
	if !regexp.MustCompile(`(?s)^brig-runtime version \S+\n.*spec: \d+\.\d+\.\d+`).MatchString(version) {
		t.Errorf("version: %q", version)
	}
	same(t, "-v", r.must("-v"), version)
	contains(t, r.must("--help"), "create", "--systemd-cgroup", "/usr/local/bin/brig-runtime")
	for _, c := range []string{"create", "start", "run", "exec", "kill", "delete", "state", "list", "ps", "pause", "resume", "update", "events", "spec", "features"} {
		contains(t, r.must(c, "--help"), "Usage: ")
	}
}

// A container sees the caller's session keyring, which can be viewed by who
// possesses it alone, if it was told not to have one of its own.
func TestKeyring(t *testing.T) {
	runtime.LockOSThread() // for good: the keyring is this thread's
	name := fmt.Sprintf("brig-keyring-%d", os.Getpid())
	id, err := unix.KeyctlJoinSessionKeyring(name)
	if err == nil {
		err = unix.KeyctlSetperm(id, 0x3f000000) // KEY_POS_ALL, keyctl_setperm(3)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	b := r.bundle("/bin/cat", "/proc/keys")
	b.spec.Linux.MaskedPaths = nil
	own, kept := r.output(b), r.output(b, "--no-new-keyring")
	if strings.Contains(own, name) || !strings.Contains(kept, name) {
		t.Errorf("keyrings %q, and with --no-new-keyring %q", own, kept)
	}
}

func TestNoPivot(t *testing.T) {
	r := newRig(t)
	contains(t, r.output(r.script("ls /; cat /proc/self/mountinfo | wc -l"), "--no-pivot"), "bin\n")
}
