//go:build amd64

package record

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func targetModes() map[string]func() error {
	return map[string]func() error{
		// calls makes as many calls as its argument says.
		"calls": func() error {
			var n int
			fmt.Sscan(os.Getenv(childArg), &n)
			repeat(n, unix.SYS_GETPPID)
			return nil
		},
		// children runs the program that its argument names in another
		// mount namespace, PID namespace and session, as a grandchild that
		// outlives its parent.
		"children": func() error {
			cmd := exec.Command("/bin/sh", "-c", "setsid "+os.Getenv(childArg)+" &")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
			cmd.Stdout = os.Stdout // who waits for us waits for it
			return cmd.Run()
		},
		"userns": usernsMode,
	}
}

// asker is a program of n calls to getppid.
func asker(t testing.TB, n byte) string {
	return program(t, 64,
		0xbb, n, 0, 0, 0, // mov ebx, n
		// again:
		0xb8, 110, 0, 0, 0, 0x0f, 0x05, // getppid
		0xff, 0xcb, // dec ebx
		0x75, 0xf5, // jnz again
		0xb8, 231, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05) // exit_group
}

func ns(t testing.TB, pid int, kind string) uint32 {
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), &st); err != nil {
		t.Fatal(err)
	}
	return uint32(st.Ino)
}

func TestAsker(t *testing.T) {
	rec := recordProgram(t, asker(t, 5))
	if len(rec.Syscalls) != 2 || find(rec, "amd64", "getppid").Count != 5 || find(rec, "amd64", "exit_group").Count != 1 {
		t.Errorf("calls: %+v, want 5 of getppid and exit_group alone", rec.Syscalls)
	}
}

func TestDescendants(t *testing.T) {
	rec := recordChild(t, "children", asker(t, 9))
	if got := find(rec, "amd64", "getppid").Count; got < 9 { // the shell asks too
		t.Errorf("getppid: %d calls, want 9 or more", got)
	}
	complete(t, rec)
}

// cgroup makes a cgroup of v2.
func cgroup(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		if strings.HasPrefix(after, "cgroup2 ") {
			dir := filepath.Join(strings.Fields(before)[4], name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Remove(dir) })
			return dir
		}
	}
	t.Skip("there is no cgroup v2")
	return ""
}

func into(t *testing.T, dir string) func(*exec.Cmd) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(f.Fd())
	}
}

func TestCgroup(t *testing.T) {
	dir := cgroup(t, fmt.Sprintf("record-test-%d", os.Getpid()))
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(below)
	target, err := CgroupTarget(dir)
	if err != nil {
		t.Fatal(err)
	}
	there := startChild(t, "calls", into(t, dir), "3")
	beside := startChild(t, "calls", nil, "100")
	s := start(t, recorder(t), target)
	later := startChild(t, "calls", into(t, below), "4")
	for _, c := range []*child{there, beside, later} {
		c.mustEnd()
	}
	rec := stop(t, s)
	complete(t, rec)
	if got := find(rec, "amd64", "getppid").Count; got != 7 {
		t.Errorf("getppid: %d calls, want 3 of the process that was there and 4 of the later one", got)
	}
	if got := find(rec, "amd64", "execve").Count; got != 0 {
		t.Errorf("execve: %d calls, want the one that begins the record left out", got)
	}
}

func TestCgroupAtExec(t *testing.T) {
	dir := cgroup(t, fmt.Sprintf("record-test-%d", os.Getpid()))
	target, err := CgroupTarget(dir)
	if err != nil {
		t.Fatal(err)
	}
	target.AtExec = true
	there := startChild(t, "calls", into(t, dir), "3")
	runs := startChild(t, "exec", into(t, dir), asker(t, 5))
	s := start(t, recorder(t), target)
	there.mustEnd()
	runs.mustEnd()
	rec := stop(t, s)
	if len(rec.Syscalls) != 2 || find(rec, "amd64", "getppid").Count != 5 {
		t.Errorf("calls: %+v, want 5 of getppid and exit_group alone", rec.Syscalls)
	}
}

func TestCgroupTargetErrors(t *testing.T) {
	if _, err := CgroupTarget("/proc"); err == nil || !strings.Contains(err.Error(), "not a cgroup of v2") {
		t.Errorf("/proc: %v", err)
	}
	if _, err := CgroupTarget("/sys/fs/cgroup/no/such"); err == nil || !os.IsNotExist(err) {
		t.Errorf("missing: %v", err)
	}
}

