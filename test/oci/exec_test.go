package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/test/harness"
)

// lines is output as a set of NAME=VALUE.
func lines(text string) map[string]string {
	m := map[string]string{}
	for l := range strings.Lines(text) {
		k, v, _ := strings.Cut(strings.TrimSpace(l), "=")
		m[k] = v
	}
	return m
}

// status reads /proc/self/status.
func status(text string) map[string]string {
	m := map[string]string{}
	for l := range strings.Lines(text) {
		if k, v, ok := strings.Cut(l, ":"); ok {
			m[k] = strings.Join(strings.Fields(v), " ")
		}
	}
	return m
}

func TestExec(t *testing.T) {
	r := newRig(t)
	id := r.sleeper()
	res := r.input(strings.NewReader("hello"), "exec", id, "sh", "-c", "cat; echo to stderr >&2; exit 3")
	same(t, "streams", []any{res.Stdout, res.Stderr, res.Code}, []any{"hello", "to stderr\n", 3})
	same(t, "signal", r.run("exec", id, "sh", "-c", "kill -9 $$").Code, 137)
	same(t, "options of the command", r.must("exec", id, "echo", "-d", "--cwd"), "-d --cwd")
	same(t, "cwd", r.must("exec", "--cwd", "/home/user", id, "pwd"), "/home/user")
	env := lines(r.must("exec", "-e", "A=1", "--env", "B=x y", "-e", "HOME=/else", id, "env"))
	same(t, "env", []string{env["A"], env["B"], env["HOME"], env["PATH"]}, []string{"1", "x y", "/else", "/bin:/usr/bin"})
	same(t, "user", r.must("exec", "--user", "1000:1001", "-g", "7", "--additional-gids", "8,9", id, "sh", "-c", "id -u; id -g; id -G"), "1000\n1001\n1001 7 8 9")
	same(t, "UID alone", r.must("exec", "-u", "1000", id, "sh", "-c", "id -u; id -g"), "1000\n0")
	st := status(r.must("exec", id, "cat", "/proc/self/status"))
	same(t, "sets", []string{st["CapEff"], st["CapPrm"], st["CapBnd"], st["CapInh"], st["CapAmb"], st["NoNewPrivs"]},
		[]string{"00000000a80425fb", "00000000a80425fb", "00000000a80425fb", "0000000000000000", "0000000000000000", "0"})
	st = status(r.must("exec", "--cap", "CAP_SYS_TIME", "-c", "sys_nice", "--no-new-privs", id, "cat", "/proc/self/status"))
	same(t, "more capabilities", []string{st["CapEff"], st["CapBnd"], st["NoNewPrivs"]}, []string{"00000000aa8425fb", "00000000aa8425fb", "1"})
	const look = "cd /proc/$0/ns; for n in pid net mnt ipc uts cgroup user; do readlink $n; done"
	same(t, "namespaces", r.must("exec", id, "sh", "-c", look, "self"), r.must("exec", id, "sh", "-c", look, "1"))
	same(t, "cgroups", r.must("exec", id, "cat", "/proc/self/cgroup"), r.must("exec", id, "cat", "/proc/1/cgroup"))
}

