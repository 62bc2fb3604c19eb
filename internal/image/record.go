package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image in the store. It is also the record on disk.
type Image struct {
	ID           string         `json:"id"`               // sha256:HEX of the configuration
	Layers       []string       `json:"layers,omitempty"` // chain IDs, base first
	Config       v1.ImageConfig `json:"config"`
	Healthcheck  *Healthcheck   `json:"healthcheck,omitempty"`
	Shell        []string       `json:"shell,omitempty"` // for it
	Architecture string         `json:"architecture"`
	OS           string         `json:"os"`
	Variant      string         `json:"variant,omitempty"`
	Created      time.Time      `json:"created"`
	Size         int64          `json:"size"`     // bytes of all unpacked layers
	Manifest     string         `json:"manifest"` // digest of the manifest that lists the layer blobs

	// RepoTags and RepoDigests are the image's names, as Docker shows them.
	// Only List, Inspect and Find fill them: they change, and a start does not
	// need them.
	RepoTags    []string `json:"-"`
	RepoDigests []string `json:"-"`

	refs []Reference
}

// refRecord is the content of a file below refs.
type refRecord struct {
	Image string `json:"image"`
	// Manifest is what the name's manifest is, if not the image's first.
	Manifest string `json:"manifest,omitempty"`
	// Fingerprint is that of AddLocal.
	Fingerprint string `json:"fingerprint,omitempty"`
}

// NotFoundError says that the store has no image of that name.
type NotFoundError struct {
	Name string // as Docker prints it, with :latest
}

func (e *NotFoundError) Error() string { return "no such image: " + e.Name }

// PlatformError says that the image is there, but for another platform.
type PlatformError struct {
	Name       string
	Have, Want string // such as linux/arm64
}

func (e *PlatformError) Error() string {
	return fmt.Sprintf("image %s was found, but its platform (%s) does not match the specified platform (%s); pull it with --platform %s",
		e.Name, e.Have, e.Want, e.Want)
}

// damagedError says that a name has lost its image.
type damagedError struct{ name string }

func (e *damagedError) Error() string {
	return fmt.Sprintf("image %s is damaged: its record is missing; remove the name with brig rmi and pull it again", e.name)
}

// Resolve finds an image by name, ID (with or without sha256:) or the beginning
// of an ID. A platform refuses an image made for another one; nil takes what is
// there. Errors are *NotFoundError, *PlatformError, or wrap what failed.
//
// It stands on the start-up path: two small files are read.
func (s *Store) Resolve(name string, p *v1.Platform) (*Image, error) {
	i, _, err := s.resolve(name)
	if err != nil {
		return nil, err
	}
	if p != nil && !matches(i, p) {
		return nil, &PlatformError{name, platformString(i.OS, i.Architecture, i.Variant), platformString(p.OS, p.Architecture, p.Variant)}
	}
	return i, nil
}

// resolve also says by which reference the image was found; nil if by its ID.
func (s *Store) resolve(name string) (*Image, *Reference, error) {
	hex := strings.TrimPrefix(name, "sha256:")
	if len(hex) == 64 && isHex(hex) {
		i, err := s.readRecord("sha256:" + hex)
		if errors.Is(err, fs.ErrNotExist) {
			err = &NotFoundError{name}
		}
		return i, nil, err
	}
	ref, err := ParseReference(name)
	if err == nil {
		var rr refRecord
		rr, err = s.readRef(ref)
		if err == nil {
			i, err := s.readRecord(rr.Image)
			if errors.Is(err, fs.ErrNotExist) {
				err = &damagedError{name}
			}
			return i, &ref, err
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = &NotFoundError{ref.Familiar()}
		}
	}
	if isHex(hex) {
		if i, perr := s.resolvePrefix(hex); perr != nil || i != nil {
			return i, nil, perr
		}
	}
	return nil, nil, err
}

// resolvePrefix gives nil if no ID begins so.
func (s *Store) resolvePrefix(prefix string) (*Image, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	found := ""
	for _, id := range ids {
		if strings.HasPrefix(id[len("sha256:"):], prefix) {
			if found != "" {
				return nil, fmt.Errorf("image ID %s is ambiguous: %s and %s begin with it", prefix, found, id)
			}
			found = id
		}
	}
	if found == "" {
		return nil, nil
	}
	return s.readRecord(found)
}

// ids gives the IDs of all images.
func (s *Store) ids() ([]string, error) {
	entries, err := os.ReadDir(s.path("records"))
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if hex, ok := strings.CutSuffix(e.Name(), ".json"); ok && len(hex) == 64 && isHex(hex) {
			ids = append(ids, "sha256:"+hex)
		}
	}
	return ids, nil
}

func (s *Store) readRecord(id string) (*Image, error) {
	if !validDigest(id) {
		return nil, fmt.Errorf("image ID %q: not a digest", id)
	}
	b, err := os.ReadFile(s.recordPath(id))
	if err != nil {
		return nil, fmt.Errorf("read image %s: %w", id, err)
	}
	i := &Image{}
	if err := json.Unmarshal(b, i); err != nil {
		return nil, fmt.Errorf("read image %s: %s: %w", id, s.recordPath(id), err)
	}
	return i, nil
}

