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

// CommitOptions are what Commit makes an image of.
type CommitOptions struct {
	Base      string // ID of the image below
	Name      string // empty for an image with an ID only
	Author    string
	Comment   string
	CreatedBy string         // what the layer was made by
	Config    v1.ImageConfig // the whole of it; what it does not know stays the base's
	Layer     func(io.Writer) error
}

// Commit makes an image that is another with one more layer, written by Layer as
// an uncompressed archive, and returns its ID.
func (s *Store) Commit(ctx context.Context, o CommitOptions) (id string, err error) {
	names, err := namesOfNew(o.Name)
	if err != nil {
		return "", err
	}
	l, err := s.newLease()
	if err != nil {
		return "", err
	}
	defer func() { l.end(err) }()
	s.sweepTemp()
	base, layers, err := s.base(l, o.Base)
	if err != nil {
		return "", err
	}
	t, err := s.newTemp()
	if err != nil {
		return "", err
	}
	defer t.discard()
	if err := o.Layer(t); err != nil {
		return "", err
	}
	size := t.size
	d, err := s.keep(l, t)
	if err != nil {
		return "", err
	}
	configJSON, err := derived(base, digest.Digest(d), &o)
	if err != nil {
		return "", fmt.Errorf("configuration of image %s: %w", o.Base, err)
	}
	layers = append(layers, v1.Descriptor{MediaType: mediaTypeLayer, Digest: digest.Digest(d), Size: size})
	i, err := s.build(ctx, l, configJSON, layers, nil, names...)
	if err != nil {
		return "", err
	}
	return i.ID, nil
}

// base reads the configuration and the layers of an image, which the lease then
// keeps.
func (s *Store) base(l *lease, id string) ([]byte, []v1.Descriptor, error) {
	i, err := s.readRecord(id)
	if err != nil {
		return nil, nil, fmt.Errorf("image %s: %w", id, err)
	}
	b, err := s.readBlob(i.Manifest)
	if err != nil {
		return nil, nil, err
	}
	m, err := parseDocument(b)
	if err != nil {
		return nil, nil, fmt.Errorf("manifest %s: %w", i.Manifest, err)
	}
	hold := []string{i.ID, i.Manifest}
	for _, layer := range m.Layers {
		hold = append(hold, string(layer.Digest))
	}
	for _, h := range append(hold, i.Layers...) {
		if err := l.hold(h); err != nil {
			return nil, nil, err
		}
	}
	b, err = s.readBlob(i.ID)
	return b, m.Layers, err
}

// derived changes a configuration's JSON: what this program does not know of it
// stays.
func derived(base []byte, layer digest.Digest, o *CommitOptions) ([]byte, error) {
	c, err := parseConfig(base)
	if err != nil {
		return nil, err
	}
	var top, config map[string]json.RawMessage
	if err := json.Unmarshal(base, &top); err != nil {
		return nil, err
	}
	if len(top["config"]) > 0 {
		if err := json.Unmarshal(top["config"], &config); err != nil {
			return nil, err
		}
	}
	if config == nil {
		config = map[string]json.RawMessage{}
	}
	for _, key := range []string{"User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal"} {
		delete(config, key)
	}
	if err := overlay(config, o.Config); err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	history := append(c.History, v1.History{Created: &now, CreatedBy: o.CreatedBy, Author: o.Author, Comment: o.Comment})
	for _, key := range []string{"container", "container_config", "author", "comment"} { // those of the base
		delete(top, key)
	}
	err = overlay(top, struct {
		Created time.Time                  `json:"created"`
		Author  string                     `json:"author,omitempty"`
		Comment string                     `json:"comment,omitempty"`
		Config  map[string]json.RawMessage `json:"config"`
		RootFS  v1.RootFS                  `json:"rootfs"`
		History []v1.History               `json:"history"`
	}{now, o.Author, o.Comment, config, v1.RootFS{Type: "layers", DiffIDs: append(c.RootFS.DiffIDs, layer)}, history})
	if err != nil {
		return nil, err
	}
	return json.Marshal(top)
}

// overlay sets the members of v's JSON in m.
func overlay(m map[string]json.RawMessage, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	return err
}
