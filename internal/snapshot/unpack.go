package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Layer names a layer by what it holds and by what lies below it, in the terms
// of the OCI image specification (config.md, "Layer DiffID" and "Layer
// ChainID").
type Layer struct {
	ChainID digest.Digest
	DiffID  digest.Digest   // digest of the uncompressed tar stream
	Parents []digest.Digest // chain IDs of the layers below, base first
}

// check refuses a layer whose chain ID is not that of its parent and diff ID:
// stored under a wrong name it would poison every image that shares the name.
func (l Layer) check() error {
	if err := l.DiffID.Validate(); err != nil {
		return fmt.Errorf("diff ID %q: %w", l.DiffID, err)
	}
	want := l.DiffID
	if n := len(l.Parents); n > 0 {
		want = digest.FromString(string(l.Parents[n-1]) + " " + string(l.DiffID))
	}
	if l.ChainID != want {
		return fmt.Errorf("chain ID %s does not follow from the parents and diff ID, which give %s", l.ChainID, want)
	}
	return nil
}

// Unpack makes the layer from its uncompressed tar stream r, or does nothing
// when the store has it. The parents must be there already. Of several callers
// with one chain, in one or several processes, one works and the others wait
// for it without touching their r. The stream is read to its end, trailing
// padding included, and must have the digest DiffID. Whatever goes wrong,
// nothing is left of the layer; a killed process leaves garbage that the next
// Unpack of the chain, or GC, removes. When ctx ends, Unpack returns its error
// as soon as the pending read of r returns.
func (s *Store) Unpack(ctx context.Context, l Layer, r io.Reader) error {
	final, err := s.layerDir(l.ChainID)
	if err == nil {
		err = l.check()
	}
	if err == nil && !exists(final) {
		err = s.unpack(ctx, l, final, r)
	}
	if err != nil {
		return fmt.Errorf("unpack layer %s: %w", l.DiffID, err)
	}
	return nil
}

func (s *Store) unpack(ctx context.Context, l Layer, final string, r io.Reader) (err error) {
	tmp := s.tmp() + "/" + filepath.Base(final)
	lock, err := s.claim(ctx, tmp)
	if err != nil {
		return err
	}
	// Closed last: nobody may see the lock free while we still clean up.
	defer lock.Close()
	if exists(final) { // whoever held the lock before us has done it
		return os.RemoveAll(tmp)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	if err := clearDir(tmp); err != nil {
		return err
	}
	lower, err := s.openLower(l.Parents)
	if err != nil {
		return err
	}
	defer lower.close()
	if err := s.extract(ctx, l, tmp, lower, r); err != nil {
		return err
	}
	// One syncfs in place of an fsync for each file. The kernel reports
	// write-back errors by it since 5.8 (syncfs(2)).
	if err := unix.Syncfs(int(lock.Fd())); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := unix.Rename(tmp, final); err != nil {
		return fmt.Errorf("rename to %s: %w", final, err)
	}
	return syncDir(s.dir)
}

// claim makes the directory tmp and locks it. It waits for whoever has the
// lock, until ctx ends.
func (s *Store) claim(ctx context.Context, tmp string) (*lockedDir, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := unix.Mkdir(tmp, 0o700); err != nil && err != unix.EEXIST {
			return nil, fmt.Errorf("make %s: %w", tmp, err)
		}
		lock, err := lockDir(tmp, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			lock, err = waitLock(ctx, tmp)
		}
		if errors.Is(err, unix.ENOENT) {
			continue // finished or collected since we made it
		}
		if err != nil {
			return nil, err
		}
		if lock.still(tmp) {
			return lock, nil
		}
		lock.Close()
	}
}

// waitLock waits for the lock of a directory until ctx ends. A wait in flock(2)
// cannot be broken off: it is left behind, and lets go what it gets.
func waitLock(ctx context.Context, path string) (*lockedDir, error) {
	type result struct {
		lock *lockedDir
		err  error
	}
	got := make(chan result)
	go func() {
		lock, err := lockDir(path, unix.LOCK_EX)
		select {
		case got <- result{lock, err}:
		case <-ctx.Done():
			if lock != nil {
				lock.Close()
			}
		}
	}()
	select {
	case res := <-got:
		return res.lock, res.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// clearDir deletes what a dead process has left in the directory.
func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(dir + "/" + e.Name()); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// extract fills tmp/fs from the stream, checks the digest and writes
// tmp/layer.json.
func (s *Store) extract(ctx context.Context, l Layer, tmp string, lower stack, r io.Reader) error {
	limits := s.Limits
	if limits.Bytes <= 0 {
		limits.Bytes = defaultBytes
	}
	if limits.Entries <= 0 {
		limits.Entries = defaultEntries
	}
	src := &source{ctx: ctx, r: r, hash: l.DiffID.Algorithm().Hash(), left: limits.Bytes, max: limits.Bytes}
	stream := newReadAhead(src)
	defer stream.close()
	size, err := apply(ctx, tmp, lower, limits, stream)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return fmt.Errorf("read to the end: %w", err)
	}
	if got := digest.NewDigest(l.DiffID.Algorithm(), src.hash); got != l.DiffID {
		return fmt.Errorf("digest of the content is %s", got)
	}
	b, err := json.Marshal(record{DiffID: l.DiffID, Parents: l.Parents, Size: size})
	if err != nil {
		return err
	}
	return os.WriteFile(tmp+"/layer.json", b, 0o600)
}

// openLower opens the lower directories of the parents, topmost first.
func (s *Store) openLower(parents []digest.Digest) (stack, error) {
	var st stack
	for i := len(parents) - 1; i >= 0; i-- {
		dir, err := s.layerDir(parents[i])
		if err != nil {
			st.close()
			return nil, err
		}
		fd, err := unix.Open(dir+"/fs", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			st.close()
			if err == unix.ENOENT {
				return nil, fmt.Errorf("parent %s: %w: unpack the layers base first", parents[i], ErrNotFound)
			}
			return nil, fmt.Errorf("parent %s: %w", parents[i], &fs.PathError{Op: "open", Path: dir + "/fs", Err: err})
		}
		st = append(st, fd)
	}
	return st, nil
}
