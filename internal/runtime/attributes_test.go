package runtime_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime"
)

// lookout makes a root with a program that asks the kernel what it gets.
func lookout(t *testing.T, source string) string {
	t.Helper()
	root := busyboxRoot(t)
	src := filepath.Join(t.TempDir(), "look.c")
	os.WriteFile(src, []byte(source), 0o644)
	if out, err := exec.Command("gcc", "-static", "-o", filepath.Join(root, "bin/look"), src).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return root
}

// look runs that program.
func look(t *testing.T, root string, edit func(*specs.Spec)) string {
	t.Helper()
	spec := defaultSpec("/bin/look")
	edit(spec)
	r := run(t, root, spec, nil)
	if r.err != nil {
		return "error: " + r.err.Error()
	}
	return r.stdout
}

const lookAtScheduling = `
#define _GNU_SOURCE
#include <stdio.h>
#include <stdint.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <sys/personality.h>
struct attr { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t prio; uint64_t runtime, deadline, period; uint32_t lo, hi; } a;
int main() {
	syscall(SYS_sched_getattr, 0, &a, sizeof a, 0);
	printf("policy %u flags %lu nice %d prio %u %lu/%lu/%lu", a.policy, a.flags & 7, a.nice, a.prio, a.runtime & -(a.policy == 6), a.deadline, a.period);
	printf(" ioprio %ld personality %x\n", syscall(SYS_ioprio_get, 1, 0), personality(0xffffffff));
}`

func TestSchedulingAttributes(t *testing.T) {
	root := lookout(t, lookAtScheduling)
	for _, c := range []struct {
		name string
		edit func(*specs.Spec)
		want string
	}{
		{"none", func(s *specs.Spec) {}, "policy 0 flags 0 nice 0 prio 0 0/0/0 ioprio 0 personality 0\n"},
		{"batch", func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 19, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}
		}, "policy 3 flags 1 nice 19 prio 0 0/0/0 ioprio 0 personality 0\n"},
		{"idle", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedIdle} }, "policy 5 flags 0 nice 0 prio 0 0/0/0 ioprio 0 personality 0\n"},
		{"other, nice -5", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: -5} }, "policy 0 flags 0 nice -5 prio 0 0/0/0 ioprio 0 personality 0\n"},
		{"io", func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		}, "policy 0 flags 0 nice 0 prio 0 0/0/0 ioprio 16390 personality 0\n"},
		{"io rt", func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_RT, Priority: 1}
		}, "policy 0 flags 0 nice 0 prio 0 0/0/0 ioprio 8193 personality 0\n"},
		{"personality", func(s *specs.Spec) {
			s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
		}, "policy 0 flags 0 nice 0 prio 0 0/0/0 ioprio 0 personality 8\n"},
		{"no nice of 20", func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 20} }, "error: spec: process.scheduler.nice: 20 is not from -20 to 19"},
		{"no such flag", func(s *specs.Spec) {
			s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Flags: []specs.LinuxSchedulerFlag{"X"}}
		}, `error: spec: process.scheduler.flags[0]: invalid scheduler flag "X"`},
	} {
		if got := look(t, root, c.edit); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	// Real-time policies need a cgroup with a share of real time, or none.
	for _, s := range []*specs.Scheduler{
		{Policy: specs.SchedFIFO, Priority: 3}, {Policy: specs.SchedRR, Priority: 4},
		{Policy: specs.SchedDeadline, Runtime: 1e6, Deadline: 1e7, Period: 2e7, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagReclaim}},
	} {
		got := look(t, root, func(spec *specs.Spec) { spec.Process.Scheduler = s })
		want := fmt.Sprintf("policy %d flags 0 nice 0 prio %d 0/0/0", map[specs.LinuxSchedulerPolicy]int{specs.SchedFIFO: 1, specs.SchedRR: 2}[s.Policy], s.Priority)
		if s.Policy == specs.SchedDeadline {
			want = "policy 6 flags 2 nice 0 prio 0 1000000/10000000/20000000"
		}
		if refused := "error: set the scheduling policy " + string(s.Policy) + ": operation not permitted"; got != refused && !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q, or the kernel's refusal", s.Policy, got, want)
		}
	}
}

func TestMemoryPolicy(t *testing.T) {
	root := lookout(t, `
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>
#include <sys/syscall.h>
int main() { int mode; unsigned long nodes[16] = {0}; if (syscall(SYS_get_mempolicy, &mode, nodes, 1024, 0, 0)) perror("get_mempolicy"); printf("mode %x nodes %lx\n", mode, nodes[0]); }`)
	for _, c := range []struct {
		m    specs.LinuxMemoryPolicy
		want string
	}{
		{specs.LinuxMemoryPolicy{Mode: specs.MpolDefault}, "mode 0 nodes 0\n"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolInterleave, Nodes: "0"}, "mode 3 nodes 1\n"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}, "mode 8002 nodes 1\n"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolPreferred, Nodes: " 0 ,", Flags: []specs.MemoryPolicyFlagType{specs.MpolFRelativeNodes}}, "mode 4001 nodes 1\n"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolLocal}, "mode 4 nodes 0\n"},
		{specs.LinuxMemoryPolicy{}, `error: spec: linux.memoryPolicy.mode: invalid memory policy mode ""`},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolDefault, Nodes: "0-7"}, "error: spec: linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got 8"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolBind}, "error: spec: linux.memoryPolicy.nodes: memory policy mode requires at least one node"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0-9876543210"}, "error: spec: linux.memoryPolicy.nodes: invalid memory policy nodes"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{"bad"}}, "error: spec: linux.memoryPolicy.flags[0]: invalid memory policy flag"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "63"}, "error: set the memory policy MPOL_BIND 63: invalid argument"},
	} {
		got := look(t, root, func(s *specs.Spec) { s.Linux.MemoryPolicy = &c.m })
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: got %q, want %q", c.m, got, c.want)
		}
	}
}

