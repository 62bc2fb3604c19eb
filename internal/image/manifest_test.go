package image

import (
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func digestT(b []byte) digest.Digest { return digest.Digest(digestOf(b)) }

func TestChoose(t *testing.T) {
	p := func(os, arch, variant string) v1.Descriptor {
		return v1.Descriptor{MediaType: mediaTypeManifest, Digest: digestT([]byte(os + arch + variant)), Platform: &v1.Platform{OS: os, Architecture: arch, Variant: variant}}
	}
	attestation := p("unknown", "unknown", "")
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	none := v1.Descriptor{MediaType: mediaTypeManifest, Digest: digestT([]byte("none"))}
	other := v1.Descriptor{MediaType: "application/vnd.other", Digest: digestT([]byte("other"))}
	arms := []v1.Descriptor{p("linux", "arm", "v5"), p("linux", "arm", "v7"), p("linux", "arm", "v6")}
	for name, c := range map[string]struct {
		list []v1.Descriptor
		want v1.Platform
		at   int // -1: none
	}{
		"exact":              {[]v1.Descriptor{p("linux", "arm64", "v8"), p("linux", "amd64", "")}, v1.Platform{OS: "linux", Architecture: "amd64"}, 1},
		"arm64 is v8":        {[]v1.Descriptor{p("linux", "amd64", ""), p("linux", "arm64", "")}, v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, 1},
		"x86_64":             {[]v1.Descriptor{p("linux", "amd64", "")}, v1.Platform{OS: "linux", Architecture: "x86_64"}, 0},
		"the nearest":        {arms, v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}, 2},
		"an older one":       {arms[:2], v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}, 0},
		"none new enough":    {arms[1:2], v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}, -1},
		"the newest that is": {arms, v1.Platform{OS: "linux", Architecture: "arm", Variant: "v8"}, 1},
		"baseline amd64":     {[]v1.Descriptor{p("linux", "amd64", "v3"), p("linux", "amd64", "")}, v1.Platform{OS: "linux", Architecture: "amd64"}, 1},
		"amd64 v3 for v3":    {[]v1.Descriptor{p("linux", "amd64", ""), p("linux", "amd64", "v3")}, v1.Platform{OS: "linux", Architecture: "amd64", Variant: "v3"}, 1},
		"only a newer amd64": {[]v1.Descriptor{p("linux", "amd64", "v3")}, v1.Platform{OS: "linux", Architecture: "amd64"}, -1},
		"no attestation":     {[]v1.Descriptor{attestation, p("linux", "amd64", "")}, v1.Platform{OS: "linux", Architecture: "amd64"}, 1},
		"no other thing":     {[]v1.Descriptor{other, none}, v1.Platform{OS: "linux", Architecture: "amd64"}, 1},
		"named over nothing": {[]v1.Descriptor{none, p("linux", "amd64", "")}, v1.Platform{OS: "linux", Architecture: "amd64"}, 1},
		"other system":       {[]v1.Descriptor{p("windows", "amd64", "")}, v1.Platform{OS: "linux", Architecture: "amd64"}, -1},
		"nothing":            {nil, v1.Platform{OS: "linux", Architecture: "amd64"}, -1},
	} {
		got, err := choose(c.list, c.want)
		switch {
		case c.at < 0 && err == nil:
			t.Errorf("%s: chose %v; want an error", name, got.Platform)
		case c.at >= 0 && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.at >= 0 && got.Digest != c.list[c.at].Digest:
			t.Errorf("%s: chose %v, want %v", name, got.Platform, c.list[c.at].Platform)
		}
	}
}

func FuzzParseDocument(f *testing.F) {
	i := makeImage(f, host, []string{"a"})
	f.Add(i.manifest)
	f.Add(index(f, i.descriptor()))
	f.Add([]byte(`{"schemaVersion":1,"fsLayers":[]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[],"layers":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := parseDocument(b)
		if err != nil {
			return
		}
		if d.isIndex() == (d.Config != nil) {
			t.Error("it is both an index and a manifest, or neither")
		}
		for _, l := range append(append([]v1.Descriptor{}, d.Layers...), d.Manifests...) {
			if !validDigest(string(l.Digest)) || l.Size < 0 {
				t.Errorf("descriptor %+v", l)
			}
		}
		choose(d.Manifests, hostPlatform())
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add(makeImage(f, host, []string{"a", "b"}).config)
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":["sha256:x"]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig(b)
		if err != nil {
			return
		}
		if n := len(c.chains()); n != len(c.RootFS.DiffIDs) || n > maxLayers {
			t.Errorf("%d chain IDs of %d layers", n, len(c.RootFS.DiffIDs))
		}
		for _, chain := range c.chains() {
			if !validDigest(string(chain)) {
				t.Errorf("chain ID %q", chain)
			}
		}
	})
}
