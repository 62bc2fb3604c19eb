package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brig-run/brig/internal/tree"
)

const (
	maxMembers    = 100000    // entries of an archive
	maxSpooled    = 8192      // of these, files too large to be held in memory
	maxInline     = 64 << 10  // bytes of a file that is held in memory
	maxInlineAll  = 256 << 20 // of all those together
	maxMemberName = 4096      // PATH_MAX
)

// archive is an image archive, read once from the first byte to the last: its
// table of contents may come anywhere, and it may come through a pipe. Its
// files wait under temporary names, its links are names only; nothing is ever
// created under a path of its choice.
type archive struct {
	s       *Store
	files   map[string]*member
	links   map[string]string // symbolic and hard links, to cleaned targets
	spooled int
	inline  int
}

// member is a file of an archive.
type member struct {
	data   []byte    // if it is small
	temp   *tempFile // if it is not; nil once it was kept as a blob
	digest string
	size   int64
}

// readArchive reads a tar archive, compressed or not.
func (s *Store) readArchive(ctx context.Context, r io.Reader) (*archive, error) {
	z, _, err := decompress(tree.WithContext(ctx, r))
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	defer z.Close()
	a := &archive{s: s, files: make(map[string]*member), links: make(map[string]string)}
	if err := a.read(z); err != nil {
		a.close()
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	return a, nil
}

func (a *archive) read(r io.Reader) error {
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF && n > 0 {
			return nil
		}
		if err == io.EOF {
			return errors.New("it is empty")
		}
		if err == tar.ErrHeader && n == 0 {
			return errors.New("it is not a tar archive")
		}
		if err != nil {
			return err
		}
		if n == maxMembers {
			return fmt.Errorf("more than %d entries", maxMembers)
		}
		if err := a.add(h, t); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
}

func (a *archive) add(h *tar.Header, r io.Reader) error {
	name, err := memberName(h.Name)
	if err != nil {
		return err
	}
	if sparse(h) {
		return errors.New("a sparse file has no place in an image archive")
	}
	switch h.Typeflag {
	case tar.TypeReg:
		m, err := a.spool(r)
		if err != nil {
			return err
		}
		a.drop(name)
		a.files[name] = m
	case tar.TypeSymlink, tar.TypeLink:
		target := h.Linkname
		if h.Typeflag == tar.TypeSymlink {
			target = path.Join(path.Dir(name), target)
			if path.IsAbs(h.Linkname) {
				return fmt.Errorf("link to %q leads out of the archive", h.Linkname)
			}
		}
		if target, err = memberName(target); err != nil {
			return err
		}
		a.drop(name)
		a.links[name] = target
	case tar.TypeDir:
	default:
		return fmt.Errorf("type %q has no place in an image archive", h.Typeflag)
	}
	return nil
}

// sparse says whether a header may stand for more bytes than the archive holds.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// memberName cleans the name of an entry, and refuses one that leads out.
func memberName(name string) (string, error) {
	if len(name) > maxMemberName {
		return "", errors.New("its name is too long")
	}
	if slices.Contains(strings.Split(name, "/"), "..") && strings.HasPrefix(path.Clean(name), "..") || path.IsAbs(name) {
		return "", fmt.Errorf("%q leads out of the archive", name)
	}
	return path.Clean(name), nil
}

// spool takes in a file.
func (a *archive) spool(r io.Reader) (*member, error) {
	head, err := io.ReadAll(io.LimitReader(r, maxInline+1))
	if err != nil {
		return nil, err
	}
	if len(head) <= maxInline {
		if a.inline += len(head); a.inline > maxInlineAll {
			return nil, fmt.Errorf("the small files together exceed %d MiB", maxInlineAll>>20)
		}
		return &member{data: head, digest: digestOf(head), size: int64(len(head))}, nil
	}
	if a.spooled++; a.spooled > maxSpooled {
		return nil, fmt.Errorf("more than %d large files", maxSpooled)
	}
	t, err := a.s.newTemp()
	if err != nil {
		return nil, err
	}
	if _, err = t.Write(head); err == nil {
		_, err = io.Copy(t, r)
	}
	if err != nil {
		t.discard()
		return nil, err
	}
	return &member{temp: t, digest: t.digest(), size: t.size}, nil
}

func (a *archive) drop(name string) {
	if m := a.files[name]; m != nil && m.temp != nil {
		m.temp.discard()
	}
	delete(a.files, name)
	delete(a.links, name)
}

func (a *archive) close() {
	for name := range a.files {
		a.drop(name)
	}
}

// get finds a file by name, through links of the archive.
func (a *archive) get(name string) (*member, error) {
	clean, err := memberName(name)
	if err != nil {
		return nil, err
	}
	for hops := 0; hops < 16; hops++ {
		if m := a.files[clean]; m != nil {
			return m, nil
		}
		target, ok := a.links[clean]
		if !ok {
			return nil, &missingError{name}
		}
		clean = target
	}
	return nil, fmt.Errorf("%s is a link that leads in a circle", name)
}

// missingError says that an archive lacks a file.
type missingError struct{ name string }

func (e *missingError) Error() string { return e.name + " is missing in the archive" }

// json gives the content of a small file.
func (a *archive) json(name string) ([]byte, error) {
	m, err := a.get(name)
	if err != nil {
		return nil, err
	}
	r, err := m.open(a.s)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := readSmall(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

func (a *archive) has(name string) bool {
	_, err := a.get(name)
	return err == nil
}

// open reads the file, wherever it is now.
func (m *member) open(s *Store) (io.ReadCloser, error) {
	switch {
	case m.data != nil:
		return io.NopCloser(strings.NewReader(string(m.data))), nil
	case m.temp != nil:
		return os.Open(m.temp.file.Name())
	}
	return os.Open(s.blobPath(m.digest))
}

// keep makes a blob of the file.
func (m *member) keep(s *Store, l *lease) error {
	if m.temp == nil && m.data == nil {
		return l.hold(m.digest)
	}
	if m.data != nil {
		_, err := s.keepBytes(l, m.data)
		return err
	}
	if _, err := s.keep(l, m.temp); err != nil {
		return err
	}
	m.temp = nil
	return nil
}

// keepLayer makes a blob of the file and describes it as a layer.
func (m *member) keepLayer(s *Store, l *lease) (v1.Descriptor, error) {
	r, err := m.open(s)
	if err != nil {
		return v1.Descriptor{}, err
	}
	defer r.Close()
	z, c, err := decompress(r)
	if err != nil {
		return v1.Descriptor{}, err
	}
	z.Close()
	mt, err := layerMediaType(c)
	if err != nil {
		return v1.Descriptor{}, err
	}
	return v1.Descriptor{MediaType: mt, Digest: digest.Digest(m.digest), Size: m.size}, m.keep(s, l)
}

// diffID is the digest of the file when unpacked.
func (m *member) diffID(s *Store) (string, error) {
	r, err := m.open(s)
	if err != nil {
		return "", err
	}
	defer r.Close()
	z, _, err := decompress(r)
	if err != nil {
		return "", err
	}
	defer z.Close()
	h := digest.Canonical.Hash()
	if _, err := io.Copy(h, z); err != nil {
		return "", err
	}
	return string(digest.NewDigest(digest.Canonical, h)), nil
}
