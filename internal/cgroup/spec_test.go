package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// specced is a group for a runtime-spec with these resources, not made yet.
func specced(t *testing.T, r *specs.LinuxResources) (*Group, *specs.Spec) {
	t.Helper()
	path := fmt.Sprintf("/brig-test/%s-%d", strings.ReplaceAll(t.Name(), "/", "_"), os.Getpid())
	spec := &specs.Spec{Linux: &specs.Linux{CgroupsPath: path, Resources: r}}
	g, err := ForSpec(spec, "id", Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Kill()
		if err := g.Wait(10 * time.Second); err != nil {
			t.Error(err)
		}
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		if g.Exists() {
			t.Errorf("left: %v", Existing(path))
		}
		for _, d := range g.Dirs {
			os.Remove(filepath.Dir(d))
		}
	})
	return g, spec
}

// limited is one that was made and has its limits.
func limited(t *testing.T, r *specs.LinuxResources) *Group {
	t.Helper()
	g, _ := specced(t, r)
	if err := g.Make(); err != nil {
		t.Fatal(err)
	}
	if err := g.Limit(r); err != nil {
		t.Fatal(err)
	}
	return g
}

// inhabited starts a shell command in the cgroup.
func inhabited(t *testing.T, g *Group, script string) *exec.Cmd {
	t.Helper()
	join := "set -e\n"
	for _, d := range g.Dirs {
		join += "echo $$ >" + d + "/cgroup.procs\n"
	}
	cmd := exec.Command("sh", "-c", join+script)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-done })
	eventually(t, "the process joins", func() bool {
		for _, d := range g.Dirs {
			if pids, _ := Procs(d); !slices.Contains(pids, cmd.Process.Pid) {
				return false
			}
		}
		return true
	})
	return cmd
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func TestForSpecRefused(t *testing.T) {
	for _, tt := range []struct {
		name, path string
		r          *specs.LinuxResources
		o          Options
		want       string
	}{
		{"root", "/", nil, Options{}, "linux.cgroupsPath"},
		{"root in disguise", "/../a/..", nil, Options{}, "linux.cgroupsPath"},
		{"relative root", "../..", nil, Options{}, "linux.cgroupsPath"},
		{"no slice", "/a/b", nil, Options{Systemd: true}, `slice:prefix:name`},
		{"unit without name", "a.slice:b:", nil, Options{Systemd: true}, `slice:prefix:name`},
		{"unit with slash", "a.slice:b:c/d", nil, Options{Systemd: true}, `slashes`},
		{"weight", "/a", &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr(uint16(5))}}, Options{}, "linux.resources.blockIO.weight: 5: want 10 to 1000"},
		{"swappiness", "/a", &specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(101))}}, Options{}, "linux.resources.memory.swappiness: 101"},
		{"huge pages", "/a", &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "3MB"}}}, Options{}, `linux.resources.hugepageLimits[0].pageSize: "3MB"`},
		{"device type", "/a", &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "x", Access: "r"}}}, Options{}, "linux.resources.devices[0].type"},
		{"device access", "/a", &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "c", Access: "q"}}}, Options{}, "linux.resources.devices[0].access"},
		{"no access", "/a", &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "c"}}}, Options{}, "linux.resources.devices[0].access"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := &specs.Spec{Linux: &specs.Linux{CgroupsPath: tt.path, Resources: tt.r}}
			if _, err := ForSpec(spec, "id", tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// A cgroup that has processes, or is frozen, belongs to another.
func TestForSpecTaken(t *testing.T) {
	g := limited(t, nil)
	inhabited(t, g, "exec sleep 60")
	if err := g.Make(); err == nil || !strings.Contains(err.Error(), "container's cgroup is not empty: 1 process(es) found") {
		t.Errorf("a second container in it: %v", err)
	}
	g.Kill()
	if err := g.Wait(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := g.Make(); err != nil {
		t.Errorf("in one that is empty again: %v", err)
	}
	if err := g.Freeze(true); err != nil {
		t.Fatal(err)
	}
	defer g.Freeze(false)
	if err := g.Make(); err == nil || !strings.Contains(err.Error(), "unexpectedly frozen") {
		t.Errorf("in a frozen one: %v", err)
	}
}

// What is done later is done by another process, which knows the directories.
func TestLoad(t *testing.T) {
	made := limited(t, nil)
	g, err := Load(made.Dirs, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(g.Dirs, made.Dirs) || g.UnifiedDir() != made.UnifiedDir() {
		t.Errorf("has %v, not %v", g.Dirs, made.Dirs)
	}
	cmd := inhabited(t, g, "sleep 60 & sleep 61 & wait")
	eventually(t, "three processes", func() bool { pids, _ := g.Pids(); return len(pids) == 3 })
	if err := g.Freeze(true); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); err != nil || !frozen {
		t.Errorf("frozen: %v, %v", frozen, err)
	}
	if err := g.Freeze(false); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); err != nil || frozen {
		t.Errorf("thawed, yet frozen: %v, %v", frozen, err)
	}
	if err := g.Remove(); err == nil || !strings.Contains(err.Error(), fmt.Sprint(cmd.Process.Pid)) {
		t.Errorf("removed while a process runs: %v", err)
	}
	if err := g.Freeze(true); err != nil { // the hardest case for Kill
		t.Fatal(err)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(10 * time.Second); err != nil {
		t.Error(err)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	again, err := Load(made.Dirs, Options{}) // after a removal that was killed before it was recorded
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() error{"kill": again.Kill, "remove": again.Remove} {
		if err := f(); err != nil {
			t.Errorf("%s what is gone: %v", what, err)
		}
	}
	if frozen, err := again.Frozen(); err != nil || frozen {
		t.Errorf("what is gone is frozen: %v, %v", frozen, err)
	}
}

// A container that was killed before it had cgroups can still be removed.
func TestLoadNothing(t *testing.T) {
	g, err := Load(nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.Kill(), g.Remove()); err != nil {
		t.Error(err)
	}
	if f, err := g.Open(); f != nil || err != nil {
		t.Errorf("opened %v, %v", f, err)
	}
}
