package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

func TestLife(t *testing.T) {
	r := newRig(t)
	b := r.script("echo started > /started; exec sleep 600")
	b.spec.Annotations = map[string]string{"who": "me"}
	pidFile := filepath.Join(r.dir, "pid")
	id := r.created(b, "--pid-file", pidFile)
	s := r.state(id)
	same(t, "state", []string{s.Version, s.ID, s.Status, s.Bundle, s.Rootfs, s.Annotations["who"]},
		[]string{"1.0.2", id, "created", b.dir, b.rootfs(), "me"})
	same(t, "PID file", readFile(t, pidFile), strconv.Itoa(s.PID))
	if _, err := time.Parse(time.RFC3339Nano, s.Created); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(b.rootfs("started")); err == nil {
		t.Error("create has run the user's program")
	}
	r.refused("already exists", "create", "--bundle", b.dir, id)
	r.must("start", id)
	r.becomes(id, "running")
	same(t, "process", r.state(id).PID, s.PID)
	if err := harness.Eventually("the program runs", func() bool { _, err := os.Stat(b.rootfs("started")); return err == nil }); err != nil {
		t.Fatal(err)
	}
	r.refused("already running", "start", id)
	r.refused("not stopped: running", "delete", id)
	r.must("kill", id, "KILL")
	r.becomes(id, "stopped")
	same(t, "process of a stopped container", r.state(id).PID, 0)
	r.refused("container not running", "kill", id)
	r.refused("stopped", "start", id)
	r.must("delete", id)
	for _, args := range [][]string{{"state", id}, {"delete", id}, {"start", id}, {"kill", id, "9"}, {"exec", id, "true"},
		{"ps", id}, {"events", "--stats", id}, {"pause", id}, {"resume", id}, {"update", "--memory", "10M", id}} {
		r.refused("does not exist", args...)
	}
	if res := r.run("delete", "--force", id); res.Code != 0 || res.Stderr != "" {
		t.Errorf("delete --force of nothing: %+v", res)
	}
}

func TestDelete(t *testing.T) {
	r := newRig(t)
	id := r.created(r.bundle("/bin/true"))
	r.must("delete", id) // was never started
	id = r.sleeper()
	r.must("delete", "-f", id)
	id = r.sleeper()
	r.must("pause", id)
	r.refused("not stopped: paused", "delete", id)
	r.must("delete", id, "--force") // an option behind the ID
}

func TestExitCodes(t *testing.T) {
	r := newRig(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 42": 42, "kill -9 $$; exit 5": 5 /* the first process of a namespace is not killed from within */} {
		b := r.script(script)
		if res := r.result(b); res.Code != want {
			t.Errorf("%s: exit code %d, want %d: %s", script, res.Code, want, res.Stderr)
		}
	}
	// Without a PID namespace the first process dies of its signal.
	b := r.script("kill -15 $$")
	b.spec.Linux.Namespaces = b.spec.Linux.Namespaces[1:]
	if res := r.result(b); res.Code != 143 {
		t.Errorf("SIGTERM: exit code %d, want 143: %s", res.Code, res.Stderr)
	}
	for arg, words := range map[string]string{"nothing": `executable file not found in $PATH`, "/nothing": "no such file or directory",
		"/etc": "permission denied", "/script": "permission denied"} {
		b := r.bundle(arg)
		os.WriteFile(b.rootfs("script"), []byte("#!/bin/sh\n"), 0o644)
		res := r.result(b)
		if res.Code != 1 && res.Code != 127 && res.Code != 126 || !strings.Contains(res.Stderr, words) || !strings.Contains(res.Stderr, arg) {
			t.Errorf("%s: exit code %d, says %q, want %q", arg, res.Code, res.Stderr, words)
		}
	}
}

func TestRun(t *testing.T) {
	r := newRig(t)
	b := r.script("cat; echo to stderr >&2; exit 3")
	id := r.id()
	r.write(b, id)
	res := r.input(strings.NewReader("hello"), "run", "-b", b.dir, id)
	same(t, "run", []any{res.Stdout, res.Stderr, res.Code}, []any{"hello", "to stderr\n", 3})
	r.refused("does not exist", "state", id)

	r.write(b, id)
	if res := r.run("run", "--keep", "-b", b.dir, id); res.Code != 3 {
		t.Errorf("run --keep: %+v", res)
	}
	same(t, "kept", r.state(id).Status, "stopped")
	r.must("delete", id)

	b = r.bundle("/bin/sleep", "600")
	id = r.id()
	r.write(b, id)
	pidFile := filepath.Join(r.dir, "pid")
	r.must("run", "-d", "--bundle", b.dir, "--pid-file", pidFile, id)
	same(t, "detached", r.state(id).Status, "running")
	same(t, "PID file", readFile(t, pidFile), strconv.Itoa(r.state(id).PID))
}

