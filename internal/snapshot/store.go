// Package snapshot owns the layers on disk: it unpacks a layer's tar archive
// into an overlayfs lower directory, once, and mounts a stack of them as a
// container's root.
//
// It knows no registries, references, image configurations or containers, and
// it does not count references: whoever removes a layer has made sure that no
// image and no container needs it.
//
// # On disk
//
//	<store>/sha256-<hex of the chain ID>/fs          the lower directory
//	<store>/sha256-<hex of the chain ID>/layer.json  diff ID, parents, size
//	<store>/tmp/sha256-<hex>/                        a layer being unpacked
//	<store>/tmp/sha256-<hex>.removed-<random>/       a layer being deleted
//	<store>/empty/{0,1}                              empty lower directories
//
// A layer appears under its final name by one rename, after its file system
// was synced, so that what has the name is whole, after a power cut as well.
// Whoever works in a directory below tmp holds a flock on it: what lies there
// with a free lock is garbage of a process that died. The store is mode 0700,
// because layers hold set-user-ID programs and device nodes which nobody on
// the host may reach by path.
//
// # Why an applier of our own
//
// A layer is hostile input. The tar appliers of the field (moby/go-archive,
// containerd) join path names as strings and lean on a chroot in a second
// process, or on a resolve step before each use, to keep a layer's symbolic
// links from leading out. Here each system call works relative to a directory
// descriptor that was reached inside the layer without following a link, so
// there is no name that could lead out, and no second process. It also does
// what they leave out: sparse files stay sparse, directories above an entry
// take their owner, mode and attributes from the layer below, default ACLs do
// not leak into the files unpacked after them, an opaque root directory works.
package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Limits bound what one layer may ask of the machine. Zero means the default.
type Limits struct {
	// Bytes is the most that the tar stream may hold, and the most that its
	// files may hold together, with the holes of sparse files counted.
	Bytes int64
	// Entries is the largest number of tar entries.
	Entries int64
}

// The defaults are far above any real layer (the largest known, of machine
// learning images, hold some 50 GiB and 500,000 files) and far below what
// keeps a machine busy for a day.
const (
	defaultBytes   = 256 << 30
	defaultEntries = 4 << 20
)

// Store is a directory of unpacked layers. Its methods may be called by several
// goroutines and several processes at once.
type Store struct {
	// Limits for the layers unpacked from now on; set it before use.
	Limits Limits

	dir string
}

// ErrNotFound says that the store has no layer of that chain ID.
var ErrNotFound = errors.New("no such layer")

