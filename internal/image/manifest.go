package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types, of the OCI image specification and of Docker's distribution.
const (
	mediaTypeManifest   = v1.MediaTypeImageManifest
	mediaTypeIndex      = v1.MediaTypeImageIndex
	mediaTypeConfig     = v1.MediaTypeImageConfig
	mediaTypeLayer      = v1.MediaTypeImageLayer
	dockerManifest      = "application/vnd.docker.distribution.manifest.v2+json"
	dockerManifestList  = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifestV1    = "application/vnd.docker.distribution.manifest.v1+json"
	dockerManifestV1Sig = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	dockerConfig        = "application/vnd.docker.container.image.v1+json"
)

// maxLayers is what overlayfs can stack, see package snapshot.
const maxLayers = 500

// maxPlatforms bounds the entries of an index; the largest in use have some 50.
const maxPlatforms = 10000

// document is a manifest or an index: which of the two, its fields say.
type document struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Config        *v1.Descriptor  `json:"config"`
	Layers        []v1.Descriptor `json:"layers"`
	Manifests     []v1.Descriptor `json:"manifests"`
	FSLayers      []any           `json:"fsLayers"` // of schema 1
	ArtifactType  string          `json:"artifactType"`
}

// parseDocument reads a manifest or an index and checks that it is one of the
// two, whatever it calls itself: a document that is both could be read in two
// ways (CVE-2021-41190).
func parseDocument(b []byte) (*document, error) {
	d := &document{}
	if err := json.Unmarshal(b, d); err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	switch {
	case d.FSLayers != nil || d.SchemaVersion == 1:
		return nil, errors.New("it has manifest schema 1, which Docker gave up in 2019; push the image again with a current tool")
	case d.SchemaVersion != 2:
		return nil, fmt.Errorf("schemaVersion is %d; want 2", d.SchemaVersion)
	case d.Manifests != nil && (d.Config != nil || d.Layers != nil):
		return nil, errors.New("it is both a manifest and an index")
	case d.Manifests == nil && d.Config == nil:
		return nil, errors.New("it is neither a manifest (no config) nor an index (no manifests)")
	case d.Manifests != nil:
		return d, checkDescriptors("manifests", d.Manifests, maxPlatforms)
	}
	if err := checkDescriptor(*d.Config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if d.Config.Size > maxJSON {
		return nil, fmt.Errorf("config: %d bytes are more than the limit of %d MiB", d.Config.Size, maxJSON>>20)
	}
	return d, checkDescriptors("layers", d.Layers, maxLayers)
}

func (d *document) isIndex() bool { return d.Manifests != nil }

func checkDescriptors(field string, list []v1.Descriptor, most int) error {
	if len(list) > most {
		return fmt.Errorf("%s: %d entries; at most %d are possible", field, len(list), most)
	}
	for i, e := range list {
		if err := checkDescriptor(e); err != nil {
			return fmt.Errorf("%s[%d]: %w", field, i, err)
		}
	}
	return nil
}

func checkDescriptor(d v1.Descriptor) error {
	if !validDigest(string(d.Digest)) {
		return fmt.Errorf("digest %q: want sha256: and 64 hexadecimal digits", d.Digest)
	}
	if d.Size < 0 {
		return fmt.Errorf("size %d is negative", d.Size)
	}
	return nil
}

// config is what is read of an image's configuration.
type config struct {
	v1.Image
	Comment string `json:"comment"`

	// health is what Docker's configurations have and OCI's do not.
	health struct {
		Config struct {
			Healthcheck *Healthcheck
			Shell       []string
		} `json:"config"`
	}
}

// parseConfig reads a configuration and checks what the store relies on.
func parseConfig(b []byte) (*config, error) {
	c := &config{}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(c); err != nil {
		return nil, fmt.Errorf("not valid JSON: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("not valid JSON: something follows the object")
	}
	if err := json.Unmarshal(b, &c.health); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if t := c.RootFS.Type; t != "" && t != "layers" {
		return nil, fmt.Errorf("rootfs.type %q: only layers is known", t)
	}
	if n := len(c.RootFS.DiffIDs); n > maxLayers {
		return nil, fmt.Errorf("rootfs.diff_ids: %d layers; overlayfs can stack %d", n, maxLayers)
	}
	for i, d := range c.RootFS.DiffIDs {
		if !validDigest(string(d)) {
			return nil, fmt.Errorf("rootfs.diff_ids[%d]: %q: want sha256: and 64 hexadecimal digits", i, d)
		}
	}
	if c.OS == "" {
		c.OS = "linux"
	}
	return c, nil
}

// chains gives the chain IDs of the configuration's layers.
func (c *config) chains() []digest.Digest {
	return identity.ChainIDs(append([]digest.Digest(nil), c.RootFS.DiffIDs...))
}

// isAttestation says whether an index's entry is no image but a statement about
// one, as BuildKit adds them.
func isAttestation(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		d.Platform != nil && d.Platform.OS == "unknown"
}

// choose finds the entry of an index for a platform. Of several that would do
// the one of the nearest variant is taken, then the first.
func choose(list []v1.Descriptor, want v1.Platform) (v1.Descriptor, error) {
	want = normalize(want)
	best, score := -1, -1
	var have []string
	for i, d := range list {
		if isAttestation(d) || isForeignType(d.MediaType) {
			continue
		}
		if d.Platform == nil { // may be anything: the last resort
			if score < 0 {
				best, score = i, 0
			}
			continue
		}
		have = append(have, platformString(d.Platform.OS, d.Platform.Architecture, d.Platform.Variant))
		if n := fitness(normalize(*d.Platform), want); n > score {
			best, score = i, n
		}
	}
	if best < 0 {
		return v1.Descriptor{}, fmt.Errorf("no image for platform %s; there are %s",
			platformString(want.OS, want.Architecture, want.Variant), orNone(have))
	}
	return list[best], nil
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// isForeignType says whether an entry is neither manifest nor index.
func isForeignType(mediaType string) bool {
	switch mediaType {
	case "", mediaTypeManifest, mediaTypeIndex, dockerManifest, dockerManifestList:
		return false
	}
	return true
}

// fitness is -1 for what cannot run on the wanted platform, else the higher the
// better. An older variant of arm or amd64 runs on a newer machine.
func fitness(have, want v1.Platform) int {
	if have.OS != want.OS || have.Architecture != want.Architecture {
		return -1
	}
	h, w := variantNumber(have), variantNumber(want)
	switch {
	case have.Variant == want.Variant:
		return 100
	case h > w:
		return -1
	}
	return 1 + h
}

// variantNumber is 7 for v7; a missing variant is the oldest of its
// architecture, except for arm, where it is v7, as containerd has it.
func variantNumber(p v1.Platform) int {
	n := 0
	for _, c := range []byte(strings.TrimPrefix(p.Variant, "v")) {
		if c < '0' || c > '9' || n > 1000 {
			return 1001 // not a number: matches itself only
		}
		n = 10*n + int(c-'0')
	}
	if p.Variant == "" && p.Architecture == "arm" {
		return 7
	}
	return n
}
