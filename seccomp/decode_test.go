package seccomp

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/capability"
)

// rule wraps the text of one rule in a profile.
func inProfile(rule string) string {
	return `{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [` + rule + `]}`
}

func TestParseProfileErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{``, `p.json:1: the file ends in the middle of the profile`},
		{"{\n\"defaultAction\":", `p.json:2: defaultAction: the file ends in the middle of the profile`},
		{"{\n\"defaultAction\": \"SCMP_ACT_ALLOW\",\n}", `p.json:3: invalid character '}'`},
		{"{} {}", `p.json:1: more data after the profile`},
		{"[]", `p.json:1: must be an object, not a list`},
		{"null", `p.json:1: must be an object, not null`},
		{"{}", `p.json:1: defaultAction: missing`},
		{`{"defaultAction": null}`, `p.json:1: defaultAction: missing`},
		{`{"defaultAction": ""}`, `p.json:1: defaultAction: unknown action ""`},
		{`{"defaultAction": 5}`, `p.json:1: defaultAction: must be a string, not a number`},
		{"{\n \"defaultAction\": \"SCMP_ACT_ALOW\"}", `p.json:2: defaultAction: unknown action "SCMP_ACT_ALOW"; did you mean SCMP_ACT_ALLOW?`},
		{`{"defaultAction": "ALLOW"}`, `p.json:1: defaultAction: unknown action "ALLOW"; did you mean SCMP_ACT_ALLOW?`},
		{`{"defaultAction": "scmp_act_log"}`, `p.json:1: defaultAction: unknown action "scmp_act_log"; did you mean SCMP_ACT_LOG?`},
		{`{"defaultAction": "SCMP_ACT_NOTIFY"}`, `p.json:1: defaultAction: SCMP_ACT_NOTIFY cannot be the default action`},
		{"{\"defaultAction\": \"SCMP_ACT_LOG\",\n\"defaultAction\": \"SCMP_ACT_LOG\"}", `p.json:2: defaultAction: field given twice, first in line 1`},
		{"{\"defaultAction\": \"SCMP_ACT_LOG\",\n\"defaultErrno\": \"EFOO\"}", `p.json:2: defaultErrno: unknown error "EFOO"`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EPERM", "defaultErrnoRet": 2}`, `p.json:1: defaultErrno: EPERM is 1, but defaultErrnoRet is 2`},
		{`{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}`, `p.json:1: defaultErrnoRet: has no meaning with SCMP_ACT_ALLOW`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}`, `p.json:1: defaultErrnoRet: 4096 is no error number; they go from 0 to 4095`},
		{`{"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 65536}`, `p.json:1: defaultErrnoRet: 65536 is no message for a tracer; they go from 0 to 65535`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1}`, `p.json:1: defaultErrnoRet: -1 is no whole number from 0 to 2^64-1`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1.5}`, `p.json:1: defaultErrnoRet: 1.5 is no whole number from 0 to 2^64-1`},
		{`{"defaultaction": "SCMP_ACT_ERRNO"}`, `p.json:1: defaultaction: unknown field; did you mean defaultAction?`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "syscall": []}`, `p.json:1: syscall: unknown field; did you mean syscalls?`},
		{`{"default\nAction": "SCMP_ACT_ERRNO"}`, `p.json:1: "default\nAction": unknown field; did you mean defaultAction?`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "frobnicate": []}`, `p.json:1: frobnicate: unknown field`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}`, `p.json:1: architectures: cannot be given together with archMap; use one of both`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_46"]}`, `p.json:1: architectures[0]: unknown architecture "SCMP_ARCH_X86_46"; did you mean SCMP_ARCH_X86_64?`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "architectures": "SCMP_ARCH_X86"}`, `p.json:1: architectures: must be a list, not a string`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{}]}`, `p.json:1: archMap[0].architecture: missing`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subarchitectures": []}]}`, `p.json:1: archMap[0].subarchitectures: unknown field; did you mean subArchitectures?`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_X86_64"}, {"architecture": "SCMP_ARCH_X86_64"}]}`, `p.json:1: archMap[1]: SCMP_ARCH_X86_64 is mapped twice`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_TSYNK"]}`, `p.json:1: flags[0]: unknown flag "SECCOMP_FILTER_FLAG_TSYNK"; did you mean SECCOMP_FILTER_FLAG_TSYNC?`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}`, `p.json:1: flags[0]: flag "SECCOMP_FILTER_FLAG_NEW_LISTENER" cannot be asked for; it is set where SCMP_ACT_NOTIFY needs it`},
		{`{"defaultAction": "SCMP_ACT_ERRNO", "listenerMetadata": "x"}`, `p.json:1: listenerMetadata: has no meaning without listenerPath`},
		{inProfile("\n" + `{"names": ["read", "socket"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 4294967336, "op": "SCMP_CMP_EQ"}]}`), `p.json:2: syscalls[0].args[0]: never holds: the kernel reads 32 bits of argument 0 of read`},
		{inProfile(`{"name": "fchmod", "action": "SCMP_ACT_KILL", "args": [{"index": 1, "value": 65536, "valueTwo": 65536, "op": "SCMP_CMP_MASKED_EQ"}]}`), `p.json:1: syscalls[0].args[0]: never holds: the kernel reads 16 bits of argument 1 of fchmod`},
		{inProfile(`{"name": "socket", "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 4294967295, "op": "SCMP_CMP_GT"}]}`), `p.json:1: syscalls[0].args[0]: never holds: the kernel reads 32 bits of argument 0 of socket`},
		{strings.Repeat(`{"syscalls": [`, 20), `p.json:1: values nest deeper than 32 levels`},
		{"{\"defaultAction\": \"SCMP_ACT_ERRNO\",\n\"syscalls\": [\n{\"names\": [\"read\", \"opne\"], \"action\": \"SCMP_ACT_ALLOW\"}]}", `p.json:3: syscalls[0].names[1]: unknown system call "opne"; did you mean open?`},
		{inProfile(`{"names": ["sys_openat"], "action": "SCMP_ACT_ALLOW"}`), `p.json:1: syscalls[0].names[0]: unknown system call "sys_openat"; did you mean openat?`},
		{inProfile(`{"names": ["OPENAT"], "action": "SCMP_ACT_ALLOW"}`), `p.json:1: syscalls[0].names[0]: unknown system call "OPENAT"; did you mean openat?`},
		{inProfile(`{"names": ["frobnicate"], "action": "SCMP_ACT_ALLOW"}`), `p.json:1: syscalls[0].names[0]: unknown system call "frobnicate"`},
		{inProfile(`{"names": [""], "action": "SCMP_ACT_ALLOW"}`), `p.json:1: syscalls[0].names[0]: unknown system call ""`},
		{inProfile(`{"names": [], "action": "SCMP_ACT_ALLOW"}`), `p.json:1: syscalls[0].names: names no system call`},
		{inProfile(`{"name": "read", "names": ["write"], "action": "SCMP_ACT_ALLOW"}`), `p.json:1: syscalls[0].name: cannot be given together with names; use one of both`},
		{inProfile(`{"names": ["read"]}`), `p.json:1: syscalls[0].action: missing`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1}`), `p.json:1: syscalls[0].errnoRet: has no meaning with SCMP_ACT_KILL_THREAD`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "ENOENT", "errnoRet": 1}`), `p.json:1: syscalls[0].errno: ENOENT is 2, but errnoRet is 1`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "SCMP_CMP_EQ"}]}`), `p.json:1: syscalls[0].args[0].value: missing`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"value": 0, "op": "SCMP_CMP_EQ"}]}`), `p.json:1: syscalls[0].args[0].index: missing`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "EQ"}]}`), `p.json:1: syscalls[0].args[0].op: unknown operator "EQ"; did you mean SCMP_CMP_EQ?`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}`), `p.json:1: syscalls[0].args[0].index: a system call has only the arguments 0 to 5`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 256, "value": 0, "op": "SCMP_CMP_EQ"}]}`), `p.json:1: syscalls[0].args[0].index: a system call has only the arguments 0 to 5`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": "1", "op": "SCMP_CMP_EQ"}]}`), `p.json:1: syscalls[0].args[0].value: must be a number, not a string`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 18446744073709551616, "op": "SCMP_CMP_EQ"}]}`), `p.json:1: syscalls[0].args[0].value: 18446744073709551616 is no whole number from 0 to 2^64-1`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}]}`), `p.json:1: syscalls[0].args[0]: valueTwo has a meaning only with SCMP_CMP_MASKED_EQ`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}`), `p.json:1: syscalls[0].args[0]: never holds: valueTwo 0x2 has bits outside of the mask 0x1 in value`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_LT"}]}`), `p.json:1: syscalls[0].args[0]: never holds: no argument is below 0`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 18446744073709551615, "op": "SCMP_CMP_GT"}]}`), `p.json:1: syscalls[0].args[0]: never holds: no argument is above the largest number`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": {"index": 0}}`), `p.json:1: syscalls[0].args: must be a list, not an object`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["SYS_ADMIN"]}}`), `p.json:1: syscalls[0].includes.caps[0]: unknown capability "SYS_ADMIN"; did you mean CAP_SYS_ADMIN?`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd46"]}}`), `p.json:1: syscalls[0].excludes.arches[0]: unknown architecture "amd46"; did you mean amd64?`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5"}}`), `p.json:1: syscalls[0].includes.minKernel: invalid kernel version "5"; write it as "5.14"`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "0.0"}}`), `p.json:1: syscalls[0].includes.minKernel: kernel version cannot be 0.0`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": 5.14}}`), `p.json:1: syscalls[0].includes.minKernel: must be a string, not a number`},
		{inProfile(`{"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"cap": []}}`), `p.json:1: syscalls[0].includes.cap: unknown field; did you mean caps?`},
		{inProfile(`{"names": "read", "action": "SCMP_ACT_ALLOW"}`), `p.json:1: syscalls[0].names: must be a list, not a string`},
	} {
		p, err := ParseProfile("p.json", []byte(tc.text))
		if err == nil || p != nil {
			t.Errorf("%s: no error", tc.text)
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.File != "p.json" {
			t.Errorf("%s: %#v", tc.text, err)
		}
		if got := err.Error(); got != tc.want && !(strings.Contains(tc.want, "invalid character") && strings.HasPrefix(got, tc.want)) {
			t.Errorf("%s:\n got %s\nwant %s", tc.text, got, tc.want)
		}
	}
}

