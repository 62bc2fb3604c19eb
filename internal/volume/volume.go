// Package volume owns volumes: their names, directories, options and who holds
// them. A volume outlives the containers that use it.
//
// It knows no containers, only holders' IDs, and whether one is alive it asks.
// What is mounted where in a container is package spec's.
//
// On disk, below the store's directory:
//
//	NAME/_data          the files, or an empty directory for a volume that is
//	                    mounted from elsewhere (options type, device and o)
//	NAME/volume.json    driver, labels, options; its appearance makes the volume
//	NAME/users/ID       a holder, see package held
//	NAME/fill           content of an image on its way into _data
//	NAME/mounted        the tmpfs that running holders share
//	.new-RANDOM/        a volume in the making, locked by its maker
package volume

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/nearest"
	"github.com/brig-run/brig/internal/volume/held"
)

// LabelAnonymous marks a volume that got its name from Brig, as under Docker.
const LabelAnonymous = "com.docker.volume.anonymous"

// Volume is a volume's record.
type Volume struct {
	Name    string            `json:"-"`
	Created time.Time         `json:"created"`
	Labels  map[string]string `json:"labels,omitempty"`
	Options map[string]string `json:"options,omitempty"`

	dir string
}

// Driver is the only one there is.
const Driver = "local"

// Store is a directory of volumes. Any number of processes may use it.
type Store struct {
	dir, trash string
	alive      func(holder string) bool
}

// Open names a store. Nothing is made or read yet. alive says whether a holder
// still exists; the hold of one that does not is over.
func Open(dir, trash string, alive func(holder string) bool) *Store {
	return &Store{dir: dir, trash: trash, alive: alive}
}

// NotFoundError says that there is no such volume.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string { return "no such volume: " + e.Name }

// InUseError says that a volume is held.
type InUseError struct {
	Name    string
	Holders []string
}

func (e *InUseError) Error() string {
	var short []string
	for _, h := range e.Holders {
		short = append(short, h[:min(12, len(h))])
	}
	return fmt.Sprintf("remove %s: volume is in use - [%s]; remove the container first: brig rm %s", e.Name, strings.Join(short, ", "), short[0])
}

// CheckName refuses what cannot be a volume's name, with Docker's rule.
func CheckName(name string) error {
	ok := len(name) > 1 && len(name) <= 255
	for i, c := range []byte(name) {
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		ok = ok && (alnum || i > 0 && (c == '_' || c == '.' || c == '-'))
	}
	if !ok {
		return fmt.Errorf("volume name %q: use 2 to 255 of [a-zA-Z0-9_.-], beginning with a letter or digit; to bind a directory of the host write ./%s or an absolute path", name, name)
	}
	return nil
}

// CreateOptions are what a volume is made of.
type CreateOptions struct {
	Name    string // "" for an anonymous one
	Driver  string // "" or "local"
	Labels  map[string]string
	Options map[string]string // of the local driver: type, device, o
	// Holder holds the volume from its first moment, if not empty.
	Holder string
	// Fleeting spares waiting for the disk, for a volume that goes with its
	// container.
	Fleeting bool
}

// Create makes a volume, or finds the one that has the name; made says which.
// Options and labels that are asked for and differ from those of a volume that
// is there are an error.
func (s *Store) Create(o CreateOptions) (v *Volume, made bool, err error) {
	if o.Driver != "" && o.Driver != Driver {
		return nil, false, fmt.Errorf("volume driver %q: local is the only driver; its options type, device and o mount other file systems", o.Driver)
	}
	if err := checkOptions(o.Options); err != nil {
		return nil, false, err
	}
	labels := maps.Clone(o.Labels)
	if o.Name == "" {
		o.Name = newName()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[LabelAnonymous] = ""
	} else if err := CheckName(o.Name); err != nil {
		return nil, false, err
	}
	v = &Volume{Name: o.Name, Created: time.Now().UTC(), Labels: labels, Options: o.Options, dir: s.path(o.Name)}
	for {
		err := s.make(v, o)
		if err == nil {
			return v, true, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, false, fmt.Errorf("make volume %s: %w", o.Name, err)
		}
		old, err := s.Find(o.Name)
		var missing *NotFoundError
		if errors.As(err, &missing) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if err := old.same(o); err != nil {
			return nil, false, err
		}
		if o.Holder != "" {
			err = held.Take(old.dir, o.Holder)
		}
		if errors.Is(err, held.ErrGone) {
			continue
		}
		return old, false, err
	}
}

