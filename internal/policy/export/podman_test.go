package export

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/policy"
)

// scratch is a directory for podman's stores: an overlay's upper directory
// cannot lie in another overlay.
func scratch(t *testing.T) string {
	t.Helper()
	parent := "/var/tmp"
	var fs unix.Statfs_t
	if unix.Statfs(parent, &fs) == nil && fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		parent = "/dev/shm"
	}
	dir, err := os.MkdirTemp(parent, "brig-export-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// podman makes a program of that name that is podman with stores of its own, and
// returns its directory. Podman's own limits are higher than some hosts'.
func podman(t *testing.T, runtime string) string {
	t.Helper()
	real, err := exec.LookPath("podman")
	if err != nil {
		t.Skip("podman is not installed")
	}
	dir := scratch(t)
	script := fmt.Sprintf(`#!/bin/sh
first=$1
shift
[ "$first" != run ] || set -- --network none --rm --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 "$@"
exec %s --root %s/root --runroot %s/run --storage-driver overlay --cgroup-manager cgroupfs --events-backend none --runtime %s "$first" "$@"
`, real, dir, dir, runtime)
	if err := os.WriteFile(filepath.Join(dir, "podman"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// inDir runs a command in a directory whose programs come first. It has a PID
// namespace of its own, with which what podman leaves running to clean up ends.
func inDir(dir string, args ...string) (string, error) {
	cmd := command(args...)
	cmd.Args = slices.Insert(cmd.Args, 1, "--pid", "--fork", "--kill-child", "--mount-proc")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The command line for podman, as it is written, runs the program; without what
// the runtimes need it does not.
func TestPodmanRuns(t *testing.T) {
	root := helloRoot(t)
	tar := filepath.Join(t.TempDir(), "hello.tar")
	if out, err := exec.Command("tar", "-C", root, "-cf", tar, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	for _, runtime := range installed(t) {
		t.Run(runtime, func(t *testing.T) {
			dir := podman(t, runtime)
			if out, err := inDir(dir, "podman", "import", tar, "localhost/hello:1"); err != nil {
				t.Fatalf("podman import: %v\n%s", err, out)
			}
			for _, needs := range []bool{true, false} {
				in := helloInput()
				if !needs {
					in.Runtimes = []string{"brig"}
				}
				in.Policy.Image, in.Policy.Command = &policy.Image{Reference: "localhost/hello:1"}, []string{"/hello", "it's", "$HOME"}
				for _, f := range export(t, "podman", in).Files {
					if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				out, err := inDir(dir, "sh", "hello.sh")
				if started := err == nil && strings.HasSuffix(out, "hello\n"); started != needs {
					t.Errorf("with the calls that runtimes need: %v; started: %v: %v\n%s", needs, started, err, out)
				}
			}
		})
	}
}
