package lint

import (
	"fmt"
	"slices"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// siblings are calls that can do what a call does.
type siblings struct {
	call  string
	same  []string
	plain bool // of a call with conditions, they can also do what these deny
}

// siblingTable has the siblings by which a denied call can be made up for. What
// a call with conditions is denied, siblings do only where plain is set: their
// arguments lie in memory.
var siblingTable = [...]siblings{
	{"open", []string{"openat", "openat2"}, false},
	{"openat", []string{"open", "openat2"}, false},
	{"open", []string{"openat2"}, true},
	{"openat", []string{"openat2"}, true},
	{"creat", []string{"open", "openat", "openat2"}, false},
	{"clone", []string{"clone3", "fork", "vfork"}, false},
	{"clone", []string{"clone3"}, true},
	{"fork", []string{"clone", "clone3", "vfork"}, false},
	{"vfork", []string{"clone", "clone3", "fork"}, false},
	{"execve", []string{"execveat"}, false},
	{"mount", []string{"fsopen", "fspick", "fsconfig", "fsmount", "move_mount", "open_tree", "open_tree_attr", "mount_setattr"}, false},
	{"fsopen", []string{"mount"}, false},
	{"move_mount", []string{"mount"}, false},
	{"umount", []string{"umount2"}, false},
	{"umount2", []string{"umount"}, false},
	{"chroot", []string{"pivot_root"}, false},
	{"pivot_root", []string{"chroot"}, false},
	{"unshare", []string{"clone", "clone3"}, false},
	{"chmod", []string{"fchmod", "fchmodat", "fchmodat2"}, false},
	{"fchmod", []string{"chmod", "fchmodat", "fchmodat2"}, false},
	{"fchmodat", []string{"chmod", "fchmod", "fchmodat2"}, false},
	{"fchmodat2", []string{"chmod", "fchmod", "fchmodat"}, false},
	{"chown", []string{"fchown", "fchownat", "lchown"}, false},
	{"fchown", []string{"chown", "fchownat"}, false},
	{"lchown", []string{"fchownat"}, false},
	{"fchownat", []string{"chown", "fchown", "lchown"}, false},
	{"rename", []string{"renameat", "renameat2"}, false},
	{"renameat", []string{"rename", "renameat2"}, false},
	{"renameat2", []string{"rename", "renameat"}, false},
	{"link", []string{"linkat"}, false},
	{"linkat", []string{"link"}, false},
	{"symlink", []string{"symlinkat"}, false},
	{"symlinkat", []string{"symlink"}, false},
	{"unlink", []string{"unlinkat"}, false},
	{"unlinkat", []string{"unlink", "rmdir"}, false},
	{"rmdir", []string{"unlinkat"}, false},
	{"mkdir", []string{"mkdirat"}, false},
	{"mkdirat", []string{"mkdir"}, false},
	{"mknod", []string{"mknodat"}, false},
	{"mknodat", []string{"mknod"}, false},
	{"access", []string{"faccessat", "faccessat2"}, false},
	{"faccessat", []string{"access", "faccessat2"}, false},
	{"setxattr", []string{"fsetxattr", "lsetxattr", "setxattrat"}, false},
	{"fsetxattr", []string{"setxattr", "setxattrat"}, false},
	{"lsetxattr", []string{"setxattrat"}, false},
	{"removexattr", []string{"fremovexattr", "lremovexattr", "removexattrat"}, false},
	{"getxattr", []string{"fgetxattr", "lgetxattr", "getxattrat"}, false},
	{"listxattr", []string{"flistxattr", "llistxattr", "listxattrat"}, false},
	{"ptrace", []string{"process_vm_readv", "process_vm_writev", "pidfd_getfd"}, false},
	{"process_vm_readv", []string{"ptrace"}, false},
	{"process_vm_writev", []string{"ptrace"}, false},
	{"kill", []string{"pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tgkill", "tkill"}, false},
	{"kexec_load", []string{"kexec_file_load"}, false},
	{"kexec_file_load", []string{"kexec_load"}, false},
	{"init_module", []string{"finit_module"}, false},
	{"finit_module", []string{"init_module"}, false},
	{"keyctl", []string{"add_key", "request_key"}, false},
	{"add_key", []string{"keyctl", "request_key"}, false},
	{"request_key", []string{"add_key", "keyctl"}, false},
	{"settimeofday", []string{"adjtimex", "clock_adjtime", "clock_adjtime64", "clock_settime", "clock_settime64", "stime"}, false},
	{"clock_settime", []string{"adjtimex", "clock_adjtime", "clock_adjtime64", "settimeofday", "stime"}, false},
	{"adjtimex", []string{"clock_adjtime", "clock_adjtime64"}, false},
	{"clock_adjtime", []string{"adjtimex"}, false},
	{"ioperm", []string{"iopl"}, false},
	{"iopl", []string{"ioperm"}, false},
	{"dup", []string{"dup2", "dup3"}, false},
	{"mlock", []string{"mlock2", "mlockall"}, false},
	{"setrlimit", []string{"prlimit64"}, false},
	{"prlimit64", []string{"setrlimit"}, false},
	{"quotactl", []string{"quotactl_fd"}, false},
	{"set_mempolicy", []string{"mbind"}, false},
	{"move_pages", []string{"migrate_pages"}, false},
	{"migrate_pages", []string{"move_pages"}, false},
	{"sched_setscheduler", []string{"sched_setattr"}, false},
	{"getdents", []string{"getdents64"}, false},
}

// variants returns the names that forms of a call for wider numbers have where
// an ABI has several: chown32, truncate64, clock_settime64, futex_time64.
func variants(name string) []string {
	return []string{name + "32", name + "64", name + "_time64"}
}

// evasion is what can be done in place of a denied call.
type evasion struct {
	rule  int
	call  string
	same  []string
	plain bool
	archs []string
}

// siblings finds calls that do what a restricted one does and are let through.
func (c *checker) siblings() {
	var list []evasion
	note := func(a seccomp.Arch, rule int, s siblings, open []string) {
		at := slices.IndexFunc(list, func(f evasion) bool { return f.rule == rule && f.call == s.call && f.plain == s.plain })
		if at < 0 {
			at, list = len(list), append(list, evasion{rule: rule, call: s.call, plain: s.plain})
		}
		for _, name := range open {
			list[at].same = appendNew(list[at].same, name)
		}
		list[at].archs = appendNew(list[at].archs, a.Short())
	}
	for _, a := range c.policy.Archs {
		for _, s := range c.siblingsOn(a) {
			nr, _ := syscalls.Number(a.Arch, s.call)
			rule, ok := c.restricts(a.Arch, nr, s.plain)
			if !ok {
				continue
			}
			open := slices.DeleteFunc(slices.Clone(s.same), func(name string) bool {
				o, ok := c.named(a.Arch, name)
				return !ok || !o.allowed()
			})
			if len(open) > 0 {
				note(a.Arch, rule, s, open)
			}
		}
	}
	for _, f := range list {
		c.addEvasion(f)
	}
}

// addEvasion reports what can be done in place of a denied call.
func (c *checker) addEvasion(f evasion) {
	finding := Finding{Code: "missing-sibling", Severity: Warning, Rule: f.rule, Names: append([]string{f.call}, f.same...), Archs: f.archs,
		Message: fmt.Sprintf("%s%s is denied, but %s %s, with which the same can be done, wholly or in part", c.on(f.archs), f.call, join(f.same), verb(len(f.same), "is not", "are not")),
		Fix:     siblingFix(f.call, f.same)}
	if f.plain {
		finding.Message = fmt.Sprintf("%s%s is restricted by its arguments, but %s is allowed, and has them in memory where no filter sees them", c.on(f.archs), f.call, join(f.same))
		finding.Fix = fmt.Sprintf("give %s SCMP_ACT_ERRNO with errnoRet 38 (ENOSYS), so that programs fall back to %s", join(f.same), f.call)
	}
	c.add(finding)
}

// siblingFix says what to do about siblings that are let through.
func siblingFix(call string, same []string) string {
	if call == "unshare" {
		return `deny the flags of new namespaces for clone too (arg0 & 0x7e020000, arg1 on s390), and give clone3 "errnoRet": 38 (ENOSYS)`
	}
	fix := "deny " + join(same) + " too"
	if tried := slices.DeleteFunc(slices.Clone(same), func(name string) bool { return !probed(name) }); len(tried) > 0 {
		fix += fmt.Sprintf(`, %s with "errnoRet": 38 (ENOSYS), at which programs fall back`, join(tried))
	}
	return fix
}

// siblingsOn returns the siblings of all calls of an ABI that rules are for.
func (c *checker) siblingsOn(a seccomp.ArchRules) []siblings {
	var list []siblings
	for _, call := range a.Calls {
		name, ok := syscalls.Name(a.Arch, call.Nr)
		if nr, has := syscalls.Number(a.Arch, name); !ok || !has || nr != call.Nr {
			continue
		}
		for _, s := range siblingTable {
			if s.call == name {
				list = append(list, s)
			}
		}
		list = append(list, siblings{name, variants(name), false})
	}
	return list
}

// restricts returns the rule that denies a call, if one does: always, or for
// some arguments where partly is set.
func (c *checker) restricts(a seccomp.Arch, nr uint32, partly bool) (rule int, ok bool) {
	o := c.outcome(a, nr)
	if partly {
		if o.lets() || o.blocked() {
			return -1, false
		}
		return c.rules(a, nr)[0].Index, true
	}
	name, _ := syscalls.Name(a, nr)
	if !o.blocked() || probed(name) && o.mildest() == enosys { // the latter is to make programs fall back
		return -1, false
	}
	rule = c.decidedBy(a, nr, o.strictest())
	return rule, rule >= 0
}

// ringCalls are calls that io_uring makes in a program's place, past any filter
// (include/uapi/linux/io_uring.h, enum io_uring_op).
func ringCalls() []string {
	return []string{"accept", "accept4", "bind", "connect", "fsetxattr", "ftruncate", "link", "linkat", "listen", "mkdir", "mkdirat",
		"open", "openat", "openat2", "recvmsg", "rename", "renameat", "renameat2", "sendmsg", "setxattr", "socket", "symlink",
		"symlinkat", "unlink", "unlinkat"}
}

// bypass finds restrictions that io_uring gets around.
func (c *checker) bypass() {
	a := c.native()
	for _, name := range []string{"io_uring_setup", "io_uring_enter"} {
		if o, ok := c.named(a, name); !ok || !o.allowed() {
			return
		}
	}
	var past []string
	for _, name := range ringCalls() {
		if o, ok := c.named(a, name); ok && !o.lets() {
			past = append(past, name)
		}
	}
	if len(past) == 0 {
		return
	}
	nr, _ := syscalls.Number(a, "io_uring_setup")
	c.add(Finding{Code: "missing-sibling", Severity: Warning, Rule: c.decidedBy(a, nr, seccomp.Allow), Names: append([]string{"io_uring_setup"}, past...),
		Message: fmt.Sprintf("io_uring is allowed, and makes calls that are restricted without asking a filter: %s", join(past)),
		Fix:     "give io_uring_setup, io_uring_enter and io_uring_register SCMP_ACT_ERRNO"})
}

// newer is a call that programs make in place of an older one.
type newer struct {
	call    string
	old     []string // calls of which one is allowed
	who     string   // makes it
	without bool     // does without it after ENOSYS
}

// newerTable has calls that allow lists lack if they are older than the C
// library that runs under them.
var newerTable = [...]newer{
	{"clone3", []string{"clone"}, "glibc from 2.34", true},
	{"faccessat2", []string{"faccessat", "access"}, "glibc from 2.33", true},
	{"fchmodat2", []string{"fchmodat"}, "glibc from 2.39", true},
	{"statx", []string{"newfstatat", "fstatat64", "stat", "stat64"}, "coreutils, Rust, and glibc on 32-bit ABIs", true},
	{"openat2", []string{"openat"}, "container tools and systemd", true},
	{"epoll_pwait2", []string{"epoll_pwait", "epoll_wait"}, "event libraries", true},
	{"close_range", []string{"close"}, "glibc's closefrom and Python", true},
	{"rseq", []string{"sched_getaffinity", "getcpu", "set_robust_list"}, "glibc from 2.35", true},
	{"futex_waitv", []string{"futex"}, "Wine", true},
	{"prlimit64", []string{"getrlimit", "setrlimit", "ugetrlimit"}, "glibc from 2.13", false},
	{"getdents64", []string{"getdents"}, "every C library", false},
	{"newfstatat", []string{"stat", "fstat", "lstat"}, "glibc from 2.33, for stat and fstat", false},
	{"openat", []string{"open"}, "glibc from 2.26, for open", false},
	{"clock_nanosleep", []string{"nanosleep"}, "glibc from 2.31, for nanosleep", false},
	{"pselect6", []string{"select", "_newselect"}, "newer versions of glibc, for select", false},
	{"pipe2", []string{"pipe"}, "programs that close on exec", false},
	{"dup3", []string{"dup2"}, "programs that close on exec", false},
	{"accept4", []string{"accept"}, "servers", false},
	{"epoll_create1", []string{"epoll_create"}, "event libraries", false},
	{"eventfd2", []string{"eventfd"}, "glibc, for eventfd", false},
	{"signalfd4", []string{"signalfd"}, "glibc, for signalfd", false},
	{"inotify_init1", []string{"inotify_init"}, "programs that watch files", false},
	{"execveat", []string{"execve"}, "glibc's fexecve", true},
	{"renameat2", []string{"renameat", "rename"}, "coreutils and systemd", true},
	{"preadv2", []string{"preadv"}, "glibc's preadv2", true},
	{"pwritev2", []string{"pwritev"}, "glibc's pwritev2", true},
}

// timeCalls are the calls for times beyond 2038 of 32-bit ABIs that glibc, some
// from 2.31 and all from 2.34 on, and musl from 1.2 try first, with the older
// one.
var timeCalls = [...][2]string{
	{"clock_gettime64", "clock_gettime"}, {"clock_getres_time64", "clock_getres"},
	{"clock_nanosleep_time64", "clock_nanosleep"}, {"futex_time64", "futex"},
	{"mq_timedreceive_time64", "mq_timedreceive"}, {"mq_timedsend_time64", "mq_timedsend"},
	{"ppoll_time64", "ppoll"}, {"pselect6_time64", "pselect6"}, {"recvmmsg_time64", "recvmmsg"},
	{"rt_sigtimedwait_time64", "rt_sigtimedwait"}, {"sched_rr_get_interval_time64", "sched_rr_get_interval"},
	{"semtimedop_time64", "semtimedop"}, {"timer_gettime64", "timer_gettime"}, {"timer_settime64", "timer_settime"},
	{"timerfd_gettime64", "timerfd_gettime"}, {"timerfd_settime64", "timerfd_settime"}, {"utimensat_time64", "utimensat"},
}

// newerSiblings finds what an allow list leaves out though it allows the older
// call.
func (c *checker) newerSiblings() {
	if c.lenient() {
		return
	}
	a := c.native()
	var bears []string // ENOSYS, and falls back
	for _, n := range newerTable {
		action, ok := c.leftOut(a, n)
		if !ok {
			continue
		}
		if action == enosys && n.without {
			bears = append(bears, n.call)
			continue
		}
		if probed(n.call) {
			continue // probing tells
		}
		what := "programs may fail"
		if kills(action) {
			what = "programs are killed for it"
		} else if !n.without {
			what = "they may have no other way"
		}
		c.add(Finding{Code: "missing-sibling", Severity: Info, Rule: -1, Names: []string{n.call},
			Message: fmt.Sprintf("%s gets %v, though %s is allowed: it is called by %s, and %s", n.call, action, c.firstAllowed(a, n.old), n.who, what),
			Fix:     "allow it"})
	}
	if len(bears) > 0 {
		c.add(Finding{Code: "missing-sibling", Severity: Info, Rule: -1, Names: bears,
			Message: fmt.Sprintf("%s %s ENOSYS, though the older calls are allowed: programs fall back to these", join(bears), verb(len(bears), "gets", "get")),
			Fix:     fallbackFix(bears)})
	}
}

// fallbackFix says what to do about calls for which programs fall back.
func fallbackFix(names []string) string {
	unseen := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name != "clone3" && name != "openat2" })
	if len(unseen) == 0 {
		return "allow them if they are to be used"
	}
	return fmt.Sprintf("allow them if they are to be used; no filter sees the arguments of %s, which lie in memory", join(unseen))
}

// leftOut returns what happens to a newer call that no rule names. It is false
// if the profile says anything about it, or allows none of the older ones.
func (c *checker) leftOut(a seccomp.Arch, n newer) (seccomp.Action, bool) {
	o, ok := c.named(a, n.call)
	if !ok || !o.blocked() || c.firstAllowed(a, n.old) == "" {
		return 0, false
	}
	nr, _ := syscalls.Number(a, n.call)
	return o.strictest(), len(c.rules(a, nr)) == 0
}

// firstAllowed returns the first of the names that is allowed for some
// arguments, or "".
func (c *checker) firstAllowed(a seccomp.Arch, names []string) string {
	for _, name := range names {
		if o, ok := c.named(a, name); ok && !o.blocked() {
			return name
		}
	}
	return ""
}
