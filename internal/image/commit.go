package image

import (
	"bufio"
	"compress/bzip2"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brig-run/brig/internal/snapshot"
)

// unpack makes a layer of a blob, if it is not there yet.
func (s *Store) unpack(ctx context.Context, l snapshot.Layer, blob string, bar Bar) error {
	if s.layers.Has(l.ChainID) {
		return nil
	}
	f, err := os.Open(s.blobPath(blob))
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	z, c, err := decompress(&barReader{r: f, bar: bar, total: fi.Size()})
	if err != nil {
		return fmt.Errorf("layer %s: %w", blob, err)
	}
	defer z.Close()
	if _, err := layerMediaType(c); err != nil {
		return fmt.Errorf("layer %s: %w", blob, err)
	}
	return s.layers.Unpack(ctx, l, z)
}

// layersOf pairs a configuration's layers with their parents.
func (c *config) layersOf() []snapshot.Layer {
	chains := c.chains()
	all := make([]snapshot.Layer, len(chains))
	for i, chain := range chains {
		all[i] = snapshot.Layer{ChainID: chain, DiffID: c.RootFS.DiffIDs[i], Parents: chains[:i:i]}
	}
	return all
}

// naming is a name that an image shall get.
type naming struct {
	ref         Reference
	fingerprint string
}

// commit writes the record of an image whose blobs and layers are in the store,
// and its names. From then on the image is there.
func (s *Store) commit(id string, c *config, manifest string, names ...naming) (*Image, error) {
	i := &Image{
		ID: id, Config: c.Config, Healthcheck: c.health.Config.Healthcheck, Architecture: c.Architecture, OS: c.OS, Variant: c.Variant, Manifest: manifest,
	}
	if i.Healthcheck != nil {
		i.Shell = c.health.Config.Shell
	}
	if c.Created != nil {
		i.Created = c.Created.UTC()
	}
	for _, chain := range c.chains() {
		n, err := s.layers.Size(chain)
		if err != nil {
			return nil, err
		}
		i.Size += n
		i.Layers = append(i.Layers, string(chain))
	}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	// An image that is there keeps its manifest: names may rely on it.
	if old, err := s.readRecord(id); err == nil {
		i = old
	} else if err := s.writeRecord(i); err != nil {
		return nil, err
	}
	for _, n := range names {
		rr := refRecord{Image: id, Fingerprint: n.fingerprint}
		if manifest != i.Manifest {
			rr.Manifest = manifest
		}
		if err := s.setRef(n.ref, rr); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// setRef writes a name unless it means just that already. The store is locked
// by the caller.
func (s *Store) setRef(r Reference, rr refRecord) error {
	if old, err := s.readRef(r); err == nil && old == rr {
		return nil
	}
	return s.writeRef(r, rr)
}

func (s *Store) writeRecord(i *Image) error {
	b, err := json.Marshal(i)
	if err == nil {
		err = s.writeFile(s.recordPath(i.ID), b)
	}
	if err != nil {
		return fmt.Errorf("write image %s: %w", i.ID, err)
	}
	return nil
}

// build makes an image of layer blobs that are in the store, with a manifest of
// our own.
func (s *Store) build(ctx context.Context, l *lease, configJSON []byte, layers []v1.Descriptor, p Progress, names ...naming) (*Image, error) {
	c, err := parseConfig(configJSON)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(layers) != len(c.RootFS.DiffIDs) {
		return nil, fmt.Errorf("configuration: rootfs.diff_ids has %d layers, the image %d", len(c.RootFS.DiffIDs), len(layers))
	}
	id, err := s.keepBytes(l, configJSON)
	if err != nil {
		return nil, err
	}
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaTypeManifest,
		Config: v1.Descriptor{MediaType: mediaTypeConfig, Digest: digest.Digest(id), Size: int64(len(configJSON))},
		Layers: layers,
	}
	if m.Layers == nil {
		m.Layers = []v1.Descriptor{}
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	manifest, err := s.keepBytes(l, b)
	if err != nil {
		return nil, err
	}
	if err := s.unpackAll(ctx, l, c, layers, p); err != nil {
		return nil, err
	}
	return s.commit(id, c, manifest, names...)
}

// unpackAll unpacks all layers of an image whose blobs are there.
func (s *Store) unpackAll(ctx context.Context, l *lease, c *config, layers []v1.Descriptor, p Progress) error {
	p = progressOr(p)
	for i, layer := range c.layersOf() {
		if err := l.hold(string(layer.ChainID)); err != nil {
			return err
		}
		if s.layers.Has(layer.ChainID) {
			continue
		}
		bar := p.Layer(shortDigest(string(layer.DiffID)), layers[i].Size)
		bar.State("Loading layer")
		if err := s.unpack(ctx, layer, string(layers[i].Digest), bar); err != nil {
			return err
		}
		bar.State("Loaded")
	}
	return nil
}

// keepLayer reads a layer's archive to its end and keeps it as it is. The
// second result is the digest of what is in it.
func (s *Store) keepLayer(l *lease, r io.Reader) (v1.Descriptor, digest.Digest, error) {
	t, err := s.newTemp()
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	defer t.discard()
	buffered := bufio.NewReaderSize(r, 64<<10)
	if head, _ := buffered.Peek(3); string(head) == "BZh" {
		r = bzip2.NewReader(buffered) // no form for layers: it is kept unpacked
	} else {
		r = buffered
	}
	diff := digest.Canonical.Hash()
	z, c, err := decompress(io.TeeReader(r, t))
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	defer z.Close()
	mt, err := layerMediaType(c)
	if err != nil {
		return v1.Descriptor{}, "", err
	}
	if _, err := io.Copy(diff, z); err != nil {
		return v1.Descriptor{}, "", fmt.Errorf("read the layer: %w", err)
	}
	// What follows the compressed stream belongs to the blob all the same.
	if _, err := io.Copy(t, r); err != nil {
		return v1.Descriptor{}, "", err
	}
	size := t.size
	d, err := s.keep(l, t)
	return v1.Descriptor{MediaType: mt, Digest: digest.Digest(d), Size: size}, digest.NewDigest(digest.Canonical, diff), err
}
