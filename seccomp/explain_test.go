package seccomp

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

const explained = `{
	"defaultAction": "SCMP_ACT_ERRNO",
	"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
	"syscalls": [
		{"names": ["read", "write", "openat2"], "action": "SCMP_ACT_ALLOW"},
		{"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]},
		{"names": ["clone", "mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
		{"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF", "CAP_PERFMON"]}},
		{"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
		{"names": ["ptrace"], "action": "SCMP_ACT_LOG", "includes": {"arches": ["arm64", "s390x"]}},
		{"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
		{"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_LT"}]},
		{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
		{"names": ["chroot"], "action": "SCMP_ACT_ERRNO"},
		{"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_CHROOT"]}},
		{"names": ["write"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}
	]
}`

func TestExplain(t *testing.T) {
	p, err := ParseProfile("p.json", []byte(explained))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		caps   capability.Set
		kernel int // minor of 4
		arch   Arch
		call   string
		args   []uint64
		want   string
	}{
		{"allowed", 0, 8, X86_64, "read", nil, "read: ALLOW by syscalls[0] (line 5)\n"},
		{"32 bits", 0, 8, I386, "read", nil, "read: ALLOW by syscalls[0] (line 5)\n"},
		{"needs a capability", 0, 8, X86_64, "mount", nil,
			"mount: ERRNO(EPERM) by the default action; ALLOW by syscalls[2] (line 7) with CAP_SYS_ADMIN\n" +
				"  syscalls[2] (line 7): ALLOW; not here: only with CAP_SYS_ADMIN\n"},
		{"has it", capability.Of(capability.SYS_ADMIN), 8, X86_64, "mount", nil, "mount: ALLOW by syscalls[2] (line 7)\n"},
		{"needs two capabilities", 0, 8, X86_64, "bpf", nil,
			"bpf: ERRNO(EPERM) by the default action; ALLOW by syscalls[3] (line 8) with CAP_PERFMON and CAP_BPF\n" +
				"  syscalls[3] (line 8): ALLOW; not here: only with CAP_PERFMON and CAP_BPF\n"},
		{"has one of two", capability.Of(capability.BPF), 8, X86_64, "bpf", nil,
			"bpf: ERRNO(EPERM) by the default action; ALLOW by syscalls[3] (line 8) with CAP_PERFMON\n" +
				"  syscalls[3] (line 8): ALLOW; not here: only with CAP_PERFMON\n"},
		{"conditions, no arguments", 0, 8, X86_64, "clone", nil,
			"clone: depends on the arguments; if no rule below holds, ERRNO(EPERM) by the default action; ALLOW by syscalls[2] (line 7) with CAP_SYS_ADMIN\n" +
				"  syscalls[1] (line 6): ALLOW if arg0 & CLONE_NEWNS|CLONE_NEWCGROUP|CLONE_NEWUTS|CLONE_NEWIPC|CLONE_NEWUSER|CLONE_NEWPID|CLONE_NEWNET == 0\n" +
				"  syscalls[2] (line 7): ALLOW; not here: only with CAP_SYS_ADMIN\n"},
		{"a condition fails", 0, 8, X86_64, "clone", []uint64{0x10000000},
			"clone(0x10000000): ERRNO(EPERM) by the default action; ALLOW by syscalls[2] (line 7) with CAP_SYS_ADMIN\n" +
				"  syscalls[1] (line 6): ALLOW if arg0 & CLONE_NEWNS|CLONE_NEWCGROUP|CLONE_NEWUTS|CLONE_NEWIPC|CLONE_NEWUSER|CLONE_NEWPID|CLONE_NEWNET == 0; but arg0 is CLONE_NEWUSER\n" +
				"  syscalls[2] (line 7): ALLOW; not here: only with CAP_SYS_ADMIN\n"},
		{"a condition holds", 0, 8, X86_64, "clone", []uint64{0x11}, "clone(17): ALLOW by syscalls[1] (line 6)\n" +
			"  syscalls[1] (line 6): ALLOW if arg0 & CLONE_NEWNS|CLONE_NEWCGROUP|CLONE_NEWUTS|CLONE_NEWIPC|CLONE_NEWUSER|CLONE_NEWPID|CLONE_NEWNET == 0: decides\n" +
			"  syscalls[2] (line 7): ALLOW; not here: only with CAP_SYS_ADMIN\n"},
		{"beside an unconditional rule", capability.Of(capability.SYS_ADMIN), 8, X86_64, "clone", []uint64{1 << 28},
			"clone(0x10000000): ALLOW by syscalls[2] (line 7)\n" +
				"  syscalls[1] (line 6): ALLOW if arg0 & CLONE_NEWNS|CLONE_NEWCGROUP|CLONE_NEWUTS|CLONE_NEWIPC|CLONE_NEWUSER|CLONE_NEWPID|CLONE_NEWNET == 0; no effect: a rule without conditions decides alone\n" +
				"  syscalls[2] (line 7): ALLOW: decides\n"},
		{"kernel", 0, 4, X86_64, "ptrace", nil,
			"ptrace: ERRNO(EPERM) by the default action\n" +
				"  syscalls[4] (line 9): ALLOW; not here: only from kernel 4.8 on, and this is 4.4\n" +
				"  syscalls[5] (line 10): LOG; not here: only on arm64, s390x\n"},
		{"first of two", 0, 8, X86_64, "kill", []uint64{1, 9},
			"kill(1, 9): KILL_PROCESS by syscalls[6] (line 11)\n" +
				"  syscalls[6] (line 11): KILL_PROCESS if arg1 == 9 and arg0 == 1: decides\n" +
				"  syscalls[7] (line 12): ALLOW if arg1 < 10; no effect: an earlier rule decides\n"},
		{"second of two", 0, 8, X86_64, "kill", []uint64{2, 9},
			"kill(2, 9): ALLOW by syscalls[7] (line 12)\n" +
				"  syscalls[6] (line 11): KILL_PROCESS if arg1 == 9 and arg0 == 1; but arg0 is 2\n" +
				"  syscalls[7] (line 12): ALLOW if arg1 < 10: decides\n"},
		{"upper bits do not count", 0, 8, X86_64, "socket", []uint64{0x100000028},
			"socket(0x100000028): ERRNO(EPERM) by the default action\n" +
				"  syscalls[8] (line 13): ALLOW if arg0 != AF_VSOCK; but arg0 is 0x100000028, of which AF_VSOCK counts\n"},
		{"same as default, and excluded by a capability", capability.Of(capability.SYS_CHROOT), 8, X86_64, "chroot", nil,
			"chroot: ERRNO(EPERM) by the default action\n" +
				"  syscalls[9] (line 14): ERRNO(EPERM); no effect: it does the same as the default action\n" +
				"  syscalls[10] (line 15): ALLOW; not here: not with CAP_SYS_CHROOT\n"},
		{"newer than the profile", 0, 8, X86_64, "pidfd_getfd", nil,
			"pidfd_getfd: ERRNO(ENOSYS), as it is newer than openat2 (437), the newest call that the profile names\n"},
		{"not named", 0, 8, X86_64, "getpid", nil, "getpid: ERRNO(EPERM) by the default action\n"},
		{"ABI that is not listed", 0, 8, X32, "read", nil,
			"read: KILL_THREAD, as the profile does not list x32\n" +
				"  syscalls[0] (line 5): ALLOW; no effect: the profile does not list x32\n"},
	} {
		e, err := p.Explain(Target{X86_64, tc.caps, KernelVersion{4, tc.kernel}}, tc.arch, tc.call, tc.args)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		got := e.String()
		if i := strings.Index(got, "  note: "); i >= 0 {
			got = got[:i]
		}
		if got != tc.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.name, got, tc.want)
		}
	}
}

