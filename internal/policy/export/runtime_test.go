package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/seccomp"
)

// hideUnified runs a command where the v2 hierarchy of a hybrid host is not
// mounted, which runtimes refuse to use if it has no controllers.
const hideUnified = `[ ! -d /sys/fs/cgroup/unified ] || umount /sys/fs/cgroup/unified
exec "$@"`

// command returns the command in a mount namespace of its own.
func command(args ...string) *exec.Cmd {
	return exec.Command("unshare", append([]string{"-m", "sh", "-c", hideUnified, "sh"}, args...)...)
}

// installed returns the runtimes that are on this machine.
func installed(t *testing.T) (names []string) {
	t.Helper()
	for _, name := range Runtimes() {
		if _, err := exec.LookPath(name); err != nil {
			t.Errorf("%s is needed: test/run installs the packages of test/packages", name)
			continue
		}
		names = append(names, name)
	}
	return names
}

// helloSource is the smallest program: it makes two system calls.
const helloSource = `
static long call(long nr, long a, long b, long c) {
#if defined(__x86_64__)
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return r;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
#endif
}
#include <sys/syscall.h>
void _start(void) {
#ifdef WAIT
	call(SYS_ppoll, 0, 0, 0);
#endif
#ifdef NEWER
	long known = call(435, 0, 0, 0), unknown = call(900, 0, 0, 0); // 435 is clone3, everywhere
	call(SYS_write, 1, (long)(known == -38 ? "ENOSYS " : "other "), known == -38 ? 7 : 6);
	call(SYS_write, 1, (long)(unknown == -38 ? "ENOSYS\n" : "other\n"), unknown == -38 ? 7 : 6);
#else
	call(SYS_write, 1, (long)"hello\n", 6);
#endif
	call(SYS_exit, 0, 0, 0);
}
`

// helloRoot makes a root directory with the programs hello, wait and newer.
func helloRoot(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "rootfs")
	for _, dir := range []string{"proc", "dev", "sys", "tmp", "etc", "run"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, flag := range map[string]string{"hello": "-DHELLO", "wait": "-DWAIT", "newer": "-DNEWER"} {
		cmd := exec.Command("gcc", "-static", "-nostdlib", "-O2", flag, "-x", "c", "-", "-o", filepath.Join(root, name))
		cmd.Stdin = strings.NewReader(helloSource)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
	}
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil {
		t.Fatal(err)
	}
	return root
}

// helloInput is the whole need of the program hello, or of hello and wait.
func helloInput(runtimes ...string) Input {
	names := []string{"execve", "exit", "ppoll", "write"}
	p := &policy.Policy{Version: policy.Version, Name: "hello"}
	for _, n := range names {
		p.Syscalls = append(p.Syscalls, policy.Syscall{Name: n, Status: policy.Asked})
	}
	profile := &seccomp.Profile{
		DefaultAction: seccomp.Errno(1), FlagsGiven: true,
		Syscalls: []seccomp.SyscallRule{{Names: names, Action: seccomp.Allow}},
	}
	return Input{Policy: p, Profile: profile, Capabilities: capability.Of(capability.CHOWN), Runtimes: runtimes}
}

// merge puts the objects of from into to, and replaces all else.
func merge(to, from map[string]any) {
	for key, v := range from {
		sub, isObject := v.(map[string]any)
		old, wasObject := to[key].(map[string]any)
		if isObject && wasObject {
			merge(old, sub)
		} else {
			to[key] = v
		}
	}
}

