package annotations

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/test/harness"
)

func learn(value string) map[string]string { return map[string]string{"dev.brig.learn": value} }

// A container that dies at once has a whole policy all the same, and the policy is
// there when delete returns.
func TestDiesAtOnce(t *testing.T) {
	r := newRig(t)
	for i := range 5 {
		id := fmt.Sprint("short", i)
		b := r.bundle(id, "chown 1 /tmp; mkdir /made", learn(id+"/"))
		r.detached("create", "--bundle", b, id)
		r.mustOCI("start", id)
		if err := harness.Eventually("it ends", func() bool { return strings.Contains(r.mustOCI("state", id), `"stopped"`) }); err != nil {
			t.Fatal(err)
		}
		r.mustOCI("delete", id)
		p := r.learned(filepath.Join(r.policies, id))
		r.holds(p, "CAP_CHOWN", []string{"chown", "mkdir", "execve", "exit_group"}, []string{"unshare", "pivot_root", "mount", "clone3", "rmdir", "seccomp"})
		if len(p.Runs) != 1 || !p.Runs[0].Complete || len(p.Notes) > 0 {
			t.Errorf("runs %+v, notes %v", p.Runs, p.Notes)
		}
	}
}

// Processes of exec are part of what a container needs, also those of which the
// first process has ended.
func TestExecIsLearned(t *testing.T) {
	r := newRig(t)
	b := r.bundle("web", "exec sleep 600", learn("true"))
	r.detached("run", "--detach", "--bundle", b, "web")
	r.mustOCI("exec", "web", "chown", "1", "/tmp")
	r.mustOCI("exec", "web", "mkdir", "/made")
	r.mustOCI("delete", "--force", "web")
	r.holds(r.load(filepath.Join(r.policies, "web.policy.json")), "CAP_CHOWN", []string{"chown", "mkdir"}, []string{"rmdir"})
}

// A service never ends: its policy is there while it runs.
func TestPolicyWhileRunning(t *testing.T) {
	r := newRig(t)
	b := r.bundle("web", "chown 1 /tmp; exec sleep 600", learn("true"))
	r.detached("run", "--detach", "--bundle", b, "web")
	file := filepath.Join(r.policies, "web.policy.json")
	if err := harness.Eventually("the policy is there", func() bool { _, err := os.Stat(file); return err == nil }); err != nil {
		t.Fatal(err)
	}
	p := r.load(file)
	r.holds(p, "CAP_CHOWN", []string{"chown"}, []string{"mkdir"})
	says(t, strings.Join(p.Notes, "\n"), "web still ran")
	r.mustOCI("exec", "web", "mkdir", "/made")
	r.mustOCI("delete", "--force", "web")
	p = r.load(file)
	r.holds(p, "CAP_CHOWN", []string{"chown", "mkdir"}, nil)
	if len(p.Runs) != 1 || len(p.Notes) > 0 {
		t.Errorf("runs %v, notes %v", p.Runs, p.Notes)
	}
}

// The caller's streams and other descriptors end with the container's own, though
// the recorder has more to do: engines wait for that.
func TestRecorderHoldsNothing(t *testing.T) {
	r := newRig(t)
	b := r.bundle("web", "exec sleep 600", learn("true"))
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd := r.command("create", "--bundle", b, "web")
	cmd.Dir = b
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{out, out}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	out.Close()
	pids := r.recorders()
	if len(pids) != 1 {
		t.Fatalf("recorders: %v", pids)
	}
	dir := fmt.Sprintf("/proc/%d/", pids[0])
	var pipe unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &pipe); err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Stat(dir+"fd/"+fd.Name(), &st) == nil && st.Ino == pipe.Ino && st.Dev == pipe.Dev {
			t.Errorf("the recorder has the caller's pipe as descriptor %s", fd.Name())
		}
	}
	if cwd, err := os.Readlink(dir + "cwd"); err != nil || cwd != "/" {
		t.Errorf("working directory %s, %v", cwd, err)
	}
	if env, err := os.ReadFile(dir + "environ"); err != nil || len(env) > 0 {
		t.Errorf("environment %q, %v", env, err)
	}
	cgroup, err := os.ReadFile(dir + "cgroup")
	if err != nil || strings.Contains(string(cgroup), "brig-test-annotations") {
		t.Errorf("cgroups %s, %v", cgroup, err)
	}
	if sid, err := unix.Getsid(pids[0]); err != nil || sid != pids[0] {
		t.Errorf("session %d, %v", sid, err)
	}
	// The container's first process still has the pipe. With its end comes the
	// pipe's.
	r.mustOCI("start", "web")
	r.mustOCI("kill", "web", "KILL")
	if _, err := io.ReadAll(in); err != nil {
		t.Error(err)
	}
}

