package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/brig-run/brig/capability"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write the golden files of TestBuildGolden")

const testID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// testHost is a machine with four CPUs on which all can be granted.
func testHost() *Host {
	return &Host{
		Capabilities: capability.Known(),
		Cgroup:       CgroupV2,
		CPUs:         4,
		Hostname:     "metal",
		HardLimit:    func(string) uint64 { return 1 << 20 },
		SharedMount:  func(p string) (bool, bool, error) { return p == "/shared", p == "/slave", nil },
	}
}

func testImage() *ImageConfig {
	return &ImageConfig{
		Env:          []string{"PATH=/opt/bin:/bin", "LANG=C", "DROP=1"},
		Entrypoint:   []string{"/entry"},
		Cmd:          []string{"serve"},
		WorkingDir:   "/srv",
		Volumes:      map[string]struct{}{"/data": {}, "/cache": {}},
		Labels:       map[string]string{"from": "image", "both": "image"},
		StopSignal:   "SIGQUIT",
		ExposedPorts: map[string]struct{}{"80/tcp": {}},
	}
}

func testInput(t testing.TB, o *Options) Input {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"passwd": testPasswd, "group": testGroup} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return Input{
		Options: o, Image: testImage(), ID: testID, Host: testHost(),
		RootPath: "/run/root", Root: f, CgroupsPath: "/brig/" + testID,
		HostsPath: "/c/hosts", HostnamePath: "/c/hostname", ResolvConfPath: "/c/resolv.conf",
		InitPath: "/usr/bin/brig",
	}
}

func build(t *testing.T, o *Options, change ...func(*Input)) *Result {
	t.Helper()
	in := testInput(t, o)
	for _, f := range change {
		f(&in)
	}
	res, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// The golden files were read against moby's daemon/oci_linux.go and
// daemon/pkg/oci/defaults.go; where Brig differs, a test of its own says so.
func TestBuildGolden(t *testing.T) {
	entry := "/bin/sh"
	ten := 10
	cases := map[string]*Options{
		"default":  {},
		"terminal": {TTY: true, OpenStdin: true, Entrypoint: &entry, Args: []string{"-l"}, Env: []string{"LANG=de", "DROP", "NEW=1"}, Workdir: "/tmp/../home"},
		"user":     {User: "alice", GroupAdd: []string{"daemon"}},
		"ambient":  {User: "1000:44", CapAdd: []string{"net_admin", "CAP_SYS_TIME"}, CapAmbient: true},
		"capabilities": {CapAdd: []string{"SYS_TIME"}, CapDrop: []string{"ALL"},
			Security: Security{NoNewPrivileges: true}},
		"netadmin": {Network: NetworkNone, CapAdd: []string{"NET_ADMIN"}, Sysctls: map[string]string{"net.core.somaxconn": "256", "kernel.shmmax": "1"}},
		"host":     {Network: NetworkHost, PID: "host", IPC: "host", UTS: "host", Cgroupns: "host", Init: true},
		"resources": {Memory: 512 << 20, MemoryReservation: 256 << 20, NanoCPUs: 15e8, CPUShares: 512, CPUSetCPUs: "0-1,3", PidsLimit: 100,
			OOMScoreAdj: -100, ShmSize: 1 << 20, Ulimits: []Ulimit{{"nofile", 10, 20}, {"core", -1, -1}}},
		"readonly": {ReadOnly: true, Init: true, Mounts: []Mount{
			{Type: MountTmpfs, Target: "/run/a/b", Options: []string{"exec", "size=1m", "rw"}},
			{Type: MountBind, Source: "/src", Target: "/run", ReadOnly: true},
			{Type: MountBind, Source: "/h", Target: "/etc/hosts"},
		}},
		"mounts": {IPC: "none", Mounts: []Mount{
			{Type: MountBind, Source: "/dev", Target: "/dev"},
			{Type: MountBind, Source: "/shared", Target: "/a/b", Propagation: "rshared"},
			{Type: MountBind, Source: "/x", Target: "/a", ReadOnly: true, NonRecursive: true},
			{Type: MountBind, Source: "/y", Target: "/z", ReadOnly: true, ReadOnlyNonRecursive: true},
		}},
		"names": {Hostname: "web", Domainname: "example.org", Annotations: map[string]string{"a": "b"},
			Labels: map[string]string{"both": "user"}, StopSignal: "USR1", StopTimeout: &ten},
		"unconfined": {Security: Security{SystemPathsUnconfined: true, Seccomp: Seccomp{Mode: SeccompUnconfined}}},
		"device":     {Devices: []Device{{"/dev/null", "/dev/my-null", "rw"}}},
	}
	for name, o := range cases {
		t.Run(name, func(t *testing.T) {
			res := build(t, o)
			got, err := json.MarshalIndent(res, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s:\n%s", file, got)
			}
		})
	}
}

func TestBuildPrivileged(t *testing.T) {
	res := build(t, &Options{Privileged: true, CapDrop: []string{"SYS_MODULE"}})
	s := res.Spec
	want := capability.Known().Drop(capability.SYS_MODULE).Names()
	for name, set := range map[string][]string{
		"bounding": s.Process.Capabilities.Bounding, "permitted": s.Process.Capabilities.Permitted, "effective": s.Process.Capabilities.Effective} {
		if !slices.Equal(set, want) {
			t.Errorf("%s = %v", name, set)
		}
	}
	if len(s.Process.Capabilities.Inheritable)+len(s.Process.Capabilities.Ambient) > 0 {
		t.Errorf("inheritable or ambient capabilities: %+v", s.Process.Capabilities)
	}
	if len(s.Linux.MaskedPaths)+len(s.Linux.ReadonlyPaths) > 0 {
		t.Error("paths are masked or read-only")
	}
	if res.Seccomp.Mode != SeccompUnconfined {
		t.Errorf("seccomp = %+v", res.Seccomp)
	}
	for _, m := range s.Mounts {
		if (m.Destination == "/sys" || m.Destination == "/sys/fs/cgroup") && slices.Contains(m.Options, "ro") {
			t.Errorf("%s is read-only", m.Destination)
		}
	}
	if r := s.Linux.Resources.Devices; len(r) != 1 || !r[0].Allow || r[0].Type != "a" || r[0].Access != "rwm" {
		t.Errorf("devices cgroup = %+v", r)
	}
	if !slices.ContainsFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == "/dev/null" && d.Major == 1 && d.Minor == 3 }) {
		t.Error("the host's /dev/null is missing")
	}
	for _, d := range s.Linux.Devices {
		if strings.HasPrefix(d.Path, "/dev/pts/") || strings.HasPrefix(d.Path, "/dev/shm/") || d.Path == "/dev/console" {
			t.Errorf("%s belongs to the container itself", d.Path)
		}
	}
	res = build(t, &Options{Privileged: true, Security: Security{Seccomp: Seccomp{Mode: SeccompBuiltin}}})
	if res.Seccomp.Mode != SeccompBuiltin {
		t.Errorf("a profile that the user names does not count: %+v", res.Seccomp)
	}
}

