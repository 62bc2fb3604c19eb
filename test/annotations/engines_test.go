package annotations

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// podman has stores of its own, and Brig as its runtime.
type podman struct {
	r    *rig
	args []string
}

func newPodman(r *rig) *podman {
	r.Helper()
	if _, err := exec.LookPath("podman"); err != nil {
		r.Fatalf("the peers are needed, see test/packages: %v", err)
	}
	root := filepath.Join(r.dir, "podman")
	p := &podman{r, []string{"--root", root, "--runroot", root + "-run", "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs",
		"--events-backend", "none", "--runtime", r.runtime}}
	for _, f := range r.flags() {
		p.args = append(p.args, "--runtime-flag", f)
	}
	r.Cleanup(func() {
		p.do(nil, "rm", "-f", "-a", "-t", "0")
		exec.Command("umount", filepath.Join(root, "overlay")).Run()
	})
	if res := p.do(harness.BusyboxArchive(r.T, "busybox"), "load", "-q"); res.Code != 0 {
		r.Fatalf("podman load: %s", res.Stderr)
	}
	return p
}

func (p *podman) do(in []byte, args ...string) harness.Result {
	cmd := exec.Command("podman", append(p.args, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	return harness.Finish(cmd)
}

// run runs busybox with annotations.
func (p *podman) run(annotations map[string]string, args ...string) harness.Result {
	all := []string{"run", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"}
	for name, value := range annotations {
		all = append(all, "--annotation", name+"="+value)
	}
	return p.do(nil, append(all, args...)...)
}

// Two replicas of an image under podman are recorded, each does something of its
// own, and exec too; joined and exported, their policy holds both, and no more.
func TestPodman(t *testing.T) {
	r := newRig(t)
	p := newPodman(r)
	const ref = "localhost/busybox"
	asked := map[string]string{"dev.brig.learn": "shop/", "dev.brig.image": ref}
	first := p.run(asked, "-d", ref, "sh", "-c", "chown 1 /tmp; exec sleep 600")
	if first.Code != 0 {
		t.Fatalf("podman run: %s", first.Stderr)
	}
	if res := p.do(nil, "exec", first.Output(), "sync"); res.Code != 0 {
		t.Fatalf("podman exec: %s", res.Stderr)
	}
	if res := p.run(asked, "--rm", ref, "chroot", "/", "true"); res.Code != 0 {
		t.Fatalf("podman run: %s", res.Stderr)
	}
	if res := p.do(nil, "rm", "-f", "-t", "0", first.Output()); res.Code != 0 {
		t.Fatalf("podman rm: %s", res.Stderr)
	}
	of := r.load(filepath.Join(r.policies, "shop", first.Output()+".policy.json"))
	r.holds(of, "CAP_CHOWN", []string{"chown", "sync", "execve"}, []string{"chroot", "pivot_root", "unshare", "mount"})
	if of.User != "0:0" || strings.Join(of.Command, " ") != "sh -c chown 1 /tmp; exec sleep 600" {
		t.Errorf("user %q, command %q", of.User, of.Command)
	}

	merged := filepath.Join(r.dir, "merged")
	r.Must(t, "collect", "--dir", r.policies, "-o", merged, "--to", "spo", "--to", "podman")
	joined := filepath.Join(merged, "localhost-busybox.policy.json")
	r.holds(r.load(joined), "CAP_CHOWN,CAP_SYS_CHROOT", []string{"chown", "sync", "chroot"}, []string{"pivot_root", "rmdir"})
	spo, err := os.ReadFile(filepath.Join(merged, "spo", "localhost-busybox.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	says(t, string(spo), "kind: SeccompProfile", "- chroot\n", "- sync\n")

	// The joined policy is enough for both, and stops what neither did.
	profile := filepath.Join(merged, "podman", "localhost-busybox.json")
	under := []string{"--rm", "--cap-drop", "ALL", "--cap-add", "CHOWN,SYS_CHROOT", "--security-opt", "seccomp=" + profile, ref}
	if res := p.run(nil, append(under, "sh", "-c", "chown 1 /tmp; sync; chroot / true")...); res.Code != 0 {
		t.Errorf("under the joined policy: %s", res.Stderr)
	}
	if res := p.run(nil, append(under, "rmdir", "/tmp")...); res.Code == 0 || !strings.Contains(res.Stderr, "not permitted") {
		t.Errorf("rmdir under the joined policy: %+v", res)
	}
}

// What a container of podman was denied is told in the words of podman, while it
// runs and when it has been removed.
func TestPodmanWhy(t *testing.T) {
	r := newRig(t)
	p := newPodman(r)
	asked := map[string]string{"dev.brig.explain": "true"}
	res := p.run(asked, "-d", "--cap-drop", "CHOWN", "localhost/busybox", "sh", "-c", "chown 1 /tmp; date -s @$(date +%s); exec sleep 600")
	if res.Code != 0 {
		t.Fatalf("podman run: %s", res.Stderr)
	}
	id := res.Output()
	const chown = "chown: denied EPERM in chown (CAP_CHOWN): add --cap-add CHOWN\n"
	const clock = "(seccomp profile of the container): add --cap-add SYS_TIME; a profile that"
	if err := harness.Eventually("both are denied", func() bool {
		out := r.Root.Run("why", id).Stdout
		return strings.Contains(out, chown) && strings.Contains(out, clock)
	}); err != nil {
		t.Fatalf("%v: %+v", err, r.Root.Run("why", id))
	}
	if res := p.do(nil, "rm", "-f", "-t", "0", id); res.Code != 0 {
		t.Fatal(res.Stderr)
	}
	says(t, r.Must(t, "why", id[:12])+"\n", chown, clock)
	if got := r.files(r.policies); len(got) > 0 {
		t.Errorf("policies of who did not ask: %v", got)
	}
}

// A container that podman starts again goes on with its policy.
func TestPodmanRestart(t *testing.T) {
	r := newRig(t)
	p := newPodman(r)
	res := p.run(map[string]string{"dev.brig.learn": "web", "dev.brig.image": "busybox"}, "--name", "web", "localhost/busybox", "sh", "-c",
		"if [ -e /tmp/made ]; then chown 1 /tmp; else mkdir /tmp/made; fi")
	if res.Code != 0 {
		t.Fatalf("podman run: %s", res.Stderr)
	}
	if res := p.do(nil, "start", "-a", "web"); res.Code != 0 {
		t.Fatalf("podman start: %s", res.Stderr)
	}
	if res := p.do(nil, "rm", "web"); res.Code != 0 {
		t.Fatalf("podman rm: %s", res.Stderr)
	}
	got := r.load(filepath.Join(r.policies, "web.policy.json"))
	r.holds(got, "CAP_CHOWN", []string{"mkdir", "chown"}, nil)
	if len(got.Runs) != 2 {
		t.Errorf("runs: %+v", got.Runs)
	}
}

// Under containerd the shim calls the runtime.
func TestContainerd(t *testing.T) {
	r := newRig(t)
	c := harness.StartContainerd(t, harness.WithoutCRI)
	box, err := harness.Busybox("localhost/busybox")
	if err != nil {
		t.Fatal(err)
	}
	image := c.Load(t, "default", box)
	run := func(id string, more ...string) {
		t.Helper()
		args := append([]string{"run", "-d", "--runc-binary", r.wrapper(), "--annotation", "dev.brig.learn=true", "--annotation", "dev.brig.explain=true",
			"--annotation", "dev.brig.image=busybox", image, id}, more...)
		if res := c.Ctr(nil, args...); res.Code != 0 {
			t.Fatalf("ctr run: %s", res.Stderr)
		}
		t.Cleanup(func() {
			c.Ctr(nil, "task", "kill", "-s", "KILL", id)
			c.Ctr(nil, "task", "rm", "-f", id)
			c.Ctr(nil, "container", "rm", id)
		})
	}
	run("one", "sh", "-c", "chown 1 /tmp; adjtimex -t 10000; exec sleep 600")
	if res := c.Ctr(nil, "task", "exec", "--exec-id", "x", "one", "mkdir", "/made"); res.Code != 0 {
		t.Fatalf("ctr task exec: %s", res.Stderr)
	}
	run("two", "chroot", "/", "true") // is over at once
	for _, id := range []string{"one", "two"} {
		c.Ctr(nil, "task", "kill", "-s", "KILL", id)
		if err := harness.Eventually("the task ends", func() bool { return c.Ctr(nil, "task", "rm", id).Code == 0 }); err != nil {
			t.Fatal(err)
		}
	}
	r.noRecorders()
	r.holds(r.load(filepath.Join(r.policies, "one.policy.json")), "CAP_CHOWN", []string{"chown", "mkdir"}, []string{"chroot", "pivot_root"})
	says(t, r.Must(t, "why", "one"), "denied EPERM in adjtimex", "SYS_TIME")

	merged := filepath.Join(r.dir, "merged")
	r.Must(t, "collect", "--dir", r.policies, "-o", merged, "--to", "spo", "--to", "kubernetes")
	joined := filepath.Join(merged, "busybox.policy.json")
	r.holds(r.load(joined), "CAP_CHOWN,CAP_SYS_CHROOT", []string{"chown", "mkdir", "chroot"}, []string{"pivot_root", "rmdir"})
	if err := r.Load(must(harness.Busybox("busybox"))); err != nil {
		t.Fatal(err)
	}
	r.Must(t, "run", "--rm", "--policy", joined, "busybox", "sh", "-c", "chown 1 /tmp; mkdir /made; chroot / true")
	if res := r.Root.Run("run", "--rm", "--policy", joined, "busybox", "rmdir", "/tmp"); res.Code == 0 {
		t.Error("rmdir is allowed by the joined policy")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
