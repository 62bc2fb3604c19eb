package annotation

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/brig-run/brig/internal/explain"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/internal/witness"
)

// explain says what the container was denied.
func (s *Subject) explain(rec *record.Recording) ([]explain.Line, error) {
	c, err := s.context()
	if err != nil {
		return nil, fmt.Errorf("read the container's seccomp profile: %w", err)
	}
	return explain.Denials(rec.Denials, c), nil
}

// Explained is what is known of a container that was recorded.
type Explained struct {
	ID        string
	Lines     []explain.Line
	Recording *record.Recording
}

// Why says what the container with an ID, or with one that begins so, was denied:
// by now, or in all. It is ErrNone if no such container was recorded.
func Why(places Places, id string) (*Explained, error) {
	dir, err := find(places.Explained, id)
	if err != nil {
		return nil, err
	}
	s, err := readSubject(dir)
	if err != nil {
		return nil, err
	}
	rec, err := witness.Ask(dir)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w: its recorder was killed", s.ID, err)
	}
	lines, err := s.explain(rec)
	return &Explained{ID: s.ID, Lines: lines, Recording: rec}, err
}

// Recorded lists the IDs of containers that were recorded.
func Recorded(places Places) []string {
	entries, _ := os.ReadDir(places.Explained)
	var ids []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			ids = append(ids, e.Name())
		}
	}
	return ids
}

func find(explained, id string) (string, error) {
	if _, after, ok := strings.Cut(id, "://"); ok { // containerd://ID, as Kubernetes has it
		id = after
	}
	if id == "" || strings.ContainsAny(id, "/") || strings.HasPrefix(id, ".") {
		return "", ErrNone
	}
	var found []string
	for _, name := range Recorded(Places{Explained: explained}) {
		if name == id {
			found = []string{name}
			break
		}
		if len(id) >= 4 && strings.HasPrefix(name, id) {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 0:
		return "", ErrNone
	case 1:
		return filepath.Join(explained, found[0]), nil
	}
	return "", fmt.Errorf("the ID %s is ambiguous: %s", id, strings.Join(found, ", "))
}
