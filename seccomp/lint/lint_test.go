package lint

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// target is what profiles of tests are checked for.
func target(arch seccomp.Arch) seccomp.Target {
	return seccomp.Target{Arch: arch, Caps: capability.Default(), Kernel: seccomp.KernelVersion{Major: 6, Minor: 1}}
}

// findings checks a profile and returns its findings of one code as lines.
func findings(t *testing.T, code, profile string, target seccomp.Target) []string {
	t.Helper()
	p, err := seccomp.ParseProfile("p", []byte(profile))
	if err != nil {
		t.Fatal(err)
	}
	list, err := Check(p, target)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i := range list {
		if list[i].Code == code {
			lines = append(lines, list[i].Format("p"))
		}
	}
	return lines
}

// Parts of profiles, each one line, so that the first rule is in line 2.
const (
	allowList = `{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [` + "\n"
	denyList  = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [` + "\n"
	killList  = `{"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [` + "\n"
	with32    = `{"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], `
)

// rules joins rules to a profile.
func rules(head string, list ...string) string { return head + strings.Join(list, ",\n") + "\n]}" }

// allow and deny are rules; more is given after a comma.
func allow(names string, more ...string) string { return rule("ALLOW", names, more) }
func deny(names string, more ...string) string  { return rule("ERRNO", names, more) }

func rule(action, names string, more []string) string {
	quoted, _ := json.Marshal(strings.Fields(names))
	return fmt.Sprintf(`{"names": %s, "action": "SCMP_ACT_%s"%s}`, quoted, action, strings.Join(append([]string{""}, more...), ", "))
}

// args are conditions such as "0 EQ 40".
func args(conds ...string) string {
	var list []string
	for _, c := range conds {
		f := strings.Fields(c)
		cond := fmt.Sprintf(`{"index": %s, "op": "SCMP_CMP_%s", "value": %s`, f[0], f[1], f[2])
		if len(f) > 3 {
			cond += `, "valueTwo": ` + f[3]
		}
		list = append(list, cond+"}")
	}
	return `"args": [` + strings.Join(list, ", ") + "]"
}

const (
	includesAdmin = `"includes": {"caps": ["CAP_SYS_ADMIN"]}`
	includesChown = `"includes": {"caps": ["CAP_CHOWN"]}`
	excludesChown = `"excludes": {"caps": ["CAP_CHOWN"]}`
	errnoENOSYS   = `"errnoRet": 38`
)

func TestFindings(t *testing.T) {
	for _, tc := range []struct {
		name, code, profile string
		arch                seccomp.Arch
		want                []string // a part of each line, in order
	}{
		// shadowed-rule
		{"an allowance for all arguments", "shadowed-rule", rules(allowList, allow("personality", args("0 EQ 0")), allow("personality")), 0,
			[]string{"p:2: warning: shadowed-rule: syscalls[0]: the rule never decides: syscalls[1] has no conditions and gives personality ALLOW"}},
		{"another action", "shadowed-rule", rules(allowList, allow("read write"), deny("write", errnoENOSYS)), 0,
			[]string{"p:3: warning: shadowed-rule: syscalls[1]: the rule never decides: syscalls[0] has no conditions"}},
		{"one name of several", "shadowed-rule", rules(allowList, allow("read"), deny("read write", errnoENOSYS)), 0,
			[]string{"for read the rule never decides"}},
		{"within a range", "shadowed-rule", rules(allowList, allow("socket", args("0 LT 3")), deny("socket", args("0 EQ 1"), errnoENOSYS)), 0,
			[]string{"p:3: warning: shadowed-rule: syscalls[1]: the rule never decides: all arguments of socket that fit it are decided before by syscalls[0], which gives ALLOW; put it before"}},
		{"covered by two together", "shadowed-rule", rules(allowList, allow("socket", args("0 LT 3")), allow("socket", args("0 GE 3", "1 LT 9")), deny("socket", args("1 EQ 5"), errnoENOSYS)), 0,
			[]string{"decided before by syscalls[0], syscalls[1], which give ALLOW"}},
		{"same action: no more than an info", "shadowed-rule", rules(allowList, allow("clone", args("0 MASKED_EQ 12 0")), allow("clone", args("0 MASKED_EQ 15 0"))), 0,
			[]string{"p:3: info: shadowed-rule"}},
		{"almost covered", "shadowed-rule", rules(allowList, allow("socket", args("0 LT 3")), deny("socket", args("0 LE 3"), errnoENOSYS)), 0, nil},
		{"on other arguments", "shadowed-rule", rules(allowList, allow("socket", args("0 EQ 1")), deny("socket", args("1 EQ 1"), errnoENOSYS)), 0, nil},
		{"a wider mask", "shadowed-rule", rules(allowList, allow("clone", args("0 MASKED_EQ 15 0")), deny("clone", args("0 MASKED_EQ 12 0"), errnoENOSYS)), 0, nil},
		{"for this target only", "shadowed-rule", rules(allowList, allow("personality", includesChown), allow("personality", args("0 EQ 0"))), 0,
			[]string{"p:3: info: shadowed-rule: syscalls[1]: the rule never decides"}},
		{"not for this target", "shadowed-rule", rules(allowList, allow("personality", includesAdmin), allow("personality", args("0 EQ 0"))), 0, nil},
		{"two capabilities for one call", "no-effect", rules(allowList, allow("personality", includesChown), allow("personality", `"includes": {"caps": ["CAP_KILL"]}`)), 0, nil},

		// no-effect
		{"same as the default", "no-effect", rules(allowList, deny("mount", `"errnoRet": 1`)), 0,
			[]string{"info: no-effect: syscalls[0]: the rule for mount does the same as the default action, ERRNO(EPERM)"}},
		{"same as the default, and overruled", "no-effect", rules(allowList, deny("socket", args("0 EQ 40")), allow("socket")), 0,
			[]string{"p:2: warning: no-effect: syscalls[0]: the rule does the same as the default action, ERRNO(EPERM), and is skipped, here and in runc; what happens to socket is up to syscalls[1]"}},
		{"another errno", "no-effect", rules(allowList, deny("mount", errnoENOSYS)), 0, nil},
		{"elsewhere", "no-effect", rules(allowList, allow("read chown32 set_tls")), 0, []string{"chown32, set_tls exist on other architectures only"}},
		{"named twice", "no-effect", rules(allowList, allow("read write read")), 0, []string{"info: no-effect: syscalls[0]: names read more than once"}},
		{"in two rules", "no-effect", rules(allowList, allow("read write"), allow("write")), 0,
			[]string{"info: no-effect: syscalls[1]: the rule does what syscalls[0] already does: ALLOW for write"}},
		{"in two rules, once with conditions on each", "no-effect", rules(allowList, allow("socket", args("0 EQ 1")), allow("socket", args("0 EQ 2"))), 0, nil},
		{"within a later one", "no-effect", rules(allowList, allow("socket", args("0 EQ 1")), allow("socket", args("0 LT 3"))), 0,
			[]string{"p:2: info: no-effect: syscalls[0]: the rule changes nothing for socket: without it, syscalls[1] would give the same"}},
		{"within a later one, but between them another", "no-effect", rules(allowList, allow("socket", args("0 EQ 1")), deny("socket", args("0 EQ 1"), errnoENOSYS), allow("socket", args("0 LT 3"))), 0, nil},
		{"capability in and out", "no-effect", rules(allowList, allow("chown", includesChown, excludesChown)), 0,
			[]string{"warning: no-effect: syscalls[0]: the rule for chown applies nowhere: includes and excludes both name CAP_CHOWN"}},
		{"architecture in and out", "no-effect", rules(allowList, allow("chown", `"includes": {"arches": ["arm64"]}, "excludes": {"arches": ["arm64"]}`)), 0,
			[]string{"excludes names all architectures of includes"}},
		{"kernel in and out", "no-effect", rules(allowList, allow("chown", `"includes": {"minKernel": "5.0"}, "excludes": {"minKernel": "4.8"}`)), 0,
			[]string{"includes asks for kernel 5.0 or later, and excludes takes kernel 4.8 and later away"}},
		{"kernels between", "no-effect", rules(allowList, allow("chown", `"includes": {"minKernel": "4.8"}, "excludes": {"minKernel": "5.0"}`)), 0, nil},
		{"no machine's own", "no-effect", rules(allowList, allow("chown", `"includes": {"arches": ["x32"]}`)), 0,
			[]string{"includes names only x32, which is no machine's own architecture"}},
		{"architectures of a machine", "no-effect", rules(allowList, allow("chown", `"includes": {"arches": ["amd64", "x32"]}`)), 0, nil},

		// or-ed-conditions
		{"a range", "or-ed-conditions", rules(allowList, allow("socket", args("0 GE 1", "0 LE 2"))), 0,
			[]string{"warning: or-ed-conditions: syscalls[0]: arg0 is compared more than once, so that any of the rule's conditions suffices for socket, and not all are needed; together they hold for all arguments, which all get ALLOW"}},
		{"with another argument", "or-ed-conditions", rules(allowList, allow("socket", args("0 EQ 1", "0 EQ 2", "1 EQ 5"))), 0, []string{"any of the rule's conditions suffices"}},
		{"values to choose from", "or-ed-conditions", rules(allowList, allow("socket", args("0 EQ 1", "0 EQ 2"))), 0, nil},
		{"one each", "or-ed-conditions", rules(allowList, allow("socket", args("0 EQ 1", "1 EQ 1"))), 0, nil},

		// wide-compare
		{"a denied value", "wide-compare", rules(denyList, deny("socket", args("0 EQ 40"))), 0,
			[]string{"p:2: warning: wide-compare: syscalls[0]: runtimes that use libseccomp (runc, crun, Docker, Podman) compare 64 bits of arg0, of which the kernel reads 32: there socket(0x100000028) evades ERRNO(EPERM) and gets ALLOW"}},
		{"all but a value", "wide-compare", rules(allowList, allow("socket", args("0 NE 40"))), 0, []string{"socket(0x100000028) evades ERRNO(EPERM)"}},
		{"a denied mode of 16 bits", "wide-compare", rules(denyList, deny("chmod", args("1 EQ 511"))), 0, []string{"of arg1, of which the kernel reads 16: there chmod(0, 0x101ff) evades"}},
		{"an upper bound of what is denied", "wide-compare", rules(denyList, deny("socket", args("0 LE 2"))), 0, []string{"evades"}},
		{"a lower bound of what is denied", "wide-compare", rules(denyList, deny("socket", args("0 GT 2"))), 0, nil},
		{"a mask in the lower half", "wide-compare", rules(denyList, deny("socket", args("0 MASKED_EQ 4294967295 40"))), 0, nil},
		{"64 bits", "wide-compare", rules(denyList, deny("munmap", args("1 EQ 17"))), 0, nil},
		{"flags of clone, of which the kernel reads half", "wide-compare", rules(denyList, deny("clone", args("0 EQ 17"))), 0, []string{"clone(0x100000011) evades"}},
		{"allowed values", "wide-compare", rules(allowList, allow("socket", args("0 EQ 1")), allow("socket", args("0 LT 3"))), 0, nil},
		{"an allowed negative number", "wide-compare", rules(allowList, allow("personality", args("0 EQ 4294967295"))), 0,
			[]string{"info: wide-compare: syscalls[0]: runtimes that use libseccomp compare 64 bits of arg0, of which the kernel reads 32: there personality(0xffffffffffffffff), a negative int, gets ERRNO(EPERM), and not ALLOW"}},
		{"a denied one beside a rule for all", "wide-compare", rules(denyList, deny("socket", args("0 EQ 40")), deny("socket")), 0, nil},
		{"registers of 32 bits", "wide-compare", rules(denyList, deny("socket", args("0 EQ 40"))), syscalls.I386, nil},

		// arg-beyond
		{"an argument too many", "arg-beyond", rules(denyList, deny("socket", args("3 EQ 1"))), 0,
			[]string{"warning: arg-beyond: syscalls[0]: socket has 3 arguments, counted from 0, and no arg3"}},
		{"none at all", "arg-beyond", rules(denyList, deny("getpid", args("0 EQ 1"))), 0, []string{"getpid has 0 arguments"}},
		{"several calls", "arg-beyond", rules(denyList, deny("gettid getpid close", args("0 EQ 1"))), 0, []string{"getpid, gettid have 0 arguments"}},
		{"the last one", "arg-beyond", rules(denyList, deny("socket", args("2 EQ 1"))), 0, nil},
		{"two registers for one argument", "arg-beyond", rules(denyList, deny("pread64", args("4 EQ 1"))), syscalls.I386, nil},

		// never-holds, always-holds
		{"a value too large", "never-holds", rules(denyList, deny("munmap", args("1 EQ 4294967336"))), syscalls.I386,
			[]string{"warning: never-holds: syscalls[0]: args[0], arg1 == 0x100000028, never holds for munmap: the kernel reads 32 bits of arg1"}},
		{"a bound too large", "never-holds", rules(denyList, deny("munmap", args("1 GT 4294967295"))), syscalls.I386, []string{"arg1 > 0xffffffff, never holds"}},
		{"a large value of a long", "never-holds", rules(denyList, deny("munmap", args("1 EQ 4294967336"))), 0, nil},
		{"a negative int", "never-holds", rules(denyList, deny("socket", args("0 EQ 18446744073709551615"))), 0, nil},
		{"large on one ABI only", "never-holds", rules(with32+denyList[1:], deny("munmap", args("1 EQ 4294967336"))), 0, nil},
		{"at least 0", "always-holds", rules(denyList, deny("socket", args("0 GE 0"))), 0, []string{"warning: always-holds: syscalls[0]: args[0], arg0 >= 0x0, holds for all arguments of socket"}},
		{"an empty mask", "always-holds", rules(denyList, deny("clone", args("0 MASKED_EQ 0 0"))), 0, []string{"arg0 & 0x0 == 0x0, holds for all"}},
		{"at most all bits", "always-holds", rules(denyList, deny("socket", args("0 LE 4294967295"))), 0, []string{"holds for all"}},
		{"all but what cannot be", "always-holds", rules(denyList, deny("socket", args("0 NE 4294967336"))), 0, []string{"holds for all"}},
		{"at least 1", "always-holds", rules(denyList, deny("socket", args("0 GE 1"))), 0, nil},
		{"two halves", "always-holds", rules(allowList, allow("socket", args("0 EQ 40")), allow("socket", args("0 NE 40"))), 0,
			[]string{"p:3: warning: always-holds: syscalls[1]: syscalls[0], syscalls[1] give socket ALLOW for all arguments"}},
		{"two halves that differ", "always-holds", rules(allowList, deny("socket", args("0 EQ 40"), errnoENOSYS), allow("socket", args("0 NE 40"))), 0, nil},
		{"two parts", "always-holds", rules(allowList, allow("socket", args("0 EQ 40")), allow("socket", args("0 GT 40"))), 0, nil},

		// socketcall-hole
		{"socketcall allowed", "socketcall-hole", rules(with32+allowList[1:], allow("socketcall"), allow("socket", args("0 EQ 1"))), 0,
			[]string{"p:2: warning: socketcall-hole: syscalls[0]: socketcall gives programs for x86 ALLOW for socket, bind, connect"}},
		{"on its own machine", "socketcall-hole", rules(allowList, allow("ipc")), syscalls.S390X, []string{"ipc gives programs for s390x ALLOW for semget, semctl"}},
		{"conditions alone", "socketcall-hole", rules(with32+allowList[1:], allow("socket", args("0 EQ 1"))), 0,
			[]string{"p:2: warning: socketcall-hole: syscalls[0]: under runtimes that use libseccomp, programs for x86 can make socket through socketcall with other arguments"}},
		{"no such ABI", "socketcall-hole", rules(allowList, allow("socketcall socket")), 0, nil},
		{"single calls", "socketcall-hole", rules(with32+allowList[1:], allow("socket bind connect")), 0, nil},
		{"denied", "socketcall-hole", rules(with32+denyList[1:], deny("connect")), 0, nil},
		{"denied for some arguments", "socketcall-hole", rules(with32+denyList[1:], deny("socket", args("0 EQ 40"))), 0, nil},

		// missing-sibling: deny lists
		{"open", "missing-sibling", rules(denyList, deny("open io_uring_setup")), 0,
			[]string{`p:2: warning: missing-sibling: syscalls[0]: open is denied, but openat, openat2 are not, with which the same can be done, wholly or in part; deny openat, openat2 too, openat2 with "errnoRet": 38 (ENOSYS)`}},
		{"all forms of open", "missing-sibling", rules(denyList, deny("open openat openat2 creat io_uring_setup")), 0, nil},
		{"io_uring", "missing-sibling", rules(denyList, deny("connect")), 0, []string{"io_uring is allowed, and makes calls that are restricted without asking a filter: connect; give io_uring_setup"}},
		{"mount", "missing-sibling", rules(denyList, deny("mount")), 0, []string{"mount is denied, but fsopen, fspick, fsconfig, fsmount, move_mount, open_tree, open_tree_attr, mount_setattr are not"}},
		{"unshare", "missing-sibling", rules(denyList, deny("unshare")), 0, []string{"unshare is denied, but clone, clone3 are not, with which the same can be done, wholly or in part; deny the flags of new namespaces"}},
		{"arguments of clone", "missing-sibling", rules(denyList, deny("clone", args("0 MASKED_EQ 268435456 268435456"))), 0,
			[]string{"clone is restricted by its arguments, but clone3 is allowed, and has them in memory where no filter sees them; give clone3 SCMP_ACT_ERRNO with errnoRet 38"}},
		{"arguments of clone in an allow list", "missing-sibling", rules(allowList, allow("clone", args("0 MASKED_EQ 268435456 0")), allow("clone3")), 0, []string{"clone3 is allowed, and has them in memory"}},
		{"forms for 32 bits", "missing-sibling", rules(with32+denyList[1:], deny("setuid")), 0, []string{"on x86, setuid is denied, but setuid32 is not"}},
		{"times of 64 bits", "missing-sibling", rules(denyList, deny("clock_settime settimeofday adjtimex clock_adjtime stime")), syscalls.ARM,
			[]string{"settimeofday is denied, but clock_adjtime64, clock_settime64 are not", "adjtimex is denied, but clock_adjtime64 is not", "clock_settime is denied, but clock_adjtime64, clock_settime64 are not", "clock_adjtime is denied, but clock_adjtime64 is not"}},
		{"denied in an allow list", "missing-sibling", rules(allowList, allow("kexec_file_load"), deny("kexec_load", errnoENOSYS)), 0, []string{"p:3: warning: missing-sibling: syscalls[1]: kexec_load is denied, but kexec_file_load is not"}},
		{"left out of an allow list", "missing-sibling", rules(allowList, allow("kexec_file_load")), 0, nil},
		{"made to fall back", "missing-sibling", rules(denyList, deny("fchmodat2 faccessat2 clone3", errnoENOSYS)), 0, nil},
		{"siblings that are restricted too", "missing-sibling", rules(denyList, deny("ptrace process_vm_readv process_vm_writev pidfd_getfd")), 0, nil},

		// missing-sibling: allow lists
		{"open without openat", "missing-sibling", rules(allowList, allow("open fspick")), 0,
			[]string{"info: missing-sibling: openat gets ERRNO(EPERM), though open is allowed: it is called by glibc from 2.26, for open, and they may have no other way"}},
		{"killed", "missing-sibling", rules(killList, allow("nanosleep fspick")), 0, []string{"clock_nanosleep gets KILL_PROCESS, though nanosleep is allowed: it is called by glibc from 2.31, for nanosleep, and programs are killed for it"}},
		{"newer than the profile", "missing-sibling", rules(allowList, allow("futex renameat")), 0, []string{"futex_waitv, renameat2 get ENOSYS, though the older calls are allowed: programs fall back"}},
		{"an answer on purpose", "missing-sibling", rules(allowList, allow("clone"), deny("clone3", errnoENOSYS)), 0, nil},

		// probing-errno
		{"clone3", "probing-errno", rules(denyList, deny("clone3", `"errnoRet": 1`)), 0,
			[]string{`p:2: warning: probing-errno: syscalls[0]: clone3 gets ERRNO(EPERM), not ENOSYS, which a kernel without it gives and at which programs fall back: glibc from 2.34 cannot start threads or spawn processes; give clone3 SCMP_ACT_ERRNO with "errnoRet": 38 (ENOSYS), or allow it`}},
		{"clone3, rightly", "probing-errno", rules(denyList, deny("clone3", errnoENOSYS)), 0, nil},
		{"clone3 without clone", "probing-errno", rules(denyList, deny("clone clone3")), 0, nil},
		{"left out", "probing-errno", rules(allowList, allow("clone faccessat newfstatat fchmodat openat getrandom fspick"), deny("openat2", errnoENOSYS)), 0,
			[]string{"clone3 gets ERRNO(EPERM)", "statx gets ERRNO(EPERM)"}},
		{"later calls", "probing-errno", rules(allowList, allow("clone faccessat fchmodat getrandom fchmodat2 mseal")), 0,
			[]string{"warning: probing-errno: clone3 gets", "warning: probing-errno: faccessat2 gets ERRNO(EPERM), not ENOSYS"}},
		{"killed", "probing-errno", rules(denyList, rule("KILL", "faccessat2", nil)), 0, []string{"faccessat2 gets KILL_THREAD, where programs would fall back at ENOSYS: those that try it are killed"}},
		{"times of 64 bits", "probing-errno", rules(allowList, allow("clock_gettime ppoll futex getrandom statx"), allow("futex_time64 sched_rr_get_interval_time64")), syscalls.I386,
			[]string{"warning: probing-errno: clock_gettime64, ppoll_time64 get ERRNO(EPERM), not ENOSYS, though the older calls are allowed: on x86 glibc, from 2.31 on more and more, and musl from 1.2"}},
		{"times of 64 bits on 64-bit ABIs", "probing-errno", rules(allowList, allow("clock_gettime ppoll futex getrandom")), 0, nil},

		// cannot-start, kills-at-start
		{"no execve", "cannot-start", rules(killList, allow("read write mmap mprotect openat exit_group arch_prctl")), 0,
			[]string{"p: error: cannot-start: nothing can start: blocked are execve (comes after the filter is loaded); allow execve"}},
		{"no mmap", "cannot-start", rules(allowList, allow("execve read openat exit_group arch_prctl")), 0,
			[]string{"error: cannot-start: no dynamically linked program can run: blocked are mmap (maps the program's libraries), mprotect (protects what is relocated)"}},
		{"an older form", "cannot-start", rules(allowList, allow("execve read mmap mprotect open exit arch_prctl")), 0, nil},
		{"thread pointer of arm64", "cannot-start", rules(allowList, allow("execve read mmap mprotect openat exit_group")), syscalls.AARCH64, nil},
		{"thread pointer of i386", "cannot-start", rules(allowList, allow("execve read mmap2 mprotect openat exit_group")), syscalls.I386, []string{"set_thread_area (sets the thread pointer)"}},
		{"some arguments", "cannot-start", rules(allowList, allow("execve read mprotect openat exit_group arch_prctl"), allow("mmap", args("2 EQ 1"))), 0, nil},
		{"killed for brk", "kills-at-start", rules(killList, allow("execve read write writev close fstat newfstatat pread64 munmap access faccessat set_tid_address set_robust_list rseq prlimit64 getrandom rt_sigaction rt_sigprocmask rt_sigreturn futex")), 0,
			[]string{"warning: kills-at-start: programs are killed for brk, which"}},
		{"an error for brk", "kills-at-start", rules(allowList, allow("execve")), 0, nil},

		// missing-arch, x32
		{"x86-64 alone", "missing-arch", rules(allowList, allow("read")), 0,
			[]string{"p: info: missing-arch: 32-bit programs, for x86, get KILL_THREAD at their first call"}},
		{"with i386", "missing-arch", rules(with32+allowList[1:], allow("read")), 0, nil},
		{"arm64 alone", "missing-arch", rules(denyList, deny("mount")), syscalls.AARCH64, []string{"32-bit programs, for arm, get KILL_THREAD"}},
		{"a machine with one ABI", "missing-arch", rules(denyList, deny("mount")), syscalls.RISCV64, nil},
		{"x32", "x32", `{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X32"]}`, 0, []string{"info: x32: the x32 ABI is listed"}},
		{"no x32", "x32", rules(with32+allowList[1:], allow("read")), 0, nil},

		// dangerous-allow
		{"keyctl", "dangerous-allow", rules(allowList, allow("read keyctl")), 0,
			[]string{"p:2: warning: dangerous-allow: syscalls[0]: keyctl is let through whatever its arguments, which the default profile does not do for this target: reads and changes the kernel's keyrings"}},
		{"guarded by the kernel", "dangerous-allow", rules(allowList, allow("kexec_load")), 0, []string{"info: dangerous-allow: syscalls[0]: kexec_load"}},
		{"clone with all flags", "dangerous-allow", rules(allowList, allow("clone")), 0, []string{"deny the flags of new namespaces"}},
		{"clone with some flags", "dangerous-allow", rules(allowList, allow("clone", args("0 MASKED_EQ 2114060288 0"))), 0, nil},
		{"not for this target", "dangerous-allow", rules(allowList, allow("mount", includesAdmin)), 0, nil},
		{"a deny list", "dangerous-allow", rules(denyList, deny("mount")), 0, []string{"warning: dangerous-allow: add_key, bpf, clone", "info: dangerous-allow: acct"}},
		{"harmless calls", "dangerous-allow", rules(allowList, allow("read write openat")), 0, nil},

		// newer-calls
		{"an old profile", "newer-calls", rules(allowList, allow("read getrandom")), 0, []string{"info: newer-calls: the newest call that the profile names is getrandom"}},
		{"an old deny list", "newer-calls", rules(denyList, deny("kexec_load")), 0, []string{"and get ALLOW, as those will that are to come; name those"}},
		{"a young profile", "newer-calls", rules(allowList, allow("read mseal")), 0, nil},

		// trace-without-tracer, notify-without-listener, log-flood
		{"trace", "trace-without-tracer", rules(allowList, rule("TRACE", "read", nil)), 0, []string{"read is handed to a tracer"}},
		{"trace by default", "trace-without-tracer", `{"defaultAction": "SCMP_ACT_TRACE"}`, 0, []string{"the default action hands calls to a tracer"}},
		{"no trace", "trace-without-tracer", rules(allowList, allow("read")), 0, nil},
		{"notify", "notify-without-listener", rules(allowList, rule("NOTIFY", "mount", nil)), 0, []string{"mount waits for a listener, and listenerPath names none"}},
		{"notify a listener", "notify-without-listener", rules(`{"listenerPath": "/run/s", `+allowList[1:], rule("NOTIFY", "mount", nil)), 0, nil},
		{"a listener for nothing", "notify-without-listener", rules(`{"listenerPath": "/run/s", `+allowList[1:], allow("mount")), 0, []string{"listenerPath has no effect"}},
		{"notify write", "notify-without-listener", rules(`{"listenerPath": "/run/s", `+allowList[1:], rule("NOTIFY", "write", nil)), 0, []string{"runc refuses SCMP_ACT_NOTIFY for write"}},
		{"log flag", "log-flood", rules(`{"flags": ["SECCOMP_FILTER_FLAG_LOG"], `+allowList[1:], allow("read")), 0, []string{"SECCOMP_FILTER_FLAG_LOG logs each call"}},
		{"log flag of a deny list", "log-flood", rules(`{"flags": ["SECCOMP_FILTER_FLAG_LOG"], `+denyList[1:], deny("mount")), 0, nil},
		{"log by default", "log-flood", `{"defaultAction": "SCMP_ACT_LOG"}`, 0, []string{"the default action lets calls through and logs each"}},
	} {
		t.Run(tc.code+"/"+tc.name, func(t *testing.T) {
			got := findings(t, tc.code, tc.profile, target(tc.arch))
			if len(got) != len(tc.want) {
				t.Fatalf("%d findings, want %d:\n%s", len(got), len(tc.want), strings.Join(got, "\n"))
			}
			for i, want := range tc.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("got  %s\nwant %s", got[i], want)
				}
			}
		})
	}
}

