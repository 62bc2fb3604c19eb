package cgroup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// runc is the oracle: what it writes into a container's cgroups for a spec, this
// package writes, too; what it refuses is refused.
type runc struct {
	dir, bundle, root string
	systemd           bool // --systemd-cgroup
}

func newRunc(t *testing.T) *runc {
	if _, err := exec.LookPath("runc"); err != nil {
		t.Fatal(err)
	}
	r := &runc{dir: t.TempDir()}
	r.bundle, r.root = filepath.Join(r.dir, "bundle"), filepath.Join(r.dir, "state")
	bin := filepath.Join(r.bundle, "rootfs/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "/bin/busybox", bin).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// create makes a container of the spec, whose process waits to be started.
func (r *runc) create(spec *specs.Spec, id string) error {
	config, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.bundle, "config.json"), config, 0o644)
	}
	if err != nil {
		return err
	}
	// The container's process keeps standard output open.
	log := filepath.Join(r.dir, "log")
	os.Remove(log)
	args := []string{"--root", r.root, "--log", log}
	if r.systemd {
		args = append(args, "--systemd-cgroup")
	}
	cmd := exec.Command("runc", append(args, "create", "--bundle", r.bundle, id)...)
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(log)
		return fmt.Errorf("%w: %s", err, text)
	}
	return nil
}

func (r *runc) run(args ...string) error {
	out, err := exec.Command("runc", append([]string{"--root", r.root}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("runc %v: %w: %s", args, err, out)
	}
	return nil
}

// bundled is a spec that runc takes.
func bundled(cgroupsPath string, r *specs.LinuxResources) *specs.Spec {
	return &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{Args: []string{"/bin/busybox", "sleep", "60"}, Cwd: "/"},
		Root:    &specs.Root{Path: "rootfs"},
		Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
		Linux: &specs.Linux{CgroupsPath: cgroupsPath, Resources: r,
			Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}}},
	}
}

// limits reads all files of the directories that hold a limit.
func limits(t *testing.T, dirs []string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil || f.IsDir() || info.Mode()&0o222 == 0 && f.Name() != "devices.list" || info.Mode()&0o444 == 0 || changes(f.Name()) {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, f.Name()))
			lines := strings.Split(strings.TrimSpace(string(content)), "\n")
			slices.Sort(lines)
			if f.Name() == "net_prio.ifpriomap" { // interfaces come and go
				lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasSuffix(l, " 0") })
			}
			if f.Name() == "devices.list" { // the TUN device was a default until runc 1.2
				lines = slices.DeleteFunc(lines, func(l string) bool { return l == "c 10:200 rwm" })
			}
			out[filepath.Join(dir, f.Name())] = strings.Join(lines, "\n")
			if err != nil {
				out[filepath.Join(dir, f.Name())] = err.Error()
			}
		}
	}
	return out
}

