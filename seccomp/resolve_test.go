package seccomp

import (
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func mustParse(t *testing.T, text string) *Profile {
	t.Helper()
	p, err := ParseProfile("p.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// decide returns the answer of a profile to a call of the native ABI.
func decide(t *testing.T, p *Profile, target Target, nr uint32, args ...uint64) Action {
	t.Helper()
	var all [6]uint64
	copy(all[:], args)
	return mustResolve(t, p, target).Action(target.Arch.Audit(), nr, all)
}

func TestIncludesAndExcludes(t *testing.T) {
	admin, chown := capability.Of(capability.SYS_ADMIN), capability.Of(capability.CHOWN)
	k := func(major, minor int) KernelVersion { return KernelVersion{major, minor} }
	for _, tc := range []struct {
		selector string
		target   Target
		applies  bool
	}{
		{`"comment": ""`, Target{}, true},
		{`"includes": {}, "excludes": {}`, Target{}, true},
		{`"includes": {"caps": ["CAP_SYS_ADMIN"]}`, Target{}, false},
		{`"includes": {"caps": ["CAP_SYS_ADMIN"]}`, Target{Caps: admin}, true},
		{`"includes": {"caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}`, Target{Caps: admin}, false},
		{`"includes": {"caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}`, Target{Caps: admin.Union(chown)}, true},
		{`"excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}`, Target{}, true},
		{`"excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}`, Target{Caps: admin}, false},
		{`"includes": {"arches": ["arm64", "amd64"]}`, Target{}, true},
		{`"includes": {"arches": ["arm64", "x86"]}`, Target{}, false},
		{`"excludes": {"arches": ["arm64", "amd64"]}`, Target{}, false},
		{`"excludes": {"arches": ["arm64", "x86"]}`, Target{}, true},
		{`"includes": {"minKernel": "5.4"}`, Target{Kernel: k(5, 3)}, false},
		{`"includes": {"minKernel": "5.4"}`, Target{Kernel: k(5, 4)}, true},
		{`"includes": {"minKernel": "5.4"}`, Target{Kernel: k(6, 0)}, true},
		{`"includes": {"minKernel": "5.4"}`, Target{Kernel: k(4, 20)}, false},
		{`"excludes": {"minKernel": "5.4"}`, Target{Kernel: k(5, 3)}, true},
		{`"excludes": {"minKernel": "5.4"}`, Target{Kernel: k(5, 4)}, false},
		{`"includes": {"caps": ["CAP_CHOWN"]}, "excludes": {"caps": ["CAP_SYS_ADMIN"]}`, Target{Caps: admin.Union(chown)}, false},
		{`"includes": {"caps": ["CAP_CHOWN"], "arches": ["amd64"], "minKernel": "4.8"}`, Target{Caps: chown, Kernel: k(4, 8)}, true},
		{`"includes": {"caps": ["CAP_CHOWN"], "arches": ["amd64"], "minKernel": "4.8"}`, Target{Caps: chown, Kernel: k(4, 7)}, false},
	} {
		p := mustParse(t, inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", `+tc.selector+`}`))
		if got := decide(t, p, tc.target, 0) == Allow; got != tc.applies {
			t.Errorf("%s for %+v: %v", tc.selector, tc.target, got)
		}
	}
}

// The rules of package documentation, one by one.
func TestDecide(t *testing.T) {
	const (
		personality, read, write, brk, mount, newer = 135, 0, 1, 12, 165, 460
		enosys                                      = unix.ENOSYS
	)
	eq := `"args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]`
	for _, tc := range []struct {
		name    string
		profile string
		nr      uint32
		args    []uint64
		want    Action
	}{
		{"allowed", inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW"}`), read, nil, Allow},
		{"default", inProfile(`{"names": ["mount"], "action": "SCMP_ACT_ALLOW"}`), read, nil, Errno(1)},
		{"newer", inProfile(`{"names": ["mount"], "action": "SCMP_ACT_ALLOW"}`), mount + 1, nil, Errno(uint16(enosys))},
		{"no call", inProfile(`{"names": ["mount"], "action": "SCMP_ACT_ALLOW"}`), noCall, nil, Errno(uint16(enosys))},
		{"nothing is newer than no rule", `{"defaultAction": "SCMP_ACT_TRAP"}`, newer, nil, Trap},
		{"nothing is newer than call 0", `{"defaultAction": "SCMP_ACT_TRAP", "syscalls": [{"name": "read", "action": "SCMP_ACT_ALLOW"}]}`, newer, nil, Trap},
		{"newer, default kill", `{"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [{"name": "mount", "action": "SCMP_ACT_ALLOW"}]}`, newer, nil, Errno(uint16(enosys))},
		{"newer, default allow", `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "mount", "action": "SCMP_ACT_ERRNO"}]}`, newer, nil, Allow},
		{"newer, default log", `{"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"name": "mount", "action": "SCMP_ACT_ERRNO"}]}`, newer, nil, Log},
		{"newer, default trace", `{"defaultAction": "SCMP_ACT_TRACE", "syscalls": [{"name": "mount", "action": "SCMP_ACT_ERRNO"}]}`, newer, nil, Trace(1)},
		{"a rule like the default counts for the newest", inProfile(`{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}`), write, nil, Errno(1)},
		{"a rule like the default does not decide", inProfile(`{"names": ["personality"], "action": "SCMP_ACT_ERRNO"}, {"names": ["personality"], "action": "SCMP_ACT_ALLOW", ` + eq + `}`), personality, []uint64{8}, Allow},
		{"a rule with another errno decides", inProfile(`{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2}, {"names": ["personality"], "action": "SCMP_ACT_ALLOW", ` + eq + `}`), personality, []uint64{8}, Errno(2)},
		{"condition holds", inProfile(`{"names": ["personality"], "action": "SCMP_ACT_ALLOW", ` + eq + `}`), personality, []uint64{8}, Allow},
		{"condition does not hold", inProfile(`{"names": ["personality"], "action": "SCMP_ACT_ALLOW", ` + eq + `}`), personality, []uint64{9}, Errno(1)},
		{"an unsigned int has 32 bits", inProfile(`{"names": ["personality"], "action": "SCMP_ACT_ALLOW", ` + eq + `}`), personality, []uint64{8 | 1<<32}, Allow},
		{"an unsigned long has 64", inProfile(`{"names": ["brk"], "action": "SCMP_ACT_ALLOW", ` + eq + `}`), brk, []uint64{8 | 1<<32}, Errno(1)},
		{"all conditions", inProfile(`{"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 1, "op": "SCMP_CMP_GT"}]}`), personality, []uint64{8, 1}, Errno(1)},
		{"one argument twice: any", inProfile(`{"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 9, "op": "SCMP_CMP_EQ"}]}`), personality, []uint64{9}, Allow},
		{"the first that holds", inProfile(`{"names": ["personality"], "action": "SCMP_ACT_ALLOW", ` + eq + `}, {"names": ["personality"], "action": "SCMP_ACT_KILL", ` + eq + `}`), personality, []uint64{8}, Allow},
		{"without conditions beats", inProfile(`{"names": ["personality"], "action": "SCMP_ACT_KILL", ` + eq + `}, {"names": ["personality"], "action": "SCMP_ACT_ALLOW"}`), personality, []uint64{8}, Allow},
		{"elsewhere", inProfile(`{"names": ["riscv_flush_icache", "read"], "action": "SCMP_ACT_ALLOW"}`), read, nil, Allow},
		{"other ABI", inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW"}`), read | 1<<30, nil, KillThread},
	} {
		if got := decide(t, mustParse(t, tc.profile), target(0), tc.nr, tc.args...); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// As libseccomp compares.
func TestWideConditions(t *testing.T) {
	for _, tc := range []struct {
		c           Condition
		yes, no     []uint64
		yes32, no32 []uint64 // on a 32-bit ABI
	}{
		{c: Condition{Op: NE, Value: 5}, yes: []uint64{4, 6, 5 | 1<<32}, no: []uint64{5}, no32: []uint64{5 | 1<<32}},
		{c: Condition{Op: LT, Value: 5}, yes: []uint64{0, 4}, no: []uint64{5, 1<<64 - 1, 1 << 32}, yes32: []uint64{1 << 32}},
		{c: Condition{Op: LE, Value: 5}, yes: []uint64{0, 5}, no: []uint64{6, 1 << 63}},
		{c: Condition{Op: EQ, Value: 5}, yes: []uint64{5}, no: []uint64{4, 5 | 1<<32}, yes32: []uint64{5 | 1<<32}},
		{c: Condition{Op: GE, Value: 5}, yes: []uint64{5, 1<<64 - 1}, no: []uint64{4}, no32: []uint64{1 << 32}},
		{c: Condition{Op: GT, Value: 5}, yes: []uint64{6, 1 << 63}, no: []uint64{5}},
		{c: Condition{Op: MaskedEQ, Value: 6, ValueTwo: 2}, yes: []uint64{2, 3, 10}, no: []uint64{0, 6}},
		{c: Condition{Op: EQ, Value: 1<<64 - 1}, yes: []uint64{1<<64 - 1}, no: []uint64{1<<32 - 1}, yes32: []uint64{1<<32 - 1}},
		{c: Condition{Op: EQ, Value: 1<<32 | 5}, yes: []uint64{1<<32 | 5}, no: []uint64{5}, no32: []uint64{5, 1<<32 | 5}},
	} {
		p := &Profile{DefaultAction: Trap, Architectures: []Arch{I386, X32}, Syscalls: []SyscallRule{
			{Names: []string{"personality"}, Action: Allow, Args: []Condition{tc.c}},
		}}
		policy, _, err := p.ResolveWith(target(0), Options{WideArgs: true})
		if err != nil {
			t.Fatal(err)
		}
		check := func(audit, nr uint32, values []uint64, want Action) {
			for _, v := range values {
				if got := policy.Action(audit, nr, [6]uint64{v}); got != want {
					t.Errorf("%+v, audit %#x, argument %#x: %v", tc.c, audit, v, got)
				}
			}
		}
		check(X86_64.Audit(), 135, tc.yes, Allow)
		check(X86_64.Audit(), 135, tc.no, Trap)
		for _, nr := range []uint32{136, 135 | 1<<30} {
			audit := I386.Audit()
			if nr > 136 {
				audit = X32.Audit()
			}
			check(audit, nr, tc.yes32, Allow)
			check(audit, nr, tc.no32, Trap)
		}
	}
}

// As the kernel reads the arguments.
func TestConditions(t *testing.T) {
	for _, tc := range []struct {
		call    string
		index   uint8
		c       Condition
		yes, no []uint64
	}{
		{"socket", 0, Condition{Op: EQ, Value: 40}, []uint64{40, 1<<32 | 40, 1<<63 | 40}, []uint64{41, 40 << 32}},
		{"socket", 0, Condition{Op: NE, Value: 40}, []uint64{41, 40 << 32}, []uint64{40, 1<<32 | 40}},
		{"socket", 0, Condition{Op: LT, Value: 3}, []uint64{0, 2, 1 << 32}, []uint64{3, 1<<64 - 1}},
		{"personality", 0, Condition{Op: EQ, Value: 1<<32 - 1}, []uint64{1<<32 - 1, 1<<64 - 1}, []uint64{0}},
		{"personality", 0, Condition{Op: EQ, Value: 1<<64 - 1}, []uint64{1<<32 - 1, 1<<64 - 1}, []uint64{0}},
		{"personality", 0, Condition{Op: MaskedEQ, Value: 1<<64 - 2, ValueTwo: 1<<64 - 2}, []uint64{1<<32 - 1, 1<<64 - 2}, []uint64{0}},
		{"personality", 0, Condition{Op: LE, Value: 1 << 40}, []uint64{0, 1<<64 - 1}, nil},
		{"personality", 0, Condition{Op: GE, Value: 1 << 40}, nil, []uint64{0, 1<<64 - 1}},
		{"munmap", 1, Condition{Op: EQ, Value: 17}, []uint64{17}, []uint64{1<<32 | 17}},
		{"fchmod", 1, Condition{Op: EQ, Value: 0o777}, []uint64{0o777, 1<<16 | 0o777}, []uint64{0o776}},
		{"fchmod", 1, Condition{Op: GE, Value: 0o4000}, []uint64{0o4000}, []uint64{1<<16 | 0o777}},
	} {
		tc.c.Index = tc.index
		policy := mustResolve(t, &Profile{DefaultAction: Trap, Syscalls: []SyscallRule{
			{Names: []string{tc.call}, Action: Allow, Args: []Condition{tc.c}},
		}}, target(0))
		nr, _ := syscalls.Number(X86_64, tc.call)
		for want, values := range map[Action][]uint64{Allow: tc.yes, Trap: tc.no} {
			for _, v := range values {
				args := [6]uint64{}
				args[tc.index] = v
				if got := policy.Action(X86_64.Audit(), nr, args); got != want {
					t.Errorf("%s, %+v, argument %#x: %v", tc.call, tc.c, v, got)
				}
			}
		}
		checkFilter(t, policy, 17)
	}
}

func TestArchitectures(t *testing.T) {
	family := []ArchFamily{{X86_64, []Arch{I386, X32}}, {ARM64, []Arch{ARM}}}
	for _, tc := range []struct {
		profile Profile
		native  Arch
		want    []Arch
	}{
		{Profile{}, X86_64, []Arch{X86_64}},
		{Profile{ArchMap: family}, X86_64, []Arch{X86_64, I386, X32}},
		{Profile{ArchMap: family}, ARM64, []Arch{ARM64, ARM}},
		{Profile{ArchMap: family}, I386, []Arch{I386}},
		{Profile{Architectures: []Arch{I386}}, X86_64, []Arch{X86_64, I386}},
		{Profile{Architectures: []Arch{X32, X86_64, X32}}, X86_64, []Arch{X86_64, X32}},
		{Profile{Architectures: []Arch{200, I386}}, X86_64, []Arch{X86_64, I386}},
	} {
		policy, _, err := tc.profile.Resolve(Target{Arch: tc.native})
		if err != nil {
			t.Fatal(err)
		}
		var got []Arch
		for _, a := range policy.Archs {
			got = append(got, a.Arch)
		}
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%+v on %v: %v", tc.profile, tc.native, got)
		}
	}
	if _, _, err := (&Profile{}).Resolve(Target{Arch: 200}); err == nil || !strings.Contains(err.Error(), "no table of system calls") {
		t.Errorf("no table: %v", err)
	}
	p := &Profile{File: "f", Syscalls: []SyscallRule{{Names: []string{"raed"}}}}
	if _, _, err := p.Resolve(target(0)); err == nil || !strings.Contains(err.Error(), `f: syscalls[0].names[0]: unknown system call "raed"; did you mean read?`) {
		t.Errorf("unknown name: %v", err)
	}
}

func TestFlags(t *testing.T) {
	for text, want := range map[string]Flags{
		`{"defaultAction": "SCMP_ACT_LOG"}`:                                                      FlagSpecAllow,
		`{"defaultAction": "SCMP_ACT_LOG", "flags": null}`:                                       FlagSpecAllow,
		`{"defaultAction": "SCMP_ACT_LOG", "flags": []}`:                                         0,
		`{"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}`:                FlagLog,
		`{"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}`: 0,
		`{"defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
		  "syscalls": [{"name": "mount", "action": "SCMP_ACT_NOTIFY"}]}`: FlagWaitKillableRecv,
	} {
		if got := mustResolve(t, mustParse(t, text), target(0)).Flags; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if got := (FlagLog | FlagNewListener | 1<<20).String(); got != "SECCOMP_FILTER_FLAG_LOG|SECCOMP_FILTER_FLAG_NEW_LISTENER|0x100000" {
		t.Error(got)
	}
}

// What 32-bit programs reach through socketcall and ipc, where arguments are
// out of a filter's sight.
func TestMultiplexedCalls(t *testing.T) {
	cond := []Condition{{Index: 0, Op: EQ, Value: 40}}
	const socketcall, ipc, sysSocket, semop, shmat = 102, 117, 1, 1, 21
	for _, tc := range []struct {
		name     string
		def      Action
		rules    []SyscallRule
		nr       uint32
		selector uint64
		want     Action
	}{
		{"allowed", Errno(1), []SyscallRule{{Names: []string{"socket"}, Action: Allow}}, socketcall, sysSocket, Allow},
		{"allowed is another", Errno(1), []SyscallRule{{Names: []string{"socket"}, Action: Allow}}, socketcall, 2, Errno(1)},
		{"allowed with conditions", Errno(1), []SyscallRule{{Names: []string{"socket"}, Action: Allow, Args: cond}}, socketcall, sysSocket, Errno(1)},
		{"refused with conditions", Allow, []SyscallRule{{Names: []string{"socket"}, Action: Errno(9), Args: cond}}, socketcall, sysSocket, Errno(9)},
		{"refused with conditions is another", Allow, []SyscallRule{{Names: []string{"socket"}, Action: Errno(9), Args: cond}}, socketcall, 3, Allow},
		{"refused with conditions, allowed without", Errno(1), []SyscallRule{
			{Names: []string{"socket"}, Action: KillProcess, Args: cond}, {Names: []string{"socket"}, Action: Allow},
		}, socketcall, sysSocket, Allow},
		{"socketcall itself decides", Errno(1), []SyscallRule{
			{Names: []string{"socket"}, Action: KillProcess}, {Names: []string{"socketcall"}, Action: Allow},
		}, socketcall, sysSocket, Allow},
		{"ipc", Errno(1), []SyscallRule{{Names: []string{"shmat"}, Action: Allow}}, ipc, shmat, Allow},
		{"ipc with a version", Errno(1), []SyscallRule{{Names: []string{"shmat"}, Action: Allow}}, ipc, shmat | 1<<16, Allow},
		{"ipc is another", Errno(1), []SyscallRule{{Names: []string{"shmat"}, Action: Allow}}, ipc, semop, Errno(1)},
		{"ipc refused with conditions", Log, []SyscallRule{{Names: []string{"shmat"}, Action: Trap, Args: cond}}, ipc, shmat, Trap},
	} {
		p := &Profile{DefaultAction: tc.def, Architectures: []Arch{I386}, Syscalls: tc.rules}
		// A name above the multiplexers, so that nothing here is newer.
		p.Syscalls = append(p.Syscalls, SyscallRule{Names: []string{"openat2"}, Action: Trace(1)})
		policy := mustResolve(t, p, target(0))
		if got := policy.Action(I386.Audit(), tc.nr, [6]uint64{tc.selector}); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestNotes(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW"}`), ""},
		{inProfile(`{"names": ["riscv_flush_icache"], "action": "SCMP_ACT_ALLOW"}`),
			"line 1: syscalls[0]: riscv_flush_icache exists only on other architectures and is skipped"},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_S390X"]}`,
			"architecture SCMP_ARCH_S390X cannot occur here and is skipped"},
		{inProfile(`{"names": ["mount"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}, {"names": ["mount"], "action": "SCMP_ACT_ALLOW"}`),
			"line 1: syscalls[0]: no effect on mount (SCMP_ARCH_X86_64), which syscalls[1] decides whatever the arguments"},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
			{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
			{"names": ["socketcall"], "action": "SCMP_ACT_ALLOW"}]}`,
			"line 2: syscalls[0]: no filter sees the arguments of socket when a program for SCMP_ARCH_X86 makes the call through socketcall, which gives ALLOW there"},
		{`{"defaultAction": "SCMP_ACT_LOG", "listenerPath": "/l", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}`,
			"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV has no effect, since no rule notifies\nlistenerPath has no effect, since no rule notifies"},
	} {
		_, notes, err := mustParse(t, tc.text).Resolve(target(0))
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, n := range notes {
			lines = append(lines, n.String())
		}
		if got := strings.Join(lines, "\n"); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.text, got, tc.want)
		}
	}
}

func TestKernelVersions(t *testing.T) {
	got, err := RunningKernel()
	if err != nil || !got.AtLeast(KernelVersion{3, 17}) {
		t.Errorf("running kernel %v, %v", got, err)
	}
	for text, want := range map[string]KernelVersion{"5.14": {5, 14}, "0.1": {0, 1}, "10.0": {10, 0}} {
		if v, err := parseKernelVersion(text); err != nil || v != want || v.String() != text {
			t.Errorf("%s: %v, %v", text, v, err)
		}
	}
	for _, text := range []string{"", "5", "5.", ".5", "5.14.1", "5.x", "-5.1", "0.0", "70000.1"} {
		if v, err := parseKernelVersion(text); err == nil {
			t.Errorf("%q: %v", text, v)
		}
	}
}
