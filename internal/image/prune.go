package image

import (
	"errors"

	"github.com/opencontainers/go-digest"
)

// Prune removes the images that match and that no container needs, with all
// their names, and gives what went and the bytes of its layers. inUse is that of
// Remove.
func (s *Store) Prune(match func(*Image) bool, inUse func(imageID string) []string) (*Removed, int64, error) {
	list, err := s.List()
	if err != nil {
		return nil, 0, err
	}
	sizes := map[string]int64{}
	chains, err := s.layers.List()
	if err != nil {
		return nil, 0, err
	}
	for _, c := range chains {
		if n, err := s.layers.Size(digest.Digest(c)); err == nil {
			sizes[string(c)] = n
		}
	}
	all := &Removed{}
	var errs []error
	for _, i := range list {
		if !match(i) || len(inUse(i.ID)) > 0 {
			continue
		}
		r, err := s.Remove(i.ID, true, inUse)
		var used *InUseError
		var gone *NotFoundError
		switch {
		case errors.As(err, &used), errors.As(err, &gone): // since we looked
		case err != nil:
			errs = append(errs, err)
		}
		if r != nil {
			all.Untagged, all.Deleted = append(all.Untagged, r.Untagged...), append(all.Deleted, r.Deleted...)
		}
	}
	var bytes int64
	for _, d := range all.Deleted {
		bytes += sizes[d]
	}
	return all, bytes, errors.Join(errs...)
}
