package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brig-run/brig/internal/snapshot"
)

// PullOptions say how an image is pulled.
type PullOptions struct {
	RegistryOptions
	Platform *v1.Platform // nil for this machine's
	Progress Progress
}

// Pulled is what Pull has done.
type Pulled struct {
	Image  *Image
	Ref    Reference // the full name
	Digest string    // of the manifest, or the index, that the registry has under the name
	New    bool      // the store did not have it under that name
}

// downloads is how many layers are downloaded at once, as by Docker.
const downloads = 3

// Pull brings an image from its registry. The name then stands for it, and so
// does the name with the digest.
func (s *Store) Pull(ctx context.Context, name string, o PullOptions) (*Pulled, error) {
	ref, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	p, err := s.pull(ctx, ref, o)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", ref.Familiar(), err)
	}
	return p, nil
}

func (s *Store) pull(ctx context.Context, ref Reference, o PullOptions) (p *Pulled, err error) {
	l, err := s.newLease()
	if err != nil {
		return nil, err
	}
	l.resumable = true
	defer func() { l.end(err) }()
	s.sweepTemp()
	r, err := connect(ref, o.RegistryOptions)
	if err != nil {
		return nil, err
	}
	if err := r.login(ctx, transport.PullScope); err != nil {
		return nil, err
	}
	u := &puller{Store: s, r: r, l: l, o: o, progress: progressOr(o.Progress)}
	if err := u.find(ctx); err != nil {
		return nil, err
	}
	if err := u.fetchAll(ctx); err != nil {
		return nil, err
	}
	return u.finish()
}

// puller is one pull.
type puller struct {
	*Store
	r        *registry
	l        *lease
	o        PullOptions
	progress Progress

	top      string // digest under the name
	manifest string // digest of the image's manifest
	doc      *document
	config   *config
	id       string
}

// find finds the manifest for the platform and the configuration.
func (u *puller) find(ctx context.Context) error {
	id := u.r.ref.Digest
	if id == "" {
		id = u.r.ref.Tag
	}
	b, digest, err := u.r.fetchManifest(ctx, id)
	if err != nil {
		return err
	}
	u.top = digest
	for depth := 0; ; depth++ {
		if u.doc, err = parseDocument(b); err != nil {
			return fmt.Errorf("manifest %s: %w", digest, err)
		}
		if !u.doc.isIndex() {
			break
		}
		if depth == 4 {
			return fmt.Errorf("manifest %s: indexes are nested too deeply", digest)
		}
		want := hostPlatform()
		if u.o.Platform != nil {
			want = *u.o.Platform
		}
		d, err := choose(u.doc.Manifests, want)
		if err != nil {
			return err
		}
		if b, digest, err = u.r.fetchManifest(ctx, string(d.Digest)); err != nil {
			return err
		}
	}
	u.manifest = digest
	if _, err := u.keepBytes(u.l, b); err != nil {
		return err
	}
	return u.fetchConfig(ctx)
}

func (u *puller) fetchConfig(ctx context.Context) error {
	d := *u.doc.Config
	switch d.MediaType {
	case "", mediaTypeConfig, dockerConfig, "application/octet-stream":
	default:
		return fmt.Errorf("it is no container image: its configuration is of type %s", d.MediaType)
	}
	if err := u.fetch(ctx, u.r, u.l, d, silent{}); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	b, err := u.readBlob(string(d.Digest))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if u.config, err = parseConfig(b); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	u.id = string(d.Digest)
	if len(u.doc.Layers) != len(u.config.RootFS.DiffIDs) {
		return fmt.Errorf("configuration: rootfs.diff_ids has %d layers, the manifest %d", len(u.config.RootFS.DiffIDs), len(u.doc.Layers))
	}
	if u.o.Platform == nil {
		return nil
	}
	have := &Image{OS: u.config.OS, Architecture: u.config.Architecture, Variant: u.config.Variant}
	if w := u.o.Platform; !matches(have, w) {
		return fmt.Errorf("its platform is %s, not %s", platformString(have.OS, have.Architecture, have.Variant), platformString(w.OS, w.Architecture, w.Variant))
	}
	return nil
}

// fetchAll downloads several layers at once and unpacks them in their order,
// each as soon as it and those below it are there.
func (u *puller) fetchAll(ctx context.Context) error {
	layers := u.config.layersOf()
	for _, layer := range layers {
		if err := u.l.hold(string(layer.ChainID)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	bars := make([]Bar, len(layers))
	done := make([]chan error, len(layers))
	present := make([]bool, len(layers))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	slots := make(chan struct{}, downloads)
	for i, d := range u.doc.Layers {
		bars[i] = u.progress.Layer(shortDigest(string(d.Digest)), d.Size)
		done[i] = make(chan error, 1)
		if u.layers.Has(layers[i].ChainID) && u.hasBlob(string(d.Digest)) {
			if err := u.l.hold(string(d.Digest)); err != nil {
				return err
			}
			if u.hasBlob(string(d.Digest)) {
				bars[i].State("Already exists")
				done[i] <- nil
				present[i] = true
				continue
			}
		}
		bars[i].State("Pulling fs layer")
		wg.Go(func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				done[i] <- ctx.Err()
				return
			}
			err := u.fetch(ctx, u.r, u.l, d, bars[i])
			if err == nil {
				bars[i].State("Download complete")
			}
			done[i] <- err
		})
	}
	for i := range layers {
		if err := <-done[i]; err != nil {
			return err
		}
		if err := u.unpackNext(ctx, layers[i], i, bars[i], present[i]); err != nil {
			return err
		}
	}
	return nil
}

// unpackNext unpacks a layer whose blob has come, if it was not present before.
func (u *puller) unpackNext(ctx context.Context, layer snapshot.Layer, i int, bar Bar, present bool) error {
	if present {
		return nil
	}
	if !u.layers.Has(layer.ChainID) {
		bar.State("Extracting")
	}
	if err := u.unpack(ctx, layer, string(u.doc.Layers[i].Digest), bar); err != nil {
		return err
	}
	bar.State("Pull complete")
	return nil
}

// finish gives the image its names.
func (u *puller) finish() (*Pulled, error) {
	ref := u.r.ref
	byDigest := Reference{Domain: ref.Domain, Path: ref.Path, Digest: u.top}
	names := []naming{{ref: byDigest}}
	if ref.Digest == "" {
		names = append(names, naming{ref: ref})
	}
	old, err := u.readRef(ref)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	fresh := err != nil || old.Image != u.id
	i, err := u.commit(u.id, u.config, u.manifest, names...)
	if err != nil {
		return nil, err
	}
	return &Pulled{Image: i, Ref: ref, Digest: u.top, New: fresh}, nil
}
