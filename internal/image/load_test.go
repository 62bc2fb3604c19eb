package image

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

const ociLayout = `{"imageLayoutVersion":"1.0.0"}`

func TestLoadDocker(t *testing.T) {
	i := makeImage(t, host, []string{"a", noise(1, 200<<10)})
	plain := pack(t, i.dockerArchive(t, "one:1", "two")...)
	bz := exec.Command("bzip2", "-c")
	bz.Stdin = bytes.NewReader(plain)
	bzipped, err := bz.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name, archive := range map[string][]byte{"plain": plain, "gzip": gz(plain), "zstd": zst(plain), "bzip2": bzipped} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			got := load(t, s, archive)
			if len(got) != 1 || got[0].ID != i.id() || !slices.Equal(got[0].Names, []string{"one:1", "two:latest"}) {
				t.Fatalf("%+v", got)
			}
			img, err := s.Find("two")
			if err != nil {
				t.Fatal(err)
			}
			wantLayers(t, s, img, "a", noise(1, 200<<10))
			if !slices.Equal(img.RepoTags, []string{"one:1", "two:latest"}) || len(img.RepoDigests) != 0 || img.Size != 1+200<<10 {
				t.Errorf("%+v", img)
			}
			before := s.files(t)
			load(t, s, archive)
			if after := s.files(t); !slices.Equal(before, after) {
				t.Errorf("a second load changes the store from %v to %v", before, after)
			}
		})
	}
}

// Docker wrote layers that are the same as links to the first of them.
func TestLoadLinkedLayer(t *testing.T) {
	i := makeImage(t, host, []string{"a", "b"})
	entries := i.dockerArchive(t, "x")
	for n, e := range entries {
		if e.Name == "1/layer.tar" {
			entries[n] = entry{tar.Header{Typeflag: tar.TypeSymlink, Name: e.Name, Linkname: "../real/layer.tar"}, nil}
		}
	}
	entries = append(entries, file("real/layer.tar", string(i.diffs[1])))
	s := newStore(t)
	load(t, s, pack(t, entries...))
	img, err := s.Resolve("x", nil)
	if err != nil {
		t.Fatal(err)
	}
	wantLayers(t, s, img, "a", "b")
}

