package resctrl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// fake makes a directory that looks like resctrl. Files stay in it where the
// kernel would remove them with their directory, so tests remove them.
func fake(t *testing.T) string {
	root := t.TempDir()
	for _, d := range []string{"info/L3", "info/MB", "mon_groups", "gold/mon_groups"} {
		os.MkdirAll(filepath.Join(root, d), 0o755)
	}
	os.WriteFile(filepath.Join(root, "info/last_cmd_status"), []byte("ok\n"), 0o644)
	os.WriteFile(filepath.Join(root, "gold/schemata"), []byte("    MB:0=100;1=70\n    L3:0=07f0;1=001f\n"), 0o644)
	return root
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestOwnGroup(t *testing.T) {
	root := fake(t)
	r := &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=20", Schemata: []string{"L2:0=1"}}
	g, err := Plan(root, "c1", r)
	if err != nil || !g.Own {
		t.Fatal(g, err)
	}
	if _, err := os.Stat(filepath.Join(root, "c1")); err == nil {
		t.Error("Plan has made the group")
	}
	if err := g.Apply(r, 42); err != nil {
		t.Fatal(err)
	}
	if s := read(t, root, "c1/schemata"); s != "L3:0=f\nMB:0=20\nL2:0=1\n" {
		t.Errorf("schemata %q", s)
	}
	if s := read(t, root, "c1/tasks"); s != "42" {
		t.Errorf("tasks %q", s)
	}
	if err := g.Update(&specs.LinuxIntelRdt{L3CacheSchema: "L3:0=3"}); err != nil || read(t, root, "c1/schemata") != "L3:0=3\n" {
		t.Error(err)
	}
	os.Remove(filepath.Join(root, "c1/schemata"))
	os.Remove(filepath.Join(root, "c1/tasks"))
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if err := g.Remove(); err != nil {
		t.Errorf("removed again: %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "c1")); err == nil {
		t.Error("the group is still there")
	}
}

func TestGroupThatIsThereAlready(t *testing.T) {
	root := fake(t)
	for _, c := range []struct {
		r    specs.LinuxIntelRdt
		want string
	}{
		{specs.LinuxIntelRdt{ClosID: "gold"}, ""},
		{specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=7F0"}, ""},
		{specs.LinuxIntelRdt{ClosID: "gold", Schemata: []string{"L3:1=1f;0=7f0", "MB:1=070"}}, ""},
		{specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=7f0;1=f"}, `L3:1 is "1f", and not "f"`},
		{specs.LinuxIntelRdt{ClosID: "silver"}, "there is no group"},
		{specs.LinuxIntelRdt{ClosID: "silver", L3CacheSchema: "L3:0=1"}, ""},
	} {
		_, err := Plan(root, "c1", &c.r)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.r, err, c.want)
		}
	}
	r := &specs.LinuxIntelRdt{ClosID: "gold", EnableMonitoring: true}
	g, err := Plan(root, "c1", r)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Apply(r, 7); err != nil {
		t.Fatal(err)
	}
	if read(t, root, "gold/tasks") != "7" || read(t, root, "gold/mon_groups/c1/tasks") != "7" {
		t.Error("the process is not in its groups")
	}
	if err := g.Update(&specs.LinuxIntelRdt{L3CacheSchema: "L3:0=1"}); err == nil {
		t.Error("the share of a group of others was changed")
	}
	os.Remove(filepath.Join(root, "gold/mon_groups/c1/tasks"))
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "gold/schemata")); err != nil {
		t.Error("a group of others was removed")
	}
	// The default class is the root itself.
	g, err = Plan(root, "c1", &specs.LinuxIntelRdt{ClosID: "/"})
	if err != nil || g.Dir != root || g.Own {
		t.Error(g, err)
	}
}

func TestMachineThatCannot(t *testing.T) {
	root := fake(t)
	os.Remove(filepath.Join(root, "info/MB"))
	if _, err := Plan(root, "c", &specs.LinuxIntelRdt{MemBwSchema: "MB:0=1"}); err == nil || !strings.Contains(err.Error(), "RDT/MBA is not enabled") {
		t.Error(err)
	}
	g := &Group{Root: root, Dir: filepath.Join(root, "none/x")}
	if err := g.Apply(&specs.LinuxIntelRdt{}, 1); err == nil || !strings.HasSuffix(err.Error(), ": ok") {
		t.Errorf("the kernel's own words are missing: %v", err)
	}
}

func FuzzSchemata(f *testing.F) {
	f.Add("L3:0=7f0;1=1f\nMB:0=20")
	f.Fuzz(func(t *testing.T, s string) { schemata(strings.Split(s, "\n")) })
}
