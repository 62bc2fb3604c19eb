package cgroup

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Whatever a spec says, the cgroup is below the root of a hierarchy.
func FuzzPlace(f *testing.F) {
	for _, p := range []string{"", "/a/b", "a/b", "../../x", "/", "a.slice:b:c", ":b:c", "-.slice:b:c", "a.slice::pods.slice", "a/../b.slice:x:..", "/../..//a/./b"} {
		f.Add(p, "TimeoutStopSec", "int32 7", true)
		f.Add(p, "X", "", false)
	}
	f.Fuzz(func(t *testing.T, path, property, value string, systemd bool) {
		spec := &specs.Spec{Linux: &specs.Linux{CgroupsPath: path}, Annotations: map[string]string{propertyPrefix + property: value}}
		g, err := planned(spec, "id", Options{Systemd: systemd})
		if err != nil {
			return
		}
		for _, d := range g.Dirs {
			if d != filepath.Clean(d) || !strings.HasPrefix(d, Root+"/") || Mode() != "v2" && filepath.Dir(d) == Root {
				t.Errorf("%q is at %s", path, d)
			}
		}
	})
}

func FuzzSubPaths(f *testing.F) {
	f.Add("a/b", "")
	f.Add("cpu,memory:a", "pids:b")
	f.Add("../../etc", "")
	f.Fuzz(func(t *testing.T, one, two string) {
		g, err := Load([]string{Root + "/freezer/x"}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		args := []string{one}
		if two != "" {
			args = append(args, two)
		}
		sub, err := g.ForExec(args, 1)
		if err != nil {
			return
		}
		for _, d := range sub.Dirs {
			if d != g.Dirs[0] && !strings.HasPrefix(d, g.Dirs[0]+"/") {
				t.Errorf("%q leads to %s", args, d)
			}
		}
	})
}
