package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// PushOptions say how an image is pushed.
type PushOptions struct {
	RegistryOptions
	Progress Progress
}

// Pushed is what Push has done.
type Pushed struct {
	Ref    Reference
	Digest string // of the manifest
	Size   int64  // of the manifest, in bytes
}

// Push sends the image of that name to the registry in the name. The manifest
// is the one that came with the image, byte for byte, unless its layers lie
// here uncompressed: a registry gets them compressed with gzip, and the
// manifest that says so is kept, so that the next push sends the same.
func (s *Store) Push(ctx context.Context, name string, o PushOptions) (*Pushed, error) {
	i, ref, err := s.resolve(name)
	if err != nil {
		return nil, err
	}
	if ref == nil || ref.Tag == "" {
		return nil, fmt.Errorf("push %s: it says not where to; give the image a name with brig tag %s REGISTRY/NAME:TAG, and push that", name, name)
	}
	p, err := s.push(ctx, i, *ref, o)
	if err != nil {
		return nil, fmt.Errorf("push %s: %w", ref.Familiar(), err)
	}
	return p, nil
}

func (s *Store) push(ctx context.Context, i *Image, ref Reference, o PushOptions) (p *Pushed, err error) {
	l, err := s.newLease()
	if err != nil {
		return nil, err
	}
	defer func() { l.end(err) }()
	rr, err := s.readRef(ref)
	if err != nil {
		return nil, err
	}
	u := &pusher{Store: s, l: l, image: i, progress: progressOr(o.Progress)}
	if u.raw, u.doc, err = s.manifestOf(i, rr.Manifest); err != nil {
		return nil, err
	}
	if err := u.compress(); err != nil {
		return nil, err
	}
	if u.r, err = connect(ref, o.RegistryOptions); err != nil {
		return nil, err
	}
	if err := u.send(ctx, ref); err != nil {
		return nil, err
	}
	return u.remember(ref, rr)
}

// manifestOf gives a manifest of an image: the one named, or its first.
func (s *Store) manifestOf(i *Image, digest string) ([]byte, *document, error) {
	if digest == "" {
		digest = i.Manifest
	}
	b, err := s.readBlob(digest)
	if err != nil {
		return nil, nil, fmt.Errorf("manifest: %w", err)
	}
	d, err := parseDocument(b)
	if err != nil {
		return nil, nil, fmt.Errorf("manifest %s: %w", digest, err)
	}
	return b, d, nil
}

type pusher struct {
	*Store
	l        *lease
	r        *registry
	image    *Image
	raw      []byte
	doc      *document
	progress Progress
}

// compress makes compressed layers, and a manifest with them, if the manifest
// has layers that are not.
func (u *pusher) compress() error {
	layers := slices.Clone(u.doc.Layers)
	changed := false
	for i, d := range layers {
		if d.MediaType != mediaTypeLayer && d.MediaType != "application/vnd.docker.image.rootfs.diff.tar" {
			continue
		}
		bar := u.progress.Layer(shortDigest(string(d.Digest)), d.Size)
		bar.State("Compressing")
		z, err := u.compressLayer(d, bar)
		if err != nil {
			return fmt.Errorf("compress layer %s: %w", d.Digest, err)
		}
		bar.State("Compressed")
		layers[i], changed = z, true
	}
	if !changed {
		return nil
	}
	m := v1.Manifest{MediaType: mediaTypeManifest, Config: *u.doc.Config, Layers: layers}
	m.SchemaVersion = 2
	m.Config.MediaType = mediaTypeConfig
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	u.raw = b
	if u.doc, err = parseDocument(b); err != nil {
		return err
	}
	_, err = u.keepBytes(u.l, b)
	return err
}

func (u *pusher) compressLayer(d v1.Descriptor, bar Bar) (v1.Descriptor, error) {
	f, err := os.Open(u.blobPath(string(d.Digest)))
	if err != nil {
		return d, err
	}
	defer f.Close()
	t, err := u.newTemp()
	if err != nil {
		return d, err
	}
	defer t.discard()
	z := gzip.NewWriter(t)
	if _, err := io.Copy(z, &barReader{r: f, bar: bar, total: d.Size}); err != nil {
		return d, err
	}
	if err := z.Close(); err != nil {
		return d, err
	}
	size := t.size
	dg, err := u.keep(u.l, t)
	return v1.Descriptor{MediaType: mediaTypeLayer + "+gzip", Digest: digest.Digest(dg), Size: size}, err
}

// send uploads blobs and then the manifest that needs them.
func (u *pusher) send(ctx context.Context, ref Reference) error {
	p, err := remote.NewPusher(remote.WithTransport(u.r.base), remote.WithAuth(u.r.auth), remote.WithUserAgent(userAgent),
		remote.WithRetryBackoff(remote.Backoff{Duration: firstPause, Factor: 2, Jitter: 0.1, Steps: maxTries}),
		remote.WithRetryPredicate(retryUpload))
	if err != nil {
		return err
	}
	sources, err := u.sources(ref)
	if err != nil {
		return err
	}
	if err := u.sendBlobs(ctx, p, sources); err != nil {
		return u.r.explain(err)
	}
	m := &rawManifest{b: u.raw, mediaType: u.doc.MediaType}
	if m.mediaType == "" {
		m.mediaType = mediaTypeManifest
	}
	if err := p.Put(ctx, u.r.repo.Tag(ref.Tag), m); err != nil {
		return u.r.explain(err)
	}
	return nil
}

