// Package annotations tests from outside what annotations ask of Brig's OCI
// runtime: recordings, policies and explanations of containers of podman, of
// containerd and of bundles made on the spot.
package annotations

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// rig is Brig as a runtime, with directories of a test's own.
type rig struct {
	*testing.T
	*harness.Root
	dir     string
	runtime string
	policies,
	outside string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	bin, err := harness.Runtime()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, Root: harness.New(t), runtime: bin}
	if r.dir, err = os.MkdirTemp(harness.Scratch(), "brig-annotations-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(r.dir) })
	r.policies, r.outside = filepath.Join(r.dir, "policies"), filepath.Join(r.dir, "outside")
	if err := os.Mkdir(r.outside, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.noRecorders)
	return r
}

// flags are those of the runtime, of which an engine passes no more than it must.
func (r *rig) flags() []string {
	return []string{"learn-dir=" + r.policies, "explain-dir=" + filepath.Join(r.Dir, "explain")}
}

// wrapper is a program that is the runtime with these flags, for engines that
// cannot pass any.
func (r *rig) wrapper() string {
	r.Helper()
	name := filepath.Join(r.dir, "runtime")
	text := "#!/bin/sh\nexec " + r.runtime
	for _, f := range r.flags() {
		text += " --" + f
	}
	if err := os.WriteFile(name, []byte(text+" \"$@\"\n"), 0o755); err != nil {
		r.Fatal(err)
	}
	return name
}

func (r *rig) command(args ...string) *exec.Cmd {
	all := []string{"--root", filepath.Join(r.dir, "state")}
	for _, f := range r.flags() {
		all = append(all, "--"+f)
	}
	return exec.Command(r.runtime, append(all, args...)...)
}

func (r *rig) oci(args ...string) harness.Result { return harness.Finish(r.command(args...)) }

// detached runs a command whose container stays: it has its streams, which are
// files.
func (r *rig) detached(args ...string) {
	r.Helper()
	f, err := os.Create(filepath.Join(r.dir, "output"))
	if err != nil {
		r.Fatal(err)
	}
	defer f.Close()
	cmd := r.command(args...)
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Run(); err != nil {
		out, _ := os.ReadFile(f.Name())
		r.Fatalf("brig-runtime %v: %v: %s", args, err, out)
	}
}

func (r *rig) mustOCI(args ...string) string {
	r.Helper()
	res := r.oci(args...)
	if res.Code != 0 {
		r.Fatalf("brig-runtime %v: exit code %d: %s", args, res.Code, res.Stderr)
	}
	return res.Output()
}

// bundle makes a bundle of busybox that runs a script, with Docker's capabilities.
func (r *rig) bundle(id, script string, annotations map[string]string, change ...func(*specs.Spec)) string {
	r.Helper()
	image, err := harness.Busybox("busybox")
	if err != nil {
		r.Fatal(err)
	}
	dir, err := os.MkdirTemp(r.dir, "bundle-")
	if err != nil {
		r.Fatal(err)
	}
	unpack(r.T, image, filepath.Join(dir, "rootfs"))
	cmd := r.command("spec", "--bundle", dir)
	if res := harness.Finish(cmd); res.Code != 0 {
		r.Fatal(res.Stderr)
	}
	file := filepath.Join(dir, "config.json")
	b, err := os.ReadFile(file)
	var spec specs.Spec
	if err == nil {
		err = json.Unmarshal(b, &spec)
	}
	if err != nil {
		r.Fatal(err)
	}
	spec.Root.Readonly = false
	spec.Process.Terminal = false
	spec.Process.Args = []string{"/bin/sh", "-c", script}
	caps := []string{"CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	spec.Linux.CgroupsPath = "/brig-test-annotations/" + id
	spec.Annotations = annotations
	for _, f := range change {
		f(&spec)
	}
	if b, err = json.Marshal(&spec); err == nil {
		err = os.WriteFile(file, b, 0o644)
	}
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if res := r.oci("delete", "--force", id); res.Code != 0 {
			r.Errorf("delete --force %s: %s", id, res.Stderr)
		}
		for _, d := range cgroups("") { // their parents, once they are empty
			os.Remove(d)
		}
	})
	return dir
}

func cgroups(id string) []string {
	name := filepath.Join("brig-test-annotations", id)
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
	more, _ := filepath.Glob("/sys/fs/cgroup/" + name)
	return append(dirs, more...)
}

func unpack(t *testing.T, image *harness.Image, rootfs string) {
	t.Helper()
	for _, e := range image.Entries {
		name := filepath.Join(rootfs, e.Name)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		switch {
		case err != nil:
		case e.Linkname != "":
			err = os.Symlink(e.Linkname, name)
		case strings.HasSuffix(e.Name, "/"):
			err = os.MkdirAll(name, 0o755)
		default:
			err = os.WriteFile(name, e.Data, os.FileMode(e.Mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// recorders are the recorders that run for this rig.
func (r *rig) recorders() (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		args := strings.Split(string(b), "\x00")
		if slices.Contains(args, "recorder") && slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, r.Dir) }) {
			var pid int
			fmt.Sscanf(f, "/proc/%d/", &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

func (r *rig) noRecorders() {
	if harness.Eventually("no recorder is left", func() bool { return len(r.recorders()) == 0 }) != nil {
		r.Errorf("recorders are left: %v", r.recorders())
	}
}

// learned reads the only policy that there is below a directory.
func (r *rig) learned(dir string) *policy.Policy {
	r.Helper()
	files := r.files(dir)
	if len(files) != 1 {
		r.Fatalf("policies: %v", files)
	}
	return r.load(filepath.Join(dir, files[0]))
}

func (r *rig) load(file string) *policy.Policy {
	r.Helper()
	p, err := policy.Load(file)
	if err != nil {
		r.Fatal(err)
	}
	return p
}

// files lists all files and links below a directory.
func (r *rig) files(dir string) (names []string) {
	filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, name)
			names = append(names, rel)
		}
		return nil
	})
	return names
}

// holds fails unless a policy grants these capabilities, allows these calls, and
// not those.
func (r *rig) holds(p *policy.Policy, caps string, calls, not []string) {
	r.Helper()
	if got, err := p.Granted(); err != nil || got.String() != caps {
		r.Errorf("granted %v, %v; want %s", got, err, caps)
	}
	allowed := map[string]bool{}
	for _, c := range p.Syscalls {
		allowed[c.Name] = c.Allowed()
	}
	for _, c := range calls {
		if !allowed[c] {
			r.Errorf("%s is not allowed", c)
		}
	}
	for _, c := range not {
		if allowed[c] {
			r.Errorf("%s is allowed", c)
		}
	}
}

func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}