func (s *Store) path(name string) string { return s.dir + "/" + name }

func newName() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// same refuses to pass a volume off as another.
func (v *Volume) same(o CreateOptions) error {
	if len(o.Options) > 0 && !maps.Equal(o.Options, v.Options) {
		return fmt.Errorf("a volume %s exists with other options; remove it first: brig volume rm %s", v.Name, v.Name)
	}
	for k, want := range o.Labels {
		if have, ok := v.Labels[k]; !ok || have != want {
			return fmt.Errorf("a volume %s exists without the label %s=%s; remove it first: brig volume rm %s", v.Name, k, want, v.Name)
		}
	}
	return nil
}

// make puts a volume on disk: complete, under a name of its own, then by one
// rename under its name.
func (s *Store) make(v *Volume, o CreateOptions) error {
	if _, err := os.Stat(v.dir + "/" + held.Users); err == nil {
		return fs.ErrExist
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	tmp, lock, err := s.begin()
	if err != nil {
		return err
	}
	defer lock.Close()
	defer os.RemoveAll(tmp)
	if err := os.Mkdir(tmp+"/_data", 0o755); err != nil {
		return err
	}
	if err := os.Chmod(tmp+"/_data", 0o755); err != nil { // whatever the umask
		return err
	}
	if err := os.Mkdir(tmp+"/"+held.Users, 0o700); err != nil {
		return err
	}
	if o.Holder != "" {
		if err := held.Take(tmp, o.Holder); err != nil {
			return err
		}
	}
	if err := writeFile(tmp+"/volume.json", b, !o.Fleeting); err != nil {
		return err
	}
	for {
		err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, v.dir, unix.RENAME_NOREPLACE)
		if err != unix.EEXIST {
			if err == nil && !o.Fleeting {
				err = syncDir(s.dir)
			}
			return err
		}
		if _, err := os.Stat(v.dir + "/" + held.Users); err == nil {
			return fs.ErrExist
		}
		// What a killed removal left: without users it is no volume any more.
		if err := held.Clean(v.dir, s.trash); err != nil {
			return err
		}
	}
}

// newPrefix begins the names of volumes in the making.
const newPrefix = ".new-"

// begin makes a locked directory. One whose lock is free is garbage.
func (s *Store) begin() (string, *os.File, error) {
	for {
		tmp := s.path(newPrefix + newName()[:16])
		if err := os.Mkdir(tmp, 0o700); err != nil {
			return "", nil, err
		}
		lock, err := lockDir(tmp, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			if _, err := os.Stat(tmp); err == nil {
				return tmp, lock, nil
			}
			lock.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) {
			return "", nil, err
		}
		// Another command took it for garbage before it was locked.
	}
}

// lockDir locks a directory with flock(2).
func lockDir(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
	}
	return f, nil
}

// sweepNew removes what a killed Create left.
func (s *Store) sweepNew(name string) {
	if lock, err := lockDir(s.path(name), unix.LOCK_EX|unix.LOCK_NB); err == nil {
		os.RemoveAll(s.path(name))
		lock.Close()
	}
}

func writeFile(name string, b []byte, durable bool) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil && durable {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Find finds a volume by its name.
func (s *Store) Find(name string) (*Volume, error) {
	if CheckName(name) != nil {
		return nil, &NotFoundError{name}
	}
	v := &Volume{Name: name, dir: s.path(name)}
	if _, err := os.Stat(v.dir + "/" + held.Users); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &NotFoundError{name}
		}
		return nil, err
	}
	b, err := os.ReadFile(v.dir + "/volume.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{name}
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	return v, nil
}

