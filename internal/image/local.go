package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// AddLocal makes an image of one layer, written by layer as a tar archive, and
// gives it a name. If the name stands already for an image made with the same
// fingerprint, nothing is done, and layer is not called: two small files are
// read.
func (s *Store) AddLocal(ref string, ic v1.ImageConfig, layer func(io.Writer) error, fingerprint string) error {
	r, err := ParseReference(ref)
	if err != nil {
		return err
	}
	if rr, err := s.readRef(r); err == nil && rr.Fingerprint == fingerprint {
		if _, err := s.readRecord(rr.Image); err == nil {
			return nil
		}
	}
	if err := s.addLocal(r, ic, layer, fingerprint); err != nil {
		return fmt.Errorf("make image %s: %w", r.Familiar(), err)
	}
	return nil
}

func (s *Store) addLocal(r Reference, ic v1.ImageConfig, layer func(io.Writer) error, fingerprint string) (err error) {
	l, err := s.newLease()
	if err != nil {
		return err
	}
	defer func() { l.end(err) }()
	t, err := s.newTemp()
	if err != nil {
		return err
	}
	defer t.discard()
	if err := layer(t); err != nil {
		return err
	}
	size := t.size
	d, err := s.keep(l, t)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	host := hostPlatform()
	configJSON, err := json.Marshal(v1.Image{
		Created: &now, Platform: v1.Platform{OS: host.OS, Architecture: host.Architecture, Variant: host.Variant}, Config: ic,
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.Digest(d)}},
		History: []v1.History{{Created: &now, CreatedBy: "brig", Comment: "made by Brig from its own program"}},
	})
	if err != nil {
		return err
	}
	layers := []v1.Descriptor{{MediaType: mediaTypeLayer, Digest: digest.Digest(d), Size: size}}
	_, err = s.build(context.Background(), l, configJSON, layers, nil, naming{r, fingerprint})
	return err
}
