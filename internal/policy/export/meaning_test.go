package export

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func parseCaps(t *testing.T, text string) capability.Set {
	t.Helper()
	set, err := seccomp.ParseCaps([]string{text})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// profileOf returns the seccomp profile in an export, in JSON.
func profileOf(t *testing.T, format string, res *Result) []byte {
	t.Helper()
	switch format {
	case "oci":
		var f struct {
			Linux struct{ Seccomp json.RawMessage }
		}
		if err := json.Unmarshal(res.Files[0].Data, &f); err != nil {
			t.Fatal(err)
		}
		return f.Linux.Seccomp
	case "spo":
		data, err := json.Marshal(at(t, readYAML(t, res.Files[0].Data), "spec"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	return res.Files[slices.IndexFunc(res.Files, func(f File) bool { return strings.HasSuffix(f.Name, ".json") })].Data
}

// policies that differ in how new their newest call is.
func meaningInputs() map[string]Input {
	old := nginx()
	p := *old.Profile
	p.Syscalls = slices.Clone(p.Syscalls[:3]) // without clone3: rseq is the newest
	p.Syscalls[0].Names = slices.DeleteFunc(slices.Clone(p.Syscalls[0].Names), func(n string) bool { return n == "rseq" || n == "prctl" })
	old.Profile = &p
	return map[string]Input{"nginx": nginx(), "old": old}
}

// Each profile means what the policy means, for every call of every ABI, but for
// what the runtimes need.
func TestMeaning(t *testing.T) {
	for name, in := range meaningInputs() {
		for _, format := range []string{"docker", "podman", "oci", "kubernetes", "spo", "compose"} {
			for _, runtimes := range [][]string{nil, {"runc"}, {"crun"}, {"brig"}} {
				in.Runtimes = runtimes
				theirs := resolve(t, profileOf(t, format, export(t, format, in)), seccomp.Options{WideArgs: true})
				compare(t, name+" "+format+" "+strings.Join(runtimes, " "), in, theirs)
			}
		}
	}
}

func compare(t *testing.T, what string, in Input, theirs *seccomp.Policy) {
	t.Helper()
	ours, _, err := in.Profile.Resolve(*in.Target)
	if err != nil {
		t.Fatal(err)
	}
	if len(ours.Archs) != len(theirs.Archs) {
		t.Fatalf("%s: %d ABIs, want %d", what, len(theirs.Archs), len(ours.Archs))
	}
	x, err := newExporter(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, rules := range ours.Archs {
		for nr, name := range syscalls.All(rules.Arch) {
			want := ours.Decide(rules.Arch.Audit(), nr, [6]uint64{1}).Action
			got := theirs.Decide(rules.Arch.Audit(), nr, [6]uint64{1}).Action
			needed := slices.ContainsFunc(x.needed(), func(c Call) bool { return c.Name == name && c.Values == nil })
			switch {
			case needed && got == seccomp.Allow, got == want:
			case rules.Arch != seccomp.X86_64 && got.IsErrno() && want.IsErrno():
				// A name has one rule for all ABIs, and is not newer on all.
			default:
				t.Errorf("%s: %s on %v is %v, want %v", what, name, rules.Arch, got, want)
			}
		}
	}
}

// The unit means what the policy means, but for conditions on arguments; and
// systemd takes it without a complaint about the unit itself.
func TestSystemd(t *testing.T) {
	in := nginx()
	res := export(t, "systemd", in)
	p, err := seccomp.ParseSystemd("unit", res.Files[0].Data)
	if err != nil {
		t.Fatal(err)
	}
	theirs, _, err := p.Resolve(*in.Target)
	if err != nil {
		t.Fatal(err)
	}
	ours, _, err := in.Profile.Resolve(*in.Target)
	if err != nil {
		t.Fatal(err)
	}
	for nr, name := range syscalls.All(seccomp.X86_64) {
		args := [6]uint64{unix.AF_UNIX}
		if got, want := theirs.Decide(seccomp.X86_64.Audit(), nr, args).Action, ours.Decide(seccomp.X86_64.Audit(), nr, args).Action; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if !slices.ContainsFunc(res.Notes, func(n string) bool { return strings.Contains(n, "policy allows with some: socket") }) {
		t.Errorf("nothing is said of socket's condition: %q", res.Notes)
	}
}

func TestSystemdVerifies(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	for name, caps := range map[string]string{"some": "CHOWN,SETGID", "none": "none"} {
		in := nginx()
		in.Capabilities = parseCaps(t, caps)
		in.NoNewPrivileges = true
		unit := filepath.Join(t.TempDir(), "nginx.service")
		data := "[Unit]\nDescription=test\n[Service]\nExecStart=/bin/true\nCapabilityBoundingSet=CAP_SYS_ADMIN\n" + string(export(t, "systemd", in).Files[0].Data)
		if err := os.WriteFile(unit, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		verified, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze verify: %v", err)
		}
		for line := range strings.Lines(string(verified)) {
			// An older systemd skips the calls that it does not know, and says so.
			if strings.Contains(line, unit) && !strings.Contains(line, "system call") {
				t.Errorf("systemd-analyze verify: %s", line)
			}
		}
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=100", unit).CombinedOutput()
		if err != nil {
			t.Fatalf("systemd-analyze security: %v\n%s", err, out)
		}
		checkSecurity(t, name, string(out))
	}
}

// checkSecurity looks at what systemd makes of the unit: a line for each
// protection, which begins with a check mark if it is there.
func checkSecurity(t *testing.T, name, out string) {
	t.Helper()
	want := map[string]bool{
		"CapabilityBoundingSet=~CAP_SYS_ADMIN": true, "CapabilityBoundingSet=~CAP_SYS_TIME": true, "AmbientCapabilities=": true,
		"NoNewPrivileges=": true, "SystemCallFilter=~@mount": true, "SystemCallFilter=~@reboot": true, "SystemCallFilter=~@swap": true,
	}
	if name == "some" {
		want["CapabilityBoundingSet=~CAP_(CHOWN|FSETID|SETFCAP)"] = false
	} else {
		want["CapabilityBoundingSet=~CAP_(CHOWN|FSETID|SETFCAP)"] = true
	}
	for what, safe := range want {
		found := false
		for line := range strings.Lines(out) {
			if strings.Contains(line, what) {
				found = true
				if strings.HasPrefix(strings.TrimSpace(line), "✗") == safe {
					t.Errorf("%s: systemd says %s", name, line)
				}
			}
		}
		if !found {
			t.Errorf("%s: systemd says nothing of %s:\n%s", name, what, out)
		}
	}
}
