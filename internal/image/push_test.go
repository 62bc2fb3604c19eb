package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// realRegistry starts Debian's docker-registry and gives its address. With users
// it wants a login.
func realRegistry(t testing.TB, users string) string {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: %q}\n", dir, addr)
	if users != "" {
		if err := os.WriteFile(dir+"/htpasswd", []byte(users), 0o600); err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %s/htpasswd}}\n", dir)
	}
	if err := os.WriteFile(dir+"/config.yml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker-registry", "serve", dir+"/config.yml")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	// Variables that begin with REGISTRY_ would change its configuration.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "REGISTRY_") })
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; install Debian's docker-registry", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for try := 0; ; try++ {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return addr
		}
		if try == 300 {
			t.Fatalf("docker-registry does not answer: %v\n%s", err, log.String())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// states collects what a progress is told of each layer last.
type states struct{ bars []*stateBar }

type stateBar struct{ last string }

func (s *states) Layer(string, int64) Bar {
	b := &stateBar{}
	s.bars = append(s.bars, b)
	return b
}
func (s *states) Message(string)      {}
func (b *stateBar) State(text string) { b.last = text }
func (b *stateBar) Set(_, _ int64)    {}

func (s *states) want(t *testing.T, want string) {
	t.Helper()
	for _, b := range s.bars {
		if b.last != want && b.last != "Compressed" {
			t.Errorf("a layer is %q, want %q", b.last, want)
		}
	}
	if len(s.bars) == 0 {
		t.Error("no layer was told of")
	}
}

func push(t *testing.T, s *Store, name, state string) *Pushed {
	t.Helper()
	st := &states{}
	p, err := s.Push(context.Background(), name, PushOptions{Progress: st})
	if err != nil {
		t.Fatal(err)
	}
	st.want(t, state)
	return p
}

func tag(t testing.TB, s *Store, from, to string) {
	t.Helper()
	if err := s.Tag(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestPush(t *testing.T) {
	addr := realRegistry(t, "")
	contents := []string{"a", noise(1, 100<<10), "c"}
	i := makeImage(t, host, contents, compressor{gz, "+gzip"}, compressor{zst, "+zstd"})
	f := newRegistry(t)
	s := newStore(t)
	pull(t, s, f.add("1", i))
	one, two := addr+"/team/one:1", addr+"/team/two:1"
	tag(t, s, f.name("1"), one)
	if p := push(t, s, one, "Pushed"); p.Digest != i.manifestDigest() {
		t.Errorf("the manifest became %s; pulled was %s", p.Digest, i.manifestDigest())
	}
	push(t, s, one, "Layer already exists")
	tag(t, s, one, two)
	push(t, s, two, "Mounted from team/one")
	for _, name := range []string{one, two, addr + "/team/two@" + i.manifestDigest()} {
		other := newStore(t)
		p := pull(t, other, name)
		if p.Image.ID != i.id() || p.Digest != i.manifestDigest() {
			t.Errorf("%s: %+v", name, p)
		}
		wantLayers(t, other, p.Image, contents...)
	}
	img, err := s.Find(one)
	if err != nil || !slices.Contains(img.RepoDigests, addr+"/team/one@"+i.manifestDigest()) {
		t.Errorf("%+v, %v", img, err)
	}
}

// An image that was loaded unpacked is compressed on its way, and the same each
// time.
func TestPushLoaded(t *testing.T) {
	addr := realRegistry(t, "")
	contents := []string{strings.Repeat("a", 100<<10), "b"}
	i := makeImage(t, host, contents)
	s := newStore(t)
	load(t, s, pack(t, i.dockerArchive(t, addr+"/x:1")...))
	p := push(t, s, addr+"/x:1", "Pushed")
	if again := push(t, s, addr+"/x:1", "Layer already exists"); again.Digest != p.Digest {
		t.Errorf("the second push has digest %s, the first %s", again.Digest, p.Digest)
	}
	other := newStore(t)
	q := pull(t, other, addr+"/x:1")
	if q.Image.ID != i.id() || q.Digest != p.Digest {
		t.Errorf("%+v", q)
	}
	wantLayers(t, other, q.Image, contents...)
	if n, err := other.blobSize(other.layerBlob(t, q.Image, 0)); err != nil || n > 10<<10 {
		t.Errorf("the layer was pushed with %d bytes, error %v", n, err)
	}
	// All goes with the image, the compressed forms too.
	if _, err := s.Remove(addr+"/x:1", false, nil); err != nil {
		t.Fatal(err)
	}
	wantExactly(t, s, nil)
}

// layerBlob is the digest of an image's nth layer blob.
func (s *Store) layerBlob(t testing.TB, i *Image, n int) string {
	_, d, err := s.manifestOf(i, "")
	if err != nil {
		t.Fatal(err)
	}
	return string(d.Layers[n].Digest)
}

func TestPushErrors(t *testing.T) {
	s := newStore(t)
	i := makeImage(t, host, []string{"a"})
	load(t, s, pack(t, i.dockerArchive(t, "127.0.0.1:1/x:1")...))
	_, err := s.Push(context.Background(), "127.0.0.1:1/x:1", PushOptions{})
	wantError(t, err, "127.0.0.1:1/x:1", "connection refused")
	_, err = s.Push(context.Background(), i.id(), PushOptions{})
	wantError(t, err, "brig tag")
	_, err = s.Push(context.Background(), "y", PushOptions{})
	var missing *NotFoundError
	if !errors.As(err, &missing) {
		t.Error(err)
	}
}

// me:secret, as htpasswd -B writes it.
const htpasswd = "me:$2y$05$MhCfWQ5wyVbGN5KKkb.7eeY3fbPOPhW2FL.zDZ2O9oG0U25E0fNua\n"

// useDockerConfig gives the test a configuration of its own and its path.
func useDockerConfig(t *testing.T, content string) string {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	path := dir + "/config.json"
	if content != "" {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestLogin(t *testing.T) {
	addr := realRegistry(t, htpasswd)
	name := addr + "/private:1"
	path := useDockerConfig(t, `{"psFormat":"x","auths":{"other.example.com":{"auth":"b3RoZXI6cHc="}},"unknown":{"a":[1]}}`)
	i := makeImage(t, host, []string{"a"})
	s := newStore(t)
	load(t, s, pack(t, i.dockerArchive(t, name)...))
	_, err := s.Push(context.Background(), name, PushOptions{})
	wantError(t, err, name, "access denied", "brig login "+addr)
	_, err = Login(context.Background(), addr, Credentials{"me", "wrong"}, RegistryOptions{})
	wantError(t, err, addr, "unauthorized")
	if b, _ := os.ReadFile(path); strings.Contains(string(b), addr) {
		t.Errorf("a failed login is stored: %s", b)
	}
	where, err := Login(context.Background(), addr, Credentials{"me", "secret"}, RegistryOptions{})
	if err != nil || where != path {
		t.Fatal(where, err)
	}
	var c struct {
		PsFormat string
		Auths    map[string]map[string]string
		Unknown  map[string][]int
	}
	b, _ := os.ReadFile(path)
	unmarshal(t, b, &c)
	if c.PsFormat != "x" || c.Unknown["a"][0] != 1 || c.Auths["other.example.com"]["auth"] != "b3RoZXI6cHc=" || c.Auths[addr]["auth"] != "bWU6c2VjcmV0" {
		t.Errorf("the file became %s", b)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", fi.Mode(), err)
	}
	if SavedUsername(addr) != "me" {
		t.Error("the user name is not known")
	}
	push(t, s, name, "Pushed")
	pull(t, newStore(t), name)
	found, err := Logout(addr)
	if err != nil || !found {
		t.Error(found, err)
	}
	_, err = newStore(t).Pull(context.Background(), name, PullOptions{})
	wantError(t, err, "access denied")
	if found, err := Logout(addr); err != nil || found {
		t.Error(found, err)
	}
	if b, _ := os.ReadFile(path); !strings.Contains(string(b), "other.example.com") {
		t.Errorf("logout took more than it should: %s", b)
	}
}

// fakeHelper is a credential helper that keeps its secrets in a directory.
const fakeHelper = `#!/bin/sh
key() { tr -c 'a-zA-Z0-9\n' _; }
case $1 in
store) json=$(cat); url=$(printf %s "$json" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' | key); printf %s "$json" > "$HELPER_DIR/$url";;
get) url=$(head -n 1 | key); cat "$HELPER_DIR/$url" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; };;
erase) url=$(head -n 1 | key); rm "$HELPER_DIR/$url" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; };;
esac
`

func installHelper(t *testing.T, name string) (dir string) {
	bin := t.TempDir()
	dir = t.TempDir()
	if err := os.WriteFile(bin+"/docker-credential-"+name, []byte(fakeHelper), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("HELPER_DIR", dir)
	return dir
}

func TestLoginHelper(t *testing.T) {
	addr := realRegistry(t, htpasswd)
	for name, config := range map[string]string{
		"for all":      `{"credsStore":"brigtest"}`,
		"for this one": fmt.Sprintf(`{"credHelpers":{%q:"brigtest"},"credsStore":"none-such"}`, addr),
	} {
		t.Run(name, func(t *testing.T) {
			path := useDockerConfig(t, config)
			dir := installHelper(t, "brigtest")
			where, err := Login(context.Background(), addr, Credentials{"me", "secret"}, RegistryOptions{})
			if err != nil || where != "credential helper brigtest" {
				t.Fatal(where, err)
			}
			if b, _ := os.ReadFile(path); bytes.Contains(b, []byte("bWU6")) || bytes.Contains(b, []byte("secret")) || !bytes.Contains(b, []byte(addr)) {
				t.Errorf("the file became %s", b)
			}
			stored, _ := filepath.Glob(dir + "/*")
			if len(stored) != 1 {
				t.Fatalf("the helper has %v", stored)
			}
			i := makeImage(t, host, []string{"a"})
			s := newStore(t)
			ref := addr + "/h:" + strings.ReplaceAll(name, " ", "-")
			load(t, s, pack(t, i.dockerArchive(t, ref)...))
			if _, err := s.Push(context.Background(), ref, PushOptions{}); err != nil {
				t.Fatal(err)
			}
			if found, err := Logout(addr); err != nil || !found {
				t.Error(found, err)
			}
			if stored, _ := filepath.Glob(dir + "/*"); len(stored) != 0 {
				t.Errorf("the helper still has %v", stored)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		useDockerConfig(t, `{"credsStore":"none-such"}`)
		_, err := newStore(t).Pull(context.Background(), addr+"/h:x", PullOptions{})
		wantError(t, err, "none-such", "config.json")
	})
	t.Run("a path", func(t *testing.T) {
		useDockerConfig(t, `{"credsStore":"x/../../../../bin/sh"}`)
		_, err := newStore(t).Pull(context.Background(), addr+"/h:x", PullOptions{})
		wantError(t, err, "without slashes")
	})
}

func TestCredentials(t *testing.T) {
	useDockerConfig(t, `{"auths":{"https://index.docker.io/v1/":{"auth":"aHViOnB3"},"https://full.example.com":{"auth":"ZnVsbDpwdw=="},
		"tok.example.com":{"identitytoken":"T"},"empty.example.com":{}}}`)
	podman := t.TempDir() + "/auth.json"
	t.Setenv("REGISTRY_AUTH_FILE", podman)
	if err := os.WriteFile(podman, []byte(`{"auths":{"pod.example.com":{"auth":"cG9kOnB3"},"pod.example.com/team":{"auth":"dGVhbTpwdw=="},"empty.example.com":{"auth":"ZTpwdw=="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ domain, path, user, token string }{
		{"docker.io", "library/x", "hub", ""},
		{"full.example.com", "x", "full", ""},
		{"tok.example.com", "x", "", "T"},
		{"pod.example.com", "x", "pod", ""},
		{"pod.example.com", "team/x", "team", ""},
		{"pod.example.com", "teammate/x", "pod", ""},
		{"empty.example.com", "x", "e", ""},
		{"none.example.com", "x", "", ""},
	} {
		a, err := credentials(c.domain, c.path)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		got, err := a.Authorization()
		if err != nil || got.Username != c.user || got.IdentityToken != c.token {
			t.Errorf("%v: %+v, %v", c, got, err)
		}
	}
	for content, words := range map[string][]string{"{": {"config.json"}, `{"auths":{"x":{"auth":"%"}}}`: {"config.json", `auths["x"]`, "base64"}, `{"auths":[]}`: {"auths"}} {
		path := useDockerConfig(t, content)
		_, err := credentials("x", "y")
		wantError(t, err, append(words, path)...)
		if !json.Valid([]byte(content)) {
			_, err = Logout("x")
			wantError(t, err, path)
			if b, _ := os.ReadFile(path); string(b) != content {
				t.Errorf("a file that cannot be read became %s", b)
			}
		}
	}
}

func TestParseRegistry(t *testing.T) {
	for in, want := range map[string]string{"": "docker.io", "docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io",
		"host:5000": "host:5000", "https://host.example.com/": "host.example.com", "localhost": "localhost"} {
		if got, err := ParseRegistry(in); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"host/path", "host:x", "-x", "a b"} {
		_, err := ParseRegistry(in)
		wantError(t, err, in)
	}
}