// A killed recorder takes nothing with it but its recording.
func TestKilledRecorder(t *testing.T) {
	r := newRig(t)
	b := r.bundle("web", "exec sleep 600", map[string]string{"dev.brig.learn": "true", "dev.brig.explain": "true"})
	r.detached("run", "--detach", "--bundle", b, "web")
	before := r.programs()
	if before == 0 {
		t.Fatal("the kernel has no programs of a recorder")
	}
	for _, pid := range r.recorders() {
		unix.Kill(pid, unix.SIGKILL)
	}
	if err := harness.Eventually("nothing is attached", func() bool { return r.programs() == 0 }); err != nil {
		t.Error(err)
	}
	if out := r.mustOCI("exec", "web", "echo", "alive"); out != "alive" {
		t.Errorf("exec says %q", out)
	}
	res := r.Root.Run("why", "web")
	says(t, res.Stderr, "container web", "its recorder was killed")
	if res.Code == 0 || strings.Count(res.Stderr, "\n") != 1 {
		t.Errorf("why: code %d: %s", res.Code, res.Stderr)
	}
	r.mustOCI("delete", "--force", "web")
	// The ID is free for another start.
	r.mustOCI("run", "--bundle", r.bundle("web", "chown 1 /tmp", learn("true")), "web")
	r.holds(r.load(filepath.Join(r.policies, "web.policy.json")), "CAP_CHOWN", []string{"chown"}, nil)
}

// programs counts the BPF links that this rig's recorders hold.
func (r *rig) programs() (n int) {
	for _, pid := range r.recorders() {
		fds, _ := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
		for _, fd := range fds {
			target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
			if strings.Contains(target, "bpf_link") || strings.Contains(target, "bpf-link") {
				n++
			}
		}
	}
	return n
}

// Whoever may set annotations gets at no file but policies.
func TestPathsAreConfined(t *testing.T) {
	r := newRig(t)
	if err := os.MkdirAll(r.policies, 0o700); err != nil {
		t.Fatal(err)
	}
	os.Symlink(r.outside, filepath.Join(r.policies, "out"))
	os.Symlink(filepath.Join(r.outside, "x"), filepath.Join(r.policies, "link.policy.json"))
	for value, words := range map[string]string{
		"../outside/x":                   "leads out",
		"a/../../outside/x":              "leads out",
		r.outside + "/x":                 "is not below",
		r.policies + "/../outside/x":     "leads out",
		"/etc/cron.d/x":                  "is not below the directory for policies",
		"out/x":                          "symbolic link",
		"link":                           "no regular file",
		"":                               "is empty",
		r.policies + "-beside/x":         "is not below",
		"x\ny":                           "control character",
		"new/deep/../../../outside/x":    "leads out",
		"out/new/x":                      "symbolic link",
		r.policies + "/out/x":            "symbolic link",
		strings.Repeat("deep/", 9) + "x": "more than 8 directories",
	} {
		b := r.bundle("evil", "true", learn(value))
		res := r.oci("create", "--bundle", b, "evil")
		if res.Code == 0 || strings.Count(res.Stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d: %s", value, res.Code, res.Stderr)
		}
		says(t, res.Stderr, words, "dev.brig.learn")
		if got := r.files(r.outside); len(got) > 0 {
			t.Fatalf("%q: made %v", value, got)
		}
		if left := r.oci("list", "-q"); left.Output() != "" || len(cgroups("evil")) > 0 {
			t.Errorf("%q: left %s, %v", value, left.Stdout, cgroups("evil"))
		}
	}
	if got := r.files(r.policies); len(got) != 2 {
		t.Errorf("below the directory: %v", got)
	}
	if entries, _ := os.ReadDir(filepath.Join(r.Dir, "explain")); len(entries) > 0 {
		t.Errorf("left of containers that did not start: %v", entries)
	}
	// A link that comes later does not lead the policy out either.
	b := r.bundle("late", "exec sleep 600", learn("shop/web"))
	r.detached("run", "--detach", "--bundle", b, "late")
	r.mustOCI("exec", "late", "true") // so that there is something to be learned
	shop := filepath.Join(r.policies, "shop")
	if err := os.Rename(shop, shop+"-moved"); err != nil {
		t.Fatal(err)
	}
	os.Symlink(r.outside, shop)
	r.mustOCI("delete", "--force", "late")
	if got := r.files(r.outside); len(got) > 0 {
		t.Errorf("made %v", got)
	}
	r.load(filepath.Join(shop+"-moved", "web.policy.json"))
}

