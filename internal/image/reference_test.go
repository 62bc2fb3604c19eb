package image

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

func TestParseReference(t *testing.T) {
	d := "sha256:" + strings.Repeat("ab", 32)
	for _, c := range []struct{ in, full, familiar string }{
		{"busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"},
		{"docker.io/library/busybox:latest", "docker.io/library/busybox:latest", "busybox:latest"},
		{"index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"brig/hello", "docker.io/brig/hello:latest", "brig/hello:latest"},
		{"host:5000/x:tag", "host:5000/x:tag", "host:5000/x:tag"},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest"},
		{"Host/x", "Host/x:latest", "Host/x:latest"},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
		{"busybox@" + d, "docker.io/library/busybox@" + d, "busybox@" + d},
		{"busybox:1@" + d, "docker.io/library/busybox:1@" + d, "busybox:1@" + d},
		{"a.b/c-d/e__f/g.h:T_1.2-3", "a.b/c-d/e__f/g.h:T_1.2-3", "a.b/c-d/e__f/g.h:T_1.2-3"},
	} {
		r, err := ParseReference(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if r.String() != c.full || r.Familiar() != c.familiar {
			t.Errorf("%s: %s, %s; want %s, %s", c.in, r, r.Familiar(), c.full, c.familiar)
		}
		if back, ok := referenceOfFile(r.file()); !ok || r.Digest == "" && back != r || back.Digest != r.Digest {
			t.Errorf("%s: file %s is read back as %v", c.in, r.file(), back)
		}
	}
}

func TestParseReferenceErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "empty",
		"Busybox":                     `use "busybox"`,
		"a//b":                        `"" cannot be part`,
		"a:b:c":                       "is not a tag",
		"a:":                          "is not a tag",
		"a@sha256:12":                 "is not a digest",
		"a@":                          "is not a digest",
		"-a.b/c":                      "is not a registry",
		"h:x/c":                       "is not a registry",
		"a/../b":                      `".." cannot be part`,
		"../b":                        "is not a registry",
		"a___b":                       "cannot be part",
		"a b":                         "cannot be part",
		strings.Repeat("a", 300):      "longer than 255",
		strings.Repeat("0123abcd", 8): "image ID",
	} {
		_, err := ParseReference(in)
		if in == "" {
			wantError(t, err, want)
			continue
		}
		wantError(t, err, in, want)
	}
}

// FuzzParseReference compares with the parser of the field.
func FuzzParseReference(f *testing.F) {
	d := "@sha256:" + strings.Repeat("0f", 32)
	for _, s := range []string{"busybox", "a/b/c:d", "localhost:5000/x" + d, "Upper/x", "UPPER", "a.b.c/d_e__f-g---h", "[::1]:1/a", "a..b/c", "a:1" + d,
		"index.docker.io/x/y", "docker.io/x", "x" + d, "a/b:", "library/x", "docker.io/library/a/b", "a-/b", "é/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseReference(s)
		peer, peerErr := reference.ParseDockerRef(s)
		if err == nil && peerErr == nil {
			// ParseDockerRef drops the tag beside a digest.
			if got.Digest != "" {
				got.Tag = ""
			}
			if got.String() != peer.String() || got.Familiar() != reference.FamiliarString(peer) {
				t.Errorf("%q: %s, %s; the peer has %s, %s", s, got, got.Familiar(), peer, reference.FamiliarString(peer))
			}
		}
		if err == nil && peerErr != nil {
			t.Errorf("%q: %s; the peer refuses it: %v", s, got, peerErr)
		}
		if err != nil && peerErr == nil && !strings.Contains(s, "@") { // the peer knows other digests
			t.Errorf("%q: %v; the peer has %s", s, err, peer)
		}
		if err == nil {
			if strings.Contains("/"+got.file()+"/", "/../") || strings.Contains(got.file(), "\x00") {
				t.Errorf("%q: leads to the file %q", s, got.file())
			}
		}
	})
}
