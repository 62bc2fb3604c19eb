package runtime_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/internal/runtime"
)

func validSpec(root string) *specs.Spec {
	spec := defaultSpec("sh")
	spec.Version = specs.Version
	spec.Root.Path = root
	return spec
}

func TestValidateRefuses(t *testing.T) {
	bundle := t.TempDir()
	os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755)
	os.Symlink("rootfs", filepath.Join(bundle, "link"))
	os.WriteFile(filepath.Join(bundle, "file"), nil, 0o644)
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}}
	drop := func(s *specs.Spec, t specs.LinuxNamespaceType) {
		var kept []specs.LinuxNamespace
		for _, ns := range s.Linux.Namespaces {
			if ns.Type != t {
				kept = append(kept, ns)
			}
		}
		s.Linux.Namespaces = kept
	}
	add := func(s *specs.Spec, t specs.LinuxNamespaceType, path string) {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: t, Path: path})
	}
	sysctl := func(k string) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{k: "1"} }
	}
	mount := func(m specs.Mount) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Mounts = append(s.Mounts, m) }
	}
	zero, umask := 0, uint32(0o1000)
	for _, c := range []struct {
		edit func(*specs.Spec)
		want string
	}{
		{func(s *specs.Spec) { s.Version = "2.0.0" }, `ociVersion: "2.0.0" is not supported`},
		{func(s *specs.Spec) { s.Version = "1.x" }, "ociVersion"},
		{func(s *specs.Spec) { s.Linux = nil }, "linux: is required"},
		{func(s *specs.Spec) { s.Root = nil }, "root must be specified"},
		{func(s *specs.Spec) { s.Root.Path = "none" }, "root.path: invalid rootfs"},
		{func(s *specs.Spec) { s.Root.Path = "link" }, "symbolic link"},
		{func(s *specs.Spec) { s.Root.Path = filepath.Join(bundle, "link") }, "symbolic link"},
		{func(s *specs.Spec) { s.Root.Path = "file" }, "not a directory"},
		{func(s *specs.Spec) { s.Process = nil }, "process property must not be empty"},
		{func(s *specs.Spec) { s.Process.Cwd = "" }, "Cwd property must not be empty"},
		{func(s *specs.Spec) { s.Process.Cwd = "x" }, "Cwd must be an absolute path"},
		{func(s *specs.Spec) { s.Process.Args = nil }, "args must not be empty"},
		{func(s *specs.Spec) { s.Process.Args = []string{"a", "b\x00"} }, "process.args[1]"},
		{func(s *specs.Spec) { s.Process.CommandLine = "x" }, "process.commandLine"},
		{func(s *specs.Spec) { s.Process.Env = []string{"A=1", "B"} }, "process.env[1]"},
		{func(s *specs.Spec) { s.Process.Env = []string{"=1"} }, "name cannot be empty"},
		{func(s *specs.Spec) { s.Process.User.Umask = &umask }, "process.user.umask"},
		{func(s *specs.Spec) { s.Process.SelinuxLabel = "x" }, "selinux label is specified in config, but selinux is disabled"},
		{func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} }, "rlimits[0].type: unknown"},
		{func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CPU"}, {Type: "RLIMIT_CPU"}}
		}, "rlimits[1].type: RLIMIT_CPU is there twice"},
		{func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CPU", Soft: 2, Hard: 1}} }, "rlimits[0]"},
		{func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{} }, "process.scheduler.policy"},
		{func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "SCHED_X"} }, "invalid scheduler policy"},
		{func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Priority: 1} }, "process.scheduler.priority"},
		{func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedFIFO, Runtime: 1} }, "SCHED_DEADLINE"},
		{func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{Class: "X"} }, "ioPriority.class"},
		{func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		}, "ioPriority.priority"},
		{func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: "3-1"} }, "execCPUAffinity.final"},
		{func(s *specs.Spec) { s.Annotations = map[string]string{"": "x"} }, "annotations"},
		{func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "x"}}} }, "hooks.poststop[0].path"},
		{func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/x", Timeout: &zero}}} }, "hooks.createRuntime[0].timeout"},
		{func(s *specs.Spec) { add(s, "net", "") }, `namespace "net" does not exist`},
		{func(s *specs.Spec) { add(s, "pid", "") }, `duplicated ns "pid"`},
		{func(s *specs.Spec) { add(s, "user", "") }, "no namespace path to join nor mappings"},
		{func(s *specs.Spec) { s.Linux.UIDMappings = ids }, "user namespace isn't enabled"},
		{func(s *specs.Spec) { add(s, "user", ""); s.Linux.UIDMappings = ids }, "linux.gidMappings"},
		{func(s *specs.Spec) {
			add(s, "user", "")
			s.Linux.UIDMappings, s.Linux.GIDMappings = ids, []specs.LinuxIDMapping{{}}
		}, "linux.gidMappings[0]"},
		{func(s *specs.Spec) {
			add(s, "user", "/proc/self/ns/user")
			s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
		}, "linux.namespaces: read the mappings"}, // nobody can join the namespace that it is in
		{func(s *specs.Spec) { add(s, "time", "ns") }, "not an absolute path"},
		{func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}} }, "time namespace isn't enabled"},
		{func(s *specs.Spec) {
			add(s, "time", "/x")
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}}
		}, "you may only provide one"},
		{func(s *specs.Spec) {
			add(s, "time", "")
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"realtime": {}}
		}, `unknown clock "realtime"`},
		{func(s *specs.Spec) { drop(s, "uts") }, "unable to set hostname without a private UTS namespace"},
		{func(s *specs.Spec) { s.Hostname, s.Domainname = "", "d"; drop(s, "uts") }, "unable to set domainname"},
		{func(s *specs.Spec) { s.Hostname = strings.Repeat("x", 65) }, "hostname"},
		{func(s *specs.Spec) { drop(s, "mount") }, "without a private MNT namespace"},
		{func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"x"} }, "maskedPaths[0]"},
		{func(s *specs.Spec) { s.Linux.RootfsPropagation = "x" }, "linux.rootfsPropagation"},
		{func(s *specs.Spec) { s.Linux.MountLabel = "x" }, "linux.mountLabel"},
		{mount(specs.Mount{}), "mounts[7]"},
		{mount(specs.Mount{Destination: "/x"}), "type: is required"},
		{mount(specs.Mount{Destination: "/x", Options: []string{"bind"}}), "source"},
		{mount(specs.Mount{Destination: "/x", Source: "/y", Options: []string{"bind", "size=1"}}), "filesystem-specific"},
		{mount(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"idmap"}}), "only supported for bind-mounts"},
		{mount(specs.Mount{Destination: "/x", Source: "/y", Options: []string{"bind", "idmap"}}), "both uid and gid mappings"},
		{mount(specs.Mount{Destination: "/x", Source: "/y", Options: []string{"bind"}, UIDMappings: ids}), "gidMappings"},
		{mount(specs.Mount{Destination: "/x", Type: "proc", Options: []string{"tmpcopyup"}}), "tmpcopyup"},
		{mount(specs.Mount{Destination: "/x\x00", Type: "tmpfs"}), "null byte"},
		{sysctl("kernel.shmmax"), ""},
		{sysctl("kernel/shmmax"), ""},
		{sysctl("fs.mqueue.msg_max"), ""},
		{sysctl("net.ipv4.conf.eth0/1.x"), ""},
		{sysctl("net/ipv4/conf/eth0.1/x"), ""},
		{sysctl("kernel.domainname"), ""},
		{sysctl("kernel.hostname"), "conflicts with the OCI"},
		{sysctl("vm.swappiness"), "is not in a separate kernel namespace"},
		{sysctl("net/../kernel/core_pattern"), "not the name"},
		{sysctl("user.max_user_namespaces"), "without a user namespace"},
		{func(s *specs.Spec) { drop(s, "ipc"); sysctl("kernel.sem")(s) }, "hosts ipc namespace"},
		{func(s *specs.Spec) { drop(s, "network"); sysctl("net.x")(s) }, "host network namespace"},
		{func(s *specs.Spec) { drop(s, "network"); add(s, "network", "/proc/self/ns/net"); sysctl("net.x")(s) }, "host network namespace"},
		{func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/x", Type: "z"}} }, "linux.devices[0]"},
		{func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"a/b": {}} }, `invalid network device name "a/b"`},
		{func(s *specs.Spec) {
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"a": {Name: "c"}, "b": {Name: "c"}}
		}, "both be named c"},
		{func(s *specs.Spec) {
			drop(s, "network")
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"a": {}}
		}, "without a NET namespace"},
		{func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "a/b"} }, "invalid intelRdt.ClosID"},
		{func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{MemBwSchema: "L3:0=f"} }, "memBwSchema"},
		{func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "X"} }, "invalid personality domain"},
		{func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{} }, "invalid memory policy mode"},
	} {
		spec := validSpec("rootfs")
		c.edit(spec)
		_, err := runtime.Validate(spec, bundle)
		if (c.want == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")) {
			text, _ := json.Marshal(spec)
			t.Errorf("want %q, got %v\n%s", c.want, err, text)
		}
	}
}