func TestExplainJSON(t *testing.T) {
	p, err := ParseProfile("p.json", []byte(explained))
	if err != nil {
		t.Fatal(err)
	}
	e, err := p.Explain(Target{X86_64, 0, KernelVersion{6, 1}}, X86_64, "mount", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(e)
	const want = `{"call":"mount","architecture":"amd64","number":165,"action":"ERRNO(EPERM)","depends":false,"by":"default","rule":-1,` +
		`"rules":[{"rule":2,"line":7,"action":"ALLOW","fate":"excluded","why":"only with CAP_SYS_ADMIN"}],` +
		`"with":[{"caps":["CAP_SYS_ADMIN"],"action":"ALLOW","depends":false,"rule":2,"line":7}],"notes":[]}`
	if err != nil || string(got) != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
	}
}

func TestExplainNotes(t *testing.T) {
	p, err := ParseProfile("p.json", []byte(explained))
	if err != nil {
		t.Fatal(err)
	}
	tgt := Target{X86_64, 0, KernelVersion{6, 1}}
	e, err := p.Explain(tgt, X86_64, "write", []uint64{1})
	if err != nil || e.Action != "ALLOW" || len(e.Notes) == 0 || !strings.Contains(e.Notes[0], "no effect on write") {
		t.Errorf("%+v, %v", e, err)
	}
	e, err = p.Explain(tgt, I386, "socket", nil)
	if err != nil || !e.Depends || len(e.Notes) != 1 || !strings.Contains(e.Notes[0], "socketcall") {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestExplainErrors(t *testing.T) {
	p, err := ParseProfile("p.json", []byte(explained))
	if err != nil {
		t.Fatal(err)
	}
	tgt := Target{X86_64, 0, KernelVersion{6, 1}}
	for _, tc := range []struct {
		target Target
		arch   Arch
		call   string
		args   []uint64
		want   string
	}{
		{tgt, X86_64, "mont", nil, `unknown system call "mont"; did you mean mount?`},
		{tgt, ARM64, "fork", nil, "arm64 has no system call fork"},
		{tgt, syscalls.M68K, "read", nil, "no table of system calls for m68k"},
		{Target{Arch: syscalls.M68K}, X86_64, "read", nil, "no table of system calls"},
		{tgt, X86_64, "read", make([]uint64, 4), "read takes 3 arguments, not 4"},
		{tgt, X86_64, "read", make([]uint64, 7), "read takes 3 arguments, not 7"},
	} {
		if _, err := p.Explain(tc.target, tc.arch, tc.call, tc.args); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.call, err, tc.want)
		}
	}
}

