package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/snapshot"
)

// Store is the images of one root directory. Its methods may be called by
// several goroutines and several processes at once.
type Store struct {
	dir    string
	layers *snapshot.Store
}

// Open opens the store in root/images, made if it is missing. An existing one
// costs one system call.
func Open(root string, layers *snapshot.Store) (*Store, error) {
	s := &Store{dir: root + "/images", layers: layers}
	var st unix.Stat_t
	if unix.Stat(s.path("tmp"), &st) == nil {
		return s, nil
	}
	// tmp comes last: its being there says that the others are.
	for _, d := range []string{"blobs/sha256", "records", "refs", "partial", "leases", "tmp"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	return s, nil
}

func (s *Store) path(name string) string { return s.dir + "/" + name }

// blobPath is where a blob is or would be. The digest must be valid.
func (s *Store) blobPath(digest string) string {
	return s.path("blobs/sha256/") + strings.TrimPrefix(digest, "sha256:")
}

func (s *Store) recordPath(id string) string {
	return s.path("records/") + strings.TrimPrefix(id, "sha256:") + ".json"
}

func (s *Store) refPath(r Reference) string { return s.path("refs/") + r.file() }

func (s *Store) hasBlob(digest string) bool {
	var st unix.Stat_t
	return unix.Stat(s.blobPath(digest), &st) == nil
}

// blobSize is the size of a blob in bytes, or an error if it is not there.
func (s *Store) blobSize(digest string) (int64, error) {
	fi, err := os.Stat(s.blobPath(digest))
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// maxJSON bounds configurations, manifests and indexes. Registries refuse
// manifests above 4 MiB; configurations of real images are far smaller.
const maxJSON = 8 << 20

// readBlob reads a small blob and checks its digest: what a failing disk has
// done to it must not pass for the image.
func (s *Store) readBlob(digest string) ([]byte, error) {
	f, err := os.Open(s.blobPath(digest))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readSmall(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if digestOf(b) != digest {
		return nil, fmt.Errorf("%s is damaged: its content has another digest; remove the image and pull it again", f.Name())
	}
	return b, nil
}

// readSmall reads up to maxJSON bytes.
func readSmall(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxJSON+1))
	if err == nil && len(b) > maxJSON {
		err = fmt.Errorf("larger than %d MiB", maxJSON>>20)
	}
	return b, err
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// tempFile is a file below tmp with a flock on it: one whose lock is free is
// that of a dead process. It counts and hashes what is written.
//
// The file is not embedded: its ReadFrom would take what io.Copy brings past
// the hash.
type tempFile struct {
	file *os.File
	hash hash.Hash
	size int64
	err  error
}

func (s *Store) newTemp() (*tempFile, error) {
	f, err := s.newLocked("tmp")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	return &tempFile{file: f, hash: sha256.New()}, nil
}

// newLocked makes a file with a name of its own in one of the directories.
func (s *Store) newLocked(dir string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(s.path(dir), "")
		if err != nil {
			return nil, err
		}
		// A sweeper may have come between: then its name is gone.
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && same(f, f.Name()) {
			return f, nil
		}
		f.Close()
	}
}

// same says whether path names the open file.
func same(f *os.File, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(int(f.Fd()), &a) == nil && unix.Lstat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

func (t *tempFile) Write(p []byte) (int, error) {
	n, err := t.file.Write(p)
	t.hash.Write(p[:n])
	t.size += int64(n)
	if err != nil {
		t.err = err
	}
	return n, err
}

// ReadFrom copies through Write. Without it io.Copy would find the file's own
// method, and the digest and the size would miss what it copies.
func (t *tempFile) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{t}, r)
}

// digest is that of all that was written.
func (t *tempFile) digest() string { return "sha256:" + hex.EncodeToString(t.hash.Sum(nil)) }

// discard removes the file, if it has not got its final name.
func (t *tempFile) discard() {
	if t.file != nil {
		os.Remove(t.file.Name())
		t.file.Close()
		t.file = nil
	}
}

