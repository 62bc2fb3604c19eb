package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brig-run/brig/internal/tree"
)

// ImportOptions say what becomes of a file system's archive.
type ImportOptions struct {
	Name     string // empty for an image with an ID only
	Message  string
	Config   v1.ImageConfig // see Change
	Platform *v1.Platform   // nil for this machine's
	Progress Progress
}

// Import makes an image of one layer of a tar archive of a root file system,
// compressed or not, and returns its ID.
func (s *Store) Import(ctx context.Context, r io.Reader, o ImportOptions) (id string, err error) {
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
	id, err = s.importLayer(ctx, l, r, o, names)
	if err != nil {
		return "", fmt.Errorf("import: %w", err)
	}
	return id, nil
}

// namesOfNew is the name that an image gets that is made here, if any.
func namesOfNew(name string) ([]naming, error) {
	if name == "" {
		return nil, nil
	}
	ref, err := ParseReference(name)
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" {
		return nil, fmt.Errorf("invalid image reference %q: a digest follows from the content, leave it out", name)
	}
	return []naming{{ref: ref}}, nil
}

func (s *Store) importLayer(ctx context.Context, l *lease, r io.Reader, o ImportOptions, names []naming) (string, error) {
	layer, diffID, err := s.keepLayer(l, tree.WithContext(ctx, r))
	if err != nil {
		return "", err
	}
	if layer.Size == 0 {
		return "", errors.New("the archive is empty")
	}
	p := hostPlatform()
	if o.Platform != nil {
		p = normalize(*o.Platform)
	}
	now := time.Now().UTC()
	configJSON, err := json.Marshal(v1.Image{
		Created:  &now,
		Platform: v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant},
		Config:   o.Config,
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
		History:  []v1.History{{Created: &now, Comment: o.Message}},
	})
	if err != nil {
		return "", err
	}
	i, err := s.build(ctx, l, configJSON, []v1.Descriptor{layer}, o.Progress, names...)
	if err != nil {
		return "", err
	}
	return i.ID, nil
}
