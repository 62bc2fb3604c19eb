package harness

import (
	"archive/tar"
	"bytes"
	_ "crypto/sha256" // go-digest asks for it by name
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is a small image of one layer, to be made by a test. The entries are
// written as they are, however hostile.
type Image struct {
	Name   string // name:tag
	Config v1.ImageConfig
	// Docker are members of the config that only Docker's images have.
	Docker struct {
		Healthcheck any      `json:",omitempty"`
		Shell       []string `json:",omitempty"`
	}
	Entries []Entry
}

// Entry is a file of an image.
type Entry struct {
	tar.Header
	Data []byte
}

// File is a regular file.
func File(name string, mode int64, data []byte) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))}, data}
}

// Dir is a directory.
func Dir(name string, mode int64) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}, nil}
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil}
}

// Busybox is an image with a shell and the usual commands, two users (user,
// 1000, in the groups user and extra, and nobody) and Debian's usual
// directories.
func Busybox(name string) (*Image, error) {
	bin, applets, err := busybox()
	if err != nil {
		return nil, err
	}
	image := &Image{Name: name, Config: v1.ImageConfig{
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Cmd: []string{"sh"},
	}}
	for _, d := range []string{"bin", "dev", "etc", "home", "home/user", "proc", "root", "run", "sbin", "sys", "usr", "usr/bin", "var"} {
		image.Entries = append(image.Entries, Dir(d, 0o755))
	}
	image.Entries = append(image.Entries, Dir("tmp", 0o1777), File("bin/busybox", 0o755, bin),
		File("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n")),
		File("etc/group", 0o644, []byte("root:x:0:\nuser:x:1000:\nextra:x:2000:user\nnogroup:x:65534:\n")),
		File("etc/os-release", 0o644, []byte("NAME=test\n")))
	for _, a := range applets {
		if a != "busybox" {
			image.Entries = append(image.Entries, Symlink("bin/"+a, "busybox"))
		}
	}
	return image, nil
}

// busybox reads Debian's static busybox and asks it for its commands.
var busybox = func() func() ([]byte, []string, error) {
	type result struct {
		bin     []byte
		applets []string
	}
	once := sync.OnceValues(func() (result, error) {
		bin, err := os.ReadFile("/bin/busybox")
		if err != nil {
			return result{}, fmt.Errorf("the images need Debian's busybox-static: %w", err)
		}
		out, err := exec.Command("/bin/busybox", "--list").Output()
		return result{bin, strings.Fields(string(out))}, err
	})
	return func() ([]byte, []string, error) {
		r, err := once()
		return r.bin, r.applets, err
	}
}()

// Add puts a file in the image, in the place of what is there under the name.
func (i *Image) Add(e Entry) {
	i.Remove(e.Name)
	i.Entries = append(i.Entries, e)
}

// Remove takes a file, or a directory with all in it, out of the image.
func (i *Image) Remove(name string) {
	name = path.Clean(name)
	i.Entries = slices.DeleteFunc(i.Entries, func(e Entry) bool {
		old := path.Clean(e.Name)
		return old == name || strings.HasPrefix(old, name+"/")
	})
}

// Write writes the image as docker save would.
func (i *Image) Write(w io.Writer) error {
	layer, err := archive(i.Entries)
	if err != nil {
		return err
	}
	config, err := i.config(digest.FromBytes(layer))
	if err != nil {
		return err
	}
	configName := digest.FromBytes(config).Encoded() + ".json"
	layerName := digest.FromBytes(layer).Encoded() + "/layer.tar"
	name := i.Name
	if !strings.Contains(name, ":") {
		name += ":latest"
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": configName, "RepoTags": []string{name}, "Layers": []string{layerName},
	}})
	if err != nil {
		return err
	}
	all, err := archive([]Entry{
		File(configName, 0o644, config),
		File(layerName, 0o644, layer),
		File("manifest.json", 0o644, manifest),
	})
	if err != nil {
		return err
	}
	_, err = w.Write(all)
	return err
}

// Archive gives the image as docker save would.
func Archive(tb testing.TB, image *Image) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := image.Write(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// BusyboxArchive gives the image of Busybox as docker save would.
func BusyboxArchive(tb testing.TB, name string) []byte {
	tb.Helper()
	image, err := Busybox(name)
	if err != nil {
		tb.Fatal(err)
	}
	return Archive(tb, image)
}

func (i *Image) config(layer digest.Digest) ([]byte, error) {
	b, err := json.Marshal(v1.Image{
		Platform: v1.Platform{Architecture: runtime.GOARCH, OS: "linux"},
		Config:   i.Config,
		RootFS:   v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer}},
	})
	more, err2 := json.Marshal(i.Docker)
	if err = errors.Join(err, err2); err != nil || string(more) == "{}" {
		return b, err
	}
	var all, config map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(b, &all), json.Unmarshal(all["config"], &config), json.Unmarshal(more, &config)); err != nil {
		return nil, err
	}
	if all["config"], err = json.Marshal(config); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

func archive(entries []Entry) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.ModTime = time.Unix(1e9, 0)
		if err := w.WriteHeader(&e.Header); err != nil {
			return nil, fmt.Errorf("archive: %s: %w", e.Name, err)
		}
		if _, err := w.Write(e.Data); err != nil {
			return nil, fmt.Errorf("archive: %s: %w", e.Name, err)
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}