func TestBuildCommand(t *testing.T) {
	s := func(v string) *string { return &v }
	cases := []struct {
		name       string
		entry, cmd []string
		o          Options
		want       []string
		err        error
	}{
		{"image", []string{"/e"}, []string{"c"}, Options{}, []string{"/e", "c"}, nil},
		{"arguments replace the command", []string{"/e"}, []string{"c"}, Options{Args: []string{"x"}}, []string{"/e", "x"}, nil},
		{"no entrypoint", nil, []string{"c"}, Options{}, []string{"c"}, nil},
		{"entrypoint drops the command", []string{"/e"}, []string{"c"}, Options{Entrypoint: s("/n")}, []string{"/n"}, nil},
		{"entrypoint and arguments", []string{"/e"}, []string{"c"}, Options{Entrypoint: s("/n"), Args: []string{"x"}}, []string{"/n", "x"}, nil},
		{"cleared", []string{"/e"}, []string{"c"}, Options{Entrypoint: s(""), Args: []string{"x"}}, []string{"x"}, nil},
		{"cleared without a command", []string{"/e"}, []string{"c"}, Options{Entrypoint: s("")}, nil, ErrNoCommand},
		{"nothing", nil, nil, Options{}, nil, ErrNoCommand},
		{"image clears", []string{""}, []string{"c"}, Options{}, []string{"c"}, nil},
		{"init", []string{"/e"}, []string{"c"}, Options{Init: true}, []string{InitTarget, "--", "/e", "c"}, nil},
	}
	for _, c := range cases {
		in := testInput(t, &c.o)
		in.Image = &ImageConfig{Entrypoint: c.entry, Cmd: c.cmd}
		res, err := Build(in)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.err)
		}
		if err == nil && !slices.Equal(res.Spec.Process.Args, c.want) {
			t.Errorf("%s: %q, want %q", c.name, res.Spec.Process.Args, c.want)
		}
	}
	if ErrNoCommand.Error() != "no command specified" {
		t.Error("not Docker's words")
	}
}