// bundle makes a bundle from the runtime's own template, the export's fragment
// and change.
func bundle(t *testing.T, name, root string, in Input, change map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(name, "spec")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s spec: %v\n%s", name, err, out)
	}
	file := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var config, fragment map[string]any
	if err := json.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	res := export(t, "oci", in)
	if err := json.Unmarshal(res.Files[0].Data, &fragment); err != nil {
		t.Fatal(err)
	}
	merge(config, fragment)
	merge(config, map[string]any{
		"process": map[string]any{"terminal": false, "args": []string{"/hello"}, "noNewPrivileges": false, "rlimits": []any{}},
		"root":    map[string]any{"path": root, "readonly": false},
	})
	merge(config, change)
	config["mounts"] = slices.DeleteFunc(config["mounts"].([]any), func(m any) bool { return m.(map[string]any)["type"] == "cgroup" })
	if data, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func export(t *testing.T, format string, in Input) *Result {
	t.Helper()
	res, err := Export(format, in)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// A container is a bundle and how it is started.
type container struct {
	runtime, bundle, id string
}

func newContainer(t *testing.T, runtime, bundle string) container {
	c := container{runtime, bundle, fmt.Sprintf("brig-export-%d-%s", os.Getpid(), strings.ReplaceAll(filepath.Base(filepath.Dir(bundle))+filepath.Base(bundle), ".", "-"))}
	t.Cleanup(func() { c.do(nil, "delete", "-f", c.id).Run() })
	return c
}

// do returns a command of the runtime, under the tracer if there is one.
func (c container) do(tracer []string, args ...string) *exec.Cmd {
	all := slices.Concat(tracer, []string{c.runtime, "--root", filepath.Join(c.bundle, "state")}, args)
	return command(all...)
}

// starts are the ways in which a program starts in a container: alone, created
// first and started later, and beside another.
var starts = []string{"run", "create", "exec"}

// start starts a container in one of these ways, and returns what the program
// hello printed.
func (c container) start(t *testing.T, how string, tracer []string, execFlags ...string) (string, error) {
	t.Helper()
	switch how {
	case "run":
		out, err := c.do(tracer, "run", "--bundle", c.bundle, c.id).CombinedOutput()
		return string(out), err
	case "create":
		if out, err := c.createStart(t, tracer); err != nil {
			return out, err
		}
		return c.ended(t)
	}
	if out, err := c.createStart(t, nil); err != nil {
		return out, err
	}
	out, err := c.do(tracer, slices.Concat([]string{"exec"}, execFlags, []string{c.id, "/hello"})...).CombinedOutput()
	return string(out), err
}

// createStart runs "create" and "start", with the output in a file: a pipe would
// be open until the container ends.
func (c container) createStart(t *testing.T, tracer []string) (string, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(c.bundle, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	script := `"$@" create --bundle ` + c.bundle + ` ` + c.id + ` && sleep 0.1 && "$@" start ` + c.id
	cmd := command(slices.Concat(tracer, []string{"sh", "-c", script, "sh", c.runtime, "--root", filepath.Join(c.bundle, "state")})...)
	cmd.Stdout, cmd.Stderr = f, f
	err = cmd.Run()
	data, _ := os.ReadFile(f.Name())
	return string(data), err
}

// ended waits for the end of a container that createStart started, and returns
// its output.
func (c container) ended(t *testing.T) (string, error) {
	t.Helper()
	wait := `until "$@" state ` + c.id + ` | grep -q '"stopped"'; do sleep 0.02; done`
	cmd := command("timeout", "60", "sh", "-c", wait, "sh", c.runtime, "--root", filepath.Join(c.bundle, "state"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return string(out), fmt.Errorf("wait for the end of the container: %w", err)
	}
	data, err := os.ReadFile(filepath.Join(c.bundle, "output"))
	return string(data), err
}

// A profile with what the runtimes need starts the program, and one without
// does not.
func TestExportStartsUnderRuntimes(t *testing.T) {
	root := helloRoot(t)
	for _, name := range installed(t) {
		for _, how := range starts {
			for _, nnp := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s %v", name, how, nnp), func(t *testing.T) {
					testStart(t, root, name, how, nnp)
				})
			}
		}
	}
}

func testStart(t *testing.T, root, name, how string, nnp bool) {
	change := map[string]any{"process": map[string]any{"noNewPrivileges": nnp}}
	if how == "exec" {
		change["process"].(map[string]any)["args"] = []string{"/wait"}
	}
	c := newContainer(t, name, bundle(t, name, root, helloInput(), change))
	if out, err := c.start(t, how, nil); err != nil || out != "hello\n" {
		t.Errorf("with the calls that %s needs: %v\n%s", name, err, out)
	}
	if nnp {
		return // crun then needs nothing that hello does not
	}
	c = newContainer(t, name, bundle(t, name, root, helloInput("brig"), change))
	if out, err := c.start(t, how, nil); err == nil && out == "hello\n" {
		t.Errorf("%s started a container without the calls that it is said to need", name)
	}
}

// Calls that are newer than the policy do not exist for programs; under crun only
// those that the export names, as its note says.
func TestNewerCalls(t *testing.T) {
	root := helloRoot(t)
	for _, name := range installed(t) {
		change := map[string]any{"process": map[string]any{"args": []string{"/newer"}}}
		c := newContainer(t, name, bundle(t, name, root, helloInput(), change))
		want := map[string]string{"runc": "ENOSYS ENOSYS\n", "crun": "ENOSYS other\n"}[name]
		if out, err := c.start(t, "run", nil); err != nil || out != want {
			t.Errorf("%s: a known and an unknown call give %q (%v), want %q", name, out, err, want)
		}
	}
}

// The tables are what the installed runtimes do.
func TestRuntimeNeedsMeasured(t *testing.T) {
	root := helloRoot(t)
	for _, name := range installed(t) {
		t.Run(name, func(t *testing.T) {
			needs, err := NeedsOf(name)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]string{}
			for _, how := range starts {
				for _, process := range processes() {
					maps.Copy(seen, measure(t, root, name, how, process))
				}
			}
			for call, text := range seen {
				name, _, _ := strings.Cut(call, " ")
				if fault := needs.covers(name, text); fault != "" {
					t.Errorf("%s: %s", text, fault)
				}
			}
			// A table of what nobody calls any more would pass unseen.
			for _, c := range []string{"prctl", "capset", "close"} {
				if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(key string) bool { return strings.HasPrefix(key, c) }) {
					t.Errorf("%s was not measured; calls seen: %q", c, slices.Sorted(maps.Keys(seen)))
				}
			}
		})
	}
}

