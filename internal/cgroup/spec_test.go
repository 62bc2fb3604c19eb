package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
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
		{"swappiness", "/a", &specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: ptr(uint64(101))}}, Options{}, "linux.resources.memory.swappiness: 101"},
		{"huge pages", "/a", &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "3MB"}}}, Options{}, `linux.resources.hugepageLimits[0].pageSize: "3MB"`},
		{"device type", "/a", &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "x", Access: "r"}}}, Options{}, "linux.resources.devices[0].type"},
		{"device access", "/a", &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "c", Access: "q"}}}, Options{}, "linux.resources.devices[0].access"},
		{"no access", "/a", &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "c"}}}, Options{}, "linux.resources.devices[0].access"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "swappiness" && Mode() == "v2" {
				t.Skip("is ignored with cgroup v2")
			}
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

// Relative paths, and none, are below the caller's own cgroup, as in runc.
func TestForSpecRelative(t *testing.T) {
	r := newRunc(t)
	for _, path := range []string{"brig-test-relative", "", "../../brig-test-up"} {
		id := fmt.Sprintf("brig-test-relative-%d", os.Getpid())
		spec := bundled(path, nil)
		if err := r.create(spec, id); err != nil {
			t.Fatal(err)
		}
		g, err := ForSpec(spec, id, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range g.Dirs {
			if pids, err := Procs(d); err != nil || len(pids) != 1 {
				t.Errorf("cgroupsPath %q: runc put nothing in %s: %v, %v", path, d, pids, err)
			}
		}
		if err := g.Make(); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("cgroupsPath %q: %v", path, err)
		}
		if err := r.run("delete", "--force", id); err != nil {
			t.Error(err)
		}
		if err := g.Remove(); err != nil { // where runc leaves something
			t.Error(err)
		}
	}
}

// A process of the cgroup forks and forks: none escapes.
func TestKillForks(t *testing.T) {
	g := limited(t, nil)
	inhabited(t, g, "while :; do (sleep 0.01; while :; do sleep 0.02 & wait; done) & i=$((i+1)); [ $i -lt 40 ] || break; done; wait")
	eventually(t, "many processes", func() bool { pids, _ := g.Pids(); return len(pids) > 40 })
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(20 * time.Second); err != nil {
		t.Error(err)
	}
}