func (s *Store) readRef(r Reference) (refRecord, error) {
	var rr refRecord
	b, err := os.ReadFile(s.refPath(r))
	if err != nil {
		return rr, fmt.Errorf("read reference %s: %w", r.Familiar(), err)
	}
	if err := json.Unmarshal(b, &rr); err != nil {
		return rr, fmt.Errorf("read reference %s: %s: %w", r.Familiar(), s.refPath(r), err)
	}
	return rr, nil
}

// writeRef makes a name mean an image. The store is locked by the caller.
func (s *Store) writeRef(r Reference, rr refRecord) error {
	path := s.refPath(r)
	if err := s.makeRefDir(r); err != nil {
		return fmt.Errorf("write reference %s: %w", r.Familiar(), err)
	}
	b, err := json.Marshal(rr)
	if err == nil {
		err = s.writeFile(path, b)
	}
	if err != nil {
		return fmt.Errorf("write reference %s: %w", r.Familiar(), err)
	}
	return nil
}

// makeRefDir makes the directories of a reference so that they last.
func (s *Store) makeRefDir(r Reference) error {
	dir := s.path("refs")
	for part := range strings.SplitSeq(r.Repository(), "/") {
		parent := dir
		dir += "/" + part
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			err = syncDir(parent)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// removeRef takes a name away, and the directories that it leaves empty.
func (s *Store) removeRef(r Reference) error {
	path := s.refPath(r)
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove reference %s: %w", r.Familiar(), err)
	}
	root := s.path("refs")
	for {
		path = path[:strings.LastIndexByte(path, '/')]
		if err := syncDir(path); err != nil {
			return fmt.Errorf("remove reference %s: %w", r.Familiar(), err)
		}
		if path == root || os.Remove(path) != nil {
			return nil
		}
	}
}

// refs gives all names and what they mean.
func (s *Store) refs() (map[Reference]refRecord, error) {
	all := make(map[Reference]refRecord)
	root := s.path("refs")
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != "." {
			return nil // gone meanwhile
		}
		if err != nil || e.IsDir() {
			return err
		}
		r, ok := referenceOfFile(path)
		if !ok {
			return nil
		}
		rr, err := s.readRef(r)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		all[r] = rr
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list references: %w", err)
	}
	return all, nil
}

// names fills in the names of images.
func (s *Store) names(images ...*Image) error {
	refs, err := s.refs()
	if err != nil {
		return err
	}
	byID := make(map[string]*Image, len(images))
	for _, i := range images {
		byID[i.ID] = i
	}
	for r, rr := range refs {
		if i := byID[rr.Image]; i != nil {
			i.refs = append(i.refs, r)
		}
	}
	for _, i := range images {
		slices.SortFunc(i.refs, func(a, b Reference) int { return strings.Compare(a.Familiar(), b.Familiar()) })
		i.RepoTags, i.RepoDigests = []string{}, []string{}
		for _, r := range i.refs {
			if r.Digest != "" {
				i.RepoDigests = append(i.RepoDigests, r.Familiar())
			} else {
				i.RepoTags = append(i.RepoTags, r.Familiar())
			}
		}
	}
	return nil
}

// List gives all images with their names, the youngest first.
func (s *Store) List() ([]*Image, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var all []*Image
	for _, id := range ids {
		i, err := s.readRecord(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, s.names(all...)
}

// Find is Resolve with the image's names filled in.
func (s *Store) Find(name string) (*Image, error) {
	i, err := s.Resolve(name, nil)
	if err != nil {
		return nil, err
	}
	return i, s.names(i)
}

// hostPlatform is that of this program, and so of the machine.
func hostPlatform() v1.Platform {
	p := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	switch p.Architecture {
	case "arm64":
		p.Variant = "v8"
	case "arm":
		p.Variant = "v7"
	}
	return p
}

// normalize fills in and unifies what images and users spell in several ways.
func normalize(p v1.Platform) v1.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	if p.OS == "" {
		p.OS = "linux"
	}
	switch p.Architecture {
	case "":
		host := hostPlatform()
		p.Architecture = host.Architecture
		if p.Variant == "" {
			p.Variant = host.Variant
		}
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "i386", "i486", "i586", "i686":
		p.Architecture = "386"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch {
	case p.Architecture == "arm64" && (p.Variant == "" || p.Variant == "8"):
		p.Variant = "v8"
	case p.Architecture == "amd64" && p.Variant == "v1":
		p.Variant = ""
	case p.Architecture == "arm" && len(p.Variant) == 1:
		p.Variant = "v" + p.Variant
	}
	return p
}

// matches says whether the image is for the platform. A variant counts only if
// both name one.
func matches(i *Image, want *v1.Platform) bool {
	have := normalize(v1.Platform{OS: i.OS, Architecture: i.Architecture, Variant: i.Variant})
	w := normalize(*want)
	if have.OS != w.OS || have.Architecture != w.Architecture {
		return false
	}
	return have.Variant == "" || w.Variant == "" || have.Variant == w.Variant
}

func platformString(os, arch, variant string) string {
	s := os + "/" + arch
	if variant != "" {
		s += "/" + variant
	}
	return s
}

// lastTagged is when the youngest of an image's names was written.
func (s *Store) lastTagged(i *Image) (t time.Time) {
	for _, r := range i.refs {
		if fi, err := os.Stat(s.refPath(r)); err == nil && fi.ModTime().After(t) {
			t = fi.ModTime().UTC()
		}
	}
	return t
}