// A value that is a mistake stops the start, and says so.
func TestMistakes(t *testing.T) {
	r := newRig(t)
	b := r.bundle("web", "true", map[string]string{"dev.brig.explain": "on"})
	res := r.oci("run", "--bundle", b, "web")
	says(t, res.Stderr, `annotation dev.brig.explain: "on" is neither true nor false`)
	if res.Code == 0 || len(cgroups("web")) > 0 {
		t.Errorf("code %d, left %v", res.Code, cgroups("web"))
	}
	r.mustOCI("run", "--bundle", r.bundle("web", "true", map[string]string{"dev.brig.explain": "false", "dev.brig.learn": "false"}), "web")
	if got := r.files(r.policies); len(got) > 0 {
		t.Errorf("made %v", got)
	}
}

// Where nothing can be recorded, who only wants explanations starts, and who wants
// to learn does not.
func TestRecordingIsImpossible(t *testing.T) {
	r := newRig(t)
	// A file is where directories would be.
	if err := os.WriteFile(filepath.Join(r.Dir, "explain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	res := r.oci("run", "--bundle", r.bundle("web", "echo ran", map[string]string{"dev.brig.explain": "true"}), "web")
	if res.Code != 0 || res.Output() != "ran" {
		t.Errorf("explain: %+v", res)
	}
	says(t, res.Stderr, "warning: annotation dev.brig.explain: container web starts unrecorded: ", "not a directory")
	res = r.oci("run", "--bundle", r.bundle("web", "echo ran", learn("true")), "web")
	if res.Code == 0 || res.Stdout != "" || strings.Count(res.Stderr, "\n") != 1 {
		t.Errorf("learn: %+v", res)
	}
	says(t, res.Stderr, "learn from container web: ", "not a directory")
	if left := cgroups("web"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A container that is never started has learned nothing, and overwrites nothing.
func TestNeverStarted(t *testing.T) {
	r := newRig(t)
	r.mustOCI("run", "--bundle", r.bundle("web", "chown 1 /tmp", learn("true")), "web")
	r.detached("create", "--bundle", r.bundle("web", "true", learn("true")), "web")
	r.detached("create", "--bundle", r.bundle("other", "true", learn("true")), "other")
	r.mustOCI("delete", "web")
	r.mustOCI("delete", "other")
	r.noRecorders()
	p := r.learned(r.policies)
	r.holds(p, "CAP_CHOWN", []string{"chown"}, nil)
	if len(p.Runs) != 1 {
		t.Errorf("runs: %+v", p.Runs)
	}
}

// A killed create leaves a recorder that ends by itself, or with the container.
func TestKilledCreate(t *testing.T) {
	r := newRig(t)
	b := r.bundle("web", "exec sleep 600", learn("true"))
	for i := range 12 {
		cmd := r.command("create", "--bundle", b, "web")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i*i) * 2 * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		if res := r.oci("delete", "--force", "web"); res.Code != 0 {
			t.Errorf("delete --force: %+v", res)
		}
		r.noRecorders()
		if left := cgroups("web"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	if got := r.files(r.policies); len(got) > 0 {
		t.Errorf("policies of containers that never ran: %v", got)
	}
}

// A start that fails leaves no recorder and no directories.
func TestFailedStart(t *testing.T) {
	r := newRig(t)
	b := r.bundle("web", "true", learn("a/b/c"), func(s *specs.Spec) { s.Process.Args = []string{"/nonesuch"} })
	if res := r.oci("run", "--bundle", b, "web"); res.Code == 0 {
		t.Errorf("%+v", res)
	}
	r.noRecorders()
	if entries, _ := os.ReadDir(r.policies); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
	if left, _ := filepath.Glob(filepath.Join(r.Dir, "explain", "[^.]*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A start that is refused leaves what an earlier one of that ID was denied.
func TestRefusedStartKeepsResults(t *testing.T) {
	r := newRig(t)
	r.mustOCI("run", "--bundle", r.bundle("clock01", "chroot / true; true", map[string]string{"dev.brig.explain": "true"}), "clock01")
	if res := r.oci("run", "--bundle", r.bundle("clock01", "true", learn("../x")), "clock01"); res.Code == 0 {
		t.Errorf("%+v", res)
	}
	says(t, r.Must(t, "why", "clock01"), "denied EPERM in chroot")
}

// Directories that are named relative to the caller's are those.
func TestRelativeDirectories(t *testing.T) {
	r := newRig(t)
	b := r.bundle("web", "chown 1 /tmp", learn("true"))
	cmd := exec.Command(r.runtime, "--root", filepath.Join(r.dir, "state"), "--learn-dir", "rel/p", "--explain-dir", "rel/e", "run", "--bundle", b, "web")
	cmd.Dir = r.dir
	if res := harness.Finish(cmd); res.Code != 0 {
		t.Fatalf("%+v", res)
	}
	r.holds(r.load(filepath.Join(r.dir, "rel/p/web.policy.json")), "CAP_CHOWN", []string{"chown"}, nil)
	if _, err := os.Stat(filepath.Join(r.dir, "rel/e/web/witness.json")); err != nil {
		t.Error(err)
	}
}

// brig why explains while the container runs, at its end, and when it is gone.
func TestWhy(t *testing.T) {
	r := newRig(t)
	b := r.bundle("clock01", "chroot / true; echo ready; exec sleep 600", map[string]string{"dev.brig.explain": "true"})
	r.detached("run", "--detach", "--bundle", b, "clock01")
	const want = "chroot: denied EPERM in chroot (CAP_SYS_CHROOT): add CAP_SYS_CHROOT to process.capabilities.bounding, effective and permitted"
	if err := harness.Eventually("it is denied", func() bool { return strings.Contains(r.Root.Run("why", "clock01").Stdout, want) }); err != nil {
		t.Fatalf("%v: %+v", err, r.Root.Run("why", "clock01"))
	}
	r.mustOCI("kill", "clock01", "KILL")
	if err := harness.Eventually("the recorder ends", func() bool { return len(r.recorders()) == 0 }); err != nil {
		t.Fatal(err)
	}
	says(t, r.Must(t, "why", "clock01"), want)
	r.mustOCI("delete", "--force", "clock01")
	says(t, r.Must(t, "why", "cloc"), want)
	says(t, r.Must(t, "why", "containerd://clock01"), want)
	says(t, r.Must(t, "why", "--format", "json", "clock01"), `"outcome": "EPERM"`, `"complete": true`)
	says(t, r.Root.Run("__complete", "why", "").Stdout, "clock01")
	res := r.Root.Run("why", "other")
	says(t, res.Stderr, "no such container: other", "dev.brig.explain")
	if res.Code == 0 || strings.Count(res.Stderr, "\n") != 1 {
		t.Errorf("%+v", res)
	}
}

// At the end, the system's log has what was denied, and nothing of who did not ask.
func TestSystemLog(t *testing.T) {
	if _, err := os.Stat("/dev/log"); err == nil {
		t.Skip("this host has a log of its own, which is not looked at")
	}
	r := newRig(t)
	run := filepath.Join(r.dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		t.Fatal(err)
	}
	// One of the places where a program looks for the log; in a mount namespace,
	// so that it is no other program's.
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(run, "syslog"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for id, asked := range map[string]map[string]string{"quiet": learn("true"), "loud": {"dev.brig.explain": "true"}} {
		b := r.bundle(id, "chroot / true; cp /bin/busybox \"/tmp/$(printf 'busybox\\nb')\"; /tmp/busybox* chroot / true; true", asked)
		cmd := r.command("run", "--bundle", b, id)
		in := append([]string{"-m", "--propagation", "private", "sh", "-c", `mount --bind "$0" /run && exec "$@"`, run}, cmd.Args...)
		if res := harness.Finish(exec.Command("unshare", in...)); res.Code != 0 {
			t.Fatalf("%+v", res)
		}
	}
	var got []string
	buf := make([]byte, 4096)
	log.SetReadDeadline(time.Now().Add(harness.Patience))
	for len(got) < 2 {
		n, err := log.Read(buf)
		if err != nil {
			t.Fatalf("%v; the log has %q", err, got)
		}
		got = append(got, string(buf[:n]))
	}
	says(t, got[0], "<29>", "brig-runtime[", "container loud: chroot: denied EPERM in chroot (CAP_SYS_CHROOT): add CAP_SYS_CHROOT")
	says(t, got[1], "container loud: chroot: denied EPERM in busybox?b ")
	for _, line := range got {
		if strings.Count(line, "\n") != 1 || strings.Contains(line, "quiet") {
			t.Errorf("%q", line)
		}
	}
}
