package image

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func pull(t testing.TB, s *Store, name string) *Pulled {
	t.Helper()
	p, err := s.Pull(context.Background(), name, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pulledRefs are the files of the names that a pull leaves.
func pulledRefs(f *fakeRegistry, tag, digest string) []string {
	base := f.Listener.Addr().String() + "/test/image/"
	return []string{base + ":" + tag, base + "@" + digest}
}

func TestPull(t *testing.T) {
	f := newRegistry(t)
	contents := []string{"a", "b", "c", "d"}
	i := makeImage(t, host, contents, compressor{gz, "+gzip"}, compressor{zst, "+zstd"}, compressor{raw, ""})
	name := f.add("1", i)
	s := newStore(t)
	p := pull(t, s, name)
	if !p.New || p.Digest != i.manifestDigest() || p.Image.ID != i.id() {
		t.Errorf("%+v", p)
	}
	wantLayers(t, s, p.Image, contents...)
	wantExactly(t, s, pulledRefs(f, "1", i.manifestDigest()), i)
	img, err := s.Find(f.Listener.Addr().String() + "/test/image@" + i.manifestDigest())
	if err != nil || !slices.Equal(img.RepoTags, []string{name}) || len(img.RepoDigests) != 1 {
		t.Errorf("%+v, %v", img, err)
	}
	blobs := f.requests("/blobs/")
	if p := pull(t, s, name); p.New {
		t.Error("a second pull says that the image is new")
	}
	if n := f.requests("/blobs/"); n != blobs {
		t.Errorf("a second pull downloads %d blobs", n-blobs)
	}
}

func TestPullPlatform(t *testing.T) {
	f := newRegistry(t)
	here, other := makeImage(t, host, []string{"a"}), makeImage(t, "s390x", []string{"b"})
	f.add("here", here)
	f.add("other", other)
	idx := index(t, other.descriptor(), here.descriptor())
	f.manifests["multi"], f.manifests[digestOf(idx)] = idx, idx
	s := newStore(t)
	p := pull(t, s, f.name("multi"))
	if p.Image.ID != here.id() || p.Digest != digestOf(idx) {
		t.Errorf("%+v", p)
	}
	wantExactly(t, s, pulledRefs(f, "multi", digestOf(idx)), here)
	// The name moves to the platform that is asked for.
	p, err := s.Pull(context.Background(), f.name("multi"), PullOptions{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}})
	if err != nil || p.Image.ID != other.id() || !p.New {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := s.Pull(context.Background(), f.name("multi"), PullOptions{Platform: &v1.Platform{OS: "linux", Architecture: "riscv64"}}); err == nil {
		t.Error("no error")
	} else {
		wantError(t, err, "linux/riscv64", "linux/s390x", f.name("multi"))
	}
	_, err = s.Pull(context.Background(), f.name("here"), PullOptions{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}})
	wantError(t, err, "linux/"+host, "linux/s390x")
	// By the digest of the index.
	pull(t, s, f.Listener.Addr().String()+"/test/image@"+digestOf(idx))
}

// cut makes the registry break off the answers to requests for a blob, each
// after some bytes, n times.
func cut(t testing.TB, f *fakeRegistry, blob []byte, after, n int) *atomic.Int32 {
	var times atomic.Int32
	f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, digestOf(blob)) || int(times.Add(1)) > n {
			return false
		}
		var from int
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		w.Header().Set("Content-Length", fmt.Sprint(len(blob)-from))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(blob)-1, len(blob)))
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(blob[from:min(from+after, len(blob))])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	return &times
}

// A connection that breaks is taken up where it broke.
func TestPullResumes(t *testing.T) {
	f := newRegistry(t)
	i := makeImage(t, host, []string{noise(7, 300<<10)})
	name := f.add("1", i)
	cut(t, f, i.blobs[0], 100<<10, 2)
	s := newStore(t)
	p := pull(t, s, name)
	wantLayers(t, s, p.Image, noise(7, 300<<10))
	for _, r := range []string{"bytes=102400-", "bytes=204800-"} {
		if f.requests(digestOf(i.blobs[0]), r) != 1 {
			t.Errorf("no request for %s: %q", r, f.log)
		}
	}
	wantExactly(t, s, pulledRefs(f, "1", i.manifestDigest()), i)
}

