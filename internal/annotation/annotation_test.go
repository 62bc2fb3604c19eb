package annotation

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/internal/explain"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/record"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in   map[string]string
		want Request
		err  string
	}{
		{nil, Request{}, ""},
		{map[string]string{"dev.brig.image": "x"}, Request{}, ""},
		{map[string]string{Learn: "true"}, Request{Learn: "true"}, ""},
		{map[string]string{Learn: "True", Explain: "1"}, Request{Learn: "true", Explain: true}, ""},
		{map[string]string{Learn: "false", Explain: "false"}, Request{}, ""},
		{map[string]string{Learn: "shop/web"}, Request{Learn: "shop/web"}, ""},
		{map[string]string{Learn: ""}, Request{}, Learn + ": is empty"},
		{map[string]string{Explain: "yes"}, Request{}, Explain + `: "yes" is neither`},
		{map[string]string{Explain: ""}, Request{}, Explain + `: "" is neither`},
		// A pod's sandbox is no program of the user's, but a mistake is one.
		{map[string]string{Learn: "true", "io.kubernetes.cri.container-type": "sandbox"}, Request{}, ""},
		{map[string]string{Learn: "true", "io.kubernetes.cri-o.ContainerType": "sandbox"}, Request{}, ""},
		{map[string]string{Learn: "true", "io.kubernetes.cri.container-type": "container"}, Request{Learn: "true"}, ""},
	} {
		got, err := Parse(tt.in)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%v: %+v, %v; want %+v, %q", tt.in, got, err, tt.want, tt.err)
		}
	}
}

var spots = []struct{ value, want, err string }{
	{"true", "web1.policy.json", ""},
	{"web", "web.policy.json", ""},
	{"web.policy.json", "web.policy.json", ""},
	{"shop/web", "shop/web.policy.json", ""},
	{"shop/", "shop/web1.policy.json", ""},
	{"/p/shop/web.policy.json", "shop/web.policy.json", ""},
	{"/p/", "web1.policy.json", ""},
	{"/p", "", "not below"},
	{"/pp/web", "", "not below"},
	{"/etc/cron.d/x", "", "not below the directory for policies; want true, or a path below /p"},
	{"../web", "", "leads out"},
	{"a/../../web", "", "leads out"},
	{"/p/../etc/x", "", "leads out"},
	{"a/..", "", "begins with a dot"},
	{".hidden", "", "begins with a dot"},
	{"./web", "", "begins with a dot"},
	{"a//web", "", "empty name"},
	{"/p//web", "", "empty name"},
	{"//p/web", "", "not below"},
	{"a\nb", "", "control character"},
	{"a\x00b", "", "control character"},
	{strings.Repeat("a", 250), "", "too long"},
	{strings.Repeat("a/", 9) + "b", "", "more than 8 directories"},
}

func TestSpotPath(t *testing.T) {
	for _, tt := range spots {
		got, err := spotPath("/p", tt.value, "web1")
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q: %q, %v; want %q, %q", tt.value, got, err, tt.want, tt.err)
		}
	}
}

// What is accepted stays below the directory, whatever the value.
func FuzzSpotPath(f *testing.F) {
	for _, tt := range spots {
		f.Add(tt.value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		rel, err := spotPath("/p", value, "web1")
		if err != nil {
			return
		}
		if filepath.Clean(rel) != rel || !filepath.IsLocal(rel) || !strings.HasSuffix(rel, suffix) || strings.HasPrefix(filepath.Base(rel), ".") {
			t.Errorf("%q: %q", value, rel)
		}
	})
}