func TestParseProfile(t *testing.T) {
	text := `{
		"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
		"archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}],
		"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
		"listenerPath": "/run/l", "listenerMetadata": "m",
		"syscalls": [
			{"name": "read", "action": "SCMP_ACT_ALLOW", "args": null, "comment": "c"},
			{"names": ["clone", "riscv_flush_icache"], "action": "SCMP_ACT_TRACE", "errnoRet": 65535,
			 "args": [{"index": 5, "value": 18446744073709551615, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_GE"}],
			 "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"], "arches": ["amd64", "x32"], "minKernel": "4.8"},
			 "excludes": {"caps": ["CAP_CHOWN"], "arches": ["s390x", "mips3l64n32"], "minKernel": ""}},
			{"names": ["write"], "action": "SCMP_ACT_ERRNO", "errno": "EACCES"}
		]
	}`
	got, err := ParseProfile("p.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := &Profile{
		File: "p.json", DefaultAction: Errno(38), ArchMap: []ArchFamily{{X86_64, []Arch{I386, X32}}},
		Flags: FlagLog | FlagSpecAllow | FlagTSync | FlagWaitKillableRecv, FlagsGiven: true,
		ListenerPath: "/run/l", ListenerMetadata: "m",
		Syscalls: []SyscallRule{
			{Names: []string{"read"}, Action: Allow, Comment: "c", Line: 7},
			{
				Names: []string{"clone", "riscv_flush_icache"}, Action: Trace(65535), Line: 8,
				Args: []Condition{{Index: 5, Op: MaskedEQ, Value: 1<<64 - 1, ValueTwo: 1}, {Index: 1, Op: GE, Value: 2}},
				Includes: Selector{
					Caps:   capability.Of(capability.SYS_ADMIN, capability.BPF),
					Arches: []Arch{X86_64, X32}, MinKernel: KernelVersion{4, 8},
				},
				Excludes: Selector{Caps: capability.Of(capability.CHOWN)},
			},
			{Names: []string{"write"}, Action: Errno(13), Line: 12},
		},
	}
	for i := range got.Syscalls {
		want.Syscalls[i].calls = got.Syscalls[i].calls
	}
	want.Syscalls[1].Excludes.Arches = got.Syscalls[1].Excludes.Arches // compared below
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	for i, name := range []string{"SCMP_ARCH_S390X", "SCMP_ARCH_MIPSEL64N32"} {
		if a := got.Syscalls[1].Excludes.Arches[i]; a.String() != name {
			t.Errorf("excludes: %v, want %s", a, name)
		}
	}
}