// Archives of Docker before 1.10 have no manifest.json.
func TestLoadLegacy(t *testing.T) {
	i := makeImage(t, host, []string{"a", "b"})
	base, top := strings.Repeat("11", 32), strings.Repeat("22", 32)
	archive := pack(t,
		file("repositories", fmt.Sprintf(`{"old":{"1":%q}}`, top)),
		file(base+"/json", fmt.Sprintf(`{"id":%q,"created":"2015-01-01T00:00:00Z","container_config":{"Cmd":["/bin/sh","-c","first"]}}`, base)),
		file(base+"/layer.tar", string(i.diffs[0])),
		file(top+"/json", fmt.Sprintf(`{"id":%q,"parent":%q,"created":"2015-01-02T00:00:00Z","architecture":%q,"os":"linux","config":{"Cmd":["top"],"Env":["E=1"]}}`, top, base, host)),
		file(top+"/layer.tar", string(i.diffs[1])))
	s := newStore(t)
	load(t, s, archive)
	img, err := s.Resolve("old:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	wantLayers(t, s, img, "a", "b")
	if img.Config.Cmd[0] != "top" || img.Config.Env[0] != "E=1" || img.Architecture != host {
		t.Errorf("%+v", img)
	}
	h, err := s.History("old:1")
	if err != nil || len(h) != 2 || h[1].CreatedBy != "/bin/sh -c first" || h[1].Size != 1 {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestLoadOCI(t *testing.T) {
	here := makeImage(t, host, []string{"a", "b", "c"}, compressor{gz, "+gzip"}, compressor{zst, "+zstd"}, compressor{raw, ""})
	other := makeImage(t, "s390x", []string{"other"})
	named := func(d v1.Descriptor, annotation, name string) v1.Descriptor {
		d.Annotations = map[string]string{annotation: name}
		return d
	}
	nested := index(t, other.descriptor(), here.descriptor())
	nestedFile := file("blobs/sha256/"+digestOf(nested)[7:], string(nested))
	nestedDesc := v1.Descriptor{MediaType: mediaTypeIndex, Digest: digestT(nested), Size: int64(len(nested))}
	all := append(here.ociBlobs(), other.ociBlobs()...)
	for name, c := range map[string]struct {
		index []byte
		files []entry
		names []string
	}{
		"containerd's name":   {index(t, named(here.descriptor(), "io.containerd.image.name", "docker.io/library/x:1")), here.ociBlobs(), []string{"x:1"}},
		"full name":           {index(t, named(here.descriptor(), v1.AnnotationRefName, "localhost/x:2")), here.ociBlobs(), []string{"localhost/x:2"}},
		"tag only":            {index(t, named(here.descriptor(), v1.AnnotationRefName, "latest")), here.ociBlobs(), nil},
		"several platforms":   {index(t, named(nestedDesc, v1.AnnotationRefName, "x:3")), append(slices.Clone(all), nestedFile), []string{"x:3"}},
		"one of them is here": {index(t, named(nestedDesc, v1.AnnotationRefName, "x:3")), append(here.ociBlobs(), nestedFile), []string{"x:3"}},
		"platforms at the top": {index(t, named(other.descriptor(), v1.AnnotationRefName, "x:4"), named(here.descriptor(), v1.AnnotationRefName, "x:4")),
			all, []string{"x:4"}},
		"names beside it": {index(t, here.descriptor()), append(here.ociBlobs(), file("manifest.json",
			fmt.Sprintf(`[{"Config":"blobs/sha256/%s","RepoTags":["y:5"],"Layers":[]}]`, here.id()[7:]))), []string{"y:5"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			got := load(t, s, pack(t, append([]entry{file("oci-layout", ociLayout), file("index.json", string(c.index))}, c.files...)...))
			if len(got) != 1 || got[0].ID != here.id() || !slices.Equal(got[0].Names, c.names) {
				t.Fatalf("%+v", got)
			}
			img, err := s.Find(here.id())
			if err != nil {
				t.Fatal(err)
			}
			wantLayers(t, s, img, "a", "b", "c")
			if img.Manifest != here.manifestDigest() {
				t.Errorf("manifest %s, want that of the archive, %s", img.Manifest, here.manifestDigest())
			}
		})
	}
	t.Run("asked for", func(t *testing.T) {
		s := newStore(t)
		archive := pack(t, append([]entry{file("index.json", string(index(t, nestedDesc))), nestedFile}, all...)...)
		got, err := s.Load(context.Background(), bytes.NewReader(archive), LoadOptions{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}})
		if err != nil || len(got) != 1 || got[0].ID != other.id() {
			t.Fatal(got, err)
		}
		_, err = s.Load(context.Background(), bytes.NewReader(archive), LoadOptions{Platform: &v1.Platform{OS: "linux", Architecture: "riscv64"}})
		wantError(t, err, "linux/riscv64", "linux/s390x, linux/"+host)
	})
}

// What is wrong is refused with a word on where, and leaves nothing.
func TestLoadRefuses(t *testing.T) {
	i := makeImage(t, host, []string{"a", "b"})
	good := i.dockerArchive(t, "x")
	with := func(change func(e entry) (entry, bool)) []byte {
		var list []entry
		for _, e := range good {
			if c, keep := change(e); keep {
				list = append(list, c)
			}
		}
		return pack(t, list...)
	}
	replace := func(name string, by entry) []byte {
		return with(func(e entry) (entry, bool) {
			if e.Name == name {
				return by, true
			}
			return e, true
		})
	}
	plus := func(e entry) []byte { return pack(t, append(slices.Clone(good), e)...) }
	link := func(name, to string, kind byte) entry {
		return entry{tar.Header{Typeflag: kind, Name: name, Linkname: to}, nil}
	}
	secret := t.TempDir() + "/secret"
	if err := os.WriteFile(secret, i.diffs[0], 0o600); err != nil {
		t.Fatal(err)
	}
	oci := func(idx []byte, change func([]entry) []entry) []byte {
		return pack(t, change(append([]entry{file("index.json", string(idx))}, i.ociBlobs()...))...)
	}
	same := func(e []entry) []entry { return e }
	big := strings.Repeat(" ", maxJSON+1)
	wrongDiffs := bytes.Replace(i.config, []byte(digestOf(i.diffs[1])), []byte("sha256:"+strings.Repeat("0", 64)), 1)
	for name, c := range map[string]struct {
		archive []byte
		words   []string
	}{
		"empty":               {nil, []string{"empty"}},
		"no archive":          {[]byte(strings.Repeat("no tar ", 1000)), []string{"not a tar archive"}},
		"a file system":       {pack(t, file("bin/sh", "x")), []string{"not an image archive", "brig import"}},
		"xz":                  {[]byte("\xfd7zXZ\x00\x00\x00\x00\x00"), []string{"xz"}},
		"cut short":           {pack(t, good...)[:2000], []string{"EOF"}},
		"cut gzip":            {gz(pack(t, good...))[:300], []string{"EOF"}},
		"name out of it":      {plus(file("../evil", "x")), []string{`"../evil"`, "out of the archive"}},
		"name deeper out":     {plus(file("a/../../evil", "x")), []string{"out of the archive"}},
		"absolute name":       {plus(file("/etc/evil", "x")), []string{`"/etc/evil"`, "out of the archive"}},
		"device":              {plus(entry{tar.Header{Typeflag: tar.TypeBlock, Name: "dev", Devmajor: 8}, nil}), []string{`"dev"`, "no place"}},
		"layer links out":     {replace("0/layer.tar", link("0/layer.tar", "../../secret", tar.TypeSymlink)), []string{"out of the archive"}},
		"layer links away":    {replace("0/layer.tar", link("0/layer.tar", secret, tar.TypeSymlink)), []string{secret, "out of the archive"}},
		"layer hard-links":    {replace("0/layer.tar", link("0/layer.tar", secret, tar.TypeLink)), []string{"out of the archive"}},
		"links in a circle":   {replace("0/layer.tar", link("0/layer.tar", "layer.tar", tar.TypeSymlink)), []string{"circle"}},
		"config links out":    {replace("config.json", link("config.json", "../../etc/passwd", tar.TypeSymlink)), []string{"out of the archive"}},
		"no layer":            {with(func(e entry) (entry, bool) { return e, e.Name != "1/layer.tar" }), []string{"1/layer.tar", "missing"}},
		"no config":           {with(func(e entry) (entry, bool) { return e, e.Name != "config.json" }), []string{"config.json", "missing"}},
		"config is no JSON":   {replace("config.json", file("config.json", "{")), []string{"not valid JSON"}},
		"config is huge":      {replace("config.json", file("config.json", big)), []string{"config.json", "larger than"}},
		"manifest is huge":    {replace("manifest.json", file("manifest.json", big)), []string{"manifest.json", "larger than"}},
		"manifest is no JSON": {replace("manifest.json", file("manifest.json", "[{]")), []string{"manifest.json"}},
		"name path":           {replace("manifest.json", file("manifest.json", `[{"Config":"../../etc/passwd","Layers":[]}]`)), []string{"out of the archive"}},
		"bad tag":             {replace("manifest.json", file("manifest.json", `[{"Config":"config.json","RepoTags":["UPPER"],"Layers":[]}]`)), []string{"UPPER"}},
		"too few layers":      {replace("manifest.json", file("manifest.json", `[{"Config":"config.json","Layers":["0/layer.tar"]}]`)), []string{"rootfs.diff_ids has 2 layers"}},
		"layer changed":       {replace("1/layer.tar", file("1/layer.tar", string(pack(t, file("evil", "x"))))), []string{"digest"}},
		"layer is no tar":     {replace("1/layer.tar", file("1/layer.tar", "x")), []string{"layer"}},
		"diff ID changed":     {replace("config.json", file("config.json", string(wrongDiffs))), []string{"digest"}},
		"index is no index":   {oci(i.manifest, same), []string{"index.json"}},
		"index is both":       {oci([]byte(`{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}`), same), []string{"both"}},
		"index names nothing": {oci([]byte(`{"schemaVersion":2,"manifests":[]}`), same), []string{"names no image"}},
		"digest is a path": {oci([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha256:../../../../etc/passwd","size":1}]}`), same),
			[]string{"manifests[0]", "digest"}},
		"blob changed": {oci(index(t, i.descriptor()), func(e []entry) []entry {
			return append(e, file("blobs/sha256/"+digestOf(i.blobs[1])[7:], "changed"))
		}), []string{"digest"}},
		"manifest changed": {oci(index(t, i.descriptor()), func(e []entry) []entry {
			return append(e, file("blobs/sha256/"+i.manifestDigest()[7:], string(i.manifest)+" "))
		}), []string{"digest"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			got, err := s.Load(context.Background(), bytes.NewReader(c.archive), LoadOptions{})
			wantError(t, err, c.words...)
			if len(got) != 0 {
				t.Errorf("loaded %+v", got)
			}
			wantExactly(t, s, nil)
		})
	}
}

// A sparse entry can stand for any number of bytes that the archive has not.
func TestLoadRefusesSparse(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(dir + "/layer.tar")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, format := range []string{"gnu", "posix"} {
		cmd := exec.Command("tar", "-C", dir, "--sparse", "--format="+format, "-c", "layer.tar")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		s := newStore(t)
		_, err = s.Load(context.Background(), bytes.NewReader(out), LoadOptions{})
		wantError(t, err, "layer.tar", "sparse")
		wantExactly(t, s, nil)
	}
}

func TestLoadCanceled(t *testing.T) {
	i := makeImage(t, host, []string{noise(3, 1<<20)})
	archive := pack(t, i.dockerArchive(t, "x")...)
	s := newStore(t)
	ctx, cancel := context.WithCancel(context.Background())
	r := io.MultiReader(bytes.NewReader(archive[:len(archive)/2]), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, nil
	}))
	_, err := s.Load(ctx, r, LoadOptions{})
	wantError(t, err, "canceled")
	wantExactly(t, s, nil)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// FuzzLoad feeds archives whose tables of contents are anything.
func FuzzLoad(f *testing.F) {
	i := makeImage(f, host, []string{"a", "b"})
	f.Add("manifest.json", `[{"Config":"config.json","RepoTags":["x:1"],"Layers":["0/layer.tar","1/layer.tar"]}]`, "x", "y", byte(tar.TypeSymlink))
	f.Add("manifest.json", `[{"Config":"l","Layers":["0/layer.tar","1/layer.tar"]}]`, "l", "config.json", byte(tar.TypeLink))
	f.Add("index.json", string(index(f, i.descriptor())), "oci-layout", ociLayout, byte(tar.TypeReg))
	f.Add("index.json", string(i.manifest), "", "", byte(0))
	f.Add("repositories", `{"a":{"b":"c"}}`, "../x", "../../y", byte(tar.TypeSymlink))
	rest := append(i.dockerArchive(f)[:3], i.ociBlobs()...)
	f.Fuzz(func(t *testing.T, name, content, name2, target string, kind byte) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, e := range append([]entry{file(name, content)}, rest...) {
			if w.WriteHeader(&e.Header) != nil {
				return
			}
			w.Write(e.data)
		}
		h := tar.Header{Typeflag: kind, Name: name2, Linkname: target}
		if kind == tar.TypeReg {
			h = file(name2, target).Header
		}
		if w.WriteHeader(&h) != nil {
			return
		}
		if kind == tar.TypeReg {
			io.WriteString(w, target)
		}
		if w.Close() != nil {
			return
		}
		s := newStore(t)
		got, err := s.Load(context.Background(), &b, LoadOptions{})
		list, lerr := s.List()
		if lerr != nil {
			t.Fatal(lerr)
		}
		if err != nil && len(got) == 0 {
			wantExactly(t, s, nil)
		}
		if err == nil && len(list) == 0 {
			t.Errorf("no error and no image")
		}
		for _, i := range list {
			if _, err := s.Resolve(i.ID, nil); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzReadArchive(f *testing.F) {
	i := makeImage(f, host, []string{"a"})
	archive := pack(f, i.dockerArchive(f, "x")...)
	for _, b := range [][]byte{archive, gz(archive), zst(archive), archive[:700], nil} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newStore(t)
		s.Load(context.Background(), bytes.NewReader(b), LoadOptions{})
		if _, err := s.List(); err != nil {
			t.Error(err)
		}
	})
}