func TestOpenSpot(t *testing.T) {
	root, outside := filepath.Join(t.TempDir(), "made", "too"), t.TempDir()
	s, err := openSpot(root, "a/b/web", "id")
	if err != nil {
		t.Fatal(err)
	}
	s.undo()
	if _, err := os.Stat(filepath.Join(root, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left: %v", err)
	}
	os.Symlink(outside, filepath.Join(root, "out"))
	os.Symlink(".", filepath.Join(root, "in"))
	os.Symlink(filepath.Join(outside, "x"), filepath.Join(root, "link.policy.json"))
	os.Mkdir(filepath.Join(root, "dir.policy.json"), 0o700)
	os.WriteFile(filepath.Join(root, "file"), nil, 0o600)
	for value, want := range map[string]string{
		"out/web": "symbolic link", "in/web": "symbolic link", "new/../out/web": "leads out",
		"link": "no regular file", "dir": "no regular file", "file/web": "not a directory",
	} {
		s, err := openSpot(root, value, "id")
		if err == nil {
			s.close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), Learn) {
			t.Errorf("%s: %v", value, err)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("made outside: %v", left)
	}
	if _, err := os.Stat(filepath.Join(root, "new")); err == nil {
		t.Error("a directory is left of a path that was refused")
	}
}

// recorded is a recording of some calls.
func recorded(calls ...string) *record.Recording {
	rec := &record.Recording{Version: 1, Started: time.Now(), Complete: true}
	for i, c := range calls {
		rec.Syscalls = append(rec.Syscalls, record.Syscall{ABI: "amd64", Nr: uint32(i), Name: c, Count: 1, Startup: 1})
	}
	time.Sleep(2 * time.Millisecond) // runs are told apart by their time
	return rec
}

func newKeeper(t *testing.T, root, id, value, image string) *keeper {
	t.Helper()
	s, err := openSpot(root, value, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return &keeper{dir: s.dir, subject: &Subject{ID: id, Image: image, Policy: s.name}}
}

func calls(t *testing.T, file string) (names []string, runs int) {
	t.Helper()
	p, err := policy.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.Syscalls {
		if c.Status == policy.Asked {
			names = append(names, c.Name)
		}
	}
	return names, len(p.Runs)
}

// A directory holds so many policies; what else is in it stays.
func TestPoliciesAreBounded(t *testing.T) {
	root := t.TempDir()
	file := func(i int) string { return filepath.Join(root, fmt.Sprintf("%05d%s", i, suffix)) }
	for i := range maxPolicies + 10 {
		when := time.Unix(int64(1e9+i), 0)
		if err := errors.Join(os.WriteFile(file(i), nil, 0o600), os.Chtimes(file(i), when, when)); err != nil {
			t.Fatal(err)
		}
	}
	other := filepath.Join(root, "notes")
	if err := errors.Join(os.WriteFile(other, nil, 0o600), os.Chtimes(other, time.Unix(1, 0), time.Unix(1, 0)), os.Mkdir(filepath.Join(root, "d"+suffix), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := newKeeper(t, root, "new", "true", "").writePolicy(recorded("read"), true); err != nil {
		t.Fatal(err)
	}
	policies, _ := filepath.Glob(filepath.Join(root, "*"+suffix))
	if len(policies) != maxPolicies+1 { // and the directory
		t.Errorf("%d policies", len(policies))
	}
	for name, want := range map[string]bool{file(10): false, file(11): true, file(maxPolicies + 9): true, other: true, filepath.Join(root, "new"+suffix): true} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Containers that name one file do not overwrite each other, and one that is
// started again goes on with its own.
func TestPolicyFiles(t *testing.T) {
	root := t.TempDir()
	write := func(k *keeper, rec *record.Recording) {
		t.Helper()
		if err := k.writePolicy(rec, true); err != nil {
			t.Fatal(err)
		}
	}
	same := func(file, want string, wantRuns int) {
		t.Helper()
		names, runs := calls(t, filepath.Join(root, file))
		if got := strings.Join(names, " "); got != want || runs != wantRuns {
			t.Errorf("%s: %q of %d runs, want %q of %d", file, got, runs, want, wantRuns)
		}
	}
	k := newKeeper(t, root, "aaa", "web", "nginx")
	write(k, recorded("read"))
	write(k, recorded("read", "write")) // later in the same run, as it goes on
	same("web.policy.json", "read write", 1)
	write(newKeeper(t, root, "aaa", "web", "nginx"), recorded("open"))
	same("web.policy.json", "open read write", 2)
	write(newKeeper(t, root, "bbb", "web", "nginx"), recorded("chown"))
	same("web.policy.json", "open read write", 2)
	same("web.bbb.policy.json", "chown", 1)
	write(newKeeper(t, root, "bbb", "web", "nginx"), recorded("chdir"))
	same("web.bbb.policy.json", "chdir chown", 2)
	// Another image under the ID is another program.
	write(newKeeper(t, root, "ccc", "true", "nginx"), recorded("read"))
	write(newKeeper(t, root, "ccc", "true", "redis"), recorded("write"))
	same("ccc.policy.json", "write", 1)
	// A file that is no policy is not this container's.
	os.WriteFile(filepath.Join(root, "x.policy.json"), []byte("precious"), 0o600)
	write(newKeeper(t, root, "ddd", "x", ""), recorded("read"))
	same("x.ddd.policy.json", "read", 1)
	if b, _ := os.ReadFile(filepath.Join(root, "x.policy.json")); string(b) != "precious" {
		t.Errorf("overwritten: %s", b)
	}
	// A link that was put there since is replaced, and not followed.
	outside := filepath.Join(t.TempDir(), "x")
	k = newKeeper(t, root, "eee", "true", "")
	os.Symlink(outside, filepath.Join(root, "eee.policy.json"))
	os.Symlink(outside, filepath.Join(root, ".eee.policy.json"))
	write(k, recorded("read"))
	same("eee.policy.json", "read", 1)
	if _, err := os.Stat(outside); err == nil {
		t.Error("a link was followed")
	}
	entries, _ := filepath.Glob(filepath.Join(root, ".*"))
	if len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}

// A container that is started again and again does not make its policy grow.
func TestManyRuns(t *testing.T) {
	root := t.TempDir()
	for range maxRuns + 5 {
		k := newKeeper(t, root, "aaa", "true", "nginx")
		if err := k.writePolicy(recorded("read"), true); err != nil {
			t.Fatal(err)
		}
	}
	if _, runs := calls(t, filepath.Join(root, "aaa.policy.json")); runs != maxRuns {
		t.Errorf("%d runs", runs)
	}
	k := newKeeper(t, root, "aaa", "true", "nginx")
	if err := k.writePolicy(recorded("read", "write"), true); err != nil {
		t.Fatal(err)
	}
	if names, _ := calls(t, filepath.Join(root, "aaa.policy.json")); strings.Join(names, " ") != "read write" {
		t.Errorf("what is new is lost: %v", names)
	}
}

func TestMakeRoom(t *testing.T) {
	dir := t.TempDir()
	for i := range kept + 3 {
		name := filepath.Join(dir, strings.Repeat("c", 1+i%200)+strings.Repeat("d", i/200))
		os.Mkdir(name, 0o700)
		os.Chtimes(name, time.Time{}, time.Unix(int64(1000+i), 0))
	}
	makeRoom(dir)
	if entries, _ := os.ReadDir(dir); len(entries) != kept-1 {
		t.Errorf("%d are left", len(entries))
	}
	if _, err := os.Stat(filepath.Join(dir, "c")); err == nil {
		t.Error("the oldest is left")
	}
}

func TestSubject(t *testing.T) {
	spec := func(annotations map[string]string, cgroup string, mounts ...specs.Mount) *specs.Spec {
		return &specs.Spec{Process: &specs.Process{}, Annotations: annotations, Mounts: mounts, Linux: &specs.Linux{CgroupsPath: cgroup}}
	}
	for _, tt := range []struct {
		spec   *specs.Spec
		engine explain.Engine
		image  string
	}{
		{spec(nil, "/x"), explain.Bundle, ""},
		{spec(map[string]string{Image: "a"}, ""), explain.Bundle, "a"},
		{spec(nil, "/docker/0123"), explain.Docker, ""},
		{spec(nil, "system.slice:docker:0123"), explain.Docker, ""},
		{spec(nil, "", specs.Mount{Destination: "/etc/hostname", Source: "/var/lib/docker/containers/0123/hostname"}), explain.Docker, ""},
		{spec(map[string]string{"nerdctl/name": "x"}, ""), explain.Docker, ""},
		{spec(map[string]string{"io.container.manager": "libpod", "io.kubernetes.cri-o.TTY": "false"}, ""), explain.Podman, ""},
		{spec(map[string]string{"io.kubernetes.cri.image-name": "docker.io/library/nginx:1", Image: "forged"}, ""), explain.Kubernetes, "docker.io/library/nginx:1"},
		{spec(map[string]string{"io.kubernetes.cri-o.ImageName": "nginx:1", "io.kubernetes.cri-o.Image": "0123"}, ""), explain.Kubernetes, "nginx:1"},
	} {
		s := subjectOf("id", tt.spec, Request{})
		if s.Engine != tt.engine || s.Image != tt.image {
			t.Errorf("%+v: engine %q, image %q; want %q, %q", tt.spec, s.Engine, s.Image, tt.engine, tt.image)
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"abcdef01", "abcdef02", "web"} {
		os.Mkdir(filepath.Join(dir, name), 0o700)
	}
	for id, want := range map[string]string{"web": "web", "abcdef01": "abcdef01", "containerd://abcdef02": "abcdef02", "abcdef0": "ambiguous",
		"we": "", "": "", ".": "", "..": "", "../x": "", "abc": ""} {
		got, err := find(dir, id)
		switch {
		case want == "ambiguous" && err != nil && strings.Contains(err.Error(), want):
		case want == "" && errors.Is(err, ErrNone):
		case want == "" || got != filepath.Join(dir, want):
			t.Errorf("%q: %q, %v; want %q", id, got, err, want)
		}
	}
}
