package reach

import (
	"bufio"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostRoot returns the tree of this machine.
func hostRoot(t testing.TB) fs.FS {
	t.Helper()
	root, err := os.OpenRoot("/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root.FS()
}

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

var traceLine = regexp.MustCompile(`^(\d+) +([a-z_0-9]+)\((.*)`)

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
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen, others, first := map[string]bool{}, map[string]bool{}, true
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		m := traceLine.FindStringSubmatch(scanner.Text())
		if m == nil || others[m[1]] {
			continue
		}
		if !first {
			seen[m[2]] = true
		}
		if m[2] == "execve" && !first && strings.HasSuffix(m[3], "= 0") {
			others[m[1]] = true
		}
		first = false
	}
	var out []string
	for name := range seen {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// checkSuperset runs the program, and compares.
func checkSuperset(t *testing.T, limit int, program string, args ...string) {
	t.Helper()
	start := time.Now()
	r, err := Program(hostRoot(t), program)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	reach, seen := r.names(), observed(t, program, args...)
	t.Logf("%s: %d reachable, %d seen, %d unknown sites, %d files, %v; notes %q",
		program, len(reach), len(seen), len(r.Unknown), len(r.Files), took.Round(time.Millisecond), r.Notes)
	for _, u := range r.Unknown {
		t.Logf("unknown: %s %s in %s", u.Entry, u.Function, u.File)
	}
	for _, name := range seen {
		if !reach[name] {
			t.Errorf("%s makes %s, which was not found to be reachable", program, name)
		}
	}
	if len(seen) < 5 {
		t.Errorf("only %v were seen", seen)
	}
	if len(reach) > limit {
		t.Errorf("%d calls are reachable: want at most %d", len(reach), limit)
	}
}

func TestSupersetOfWhatProgramsDo(t *testing.T) {
	for _, c := range []struct {
		limit   int
		command string
	}{
		{75, "/bin/ls -lR /etc/ssl"},
		{60, "/bin/cat /etc/passwd"},
		{75, "/usr/bin/sort -R /etc/passwd"},
		{180, "/bin/busybox ls -l /etc"},
		{180, "/bin/busybox sh -c ls;(exit 3);trap:USR1;kill-0$$"},
		{180, "/bin/busybox ping -c1 -W1 127.0.0.1"},
		{180, "/bin/busybox wget -T1 -O- http://localhost:1/"},
		{110, "/bin/bash -c echo<(true);ulimit-n;(exit4)&wait"},
		{150, "/usr/bin/perl -e fork;print`true`;sleep1;sleep(1)"},
		{130, "/usr/bin/find /etc -newer /etc/passwd -ls"},
		{130, "/bin/tar -czf x.tar.gz /etc/ssl/openssl.cnf"},
		{110, "/usr/bin/git --version"},
		{200, "/usr/bin/curl -m1 http://localhost:1/"},
		{120, "/bin/date"},
		{120, "/usr/bin/id"},
		{130, "/bin/ps aux"},
		{130, "/usr/sbin/nginx -t"},
		{130, "/usr/bin/redis-server --version"},
		{200, "/usr/bin/redis-cli -p 1 ping"},
		{130, "/usr/bin/openssl speed -seconds 1 sha256"},
		{200, "/usr/bin/python3 -c import\u00a0os;os.fork();os.listdir('/');os.getloadavg()"},
		{200, "/usr/bin/node -e 1+1"},
		{200, "/usr/bin/psql --version"},
		{130, "/usr/bin/gpg --list-keys"},
		{130, "/usr/bin/ssh -V"},
		{130, "/usr/bin/xz -9 -T2 -k -c /etc/services"},
	} {
		args := strings.Fields(c.command)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "\u00a0", " ")
		}
		t.Run(filepath.Base(args[0]), func(t *testing.T) {
			if _, err := os.Stat(args[0]); err != nil {
				t.Skipf("%s: not on this machine", args[0])
			}
			checkSuperset(t, c.limit, args[0], args[1:]...)
		})
	}
}