// publish syncs the file and gives it its final name.
func (t *tempFile) publish(path string) error {
	defer t.discard()
	if err := t.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(t.file.Name(), path); err != nil {
		return err
	}
	t.file.Close()
	t.file = nil
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// writeFile writes a whole file under its final name, atomically and durably.
func (s *Store) writeFile(path string, b []byte) error {
	t, err := s.newTemp()
	if err != nil {
		return err
	}
	defer t.discard()
	if _, err := t.Write(b); err != nil {
		return err
	}
	return t.publish(path)
}

// keep gives a temporary file its place among the blobs and returns its digest.
func (s *Store) keep(l *lease, t *tempFile) (string, error) {
	defer t.discard()
	if t.err != nil {
		return "", t.err
	}
	digest := t.digest()
	if err := l.hold(digest); err != nil {
		return "", err
	}
	if s.hasBlob(digest) {
		return digest, nil
	}
	if err := t.publish(s.blobPath(digest)); err != nil {
		return "", fmt.Errorf("store blob %s: %w", digest, err)
	}
	return digest, nil
}

// keepBytes puts a small blob into the store.
func (s *Store) keepBytes(l *lease, b []byte) (string, error) {
	digest := digestOf(b)
	if err := l.hold(digest); err != nil {
		return "", err
	}
	if s.hasBlob(digest) {
		return digest, nil
	}
	if err := s.writeFile(s.blobPath(digest), b); err != nil {
		return "", fmt.Errorf("store blob %s: %w", digest, err)
	}
	return digest, nil
}

// lock takes the store's lock, for as short as the change of a name takes.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = flock(f, unix.LOCK_EX)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the image store: %w", err)
	}
	return func() { f.Close() }, nil
}

// flock is flock(2), begun anew when a signal interrupts it.
func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// lease is what a process needs while it brings an image in.
type lease struct {
	s *Store
	f *os.File
	// resumable says that what a failed try has fetched is of use to the next.
	resumable bool
}

func (s *Store) newLease() (*lease, error) {
	f, err := s.newLocked("leases")
	if err != nil {
		return nil, fmt.Errorf("make a lease: %w", err)
	}
	return &lease{s: s, f: f}, nil
}

// hold adds digests of blobs and chain IDs of layers to the lease. What is in
// the store when it returns stays until the lease ends.
func (l *lease) hold(names ...string) error {
	unlock, err := l.s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := l.f.WriteString(strings.Join(names, "\n") + "\n"); err != nil {
		return fmt.Errorf("write a lease: %w", err)
	}
	return nil
}

// end gives the lease up. After a failure it stays for a day if the next try
// could use what was fetched; otherwise that is collected at once.
func (l *lease) end(err error) {
	defer l.f.Close()
	fi, serr := l.f.Stat()
	if err != nil && l.resumable && serr == nil && fi.Size() > 0 {
		return
	}
	if err == nil {
		l.s.dropLeases(l) // of earlier tries
	}
	os.Remove(l.f.Name())
	l.s.tidy(err != nil)
}

// dropLeases removes the leases of failed processes that hold nothing which
// this one does not hold as well.
func (s *Store) dropLeases(mine *lease) {
	held := make(map[string]bool)
	b, _ := os.ReadFile(mine.f.Name())
	for name := range bytes.Lines(b) {
		held[string(name)] = true
	}
	s.eachLease(func(f *os.File, live bool) {
		if live {
			return
		}
		b, err := io.ReadAll(f)
		for name := range bytes.Lines(b) {
			if !held[string(name)] {
				return
			}
		}
		if err == nil {
			os.Remove(f.Name())
		}
	})
}

// eachLease shows all leases, and whether their owners live.
func (s *Store) eachLease(show func(f *os.File, live bool)) error {
	entries, err := os.ReadDir(s.path("leases"))
	for _, e := range entries {
		f, err := os.Open(s.path("leases/") + e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		live := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
		show(f, live)
		f.Close()
	}
	return err
}