func TestExecFails(t *testing.T) {
	r := newRig(t)
	b := r.bundle("/bin/sleep", "600")
	os.WriteFile(b.rootfs("script"), []byte("#!/bin/sh\n"), 0o644)
	id := r.started(b)
	for _, c := range []struct {
		words string
		args  []string
	}{
		{`executable file not found in $PATH`, []string{id, "nothing"}},
		{"no such file or directory", []string{id, "/nothing"}},
		{"permission denied", []string{id, "/script"}},
		{"no such file or directory", []string{"--cwd", "/nowhere", id, "true"}},
		{"absolute", []string{"--cwd", "here", id, "true"}},
		{"want UID", []string{"--user", "root", id, "true"}},
		{"want a group ID", []string{"-g", "-1", id, "true"}},
		{"descriptor 3 is not open", []string{"--preserve-fds", "1", id, "true"}},
		{"no such file", []string{"--process", r.dir + "/missing", id}},
		{"console", []string{"-t", "-d", id, "true"}},
		{"console socket", []string{"--console-socket", r.dir + "/missing", "-d", id, "true"}},
		{"no command", []string{id}},
		{"cgroup", []string{"--cgroup", "nowhere", id, "true"}},
	} {
		if res := r.refused(c.words, append([]string{"exec"}, c.args...)...); res.Code != 255 {
			t.Errorf("exec %q: exit code %d, want 255", c.args, res.Code)
		}
	}
	process := filepath.Join(r.dir, "process.json")
	for text, words := range map[string]string{"{\n": "process.json:2", `{"cwd":"/"}`: "args", `{"args":["true"]}`: "cwd"} {
		os.WriteFile(process, []byte(text), 0o644)
		if res := r.refused(words, "exec", "-p", process, id); res.Code != 255 {
			t.Errorf("%s: exit code %d, want 255", text, res.Code)
		}
	}
	same(t, "processes", len(r.pids(id)), 1)
	// As the specification wants it, runtime-spec config.md, Linux Process.
	if res := r.run("exec", "--cap", "CAP_NONE", id, "true"); res.Code != 0 || !strings.Contains(res.Stderr, "CAP_NONE") {
		t.Errorf("a capability that does not exist: %+v; want a warning", res)
	}
	r.must("kill", id, "KILL")
	r.becomes(id, "stopped")
	if res := r.refused("stopped container", "exec", id, "true"); res.Code != 255 {
		t.Errorf("exec in a stopped container: exit code %d, want 255", res.Code)
	}
}

// TestExecDetached: engines read the log to learn why an exec failed.
func TestExecDetached(t *testing.T) {
	r := newRig(t)
	id := r.sleeper()
	pidFile := filepath.Join(r.dir, "pid")
	r.must("exec", "--detach", "--pid-file", pidFile, id, "sleep", "500")
	pid, err := strconv.Atoi(readFile(t, pidFile))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "process", strings.ReplaceAll(readFile(t, "/proc/"+strconv.Itoa(pid)+"/cmdline"), "\x00", " "), "sleep 500 ")
	same(t, "processes", len(r.pids(id)), 2)
	process, _ := json.Marshal(specs.Process{Args: []string{"sh", "-c", "echo $X; id -u; pwd; umask"}, Cwd: "/tmp", Env: []string{"PATH=/bin", "X=5"},
		User: specs.User{UID: 12, Umask: new(uint32)}})
	file := filepath.Join(r.dir, "process.json")
	os.WriteFile(file, process, 0o644)
	same(t, "process of a file", r.must("exec", "--process", file, id), "5\n12\n/tmp\n0000")
	log := filepath.Join(r.dir, "log")
	if res := r.run("--log", log, "--log-format", "json", "exec", "-d", "--process", file, "--pid-file", pidFile, id); res.Code != 0 {
		t.Errorf("exec as containerd does it: %+v", res)
	}
	if res := r.run("--log", log, "--log-format", "json", "exec", "-d", id, "nothing"); res.Code != 255 {
		t.Errorf("exec of nothing: %+v", res)
	}
	var line struct{ Level, Msg, Time string }
	if err := json.Unmarshal([]byte(readFile(t, log)), &line); err != nil || line.Level != "error" || line.Time == "" {
		t.Errorf("log: %v: %+v", err, line)
	}
	contains(t, line.Msg, `executable file not found in $PATH`, `"nothing"`)
}