// What an explanation says is what the policy decides, for every call of the
// default profile, with and without capabilities.
func TestExplainDefault(t *testing.T) {
	for _, caps := range []capability.Set{0, capability.Default(), capability.Known()} {
		tgt := target(caps)
		policy, _, err := Default().Resolve(tgt)
		if err != nil {
			t.Fatal(err)
		}
		for nr, name := range syscalls.All(X86_64) {
			e, err := Default().Explain(tgt, X86_64, name, []uint64{})
			if err != nil {
				t.Fatal(err)
			}
			d := policy.Decide(X86_64.Audit(), nr, [6]uint64{})
			if e.Action != d.Action.String() || e.Rule != d.Rule || e.Depends {
				t.Errorf("%s: %+v, policy says %+v", name, e, d)
			}
			deciding := 0
			for _, f := range e.Rules {
				if f.Fate == "decides" {
					deciding++
				}
			}
			if (d.Reason == ByRule) != (deciding == 1) {
				t.Errorf("%s: %d rules decide: %+v", name, deciding, e.Rules)
			}
		}
	}
}

func TestParseArg(t *testing.T) {
	for _, tc := range []struct {
		arch Arch
		text string
		want uint64
	}{
		{X86_64, "0", 0}, {X86_64, "42", 42}, {X86_64, "0x2a", 42}, {X86_64, "010", 8}, {X86_64, "-1", 1<<64 - 1},
		{X86_64, "0xffffffffffffffff", 1<<64 - 1}, {X86_64, "AF_VSOCK", 40}, {X86_64, "CLONE_NEWUSER|CLONE_NEWNS", 0x10020000},
		{X86_64, "PR_SET_SECCOMP", 22}, {X86_64, "O_RDWR | O_CREAT|0x1000000", 0x1000042}, {X86_64, "O_DIRECTORY", 0o200000},
		{ARM64, "O_DIRECTORY", 0o40000}, {syscalls.PPC64LE, "O_DIRECT", 0o400000},
	} {
		if got, err := ParseArg(tc.arch, tc.text); err != nil || got != tc.want {
			t.Errorf("%s: %#x, %v; want %#x", tc.text, got, err, tc.want)
		}
	}
	for _, tc := range []struct {
		arch       Arch
		text, want string
	}{
		{X86_64, "", "empty number"}, {X86_64, "1|", "empty number"}, {X86_64, "AF_VSOK", "did you mean AF_VSOCK?"},
		{X86_64, "clone_newuser", "did you mean CLONE_NEWUSER?"}, {X86_64, "x", "neither a number nor a known constant"},
		{X86_64, "12x", `"12x"`}, {X86_64, "0x10000000000000000", "2^64-1"}, {syscalls.MIPS, "O_CREAT", "write the number"},
	} {
		if got, err := ParseArg(tc.arch, tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %d, %v; want %q", tc.text, got, err, tc.want)
		}
	}
}

func FuzzParseArg(f *testing.F) {
	f.Add("AF_VSOCK|0x10|-1|O_PATH")
	f.Fuzz(func(t *testing.T, text string) {
		ParseArg(X86_64, text)
		ParseArg(syscalls.MIPS, text)
	})
}
