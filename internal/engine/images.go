package engine

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brig-run/brig/internal/hello"
	"github.com/brig-run/brig/internal/image"
)

// StarterImage is the image that Brig carries in itself: its own binary, which
// as a container's program shows what that container may do.
const StarterImage = "brig/hello"

// IsStarterImage says whether a name is the starter image's.
func IsStarterImage(name string) bool {
	name = strings.TrimPrefix(name, "docker.io/")
	return name == StarterImage || name == StarterImage+":latest"
}

// addStarter puts the starter image into the store, if this very binary's is
// not there yet.
func (e *Engine) addStarter() error {
	images, err := e.Images()
	if err != nil {
		return err
	}
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("open the program to make %s of: %w", StarterImage, err)
	}
	defer exe.Close()
	fi, err := exe.Stat()
	if err != nil {
		return err
	}
	if !static(exe) {
		return errors.New("this brig was not built as a static binary, so it cannot run where its libraries are not; build it with CGO_ENABLED=0")
	}
	config := v1.ImageConfig{
		Entrypoint: []string{"/brig", "hello"},
		Env:        []string{"PATH=/"},
		Labels:     map[string]string{StarterLabel: "1", v1.AnnotationTitle: "Brig's starter image", v1.AnnotationLicenses: "Apache-2.0"},
	}
	fingerprint := fmt.Sprintf("%s %d %d", Version(), fi.Size(), fi.ModTime().UnixNano())
	old, _ := images.Resolve(StarterImage, nil)
	if err := images.AddLocal(StarterImage, config, func(w io.Writer) error { return starterLayer(w, exe, fi) }, fingerprint); err != nil {
		return err
	}
	if now, err := images.Resolve(StarterImage, nil); err == nil && old != nil && old.ID != now.ID {
		images.Remove(old.ID, false, e.ContainersOf) // of an older Brig; stays while a container needs it
	}
	return nil
}

// static says whether an ELF file, elf(5), asks for no interpreter: no dynamic
// linker.
func static(f io.ReaderAt) bool {
	var h [64]byte
	if _, err := f.ReadAt(h[:], 0); err != nil || h[4] != 2 || h[5] != 1 { // 64 bits, little-endian
		return true // not for us to judge
	}
	const ptInterp = 3
	off, size, n := binary.LittleEndian.Uint64(h[32:]), binary.LittleEndian.Uint16(h[54:]), binary.LittleEndian.Uint16(h[56:])
	for i := range uint64(n) {
		var kind [4]byte
		if _, err := f.ReadAt(kind[:], int64(off+i*uint64(size))); err == nil && binary.LittleEndian.Uint32(kind[:]) == ptInterp {
			return false
		}
	}
	return true
}

// starterLayer writes the image's only layer: the binary.
func starterLayer(w io.Writer, exe io.ReadSeeker, fi os.FileInfo) error {
	if _, err := exe.Seek(0, io.SeekStart); err != nil {
		return err
	}
	t := tar.NewWriter(w)
	err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "brig", Mode: 0o755, Size: fi.Size(), ModTime: fi.ModTime(), Format: tar.FormatPAX})
	if err != nil {
		return err
	}
	if _, err := io.Copy(t, exe); err != nil {
		return err
	}
	return t.Close()
}

// StarterLabel marks the image that shows what its container may do.
const StarterLabel = "dev.brig.starter"

func (c *Container) isStarter() bool { return c.ImageConfig.Labels[StarterLabel] != "" }

func hostNamespaces() string {
	var parts []string
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			continue
		}
		number := strings.TrimSuffix(link[strings.IndexByte(link, '[')+1:], "]")
		parts = append(parts, ns+"="+number)
	}
	return hello.HostNamespacesVar + "=" + strings.Join(parts, ",")
}

// FindImage finds an image in the store; platform may be nil. The starter image
// is there whenever it is asked for.
func (e *Engine) FindImage(name string, platform *v1.Platform) (*image.Image, error) {
	if IsStarterImage(name) {
		if err := e.addStarter(); err != nil {
			return nil, fmt.Errorf("make the image %s: %w", StarterImage, err)
		}
	}
	images, err := e.Images()
	if err != nil {
		return nil, err
	}
	return images.Resolve(name, platform)
}

// ContainersOf gives the short IDs of the containers that need an image,
// whether they run or not.
func (e *Engine) ContainersOf(imageID string) []string {
	list, err := e.List()
	if err != nil {
		return []string{"a container (" + err.Error() + ")"} // not known: take care
	}
	var users []string
	for _, c := range list {
		if c.ImageID == imageID {
			users = append(users, c.ID[:12])
		}
	}
	return users
}
