package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/test/harness"
)

// docker is a daemon of a test's own, without networks.
type docker struct{ dir string }

func startDocker(t *testing.T) *docker {
	t.Helper()
	dir, err := os.MkdirTemp(harness.Scratch(), "brig-docker-")
	if err != nil {
		t.Fatal(err)
	}
	d := &docker{dir}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	daemon := exec.Command("dockerd", "--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid",
		"-H", "unix://"+dir+"/sock", "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs")
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if ids := strings.Fields(d.run(nil, "ps", "-aq").Stdout); len(ids) > 0 {
			d.run(nil, append([]string{"rm", "-f"}, ids...)...)
		}
		daemon.Process.Signal(os.Interrupt)
		daemon.Wait()
		removeCgroups("docker")
		os.RemoveAll(dir)
	})
	if err := harness.Eventually("dockerd answers", func() bool { return d.run(nil, "version").Code == 0 }); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("%v\n%s", err, text)
	}
	if res := d.run(harness.BusyboxArchive(t, "busybox"), "load"); res.Code != 0 {
		t.Fatalf("docker load: %s", res.Stderr)
	}
	return d
}

func (d *docker) run(in []byte, args ...string) harness.Result {
	cmd := exec.Command("docker", append([]string{"-H", "unix://" + d.dir + "/sock"}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	return harness.Finish(cmd)
}

// Brig records what a container of Docker does, by its ID alone. What it exports of
// that holds another container of Docker to it.
func TestRecordDocker(t *testing.T) {
	d := startDocker(t)
	const loop = "while :; do chown 1 /tmp; adjtimex -t 10000 2>/dev/null; sleep 0.05; done"
	res := d.run(nil, "run", "-d", "--network", "none", "busybox", "sh", "-c", loop)
	if res.Code != 0 {
		t.Fatalf("docker run: %s", res.Stderr)
	}
	id := res.Output()
	r := harness.New(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "busy.policy.json")
	for _, name := range []string{id[:12], "docker://" + id} {
		rec := r.Run("record", "--container", name, "--for", "1s", "-o", file)
		if rec.Code != 0 {
			t.Fatalf("record: %s", rec.Stderr)
		}
		for _, want := range []string{"\nchown ", "\nexecve ", "EPERM", "CAP_SYS_TIME"} {
			if !strings.Contains("\n"+rec.Stdout, want) {
				t.Errorf("no %q in\n%s", want, rec.Stdout)
			}
		}
	}
	p, err := policy.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if granted, err := p.Granted(); err != nil || granted.String() != "CAP_CHOWN" {
		t.Errorf("granted %s, %v", granted, err)
	}
	d.obeys(t, r, file)
}

// obeys runs containers by the script that Brig writes.
func (d *docker) obeys(t *testing.T, r *harness.Root, file string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new")
	r.Must(t, "policy", "export", "--to", "docker", "--runtime", "runc", "-o", dir, file)
	flags := []string{"run", "--rm", "--network", "none", "--cap-drop", "ALL", "--cap-add", "CHOWN",
		"--security-opt", "seccomp=" + dir + "/busy.json", "busybox"}
	script, err := os.ReadFile(dir + "/busy.sh")
	if err != nil || !strings.Contains(string(script), "--cap-drop ALL") || !strings.Contains(string(script), "--cap-add CHOWN") {
		t.Fatalf("%v: %s", err, script)
	}
	if res := d.run(nil, append(flags, "chown", "1", "/tmp")...); res.Code != 0 {
		t.Errorf("what was recorded: %d %s", res.Code, res.Stderr)
	}
	if res := d.run(nil, append(flags, "mkdir", "/tmp/x")...); res.Code == 0 || !strings.Contains(res.Stderr, "not permitted") {
		t.Errorf("what was not recorded: %d %s", res.Code, res.Stderr)
	}
}