// TestSignals: a foreground run hands its signals on.
func TestSignals(t *testing.T) {
	r := newRig(t)
	b := r.script("trap 'echo got; exit 7' USR1; echo ready; while :; do sleep 0.1; done")
	id := r.id()
	r.write(b, id)
	cmd := r.command("run", "--bundle", b.dir, id)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, _ := out.Read(buf)
	same(t, "first words", string(buf[:n]), "ready\n")
	cmd.Process.Signal(unix.SIGUSR1)
	n, _ = out.Read(buf)
	same(t, "then", string(buf[:n]), "got\n")
	cmd.Wait()
	same(t, "exit code", cmd.ProcessState.ExitCode(), 7)
}

func TestKill(t *testing.T) {
	r := newRig(t)
	b := r.script("for s in TERM HUP USR1; do trap \"echo $s >> /signals\" $s; done; trap 'echo RTMIN >> /signals' 34; touch /ready; while :; do sleep 0.05; done")
	os.Chmod(b.rootfs(), 0o777)
	id := r.started(b)
	exists := func(name string) func() bool {
		return func() bool { _, err := os.Stat(b.rootfs(name)); return err == nil }
	}
	if err := harness.Eventually("ready", exists("ready")); err != nil {
		t.Fatal(err)
	}
	want := ""
	for _, k := range [][2]string{{"", "TERM"}, {"HUP", "HUP"}, {"SIGHUP", "HUP"}, {"1", "HUP"}, {"usr1", "USR1"}, {"sigusr1", "USR1"}, {"SIGRTMIN", "RTMIN"}, {"34", "RTMIN"}} {
		want += k[1] + "\n"
		args := []string{"kill", id}
		if k[0] != "" {
			args = append(args, k[0])
		}
		r.must(args...)
		if err := harness.Eventually("the signal "+k[0]+" arrives", func() bool {
			got, _ := os.ReadFile(b.rootfs("signals"))
			return string(got) == want
		}); err != nil {
			t.Error(err, readFile(t, b.rootfs("signals")))
			break
		}
	}
	r.refused("unknown signal", "kill", id, "NOTHING")
	r.refused("unknown signal", "kill", id, "65")
	r.refused("unknown signal", "kill", id, "--", "-1")
	r.must("kill", id, "0") // only asks
	r.must("kill", "--all", id, "KILL")
	r.becomes(id, "stopped")
	r.refused("container not running", "kill", id, "0")
	r.must("kill", "--all", id, "KILL") // as runc: nobody is left to be told
	// Without a PID namespace SIGKILL reaches the others, too.
	b = r.script("sleep 600 & exec sleep 600")
	b.spec.Linux.Namespaces = b.spec.Linux.Namespaces[1:]
	id = r.started(b)
	if err := harness.Eventually("two processes", func() bool { return len(r.pids(id)) == 2 }); err != nil {
		t.Fatal(err)
	}
	r.must("kill", id, "KILL")
	if err := harness.Eventually("none is left", func() bool { return len(r.pids(id)) == 0 }); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) pids(id string) (pids []int) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.must("ps", "--format", "json", id)), &pids); err != nil {
		r.t.Fatal(err)
	}
	return pids
}

func TestLook(t *testing.T) {
	r := newRig(t)
	same(t, "list of nothing", r.must("list", "-f", "json"), "[]")
	same(t, "IDs of nothing", r.must("list", "-q"), "")
	id := r.sleeper()
	created := r.created(r.bundle("/bin/true"))
	var list []state
	if err := json.Unmarshal([]byte(r.must("list", "--format", "json")), &list); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range list {
		got[s.ID] = s.Status + " " + s.Owner
	}
	same(t, "list", got, map[string]string{id: "running root", created: "created root"})
	same(t, "IDs", strings.Fields(r.must("list", "-q")), []string{id, created})
	table := strings.Split(r.must("list"), "\n")
	same(t, "columns", strings.Fields(table[0]), "[ID PID STATUS BUNDLE CREATED OWNER]")
	same(t, "row", strings.Fields(table[1])[:3], []string{id, strconv.Itoa(r.state(id).PID), "running"})

	pids := r.pids(id)
	same(t, "processes", pids, []int{r.state(id).PID})
	ps := strings.Split(r.must("ps", id), "\n")
	if len(ps) != 2 || strings.Fields(ps[0])[1] != "PID" || !strings.Contains(ps[1], "sleep 600") {
		t.Errorf("ps: %q", ps)
	}
	ps = strings.Split(r.must("ps", id, "-o", "pid,args"), "\n")
	same(t, "ps with options", strings.Fields(ps[1]), []string{strconv.Itoa(pids[0]), "/bin/sleep", "600"})
	r.refused("table or json", "ps", "-f", "yaml", id)
	r.refused("table or json", "list", "-f", "yaml")
	r.refused("no column PID", "ps", id, "-o", "args")
}