// changes says that a file tells what happened, not what is allowed.
func changes(name string) bool {
	switch name {
	case "cgroup.procs", "cgroup.threads", "tasks":
		return true
	}
	// Newer than the runc of the tests are limits of reserved huge pages, and the
	// weight of v2 that shares mean (see TestWeight).
	for _, part := range []string{"usage", "failcnt", "pressure", "peak", ".rsvd.", "cpu.weight"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// blockDevice is one that no file system is on.
const blockDevice = "loop7"

func TestAsRunc(t *testing.T) {
	dev, err := os.ReadFile("/sys/block/" + blockDevice + "/dev")
	if err != nil {
		t.Fatalf("no block device to throttle: %v", err)
	}
	major, minor, _ := strings.Cut(strings.TrimSpace(string(dev)), ":")
	device := `"major": ` + major + `, "minor": ` + minor
	useBFQ(t)
	r := newRunc(t)
	for name, resources := range map[string]string{
		"nothing":         `{}`,
		"shares":          `{"cpu": {"shares": 512}}`,
		"few shares":      `{"cpu": {"shares": 2}}`,
		"shares too low":  `{"cpu": {"shares": 1}}`,
		"shares too high": `{"cpu": {"shares": 9999999}}`,
		"quota":           `{"cpu": {"quota": 30000}}`,
		"period":          `{"cpu": {"period": 50000}}`,
		"both":            `{"cpu": {"quota": 30000, "period": 50000}}`,
		"no quota":        `{"cpu": {"quota": -1, "period": 50000}}`,
		"quota too low":   `{"cpu": {"quota": 10, "period": 50000}}`,
		"period too long": `{"cpu": {"period": 5000000}}`,
		"realtime":        `{"cpu": {"realtimeRuntime": 9000, "realtimePeriod": 500000}}`,
		"cpuset":          `{"cpu": {"cpus": "0", "mems": "0"}}`,
		"no such cpu":     `{"cpu": {"cpus": "4000"}}`,
		"no such node":    `{"cpu": {"mems": "1000"}}`,
		"not a list":      `{"cpu": {"cpus": "two"}}`,
		"memory":          `{"memory": {"limit": 67108864}}`,
		"memory and swap": `{"memory": {"limit": 67108864, "swap": 134217728}}`,
		"no swap":         `{"memory": {"limit": 67108864, "swap": 67108864}}`,
		"free swap":       `{"memory": {"limit": 67108864, "swap": -1}}`,
		"free memory":     `{"memory": {"limit": -1}}`,
		"swap alone":      `{"memory": {"swap": 67108864}}`,
		"swap too low":    `{"memory": {"limit": 67108864, "swap": 1048576}}`,
		"reservation":     `{"memory": {"reservation": 33554432}}`,
		"swappiness":      `{"memory": {"swappiness": 17}}`,
		"no swappiness":   `{"memory": {"swappiness": 0}}`,
		"too swappy":      `{"memory": {"swappiness": 200}}`,
		"no OOM killer":   `{"memory": {"limit": 67108864, "disableOOMKiller": true}}`,
		"kernel memory":   `{"memory": {"limit": 67108864, "kernel": 33554432, "kernelTCP": 33554432}}`,
		"use hierarchy":   `{"memory": {"limit": 67108864, "useHierarchy": true, "checkBeforeUpdate": true}}`,
		"pids":            `{"pids": {"limit": 42}}`,
		"no limit":        `{"pids": {"limit": -1}}`,
		"weight":          `{"blockIO": {"weight": 300}}`,
		"leaf weight":     `{"blockIO": {"leafWeight": 300}}`,
		"weight too low":  `{"blockIO": {"weight": 9}}`,
		"weight too high": `{"blockIO": {"weight": 1001}}`,
		"device weight":   `{"blockIO": {"weightDevice": [{` + device + `, "weight": 400}]}}`,
		"leaf of device":  `{"blockIO": {"weightDevice": [{` + device + `, "leafWeight": 400}]}}`,
		"throttle": `{"blockIO": {"throttleReadBpsDevice": [{` + device + `, "rate": 1048576}], "throttleWriteBpsDevice": [{` + device + `, "rate": 2097152}],
			"throttleReadIOPSDevice": [{` + device + `, "rate": 100}], "throttleWriteIOPSDevice": [{` + device + `, "rate": 200}]}}`,
		"no such device": `{"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 1048576}]}}`,
		"huge pages":     `{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}, {"pageSize": "1GB", "limit": 0}]}`,
		"no such pages":  `{"hugepageLimits": [{"pageSize": "3MB", "limit": 4194304}]}`,
		"class":          `{"network": {"classID": 1048577}}`,
		"priorities":     `{"network": {"priorities": [{"name": "lo", "priority": 7}]}}`,
		"no interface":   `{"network": {"priorities": [{"name": "none0", "priority": 7}]}}`,
		"rdma":           `{"rdma": {"mlx5_0": {"hcaHandles": 3, "hcaObjects": 10000}}}`,
		"unified":        `{"unified": {"cgroup.max.depth": "3", "cgroup.max.descendants": "5"}}`,
		"no such key":    `{"unified": {"cgroup.max.width": "3"}}`,
		"slash in key":   `{"unified": {"../cgroup.max.depth": "3"}}`,
		"deny, allow":    `{"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}, {"allow": true, "type": "b", "major": 7, "access": "r"}]}`,
		"all devices":    `{"devices": [{"allow": true, "access": "rwm"}]}`,
		"all but one":    `{"devices": [{"allow": true, "access": "rwm"}, {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "rwm"}]}`,
		"all together": `{"cpu": {"shares": 2048, "quota": 150000, "period": 100000, "cpus": "0-1"}, "memory": {"limit": 134217728, "swap": 134217728, "reservation": 67108864},
			"pids": {"limit": 100}, "blockIO": {"weight": 100}, "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if Mode() == "v2" && strings.HasPrefix(name, "shares too") {
				t.Skip("the runc of the tests takes none but shares that are in range")
			}
			if name == "realtime" {
				realtimeParent(t)
			}
			var res specs.LinuxResources
			if err := json.Unmarshal([]byte(resources), &res); err != nil {
				t.Fatal(err)
			}
			same(t, r, &res)
		})
	}
}

// The weight of v2 for shares of v1: the least, the default and the most are
// each other's.
func TestWeight(t *testing.T) {
	if Mode() != "v2" {
		t.Skip("v1 has shares")
	}
	needs(t, "cpu")
	for shares, weight := range map[uint64]string{1: "1", 2: "1", 512: "59", 1024: "100", 2048: "174", 262144: "10000", 1 << 30: "10000"} {
		t.Run(fmt.Sprint(shares), func(t *testing.T) {
			g := limited(t, &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}})
			if got := value(t, g, "cpu.weight", "cpu.weight"); got != weight {
				t.Errorf("weight %s, want %s", got, weight)
			}
		})
	}
}

// same compares what runc and this package make of resources.
func same(t *testing.T, r *runc, res *specs.LinuxResources) {
	path := fmt.Sprintf("/brig-test/%d", os.Getpid())
	spec := bundled(path, res)
	id := fmt.Sprintf("brig-test-%d", os.Getpid())
	runcErr := r.create(spec, id)
	var dirs []string
	var want map[string]string
	if runcErr == nil {
		dirs = Existing(path)
		want = limits(t, dirs)
		if err := r.run("delete", "--force", id); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ours(t, spec)
	t.Cleanup(func() {
		for _, d := range Existing("/brig-test") {
			os.Remove(d)
		}
	})
	if left := Existing(path); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if runcErr != nil {
		t.Logf("runc: %v", runcErr)
	}
	if err != nil {
		t.Logf("here: %v", err)
		if !strings.Contains(err.Error(), "linux.resources.") {
			t.Error("the error does not name the field")
		}
	}
	if (err == nil) != (runcErr == nil) {
		t.Fatalf("runc: %v\nhere: %v", runcErr, err)
	}
	var diff bytes.Buffer
	for file, value := range want {
		if got[file] != value {
			fmt.Fprintf(&diff, "%s: runc has %q, this package %q\n", file, value, got[file])
		}
	}
	if len(got) != len(want) {
		fmt.Fprintf(&diff, "%d files, not %d", len(got), len(want))
	}
	if diff.Len() > 0 {
		t.Error(diff.String())
	}
}

// ours makes the cgroup, reads its limits, and removes it.
func ours(t *testing.T, spec *specs.Spec) (map[string]string, error) {
	g, err := ForSpec(spec, "id", Options{})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
	}()
	if err := g.Make(); err != nil {
		return nil, err
	}
	if err := g.Limit(spec.Linux.Resources); err != nil {
		return nil, err
	}
	return limits(t, g.Dirs), nil
}

// useBFQ gives the block device the scheduler that knows weights.
func useBFQ(t *testing.T) {
	file := "/sys/block/" + blockDevice + "/queue/scheduler"
	list, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, now, _ := strings.Cut(string(list), "[")
	now, _, _ = strings.Cut(now, "]")
	if err := os.WriteFile(file, []byte("bfq"), 0); err != nil {
		t.Logf("without weights of devices: %v", err)
		return
	}
	t.Cleanup(func() { os.WriteFile(file, []byte(now), 0) })
}

// realtimeParent gives the tests' own cgroup time to give away.
func realtimeParent(t *testing.T) {
	dir := filepath.Join(Root, "cpu/brig-test")
	if Mode() == "v2" {
		return
	}
	os.Mkdir(dir, 0o755)
	if err := os.WriteFile(dir+"/cpu.rt_runtime_us", []byte("100000"), 0); err != nil {
		t.Logf("without realtime: %v", err)
	}
}