// processes are the kinds of processes to measure.
func processes() (list []map[string]any) {
	for _, p := range []struct {
		nnp bool
		uid int
		cwd string
	}{{false, 0, "/"}, {false, 1000, "/tmp"}, {true, 0, "/"}} {
		list = append(list, map[string]any{
			"noNewPrivileges": p.nnp, "user": map[string]any{"uid": p.uid, "gid": p.uid, "additionalGids": []int{10}},
			"cwd": p.cwd, "oomScoreAdj": 100,
		})
	}
	return list
}

// covers returns what the table lacks for a call as strace writes it, or "".
func (n RuntimeNeeds) covers(name, text string) string {
	if slices.Contains(n.Spared, name) {
		return ""
	}
	i := slices.IndexFunc(n.Calls, func(c Call) bool { return c.Name == name })
	if i < 0 {
		return n.Runtime + " is not said to need this call"
	}
	if c := n.Calls[i]; c.Values != nil {
		args := strings.Split(strings.SplitN(text, "(", 2)[1], ",")
		arg, _, _ := strings.Cut(args[c.Index], ")")
		arg = strings.TrimSpace(arg)
		if v, ok := straceValue(arg); !ok || !slices.Contains(c.Values, v) {
			return fmt.Sprintf("%s is said to need this call with other values of argument %d, not %q", n.Runtime, c.Index, arg)
		}
	}
	return ""
}

// straceValue returns the value of a constant that strace names, of those in the
// tables.
func straceValue(text string) (uint64, bool) {
	switch text {
	case "PR_SET_KEEPCAPS":
		return 8, true
	case "PR_CAPBSET_DROP":
		return 24, true
	case "PR_CAP_AMBIENT":
		return 47, true
	case "F_SETFD":
		return 2, true
	case "F_GETFL":
		return 3, true
	case "F_SETFL":
		return 4, true
	case "F_DUPFD_CLOEXEC":
		return 1030, true
	case "TCGETS":
		return 0x5401, true
	case "PROT_NONE":
		return 0, true
	case "PROT_READ|PROT_WRITE":
		return 3, true
	}
	return 0, false
}

// measure starts a container under strace and returns the calls that its runtime
// makes between the filter and the program, each with one line of the trace. A
// call that has values in the table is one for each.
func measure(t *testing.T, root, name, how string, process map[string]any) map[string]string {
	t.Helper()
	change := map[string]any{"process": maps.Clone(process)}
	if how == "exec" {
		change["process"].(map[string]any)["args"] = []string{"/wait"}
	}
	in := helloInput("brig")
	// This filter refuses nothing that anyone here calls.
	in.Profile.DefaultAction = seccomp.Allow
	in.Profile.Syscalls = []seccomp.SyscallRule{{Names: []string{"kexec_load"}, Action: seccomp.Errno(1)}}
	c := newContainer(t, name, bundle(t, name, root, in, change))
	trace := filepath.Join(c.bundle, "trace")
	out, err := c.start(t, how, []string{"strace", "-f", "-qq", "-e", "signal=none", "-o", trace})
	if err != nil || out != "hello\n" {
		t.Fatalf("%s %s: %v\n%s", name, how, err, out)
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	calls := betweenFilterAndExec(data)
	if len(calls) == 0 {
		t.Fatalf("%s %s: no call between seccomp(2) and execve(2) in the trace", name, how)
	}
	return calls
}

// betweenFilterAndExec reads what strace -f wrote, and returns the calls of the
// threads that load a filter, from then to their execve. Lines are "PID
// call(args) = result", or that in two pieces: "PID call(args <unfinished ...>"
// and "PID <... call resumed>rest". Calls are by name, and by name and argument
// where the table has values.
func betweenFilterAndExec(trace []byte) map[string]string {
	calls := map[string]string{}
	filtered, begun := map[string]bool{}, map[string]string{}
	for line := range bytes.Lines(trace) {
		pid, text, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		text = strings.TrimSpace(text)
		if start, unfinished := strings.CutSuffix(text, "<unfinished ...>"); unfinished && !strings.Contains(start, "execve(") {
			begun[pid] = start
			continue
		}
		if rest, resumed := strings.CutPrefix(text, "<... "); resumed {
			_, rest, _ = strings.Cut(rest, " resumed>")
			text = begun[pid] + rest
			delete(begun, pid)
		}
		name, args, ok := strings.Cut(text, "(")
		switch {
		case !ok:
		case name == "execve":
			delete(filtered, pid)
		case filtered[pid]:
			calls[name+valued(name, args)] = text
		case loadsFilter(name, args):
			filtered[pid] = true
		}
	}
	return calls
}

func loadsFilter(name, args string) bool {
	return strings.HasSuffix(args, "= 0") && (name == "seccomp" && strings.HasPrefix(args, "SECCOMP_SET_MODE_FILTER,") ||
		name == "prctl" && strings.HasPrefix(args, "PR_SET_SECCOMP, SECCOMP_MODE_FILTER,"))
}

// valued returns the argument of a call that the tables have values for.
func valued(name, args string) string {
	for _, c := range slices.Concat(runcNeeds().Calls, crunNeeds().Calls) {
		if c.Name == name && c.Values != nil {
			return " " + strings.Split(args, ",")[c.Index]
		}
	}
	return ""
}
