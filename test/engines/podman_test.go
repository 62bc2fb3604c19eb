package engines

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// podman with stores of its own.
type podman struct{ dir, runtime string }

func startPodman(t *testing.T, runtime string) *podman {
	t.Helper()
	p := &podman{scratch(t), runtime}
	// Podman's own defaults are above what root without CAP_SYS_RESOURCE may set.
	conf := "[containers]\ndefault_ulimits = [\"nofile=1024:2048\", \"nproc=1024:2048\"]\n"
	if err := os.WriteFile(p.dir+"/containers.conf", []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.run(nil, "rm", "-f", "-a", "-t", "0")
		exec.Command("umount", filepath.Join(p.dir, "root", "overlay")).Run()
		removeCgroups("libpod_parent")
	})
	if res := p.run(harness.BusyboxArchive(t, "localhost/busybox:latest"), "load", "-q"); res.Code != 0 {
		t.Fatalf("podman load: %s", res.Stderr)
	}
	if res := p.run(nil, "tag", "localhost/busybox:latest", "busybox"); res.Code != 0 {
		t.Fatalf("podman tag: %s", res.Stderr)
	}
	return p
}

func (p *podman) run(in []byte, args ...string) harness.Result {
	all := []string{"--root", p.dir + "/root", "--runroot", p.dir + "/run", "--tmpdir", p.dir + "/tmp", "--storage-driver", "overlay",
		"--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", p.runtime}
	cmd := exec.Command("podman", append(all, expand(args)...)...)
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+p.dir+"/containers.conf")
	cmd.Stdin = bytes.NewReader(in)
	return harness.Finish(cmd)
}

func TestPodman(t *testing.T) {
	compare(t, startPodman(t, brigRuntime(t)), startPodman(t, reference(t)))
}