// The seed's example: the net tree is writable only with an own network
// namespace and NET_ADMIN, and never where nothing is protected anyway.
func TestBuildWritableNet(t *testing.T) {
	admin := []string{"NET_ADMIN"}
	cases := []struct {
		o    Options
		want bool
	}{
		{Options{}, false},
		{Options{CapAdd: admin}, true},
		{Options{CapAdd: admin, CapDrop: []string{"ALL"}}, true},
		{Options{CapAdd: []string{"ALL"}}, true},
		{Options{CapAdd: []string{"ALL"}, CapDrop: admin}, false},
		{Options{CapAdd: admin, Network: NetworkNone}, true},
		{Options{CapAdd: admin, Network: NetworkHost}, false},
		{Options{CapAdd: admin, Security: Security{SystemPathsUnconfined: true}}, false},
		{Options{Privileged: true}, false},
	}
	for _, c := range cases {
		res := build(t, &c.o)
		if got := slices.Equal(res.WritablePaths, []string{"/proc/sys/net"}); got != c.want || !got && len(res.WritablePaths) > 0 {
			t.Errorf("%+v: writable %q, want %v", c.o, res.WritablePaths, c.want)
		}
		if c.want && !slices.Contains(res.Spec.Linux.ReadonlyPaths, "/proc/sys") {
			t.Error("the rest of /proc/sys is writable")
		}
	}
}

// Unlike Docker's, Brig's helper sysctls go with the capability that they
// stand for: a dropped capability is really gone.
func TestBuildDefaultSysctls(t *testing.T) {
	const ping, port = "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"
	cases := []struct {
		o          Options
		ping, port string
	}{
		{Options{}, "0 2147483647", "0"},
		{Options{CapDrop: []string{"NET_RAW"}}, "", "0"},
		{Options{CapDrop: []string{"ALL"}}, "", ""},
		{Options{Network: NetworkHost}, "", ""},
		{Options{Sysctls: map[string]string{port: "80"}}, "0 2147483647", "80"},
	}
	for _, c := range cases {
		m := build(t, &c.o).Spec.Linux.Sysctl
		if m[ping] != c.ping || m[port] != c.port {
			t.Errorf("%+v: %v", c.o, m)
		}
	}
}

func TestBuildNonRoot(t *testing.T) {
	res := build(t, &Options{User: "alice", CapAdd: []string{"SYS_TIME"}})
	c := res.Spec.Process.Capabilities
	if !slices.Contains(c.Bounding, "CAP_SYS_TIME") || len(c.Bounding) != 15 {
		t.Errorf("bounding = %v", c.Bounding)
	}
	if len(c.Permitted)+len(c.Effective)+len(c.Inheritable)+len(c.Ambient) > 0 {
		t.Errorf("a user who is not root holds capabilities: %+v", c)
	}
	root := build(t, &Options{CapAdd: []string{"SYS_TIME"}, CapAmbient: true}).Spec.Process.Capabilities
	if len(root.Ambient)+len(root.Inheritable) > 0 {
		t.Errorf("root has ambient capabilities: %+v", root)
	}
	// What is dropped again does not come back through the ambient set.
	c = build(t, &Options{User: "alice", CapAdd: []string{"ALL"}, CapDrop: []string{"SYS_ADMIN"}, CapAmbient: true}).Spec.Process.Capabilities
	if slices.Contains(c.Ambient, "CAP_SYS_ADMIN") || !slices.Equal(c.Ambient, c.Bounding) {
		t.Errorf("ambient = %v", c.Ambient)
	}
}

func TestBuildCannotGrant(t *testing.T) {
	res := build(t, &Options{}, func(in *Input) {
		in.Host.Capabilities = in.Host.Capabilities.Drop(capability.MKNOD)
	})
	if res.Capabilities.Has(capability.MKNOD) || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "CAP_MKNOD") {
		t.Errorf("set %v, warnings %q", res.Capabilities, res.Warnings)
	}
}