// Signals reach all, also those below, and a frozen group stays frozen.
func TestSignal(t *testing.T) {
	g := limited(t, nil)
	dir := t.TempDir()
	inhabited(t, g, "cd "+dir+"; for n in 1 2 3; do sh -c \"trap 'touch got$n' USR1; touch up$n; while :; do sleep 0.02; done\" & done; trap : USR1; while :; do wait; done")
	files := func(pattern string) int { f, _ := filepath.Glob(filepath.Join(dir, pattern)); return len(f) }
	eventually(t, "three are up", func() bool { return files("up*") == 3 })
	if err := g.Signal(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "three got it", func() bool { return files("got*") == 3 })
	if err := g.Freeze(true); err != nil {
		t.Fatal(err)
	}
	if err := g.Signal(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if frozen, err := g.Frozen(); err != nil || !frozen {
		t.Errorf("a signal thawed it: %v, %v", frozen, err)
	}
	if err := g.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := g.Wait(10 * time.Second); err != nil {
		t.Error(err)
	}
}

// What the container has made and frozen below its own cgroup goes with it.
func TestKillBelow(t *testing.T) {
	g := limited(t, nil)
	freezer, file := g.freezer(), "freezer.state"
	if freezer == g.UnifiedDir() {
		file = "cgroup.freeze"
	}
	cmd := inhabited(t, g, "exec sleep 60")
	below := filepath.Join(freezer, "a/b")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(below+"/cgroup.procs", fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
	state := map[string]string{"freezer.state": "FROZEN", "cgroup.freeze": "1"}[file]
	if err := os.WriteFile(filepath.Join(below, file), []byte(state), 0); err != nil {
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
}

// The root of a hierarchy, and with it all cgroups of the host, is not removed,
// whatever a damaged record says.
func TestRemoveRoot(t *testing.T) {
	dir := Root
	if Mode() != "v2" {
		dir += "/freezer"
	}
	g, err := Load([]string{dir}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(); err == nil || !strings.Contains(err.Error(), "root of a hierarchy") {
		t.Errorf("removed: %v", err)
	}
}

func TestSystemdPlace(t *testing.T) {
	for _, tt := range []struct {
		path, id     string
		annotations  map[string]string
		dir          string // below a hierarchy's root
		property     string
		value, wrong string
	}{
		{path: "", id: "c1", dir: "/system.slice/brig-c1.scope"},
		{path: "user.slice:crio:c-2", dir: "/user.slice/crio-c-2.scope"},
		{path: "kubepods-burstable-pod12.slice:cri-containerd:ab", dir: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12.slice/cri-containerd-ab.scope"},
		{path: ":docker:ab", dir: "/system.slice/docker-ab.scope"},
		{path: "-.slice:p:n", dir: "/p-n.scope"},
		{path: "a.slice::pods.slice", dir: "/a.slice/pods.slice"},
		{path: "a.slice:p:n", annotations: map[string]string{"org.systemd.property.TimeoutStopSec": "int32 7", "other": "x"},
			dir: "/a.slice/p-n.scope", property: "TimeoutStopUSec", value: "@t 7000000"},
		{path: "a.slice:p:n", annotations: map[string]string{"org.systemd.property.CollectMode": "'inactive-or-failed'"},
			dir: "/a.slice/p-n.scope", property: "CollectMode", value: `"inactive-or-failed"`},
		{path: "a.slice:p:n", annotations: map[string]string{"org.systemd.property.X1": "true"}, wrong: "not the name"},
		{path: "a.slice:p:n", annotations: map[string]string{"org.systemd.property.TimeoutStopSec": "'long'"}, wrong: "not a number"},
		{path: "a.slice:p:n", annotations: map[string]string{"org.systemd.property.TimeoutStopSec": "uint64"}, wrong: "TimeoutStopSec"},
		{path: "a--b.slice:p:n", wrong: "invalid slice name"},
	} {
		spec := &specs.Spec{Annotations: tt.annotations, Linux: &specs.Linux{CgroupsPath: tt.path}}
		g, err := planned(spec, tt.id, Options{Systemd: true})
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("%q %v: %v, want %q", tt.path, tt.annotations, err, tt.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tt.path, err)
			continue
		}
		for _, d := range g.Dirs {
			if !strings.HasSuffix(d, tt.dir) {
				t.Errorf("%q: directory %s, want ...%s", tt.path, d, tt.dir)
			}
		}
		if p := g.config.SystemdProps; tt.property != "" && (len(p) != 1 || p[0].Name != tt.property || p[0].Value.String() != tt.value) {
			t.Errorf("%q: properties %v", tt.path, p)
		}
		again, err := Load(g.Dirs, Options{Systemd: true})
		if err != nil {
			t.Error(err)
			continue
		}
		if again.config.Name != g.config.Name && again.config.ScopePrefix+"-"+again.config.Name != g.config.ScopePrefix+"-"+g.config.Name || !slices.Equal(again.Dirs, g.Dirs) {
			t.Errorf("%q: recorded as %v, loaded as %+v", tt.path, g.Dirs, again.config)
		}
		if f, err := g.Open(); f != nil || err != nil {
			t.Errorf("%q: opened before systemd made it: %v", tt.path, err)
		}
	}
}

// Processes that make others all the time stand still, also where they hardly get a
// processor.
func TestFreezeBusy(t *testing.T) {
	g := limited(t, nil)
	inhabited(t, g, "for i in 1 2 3 4; do while :; do sleep 0.001; done & done; wait")
	for range 4 * runtime.NumCPU() {
		hog := exec.Command("sh", "-c", "while :; do :; done")
		if err := hog.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { hog.Process.Kill(); hog.Wait() })
	}
	for range 20 {
		if err := g.Freeze(true); err != nil {
			t.Fatal(err)
		}
		if err := g.Freeze(false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