func TestPause(t *testing.T) {
	r := newRig(t)
	id := r.sleeper()
	r.refused("not paused", "resume", id)
	r.must("pause", id)
	same(t, "status", r.state(id).Status, "paused")
	r.refused("paused", "exec", id, "true")
	r.must("resume", id)
	same(t, "status", r.state(id).Status, "running")
	r.must("exec", id, "true")
	r.must("pause", id)
	r.must("kill", id, "KILL") // ends a frozen container, too
	r.becomes(id, "stopped")
	r.refused("stopped", "pause", id)
	// Exec into a paused one waits for the thaw.
	id = r.sleeper()
	r.must("pause", id)
	cmd := r.command("exec", "--ignore-paused", id, "sh", "-c", "exit 5")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.must("resume", id)
	cmd.Wait()
	same(t, "exec --ignore-paused", cmd.ProcessState.ExitCode(), 5)
}

func TestRefused(t *testing.T) {
	r := newRig(t)
	b := r.bundle("/bin/true")
	good := func() { r.write(b, "x") }
	config := filepath.Join(b.dir, "config.json")
	good()
	for _, id := range []string{"", ".", "..", "a/b", "a b", "ü", "../x", "a\nb", strings.Repeat("x", 1025)} {
		r.refused("invalid container ID", "create", "--bundle", b.dir, id)
		r.refused("invalid container ID", "run", "--bundle", b.dir, id)
	}
	r.refused("config.json", "create", "--bundle", r.dir, "x")
	r.refused("config.json", "run", "--bundle", filepath.Join(r.dir, "missing"), "x")
	for text, words := range map[string]string{
		"":                                   "config.json:1:",
		"{\n \"ociVersion\": \"1.0.2\",\n}":  "config.json:3:",
		"{\n \"process\": {\n \"args\": 3}}": "config.json:3:",
		"{}":                                 "process: is missing",
		`{"ociVersion":"1.0.2","process":{"cwd":"/","args":["x"]}}`:                          "root: is missing",
		`{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"cwd":"/"}}`:              "process.args",
		`{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"cwd":".","args":["x"]}}`: "process.cwd",
	} {
		os.WriteFile(config, []byte(text), 0o644)
		r.refused(words, "create", "--bundle", b.dir, "x")
	}
	b.spec.Root.Path = "elsewhere"
	good()
	r.refused("no such file or directory", "create", "--bundle", b.dir, "x")
	b.spec.Root.Path = "config.json"
	good()
	r.refused("not a directory", "create", "--bundle", b.dir, "x")
	for _, args := range [][]string{{}, {"a", "b"}} {
		for _, c := range []string{"create", "start", "run", "state", "delete", "pause", "resume", "events", "update"} {
			if res := r.run(append([]string{c}, args...)...); res.Code != 1 || !strings.Contains(res.Stderr, "arguments") {
				t.Errorf("%s %q: %+v", c, args, res)
			}
		}
	}
	b.spec.Root.Path = "rootfs"
	good()
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		r.refused("systemd", "--systemd-cgroup", "create", "--bundle", b.dir, "x")
	}
	b.spec.Linux.CgroupsPath = "/"
	text, _ := json.Marshal(b.spec)
	os.WriteFile(config, text, 0o644)
	r.refused("linux.cgroupsPath", "create", "--bundle", b.dir, "x")
	r.refused("unknown command", "strat", "x")
	r.refused("unknown flag", "create", "--bundel", b.dir, "x")
	r.refused("unknown flag", "--rot", "/x", "list")
	r.refused("text or json", "--log-format", "xml", "list")
	if left := r.left(); len(left) > 0 {
		t.Errorf("bad input has left %q", left)
	}
}

// TestLongID: the state of a container with the longest possible name goes away.
func TestNames(t *testing.T) {
	r := newRig(t)
	b := r.bundle("/bin/true")
	for _, id := range []string{strings.Repeat("x", 255), ".hidden", ".hidden.1", "a+b_c.D-9", "1"} {
		r.mu.Lock()
		r.ids = append(r.ids, id)
		r.mu.Unlock()
		r.write(b, id)
		r.must("create", "--bundle", b.dir, id)
		r.must("delete", "--force", "nothing") // sweeps what was left, and no container
		same(t, "listed", r.must("list", "-q"), id)
		r.must("start", id)
		r.becomes(id, "stopped")
		r.must("delete", id)
	}
}

// TestDeletedInForeground: a run whose container another deletes leaves the next
// one of that name alone.
func TestDeletedInForeground(t *testing.T) {
	r := newRig(t)
	b := r.bundle("/bin/sleep", "600")
	id := r.id()
	r.write(b, id)
	cmd := r.command("run", "--bundle", b.dir, id)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := harness.Eventually("running", func() bool { return strings.Contains(r.run("state", id).Stdout, `"running"`) }); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(unix.SIGSTOP) // it sees the end of its container late
	r.must("delete", "--force", id)
	r.must("run", "-d", "--bundle", b.dir, id)
	cmd.Process.Signal(unix.SIGCONT)
	cmd.Wait()
	same(t, "exit code", cmd.ProcessState.ExitCode(), 137)
	same(t, "the next one", r.state(id).Status, "running")
}