func TestBuildRlimits(t *testing.T) {
	low := func(in *Input) { in.Host.HardLimit = func(string) uint64 { return 500 } }
	res := build(t, &Options{}, low)
	if want := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 500, Hard: 500}}; !reflect.DeepEqual(res.Spec.Process.Rlimits, want) {
		t.Errorf("default: %+v", res.Spec.Process.Rlimits)
	}
	if len(res.Warnings) != 0 {
		t.Errorf("the default limit warns: %q", res.Warnings)
	}
	res = build(t, &Options{Ulimits: []Ulimit{{"nofile", 100, 1000}, {"core", -1, -1}}}, low)
	want := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 500}, {Type: "RLIMIT_CORE", Soft: 500, Hard: 500}}
	if !reflect.DeepEqual(res.Spec.Process.Rlimits, want) || len(res.Warnings) != 2 {
		t.Errorf("asked: %+v, warnings %q", res.Spec.Process.Rlimits, res.Warnings)
	}
}

func TestBuildHostname(t *testing.T) {
	cases := []struct {
		o         Options
		name, uts string
	}{
		{Options{}, testID[:12], testID[:12]},
		{Options{Hostname: "web"}, "web", "web"},
		{Options{Network: NetworkHost}, "metal", "metal"},
		{Options{Network: NetworkHost, Hostname: "web"}, "web", "web"},
		{Options{UTS: "host"}, "metal", ""},
	}
	for _, c := range cases {
		res := build(t, &c.o)
		if res.Hostname != c.name || res.Spec.Hostname != c.uts {
			t.Errorf("%+v: %q, spec %q", c.o, res.Hostname, res.Spec.Hostname)
		}
		if !slices.Contains(res.Spec.Process.Env, "HOSTNAME="+c.name) {
			t.Errorf("%+v: env %q", c.o, res.Spec.Process.Env)
		}
	}
}

func TestBuildJoinsContainers(t *testing.T) {
	o := &Options{PID: "container:x", IPC: "container:x", Init: true}
	res := build(t, o, func(in *Input) {
		in.PIDPath, in.IPCPath, in.ShmPath = "/proc/7/ns/pid", "/proc/7/ns/ipc", "/proc/7/root/dev/shm"
	})
	for _, want := range []specs.LinuxNamespace{{Type: "pid", Path: "/proc/7/ns/pid"}, {Type: "ipc", Path: "/proc/7/ns/ipc"}, {Type: "network"}} {
		if !slices.Contains(res.Spec.Linux.Namespaces, want) {
			t.Errorf("%+v is not in %+v", want, res.Spec.Linux.Namespaces)
		}
	}
	i := slices.IndexFunc(res.Spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" })
	if res.Spec.Mounts[i].Source != "/proc/7/root/dev/shm" || res.Spec.Mounts[i].Type != "bind" {
		t.Errorf("/dev/shm is %+v", res.Spec.Mounts[i])
	}
	if res.Spec.Process.Args[0] != "/entry" || len(res.Warnings) != 1 {
		t.Errorf("--init in a joined namespace: %q %q", res.Spec.Process.Args, res.Warnings)
	}
	for _, o := range []*Options{{PID: "container:x"}, {IPC: "container:x"}} {
		if _, err := Build(testInput(t, o)); err == nil || !strings.Contains(err.Error(), "not running") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	cases := []struct {
		name    string
		o       Options
		change  func(*Input)
		wantErr string
	}{
		{"user", Options{User: "bob"}, nil, "unable to find user bob: no matching entries in passwd file"},
		{"capability", Options{CapAdd: []string{"NET_ADMN"}}, nil, "NET_ADMIN"},
		{"privileged capability", Options{Privileged: true, CapAdd: []string{"NET_ADMN"}}, nil, "NET_ADMIN"},
		{"relative workdir", Options{}, func(in *Input) { in.Image.WorkingDir = "srv" }, "needs to be an absolute path"},
		{"NUL in the image's environment", Options{}, func(in *Input) { in.Image.Env = []string{"A=\x00"} }, "NUL"},
		{"NUL in the image's command", Options{}, func(in *Input) { in.Image.Cmd = []string{"\x00"} }, "NUL"},
		{"image's stop signal", Options{}, func(in *Input) { in.Image.StopSignal = "FOO" }, "not a signal"},
		{"too many CPUs", Options{NanoCPUs: 5e9}, nil, "only 4 CPUs"},
		{"no such CPU", Options{CPUSetCPUs: "0,4"}, nil, "0-3"},
		{"no such device", Options{Devices: []Device{{"/dev/none", "/dev/none", "rwm"}}}, nil, `--device "/dev/none"`},
		{"not a device", Options{Devices: []Device{{"/etc/passwd", "/dev/x", "rwm"}}}, nil, "not a device"},
		{"no devices in it", Options{Devices: []Device{{"/etc", "/dev/x", "rwm"}}}, nil, "holds no device"},
		{"not shared", Options{Mounts: []Mount{{Type: MountBind, Source: "/x", Target: "/x", Propagation: "shared"}}}, nil, "not on a shared mount"},
		{"neither shared nor slave", Options{Mounts: []Mount{{Type: MountBind, Source: "/x", Target: "/x", Propagation: "rslave"}}}, nil, "shared or slave mount"},
		{"no AppArmor", Options{Security: Security{AppArmor: "web"}}, nil, "without AppArmor"},
		{"no init program", Options{Init: true}, func(in *Input) { in.InitPath = "" }, "no init program"},
	}
	for _, c := range cases {
		in := testInput(t, &c.o)
		if c.change != nil {
			c.change(&in)
		}
		res, err := Build(in)
		if err == nil || !strings.Contains(err.Error(), c.wantErr) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.wantErr)
		}
		if res != nil {
			t.Errorf("%s: a result comes with the error", c.name)
		}
	}
}

