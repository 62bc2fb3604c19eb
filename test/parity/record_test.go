package parity

import (
	"strings"
	"testing"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/test/harness"
)

// Brig records what a container of podman does, by its ID alone.
func TestRecordPodmansContainer(t *testing.T) {
	p := startPeer(t)
	image, err := harness.Busybox("busybox")
	if err != nil {
		t.Fatal(err)
	}
	p.load(t, image)
	res := p.run(nil, "run", "-d", "--name", "busy", "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "localhost/busybox",
		"sh", "-c", "while :; do chown 1 /tmp; adjtimex -t 10000 2>/dev/null; sleep 0.05; done")
	if res.Code != 0 {
		t.Fatalf("podman: %s", res.Stderr)
	}
	id := res.Output()
	r := harness.New(t)
	file := t.TempDir() + "/busy.policy.json"
	rec := r.Run("record", "--container", id[:12], "--for", "1s", "-o", file)
	if rec.Code != 0 {
		t.Fatalf("record: %s", rec.Stderr)
	}
	for _, want := range []string{"\nchown ", "\nexecve ", "EPERM"} {
		if !strings.Contains("\n"+rec.Stdout, want) {
			t.Errorf("no %q in\n%s", want, rec.Stdout)
		}
	}
	pol, err := policy.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	granted, err := pol.Granted()
	if err != nil || granted.String() != "CAP_CHOWN" {
		t.Errorf("granted %s, %v", granted, err)
	}
}
