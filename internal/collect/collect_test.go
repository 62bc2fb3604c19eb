package collect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/brig-run/brig/internal/policy"
)

// learned is a policy of one run at a time, in minutes, that made some calls.
func learned(image, digest string, minute int, calls ...string) *policy.Policy {
	run := policy.Run{
		ID: image + digest + string(rune('a'+minute)), Purpose: policy.PurposeLearn, Complete: true, Machine: "amd64",
		Started: time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC),
	}
	p := &policy.Policy{Version: policy.Version, Runs: []policy.Run{run}}
	if image != "" {
		p.Image = &policy.Image{Reference: image, Digest: digest}
	}
	for _, c := range calls {
		p.Syscalls = append(p.Syscalls, policy.Syscall{
			Name: c, Status: policy.Asked, ABIs: []string{"amd64"}, Running: 1, Runs: 1, First: &policy.First{Program: "p", Run: run.ID},
		})
	}
	return p
}

func write(t *testing.T, name string, p *policy.Policy) {
	t.Helper()
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, name, string(data))
}

func writeText(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func calls(p *policy.Policy) string {
	var names []string
	for _, c := range p.Syscalls {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

func TestReplicasAreJoined(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/later.policy.json", learned("docker.io/library/nginx:1", "sha256:b", 2, "read"))
	write(t, dir+"/pod/first.policy.json", learned("docker.io/library/nginx:1", "sha256:a", 1, "read", "write"))
	write(t, dir+"/redis.policy.json", learned("redis", "", 1, "close"))
	writeText(t, dir+"/half.policy.json.tmp", "{")
	groups, faults, err := Collect(dir)
	if err != nil || len(faults) > 0 || len(groups) != 2 {
		t.Fatalf("%d groups, faults %v, %v", len(groups), faults, err)
	}
	nginx, redis := groups[0], groups[1]
	if nginx.Name != "nginx-1" || len(nginx.From) != 2 || calls(nginx.Policy) != "read write" {
		t.Errorf("nginx: %s from %v allows %s", nginx.Name, nginx.From, calls(nginx.Policy))
	}
	if nginx.Policy.Image.Reference != "docker.io/library/nginx:1" || nginx.Policy.Image.Digest != "" {
		t.Errorf("two digests became %+v", nginx.Policy.Image)
	}
	if s := nginx.Policy.Saturation(); s != "nothing new in the last of 2 runs" {
		t.Errorf("runs are not in the order of time: %s", s)
	}
	if redis.Name != "redis" || calls(redis.Policy) != "close" {
		t.Errorf("redis: %s allows %s", redis.Name, calls(redis.Policy))
	}
}

func TestWithoutImage(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.policy.json", learned("", "x", 1, "read"))
	write(t, dir+"/b.policy.json", learned("", "y", 1, "write"))
	groups, faults, err := Collect(dir)
	if err != nil || len(faults) > 0 || len(groups) != 2 || groups[0].Name != "a" || groups[1].Name != "b" {
		t.Fatalf("%+v, %v, %v", groups, faults, err)
	}
}

func TestCopiesCountOnce(t *testing.T) {
	dir := t.TempDir()
	p := learned("nginx", "", 1, "read")
	write(t, dir+"/a.policy.json", p)
	write(t, dir+"/b.policy.json", p)
	groups, faults, err := Collect(dir)
	if err != nil || len(faults) > 0 || len(groups) != 1 || len(groups[0].From) != 1 || groups[0].Policy.Syscalls[0].Running != 1 {
		t.Fatalf("%+v, %v, %v", groups, faults, err)
	}
}

func TestNamesAreApart(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a.policy.json", learned("nginx:1.2", "", 1, "read"))
	write(t, dir+"/b.policy.json", learned("nginx-1:2", "", 1, "read"))
	groups, _, err := Collect(dir)
	if err != nil || len(groups) != 2 || groups[0].Name == groups[1].Name {
		t.Fatalf("%+v, %v", groups, err)
	}
}

func TestFaults(t *testing.T) {
	outside := t.TempDir()
	write(t, outside+"/secret.policy.json", learned("secret", "", 1, "read"))
	dir := t.TempDir()
	write(t, dir+"/good.policy.json", learned("nginx", "", 1, "read"))
	writeText(t, dir+"/bad.policy.json", `{"version": 1, "sycalls": []}`)
	if err := os.Symlink(outside, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside+"/secret.policy.json", dir+"/link.policy.json"); err != nil {
		t.Fatal(err)
	}
	groups, faults, err := Collect(dir)
	if err != nil || len(groups) != 1 || groups[0].Image != "nginx" {
		t.Fatalf("%+v, %v", groups, err)
	}
	if len(faults) != 1 || !strings.Contains(faults[0].Error(), "bad.policy.json") || !strings.Contains(faults[0].Error(), "did you mean") {
		t.Errorf("faults: %v", faults)
	}
	if _, _, err := Collect(dir + "/none"); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("no directory: %v", err)
	}
}

func TestState(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]string{}
	look := func(what string, change bool) {
		t.Helper()
		s, err := State(dir)
		if err != nil {
			t.Fatal(err)
		}
		if was, known := seen[s]; known == change {
			t.Errorf("%s: changed %v, as %q", what, !known, was)
		}
		seen[s] = what
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look("empty", true)
	write("other.json", "{}")
	look("another file", false)
	write("a.policy.json", "{}")
	look("a policy", true)
	look("nothing", false)
	write("b", "{}")
	os.Rename(filepath.Join(dir, "b"), filepath.Join(dir, "a.policy.json"))
	look("replaced", true)
	os.Mkdir(filepath.Join(dir, "d"), 0o700)
	write("d/c.policy.json", "{}")
	look("deeper", true)
	os.Remove(filepath.Join(dir, "a.policy.json"))
	look("gone", true)
	if _, err := State(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there has a state")
	}
}