func TestBuildHostFacts(t *testing.T) {
	const hot = "/sys/devices/system/cpu/cpu0/thermal_throttle"
	facts := func(in *Input) {
		in.Host.AppArmor, in.Host.Cgroup = true, CgroupHybrid
		in.Host.ThermalThrottle = []string{hot}
	}
	res := build(t, &Options{OOMKillDisable: true, Security: Security{AppArmor: "web"}}, facts)
	if !slices.Contains(res.Spec.Linux.MaskedPaths, hot) {
		t.Errorf("%s is not masked", hot)
	}
	if res.Spec.Process.ApparmorProfile != "web" {
		t.Errorf("AppArmor profile %q", res.Spec.Process.ApparmorProfile)
	}
	if m := res.Spec.Linux.Resources.Memory; m == nil || m.DisableOOMKiller == nil || !*m.DisableOOMKiller {
		t.Errorf("memory %+v", m)
	}
	res = build(t, &Options{OOMKillDisable: true, Security: Security{AppArmor: "unconfined"}})
	if res.Spec.Linux.Resources.Memory != nil || len(res.Warnings) != 1 || res.Spec.Process.ApparmorProfile != "" {
		t.Errorf("cgroup v2 without AppArmor: %+v, warnings %q", res.Spec.Linux.Resources.Memory, res.Warnings)
	}
}

