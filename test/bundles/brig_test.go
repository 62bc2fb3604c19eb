package bundles

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func ids(container, host, size uint32) []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: container, HostID: host, Size: size}}
}

// mustSay runs the bundle under Brig and wants this output.
func (b *bundle) mustSay(t *testing.T, want string) {
	t.Helper()
	if got := b.run(t, brig(t)...); got.code != 0 || strings.TrimSpace(got.stdout) != strings.TrimSpace(want) {
		t.Errorf("%+v\nwant %q", got, want)
	}
}

// mustFail runs it and wants this in the error, on one line.
func (b *bundle) mustFail(t *testing.T, want string) {
	t.Helper()
	got := b.run(t, brig(t)...)
	if got.code != 1 || !strings.Contains(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("%+v\nwant an error with %q", got, want)
	}
}

func (b *bundle) command(line string) { b.spec.Process.Args = []string{"sh", "-c", line} }

func TestIDMappedMountsInAUserNamespace(t *testing.T) {
	b := newBundle(t)
	b.userns(t)
	src := filepath.Join(b.dir, "closed", "src") // a directory that the container's users cannot reach
	os.MkdirAll(src, 0o755)
	os.Chmod(filepath.Dir(src), 0o700)
	os.WriteFile(filepath.Join(src, "f"), []byte("x"), 0o644)
	b.mount(
		specs.Mount{Destination: "/plain", Source: "closed/src", Options: []string{"bind"}},
		specs.Mount{Destination: "/own", Source: src, Options: []string{"bind"}, UIDMappings: ids(0, 100007, 10), GIDMappings: ids(0, 100008, 10)},
		specs.Mount{Destination: "/implicit", Source: src, Options: []string{"rbind", "ridmap"}},
		specs.Mount{Destination: "/shared", Source: src, Options: []string{"bind", "idmap", "shared", "ro"}},
	)
	b.command(`stat -c %u:%g /plain/f /own/f /implicit/f; echo y > /implicit/new && stat -c %u:%g /implicit/new; touch /shared/x; grep ' /shared ' /proc/self/mountinfo | grep -o shared:`)
	got := b.run(t, brig(t)...)
	if got.code != 0 || got.stdout != "65534:65534\n7:8\n0:0\n0:0\nshared:\n" || !strings.Contains(got.stderr, "Read-only") {
		t.Errorf("%+v", got)
	}
	var st unix.Stat_t
	if unix.Stat(filepath.Join(src, "new"), &st); st.Uid != 0 {
		t.Errorf("on the host the new file belongs to %d", st.Uid)
	}
}

// What a container with a user namespace could not have undone, its mounts keep.
func TestLockedFlagsInAUserNamespace(t *testing.T) {
	host := hostTmpfs(t, unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOATIME)
	b := newBundle(t)
	b.userns(t)
	b.command(`grep ' /m[0-9]* ' /proc/self/mountinfo | while read a b c d at opts rest; do echo $at $opts; done | sort`)
	b.mount(
		specs.Mount{Destination: "/m1", Source: host, Options: []string{"bind", "ro", "exec"}},
		specs.Mount{Destination: "/m2", Source: host, Options: []string{"bind"}},
		specs.Mount{Destination: "/m3", Source: host, Options: []string{"bind", "norelatime"}},
	)
	b.mustSay(t, "/m1 ro,nosuid,nodev,noatime\n/m2 rw,nosuid,nodev,noatime\n/m3 rw,nosuid,nodev,noatime")
	last := len(b.spec.Mounts)
	for _, options := range []string{"bind,dev", "bind,suid,ro", "rbind,rdev", "bind,strictatime"} {
		b.spec.Mounts = append(b.spec.Mounts[:last:last], specs.Mount{Destination: "/m4", Source: host, Options: strings.Split(options, ",")})
		b.mustFail(t, "locked")
	}
}

// Without namespaces of its own, a user namespace may not mount what shows
// those of the host: it gets the host's mounts.
func TestKernelFileSystemsOfTheHost(t *testing.T) {
	b := newBundle(t)
	b.userns(t)
	var kept []specs.LinuxNamespace
	for _, ns := range b.spec.Linux.Namespaces {
		if ns.Type != "network" {
			kept = append(kept, ns)
		}
	}
	b.spec.Linux.Namespaces = kept
	b.command(`test -e /sys/kernel && echo sys; grep ' /sys ' /proc/self/mountinfo | grep -o ' ro,nosuid,nodev,noexec'; touch /sys/x 2>/dev/null || echo closed`)
	b.mustSay(t, "sys\n ro,nosuid,nodev,noexec\nclosed")
}

func TestDevicesInAUserNamespace(t *testing.T) {
	b := newBundle(t)
	b.userns(t)
	b.spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/kmsg", Type: "c", Major: 1, Minor: 11}, {Path: "/dev/pipe", Type: "p"}}
	b.command("stat -c '%n %F %t:%T' /dev/kmsg /dev/pipe")
	b.mustSay(t, "/dev/kmsg character special file 1:b\n/dev/pipe fifo 0:0")
	b.spec.Linux.Devices[0].Minor = 12
	b.mustFail(t, "linux.devices[0]: device /dev/kmsg: a container with a user namespace gets the host's, and that is not c 1:12")
	b.spec.Linux.Devices[0].Path = "/dev/none"
	b.mustFail(t, "device /dev/none: a container with a user namespace gets the host's: no such file or directory")
}