// What a failed pull has fetched is kept for the next, and then no more.
func TestPullFailsThenResumes(t *testing.T) {
	f := newRegistry(t)
	i := makeImage(t, host, []string{noise(8, 300<<10)})
	name := f.add("1", i)
	var once atomic.Bool
	f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, digestOf(i.blobs[0])) {
			return false
		}
		if once.Swap(true) {
			http.Error(w, "gone", http.StatusNotFound)
			return true
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(i.blobs[0])))
		w.Write(i.blobs[0][:100<<10])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	s := newStore(t)
	_, err := s.Pull(context.Background(), name, PullOptions{})
	wantError(t, err, name, digestOf(i.blobs[0]), "not found")
	if _, err := s.Resolve(name, nil); err == nil {
		t.Error("the image is there")
	}
	f.setFault(nil)
	pull(t, s, name)
	if f.requests(digestOf(i.blobs[0]), "bytes=102400-") != 2 { // the failed one and this
		t.Errorf("%q", f.log)
	}
	wantExactly(t, s, pulledRefs(f, "1", i.manifestDigest()), i)
}

// A registry without ranges sends all again.
func TestPullWithoutRanges(t *testing.T) {
	f := newRegistry(t)
	i := makeImage(t, host, []string{noise(9, 200<<10)})
	name := f.add("1", i)
	var times atomic.Int32
	f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, digestOf(i.blobs[0])) {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(i.blobs[0])))
		if times.Add(1) == 1 {
			w.Write(i.blobs[0][:50<<10])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Write(i.blobs[0])
		return true
	})
	s := newStore(t)
	pull(t, s, name)
	wantExactly(t, s, pulledRefs(f, "1", i.manifestDigest()), i)
}

// What lies in the store from an earlier try may be bad: it is thrown away.
func TestPullBadPartial(t *testing.T) {
	for name, bad := range map[string]string{"other bytes": noise(1, 100<<10), "too long": noise(2, 400<<10), "full length": noise(3, 200<<10), "empty": ""} {
		t.Run(name, func(t *testing.T) {
			f := newRegistry(t)
			i := makeImage(t, host, []string{noise(10, 200<<10)})
			ref := f.add("1", i)
			s := newStore(t)
			if name == "full length" {
				bad = noise(3, len(i.blobs[0]))
			}
			if err := os.WriteFile(s.path("partial/")+digestOf(i.blobs[0])[7:], []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			pull(t, s, ref)
			wantExactly(t, s, pulledRefs(f, "1", i.manifestDigest()), i)
		})
	}
}

// What does not fit its digest never becomes an image.
func TestPullRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, f *fakeRegistry, i *testImage)
		words []string
	}{
		"layer changed": {func(t *testing.T, f *fakeRegistry, i *testImage) {
			b := slices.Clone(i.blobs[0])
			b[len(b)/2] ^= 1
			f.blobs[digestOf(i.blobs[0])] = b
		}, []string{"digest"}},
		"layer too long": {func(t *testing.T, f *fakeRegistry, i *testImage) {
			f.blobs[digestOf(i.blobs[0])] = append(slices.Clone(i.blobs[0]), 1)
		}, []string{"more than the manifest says"}},
		"config changed": {func(t *testing.T, f *fakeRegistry, i *testImage) {
			f.blobs[i.id()] = []byte(strings.Replace(string(i.config), "/bin/sh", "/bin/xx", 1))
		}, []string{"configuration", "digest"}},
		"layer missing": {func(t *testing.T, f *fakeRegistry, i *testImage) {
			delete(f.blobs, digestOf(i.blobs[1]))
		}, []string{"not found"}},
		"manifest of another digest": {func(t *testing.T, f *fakeRegistry, i *testImage) {
			idx := index(t, i.descriptor())
			f.manifests["1"] = idx
			f.manifests[i.manifestDigest()] = append(slices.Clone(i.manifest), '\n')
		}, []string{"manifest", "digest"}},
		"manifest is no JSON": {func(t *testing.T, f *fakeRegistry, i *testImage) { f.manifests["1"] = []byte("{") }, []string{"JSON"}},
		"manifest is a page":  {func(t *testing.T, f *fakeRegistry, i *testImage) { f.manifests["1"] = []byte("<html>") }, []string{"no manifest"}},
		"manifest is huge": {func(t *testing.T, f *fakeRegistry, i *testImage) {
			f.manifests["1"] = []byte("{" + strings.Repeat(" ", maxJSON) + "}")
		}, []string{"larger than"}},
		"schema 1": {func(t *testing.T, f *fakeRegistry, i *testImage) {
			f.manifests["1"] = []byte(`{"schemaVersion":1,"fsLayers":[{}]}`)
		}, []string{"schema 1"}},
		"a chart": {func(t *testing.T, f *fakeRegistry, i *testImage) {
			f.manifests["1"] = []byte(strings.Replace(string(i.manifest), mediaTypeConfig, "application/vnd.cncf.helm.config.v1+json", 1))
		}, []string{"no container image", "helm"}},
		"index of itself": {func(t *testing.T, f *fakeRegistry, i *testImage) {
			b := index(t)
			for range 10 {
				f.manifests[digestOf(b)] = b
				b = index(t, v1.Descriptor{MediaType: mediaTypeIndex, Digest: digestT(b), Size: int64(len(b))})
			}
			f.manifests["1"] = b
		}, []string{"nested too deeply"}},
		"layers left out": {func(t *testing.T, f *fakeRegistry, i *testImage) {
			var d map[string]any
			unmarshal(t, i.manifest, &d)
			d["layers"] = d["layers"].([]any)[:1]
			f.manifests["1"] = marshal(t, d)
		}, []string{"diff_ids has 2 layers, the manifest 1"}},
		"no such tag": {func(t *testing.T, f *fakeRegistry, i *testImage) { delete(f.manifests, "1") }, []string{"no such image or tag"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newRegistry(t)
			i := makeImage(t, host, []string{noise(20, 100<<10), "b"})
			ref := f.add("1", i)
			c.spoil(t, f, i)
			s := newStore(t)
			_, err := s.Pull(context.Background(), ref, PullOptions{})
			wantError(t, err, append(c.words, ref)...)
			if list, err := s.List(); err != nil || len(list) > 0 {
				t.Errorf("images %v, error %v", list, err)
			}
			if refs, err := s.refs(); err != nil || len(refs) > 0 {
				t.Errorf("names %v, error %v", refs, err)
			}
		})
	}
}