func TestExecCgroup(t *testing.T) {
	r := newRig(t)
	id := r.sleeper()
	for _, dir := range cgroupDirs(id) {
		if err := os.Mkdir(filepath.Join(dir, "below"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} { // of v1 nobody can enter a cgroup without
			if b, err := os.ReadFile(filepath.Join(dir, f)); err == nil {
				os.WriteFile(filepath.Join(dir, "below", f), b, 0o644)
			}
		}
	}
	host := filepath.Join(r.dir, "pid")
	r.must("exec", "-d", "--pid-file", host, "--cgroup", "below", id, "sleep", "500")
	text := readFile(t, "/proc/"+readFile(t, host)+"/cgroup")
	same(t, "cgroups below", strings.Count(text, parent+"/"+id+"/below\n"), len(cgroupDirs(id)))
	same(t, "all processes", len(r.pids(id)), 2)
	r.refused("..", "exec", "--cgroup", "../..", id, "true")
	if _, err := os.Stat("/sys/fs/cgroup/pids" + parent); err == nil {
		r.must("exec", "-d", "--pid-file", host, "--cgroup", "pids:below", id, "sleep", "500")
		text := readFile(t, "/proc/"+readFile(t, host)+"/cgroup")
		same(t, "cgroups below", strings.Count(text, parent+"/"+id+"/below\n"), 1)
	}
}

// TestExecInCreated: engines may do so before the start.
func TestExecInCreated(t *testing.T) {
	r := newRig(t)
	id := r.created(r.bundle("/bin/sleep", "600"))
	same(t, "exec", r.must("exec", id, "hostname"), "box")
	same(t, "state", r.state(id).Status, "created")
	r.must("start", id)
	same(t, "state", r.state(id).Status, "running")
}

// TestPreserveFDs passes descriptors on, and no others.
func TestPreserveFDs(t *testing.T) {
	r := newRig(t)
	open := func(text string) *os.File {
		f, err := os.CreateTemp(r.dir, "passed")
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(text)
		f.Seek(0, 0)
		return f
	}
	const look = "cat /proc/self/fd/3; echo; ls /proc/self/fd | tr '\\n' ' '"
	b := r.script(look)
	id := r.id()
	r.write(b, id)
	cmd := r.command("run", "--bundle", b.dir, "--preserve-fds", "1", id)
	cmd.ExtraFiles = []*os.File{open("three"), open("four")}
	same(t, "run", harness.Finish(cmd).Stdout, "three\n0 1 2 3 4 ") // 4 is that of ls
	id = r.sleeper()
	cmd = r.command("exec", "--preserve-fds", "2", id, "sh", "-c", look)
	cmd.ExtraFiles = []*os.File{open("three"), open("four")}
	same(t, "exec", harness.Finish(cmd).Stdout, "three\n0 1 2 3 4 5 ")
	cmd = r.command("exec", "--preserve-fds", "2", id, "true")
	cmd.ExtraFiles = []*os.File{nil, open("four")}
	if res := harness.Finish(cmd); res.Code != 255 || !strings.Contains(res.Stderr, "descriptor 3 is not open") {
		t.Errorf("a hole: %+v", res)
	}
	// Without the option nothing is passed on.
	cmd = r.command("exec", id, "ls", "/proc/self/fd")
	cmd.ExtraFiles = []*os.File{open("three"), open("four")}
	same(t, "not passed", harness.Finish(cmd).Output(), "0\n1\n2\n3")
}

// TestSocketActivation: sd_listen_fds(3).
func TestSocketActivation(t *testing.T) {
	r := newRig(t)
	f, err := os.CreateTemp(r.dir, "socket")
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("the socket")
	f.Seek(0, 0)
	run := func(pid string) harness.Result {
		b := r.script("cat /proc/self/fd/3; echo; env | grep LISTEN | sort")
		id := r.id()
		r.write(b, id)
		cmd := r.command("run", "--bundle", b.dir, id)
		if pid == "self" { // exec keeps the process ID
			args := append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
			cmd.Path, cmd.Args = "/bin/sh", append([]string{"/bin/sh"}, args...)
		} else {
			cmd.Env = append(cmd.Env, "LISTEN_PID="+pid)
		}
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=web")
		f.Seek(0, 0)
		cmd.ExtraFiles = []*os.File{f}
		return harness.Finish(cmd)
	}
	for _, pid := range []string{"self", "1"} {
		same(t, "activated by "+pid, run(pid).Stdout, "the socket\nLISTEN_FDNAMES=web\nLISTEN_FDS=1\nLISTEN_PID=1\n")
	}
	if res := run("99999999"); strings.Contains(res.Stdout, "LISTEN") || strings.Contains(res.Stdout, "socket") {
		t.Errorf("the descriptors of another process were passed on: %+v", res)
	}
}