func TestNetworkDevices(t *testing.T) {
	b := newBundle(t)
	b.spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{"brigtest0": {Name: "eth9"}}
	b.command("ip -o addr show dev eth9 | grep -o '192.0.2.9/24'; ip link show eth9 | grep -o ST,UP")
	text, _ := json.Marshal(b.spec)
	os.WriteFile(filepath.Join(b.dir, "config.json"), text, 0o644)
	script := `ip link add brigtest0 type veth peer name brigtest1 && ip addr add 192.0.2.9/24 dev brigtest0 && ip link set brigtest1 up && "$@"; code=$?; ip link show brigtest0 2>&1; exit $code`
	args := append([]string{"-n", "sh", "-c", script, "sh"}, append(brig(t), "--root", t.TempDir(), "run", "-b", b.dir, "net")...)
	out, err := exec.Command("unshare", args...).CombinedOutput()
	if want := "192.0.2.9/24\nST,UP\nDevice \"brigtest0\" does not exist."; err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("%v: %s", err, out)
	}
	b.mustFail(t, "linux.netDevices: move network device brigtest0")
}

func TestExecAttributes(t *testing.T) {
	if n, _ := os.ReadFile("/sys/devices/system/cpu/online"); strings.TrimSpace(string(n)) == "0" {
		t.Skip("this machine has one CPU only")
	}
	b := newBundle(t)
	b.spec.Process.Args = []string{"sleep", "1000"}
	b.spec.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "1"}
	b.spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	text, _ := json.Marshal(b.spec)
	os.WriteFile(filepath.Join(b.dir, "config.json"), text, 0o644)
	runtime := append(brig(t), "--root", t.TempDir())
	id := fmt.Sprintf("exec%d", os.Getpid())
	call := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(runtime[0], append(runtime[1:], args...)...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if strings.Contains(args[0], "run") {
			cmd.Stdout, cmd.Stderr = nil, nil // the container keeps them open
		}
		if err := cmd.Run(); err != nil {
			t.Errorf("%v: %v: %s", args, err, out.String())
		}
		return out.String()
	}
	call("run", "-d", "-b", b.dir, id)
	defer call("delete", "-f", id)
	if got := call("exec", id, "grep", "Cpus_allowed_list", "/proc/self/status"); strings.TrimSpace(got) != "Cpus_allowed_list:\t1" {
		t.Errorf("exec runs on %q", got)
	}
	if got := call("exec", id, "cat", "/proc/self/personality"); strings.TrimSpace(got) != "00000008" {
		t.Errorf("personality of exec %q", got)
	}
	process := filepath.Join(b.dir, "process.json")
	os.WriteFile(process, []byte(`{"args":["grep","Cpus_allowed_list","/proc/self/status"],"cwd":"/","env":["PATH=/bin"],"execCPUAffinity":{"initial":"1","final":"0"}}`), 0o644)
	if got := call("exec", "-p", process, id); strings.TrimSpace(got) != "Cpus_allowed_list:\t0" {
		t.Errorf("exec of a process file runs on %q", got)
	}
}

// A caller that is bound to a CPU does not bind its containers.
func TestAffinityIsReset(t *testing.T) {
	b := newBundle(t)
	b.command("grep Cpus_allowed_list /proc/self/status")
	all, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, want, _ := strings.Cut(string(all), "Cpus_allowed_list:")
	want, _, _ = strings.Cut(want, "\n")
	text, _ := json.Marshal(b.spec)
	os.WriteFile(filepath.Join(b.dir, "config.json"), text, 0o644)
	args := append([]string{"-c", "0"}, append(brig(t), "--root", t.TempDir(), "run", "-b", b.dir, "bound")...)
	if out, err := exec.Command("taskset", args...).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "Cpus_allowed_list:"+want {
		t.Errorf("%v: %q, want %q", err, out, want)
	}
}

// What is refused leaves nothing: no state, no cgroup, no mount.
func TestRefusedBundlesLeaveNothing(t *testing.T) {
	before, _ := os.ReadFile("/proc/self/mountinfo")
	for want, edit := range map[string]func(*bundle){
		"sysctl \"vm.swappiness\" is not in a separate kernel namespace": func(b *bundle) { b.spec.Linux.Sysctl = map[string]string{"vm.swappiness": "1"} },
		"linux.namespaces[5].type: duplicated ns \"pid\"": func(b *bundle) {
			b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: "pid"})
		},
		"intelRdt is specified in config, but Intel RDT is not enabled": func(b *bundle) { b.spec.Linux.IntelRdt = &specs.LinuxIntelRdt{} },
		"bind source /nonexistent: no such file or directory": func(b *bundle) {
			b.mount(specs.Mount{Destination: "/x", Source: "/nonexistent", Options: []string{"bind"}})
		},
		"\"/proc/sys/kernel\" cannot be mounted because it is inside /proc":      func(b *bundle) { b.mount(specs.Mount{Destination: "/proc/sys/kernel", Type: "tmpfs", Source: "x"}) },
		"process.scheduler.policy: invalid scheduler policy \"SCHED_SOMETIMES\"": func(b *bundle) { b.spec.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_SOMETIMES"} },
	} {
		b := newBundle(t)
		edit(b)
		b.mustFail(t, want)
	}
	if after, _ := os.ReadFile("/proc/self/mountinfo"); !bytes.Equal(before, after) {
		t.Error("mounts are left")
	}
	id := fmt.Sprintf("t%d", os.Getpid())
	if out, _ := exec.Command("find", "/sys/fs/cgroup", "-name", id).Output(); len(out) > 0 {
		t.Errorf("cgroups are left: %s", out)
	}
}
