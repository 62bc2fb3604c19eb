package image

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func save(t testing.TB, s *Store, o SaveOptions, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Save(context.Background(), &b, names, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// members lists the names of an archive's files.
func members(t testing.TB, archive []byte) []string {
	t.Helper()
	var names []string
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			names = append(names, h.Name)
		}
	}
}

// Another store gets the very same images.
func TestSaveLoad(t *testing.T) {
	f := newRegistry(t)
	one := makeImage(t, host, []string{"shared", "one"}, compressor{gz, "+gzip"}, compressor{zst, "+zstd"})
	two := makeImage(t, host, []string{"shared", "two"})
	s := newStore(t)
	pull(t, s, f.add("1", one))
	pull(t, s, f.add("2", two))
	tag(t, s, f.name("1"), "alias")
	for _, o := range []SaveOptions{{}, {OCIOnly: true}} {
		archive := save(t, s, o, f.name("1"), "alias", f.name("2"))
		names := members(t, archive)
		shared := "blobs/sha256/" + digestOf(one.blobs[0])[7:]
		if n := len(slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n != shared })); n != 1 {
			t.Errorf("the layer that both have is there %d times", n)
		}
		if slices.Contains(names, "manifest.json") == o.OCIOnly {
			t.Errorf("%+v: %v", o, names)
		}
		other := newStore(t)
		got := load(t, other, archive)
		if len(got) != 2 {
			t.Fatalf("%+v", got)
		}
		addr := f.Listener.Addr().String() + "/test/image/"
		wantExactly(t, other, []string{addr + ":1", addr + ":2", "docker.io/library/alias/:latest"}, one, two)
		again := save(t, other, o, f.name("1"), "alias", f.name("2"))
		if !bytes.Equal(archive, again) {
			t.Error("saved again the archive differs")
		}
	}
	byID := save(t, s, SaveOptions{}, one.id())
	if got := load(t, newStore(t), byID); len(got) != 1 || got[0].ID != one.id() || len(got[0].Names) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestSaveErrors(t *testing.T) {
	s := newStore(t)
	i := makeImage(t, host, []string{noise(1, 100<<10), "b"})
	load(t, s, pack(t, i.dockerArchive(t, "x")...))
	var b bytes.Buffer
	err := s.Save(context.Background(), &b, []string{"x", "y"}, SaveOptions{})
	wantError(t, err, "y:latest")
	if b.Len() > 0 {
		t.Error("something was written all the same")
	}
	img, err := s.Resolve("x", nil)
	if err != nil {
		t.Fatal(err)
	}
	path := s.blobPath(s.layerBlob(t, img, 0))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good[1000] ^= 1
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Save(context.Background(), io.Discard, []string{"x"}, SaveOptions{}), path, "damaged")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.Save(context.Background(), io.Discard, []string{"x"}, SaveOptions{}), "missing", "pull or load it again")
}

// podman reads what we save, and we read what podman saves.
func TestSavePodman(t *testing.T) {
	i := makeImage(t, host, []string{"a", noise(2, 100<<10)})
	s := newStore(t)
	load(t, s, pack(t, i.dockerArchive(t, "localhost/x:1")...))
	dir := t.TempDir()
	podman := func(in []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.Command("podman", append([]string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}, args...)...)
		cmd.Stdin = bytes.NewReader(in)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("podman %s: %v: %s", strings.Join(args, " "), err, errs.String())
		}
		return out
	}
	for _, o := range []SaveOptions{{}, {OCIOnly: true}} {
		podman(save(t, s, o, "localhost/x:1"), "load", "-q")
		if id := strings.TrimSpace(string(podman(nil, "image", "inspect", "--format", "{{.Id}}", "localhost/x:1"))); "sha256:"+id != i.id() {
			t.Errorf("podman has image %s, want %s", id, i.id())
		}
		for _, format := range []string{"docker-archive", "oci-archive"} {
			other := newStore(t)
			got := load(t, other, podman(nil, "save", "-q", "--format", format, "localhost/x:1"))
			if len(got) != 1 || got[0].ID != i.id() || !slices.Equal(got[0].Names, []string{"localhost/x:1"}) {
				t.Errorf("%s: %+v", format, got)
				continue
			}
			img, err := other.Resolve("localhost/x:1", nil)
			if err != nil {
				t.Fatal(err)
			}
			wantLayers(t, other, img, "a", noise(2, 100<<10))
		}
		podman(nil, "rmi", "-f", "localhost/x:1")
	}
}
