package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestRemove(t *testing.T) {
	f := newRegistry(t)
	one := makeImage(t, host, []string{"shared", "one"})
	two := makeImage(t, host, []string{"shared", "two"})
	s := newStore(t)
	pull(t, s, f.add("1", one))
	pull(t, s, f.add("2", two))
	tag(t, s, f.name("1"), "alias")
	repo := f.Listener.Addr().String() + "/test/image"

	r, err := s.Remove("alias", false, nil)
	if err != nil || !slices.Equal(r.Untagged, []string{"alias:latest"}) || len(r.Deleted) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	// The last tag of the image takes the digest along.
	r, err = s.Remove(f.name("1"), false, nil)
	if err != nil || !slices.Equal(r.Untagged, []string{f.name("1"), repo + "@" + one.manifestDigest()}) {
		t.Fatalf("%+v, %v", r, err)
	}
	c, _ := parseConfig(one.config)
	if want := []string{one.id(), string(c.chains()[1])}; !slices.Equal(r.Deleted, want) {
		t.Errorf("deleted %v, want %v: the other image needs the base", r.Deleted, want)
	}
	wantExactly(t, s, pulledRefs(f, "2", two.manifestDigest()), two)
	img, err := s.Resolve(f.name("2"), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantLayers(t, s, img, "shared", "two")
	if r, err = s.Remove(two.id()[7:19], false, nil); err != nil || len(r.Untagged) != 2 || len(r.Deleted) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	wantExactly(t, s, nil)
	var missing *NotFoundError
	if _, err := s.Remove(two.id(), false, nil); !errors.As(err, &missing) {
		t.Error(err)
	}
}

func TestRemoveByID(t *testing.T) {
	i := makeImage(t, host, []string{"a"})
	s := newStore(t)
	load(t, s, pack(t, i.dockerArchive(t, "one", "two")...))
	_, err := s.Remove(i.id(), false, nil)
	wantError(t, err, "multiple repositories", "one:latest, two:latest", "-f")
	if r, err := s.Remove(i.id(), true, nil); err != nil || len(r.Untagged) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	wantExactly(t, s, nil)
}

func TestRemoveInUse(t *testing.T) {
	i := makeImage(t, host, []string{"a"})
	s := newStore(t)
	load(t, s, pack(t, i.dockerArchive(t, "one", "two")...))
	used := func(id string) []string {
		if id != i.id() {
			t.Errorf("asked for %s", id)
		}
		return []string{"c0ffee"}
	}
	// One of two names may go.
	if _, err := s.Remove("two", false, used); err != nil {
		t.Fatal(err)
	}
	var busy *InUseError
	for _, name := range []string{"one", i.id()} {
		_, err := s.Remove(name, false, used)
		if !errors.As(err, &busy) {
			t.Errorf("%s: error %v; want one of an image in use", name, err)
		}
		wantError(t, err, "c0ffee", i.id()[7:19])
	}
	// Forced, the name goes, and the container keeps what it stands on.
	r, err := s.Remove("one", true, used)
	if err != nil || len(r.Untagged) != 1 || len(r.Deleted) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	img, err := s.Find(i.id())
	if err != nil || len(img.RepoTags) != 0 {
		t.Fatal(img, err)
	}
	wantLayers(t, s, img, "a")
	if _, err := s.Remove(i.id(), true, used); !errors.As(err, &busy) {
		t.Errorf("error %v; want one of an image in use", err)
	}
	if _, err := s.Remove(i.id(), false, nil); err != nil {
		t.Fatal(err)
	}
	wantExactly(t, s, nil)
}

// A name that moves on leaves its image without one.
func TestTag(t *testing.T) {
	a, b := makeImage(t, host, []string{"a"}), makeImage(t, host, []string{"b"})
	s := newStore(t)
	load(t, s, pack(t, a.dockerArchive(t, "x")...))
	load(t, s, pack(t, b.dockerArchive(t, "x")...))
	list, err := s.List()
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	for _, i := range list {
		if want := i.ID == b.id(); (len(i.RepoTags) == 1) != want {
			t.Errorf("%s has the names %v", i.ID, i.RepoTags)
		}
	}
	tag(t, s, a.id(), "y:1")
	if i, err := s.Resolve("y:1", nil); err != nil || i.ID != a.id() {
		t.Error(i, err)
	}
	wantError(t, s.Tag("x", "UPPER"), "UPPER")
	wantError(t, s.Tag("x", "z@"+a.manifestDigest()), "digest")
	var missing *NotFoundError
	if err := s.Tag("nothing", "z"); !errors.As(err, &missing) {
		t.Error(err)
	}
}

// Names come and go in several processes at once; all that are left hold.
func TestRemoveTogether(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	images := make([]*testImage, 6)
	for n := range images {
		images[n] = makeImage(t, host, []string{"shared", fmt.Sprint(n)})
		if err := os.WriteFile(fmt.Sprintf("%s/%d.tar", dir, n), pack(t, images[n].dockerArchive(t, fmt.Sprintf("x:%d", n))...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for n := range images {
		wg.Go(func() {
			for range 4 {
				if out, err := startChild(t, "load", s.root(), fmt.Sprintf("%s/%d.tar", dir, n)).CombinedOutput(); err != nil {
					t.Errorf("load %d: %v: %s", n, err, out)
				}
				i, err := s.Resolve(fmt.Sprintf("x:%d", n), nil)
				if err != nil {
					t.Error(err)
					return
				}
				wantLayers(t, s, i, "shared", fmt.Sprint(n))
				if out, err := startChild(t, "remove", s.root(), fmt.Sprintf("x:%d", n)).CombinedOutput(); err != nil {
					t.Errorf("remove %d: %v: %s", n, err, out)
				}
			}
		})
	}
	wg.Wait()
	wantExactly(t, s, nil)
}

// Killed at any point, a removal is finished by the next.
func TestRemoveKilled(t *testing.T) {
	s := newStore(t)
	i := makeImage(t, host, []string{"a", "b", "c"})
	other := makeImage(t, host, []string{"a", "other"})
	archive, otherArchive := pack(t, i.dockerArchive(t, "x")...), pack(t, other.dockerArchive(t, "y")...)
	for n := range 30 {
		load(t, s, archive)
		load(t, s, otherArchive)
		cmd := startChild(t, "remove", s.root(), "x")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(n) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		img, err := s.Resolve("y", nil)
		if err != nil {
			t.Fatal(err)
		}
		wantLayers(t, s, img, "a", "other")
		if img, err := s.Resolve("x", nil); err == nil {
			wantLayers(t, s, img, "a", "b", "c")
		}
		list, err := s.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			if _, err := s.Remove(l.ID, true, nil); err != nil {
				t.Fatal(err)
			}
		}
		wantExactly(t, s, nil)
	}
}

// What a failed pull has left is kept a day for the next try.
func TestLeaseAge(t *testing.T) {
	s := newStore(t)
	l, err := s.newLease()
	if err != nil {
		t.Fatal(err)
	}
	l.resumable = true
	if _, err := s.keepBytes(l, []byte("precious")); err != nil {
		t.Fatal(err)
	}
	name := l.f.Name()
	l.end(errors.New("failed"))
	i := makeImage(t, host, []string{"a"})
	load(t, s, pack(t, i.dockerArchive(t, "x")...)) // others do their work
	if !s.hasBlob(digestOf([]byte("precious"))) {
		t.Fatal("it is gone at once")
	}
	old := time.Now().Add(-leaseAge - time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	load(t, s, pack(t, i.dockerArchive(t, "y")...))
	if s.hasBlob(digestOf([]byte("precious"))) {
		t.Error("it is still there after a day")
	}
	if _, err := s.Resolve("x", nil); err != nil {
		t.Error(err)
	}
}

func TestAddLocal(t *testing.T) {
	s := newStore(t)
	calls := 0
	layer := func(content string) func(io.Writer) error {
		return func(w io.Writer) error {
			calls++
			_, err := w.Write(pack(t, file("file0", content)))
			return err
		}
	}
	add := func(content, fingerprint string) {
		t.Helper()
		if err := s.AddLocal("brig/hello", v1.ImageConfig{Entrypoint: []string{"/x"}}, layer(content), fingerprint); err != nil {
			t.Fatal(err)
		}
	}
	add("one", "f1")
	add("one", "f1")
	if calls != 1 {
		t.Errorf("the layer was written %d times", calls)
	}
	add("two", "f2")
	i, err := s.Resolve("brig/hello", nil)
	if err != nil || i.Config.Entrypoint[0] != "/x" || i.OS != "linux" || i.Architecture != host {
		t.Fatalf("%+v, %v", i, err)
	}
	wantLayers(t, s, i, "two")
	// Removed, it is made again.
	if _, err := s.Remove("brig/hello", false, nil); err != nil {
		t.Fatal(err)
	}
	add("two", "f2")
	if _, err := s.Resolve("brig/hello", nil); err != nil {
		t.Error(err)
	}
	if err := s.AddLocal("brig/bad", v1.ImageConfig{}, func(io.Writer) error { return errors.New("no layer") }, "f"); err == nil || !strings.Contains(err.Error(), "no layer") {
		t.Error(err)
	}
	if _, err := s.Resolve("brig/bad", nil); err == nil {
		t.Error("it is there")
	}
}

func TestInspectHistory(t *testing.T) {
	s := newStore(t)
	i := makeImage(t, host, []string{"a", "bcd"})
	i.config = []byte(strings.Replace(string(i.config), `"config":{`, `"author":"me","config":{"Healthcheck":{"Test":["CMD","true"],"Interval":1000},`, 1))
	i.config = []byte(strings.Replace(string(i.config), `"history":[`, `"history":[{"created_by":"none","empty_layer":true,"comment":"c"},`, 1))
	load(t, s, pack(t, i.dockerArchive(t, "x")...))
	v, err := s.Inspect("x")
	if err != nil {
		t.Fatal(err)
	}
	if v.ID != i.id() || v.Author != "me" || v.Config.Healthcheck.Test[1] != "true" || v.Config.Cmd[0] != "/bin/sh" || v.Os != "linux" ||
		v.Created != "2023-11-14T22:13:20Z" || v.Size != 4 || len(v.RootFS.Layers) != 2 || v.RepoTags[0] != "x:latest" {
		t.Errorf("%+v", v)
	}
	h, err := s.History("x")
	if err != nil || len(h) != 3 {
		t.Fatal(h, err)
	}
	if h[0].ID != i.id() || h[0].CreatedBy != "step 1" || h[0].Size != 3 || h[1].Size != 1 || h[1].ID != "" || h[2].CreatedBy != "none" || h[2].Size != 0 || h[2].Comment != "c" {
		t.Errorf("%+v", h)
	}
}

func TestImport(t *testing.T) {
	archive := pack(t, file("file0", "content"))
	var c v1.ImageConfig
	for _, line := range []string{`CMD ["a","b"]`, "env A=1 B='two words'"} {
		if err := Change(&c, line); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range map[string][]byte{"plain": archive, "gzip": gz(archive), "zstd": zst(archive)} {
		s := newStore(t)
		id, err := s.Import(context.Background(), strings.NewReader(string(b)), ImportOptions{Name: "x:1", Message: "why", Config: c,
			Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}})
		if err != nil {
			t.Fatal(name, err)
		}
		i, err := s.Resolve("x:1", nil)
		if err != nil || i.ID != id || !slices.Equal(i.Config.Cmd, []string{"a", "b"}) || i.Config.Env[1] != "B=two words" || i.Architecture != "arm64" {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
		wantLayers(t, s, i, "content")
		h, err := s.History(id)
		if err != nil || len(h) != 1 || h[0].Comment != "why" || h[0].Size != 7 {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		if _, err := s.Remove("x:1", false, nil); err != nil {
			t.Fatal(err)
		}
		wantExactly(t, s, nil)
	}
	s := newStore(t)
	for name, b := range map[string]string{"nothing": "", "no tar": strings.Repeat("x", 2000), "cut": string(archive[:515]), "cut gzip": string(gz(archive)[:60])} {
		if id, err := s.Import(context.Background(), strings.NewReader(b), ImportOptions{Name: "x:1"}); err == nil {
			t.Errorf("%s: imported as %s", name, id)
		}
		wantExactly(t, s, nil)
	}
}
