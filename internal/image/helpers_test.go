package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brig-run/brig/internal/snapshot"
)

// childEnv makes the test binary do one thing with a store and end: tests that
// need a second process, to race with or to kill, start it so.
const childEnv = "BRIG_TEST_IMAGE_CHILD"

func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		os.Exit(child(strings.Split(job, " ")))
	}
	// Nothing of this machine's user may decide a test.
	home, err := os.MkdirTemp("", "brig-image-home-")
	if err != nil {
		panic(err)
	}
	for k, v := range map[string]string{"HOME": home, "DOCKER_CONFIG": home + "/docker", "REGISTRY_AUTH_FILE": home + "/none",
		"HTTP_PROXY": "", "http_proxy": "", "BRIG_INSECURE_REGISTRIES": ""} {
		os.Setenv(k, v)
	}
	code := m.Run()
	os.RemoveAll(home)
	os.Exit(code)
}

// child is the second process: "pull ROOT NAME", "load ROOT FILE" or "remove ROOT NAME".
func child(args []string) int {
	s, err := openAt(args[1])
	if err == nil {
		switch args[0] {
		case "pull":
			_, err = s.Pull(context.Background(), args[2], PullOptions{})
		case "load":
			var f *os.File
			if f, err = os.Open(args[2]); err == nil {
				_, err = s.Load(context.Background(), f, LoadOptions{})
			}
		case "remove":
			_, err = s.Remove(args[2], false, nil)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func openAt(root string) (*Store, error) {
	layers, err := snapshot.Open(root + "/layers")
	if err != nil {
		return nil, err
	}
	return Open(root, layers)
}

// newStore makes an empty store.
func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := openAt(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Store) root() string { return filepath.Dir(s.dir) }

// entry is a file of a layer or an archive.
type entry struct {
	tar.Header
	data []byte
}

func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, []byte(content)}
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zst(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func raw(b []byte) []byte { return b }

// testImage is an image as a registry or an archive has it.
type testImage struct {
	config, manifest []byte
	diffs            [][]byte // the layers' archives
	blobs            [][]byte // the same compressed
	platform         v1.Platform
}

func (i *testImage) id() string             { return digestOf(i.config) }
func (i *testImage) manifestDigest() string { return digestOf(i.manifest) }

// descriptor is that of the manifest, for an index.
func (i *testImage) descriptor() v1.Descriptor {
	return v1.Descriptor{MediaType: mediaTypeManifest, Digest: digest.Digest(i.manifestDigest()), Size: int64(len(i.manifest)), Platform: &i.platform}
}

// compressor is a way to compress, and the media type's end.
type compressor struct {
	f      func([]byte) []byte
	suffix string
}

// makeImage makes an image of one file a layer; the layers are compressed in
// turn with the compressors.
func makeImage(t testing.TB, arch string, contents []string, with ...compressor) *testImage {
	t.Helper()
	if len(with) == 0 {
		with = []compressor{{gz, "+gzip"}}
	}
	created := time.Unix(1700000000, 0).UTC()
	i := &testImage{platform: v1.Platform{OS: "linux", Architecture: arch}}
	c := v1.Image{Created: &created, Platform: i.platform, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.ImageConfig{Cmd: []string{"/bin/sh"}, Env: []string{"A=1"}, Labels: map[string]string{"l": "v"}}}
	m := v1.Manifest{MediaType: mediaTypeManifest}
	m.SchemaVersion = 2
	for n, content := range contents {
		diff := pack(t, file(fmt.Sprintf("file%d", n), content))
		how := with[n%len(with)]
		blob := how.f(diff)
		i.diffs, i.blobs = append(i.diffs, diff), append(i.blobs, blob)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(diff))
		c.History = append(c.History, v1.History{Created: &created, CreatedBy: fmt.Sprintf("step %d", n)})
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: mediaTypeLayer + how.suffix, Digest: digest.FromBytes(blob), Size: int64(len(blob))})
	}
	i.config = marshal(t, c)
	m.Config = v1.Descriptor{MediaType: mediaTypeConfig, Digest: digest.FromBytes(i.config), Size: int64(len(i.config))}
	i.manifest = marshal(t, m)
	return i
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func index(t testing.TB, list ...v1.Descriptor) []byte {
	x := v1.Index{MediaType: mediaTypeIndex, Manifests: list}
	x.SchemaVersion = 2
	return marshal(t, x)
}

// dockerArchive is what docker save wrote before it wrote OCI layouts.
func (i *testImage) dockerArchive(t testing.TB, tags ...string) []entry {
	e := dockerEntry{Config: "config.json", RepoTags: tags}
	entries := []entry{file("config.json", string(i.config))}
	for n, d := range i.diffs {
		name := fmt.Sprintf("%d/layer.tar", n)
		e.Layers = append(e.Layers, name)
		entries = append(entries, file(name, string(d)))
	}
	return append(entries, file("manifest.json", string(marshal(t, []dockerEntry{e}))))
}

// ociBlobs are the image's files in an OCI layout.
func (i *testImage) ociBlobs() []entry {
	var entries []entry
	for _, b := range append([][]byte{i.config, i.manifest}, i.blobs...) {
		entries = append(entries, file("blobs/sha256/"+digestOf(b)[7:], string(b)))
	}
	return entries
}

// fakeRegistry serves images over HTTP, with ranges, and with the faults that a
// test asks for.
type fakeRegistry struct {
	*httptest.Server
	mu        sync.Mutex
	manifests map[string][]byte // by tag and by digest
	blobs     map[string][]byte
	log       []string
	// fault may answer in the place of the registry, and says whether it has.
	fault func(w http.ResponseWriter, r *http.Request) bool
}

func newRegistry(t testing.TB) *fakeRegistry {
	f := &fakeRegistry{manifests: map[string][]byte{}, blobs: map[string][]byte{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.log = append(f.log, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Range")))
	fault := f.fault
	f.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	parts := strings.Split(r.URL.Path, "/")
	kind, id := "", parts[len(parts)-1]
	if len(parts) > 3 {
		kind = parts[len(parts)-2]
	}
	switch b, ok := f.lookup(kind, id); {
	case r.URL.Path == "/v2/":
		w.WriteHeader(http.StatusOK)
	case !ok:
		http.NotFound(w, r)
	default:
		if kind == "manifests" {
			var d document
			json.Unmarshal(b, &d)
			w.Header().Set("Content-Type", d.MediaType)
			w.Header().Set("Docker-Content-Digest", digestOf(b))
		} else {
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	}
}

func (f *fakeRegistry) lookup(kind, id string) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.blobs
	if kind == "manifests" {
		m = f.manifests
	}
	b, ok := m[id]
	return b, ok
}

// add puts an image in the registry; its name is the result.
func (f *fakeRegistry) add(tag string, i *testImage) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.manifests[tag], f.manifests[i.manifestDigest()] = i.manifest, i.manifest
	for _, b := range append([][]byte{i.config}, i.blobs...) {
		f.blobs[digestOf(b)] = b
	}
	return f.name(tag)
}

func (f *fakeRegistry) name(tag string) string {
	return f.Listener.Addr().String() + "/test/image:" + tag
}

func (f *fakeRegistry) setFault(fault func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// requests counts the requests whose log line contains all the words.
func (f *fakeRegistry) requests(words ...string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, l := range f.log {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(l, w) }) {
			n++
		}
	}
	return n
}

// files lists the regular files of a store below images, and its layers, but
// for the lock.
func (s *Store) files(t testing.TB) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "lock" {
			list = append(list, strings.TrimPrefix(path, s.dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	chains, err := s.layers.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chains {
		list = append(list, "layer "+string(c))
	}
	half, err := os.ReadDir(s.root() + "/layers/tmp")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range half {
		list = append(list, "half-made layer "+e.Name())
	}
	slices.Sort(list)
	return list
}

// wantExactly says what files a store must hold: those of the images, with the
// names, and nothing else.
func wantExactly(t testing.TB, s *Store, refs []string, images ...*testImage) {
	t.Helper()
	want := map[string]bool{}
	for _, r := range refs {
		want["refs/"+r] = true
	}
	for _, i := range images {
		c, err := parseConfig(i.config)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range append([][]byte{i.config, i.manifest}, i.blobs...) {
			want["blobs/sha256/"+digestOf(b)[7:]] = true
		}
		for _, chain := range c.chains() {
			want["layer "+string(chain)] = true
		}
		want["records/"+i.id()[7:]+".json"] = true
	}
	var list []string
	for f := range want {
		list = append(list, f)
	}
	slices.Sort(list)
	if got := s.files(t); !slices.Equal(got, list) {
		t.Errorf("the store holds\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(list, "\n  "))
	}
}

// wantLayers checks that an image's layers are unpacked with the right content.
func wantLayers(t testing.TB, s *Store, i *Image, contents ...string) {
	t.Helper()
	if len(i.Layers) != len(contents) {
		t.Fatalf("%d layers, want %d", len(i.Layers), len(contents))
	}
	for n, c := range i.Layers {
		b, err := os.ReadFile(fmt.Sprintf("%s/layers/%s/fs/file%d", s.root(), strings.Replace(c, ":", "-", 1), n))
		if err != nil || string(b) != contents[n] {
			t.Errorf("layer %d: content %.40q, error %v; want %.40q", n, b, err, contents[n])
		}
	}
}

// noise is content that does not compress, so that a blob has a size.
func noise(seed uint64, size int) string {
	b := make([]byte, size)
	for i := range b {
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		b[i] = byte(seed)
	}
	return string(b)
}

func load(t testing.TB, s *Store, archive []byte) []Loaded {
	t.Helper()
	l, err := s.Load(context.Background(), bytes.NewReader(archive), LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// wantError checks that an error has all the words.
func wantError(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q; want it to contain %q", err, w)
		}
	}
}

const host = runtime.GOARCH

func unmarshal(t testing.TB, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}
