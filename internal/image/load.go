package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// LoadOptions say how an archive is loaded.
type LoadOptions struct {
	Platform *v1.Platform // which image of several platforms; nil for this machine's
	Progress Progress
}

// Loaded is an image that Load has brought in: its names, which may be none.
type Loaded struct {
	ID    string
	Names []string
}

// Load reads an archive as docker save, podman save or an OCI tool writes it,
// compressed or not, and adds its images. Each image is added as a whole or not
// at all.
func (s *Store) Load(ctx context.Context, r io.Reader, o LoadOptions) (loaded []Loaded, err error) {
	l, err := s.newLease()
	if err != nil {
		return nil, err
	}
	defer func() { l.end(err) }()
	s.sweepTemp()
	a, err := s.readArchive(ctx, r)
	if err != nil {
		return nil, err
	}
	defer a.close()
	ld := &loader{Store: s, a: a, l: l, o: o}
	switch {
	case a.has("index.json"):
		err = ld.oci(ctx)
	case a.has("manifest.json"):
		err = ld.docker(ctx)
	case a.has("repositories"):
		err = ld.legacy(ctx)
	default:
		err = errors.New("it has no index.json, manifest.json or repositories: not an image archive; to make an image of a plain file system use brig import")
	}
	if err != nil {
		return ld.loaded, fmt.Errorf("load the archive: %w", err)
	}
	return ld.loaded, nil
}

type loader struct {
	*Store
	a      *archive
	l      *lease
	o      LoadOptions
	loaded []Loaded
}

// dockerEntry is an image in manifest.json.
type dockerEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func parseDockerManifest(b []byte) ([]dockerEntry, error) {
	var list []dockerEntry
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	for i, e := range list {
		if e.Config == "" {
			return nil, fmt.Errorf("manifest.json[%d].Config is empty", i)
		}
		if len(e.Layers) > maxLayers {
			return nil, fmt.Errorf("manifest.json[%d].Layers: %d layers; overlayfs can stack %d", i, len(e.Layers), maxLayers)
		}
	}
	return list, nil
}

func (ld *loader) docker(ctx context.Context) error {
	list, err := ld.dockerManifest()
	if err != nil {
		return err
	}
	for i, e := range list {
		names, err := namings(e.RepoTags)
		if err != nil {
			return fmt.Errorf("manifest.json[%d].RepoTags: %w", i, err)
		}
		b, err := ld.a.json(e.Config)
		if err != nil {
			return fmt.Errorf("manifest.json[%d].Config: %w", i, err)
		}
		if err := ld.image(ctx, b, e.Layers, names); err != nil {
			return fmt.Errorf("manifest.json[%d] (%s): %w", i, orNone(e.RepoTags), err)
		}
	}
	return nil
}

func (ld *loader) dockerManifest() ([]dockerEntry, error) {
	b, err := ld.a.json("manifest.json")
	if err != nil {
		return nil, err
	}
	return parseDockerManifest(b)
}

// image adds an image of a configuration and layer files.
func (ld *loader) image(ctx context.Context, configJSON []byte, files []string, names []naming) error {
	// An image that is there need not be stored a second time.
	var missing *NotFoundError
	if err := ld.name(digestOf(configJSON), names); !errors.As(err, &missing) {
		return err
	}
	var layers []v1.Descriptor
	for i, f := range files {
		m, err := ld.a.get(f)
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		d, err := m.keepLayer(ld.Store, ld.l)
		if err != nil {
			return fmt.Errorf("layer %d: %s: %w", i, f, err)
		}
		layers = append(layers, d)
	}
	i, err := ld.build(ctx, ld.l, configJSON, layers, ld.o.Progress, names...)
	if err != nil {
		return err
	}
	ld.add(i.ID, names)
	return nil
}

// name gives an image more names; *NotFoundError if it is not there.
func (ld *loader) name(id string, names []naming) error {
	unlock, err := ld.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := ld.readRecord(id); errors.Is(err, fs.ErrNotExist) {
		return &NotFoundError{id}
	} else if err != nil {
		return err
	}
	for _, n := range names {
		if err := ld.setRef(n.ref, refRecord{Image: id}); err != nil {
			return err
		}
	}
	ld.add(id, names)
	return nil
}

func (ld *loader) add(id string, names []naming) {
	e := Loaded{ID: id}
	for _, n := range names {
		e.Names = append(e.Names, n.ref.Familiar())
	}
	for i := range ld.loaded {
		if ld.loaded[i].ID == id {
			ld.loaded[i].Names = append(ld.loaded[i].Names, e.Names...)
			return
		}
	}
	ld.loaded = append(ld.loaded, e)
}

func namings(names []string) ([]naming, error) {
	var all []naming
	for _, n := range names {
		r, err := ParseReference(n)
		if err != nil {
			return nil, err
		}
		all = append(all, naming{ref: r})
	}
	return all, nil
}

// oci loads an OCI image layout. Newer docker save writes one with a
// manifest.json at its side, which may know more names.
func (ld *loader) oci(ctx context.Context) error {
	b, err := ld.a.json("index.json")
	if err != nil {
		return err
	}
	index, err := parseDocument(b)
	if err != nil {
		return fmt.Errorf("index.json: %w", err)
	}
	if !index.isIndex() {
		return errors.New("index.json: it has no manifests")
	}
	for _, group := range groupByName(index.Manifests) {
		if err := ld.ociImage(ctx, group); err != nil {
			return fmt.Errorf("index.json: %w", err)
		}
	}
	if len(ld.loaded) == 0 {
		return errors.New("index.json: it names no image")
	}
	return ld.dockerNames()
}

