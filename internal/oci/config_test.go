package oci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// FuzzConfig: whatever a bundle's configuration is, reading it gives a
// configuration that can be planned, or an error in one line that names the file,
// and the line for what is not JSON of the right kind.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{"", "{", "{\n\"process\": 3}", "null", "[]", `{"process":null,"root":{}}`, "{}\n}",
		`{"ociVersion":"1.0.2","root":{"path":"r"},"process":{"cwd":"/","args":["x"]}}`,
		"{\"root\":{},\n\"process\":{\"args\":[\"x\"],\"cwd\":\"x\",\n\"user\":{\"uid\":-1}}}", `{"linux":{"seccomp":{"syscalls":[{"names":1}]}}}`,
		`{"root":{},"process":{},"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["x"],"action":"SCMP_ACT_ERRNO"}]},"seccomp ":{}}}`} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	name := filepath.Join(dir, configFile)
	broken := regexp.MustCompile(`^` + regexp.QuoteMeta(name) + `(:\d+)?: `)
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := readConfig(dir)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := c.decode(false)
		brief, berr := c.decode(true)
		if (err == nil) != (berr == nil) && c.profile == nil {
			t.Errorf("%q: %v, and without rules %v", text, err, berr)
		}
		if err == nil && c.profile != nil {
			sameButRules(t, c, spec, brief)
		}
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

// sameButRules: the profile that was cut out is that of the configuration, and
// nothing else is lost.
func sameButRules(t *testing.T, c *config, spec, brief *specs.Spec) {
	t.Helper()
	profile := &specs.LinuxSeccomp{}
	if err := json.Unmarshal(c.profile, profile); err != nil || !reflect.DeepEqual(profile, spec.Linux.Seccomp) {
		t.Errorf("%q: the profile is %+v, %v; want %+v", c.text, profile, err, spec.Linux.Seccomp)
	}
	if brief == nil || brief.Linux.Seccomp == nil || len(brief.Linux.Seccomp.Syscalls) > 0 {
		t.Fatalf("%q: the rules are not cut out: %s", c.text, c.brief)
	}
	brief.Linux.Seccomp.Syscalls = spec.Linux.Seccomp.Syscalls
	if !reflect.DeepEqual(brief, spec) {
		t.Errorf("%q: without rules %s", c.text, c.brief)
	}
}

// What there is for Linux is all read, and of others that it is there.
func TestDecodeSpec(t *testing.T) {
	for _, spec := range []specs.Spec{
		{Version: "1.3.0", Process: &specs.Process{Cwd: "/"}, Root: &specs.Root{Path: "r"}, Hostname: "h", Domainname: "d", Mounts: []specs.Mount{{Destination: "/x"}},
			Hooks: &specs.Hooks{Poststop: []specs.Hook{{Path: "/y"}}}, Annotations: map[string]string{"a": "b"}, Linux: &specs.Linux{CgroupsPath: "/c"}},
		{Solaris: &specs.Solaris{}}, {Windows: &specs.Windows{}}, {VM: &specs.VM{}}, {ZOS: &specs.ZOS{}}, {FreeBSD: &specs.FreeBSD{}},
	} {
		b, err := json.Marshal(&spec)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeSpec(b); err != nil || !reflect.DeepEqual(got, &spec) {
			t.Errorf("%s: %+v, %v", b, got, err)
		}
	}
	// A field that a later version of the specification adds must be added here.
	if n := reflect.TypeFor[specs.Spec]().NumField(); n != 14 {
		t.Errorf("specs.Spec has %d fields", n)
	}
}

func TestCutRules(t *testing.T) {
	for in, want := range map[string]string{
		`{"linux":{"seccomp":{"syscalls":[1],"listenerPath":"/l"},"x":1},"a":[2]}`:                       `{"linux":{"seccomp":{"syscalls":[],"listenerPath":"/l"},"x":1},"a":[2]}`,
		" { \"a\" : \"}\\\"{\" ,\n\"Linux\": {\"seccomp\" :{\"syscalls\" : [{\"names\":[\"]\"]}] } } } ": " { \"a\" : \"}\\\"{\" ,\n\"Linux\": {\"seccomp\" :{\"syscalls\" : [] } } } ",
		`{"annotations":{"linux":"{\"seccomp\":{}}"},"linux":{"seccomp":{"syscalls":[]}}}`:               `{"annotations":{"linux":"{\"seccomp\":{}}"},"linux":{"seccomp":{"syscalls":[]}}}`,
		// Not plain to see, or not there.
		`{"linux":{"seccomp":{"syscalls":[1]}},"Linux":{}}`:                   "",
		`{"linux":{"seccomp":{"syscalls":[1],"\u0073yscalls":[]}}}`:           "",
		`{"linux":{"seccomp":{"syscalls":[1],"` + "\u017f" + `yscalls":[]}}}`: "",
		`{"linux":{"seccomp":{"syscalls":null}}}`:                             "",
		`{"linux":{"seccomp":{}}}`:                                            "",
		`{"linux":{}}`:                                                        "",
		`{"process":{}}`:                                                      "",
		`{"linux":null}`:                                                      "",
		`{"linux":{"seccomp":{"syscalls":[`:                                   "",
		`{"linux":{"seccomp":{"syscalls":[1]`:                                 "",
		`{`:                                                                   "",
		`{}`:                                                                  "",
		``:                                                                    "",
	} {
		brief, profile := cutRules([]byte(in))
		if want == "" {
			if string(brief) != in || profile != nil {
				t.Errorf("%s: cut to %s, profile %s", in, brief, profile)
			}
		} else if string(brief) != want || profile == nil {
			t.Errorf("%s: %s, profile %s; want %s", in, brief, profile, want)
		}
	}
}