// retryUpload says whether an upload that failed is begun again.
func retryUpload(err error) bool {
	var t interface{ Temporary() bool }
	if errors.As(err, &t) && t.Temporary() {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isTimeout(err) && !errors.Is(err, context.DeadlineExceeded)
}

func (u *pusher) sendBlobs(ctx context.Context, p *remote.Pusher, sources map[string]name.Repository) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	slots := make(chan struct{}, downloads)
	seen := make(map[digest.Digest]bool)
	for _, d := range append(slices.Clone(u.doc.Layers), *u.doc.Config) {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		bar := Bar(silent{})
		if d.Digest != u.doc.Config.Digest {
			bar = u.progress.Layer(shortDigest(string(d.Digest)), d.Size)
			bar.State("Preparing")
		}
		b := &blobLayer{path: u.blobPath(string(d.Digest)), d: d, bar: bar}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := u.sendBlob(ctx, p, b, sources[string(d.Digest)]); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (u *pusher) sendBlob(ctx context.Context, p *remote.Pusher, b *blobLayer, from name.Repository) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var layer ggcr.Layer = b
	mountable := from != (name.Repository{}) && from != u.r.repo
	if mountable {
		layer = &remote.MountableLayer{Layer: b, Reference: from.Tag(defaultTag)}
	}
	if err := p.Upload(ctx, u.r.repo, layer); err != nil {
		return err
	}
	switch {
	case b.opened.Load():
		b.bar.State("Pushed")
	case mountable:
		// The registry had it, here or there: go-containerregistry does not say.
		b.bar.State("Mounted from " + from.RepositoryStr())
	default:
		b.bar.State("Layer already exists")
	}
	return nil
}

// sources finds, for each blob of the image, another repository of the same
// registry which has it, because an image that we know by that name has it.
func (u *pusher) sources(ref Reference) (map[string]name.Repository, error) {
	refs, err := u.refs()
	if err != nil {
		return nil, err
	}
	all := make(map[string]name.Repository)
	for r, rr := range refs {
		if r.Domain != ref.Domain || r.Path == ref.Path || r.Digest == "" {
			continue // only a digest proves that the registry had it
		}
		i, err := u.readRecord(rr.Image)
		if err != nil {
			continue
		}
		_, d, err := u.manifestOf(i, rr.Manifest)
		if err != nil {
			continue
		}
		for _, l := range append(d.Layers, *d.Config) {
			all[string(l.Digest)] = u.r.repo.Registry.Repo(r.Path)
		}
	}
	return all, nil
}

// remember notes the digest that the image now has in the registry.
func (u *pusher) remember(ref Reference, rr refRecord) (*Pushed, error) {
	digest := digestOf(u.raw)
	unlock, err := u.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	p := &Pushed{Ref: ref, Digest: digest, Size: int64(len(u.raw))}
	if _, err := u.readRecord(u.image.ID); err != nil {
		return p, nil // removed meanwhile: it is pushed all the same
	}
	rr.Image, rr.Manifest = u.image.ID, ""
	if digest != u.image.Manifest {
		rr.Manifest = digest
	}
	if cur, err := u.readRef(ref); err == nil && cur.Image == rr.Image {
		rr.Fingerprint = cur.Fingerprint
		if err := u.setRef(ref, rr); err != nil {
			return nil, err
		}
	}
	rr.Fingerprint = ""
	return p, u.setRef(Reference{Domain: ref.Domain, Path: ref.Path, Digest: digest}, rr)
}

// rawManifest is a manifest as go-containerregistry wants it.
type rawManifest struct {
	b         []byte
	mediaType string
}

func (m *rawManifest) RawManifest() ([]byte, error)        { return m.b, nil }
func (m *rawManifest) MediaType() (types.MediaType, error) { return types.MediaType(m.mediaType), nil }

// blobLayer is a blob as go-containerregistry wants it.
type blobLayer struct {
	path   string
	d      v1.Descriptor
	bar    Bar
	opened atomic.Bool
}

func (b *blobLayer) Digest() (ggcr.Hash, error)           { return ggcr.NewHash(string(b.d.Digest)) }
func (b *blobLayer) DiffID() (ggcr.Hash, error)           { return ggcr.Hash{}, errors.New("not known") }
func (b *blobLayer) Size() (int64, error)                 { return b.d.Size, nil }
func (b *blobLayer) MediaType() (types.MediaType, error)  { return types.MediaType(b.d.MediaType), nil }
func (b *blobLayer) Uncompressed() (io.ReadCloser, error) { return nil, errors.New("not known") }

// Compressed is called when the registry really wants the blob.
func (b *blobLayer) Compressed() (io.ReadCloser, error) {
	f, err := os.Open(b.path)
	if err != nil {
		return nil, err
	}
	b.opened.Store(true)
	b.bar.State("Pushing")
	return struct {
		io.Reader
		io.Closer
	}{&barReader{r: f, bar: b.bar, total: b.d.Size}, f}, nil
}

// TagsOf lists the names with a tag that the store has in a repository.
func (s *Store) TagsOf(repository string) ([]string, error) {
	r, err := ParseReference(repository)
	if err != nil {
		return nil, err
	}
	refs, err := s.refs()
	if err != nil {
		return nil, err
	}
	var names []string
	for o := range refs {
		if o.Repository() == r.Repository() && o.Tag != "" {
			names = append(names, o.Familiar())
		}
	}
	slices.SortFunc(names, strings.Compare)
	if len(names) == 0 {
		return nil, &NotFoundError{r.FamiliarName()}
	}
	return names, nil
}
