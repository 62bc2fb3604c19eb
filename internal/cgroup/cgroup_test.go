package cgroup

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func made(t *testing.T) (*Group, string) {
	t.Helper()
	path := fmt.Sprintf("/brig-test/%s-%d", t.Name(), os.Getpid())
	g, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(Existing(path)) > 0 {
		t.Fatalf("New made something: %v", Existing(path))
	}
	if err := g.Make(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		if left := Existing(path); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		for _, d := range g.Dirs { // the tests' own parent
			os.Remove(filepath.Dir(d))
		}
	})
	return g, path
}

// value reads a limit, under its name on v1 or on v2, whichever is there.
func value(t *testing.T, g *Group, v1, v2 string) string {
	t.Helper()
	for _, d := range g.Dirs {
		for _, name := range []string{v1, v2} {
			if b, err := os.ReadFile(filepath.Join(d, name)); err == nil {
				return strings.TrimSpace(string(b))
			}
		}
	}
	t.Fatalf("no %s or %s in %v", v1, v2, g.Dirs)
	return ""
}

func ptr[T any](v T) *T { return &v }

// needs skips a test whose controllers another version of cgroups holds.
func needs(t *testing.T, controllers ...string) {
	t.Helper()
	if Mode() != "v2" {
		return
	}
	have, err := os.ReadFile(Root + "/cgroup.controllers")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range controllers {
		if !slices.Contains(strings.Fields(string(have)), c) {
			t.Skipf("this kernel's %s controller is with cgroup v1", c)
		}
	}
}

func TestLimit(t *testing.T) {
	needs(t, "memory", "cpu", "pids")
	g, path := made(t)
	if got := Existing(path); !slices.Equal(got, g.Dirs) {
		t.Errorf("Existing is %v, Dirs %v", got, g.Dirs)
	}
	err := g.Limit(&specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: ptr(int64(64 << 20))},
		CPU:    &specs.LinuxCPU{Quota: ptr(int64(50000)), Period: ptr(uint64(100000))},
		Pids:   &specs.LinuxPids{Limit: ptr(int64(7))},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ v1, v2, want string }{
		{"memory.limit_in_bytes", "memory.max", "67108864"},
		{"pids.max", "pids.max", "7"},
		{"cpu.cfs_quota_us", "cpu.max", "50000"},
	} {
		if got := value(t, g, tt.v1, tt.v2); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s is %s, want %s", tt.v1, got, tt.want)
		}
	}
}

// What the kernel refuses is an error that names the cgroup.
func TestLimitRefused(t *testing.T) {
	needs(t, "cpuset")
	g, path := made(t)
	err := g.Limit(&specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4095"}})
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a CPU that is not there: %v", err)
	}
}

func TestProcs(t *testing.T) {
	g, _ := made(t)
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	dir := g.Dirs[0]
	if pids, err := Procs(dir); err != nil || len(pids) > 0 {
		t.Errorf("empty: %v, %v", pids, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
	if pids, err := Procs(dir); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("with one process: %v, %v", pids, err)
	}
}

func TestMakeTwice(t *testing.T) {
	g, _ := made(t)
	if err := g.Make(); err != nil { // left by a killed start
		t.Error(err)
	}
}

// A place below this process's own cgroups is where the library would look.
func TestBelowOwn(t *testing.T) {
	if cgroups.IsCgroup2UnifiedMode() {
		t.Skip("this host has v2 alone, where the library reads the file once")
	}
	for _, c := range []cgroups.Cgroup{{Name: "box"}, {Path: "a/b/box"}} {
		c.Resources = &cgroups.Resources{}
		got, err := belowOwn(&c)
		if err != nil {
			t.Fatal(err)
		}
		m, err := fs.NewManager(&c, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := m.GetPaths(); !maps.Equal(got, want) {
			t.Errorf("%+v is %v, want %v", c, got, want)
		}
	}
}