func TestParseActions(t *testing.T) {
	for name, want := range map[string]Action{
		"ALLOW": Allow, "ERRNO": Errno(1), "KILL": KillThread, "KILL_THREAD": KillThread, "KILL_PROCESS": KillProcess,
		"TRAP": Trap, "TRACE": Trace(1), "LOG": Log,
	} {
		p, err := ParseProfile("", []byte(`{"defaultAction": "SCMP_ACT_`+name+`"}`))
		if err != nil || p.DefaultAction != want {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	p, err := ParseProfile("", []byte(inProfile(`{"name": "read", "action": "SCMP_ACT_NOTIFY"}`)))
	if err != nil || p.Syscalls[0].Action != Notify {
		t.Errorf("NOTIFY: %+v, %v", p, err)
	}
}

func TestLoadProfileErrors(t *testing.T) {
	dir := t.TempDir()
	bad, big := filepath.Join(dir, "bad.json"), filepath.Join(dir, "big.json")
	for path, text := range map[string]string{bad: "{", big: strings.Repeat(" ", maxProfile+1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	none := filepath.Join(dir, "none.json")
	for path, want := range map[string]string{
		none: "load seccomp profile: open " + none + ": no such file or directory",
		dir:  "load seccomp profile: read " + dir + ": is a directory",
		bad:  "load seccomp profile: " + bad + ":1: the file ends in the middle of the profile",
		big:  "load seccomp profile: " + big + ": larger than 4194304 bytes",
	} {
		if _, err := LoadProfile(path); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestFromOCIErrors(t *testing.T) {
	n := uint(5000)
	rule := func(s specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow}, s}}
	}
	for _, tc := range []struct {
		oci  *specs.LinuxSeccomp
		want string
	}{
		{&specs.LinuxSeccomp{}, `c: defaultAction: unknown action ""`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, `c: defaultAction: SCMP_ACT_NOTIFY cannot be the default action`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: &n}, `c: defaultErrnoRet: 5000 is no error number; they go from 0 to 4095`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActLog, Architectures: []specs.Arch{specs.ArchX86, "SCMP_ARCH_X23"}}, `c: architectures[1]: unknown architecture "SCMP_ARCH_X23"; did you mean SCMP_ARCH_X32?`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActLog, Flags: []specs.LinuxSeccompFlag{"LOG"}}, `c: flags[0]: unknown flag "LOG"; did you mean SECCOMP_FILTER_FLAG_LOG?`},
		{&specs.LinuxSeccomp{DefaultAction: specs.ActLog, ListenerMetadata: "x"}, `c: listenerMetadata: has no meaning without listenerPath`},
		{rule(specs.LinuxSyscall{Action: specs.ActAllow}), `c: syscalls[1].names: names no system call`},
		{rule(specs.LinuxSyscall{Names: []string{"raed"}, Action: specs.ActAllow}), `c: syscalls[1].names[0]: unknown system call "raed"; did you mean read?`},
		{rule(specs.LinuxSyscall{Names: []string{"read"}}), `c: syscalls[1].action: unknown action ""`},
		{rule(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActTrap, ErrnoRet: &n}), `c: syscalls[1].errnoRet: has no meaning with SCMP_ACT_TRAP`},
		{rule(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActTrap, Args: []specs.LinuxSeccompArg{{Op: "SCMP_CMP_EG"}}}), `c: syscalls[1].args[0].op: unknown operator "SCMP_CMP_EG"; did you mean SCMP_CMP_EQ?`},
		{rule(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActTrap, Args: []specs.LinuxSeccompArg{{Op: specs.OpEqualTo, Index: 300}}}), `c: syscalls[1].args[0]: a system call has only the arguments 0 to 5`},
	} {
		if _, err := FromOCI("c", tc.oci); err == nil || err.Error() != tc.want {
			t.Errorf("got %v\nwant %s", err, tc.want)
		}
	}
}