// groupByName puts the entries of one name together: they are the platforms of
// one image.
func groupByName(list []v1.Descriptor) [][]v1.Descriptor {
	var groups [][]v1.Descriptor
	at := make(map[string]int)
	for _, d := range list {
		if isAttestation(d) || isForeignType(d.MediaType) {
			continue
		}
		name := imageName(d)
		i, ok := at[name]
		if !ok || d.Platform == nil {
			i = len(groups)
			at[name] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], d)
	}
	return groups
}

// imageName is the name that an index gives to an entry, or nothing.
func imageName(d v1.Descriptor) string {
	if n := d.Annotations["io.containerd.image.name"]; n != "" {
		return n
	}
	// The specification wants a tag here, podman writes a full name.
	if n := d.Annotations[v1.AnnotationRefName]; strings.ContainsAny(n, "/:") {
		return n
	}
	return ""
}

func (ld *loader) ociImage(ctx context.Context, group []v1.Descriptor) error {
	name := imageName(group[0])
	var names []naming
	if name != "" {
		var err error
		if names, err = namings([]string{name}); err != nil {
			return err
		}
	}
	b, err := ld.manifest(group, 0)
	if err == nil {
		err = ld.ociManifest(ctx, b, names)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", orNone(slices.DeleteFunc([]string{name}, func(s string) bool { return s == "" })), err)
	}
	return nil
}

func blobName(d v1.Descriptor) string { return "blobs/sha256/" + d.Digest.Encoded() }

// manifest finds the manifest for the platform, through nested indexes.
func (ld *loader) manifest(list []v1.Descriptor, depth int) ([]byte, error) {
	if depth > 4 {
		return nil, errors.New("indexes are nested too deeply")
	}
	d := list[0]
	if len(list) > 1 || depth > 0 {
		// An archive of one platform may still carry the index of all.
		here := slices.DeleteFunc(slices.Clone(list), func(d v1.Descriptor) bool { return !ld.a.has(blobName(d)) })
		want := hostPlatform()
		if ld.o.Platform != nil {
			want = *ld.o.Platform
		}
		var err error
		if d, err = choose(here, want); err != nil {
			return nil, err
		}
	}
	b, err := ld.blob(d)
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", blobName(d), err)
	}
	if doc.isIndex() {
		return ld.manifest(append([]v1.Descriptor{}, doc.Manifests...), depth+1)
	}
	return b, nil
}

// blob reads a small blob of the layout and checks its digest.
func (ld *loader) blob(d v1.Descriptor) ([]byte, error) {
	b, err := ld.a.json(blobName(d))
	if err != nil {
		return nil, err
	}
	if got := digestOf(b); got != string(d.Digest) {
		return nil, fmt.Errorf("%s: the digest of its content is %s", blobName(d), got)
	}
	return b, nil
}

func (ld *loader) ociManifest(ctx context.Context, b []byte, names []naming) error {
	doc, err := parseDocument(b)
	if err != nil {
		return err
	}
	configJSON, err := ld.blob(*doc.Config)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	c, err := parseConfig(configJSON)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if len(doc.Layers) != len(c.RootFS.DiffIDs) {
		return fmt.Errorf("config: rootfs.diff_ids has %d layers, the manifest %d", len(c.RootFS.DiffIDs), len(doc.Layers))
	}
	for i, d := range doc.Layers {
		if err := ld.ociLayer(d); err != nil {
			return fmt.Errorf("layers[%d]: %w", i, err)
		}
	}
	id, err := ld.keepBytes(ld.l, configJSON)
	if err != nil {
		return err
	}
	manifest, err := ld.keepBytes(ld.l, b)
	if err != nil {
		return err
	}
	if err := ld.unpackAll(ctx, ld.l, c, doc.Layers, ld.o.Progress); err != nil {
		return err
	}
	if _, err := ld.commit(id, c, manifest, names...); err != nil {
		return err
	}
	ld.add(id, names)
	return nil
}

// ociLayer keeps the blob of a layer.
func (ld *loader) ociLayer(d v1.Descriptor) error {
	m, err := ld.a.get(blobName(d))
	var missing *missingError
	if errors.As(err, &missing) {
		// docker save may leave out what it thinks the other side has.
		if herr := ld.l.hold(string(d.Digest)); herr != nil {
			return herr
		}
		if ld.hasBlob(string(d.Digest)) {
			return nil
		}
	}
	if err != nil {
		return err
	}
	if m.digest != string(d.Digest) {
		return fmt.Errorf("%s: the digest of its content is %s", blobName(d), m.digest)
	}
	return m.keep(ld.Store, ld.l)
}

// dockerNames adds the names that a manifest.json gives to the images.
func (ld *loader) dockerNames() error {
	if !ld.a.has("manifest.json") {
		return nil
	}
	list, err := ld.dockerManifest()
	if err != nil {
		return err
	}
	for _, e := range list {
		m, err := ld.a.get(e.Config)
		if err != nil {
			continue
		}
		at := slices.IndexFunc(ld.loaded, func(l Loaded) bool { return l.ID == m.digest })
		if at < 0 {
			continue
		}
		names, err := namings(e.RepoTags)
		if err != nil {
			return fmt.Errorf("manifest.json: RepoTags: %w", err)
		}
		names = slices.DeleteFunc(names, func(n naming) bool { return slices.Contains(ld.loaded[at].Names, n.ref.Familiar()) })
		if err := ld.name(m.digest, names); err != nil {
			return err
		}
	}
	return nil
}
