package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups/systemd"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Without systemd, a container that wants its scope is refused, before anything
// is made.
func TestSystemdAbsent(t *testing.T) {
	if systemd.IsRunningSystemd() {
		t.Skip("systemd runs here")
	}
	spec := &specs.Spec{Linux: &specs.Linux{CgroupsPath: "a.slice:b:c"}}
	if _, err := ForSpec(spec, "id", Options{Systemd: true}); err == nil || !strings.Contains(err.Error(), "systemd") {
		t.Error(err)
	}
}

// unitProperty asks systemd for a property of a unit.
func unitProperty(t *testing.T, unit, property string) string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "--property", property, "--value", unit).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// A scope of systemd's, from its start with a process to its end; the limits are
// those that runc sets.
func TestSystemd(t *testing.T) {
	if !systemd.IsRunningSystemd() {
		t.Skip("systemd does not run here (test/vm/systemd boots it)")
	}
	r := newRunc(t)
	r.systemd = true
	res := parsed(t, `{"cpu": {"shares": 512, "quota": 40000, "period": 100000, "cpus": "0"}, "memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432},
		"pids": {"limit": 42}, "devices": [{"allow": false, "access": "rwm"}]}`)
	spec := bundled("brigtest-some.slice:brigtest:one", res)
	if err := r.create(spec, "one"); err != nil {
		t.Fatal(err)
	}
	group := func() *Group {
		g, err := ForSpec(spec, "one", Options{Systemd: true})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	want := limits(t, group().Dirs)
	if err := group().Make(); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("where a container of runc is: %v", err)
	}
	if err := r.run("delete", "--force", "one"); err != nil {
		t.Fatal(err)
	}

	g := group()
	if g.Exists() {
		t.Fatalf("runc left %v", g.Dirs)
	}
	if err := g.Make(); err != nil {
		t.Fatal(err)
	}
	if g.Exists() {
		t.Error("exists before it has a process")
	}
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	defer cmd.Process.Kill()
	if err := g.Start(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := g.Limit(res); err != nil {
		t.Fatal(err)
	}
	if pids, err := g.Pids(); err != nil || len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("processes %v, %v", pids, err)
	}
	for file, value := range limits(t, g.Dirs) {
		if value != want[file] {
			t.Errorf("%s: runc has %q, this package %q", file, want[file], value)
		}
	}
	const unit = "brigtest-one.scope"
	for property, value := range map[string]string{"ActiveState": "active", "MemoryMax": "67108864", "TasksMax": "42", "Slice": "brigtest-some.slice", "Delegate": "yes"} {
		if got := unitProperty(t, unit, property); got != value {
			t.Errorf("%s is %q, want %q", property, got, value)
		}
	}
	if dir, err := g.Open(); dir == nil || err != nil {
		t.Errorf("exec has nothing to join: %v", err)
	}

	later, err := Load(g.Dirs, Options{Systemd: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := later.Update(res, parsed(t, `{"memory": {"limit": 33554432, "swap": 33554432}, "pids": {"limit": 7}}`)); err != nil {
		t.Fatal(err)
	}
	// A reload of systemd applies its own properties again.
	if out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := value(t, g, "memory.limit_in_bytes", "memory.max"); got != "33554432" {
		t.Errorf("after an update and a reload memory is %s", got)
	}
	if got := unitProperty(t, unit, "TasksMax"); got != "7" {
		t.Errorf("after an update TasksMax is %s", got)
	}
	if err := later.Freeze(true); err != nil {
		t.Fatal(err)
	}
	if err := later.Kill(); err != nil {
		t.Fatal(err)
	}
	<-done
	if err := later.Remove(); err != nil {
		t.Fatal(err)
	}
	if later.Exists() {
		t.Errorf("left: %v", later.Dirs)
	}
	eventually(t, "systemd forgets the scope", func() bool { return unitProperty(t, unit, "ActiveState") == "inactive" })
	if err := later.Remove(); err != nil { // again, as after a crash
		t.Error(err)
	}
}

// A bad property is systemd's to refuse; nothing stays.
func TestSystemdRefused(t *testing.T) {
	if !systemd.IsRunningSystemd() {
		t.Skip("systemd does not run here (test/vm/systemd boots it)")
	}
	spec := &specs.Spec{Linux: &specs.Linux{CgroupsPath: ":brigtest:two"}, Annotations: map[string]string{"org.systemd.property.NoSuchThing": "true"}}
	g, err := ForSpec(spec, "two", Options{Systemd: true})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if err := g.Start(cmd.Process.Pid); err == nil || !strings.Contains(err.Error(), "NoSuchThing") {
		t.Error(err)
	}
	if g.Exists() {
		t.Errorf("left: %v", g.Dirs)
	}
	if own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid)); err != nil || strings.Contains(string(own), "brigtest") {
		t.Errorf("the process is in %s, %v", own, err)
	}
}
