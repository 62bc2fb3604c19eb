package e2e

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/test/harness"
)

// Brig records what a container of containerd does, by its ID alone: one of its own,
// and one in the namespace and the cgroup in which the kubelet has it.
func TestRecordContainerd(t *testing.T) {
	c := harness.StartContainerd(t, harness.WithoutCRI)
	box, err := harness.Busybox("localhost/busybox")
	if err != nil {
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
			image := c.Load(t, tt.namespace, box)
			run := append(append(in, "run", "-d"), tt.flags...)
			c.Must(t, append(run, image, tt.id, "sh", "-c", "while :; do chown 1 /tmp; sleep 0.05; done")...)
			t.Cleanup(func() {
				c.Ctr(nil, append(in, "task", "kill", "-s", "KILL", tt.id)...)
				c.Ctr(nil, append(in, "task", "rm", "-f", tt.id)...)
				c.Ctr(nil, append(in, "container", "rm", tt.id)...)
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
