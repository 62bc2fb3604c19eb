package explain

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/seccomp"
)

func TestLines(t *testing.T) {
	own, err := seccomp.ParseProfile("p.json", []byte(`{"defaultAction": "SCMP_ACT_ALLOW",
"syscalls": [
{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	byDefault := Context{Caps: capability.Default(), Root: true, Profile: seccomp.Default(), ProfileName: "default profile", Kernel: seccomp.KernelVersion{Major: 6, Minor: 1}}
	byFile := byDefault
	byFile.Profile, byFile.ProfileName = own, "profile p.json"
	few := byDefault
	few.Caps, few.Root = 0, false
	for _, tt := range []struct {
		name string
		c    Context
		d    record.Denial
		want string
	}{
		{"a call that a capability unlocks", byDefault,
			record.Denial{Syscall: "clock_settime", ABI: "amd64", Program: "date", Errno: "EPERM", By: "seccomp", Count: 1},
			"clock_settime: denied EPERM in date (seccomp default profile and CAP_SYS_TIME): add --cap-add SYS_TIME"},
		{"a call that none unlocks", byDefault,
			record.Denial{Syscall: "add_key", ABI: "amd64", Program: "k", Errno: "EPERM", By: "seccomp", Count: 3},
			"add_key: denied EPERM in k, 3 times (seccomp default profile): use --security-opt seccomp=FILE with a profile that allows add_key"},
		{"arguments decide", byDefault,
			record.Denial{Syscall: "unshare", ABI: "amd64", Program: "unshare", Args: [6]uint64{unix.CLONE_NEWNS}, Errno: "EPERM", By: "seccomp", Count: 1},
			"unshare: denied EPERM in unshare (seccomp default profile and CAP_SYS_ADMIN): add --cap-add SYS_ADMIN, which makes the container nearly root of the host"},
		{"a call that programs probe for", byDefault,
			record.Denial{Syscall: "clone3", ABI: "amd64", Program: "redis", Errno: "ENOSYS", By: "seccomp", Count: 1},
			"clone3: denied ENOSYS in redis (seccomp default profile and CAP_SYS_ADMIN): harmless as a rule: programs fall back on older calls"},
		{"a line of a file", byFile,
			record.Denial{Syscall: "mkdir", ABI: "amd64", Program: "sh", Errno: "EPERM", By: "seccomp", Count: 1},
			"mkdir: denied EPERM in sh (seccomp profile p.json, line 3): allow it there"},
		{"another filter inside", byFile,
			record.Denial{Syscall: "rmdir", ABI: "amd64", Program: "sh", Errno: "EPERM", By: "seccomp", Count: 1},
			"rmdir: denied EPERM in sh (a seccomp filter of the container's own): see the program's own settings"},
		{"killed, by another ABI", byDefault,
			record.Denial{Syscall: "add_key", ABI: "x86", Program: "k", By: "seccomp", Killed: true, Count: 1},
			"add_key of x86: killed in k (seccomp default profile): use --security-opt seccomp=FILE with a profile that allows add_key"},
		{"a capability", few,
			record.Denial{Syscall: "fchownat", ABI: "amd64", Program: "chown", Errno: "EPERM", By: "capability", Capabilities: []string{"CHOWN"}, Count: 1},
			"fchownat: denied EPERM in chown (CAP_CHOWN): add --cap-add CHOWN --cap-ambient"},
		{"one that the container has", byDefault,
			record.Denial{Syscall: "openat", ABI: "amd64", Program: "nginx", Errno: "EACCES", By: "capability", Capabilities: []string{"DAC_OVERRIDE"}, Count: 1},
			"openat: denied EACCES in nginx (CAP_DAC_OVERRIDE, which the container has): the program has given it up, or does not run as root: run it as root, or add --cap-ambient with --cap-add DAC_OVERRIDE"},
		{"a name that plays with the terminal", few,
			record.Denial{Syscall: "bind", ABI: "amd64", Program: "a\x1b[2Jb", Errno: "EACCES", By: "capability", Capabilities: []string{"NET_BIND_SERVICE"}, Count: 1},
			"bind: denied EACCES in a?[2Jb (CAP_NET_BIND_SERVICE): add --cap-add NET_BIND_SERVICE --cap-ambient"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines := Denials([]record.Denial{tt.d}, tt.c)
			if len(lines) != 1 || lines[0].String() != tt.want {
				t.Errorf("got  %v\nwant %s", lines, tt.want)
			}
		})
	}
}

// The advice is in the words of the engine that started the container, which has
// resolved its profile for the container's capabilities.
func TestEngines(t *testing.T) {
	target, err := seccomp.Here(capability.Default())
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := seccomp.FromOCI("config.json", seccomp.Default().OCI(target))
	if err != nil {
		t.Fatal(err)
	}
	capable := record.Denial{Syscall: "chroot", ABI: "amd64", Program: "p", Errno: "EPERM", By: "capability", Capabilities: []string{"SYS_CHROOT"}, Count: 1}
	filtered := record.Denial{Syscall: "clock_settime", ABI: "amd64", Program: "p", Errno: "EPERM", By: "seccomp", Count: 1}
	never := record.Denial{Syscall: "add_key", ABI: "amd64", Program: "p", Errno: "EPERM", By: "seccomp", Count: 1}
	const own = "; a profile that is not the engine's default must allow clock_settime itself"
	for _, tt := range []struct {
		engine Engine
		root   bool
		d      record.Denial
		want   string
	}{
		{Docker, true, capable, "add --cap-add SYS_CHROOT"},
		{Docker, false, capable, "add --cap-add SYS_CHROOT, and run the program as root, or with that capability on its file (setcap)"},
		{Docker, true, filtered, "add --cap-add SYS_TIME" + own},
		{Docker, true, never, "use --security-opt seccomp=FILE with a profile that allows add_key"},
		{Podman, false, capable, "add --cap-add SYS_CHROOT"},
		{Kubernetes, true, capable, "add SYS_CHROOT to securityContext.capabilities.add of the container"},
		{Kubernetes, true, filtered, "add SYS_TIME to securityContext.capabilities.add of the container" + own},
		{Kubernetes, true, never, "set securityContext.seccompProfile to type Localhost with a profile that allows add_key"},
		{Bundle, true, capable, "add CAP_SYS_CHROOT to process.capabilities.bounding, effective and permitted"},
		{Bundle, false, capable, "add CAP_SYS_CHROOT to process.capabilities.bounding, effective, permitted, inheritable and ambient"},
		{Bundle, true, filtered, "allow clock_settime in linux.seccomp"},
	} {
		c := Context{Caps: capability.Default().Drop(capability.SYS_CHROOT), Root: tt.root, Profile: resolved, ProfileName: "profile", Kernel: target.Kernel, Engine: tt.engine}
		lines := Denials([]record.Denial{tt.d}, c)
		if len(lines) != 1 || lines[0].Fix != tt.want {
			t.Errorf("%s, %s: got %v\nwant %s", tt.engine, tt.d.Syscall, lines, tt.want)
		}
	}
}

func TestDenialsAreJoined(t *testing.T) {
	c := Context{Caps: capability.Default(), Root: true, Profile: seccomp.Default(), ProfileName: "default profile", Kernel: seccomp.KernelVersion{Major: 6, Minor: 1}}
	lines := Denials([]record.Denial{
		{Syscall: "clone3", ABI: "amd64", Program: "a", Errno: "ENOSYS", By: "seccomp", Count: 1},
		{Syscall: "add_key", ABI: "amd64", Program: "a", Errno: "EPERM", By: "seccomp", Count: 2},
		{Syscall: "add_key", ABI: "amd64", Program: "a", Errno: "EPERM", By: "seccomp", Count: 3},
	}, c)
	if len(lines) != 2 || lines[0].Syscall != "add_key" || lines[0].Count != 5 || !lines[1].Harmless {
		t.Errorf("got %+v", lines)
	}
}

func TestSuspiciousIsSorted(t *testing.T) {
	for _, name := range suspicious {
		if !Suspicious(name) {
			t.Errorf("%s is not found: the list must be sorted", name)
		}
	}
	if Suspicious("read") || Suspicious("socket") {
		t.Error("read or socket is suspicious")
	}
}

func TestSuspiciousValue(t *testing.T) {
	for _, tt := range []struct {
		call  string
		arg   int
		value uint64
		want  bool
	}{
		{"socket", 0, 2, false}, {"socket", 0, 16, true}, {"socket", 1, 0x80003, true}, {"socket", 1, 0x80001, false},
		{"clone", 0, 0x1200011, false}, {"clone", 0, 0x10000011, true}, {"unshare", 0, 0x400, false}, {"unshare", 0, 0x20000, true},
		{"mmap", 2, 5, false}, {"mmap", 2, 7, true}, {"mprotect", 2, 5, true}, {"mprotect", 2, 3, false},
		{"personality", 0, 0xffffffff, false}, {"personality", 0, 0x40000, true}, {"prctl", 0, 15, false}, {"prctl", 0, 22, true},
		{"ioctl", 1, 0x5401, false}, {"ioctl", 1, 0x5412, true}, {"ioctl", 1, 0x8933, true}, {"setsockopt", 1, 1, false},
		{"setsockopt", 1, 263, true}, {"ptrace", 0, 0, true}, {"fcntl", 1, 2, false},
	} {
		if got := SuspiciousValue(tt.call, tt.arg, tt.value); got != tt.want {
			t.Errorf("%s, argument %d = %#x: %v, want %v", tt.call, tt.arg, tt.value, got, tt.want)
		}
	}
}

// Under a policy the fix is a change of the policy: --cap-add and the like exclude it.
func TestUnderPolicy(t *testing.T) {
	c := Context{Root: true, Profile: &seccomp.Profile{DefaultAction: seccomp.Errno(1)}, ProfileName: "profile x", Policy: "/my dir/p.json"}
	list := Denials([]record.Denial{
		{Syscall: "mkdir", ABI: "amd64", Program: "sh", Errno: "EPERM", By: "seccomp", Count: 1},
		{Syscall: "chown", ABI: "amd64", Program: "sh", Errno: "EPERM", By: "capability", Capabilities: []string{"CHOWN"}, Count: 1},
	}, c)
	want := []string{
		"mkdir: denied EPERM in sh (the policy): brig policy allow '/my dir/p.json' mkdir",
		"chown: denied EPERM in sh (CAP_CHOWN): brig policy allow --cap-add CHOWN '/my dir/p.json'",
	}
	for i, l := range list {
		if l.String() != want[i] {
			t.Errorf("%s\nwant %s", l.String(), want[i])
		}
	}
}

func TestThreadIsNamed(t *testing.T) {
	list := Denials([]record.Denial{{Syscall: "mount", ABI: "amd64", Program: "node", Thread: "worker", Errno: "EPERM", By: "capability", Capabilities: []string{"SYS_ADMIN"}, Count: 1}},
		Context{Root: true})
	if want := "mount: denied EPERM in node (thread worker) (CAP_SYS_ADMIN)"; len(list) != 1 || !strings.HasPrefix(list[0].String(), want) {
		t.Errorf("%v, want %s", list, want)
	}
}
