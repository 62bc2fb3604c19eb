package inspect

import (
	"testing"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
)

const simulated = `{
	"defaultAction": "SCMP_ACT_ERRNO",
	"architectures": ["SCMP_ARCH_X86"],
	"syscalls": [
		{"names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW"},
		{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]}
	]
}`

func TestSimulate(t *testing.T) {
	p, err := seccomp.ParseProfile("p.json", []byte(simulated))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		d      bpf.Data
		call   string
		arch   string
		action string
		cached bool
		by     string
		line   int
	}{
		{bpf.Data{Nr: 0, Arch: seccomp.X86_64.Audit()}, "read", "amd64", "ALLOW", true, "rule", 5},
		{bpf.Data{Nr: 3, Arch: seccomp.I386.Audit()}, "read", "x86", "ALLOW", true, "rule", 5},
		{bpf.Data{Nr: 1 << 30, Arch: seccomp.X86_64.Audit()}, "read", "x32", "KILL_THREAD", false, "architecture", 0},
		{bpf.Data{Nr: 41, Arch: seccomp.X86_64.Audit(), Args: [6]uint64{0x100000028}}, "socket", "amd64", "ERRNO(EPERM)", false, "default", 0},
		{bpf.Data{Nr: 41, Arch: seccomp.X86_64.Audit(), Args: [6]uint64{1}}, "socket", "amd64", "ALLOW", false, "rule", 6},
		{bpf.Data{Nr: 1000, Arch: seccomp.X86_64.Audit()}, "", "amd64", "ERRNO(ENOSYS)", false, "newer", 0},
	} {
		s, err := SimulateProfile(p, seccomp.Target{Arch: seccomp.X86_64, Kernel: seccomp.KernelVersion{Major: 6, Minor: 1}}, &tc.d)
		if err != nil {
			t.Fatal(err)
		}
		if s.Call != tc.call || s.Arch != tc.arch || s.Action != tc.action || s.Cached != tc.cached || s.Policy.By != tc.by ||
			s.Policy.Line != tc.line || s.Policy.Action != tc.action || s.Executed != len(s.Steps) || s.Executed < 4 {
			t.Errorf("%+v: %+v %+v", tc.d, s, s.Policy)
		}
	}
	if _, err := Simulate([]bpf.Instruction{{Op: bpf.LdImm}}, &bpf.Data{}); err == nil {
		t.Error("no error for a program without an end")
	}
}
