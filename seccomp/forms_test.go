package seccomp

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDetectForm(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`{"defaultAction": "SCMP_ACT_ALLOW"}`, FormDocker},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "archMap": []}`, FormDocker},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"]}`, FormOCI},
		{`{"ociVersion": "1.2.0", "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}}`, FormOCI},
		{"{\"defaultAction\": ", FormDocker},
		{"", FormDocker},
		{"[1]", FormDocker},
		{"default allow", FormText},
		{"# x=y\n\ndefault errno EPERM\nallow socket when arg0 == 1", FormText},
		{"allow socket when arg0 == 1\ndefault allow", FormText},
		{"\n[Service]\nExecStart=x", FormSystemd},
		{"SystemCallFilter=read", FormSystemd},
		{"# x\nSystemCallFliter = read", FormSystemd},
		{"; x\nSystemCallFilter=read", FormSystemd},
	} {
		if got := DetectForm([]byte(tc.text)); got != tc.want {
			t.Errorf("%q: %s, want %s", tc.text, got, tc.want)
		}
	}
}

// A profile in any form is found out, and says the same.
func TestLoadAny(t *testing.T) {
	p := parseText(t, "p", "default errno EPERM\narch x86\nflag none\nallow read write\nlog open")
	dir := t.TempDir()
	for _, form := range Forms() {
		path := filepath.Join(dir, form)
		data, err := p.Format(form, target(0))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, found, err := LoadAny(path)
		if err != nil {
			t.Fatal(err)
		}
		// This one cannot be told from OCI's.
		if found != form && !(form == FormDocker && found == FormOCI) {
			t.Errorf("%s taken for %s", form, found)
		}
		want, policy := mustResolve(t, p, target(0)), mustResolve(t, got, target(0))
		// systemd always allows some calls.
		for _, nr := range []uint32{0, 1, 2, 257, 4} {
			if w, g := want.Action(X86_64.Audit(), nr, [6]uint64{}), policy.Action(X86_64.Audit(), nr, [6]uint64{}); w != g {
				t.Errorf("%s: %d: %v, want %v", form, nr, g, w)
			}
		}
	}
	if _, _, err := LoadAny(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing file: %v", err)
	}
	if _, err := ParseForm("dokcer", "f", nil); err == nil || !strings.Contains(err.Error(), "did you mean docker?") {
		t.Errorf("unknown form: %v", err)
	}
}

func TestParseOCIConfig(t *testing.T) {
	p, form, err := ParseAny("config.json", []byte(`{"ociVersion": "1.0.2", "process": {},
"linux": {"namespaces": [], "seccomp": {"defaultAction": "SCMP_ACT_ERRNO",
"syscalls": [
 {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}}}`))
	if err != nil || form != FormOCI || p.Syscalls[0].Line != 4 {
		t.Fatalf("%+v, %s, %v", p, form, err)
	}
	for _, tc := range []struct{ text, want string }{
		{`{"ociVersion": "1.0.2", "linux": {}}`, "c: linux.seccomp: the configuration has no seccomp profile"},
		{`{"ociVersion": "1.0.2"}`, "c: linux.seccomp: the configuration has no seccomp profile"},
		{"{\"ociVersion\": \"1\", \"linux\": {\"seccomp\": {\n\"defaultAction\": \"SCMP_ACT_ALOW\"}}}", `c:2: defaultAction: unknown action "SCMP_ACT_ALOW"; did you mean SCMP_ACT_ALLOW?`},
	} {
		if _, _, err := ParseAny("c", []byte(tc.text)); err == nil || err.Error() != tc.want {
			t.Errorf("%s:\n got %v\nwant %s", tc.text, err, tc.want)
		}
	}
}
