package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// leaseAge is how long what a failed or killed pull has fetched waits for
// another try.
const leaseAge = 24 * time.Hour

// InUseError says that containers need an image.
type InUseError struct {
	Name       string
	ID         string
	Containers []string
	Forceable  bool
}

func (e *InUseError) Error() string {
	id := shortDigest(e.ID)
	users := "container " + strings.Join(e.Containers, ", ")
	if len(e.Containers) > 1 {
		users = "containers " + strings.Join(e.Containers, ", ")
	}
	if !e.Forceable {
		return fmt.Sprintf("conflict: unable to delete %s (cannot be forced): image is being used by %s; remove that first, with brig rm", id, users)
	}
	return fmt.Sprintf("conflict: unable to remove repository reference %q (must force): image %s is being used by %s; -f takes the name off and keeps the image",
		e.Name, id, users)
}

// Removed lists what Remove has done, in its order.
type Removed struct {
	Untagged []string // names
	Deleted  []string // IDs and layers' chain IDs
}

// Remove takes a name off an image; with its last name the image goes too. By
// its ID an image goes with all its names, which more than one repository makes
// an error, unless forced. inUse gives the containers that need an image: they
// keep it, and force takes off only its names. nil stands for no containers.
//
// What no image and no process at work needs any more is deleted: layers,
// blobs, and what processes that died have left.
func (s *Store) Remove(name string, force bool, inUse func(imageID string) []string) (r *Removed, err error) {
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	i, ref, err := s.resolve(name)
	var bad *damagedError
	if errors.As(err, &bad) && ref != nil {
		return &Removed{Untagged: []string{ref.Familiar()}}, s.removeRef(*ref)
	}
	if err != nil {
		return nil, err
	}
	if err := s.names(i); err != nil {
		return nil, err
	}
	var users []string
	if inUse != nil {
		users = inUse(i.ID)
	}
	doomed, last, err := toRemove(i, ref, force)
	if err != nil {
		return nil, err
	}
	if last && len(users) > 0 && (!force || ref == nil && len(doomed) == 0) {
		return nil, &InUseError{Name: name, ID: i.ID, Containers: users, Forceable: ref != nil}
	}
	r = &Removed{}
	for _, d := range doomed {
		if err := s.removeRef(d); err != nil {
			return r, err
		}
		r.Untagged = append(r.Untagged, d.Familiar())
	}
	if !last || len(users) > 0 {
		return r, nil
	}
	return r, s.delete(i, r)
}

// toRemove chooses the names to take off; last says that none is left then.
func toRemove(i *Image, ref *Reference, force bool) (doomed []Reference, last bool, err error) {
	if ref == nil {
		repos := make(map[string]bool)
		for _, r := range i.refs {
			repos[r.Repository()] = true
		}
		if len(repos) > 1 && !force {
			return nil, false, fmt.Errorf("conflict: unable to delete %s (must be forced): image is referenced in multiple repositories: %s; use -f, or remove the names one by one",
				shortDigest(i.ID), strings.Join(append(slices.Clone(i.RepoTags), i.RepoDigests...), ", "))
		}
		return i.refs, true, nil
	}
	own := *ref
	if own.Digest != "" {
		own.Tag = "" // a digest wins over a tag
	}
	doomed = []Reference{own}
	left := slices.DeleteFunc(slices.Clone(i.refs), func(r Reference) bool { return r == own })
	// Digests of a repository go with its last tag, as under Docker.
	if own.Tag != "" && !slices.ContainsFunc(left, func(r Reference) bool { return r.Repository() == own.Repository() && r.Tag != "" }) {
		var rest []Reference
		for _, r := range left {
			if r.Repository() == own.Repository() {
				doomed = append(doomed, r)
			} else {
				rest = append(rest, r)
			}
		}
		left = rest
	}
	return doomed, len(left) == 0, nil
}

// delete removes an image without names, and what only it needed.
func (s *Store) delete(i *Image, r *Removed) error {
	// A lease of a process that was killed half way makes others collect.
	l, err := s.newLease()
	if err != nil {
		return err
	}
	defer func() {
		os.Remove(l.f.Name())
		l.f.Close()
	}()
	if err := os.Remove(s.recordPath(i.ID)); err != nil {
		return fmt.Errorf("remove image %s: %w", i.ID, err)
	}
	if err := syncDir(s.path("records")); err != nil {
		return fmt.Errorf("remove image %s: %w", i.ID, err)
	}
	r.Deleted = append(r.Deleted, i.ID)
	layers, err := s.collect(0)
	r.Deleted = append(r.Deleted, layers...)
	if err != nil {
		return fmt.Errorf("remove image %s: %w", i.ID, err)
	}
	return nil
}

