package oci

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// FuzzConfig: whatever a bundle's configuration is, reading it gives a
// configuration that can be planned, or an error in one line that names the file,
// and the line for what is not JSON of the right kind.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{"", "{", "{\n\"process\": 3}", "null", "[]", `{"process":null,"root":{}}`, "{}\n}",
		`{"ociVersion":"1.0.2","root":{"path":"r"},"process":{"cwd":"/","args":["x"]}}`,
		"{\"root\":{},\n\"process\":{\"args\":[\"x\"],\"cwd\":\"x\",\n\"user\":{\"uid\":-1}}}", `{"linux":{"seccomp":{"syscalls":[{"names":1}]}}}`} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	name := filepath.Join(dir, configFile)
	broken := regexp.MustCompile(`^` + regexp.QuoteMeta(name) + `(:\d+)?: `)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, spec, err := readConfig(dir)
		switch {
		case err == nil:
			if spec.Process == nil || spec.Root == nil || spec.Linux == nil {
				t.Errorf("%q: something is missing: %+v", text, spec)
			}
		case !broken.MatchString(err.Error()) || strings.Contains(err.Error(), "\n"):
			t.Errorf("%q: %q", text, err)
		}
	})
}

func TestWithoutRules(t *testing.T) {
	for in, want := range map[string]string{
		`{"linux":{"seccomp":{"syscalls":[1],"listenerPath":"/l"},"x":1},"a":[2]}`: `{"a":[2],"linux":{"seccomp":{"listenerPath":"/l"},"x":1}}`,
		`{"linux":{"seccomp":{}}}`: `{"linux":{"seccomp":{}}}`,
		`{"linux":{}}`:             `{"linux":{}}`,
		`{"process":{}}`:           `{"process":{}}`,
		`{"linux":null}`:           `{"linux":null}`,
	} {
		got, err := withoutRules([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
}