func TestValidate(t *testing.T) {
	x := Mount{Type: MountTmpfs, Target: "/x"}
	cases := []struct {
		o       Options
		wantErr string // "" is valid
	}{
		{Options{}, ""},
		{Options{Network: NetworkHost, Hostname: "web"}, ""},
		{Options{UTS: "host", Hostname: "web"}, "--uts host"},
		{Options{UTS: "host", Domainname: "web"}, "--uts host"},
		{Options{IPC: "host", ShmSize: 1}, "--ipc host"},
		{Options{ShmSize: -1}, "--shm-size"},
		{Options{CapAmbient: true}, "--cap-add"},
		{Options{Network: "a/b"}, "--network"},
		{Options{PID: "x"}, "--pid"},
		{Options{IPC: "x"}, "--ipc"},
		{Options{UTS: "x"}, "--uts"},
		{Options{Cgroupns: "x"}, "--cgroupns"},
		{Options{Mounts: []Mount{x, x}}, "duplicate mount point: /x"},
		{Options{Mounts: []Mount{{Type: "image", Target: "/x"}}}, "not supported"},
		{Options{Mounts: []Mount{{Type: MountVolume, Target: "/x"}}}, "no name"},
		{Options{Mounts: []Mount{{Type: MountVolume, Source: "../x", Target: "/x"}}}, "volume name"},
		{Options{Mounts: []Mount{{Type: MountVolume, Source: "vol", Target: "/x", Volume: VolumeMount{Subpath: "../y"}}}}, "leads out"},
		{Options{Mounts: []Mount{{Type: MountBind, Target: "/x", Source: "rel"}}}, "absolute"},
		{Options{Mounts: []Mount{{Type: MountTmpfs, Target: "/"}}}, "below /"},
		{Options{Mounts: []Mount{{Type: MountBind, Source: "/a", Target: "/x", Propagation: "no"}}}, "propagation"},
		{Options{Memory: 1 << 20}, "6MB"},
		{Options{Memory: 8 << 20, MemorySwap: 7 << 20}, "--memory-swap"},
		{Options{Memory: 8 << 20, MemorySwap: 8 << 20}, ""},
		{Options{Memory: 8 << 20, MemorySwap: -1}, ""},
		{Options{MemorySwap: 8 << 20}, "needs --memory"},
		{Options{Memory: 8 << 20, MemoryReservation: 9 << 20}, "--memory-reservation"},
		{Options{MemoryReservation: 1}, "6MB"},
		{Options{Memory: -1}, "0 or above"},
		{Options{NanoCPUs: 1e6}, "0.01"},
		{Options{CPUShares: -1}, "--cpu-shares"},
		{Options{CPUSetMems: "x"}, "--cpuset-mems"},
		{Options{Sysctls: map[string]string{"net.core.somaxconn": "1"}}, ""},
		{Options{Network: NetworkHost, Sysctls: map[string]string{"net.core.somaxconn": "1"}}, "--network host"},
		{Options{IPC: "host", Sysctls: map[string]string{"kernel.sem": "1"}}, "--ipc host"},
		{Options{Sysctls: map[string]string{"vm.swappiness": "1"}}, "whole machine"},
		{Options{Hostname: "a b"}, "--hostname"},
		{Options{StopSignal: "x"}, "--stop-signal"},
		{Options{OOMScoreAdj: 2000}, "--oom-score-adj"},
		{Options{Ulimits: []Ulimit{{"core", 0, 0}, {"core", 1, 1}}}, "twice"},
	}
	for _, c := range cases {
		err := c.o.Validate()
		if c.wantErr == "" && err != nil || c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.wantErr)
		}
	}
}

// A container is stored when it is created and built when it is started.
func TestOptionsSurviveJSON(t *testing.T) {
	empty, five := "", 5
	all := Options{Entrypoint: &empty, StopTimeout: &five, Env: []string{"A"}, Security: Security{Seccomp: Seccomp{SeccompFile, "/p"}, NoNewPrivileges: true},
		AddHost: []HostEntry{{"a", "::1"}}, Mounts: []Mount{{Type: MountBind, Source: "/a", Target: "/b", CreateSource: true}},
		Devices: []Device{{"/a", "/b", "r"}}, Ulimits: []Ulimit{{"core", -1, -1}}, Sysctls: map[string]string{"net.a": "b"}, OOMScoreAdj: -5, PID: "container:x"}
	for _, o := range []Options{{}, all} {
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var back Options
		if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(o, back) {
			t.Errorf("%s became %+v, %v", b, back, err)
		}
	}
	if b, _ := json.Marshal(Options{}); string(b) != "{}" {
		t.Errorf("no wishes are %s", b)
	}
}

func TestBuildLeavesInputAlone(t *testing.T) {
	o := &Options{Env: []string{"LANG", "A=1"}, Args: []string{"x"}, CapAdd: []string{"NET_ADMIN"}}
	in := testInput(t, o)
	before, _ := json.Marshal([]any{in.Options, in.Image})
	first, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	after, _ := json.Marshal([]any{in.Options, in.Image})
	if !bytes.Equal(before, after) {
		t.Errorf("input changed:\n%s\n%s", before, after)
	}
	if !reflect.DeepEqual(first, second) {
		t.Error("two builds differ")
	}
}

