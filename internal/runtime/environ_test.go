package runtime_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestEnvironment(t *testing.T) {
	root := busyboxRoot(t)
	os.Symlink("busybox", filepath.Join(root, "bin/env"))
	os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("x\nroot:x:0:0::/root:/bin/sh\nbroken:x:y:0::/wrong:\nu:x:1000:5::/home/u:\nlast:x:1001"), 0o644)
	for _, c := range []struct {
		uid       uint32
		env, want string
	}{
		{0, "A=1", "A=1 HOME=/root"},
		{1000, "A=1 A=2 B=3 A=4", "B=3 A=4 HOME=/home/u"},
		{1001, "", "HOME=/"},
		{77, "HOME= X=1", "X=1 HOME=/"},
		{0, "HOME=/a HOME=/b X=", "HOME=/b X="},
		{0, "HOME=/a HOME=", "HOME=/root"},
	} {
		spec := defaultSpec("/bin/env")
		spec.Process.Env = strings.Fields(c.env)
		spec.Process.User.UID = c.uid
		if r := run(t, root, spec, nil); r.err != nil || strings.Join(strings.Fields(r.stdout), " ") != c.want {
			t.Errorf("%+v: %+v", c, r)
		}
	}
	// A file that waits for ever to be opened, and one that leads out.
	spec := defaultSpec("/bin/env")
	os.Remove(filepath.Join(root, "etc/passwd"))
	unix.Mkfifo(filepath.Join(root, "etc/passwd"), 0o644)
	if r := run(t, root, spec, nil); r.err != nil || !strings.Contains(r.stdout, "HOME=/\n") {
		t.Errorf("%+v", r)
	}
	host := filepath.Join(t.TempDir(), "passwd")
	os.WriteFile(host, []byte("root:x:0:0::/of/the/host:"), 0o644)
	os.Remove(filepath.Join(root, "etc/passwd"))
	os.Symlink(host, filepath.Join(root, "etc/passwd"))
	if r := run(t, root, spec, nil); r.err != nil || !strings.Contains(r.stdout, "HOME=/\n") {
		t.Errorf("%+v", r)
	}
	// A mount of the container's may bring the file.
	os.Remove(filepath.Join(root, "etc/passwd"))
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/etc/passwd", Source: host, Options: []string{"bind"}})
	if r := run(t, root, spec, nil); r.err != nil || !strings.Contains(r.stdout, "HOME=/of/the/host\n") {
		t.Errorf("%+v", r)
	}
}
