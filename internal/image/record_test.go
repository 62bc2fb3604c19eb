package image

import (
	"errors"
	"os"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestResolve(t *testing.T) {
	s := newStore(t)
	i := makeImage(t, host, []string{"a", "b"})
	load(t, s, pack(t, i.dockerArchive(t, "busybox:latest", "host:5000/x:tag")...))
	hex := strings.TrimPrefix(i.id(), "sha256:")
	for _, name := range []string{"busybox", "busybox:latest", "docker.io/library/busybox", "docker.io/library/busybox:latest",
		"library/busybox", "host:5000/x:tag", i.id(), hex, hex[:12], hex[:1], "sha256:" + hex[:8]} {
		got, err := s.Resolve(name, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.ID != i.id() || got.Config.Cmd[0] != "/bin/sh" || got.Architecture != host || got.OS != "linux" {
			t.Errorf("%s: %+v", name, got)
		}
		wantLayers(t, s, got, "a", "b")
	}
	for name, want := range map[string]string{"nothing": "nothing:latest", "busybox:1": "busybox:1", "host:5000/x": "host:5000/x:latest",
		strings.Repeat("0", 64): strings.Repeat("0", 64)} {
		_, err := s.Resolve(name, nil)
		var missing *NotFoundError
		if !errors.As(err, &missing) || missing.Name != want {
			t.Errorf("%s: error %v; want not found: %s", name, err, want)
		}
	}
	_, err := s.Resolve("No/Such", nil)
	wantError(t, err, "No/Such", "lower case")
}

func TestResolvePlatform(t *testing.T) {
	s := newStore(t)
	i := makeImage(t, "arm64", []string{"a"})
	load(t, s, pack(t, i.dockerArchive(t, "x:1")...))
	for _, p := range []*v1.Platform{nil, {OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "aarch64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}} {
		if _, err := s.Resolve("x:1", p); err != nil {
			t.Errorf("%v: %v", p, err)
		}
	}
	for _, p := range []*v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "windows", Architecture: "arm64"}} {
		_, err := s.Resolve("x:1", p)
		var other *PlatformError
		if !errors.As(err, &other) {
			t.Errorf("%v: error %v; want one about the platform", p, err)
		}
	}
}

func TestResolveAmbiguous(t *testing.T) {
	s := newStore(t)
	byFirst := map[byte]string{}
	for n := byte(0); n < 20; n++ { // of 17 images, two begin with one digit
		i := makeImage(t, host, []string{string('a' + rune(n))})
		load(t, s, pack(t, i.dockerArchive(t)...))
		first := i.id()[7]
		if old := byFirst[first]; old != "" {
			_, err := s.Resolve(string(first), nil)
			wantError(t, err, "ambiguous", old, i.id())
			return
		}
		byFirst[first] = i.id()
	}
	t.Fatal("no two images begin alike")
}

// A name that has lost its image is told of and can be removed.
func TestResolveDamaged(t *testing.T) {
	s := newStore(t)
	i := makeImage(t, host, []string{"a"})
	load(t, s, pack(t, i.dockerArchive(t, "x:1")...))
	if err := os.Remove(s.recordPath(i.id())); err != nil {
		t.Fatal(err)
	}
	_, err := s.Resolve("x:1", nil)
	wantError(t, err, "x:1", "damaged", "brig rmi")
	r, err := s.Remove("x:1", false, nil)
	if err != nil || len(r.Untagged) != 1 {
		t.Fatal(r, err)
	}
	var missing *NotFoundError
	if _, err := s.Resolve("x:1", nil); !errors.As(err, &missing) {
		t.Error(err)
	}
}

func BenchmarkResolve(b *testing.B) {
	s := newStore(b)
	i := makeImage(b, host, []string{"a", "b", "c", "d", "e", "f", "g", "h"})
	load(b, s, pack(b, i.dockerArchive(b, "busybox:latest")...))
	for _, name := range []string{"busybox", i.id(), i.id()[7:19]} {
		b.Run(name[:7], func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Resolve(name, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