func TestDeviceDirectory(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]uint32{"a": syscall.S_IFCHR | 0o640, "sub/b": syscall.S_IFBLK | 0o600, "pts/c": syscall.S_IFCHR, "console": syscall.S_IFCHR} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mknod(path, mode, 1<<8|3); err != nil {
			t.Fatalf("mknod (the tests run as root): %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	res := build(t, &Options{Devices: []Device{{dir, "/dev/mine", "rw"}, {filepath.Join(dir, "link"), "/dev/one", "r"}}})
	var got []string
	for _, d := range res.Spec.Linux.Devices {
		got = append(got, d.Type+d.Path)
		if d.Major != 1 || d.Minor != 3 {
			t.Errorf("%+v", d)
		}
	}
	if want := []string{"c/dev/mine/a", "b/dev/mine/sub/b", "c/dev/one"}; !slices.Equal(got, want) {
		t.Errorf("nodes %q, want %q", got, want)
	}
	rules := res.Spec.Linux.Resources.Devices
	if rules[0].Allow || rules[0].Access != "rwm" {
		t.Errorf("the first rule is %+v", rules[0])
	}
	for i, want := range []string{"rw", "rw", "r"} {
		if r := rules[len(rules)-3+i]; !r.Allow || r.Access != want || *r.Major != 1 || *r.Minor != 3 {
			t.Errorf("rule %d is %+v", i, r)
		}
	}
	if mode := res.Spec.Linux.Devices[0].FileMode; mode == nil || *mode != 0o640 {
		t.Errorf("mode %v", mode)
	}
}

func TestBuildExec(t *testing.T) {
	o := &Options{CapAdd: []string{"SYS_TIME"}, CapDrop: []string{"ALL"}, Env: []string{"A=1"}, Workdir: "/w", Security: Security{NoNewPrivileges: true}}
	exec := func(e ExecOptions) *specs.Process {
		t.Helper()
		p, err := BuildExec(testInput(t, o), &e)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := exec(ExecOptions{Args: []string{"ls"}, Env: []string{"B=2"}, TTY: true})
	if want := []string{"CAP_SYS_TIME"}; !slices.Equal(p.Capabilities.Effective, want) || !slices.Equal(p.Capabilities.Bounding, want) {
		t.Errorf("capabilities %+v", p.Capabilities)
	}
	for _, v := range []string{"A=1", "B=2", "HOME=/root", "TERM=xterm", "HOSTNAME=" + testID[:12]} {
		if !slices.Contains(p.Env, v) {
			t.Errorf("%s is not in %q", v, p.Env)
		}
	}
	if p.Cwd != "/w" || !slices.Equal(p.Args, []string{"ls"}) || !p.Terminal || !p.NoNewPrivileges {
		t.Errorf("process %+v", p)
	}
	p = exec(ExecOptions{Args: []string{"ls"}, User: "alice", Workdir: "/x"})
	if p.User.UID != 1000 || len(p.Capabilities.Effective) != 0 || !slices.Contains(p.Env, "HOME=/home/alice") || p.Cwd != "/x" {
		t.Errorf("as alice: %+v", p)
	}
	p = exec(ExecOptions{Args: []string{"ls"}, Privileged: true})
	if len(p.Capabilities.Effective) != capability.Known().Len() {
		t.Errorf("privileged: %+v", p.Capabilities)
	}
	for _, e := range []ExecOptions{{}, {Args: []string{""}}, {Args: []string{"x"}, User: "bob"}, {Args: []string{"x\x00"}}, {Args: []string{"x"}, Workdir: "rel"}} {
		if p, err := BuildExec(testInput(t, o), &e); err == nil {
			t.Errorf("%+v was accepted: %+v", e, p)
		}
	}
}

func TestProbe(t *testing.T) {
	h := Probe(capability.Kernel())
	if h.CPUs < 1 || h.Hostname == "" || h.Cgroup < CgroupV1 || h.Cgroup > CgroupV2 {
		t.Errorf("%+v", h)
	}
	if n := h.HardLimit("nofile"); n == 0 {
		t.Error("no open files allowed")
	}
	for _, name := range ulimitNames() {
		if resource(name) < 0 {
			t.Errorf("limit %s has no number", name)
		}
	}
	if _, _, err := h.SharedMount("/"); err != nil {
		t.Error(err)
	}
}

// BenchmarkBuild is on the way of every start. "numeric" has no user to find,
// "files" reads the root's passwd and group files.
func BenchmarkBuild(b *testing.B) {
	b.Run("numeric", func(b *testing.B) {
		in := testInput(b, &Options{User: "0:0"})
		in.Root = nil
		for b.Loop() {
			if _, err := Build(in); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("files", func(b *testing.B) {
		in := testInput(b, &Options{})
		for b.Loop() {
			if _, err := Build(in); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("probe", func(b *testing.B) {
		for b.Loop() {
			Probe(0)
		}
	})
}