// Tag gives an image another name. What had the name before keeps its others.
func (s *Store) Tag(source, target string) error {
	ref, err := ParseReference(target)
	if err != nil {
		return err
	}
	if ref.Digest != "" {
		return fmt.Errorf("invalid image reference %q: a digest follows from the content; use NAME:TAG", target)
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	i, from, err := s.resolve(source)
	if err != nil {
		return err
	}
	rr := refRecord{Image: i.ID}
	if from != nil {
		old, err := s.readRef(*from)
		if err != nil {
			return err
		}
		rr.Manifest = old.Manifest
	}
	return s.setRef(ref, rr)
}

// roots is what must not be collected: digests of blobs and chain IDs.
type roots map[string]bool

func (r roots) add(names ...string) {
	for _, n := range names {
		r[n] = true
	}
}

// collect deletes what nobody needs: leases that are older than age and have
// no owner, blobs and layers that no image and no other lease names, half-made
// files. It gives the layers that went. The store is locked by the caller.
func (s *Store) collect(age time.Duration) ([]string, error) {
	keep, err := s.roots(age)
	if err != nil {
		return nil, fmt.Errorf("collect garbage: %w", err) // an unreadable image must not lose its layers
	}
	s.sweepTemp()
	if err := s.collectFiles(keep); err != nil {
		return nil, fmt.Errorf("collect garbage: %w", err)
	}
	chains, err := s.layers.List()
	if err != nil {
		return nil, err
	}
	var gone []string
	var errs []error
	for _, c := range chains {
		if keep[string(c)] {
			continue
		}
		if err := s.layers.Remove(digest.Digest(c)); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, string(c))
	}
	return gone, errors.Join(append(errs, s.layers.GC())...)
}

// roots gathers what images and leases need, and removes leases that are over.
func (s *Store) roots(age time.Duration) (roots, error) {
	keep := roots{}
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		i, err := s.readRecord(id)
		if err != nil {
			return nil, err
		}
		keep.add(i.ID, i.Manifest)
		keep.add(i.Layers...)
		if err := s.addManifest(keep, i.Manifest); err != nil {
			return nil, err
		}
	}
	refs, err := s.refs()
	if err != nil {
		return nil, err
	}
	for _, rr := range refs {
		if rr.Manifest != "" {
			if err := s.addManifest(keep, rr.Manifest); err != nil {
				return nil, err
			}
		}
	}
	return keep, s.addLeases(keep, age)
}

// addManifest adds what a manifest lists. One that is gone lists nothing.
func (s *Store) addManifest(keep roots, digest string) error {
	b, err := s.readBlob(digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d, err := parseDocument(b)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", digest, err)
	}
	keep.add(digest, string(d.Config.Digest))
	for _, l := range d.Layers {
		keep.add(string(l.Digest))
	}
	return nil
}

func (s *Store) addLeases(keep roots, age time.Duration) error {
	var failed error
	err := s.eachLease(func(f *os.File, live bool) {
		if !live && over(f, age) {
			failed = errors.Join(failed, os.Remove(f.Name()))
			return
		}
		b, err := io.ReadAll(f)
		if err != nil {
			failed = errors.Join(failed, err)
		}
		keep.add(strings.Fields(string(b))...)
	})
	return errors.Join(err, failed)
}

// collectFiles deletes blobs, whole and partial, that are not to be kept.
func (s *Store) collectFiles(keep roots) error {
	for _, dir := range []string{"blobs/sha256", "partial"} {
		entries, err := os.ReadDir(s.path(dir))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if keep["sha256:"+e.Name()] {
				continue
			}
			if err := os.Remove(s.path(dir) + "/" + e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// sweepTemp removes the temporary files of dead processes.
func (s *Store) sweepTemp() {
	entries, _ := os.ReadDir(s.path("tmp"))
	for _, e := range entries {
		path := s.path("tmp/") + e.Name()
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && same(f, path) {
			os.Remove(path)
		}
		f.Close()
	}
}

// tidy collects garbage if there may be some: after a failure, and when a
// process has died while it removed something, or long ago. What fails here the
// next one does.
func (s *Store) tidy(failed bool) {
	found := failed
	s.eachLease(func(f *os.File, live bool) {
		found = found || !live && over(f, leaseAge)
	})
	if !found {
		return
	}
	unlock, err := s.lock()
	if err != nil {
		return
	}
	defer unlock()
	s.collect(leaseAge)
}

// over says whether a lease without an owner protects nothing any more.
func over(f *os.File, age time.Duration) bool {
	fi, err := f.Stat()
	return err == nil && (fi.Size() == 0 || time.Since(fi.ModTime()) >= age)
}