// Open opens the store in dir, an absolute or relative path, and makes it when
// it is missing. An existing store costs one system call.
func Open(dir string) (*Store, error) {
	if !filepath.IsAbs(dir) {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("open layer store %s: %w", dir, err)
		}
		dir = abs
	}
	s := &Store{dir: dir}
	var st unix.Stat_t
	err := unix.Stat(s.tmp(), &st)
	if err == nil {
		return s, nil
	}
	if err == unix.ENOENT {
		err = os.MkdirAll(s.tmp(), 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("open layer store %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) tmp() string { return s.dir + "/tmp" }

// layerName turns a chain ID into the name of its directory. It accepts what
// the digest grammar accepts for the algorithms of the OCI image specification,
// and nothing that could be a path. It stands on the start-up path, where the
// regular expression of package digest would be the dearest part.
func layerName(chain string) (string, error) {
	algorithm, hex, _ := strings.Cut(chain, ":")
	want := 0
	switch algorithm {
	case "sha256":
		want = 64
	case "sha384":
		want = 96
	case "sha512":
		want = 128
	}
	if want == 0 || len(hex) != want || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", fmt.Errorf("chain ID %q: not a digest such as sha256:<64 lower-case hex digits>", chain)
	}
	return algorithm + "-" + hex, nil
}

// chainOf is the inverse of layerName. It reports false for names that are not
// those of layers.
func chainOf(name string) (digest.Digest, bool) {
	chain := strings.Replace(name, "-", ":", 1)
	_, err := layerName(chain)
	return digest.Digest(chain), err == nil
}

// layerDir is the path of the layer's directory, whether it exists or not.
func (s *Store) layerDir(chain digest.Digest) (string, error) {
	name, err := layerName(string(chain))
	if err != nil {
		return "", err
	}
	return s.dir + "/" + name, nil
}

// Has says whether the layer is unpacked.
func (s *Store) Has(chain digest.Digest) bool {
	dir, err := s.layerDir(chain)
	if err != nil {
		return false
	}
	return exists(dir)
}

func exists(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil
}

// record is layer.json.
type record struct {
	DiffID  digest.Digest   `json:"diffID"`
	Parents []digest.Digest `json:"parents,omitempty"`
	Size    int64           `json:"size"` // bytes of all files, as their tar headers say
}

// Size returns the bytes that the layer's files hold, hard links counted once
// and holes as if they were data, as Docker counts. The error wraps ErrNotFound
// when the layer is not there.
func (s *Store) Size(chain digest.Digest) (int64, error) {
	dir, err := s.layerDir(chain)
	if err != nil {
		return 0, err
	}
	b, err := os.ReadFile(dir + "/layer.json")
	if errors.Is(err, fs.ErrNotExist) && !exists(dir) {
		return 0, fmt.Errorf("size of layer %s: %w", chain, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("size of layer %s: %w", chain, err)
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return 0, fmt.Errorf("size of layer %s: %s/layer.json: %w", chain, dir, err)
	}
	return r.Size, nil
}

// List returns the chain IDs of all unpacked layers, sorted.
func (s *Store) List() ([]digest.Digest, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	var chains []digest.Digest
	for _, e := range entries {
		if chain, ok := chainOf(e.Name()); ok {
			chains = append(chains, chain)
		}
	}
	return chains, nil
}

// Remove deletes a layer. It vanishes from the store at once and whole; a
// process killed during the deletion leaves garbage for GC. A mounted root that
// uses the layer breaks: the caller counts references. The error wraps
// ErrNotFound when the layer is not there.
func (s *Store) Remove(chain digest.Digest) error {
	dir, err := s.layerDir(chain)
	if err != nil {
		return err
	}
	for {
		doomed := s.tmp() + "/" + filepath.Base(dir) + ".removed-" + strconv.FormatInt(int64(os.Getpid()), 36) + randomSuffix()
		err = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, doomed, unix.RENAME_NOREPLACE)
		if err == unix.EEXIST {
			continue
		}
		if err == unix.ENOENT {
			return fmt.Errorf("remove layer %s: %w", chain, ErrNotFound)
		}
		if err != nil {
			return fmt.Errorf("remove layer %s: %w", chain, err)
		}
		if err := os.RemoveAll(doomed); err != nil {
			return fmt.Errorf("remove layer %s: %w", chain, err)
		}
		return nil
	}
}

// randomSuffix makes names that collide rarely enough; collisions are retried.
func randomSuffix() string {
	var b [8]byte
	unix.Getrandom(b[:], 0)
	return fmt.Sprintf("-%x", b)
}

// GC deletes what processes that died have left behind: half-unpacked and
// half-deleted layers. It leaves alone what living processes work on.
func (s *Store) GC() error {
	entries, err := os.ReadDir(s.tmp())
	if err != nil {
		return fmt.Errorf("clean layer store: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if err := s.collect(s.tmp() + "/" + e.Name()); err != nil {
			errs = append(errs, fmt.Errorf("clean layer store: %w", err))
		}
	}
	return errors.Join(errs...)
}

// collect deletes one directory below tmp unless somebody holds its lock.
func (s *Store) collect(path string) error {
	d, err := lockDir(path, unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case err == nil:
		defer d.Close()
	case errors.Is(err, unix.EWOULDBLOCK), errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.ENOTDIR):
		return err
	}
	// Between the opening and the locking its owner may have given the
	// directory its final name: then nothing is at path any more, or a new
	// directory of somebody who waits for nothing of ours.
	if d != nil && !d.still(path) {
		return nil
	}
	return os.RemoveAll(path)
}

// lockedDir is a directory whose flock we hold.
type lockedDir struct{ *os.File }

// lockDir opens the directory at path and locks it with flock(2).
func lockDir(path string, how int) (*lockedDir, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	for {
		err = unix.Flock(fd, how)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return &lockedDir{os.NewFile(uintptr(fd), path)}, nil
}

// still says whether path names this directory.
func (d *lockedDir) still(path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(int(d.Fd()), &a) == nil && unix.Lstat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}