// List gives all volumes by name. What killed commands left is removed on the
// way.
func (s *Store) List() ([]*Volume, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var list []*Volume
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) {
			s.sweepNew(e.Name())
			continue
		}
		v, err := s.Find(e.Name())
		var missing *NotFoundError
		switch {
		case errors.As(err, &missing):
			if CheckName(e.Name()) == nil {
				held.Clean(s.path(e.Name()), s.trash)
			}
		case err != nil:
			return nil, err
		case s.orphaned(v):
			held.Remove(v.dir, s.trash)
		default:
			list = append(list, v)
		}
	}
	return list, nil
}

// orphaned says whether an anonymous volume was made for a container that never
// came to be, or that was killed as it removed itself: all who hold it are dead.
// Their holds end on the way.
func (s *Store) orphaned(v *Volume) bool {
	names, err := v.holders()
	if err != nil || len(names) == 0 || !v.Anonymous() {
		return false
	}
	return len(s.sweep(v, names)) == 0
}

// sweep ends the holds of the dead, and gives the others.
func (s *Store) sweep(v *Volume, names []string) []string {
	return slices.DeleteFunc(names, func(id string) bool {
		if s.alive(id) {
			return false
		}
		return held.Release(v.dir, id) == nil
	})
}

func (v *Volume) holders() ([]string, error) {
	d, err := os.Open(v.dir + "/" + held.Users)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// Holders are the IDs of those who hold the volume.
func (s *Store) Holders(v *Volume) []string {
	names, err := v.holders()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(names, func(id string) bool { return !s.alive(id) })
}

// Remove removes a volume that nobody holds: an *InUseError, or *NotFoundError.
func (s *Store) Remove(name string) error {
	v, err := s.Find(name)
	if err != nil {
		return err
	}
	err = held.Remove(v.dir, s.trash)
	if errors.Is(err, held.ErrHeld) {
		names, err := v.holders()
		if err != nil {
			return err
		}
		if names = s.sweep(v, names); len(names) > 0 {
			return &InUseError{Name: name, Holders: names}
		}
		return s.Remove(name)
	}
	if errors.Is(err, held.ErrMounted) {
		return fmt.Errorf("remove volume %s: %w: umount %s", name, err, v.Data())
	}
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", name, err)
	}
	return nil
}

// Prune removes the volumes that nobody holds and that match, and gives their
// names and the bytes of their files.
func (s *Store) Prune(match func(*Volume) bool) (names []string, bytes int64, err error) {
	list, err := s.List()
	if err != nil {
		return nil, 0, err
	}
	var errs []error
	for _, v := range list {
		if !match(v) || len(s.Holders(v)) > 0 {
			continue
		}
		size, err := v.Size()
		if err == nil {
			err = s.Remove(v.Name)
		}
		var used *InUseError
		switch {
		case err == nil:
			names, bytes = append(names, v.Name), bytes+size
		case !errors.As(err, &used):
			errs = append(errs, err)
		}
	}
	return names, bytes, errors.Join(errs...)
}

// Hold makes holder one of those who need the volume. A volume that is gone is
// a *NotFoundError.
func (v *Volume) Hold(holder string) error {
	err := held.Take(v.dir, holder)
	if errors.Is(err, held.ErrGone) {
		return &NotFoundError{v.Name}
	}
	return err
}

// Dir is the volume's own directory, for package held.
func (s *Store) Dir(name string) string { return s.path(name) }

// Data is the path of the volume's files on the host.
func (v *Volume) Data() string { return v.dir + "/_data" }

// Anonymous says whether the name was made up.
func (v *Volume) Anonymous() bool { _, ok := v.Labels[LabelAnonymous]; return ok }

// unknownKey is the error for a key that there is not.
func unknownKey(what, key string, known ...string) error {
	hint := ""
	if n := nearest.Name(key, slices.Values(known)); n != "" {
		hint = fmt.Sprintf("; did you mean %s?", n)
	}
	return fmt.Errorf("%s: unknown option %q%s; there are %s", what, key, hint, strings.Join(known, ", "))
}
