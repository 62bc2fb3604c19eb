package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/test/harness"
)

// containerd is a daemon of a test's own.
type containerd struct{ dir string }

func startContainerd(t *testing.T) *containerd {
	t.Helper()
	dir, err := os.MkdirTemp(harness.Scratch(), "brig-containerd-")
	if err != nil {
		t.Fatal(err)
	}
	c := &containerd{dir}
	config := fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "%[1]s/sock"
`, dir)
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	daemon := exec.Command("containerd", "--config", filepath.Join(dir, "config.toml"))
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		daemon.Process.Signal(os.Interrupt)
		daemon.Wait()
		os.RemoveAll(dir)
	})
	if err := harness.Eventually("containerd answers", func() bool { return c.run(nil, "version").Code == 0 }); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

func (c *containerd) run(in []byte, args ...string) harness.Result {
	cmd := exec.Command("ctr", append([]string{"-a", c.dir + "/sock"}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	return harness.Finish(cmd)
}

func (c *containerd) must(t *testing.T, in []byte, args ...string) {
	t.Helper()
	if res := c.run(in, args...); res.Code != 0 {
		t.Fatalf("ctr %v: %s", args, res.Stderr)
	}
}

// Brig records what a container of containerd does, by its ID alone: one of its own,
// and one in the namespace and the cgroup in which the kubelet has it.
func TestRecordContainerd(t *testing.T) {
	c := startContainerd(t)
	image, err := harness.Busybox("busybox")
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := image.Write(&archive); err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("0123456789abcdef", 4)
	pod := strings.Repeat("fedcba9876543210", 4)
	for _, tt := range []struct {
		namespace, id, name string
		flags               []string
	}{
		{"default", id, id[:12], nil},
		{"k8s.io", pod, "containerd://" + pod, []string{"--cgroup", "/kubepods/burstable/" + kubePod + "/" + pod}},
	} {
		t.Run(tt.namespace, func(t *testing.T) {
			in := []string{"-n", tt.namespace}
			c.must(t, archive.Bytes(), append(in, "image", "import", "--base-name", "localhost/busybox", "-")...)
			names := strings.Fields(c.run(nil, append(in, "image", "ls", "-q")...).Stdout)
			if len(names) == 0 {
				t.Fatal("no image")
			}
			run := append(append(in, "run", "-d"), tt.flags...)
			c.must(t, nil, append(run, names[0], tt.id, "sh", "-c", "while :; do chown 1 /tmp; sleep 0.05; done")...)
			t.Cleanup(func() {
				c.run(nil, append(in, "task", "kill", "-s", "KILL", tt.id)...)
				c.run(nil, append(in, "task", "rm", "-f", tt.id)...)
				c.run(nil, append(in, "container", "rm", tt.id)...)
				removeCgroups("kubepods/burstable/" + kubePod)
			})
			recordBusy(t, tt.name)
		})
	}
}

const kubePod = "pod6f0c3f6e-0d4e-4b6f-9f6d-1a2b3c4d5e6f"

// removeCgroups removes what containerd leaves of a path, in all hierarchies.
func removeCgroups(path string) {
	for ; path != "."; path = filepath.Dir(path) {
		dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + path)
		for _, dir := range append(dirs, "/sys/fs/cgroup/"+path) {
			syscall.Rmdir(dir) // others' are busy
		}
	}
}

// recordBusy records a container that does nothing but chown.
func recordBusy(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "busy.policy.json")
	rec := harness.New(t).Run("record", "--container", name, "--for", "1s", "-o", file)
	if rec.Code != 0 {
		t.Fatalf("record: %s", rec.Stderr)
	}
	if !strings.Contains(rec.Stdout, "\nchown ") || !strings.Contains(rec.Stdout, "\nexecve ") {
		t.Errorf("recorded\n%s", rec.Stdout)
	}
	p, err := policy.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if granted, err := p.Granted(); err != nil || granted.String() != "CAP_CHOWN" {
		t.Errorf("granted %s, %v", granted, err)
	}
}
