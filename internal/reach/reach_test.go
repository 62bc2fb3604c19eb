package reach

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// names returns the x86-64 calls of r.
func (r *Reach) names() map[string]bool {
	out := map[string]bool{}
	for _, c := range r.Calls {
		if c.ABI == "amd64" {
			out[c.Name] = true
		}
	}
	return out
}

var (
	traceLine = regexp.MustCompile(`^(\d+) +(?:<\.\.\. )?([a-z_0-9]+)(?:\(| resumed)(.*)`)
	traceFork = regexp.MustCompile(`= (\d+)$`)
)

// observed returns the system calls that strace sees of the processes that run
// the program itself: not what they execute.
func observed(t *testing.T, program string, args ...string) []string {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	log := filepath.Join(t.TempDir(), "trace")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, strace, append([]string{"-f", "-qq", "-o", log, program}, args...)...)
	cmd.Stdin = strings.NewReader("hello\n")
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Logf("%s: %v\n%s", program, err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	others := otherPrograms(lines)
	seen := map[string]bool{}
	for i, line := range lines {
		if m := traceLine.FindStringSubmatch(line); m != nil && (others[m[1]] == 0 || i <= others[m[1]]) && i > 0 {
			seen[m[2]] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// otherPrograms returns the line from which on a process runs another program:
// that of its execve, or the first one if its parent had made that before.
func otherPrograms(lines []string) map[string]int {
	others := map[string]int{}
	for range 4 { // a child can have lines before its parent has that of its fork
		for i, line := range lines {
			m := traceLine.FindStringSubmatch(line)
			if m == nil || i == 0 {
				continue
			}
			switch m[2] {
			case "execve":
				if strings.HasSuffix(line, "= 0") && others[m[1]] == 0 {
					others[m[1]] = i
				}
			case "clone", "clone3", "fork", "vfork":
				child := traceFork.FindStringSubmatch(line)
				if child != nil && others[m[1]] != 0 && others[m[1]] < i {
					others[child[1]] = 1
				}
			}
		}
	}
	return others
}

// hostFiles is this machine's tree, shared by tests as programs share libraries.
var hostFiles = sync.OnceValues(func() (*files, error) {
	root, err := os.OpenRoot("/")
	if err != nil {
		return nil, err
	}
	return openFiles(root.FS())
})

// reachable returns what a program of this machine reaches.
func reachable(t *testing.T, program string) *Reach {
	t.Helper()
	tree, err := hostFiles()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	u := newUnion()
	resolved, err := tree.find(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.program(resolved, u, 0); err != nil {
		t.Fatal(err)
	}
	r := u.result()
	t.Logf("%s: %d calls, %d unknown sites, %d files, %v", program, len(r.Calls), len(r.Unknown), len(r.Files), time.Since(start).Round(time.Millisecond))
	for _, s := range r.Unknown {
		t.Logf("unknown: %s %s in %s", s.Entry, s.Function, s.File)
	}
	for _, n := range r.Notes {
		t.Log(n)
	}
	return r
}

// checkSuperset runs the program, and compares.
func checkSuperset(t *testing.T, limit int, program string, args ...string) {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: its package is listed in test/packages", err)
	}
	reach, seen := reachable(t, program).names(), observed(t, program, args...)
	t.Logf("%d seen", len(seen))
	for _, name := range seen {
		if !reach[name] {
			t.Errorf("%s makes %s, which was not found to be reachable", program, name)
		}
	}
	if len(seen) < 3 {
		t.Errorf("only %v were seen", seen)
	}
	if len(reach) > limit {
		t.Errorf("%d calls are reachable: want at most %d", len(reach), limit)
	}
}

// Limits are some way above what was found on Debian 12, whose nsswitch.conf
// adds a library of systemd to all that look up users.
func TestSupersetOfWhatProgramsDo(t *testing.T) {
	for _, c := range []struct {
		limit int
		args  []string
	}{
		{60, []string{"/bin/cat", "/etc/passwd"}},
		{120, []string{"/bin/ls", "-lR", "/etc/ssl"}},
		{90, []string{"/usr/bin/sort", "-R", "/etc/passwd"}},
		{180, []string{"/bin/busybox", "ls", "-l", "/etc"}},
		{180, []string{"/bin/busybox", "sh", "-c", "(exit 3); trap : USR1; kill -USR1 $$; ulimit -n; cat /dev/null | cat &  wait"}},
		{180, []string{"/bin/busybox", "wget", "-T1", "-O-", "http://127.0.0.1:1/"}},
		{130, []string{"/bin/bash", "-c", "echo <(true); trap : USR1; kill -USR1 $$; ulimit -n; (exit 4) & wait; umask 22; cat <<< x"}},
		{185, []string{"/usr/bin/perl", "-e", "if (!fork) { exit } wait; opendir(D, '.'); alarm 1; select(undef, undef, undef, 0.01); `true`"}},
		{130, []string{"/usr/bin/find", "/etc/ssl", "-newer", "/etc/passwd", "-ls"}},
		{150, []string{"/bin/tar", "-czf", "x.tar.gz", "/etc/ssl/openssl.cnf"}},
		{150, []string{"/usr/bin/curl", "-m1", "http://localhost:1/"}},
		{130, []string{"/bin/ps", "aux"}},
		{160, []string{"/usr/sbin/nginx", "-t"}},
		{150, []string{"/usr/bin/redis-cli", "-p", "1", "ping"}},
		{240, []string{"/usr/bin/python3", "-c", "import os, socket, ssl, threading, subprocess, select; socket.socket(); select.epoll(); os.getloadavg(); " +
			"threading.Thread(target=os.getpid).start(); subprocess.run(['true']); os.sched_yield(); os.listdir('/')"}},
		{200, []string{"/usr/bin/node", "-e", "require('fs').readdirSync('/'); setTimeout(()=>0, 5)"}},
		{140, []string{"/usr/bin/xz", "-9", "-T2", "-k", "-c", "/etc/services"}},
	} {
		t.Run(filepath.Base(c.args[0]), func(t *testing.T) {
			checkSuperset(t, c.limit, c.args[0], c.args[1:]...)
		})
	}
}

// compile builds a C program.
func compile(t *testing.T, source string, command ...string) string {
	t.Helper()
	compiler, err := exec.LookPath(command[0])
	if err != nil {
		t.Fatalf("%v: its package is listed in test/packages", err)
	}
	program := filepath.Join(t.TempDir(), "program")
	args := append(slices.Clone(command[1:]), "-w", "-pthread", "-o", program, source)
	if out, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command[0], err, out)
	}
	return program
}

// TestSupersetOfManyCalls has a program of many kinds of calls, built in the ways
// that make the code of calls and tables different.
func TestSupersetOfManyCalls(t *testing.T) {
	for _, command := range [][]string{
		{"gcc", "-O2"},
		{"gcc", "-O2", "-fno-plt", "-z", "now"},
		{"gcc", "-O1", "-no-pie", "-s"},
		{"gcc", "-O2", "-static"},
		{"gcc", "-O2", "-static-pie", "-s"},
		{"gcc", "-O3", "-fuse-ld=gold"},
		{"musl-gcc", "-O2"},
		{"musl-gcc", "-O2", "-static"},
		{"musl-gcc", "-Os", "-static", "-s", "-no-pie"},
	} {
		t.Run(strings.Join(command, " "), func(t *testing.T) {
			checkSuperset(t, 130, compile(t, "testdata/many.c", command...))
		})
	}
}

func TestTrueReachesLittle(t *testing.T) {
	source := filepath.Join(t.TempDir(), "true.c")
	if err := os.WriteFile(source, []byte("int main() { return 0; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		limit   int
		command []string
	}{
		{60, []string{"gcc", "-O2"}},
		{60, []string{"gcc", "-O2", "-static"}},
		{12, []string{"musl-gcc", "-O2", "-static"}},
	} {
		t.Run(strings.Join(c.command, " "), func(t *testing.T) {
			program := compile(t, source, c.command...)
			r := reachable(t, program)
			if len(r.Calls) > c.limit || len(r.Unknown) > 0 {
				t.Errorf("%d calls and %d unknown: want at most %d and none", len(r.Calls), len(r.Unknown), c.limit)
			}
			for _, name := range observed(t, program) {
				if !r.names()[name] {
					t.Errorf("%s was not found", name)
				}
			}
		})
	}
}

const goProgram = `package main

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

func main() {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	go func() { c, _ := l.Accept(); c.Close() }()
	c, _ := net.Dial("tcp", l.Addr().String())
	c.Read(make([]byte, 1))
	os.ReadDir("/")
	exec.Command("/bin/true").Run()
	syscall.Syscall(syscall.SYS_GETPPID, 0, 0, 0)
	syscall.RawSyscall6(309, 0, 0, 0, 0, 0, 0)
	time.Sleep(time.Millisecond)
}
`

func TestSupersetOfGo(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(goProgram), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []string{"", "-s -w"} {
		program := filepath.Join(dir, "program")
		cmd := exec.Command("go", "build", "-ldflags", flags, "-o", program, "main.go")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		checkSuperset(t, 130, program)
		for _, c := range reachable(t, program).Calls {
			if c.Name == "accept4" && !strings.Contains(strings.Join(c.Site.Path, " "), "accept4") {
				t.Errorf("accept4 is said to be made by %q", c.Site.Path)
			}
		}
	}
}

func TestSiteSaysHow(t *testing.T) {
	program := compile(t, "testdata/many.c", "gcc", "-O2")
	for _, c := range reachable(t, program).Calls {
		if c.Name != "mremap" {
			continue
		}
		if c.Site.Program != program || c.Site.Entry != "syscall" || len(c.Site.Path) == 0 || c.Site.File == "" {
			t.Errorf("site of mremap: %+v", c.Site)
		}
		return
	}
	t.Error("mremap was not found")
}