func TestPersonalityFlagsAreWarnedOf(t *testing.T) {
	spec := defaultSpec("true")
	spec.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux, Flags: []specs.LinuxPersonalityFlag{"X"}}
	if w := warningsOf(t, spec); len(w) != 1 || !strings.Contains(w[0], "personality.flags") {
		t.Errorf("warnings %q", w)
	}
}

func warningsOf(t *testing.T, spec *specs.Spec) []string {
	t.Helper()
	root, err := os.Open(busyboxRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := runtime.New(runtime.Config{Spec: spec, Root: root, MountPoint: "/mnt"})
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	return plan.Warnings
}

func TestOOMScoreWithoutProc(t *testing.T) {
	score := 123
	spec := defaultSpec("sh", "-c", "mount -t proc proc /tmp && cat /tmp/self/oom_score_adj")
	spec.Process.OOMScoreAdj = &score
	caps := []string{"CAP_SYS_ADMIN"}
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
	spec.Mounts = spec.Mounts[1:]
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = nil, nil
	if r := run(t, busyboxRoot(t), spec, nil); r.err != nil || r.stdout != "123\n" {
		t.Errorf("%+v", r)
	}
}

func TestUmaskGroupsAndLimits(t *testing.T) {
	umask := uint32(0o77)
	spec := defaultSpec("sh", "-c", "umask; id -G; ulimit -n; grep -E 'core' /proc/self/limits")
	spec.Process.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{10, 11}, Umask: &umask, Username: "ignored"}
	spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 20, Hard: 30}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
	r := run(t, busyboxRoot(t), spec, nil)
	if r.err != nil || !strings.HasPrefix(r.stdout, "0077\n6 10 11\n20\nMax core file size        0                    0") {
		t.Errorf("%+v", r)
	}
}

// Engines name capabilities that an older kernel does not know, or that this
// machine has not got: the others are given.
func TestCapabilitiesThatCannotBeHad(t *testing.T) {
	spec := defaultSpec("grep", "^Cap", "/proc/self/status")
	all := []string{"CAP_CHOWN", "CAP_KILL", "CAP_FUTURE_THING", "CAP_SYS_RESOURCE"}
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Permitted: all, Effective: all, Inheritable: []string{"CAP_KILL"}, Ambient: []string{"CAP_KILL", "CAP_CHOWN"}}
	has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	bits := uint64(1<<unix.CAP_CHOWN | 1<<unix.CAP_KILL | has<<unix.CAP_SYS_RESOURCE)
	r := run(t, busyboxRoot(t), spec, nil)
	want := fmt.Sprintf("CapInh:\t%016x\nCapPrm:\t%016x\nCapEff:\t%016x\nCapBnd:\t%016x\nCapAmb:\t%016x\n", 1<<unix.CAP_KILL, bits, bits, bits, 1<<unix.CAP_KILL)
	if r.err != nil || r.stdout != want {
		t.Errorf("%+v\nwant %s", r, want)
	}
	w := strings.Join(warningsOf(t, spec), "\n")
	if !strings.Contains(w, "ignoring unknown or unavailable capabilities: CAP_FUTURE_THING") || !strings.Contains(w, "can't raise ambient capability CAP_CHOWN: ") {
		t.Errorf("warnings:\n%s", w)
	}
	if has == 0 && !strings.Contains(w, "cannot grant CAP_SYS_RESOURCE") {
		t.Errorf("warnings:\n%s", w)
	}
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}, Effective: []string{"CAP_CHOWN"}}
	if r := run(t, busyboxRoot(t), spec, nil); r.err == nil || !strings.Contains(r.err.Error(), "capabilities.effective: ") {
		t.Errorf("%+v", r)
	}
}

func TestSessionKeyring(t *testing.T) {
	root := lookout(t, `
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>
#include <sys/syscall.h>
int main() { printf("%ld\n", syscall(SYS_keyctl, 0, -3, 0)); }`) // KEYCTL_GET_KEYRING_ID of the session
	id := func(keep bool) string {
		r := run(t, root, defaultSpec("look"), func(c *runtime.Config) { c.NoKeyring = keep })
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.stdout
	}
	a, b, x, y := id(false), id(false), id(true), id(true)
	if a == b || x != y || a == x {
		t.Errorf("own keyrings %s %s, kept %s %s", a, b, x, y)
	}
}

func TestAppArmorAndSELinuxAreRefusedWhereTheyAreNot(t *testing.T) {
	spec := defaultSpec("true")
	if b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || b[0] != 'Y' {
		spec.Process.ApparmorProfile = "some"
		if r := run(t, busyboxRoot(t), spec, nil); r.err == nil || !strings.Contains(r.err.Error(), "AppArmor is not enabled") {
			t.Errorf("%+v", r)
		}
		spec.Process.ApparmorProfile = ""
	}
	spec.Process.SelinuxLabel = "system_u:object_r:x"
	if r := run(t, busyboxRoot(t), spec, nil); r.err == nil || !strings.Contains(r.err.Error(), "selinuxLabel") {
		t.Errorf("%+v", r)
	}
}
