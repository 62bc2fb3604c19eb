package seccomp_test

import (
	"fmt"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
)

const profile = `{
	"defaultAction": "SCMP_ACT_ERRNO",
	"syscalls": [
		{"names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"},
		{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
		{"names": ["clock_settime"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_TIME"]}}
	]
}`

// A profile is read, resolved for a machine and a set of capabilities, and
// compiled.
func Example() {
	p, err := seccomp.ParseProfile("p.json", []byte(profile))
	if err != nil {
		fmt.Println(err)
		return
	}
	target := seccomp.Target{Arch: seccomp.X86_64, Caps: capability.Of(capability.SYS_TIME), Kernel: seccomp.KernelVersion{Major: 6, Minor: 1}}
	policy, notes, err := p.Resolve(target)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, note := range notes {
		fmt.Println(note)
	}
	filter, err := seccomp.Compile(policy)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(filter.Program) > 0, filter.Flags)
	// Output: true SECCOMP_FILTER_FLAG_SPEC_ALLOW
}

func ExamplePolicy_Decide() {
	p, err := seccomp.ParseProfile("p.json", []byte(profile))
	if err != nil {
		fmt.Println(err)
		return
	}
	policy, _, err := p.Resolve(seccomp.Target{Arch: seccomp.X86_64})
	if err != nil {
		fmt.Println(err)
		return
	}
	const socket, mount = 41, 165
	unix := policy.Decide(seccomp.X86_64.Audit(), socket, [6]uint64{1})
	inet := policy.Decide(seccomp.X86_64.Audit(), socket, [6]uint64{2})
	fmt.Println(unix.Action, unix.Rule)
	fmt.Println(inet.Action, inet.Rule)
	fmt.Println(policy.Action(seccomp.X86_64.Audit(), mount, [6]uint64{}))
	// Output:
	// ALLOW 1
	// ERRNO(EPERM) -1
	// ERRNO(EPERM)
}

func ExampleParseProfile() {
	_, err := seccomp.ParseProfile("p.json", []byte(`{
		"defaultAction": "SCMP_ACT_ERRNO",
		"syscalls": [
			{"names": ["raed"], "action": "SCMP_ACT_ALLOW"}
		]
	}`))
	fmt.Println(err)
	// Output: p.json:4: syscalls[0].names[0]: unknown system call "raed"; did you mean read?
}

func ExampleUnlockedBy() {
	calls, err := seccomp.UnlockedBy(capability.SYS_CHROOT)
	fmt.Println(calls, err)
	// Output: [chroot] <nil>
}