func TestNamespaces(t *testing.T) {
	for _, test := range []struct {
		name  string
		flag  uintptr
		kind  string
		other string // a kind that is the same for all
		aim   func(uint32) Target
	}{
		{"mount", unix.CLONE_NEWNS, "mnt", "pid", func(n uint32) Target { return Target{MountNS: n} }},
		{"PID", unix.CLONE_NEWPID, "pid", "mnt", func(n uint32) Target { return Target{PIDNS: n} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			own := func(cmd *exec.Cmd) { cmd.SysProcAttr.Cloneflags = test.flag }
			c := startChild(t, "calls", own, "6")
			beside := startChild(t, "calls", own, "100")
			s := start(t, recorder(t), test.aim(ns(t, c.pid, test.kind)))
			beside.mustEnd()
			c.mustEnd()
			rec := stop(t, s)
			if got := find(rec, "amd64", "getppid").Count; got != 6 {
				t.Errorf("getppid: %d calls, want 6", got)
			}
		})
	}
}

// TestTwoAtOnce: each recording has its own processes, and a process that two
// match belongs to the first.
func TestTwoAtOnce(t *testing.T) {
	first, second := startChild(t, "calls", nil, "11"), startChild(t, "children", nil, asker(t, 5))
	s1 := start(t, recorder(t), Target{PID: first.pid})
	s2 := start(t, recorder(t), Target{PID: second.pid})
	s3 := start(t, recorder(t), Target{MountNS: ns(t, first.pid, "mnt")}) // all, also ourselves
	repeat(700, unix.SYS_GETPPID)
	first.mustEnd()
	rec1 := stop(t, s1)
	second.mustEnd()
	rec2, rec3 := stop(t, s2), stop(t, s3)
	if got := find(rec1, "amd64", "getppid").Count; got != 11 {
		t.Errorf("first: %d, want 11", got)
	}
	if got := find(rec2, "amd64", "getppid").Count; got < 5 || got > 30 {
		t.Errorf("second: %d, want 5 and some of the shell's", got)
	}
	if got := find(rec3, "amd64", "getppid").Count; got < 700 {
		t.Errorf("third: %d, want 700 or more", got)
	}
	for _, rec := range []*Recording{rec1, rec2, rec3} {
		complete(t, rec)
	}
}

// TestSeveralTargets records two processes as one.
func TestSeveralTargets(t *testing.T) {
	a, b := startChild(t, "calls", nil, "3"), startChild(t, "calls", nil, "4")
	s := start(t, recorder(t), Target{PID: a.pid}, Target{PID: b.pid})
	a.mustEnd()
	b.mustEnd()
	if got := find(stop(t, s), "amd64", "getppid").Count; got != 7 {
		t.Errorf("getppid: %d, want 7", got)
	}
}

// usernsMode uses a capability in the user namespace that it is in, and then
// one that the host's namespace would have to give.
func usernsMode() error {
	if err := raw(0, unix.SYS_SETHOSTNAME, ptr("own"), 3); err != nil {
		return err
	}
	return raw(unix.EPERM, unix.SYS_SYSLOG, 8, 0, 4)
}

func TestUserNamespace(t *testing.T) {
	c := startChild(t, "userns", func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWUTS
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
		cmd.SysProcAttr.Credential = &syscall.Credential{}
		cmd.Path = copySelf(t)
	})
	s := start(t, recorder(t), Target{PID: c.pid})
	c.mustEnd()
	rec := stop(t, s)
	own := check(rec, "SYS_ADMIN", "sethostname")
	if own == nil || own.UserNS != "own" || own.Granted != 1 || own.Class != Needed {
		t.Errorf("sethostname: %+v, want SYS_ADMIN granted once in the own namespace", own)
	}
	other := check(rec, "SYSLOG", "syslog")
	if other == nil || other.UserNS != "other" || other.Refused != 1 || other.Class != Needed {
		t.Errorf("syslog: %+v, want SYSLOG refused once in another namespace", other)
	}
}

// copySelf puts the test binary where other users may execute it.
func copySelf(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(files(t), "self")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// check finds the entry of a capability in a call.
func check(rec *Recording, name, call string) *Capability {
	for i, c := range rec.Capabilities {
		for _, s := range c.Syscalls {
			if c.Name == name && s == call {
				return &rec.Capabilities[i]
			}
		}
	}
	return nil
}
