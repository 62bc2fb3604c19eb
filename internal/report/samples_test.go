package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func nginxInput(t testing.TB) Input {
	t.Helper()
	data, err := os.ReadFile("testdata/nginx.json")
	if err != nil {
		t.Fatal(err)
	}
	var p policy.Policy
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatal(err)
	}
	return Input{
		Policy:       &p,
		Capabilities: capability.Of(capability.CHOWN, capability.SETGID, capability.SETUID, capability.NET_BIND_SERVICE),
		Default:      capability.Default(),
		Scanned:      true,
		Reachable: []ReachableCall{
			{"ptrace", "/usr/sbin/nginx calls ptrace of libc.so.6 in its debugging build"},
			{"mremap", "libc.so.6: realloc"}, {"openat", "libc.so.6: open"}, {"unlinkat", "/bin/rm"},
			{"splice", "/usr/bin/cat"}, {"utimensat", "/bin/sed: copy of times"},
		},
		Commands: []Command{
			{"brig", "brig run --policy nginx.json -d -p 8080:80 docker.io/library/nginx:1.29.3"},
			{"docker", "docker run -d --cap-drop ALL --cap-add CHOWN --cap-add SETGID --cap-add SETUID \\\n  --cap-add NET_BIND_SERVICE --security-opt seccomp=nginx.seccomp.json nginx:1.29.3"},
			{"Kubernetes", "securityContext:\n  capabilities:\n    drop: [ALL]\n    add: [CHOWN, SETGID, SETUID, NET_BIND_SERVICE]\n  seccompProfile:\n    type: Localhost\n    localhostProfile: nginx.seccomp.json\n"},
		},
	}
}

func emptyInput() Input {
	return Input{Policy: &policy.Policy{Version: policy.Version}, Default: capability.Default()}
}

// hugeInput has every call of every ABI of x86-64, every capability, and much of
// all else.
func hugeInput() Input {
	p := &policy.Policy{Version: policy.Version, Name: "everything", IOUring: true, User: "0",
		Image:   &policy.Image{Reference: "registry.example/a/very/long/path/to/an/image/that/does/not/end/soon:" + "1.2.3-" + strings.Repeat("x", 80)},
		Command: []string{"sh", "-c", "exec everything --with 'quotes' | tee /dev/null"}}
	for i := range 40 {
		passed := i != 39
		p.Runs = append(p.Runs, policy.Run{ID: fmt.Sprintf("run-%d", i+1), Purpose: policy.PurposeLearn, Kernel: "6.18.2", Machine: "amd64",
			Started: time.Date(2026, 1, 2, 3, 4, i, 0, time.UTC), Seconds: 3600, Under: "unconfined", Complete: i%7 != 0, New: 40 - i})
		if i%7 == 0 {
			p.Runs[i].Lost = map[string]uint64{"arguments": 12345678, "missed sys_enter": 3}
		}
		if i > 30 {
			p.Runs[i].Purpose, p.Runs[i].Passed, p.Runs[i].Probe = policy.PurposeProve, &passed, "curl -fsS http://127.0.0.1:8080/health/check?with=a&very=long-query-that-does-not-wrap"
		}
	}
	for _, c := range capability.Known().List() {
		p.Capabilities = append(p.Capabilities, policy.Capability{Name: c.Short(), Status: policy.Asked, Granted: 1 << 40, Runs: 30,
			Why: "asked by the kernel", Syscalls: []string{"mount", "ioctl", "setsockopt"}, Programs: []string{"everything", "a b"}})
	}
	seen := map[string]bool{}
	for _, arch := range []syscalls.Arch{syscalls.X86_64, syscalls.I386, syscalls.X32} {
		for nr, name := range syscalls.All(arch) {
			if seen[name] {
				continue
			}
			seen[name] = true
			s := policy.Syscall{Name: name, Status: policy.Asked, ABIs: []string{arch.Short()}, Startup: uint64(nr), Running: 1 << 50, Runs: 30,
				First: &policy.First{Program: fmt.Sprintf("program-%d", nr%17), Run: "run-1", Seconds: float64(nr%400) * float64(nr%400) / 40}}
			for i := range uint8(6) {
				s.Args = append(s.Args, policy.Arg{Index: i, Values: []uint64{0, 1, 2, 0xffffffffffffffff}, More: true, Enforce: i == 0})
			}
			p.Syscalls = append(p.Syscalls, s)
			p.Denials = append(p.Denials, policy.Denial{Syscall: name, ABI: arch.Short(), Program: "program", Errno: "EPERM", By: "seccomp+capability",
				Capabilities: []string{"SYS_ADMIN", "NET_ADMIN"}, Count: uint64(nr), Runs: 3})
		}
	}
	return Input{Policy: p, Capabilities: capability.Known(), Default: capability.Default()}
}
