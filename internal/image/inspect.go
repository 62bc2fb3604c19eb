package image

import (
	"encoding/json"
	"fmt"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Inspection is what is known of an image, in the shape of docker image inspect.
type Inspection struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Parent       string
	Comment      string
	Created      string
	Author       string
	Config       InspectedConfig
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	OsVersion    string `json:",omitempty"`
	Size         int64
	GraphDriver  GraphDriver
	RootFS       InspectedRootFS
	Metadata     Metadata
	Manifest     string // digest of the manifest kept for push and save
}

// InspectedConfig is an image's Config, with the fields of Docker's that the
// OCI specification leaves out.
type InspectedConfig struct {
	v1.ImageConfig
	Healthcheck *Healthcheck `json:",omitempty"`
	OnBuild     []string     `json:",omitempty"`
	Shell       []string     `json:",omitempty"`
}

// Healthcheck is Docker's; the times are in nanoseconds.
type Healthcheck struct {
	Test          []string      `json:",omitempty"`
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

// GraphDriver says how layers are kept: as directories of overlayfs.
type GraphDriver struct {
	Name string
	Data map[string]string
}

// InspectedRootFS lists the digests of the unpacked layers' archives.
type InspectedRootFS struct {
	Type   string
	Layers []string
}

// Metadata is what the store, not the image, knows.
type Metadata struct {
	LastTagTime time.Time
}

// Inspect tells all about an image. Its errors are those of Resolve.
func (s *Store) Inspect(name string) (*Inspection, error) {
	i, err := s.Find(name)
	if err != nil {
		return nil, err
	}
	b, err := s.readBlob(i.ID)
	if err != nil {
		return nil, fmt.Errorf("inspect image %s: %w", name, err)
	}
	c, err := parseConfig(b)
	if err != nil {
		return nil, fmt.Errorf("inspect image %s: %w", name, err)
	}
	var more struct {
		Config    InspectedConfig `json:"config"`
		OSVersion string          `json:"os.version"`
	}
	if err := json.Unmarshal(b, &more); err != nil {
		return nil, fmt.Errorf("inspect image %s: %w", name, err)
	}
	v := &Inspection{
		ID: i.ID, RepoTags: i.RepoTags, RepoDigests: i.RepoDigests, Comment: c.Comment, Author: c.Author,
		Config: more.Config, Architecture: i.Architecture, Variant: i.Variant, Os: i.OS, OsVersion: more.OSVersion,
		Size: i.Size, GraphDriver: GraphDriver{Name: "overlay", Data: map[string]string{}},
		RootFS: InspectedRootFS{Type: "layers", Layers: []string{}}, Manifest: i.Manifest,
	}
	if !i.Created.IsZero() {
		v.Created = i.Created.Format(time.RFC3339Nano)
	}
	for _, d := range c.RootFS.DiffIDs {
		v.RootFS.Layers = append(v.RootFS.Layers, string(d))
	}
	v.Metadata.LastTagTime = s.lastTagged(i)
	return v, nil
}

// HistoryEntry is a step by which an image was made.
type HistoryEntry struct {
	ID        string // of the image after the step, if it is known
	Created   time.Time
	CreatedBy string
	Size      int64 // bytes of the step's layer
	Comment   string
	Tags      []string
}

// History gives the steps by which an image was made, the last first. Its errors are those
// of Resolve.
func (s *Store) History(name string) ([]HistoryEntry, error) {
	i, err := s.Find(name)
	if err != nil {
		return nil, err
	}
	b, err := s.readBlob(i.ID)
	if err != nil {
		return nil, fmt.Errorf("history of image %s: %w", name, err)
	}
	c, err := parseConfig(b)
	if err != nil {
		return nil, fmt.Errorf("history of image %s: %w", name, err)
	}
	chains := c.chains()
	var list []HistoryEntry
	next := 0
	for _, h := range c.History {
		e := HistoryEntry{CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			e.Created = *h.Created
		}
		if !h.EmptyLayer && next < len(chains) {
			if e.Size, err = s.layers.Size(chains[next]); err != nil {
				return nil, fmt.Errorf("history of image %s: %w", name, err)
			}
			next++
		}
		list = append(list, e)
	}
	// A history need not tell of all layers.
	for ; next < len(chains); next++ {
		e := HistoryEntry{Created: i.Created}
		if e.Size, err = s.layers.Size(chains[next]); err != nil {
			return nil, fmt.Errorf("history of image %s: %w", name, err)
		}
		list = append(list, e)
	}
	for a, b := 0, len(list)-1; a < b; a, b = a+1, b-1 {
		list[a], list[b] = list[b], list[a]
	}
	if len(list) > 0 {
		list[0].ID, list[0].Tags = i.ID, i.RepoTags
	}
	return list, nil
}