// A profile that goes through OCI's form for a target means the same there.
func TestOCIRoundTrip(t *testing.T) {
	for _, caps := range []capability.Set{0, capability.Default(), capability.Known()} {
		for _, p := range []*Profile{Default(), {DefaultAction: Trace(3), FlagsGiven: true}, {DefaultAction: KillProcess, Flags: FlagLog, FlagsGiven: true}} {
			oci := p.OCI(target(caps))
			back, err := FromOCI("config.json", oci)
			if err != nil {
				t.Fatal(err)
			}
			a, b := mustResolve(t, p, target(caps)), mustResolve(t, back, target(caps))
			fa, err1 := Compile(a)
			fb, err2 := Compile(b)
			if err1 != nil || err2 != nil || !reflect.DeepEqual(fa, fb) {
				t.Errorf("caps %v: %v %v, %d and %d instructions, flags %v and %v", caps, err1, err2, len(fa.Program), len(fb.Program), fa.Flags, fb.Flags)
			}
		}
	}
}

// FuzzFromOCI holds that every configuration is refused with an error that
// names the file, or resolved.
func FuzzFromOCI(f *testing.F) {
	f.Add("SCMP_ACT_ERRNO", "SCMP_ARCH_X86", "SECCOMP_FILTER_FLAG_LOG", "socket", "SCMP_ACT_ALLOW", "SCMP_CMP_MASKED_EQ", uint(1), uint(0), uint64(3), uint64(1))
	f.Add("SCMP_ACT_ALLOW", "SCMP_ARCH_X32", "", "clone3", "SCMP_ACT_NOTIFY", "SCMP_CMP_LT", uint(4095), uint(5), uint64(1<<40), uint64(0))
	f.Fuzz(func(t *testing.T, def, arch, flag, name, action, op string, errno, index uint, value, value2 uint64) {
		oci := &specs.LinuxSeccomp{
			DefaultAction: specs.LinuxSeccompAction(def), Architectures: []specs.Arch{specs.Arch(arch)},
			Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlag(flag)}, ListenerPath: name,
			Syscalls: []specs.LinuxSyscall{{
				Names: []string{name, "read"}, Action: specs.LinuxSeccompAction(action),
				Args: []specs.LinuxSeccompArg{{Index: index, Value: value, ValueTwo: value2, Op: specs.LinuxSeccompOperator(op)}, {Index: 0, Value: value, Op: specs.OpNotEqual}},
			}},
		}
		if errno%2 == 0 {
			oci.DefaultErrnoRet, oci.Flags = &errno, nil
		} else if errno%3 == 0 {
			oci.Syscalls[0].ErrnoRet = &errno
		}
		p, err := FromOCI("config.json", oci)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "config.json: ") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %q", err)
			}
			return
		}
		policy := mustResolve(t, p, target(0))
		filter, err := Compile(policy)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(16, value))
		for _, a := range policy.Archs {
			for _, call := range a.Calls {
				checkTimes(t, policy, filter, a.Arch.Audit(), call.Nr, rng, conditionsOf(policy, a.Arch.Audit(), call.Nr), 10)
			}
		}
	})
}

// FuzzParseProfile holds that no input makes the parser fail other than with
// an error that names the file, and that what it accepts goes all the way.
func FuzzParseProfile(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(profileModule(f), "default.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(inProfile(`{"names": ["socket", "ipc"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 4294967296, "op": "SCMP_CMP_NE"}, {"index": 0, "value": 3, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}`)))
	f.Add([]byte(`{"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"], "flags": []}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProfile("p.json", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "p.json:") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %q", err)
			}
			return
		}
		policy, notes, err := p.Resolve(target(capability.Default()))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range notes {
			if n.String() == "" {
				t.Fatalf("note %+v", n)
			}
		}
		filter, err := Compile(policy)
		if err != nil {
			return // too long
		}
		back, err := FromOCI("c", p.OCI(target(capability.Default())))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Compile(mustResolve(t, back, target(capability.Default())))
		if err != nil || !reflect.DeepEqual(again.Program, filter.Program) {
			t.Fatalf("through OCI's form: %v", err)
		}
	})
}