// What cannot be proved is not claimed, and that is said.
func TestTooComplex(t *testing.T) {
	list := []string{}
	for i := range 12 {
		list = append(list, allow("mmap", args(fmt.Sprintf("%d MASKED_EQ %d 0", i%6, uint64(0x123456789abcdef)<<(i%3)))))
	}
	if got := findings(t, "too-complex", rules(allowList, list...), target(syscalls.X86_64)); len(got) != 1 {
		t.Errorf("%q", got)
	}
	if got := findings(t, "too-complex", rules(allowList, list[:2]...), target(syscalls.X86_64)); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

// Kernels before 4.8 let a traced process around the filter, so that ptrace is
// dangerous on them alone.
func TestKernel(t *testing.T) {
	profile := rules(allowList, allow("ptrace"))
	old := target(syscalls.X86_64)
	old.Kernel = seccomp.KernelVersion{Major: 4, Minor: 4}
	if got := findings(t, "dangerous-allow", profile, old); len(got) != 1 || !strings.Contains(got[0], "before Linux 4.8") {
		t.Errorf("kernel 4.4: %q", got)
	}
	if got := findings(t, "dangerous-allow", profile, target(syscalls.X86_64)); len(got) != 0 {
		t.Errorf("kernel 6.1: %q", got)
	}
}

// The default profile has no errors, and what is found in it is known.
func TestDefault(t *testing.T) {
	known := map[string]string{
		"no-effect/info":          "",
		"x32/info":                "",
		"missing-arch/info":       "32-bit programs, for ppc, get KILL_THREAD",
		"wide-compare/info":       "personality(0xffffffffffffffff)",
		"socketcall-hole/warning": "socketcall gives programs for ",
	}
	for a := range seccomp.Arches() {
		if !a.HasTable() || !isNative(a) {
			continue
		}
		for _, caps := range []capability.Set{0, capability.Default(), capability.Known()} {
			at := target(a)
			at.Caps = caps
			list, err := Check(seccomp.Default(), at)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range list {
				want, ok := known[f.Code+"/"+f.Severity.String()]
				if !ok || !strings.Contains(f.Message, want) {
					t.Errorf("%v, %d capabilities: %s", a, caps.Len(), f.Format("default"))
				}
			}
		}
	}
}

// Profiles in the style of well-known ones; codes is what is found in them.
func TestStyles(t *testing.T) {
	for _, tc := range []struct {
		file  string
		codes []string
	}{
		{"kill.json", []string{"cannot-start", "kills-at-start", "missing-arch", "missing-sibling", "newer-calls"}},
		{"runc.json", []string{"missing-sibling", "newer-calls", "probing-errno", "socketcall-hole", "wide-compare", "x32"}},
		{"podman.json", []string{"dangerous-allow", "missing-sibling", "newer-calls", "no-effect", "x32"}},
		{"deny.json", []string{"dangerous-allow", "missing-sibling", "newer-calls", "probing-errno", "wide-compare"}},
	} {
		p, err := seccomp.LoadProfile("testdata/" + tc.file)
		if err != nil {
			t.Fatal(err)
		}
		list, err := Check(p, target(syscalls.X86_64))
		if err != nil {
			t.Fatal(err)
		}
		var codes []string
		for _, f := range list {
			codes = appendNew(codes, f.Code)
		}
		slices.Sort(codes)
		if !slices.Equal(codes, tc.codes) {
			t.Errorf("%s: %q, want %q", tc.file, codes, tc.codes)
		}
		if !slices.IsSortedFunc(list, func(a, b Finding) int { return a.Line - b.Line }) {
			t.Errorf("%s: not in the order of the lines", tc.file)
		}
	}
}

// The names in the tables are system calls of some architecture.
func TestTables(t *testing.T) {
	var names []string
	for _, s := range siblingTable {
		names = append(append(names, s.call), s.same...)
	}
	for _, n := range newerTable {
		names = append(append(names, n.call), n.old...)
	}
	for _, c := range timeCalls {
		names = append(names, c[0], c[1])
	}
	for _, p := range probes {
		names = append(append(names, p.call), p.older...)
	}
	for _, d := range dangers {
		names = append(names, d.call)
	}
	for a := range seccomp.Arches() {
		for _, n := range needs(a) {
			names = append(names, n.calls...)
		}
	}
	names = append(append(append(names, ringCalls()...), atStart()...), multiplexedNames()...)
	for _, name := range names {
		if !syscalls.Known(name) {
			t.Errorf("%s is no system call", name)
		}
	}
}

// The package documentation lists every code, and no other.
func TestCodes(t *testing.T) {
	source, err := os.ReadFile("lint.go")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for line := range strings.Lines(string(source)) {
		if f := strings.Fields(line); len(f) > 2 && strings.HasPrefix(line, "//\t") {
			documented = append(documented, f[1])
		}
	}
	var used []string
	files, _ := os.ReadDir(".")
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(strings.ReplaceAll(string(text), "Code = ", "Code: "), `Code: "`)
		for _, part := range parts[1:] {
			code, _, _ := strings.Cut(part, `"`)
			used = appendNew(used, code)
		}
	}
	for _, code := range used {
		if !slices.Contains(documented, code) {
			t.Errorf("%s is not in the documentation", code)
		}
	}
	for _, code := range documented {
		if !slices.Contains(used, code) {
			t.Errorf("%s is not found", code)
		}
	}
}

func TestNoTable(t *testing.T) {
	p, err := seccomp.ParseProfile("p", []byte(rules(allowList, allow("read"))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(p, target(syscalls.M68K)); err == nil {
		t.Error("an architecture without a table is accepted")
	}
}

func FuzzCheck(f *testing.F) {
	for _, name := range []string{"kill", "runc", "podman", "deny"} {
		data, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint8(0))
	}
	f.Add([]byte(rules(allowList, allow("socket", args("0 GE 1", "0 LE 2", "1 MASKED_EQ 65535 1")), deny("socket", args("1 NE 2")))), uint8(20))
	f.Fuzz(func(t *testing.T, data []byte, arch uint8) {
		p, err := seccomp.ParseProfile("p", data)
		if err != nil {
			return
		}
		at := target(seccomp.Arch(arch % 23))
		list, err := Check(p, at)
		if err != nil && at.Arch.HasTable() {
			t.Fatal(err)
		}
		for _, f := range list {
			if f.Rule >= len(p.Syscalls) || f.Message == "" || f.Fix == "" || strings.ContainsRune(f.Format("p"), '\n') {
				t.Fatalf("%+v", f)
			}
		}
	})
}
