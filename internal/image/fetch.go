package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// fetch downloads a blob. What a broken connection or a dead process has left
// of it is not downloaded again. Of several who want the same blob one works,
// and the others wait for it.
func (s *Store) fetch(ctx context.Context, r *registry, l *lease, d v1.Descriptor, bar Bar) error {
	digest := string(d.Digest)
	if err := l.hold(digest); err != nil {
		return err
	}
	if s.hasBlob(digest) {
		return nil
	}
	p, err := s.openPartial(ctx, digest, bar)
	if err != nil {
		return fmt.Errorf("download %s: %w", digest, err)
	}
	defer p.file.Close()
	if s.hasBlob(digest) { // by whoever had the lock before us
		os.Remove(p.file.Name())
		return nil
	}
	p.want, p.bar = d, bar
	if err := p.download(ctx, r); err != nil {
		return fmt.Errorf("download %s: %w", digest, err)
	}
	if err := p.file.Sync(); err != nil {
		return fmt.Errorf("download %s: %w", digest, err)
	}
	if err := os.Rename(p.file.Name(), s.blobPath(digest)); err != nil {
		return fmt.Errorf("download %s: %w", digest, err)
	}
	return syncDir(s.path("blobs/sha256"))
}

// partial is a blob on its way, locked.
type partial struct {
	file *os.File
	want v1.Descriptor
	bar  Bar
	hash hash.Hash
	have int64
}

// openPartial opens and locks the file of a partial download.
func (s *Store) openPartial(ctx context.Context, digest string, bar Bar) (*partial, error) {
	path := s.path("partial/") + strings.TrimPrefix(digest, "sha256:")
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := lockPatiently(ctx, f, bar); err != nil {
			f.Close()
			return nil, err
		}
		if same(f, path) {
			return &partial{file: f}, nil
		}
		f.Close() // it has become a blob meanwhile, or was collected
	}
}

// lockPatiently waits for a lock until the context ends. It asks again and
// again, because a wait in flock(2) cannot be broken off.
func lockPatiently(ctx context.Context, f *os.File, bar Bar) error {
	for {
		err := flock(f, unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK {
			return err
		}
		bar.State("Waiting")
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// errDigest says that a blob is not what its digest promises.
var errDigest = errors.New("the digest of the content differs; the registry or something between is broken")

// download fetches what is missing, over as many connections as it takes.
func (p *partial) download(ctx context.Context, r *registry) error {
	if err := p.resume(); err != nil {
		return err
	}
	resumed := p.have > 0
	for try := 1; ; {
		before := p.have
		err := p.read(ctx, r)
		if err == nil {
			err = p.verify()
			if err == nil {
				return nil
			}
			if rerr := p.restart(); rerr != nil {
				return rerr
			}
			if !resumed {
				return err
			}
			// What lay here was bad: all over, once.
			resumed = false
			continue
		}
		var told *registryError
		var local *localError
		var answer *transport.Error // a request that failed was repeated already
		if ctx.Err() != nil || errors.As(err, &told) || errors.As(err, &local) || errors.As(err, &answer) || errors.Is(err, errTooLong) || !passing(err) {
			return err
		}
		if p.have > before {
			try = 1
		}
		if try == maxTries {
			return err
		}
		p.bar.State(fmt.Sprintf("Retrying in %s", min(firstPause<<(try-1), longestPause)))
		if err := pause(ctx, try, 0); err != nil {
			return err
		}
		try++
	}
}

// resume takes up what the file holds.
func (p *partial) resume() error {
	p.hash, p.have = sha256.New(), 0
	fi, err := p.file.Stat()
	if err != nil {
		return err
	}
	if fi.Size() > p.want.Size {
		return p.restart()
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.have, err = io.Copy(p.hash, p.file)
	return err
}

// restart throws away what the file holds.
func (p *partial) restart() error {
	p.hash, p.have = sha256.New(), 0
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err := p.file.Seek(0, io.SeekStart)
	return err
}

func (p *partial) verify() error {
	if got := "sha256:" + hex.EncodeToString(p.hash.Sum(nil)); got != string(p.want.Digest) {
		return fmt.Errorf("%w: it is %s", errDigest, got)
	}
	return nil
}

// localError is a failure of this machine, such as a full disk.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

var errTooLong = errors.New("the registry sends more than the manifest says")

// read reads over one connection from where the file ends. Nil says that the
// file has its full length.
func (p *partial) read(ctx context.Context, r *registry) error {
	if p.have == p.want.Size {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	header := http.Header{}
	if p.have > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", p.have))
	}
	resp, err := r.get(ctx, "blobs/"+string(p.want.Digest), header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := p.align(resp); err != nil {
		return err
	}
	p.bar.State("Downloading")
	stall := time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	defer stall.Stop()
	_, err = io.Copy(p, &watched{io.LimitReader(resp.Body, p.want.Size-p.have+1), stall})
	switch {
	case context.Cause(ctx) == errStalled:
		return errStalled
	case err != nil:
		return err
	case p.have < p.want.Size:
		return io.ErrUnexpectedEOF
	case p.have > p.want.Size:
		p.restart()
		return errTooLong
	}
	return nil
}

// align makes the file end where the answer begins.
func (p *partial) align(resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusPartialContent:
		var from int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); err != nil || from != p.have {
			return p.restartWith(fmt.Errorf("the registry answers a range with %q", resp.Header.Get("Content-Range")))
		}
		return nil
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return p.restartWith(errors.New("the registry refuses to go on where the download stopped"))
	case p.have > 0: // it knows no ranges
		return p.restart()
	}
	return nil
}

func (p *partial) restartWith(err error) error {
	if rerr := p.restart(); rerr != nil {
		return &localError{rerr}
	}
	return err
}

func (p *partial) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.hash.Write(b[:n])
	p.have += int64(n)
	p.bar.Set(p.have, p.want.Size)
	if err != nil {
		err = &localError{err}
	}
	return n, err
}

var errStalled = fmt.Errorf("nothing came for %s", stallTimeout)

// watched puts off an alarm with each byte.
type watched struct {
	r     io.Reader
	alarm *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.alarm.Reset(stallTimeout)
	}
	return n, err
}

// fetchManifest gives a manifest or an index and its digest. id is a tag or a
// digest.
func (r *registry) fetchManifest(ctx context.Context, id string) ([]byte, string, error) {
	header := http.Header{"Accept": {strings.Join([]string{mediaTypeManifest, mediaTypeIndex, dockerManifest, dockerManifestList}, ", ")}}
	var b []byte
	for try := 1; ; try++ {
		resp, err := r.get(ctx, "manifests/"+id, header)
		if err != nil {
			return nil, "", err
		}
		b, err = readSmall(resp.Body)
		resp.Body.Close()
		if err == nil {
			digest := digestOf(b)
			if want := resp.Header.Get("Docker-Content-Digest"); strings.HasPrefix(want, "sha256:") && want != digest {
				return nil, "", fmt.Errorf("manifest %s: %w: it is %s, the registry says %s", id, errDigest, digest, want)
			}
			if strings.HasPrefix(id, "sha256:") && id != digest {
				return nil, "", fmt.Errorf("manifest %s: %w: it is %s", id, errDigest, digest)
			}
			if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
				return nil, "", fmt.Errorf("manifest %s: the registry's answer is no manifest", id)
			}
			return b, digest, nil
		}
		if try == maxTries || ctx.Err() != nil || len(b) > maxJSON {
			return nil, "", fmt.Errorf("manifest %s: %w", id, err)
		}
		if err := pause(ctx, try, 0); err != nil {
			return nil, "", err
		}
	}
}