// A registry's words cannot steer the terminal.
func TestPullHostileMessage(t *testing.T) {
	f := newRegistry(t)
	f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"errors":[{"code":"X","message":"\u001b[2J\u0007evil\nline%s"}]}`, strings.Repeat("x", 2000))
		return true
	})
	_, err := newStore(t).Pull(context.Background(), f.name("1"), PullOptions{})
	wantError(t, err, "evil")
	if strings.ContainsAny(err.Error(), "\x1b\x07\n") || len(err.Error()) > 700 {
		t.Errorf("%q", err)
	}
}

// A name that stood for an image still does after a pull that failed.
func TestPullFailureKeepsOld(t *testing.T) {
	f := newRegistry(t)
	old, fresh := makeImage(t, host, []string{"old"}), makeImage(t, host, []string{"new"})
	name := f.add("1", old)
	s := newStore(t)
	pull(t, s, name)
	f.add("1", fresh)
	delete(f.blobs, digestOf(fresh.blobs[0]))
	_, err := s.Pull(context.Background(), name, PullOptions{})
	wantError(t, err, "not found")
	if i, err := s.Resolve(name, nil); err != nil || i.ID != old.id() {
		t.Errorf("%+v, %v", i, err)
	}
}

// Trouble that passes is waited for, everywhere.
func TestPullRetries(t *testing.T) {
	f := newRegistry(t)
	i := makeImage(t, host, []string{"a"})
	name := f.add("1", i)
	var mu sync.Mutex
	seen := map[string]int{}
	codes := []int{http.StatusTooManyRequests, http.StatusInternalServerError}
	f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		n := seen[r.URL.Path]
		seen[r.URL.Path]++
		mu.Unlock()
		if n >= len(codes) {
			return false
		}
		http.Error(w, "later", codes[n])
		return true
	})
	s := newStore(t)
	pull(t, s, name)
	wantExactly(t, s, pulledRefs(f, "1", i.manifestDigest()), i)
	for path, n := range seen {
		if n != 3 {
			t.Errorf("%s: asked %d times, want 3", path, n)
		}
	}
}

// Two in one process and two processes bring the same at once; every blob comes
// once.
func TestPullTogether(t *testing.T) {
	f := newRegistry(t)
	contents := []string{noise(30, 300<<10), noise(31, 300<<10), noise(32, 300<<10), noise(33, 300<<10), noise(34, 300<<10)}
	i := makeImage(t, host, contents)
	name := f.add("1", i)
	f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		time.Sleep(20 * time.Millisecond) // so that all are at work at once
		return false
	})
	s := newStore(t)
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			if n%2 == 0 {
				if _, err := s.Pull(context.Background(), name, PullOptions{}); err != nil {
					t.Error(err)
				}
			} else if out, err := startChild(t, "pull", s.root(), name).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	for _, b := range i.blobs {
		if n := f.requests(digestOf(b)); n != 1 {
			t.Errorf("blob %s was asked for %d times", digestOf(b), n)
		}
	}
	img, err := s.Resolve(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantLayers(t, s, img, contents...)
	wantExactly(t, s, pulledRefs(f, "1", i.manifestDigest()), i)
}

// startChild prepares a second process.
func startChild(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(args, " "))
	return cmd
}

// A pull that is killed at any point harms nothing and leaves nothing once
// another has gone through.
func TestPullKilled(t *testing.T) {
	f := newRegistry(t)
	contents := []string{noise(40, 400<<10), noise(41, 400<<10), "c", noise(42, 400<<10)}
	i := makeImage(t, host, contents)
	name := f.add("1", i)
	f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		time.Sleep(2 * time.Millisecond)
		return false
	})
	s := newStore(t)
	killed := 0
	for range 40 {
		cmd := startChild(t, "pull", s.root(), name)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		cmd.Process.Kill()
		if cmd.Wait() != nil {
			killed++
		}
		// What is there is whole.
		if img, err := s.Resolve(name, nil); err == nil {
			wantLayers(t, s, img, contents...)
			if _, err := s.Remove(name, false, nil); err != nil {
				t.Fatal(err)
			}
			wantExactly(t, s, nil)
		} else {
			var missing *NotFoundError
			if !errors.As(err, &missing) {
				t.Fatal(err)
			}
		}
	}
	t.Logf("killed in %d of 40 pulls", killed)
	pull(t, s, name)
	wantExactly(t, s, pulledRefs(f, "1", i.manifestDigest()), i)
}

// The full disk is said to be full; room made, the same pull works.
func TestPullFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("brig-test", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	s, err := openAt(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := newRegistry(t)
	small, big := makeImage(t, host, []string{"a"}), makeImage(t, host, []string{noise(50, 700<<10), noise(51, 700<<10)})
	pull(t, s, f.add("small", small))
	name := f.add("big", big)
	_, err = s.Pull(context.Background(), name, PullOptions{})
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("error %v; want one of a full disk", err)
	}
	_, err = s.Load(context.Background(), strings.NewReader(string(pack(t, big.dockerArchive(t, "x")...))), LoadOptions{})
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("error %v; want one of a full disk", err)
	}
	if i, err := s.Resolve(f.name("small"), nil); err != nil || i.ID != small.id() {
		t.Fatal(i, err)
	}
	if _, err := s.Remove(f.name("small"), false, nil); err != nil {
		t.Fatal(err)
	}
	wantExactly(t, s, nil)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	pull(t, s, name)
	wantExactly(t, s, pulledRefs(f, "big", big.manifestDigest()), big)
}

// A registry elsewhere is not spoken to in plain HTTP, and not sent away to
// this machine.
func TestPlainHTTP(t *testing.T) {
	for host, want := range map[string]bool{"localhost": true, "localhost:5000": true, "127.0.0.1:1": true, "127.9.9.9": true, "[::1]:5": true,
		"10.0.0.1:5000": false, "192.168.1.1": false, "registry.local:5000": false, "docker.io": false, "localhost.example.com": false} {
		if got := (RegistryOptions{}).insecure(host); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
		if !(RegistryOptions{Insecure: true}).insecure(host) {
			t.Errorf("%s: not insecure, though asked for", host)
		}
	}
	t.Setenv("BRIG_INSECURE_REGISTRIES", "a:5000, b")
	if o := (RegistryOptions{}); !o.insecure("a:5000") || !o.insecure("b") || o.insecure("a") {
		t.Error("BRIG_INSECURE_REGISTRIES does not count")
	}
	f := newRegistry(t)
	base, err := baseTransport("registry.example.com", false)
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest(http.MethodGet, f.URL+"/v2/", nil)
	_, err = base.RoundTrip(req)
	wantError(t, err, "plain HTTP", "--tls-verify=false")
	if f.requests("/v2/") != 0 {
		t.Error("it was asked all the same")
	}
	via, _ := http.NewRequest(http.MethodGet, "https://registry.example.com/", nil)
	for _, to := range []string{"https://127.0.0.1/", "https://169.254.169.254/x", "https://10.1.2.3/", "https://localhost/", "https://[::1]/"} {
		req, _ := http.NewRequest(http.MethodGet, to, nil)
		wantError(t, checkRedirect(req, []*http.Request{via}), "redirect", "refused")
	}
	req, _ = http.NewRequest(http.MethodGet, "https://cdn.example.com/", nil)
	if err := checkRedirect(req, []*http.Request{via}); err != nil {
		t.Error(err)
	}
}

func TestPullCanceled(t *testing.T) {
	f := newRegistry(t)
	i := makeImage(t, host, []string{noise(60, 100<<10), "b"})
	name := f.add("1", i)
	ctx, cancel := context.WithCancel(context.Background())
	release := make(chan struct{})
	defer close(release)
	f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, digestOf(i.blobs[0])) {
			cancel()
			select {
			case <-r.Context().Done():
			case <-release:
			}
			return true
		}
		return false
	})
	s := newStore(t)
	if _, err := s.Pull(ctx, name, PullOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want canceled", err)
	}
}
