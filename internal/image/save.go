package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brig-run/brig/internal/tree"
)

// SaveOptions say what Save writes.
type SaveOptions struct {
	// OCIOnly leaves out what only docker load needs.
	OCIOnly bool
}

// Save writes images as one tar archive: an OCI image layout, and beside it the
// manifest.json by which docker load knows its way. A blob
// that several images share is written once. Images are told by name or ID.
func (s *Store) Save(ctx context.Context, w io.Writer, names []string, o SaveOptions) (err error) {
	if len(names) == 0 {
		return errors.New("save: no image is named")
	}
	l, err := s.newLease()
	if err != nil {
		return err
	}
	defer func() { l.end(nil) }()
	sv := &saver{Store: s, l: l, seen: make(map[digest.Digest]bool)}
	for _, n := range names {
		if err := sv.add(n); err != nil {
			return err
		}
	}
	if err := sv.write(ctx, w, o); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

type saver struct {
	*Store
	l      *lease
	images []*savedImage
	seen   map[digest.Digest]bool
	blobs  []v1.Descriptor
}

type savedImage struct {
	*Image
	manifest v1.Descriptor
	doc      *document
	names    []Reference
}

// add takes in one image, before anything is written.
func (sv *saver) add(name string) error {
	i, ref, err := sv.resolve(name)
	if err != nil {
		return err
	}
	// Held first and looked for afterwards: what is there then stays.
	if err := sv.l.hold(append([]string{i.ID, i.Manifest}, i.Layers...)...); err != nil {
		return err
	}
	digest0 := i.Manifest
	if ref != nil {
		rr, err := sv.readRef(*ref)
		if err == nil && rr.Manifest != "" {
			digest0 = rr.Manifest
		}
	}
	b, d, err := sv.manifestOf(i, digest0)
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	si := sv.entry(i, d, v1.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(digest0), Size: int64(len(b)),
		Platform: &v1.Platform{OS: i.OS, Architecture: i.Architecture, Variant: i.Variant}})
	if si.manifest.MediaType == "" {
		si.manifest.MediaType = mediaTypeManifest
	}
	if ref != nil && ref.Tag != "" && ref.Digest == "" && !slices.Contains(si.names, *ref) {
		si.names = append(si.names, *ref)
	}
	var held []string
	for _, blob := range append(append(slices.Clone(d.Layers), *d.Config), si.manifest) {
		held = append(held, string(blob.Digest))
		if !sv.seen[blob.Digest] {
			sv.seen[blob.Digest] = true
			sv.blobs = append(sv.blobs, blob)
		}
	}
	if err := sv.l.hold(held...); err != nil {
		return err
	}
	for _, h := range held {
		if !sv.hasBlob(h) {
			return fmt.Errorf("save %s: its blob %s is missing; remove the image and pull or load it again", name, h)
		}
	}
	return nil
}

// entry finds the entry of an image that was named before by another name.
func (sv *saver) entry(i *Image, d *document, manifest v1.Descriptor) *savedImage {
	for _, si := range sv.images {
		if si.ID == i.ID && si.manifest.Digest == manifest.Digest {
			return si
		}
	}
	si := &savedImage{Image: i, manifest: manifest, doc: d}
	sv.images = append(sv.images, si)
	return si
}

func (sv *saver) write(ctx context.Context, w io.Writer, o SaveOptions) error {
	t := tar.NewWriter(w)
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
	}
	slices.SortFunc(sv.blobs, func(a, b v1.Descriptor) int {
		if a.Digest < b.Digest {
			return -1
		}
		return 1
	})
	for _, b := range sv.blobs {
		if err := sv.writeBlob(ctx, t, b); err != nil {
			return err
		}
	}
	files := []any{"oci-layout", v1.ImageLayout{Version: v1.ImageLayoutVersion}, "index.json", sv.index()}
	if !o.OCIOnly {
		files = append(files, "manifest.json", sv.dockerManifest())
	}
	for i := 0; i < len(files); i += 2 {
		if err := writeJSON(t, files[i].(string), files[i+1]); err != nil {
			return err
		}
	}
	return t.Close()
}

func (sv *saver) writeBlob(ctx context.Context, t *tar.Writer, d v1.Descriptor) error {
	f, err := os.Open(sv.blobPath(string(d.Digest)))
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: blobName(d), Mode: 0o644, Size: fi.Size()}); err != nil {
		return err
	}
	h := digest.Canonical.Hash()
	if _, err := io.Copy(io.MultiWriter(t, h), tree.WithContext(ctx, f)); err != nil {
		return err
	}
	if digest.NewDigest(digest.Canonical, h) != d.Digest {
		return fmt.Errorf("%s is damaged: its content has another digest; remove the image and pull it again", f.Name())
	}
	return nil
}

func writeJSON(t *tar.Writer, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(b)), Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err = t.Write(b)
	return err
}

// index is index.json: an entry for each name, and one for an image without.
func (sv *saver) index() v1.Index {
	x := v1.Index{MediaType: mediaTypeIndex, Manifests: []v1.Descriptor{}}
	x.SchemaVersion = 2
	for _, si := range sv.images {
		if len(si.names) == 0 {
			x.Manifests = append(x.Manifests, si.manifest)
		}
		for _, r := range si.names {
			d := si.manifest
			d.Annotations = map[string]string{"io.containerd.image.name": r.String(), v1.AnnotationRefName: r.String()}
			x.Manifests = append(x.Manifests, d)
		}
	}
	return x
}

func (sv *saver) dockerManifest() []dockerEntry {
	var list []dockerEntry
	for _, si := range sv.images {
		e := dockerEntry{Config: blobName(*si.doc.Config), RepoTags: []string{}, Layers: []string{}}
		for _, r := range si.names {
			e.RepoTags = append(e.RepoTags, r.Familiar())
		}
		for _, l := range si.doc.Layers {
			e.Layers = append(e.Layers, blobName(l))
		}
		list = append(list, e)
	}
	return list
}