func TestValidateAcceptsAndWarns(t *testing.T) {
	bundle := t.TempDir()
	os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755)
	spec := validSpec("rootfs")
	if w, err := runtime.Validate(spec, bundle); err != nil || len(w) != 0 {
		t.Fatal(w, err)
	}
	spec.Version = "1.9.1-dev+x"
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "rel", Type: "tmpfs"})
	spec.Windows = &specs.Windows{}
	w, err := runtime.Validate(spec, bundle)
	if err != nil || len(w) != 2 || !strings.Contains(w[1], "deprecated") {
		t.Fatal(w, err)
	}
}

// containerd names both the user namespace and its mappings.
func TestMappingsOfAJoinedUserNamespace(t *testing.T) {
	bundle := t.TempDir()
	os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755)
	ids := []specs.LinuxIDMapping{{ContainerID: 5, HostID: 1000, Size: 10}, {ContainerID: 0, HostID: 2000, Size: 5}}
	ns, err := runtime.NewUserNamespace(ids, ids)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	spec := validSpec("rootfs")
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: "user", Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd())})
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = ids, []specs.LinuxIDMapping{ids[1], ids[0]}
	if _, err := runtime.Validate(spec, bundle); err != nil {
		t.Error(err)
	}
	spec.Linux.GIDMappings = ids[:1]
	if _, err := runtime.Validate(spec, bundle); err == nil || !strings.Contains(err.Error(), "non-matching") {
		t.Error(err)
	}
}

func FuzzValidate(f *testing.F) {
	seed, _ := json.Marshal(validSpec("rootfs"))
	f.Add(seed)
	f.Add([]byte(`{"ociVersion":"1.0.0","root":{"path":"x"},"linux":{"sysctl":{"net/ipv4":"1"},"memoryPolicy":{"mode":"MPOL_BIND","nodes":"0-3,7"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var spec specs.Spec
		if json.Unmarshal(b, &spec) != nil {
			return
		}
		for i := range namespaces(&spec) {
			spec.Linux.Namespaces[i].Path = ""
		}
		runtime.Validate(&spec, "/")
	})
}

func namespaces(spec *specs.Spec) []specs.LinuxNamespace {
	if spec.Linux == nil {
		return nil
	}
	return spec.Linux.Namespaces
}
