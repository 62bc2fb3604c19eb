package record

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// above are the functions between a check and whoever asked for it: the
// recorder's own, the security modules' and the many names of the question
// (kernel/capability.c, security/security.c).
var above = []string{
	"cap_capable", "security_capable", "capable", "ns_capable", "ns_capable_common", "capable_wrt_inode_uidgid",
	"file_ns_capable", "has_ns_capability", "has_capability", "has_ns_capability_noaudit", "has_capability_noaudit",
	"ns_capable_noaudit", "ns_capable_setid", "privileged_wrt_inode_uidgid", "sk_ns_capable", "sk_capable",
	"sk_net_capable", "sockopt_ns_capable", "sockopt_capable", "netlink_capable", "netlink_ns_capable",
	"netlink_net_capable", "__netlink_ns_capable", "bpf_token_capable",
}

// reasons are kernel functions that ask for capabilities in another way than to
// decide about the call, with what that makes of the check. Source: Linux 6.18,
// the callers of capable and its kin.
var reasons = []struct{ function, class string }{
	// Bookkeeping: privileged processes may use the last of the memory
	// (mm/util.c, __vm_enough_memory), and others are killed first
	// (mm/oom_kill.c, oom_badness).
	{"security_vm_enough_memory_mm", Noise},
	{"cap_vm_enough_memory", Noise},
	{"oom_badness", Noise},

	// Both answers work: the bit for set-group-ID is kept or cleared.
	{"setattr_should_drop_sgid", Opportunistic},
	{"setattr_should_drop_suidgid", Opportunistic},
	{"setattr_copy", Opportunistic},
	{"posix_acl_update_mode", Opportunistic},
	{"mode_strip_sgid", Opportunistic},
	{"inode_init_owner", Opportunistic},
	{"dentry_needs_remove_privs", Opportunistic},
	{"file_remove_privs", Opportunistic},
	{"should_remove_suid", Opportunistic},
	{"in_group_or_capable", Opportunistic},
	// /proc shows more to those who may trace: addresses, or nothing.
	{"do_task_stat", Opportunistic},
	{"proc_pid_permission", Opportunistic},
	{"kallsyms_show_value", Opportunistic},
	{"restricted_pointer", Opportunistic},
	// Buffers and reserved blocks: less without.
	{"ext4_has_free_clusters", Opportunistic},
	{"xfs_trans_reserve", Opportunistic},
	{"tty_write_lock", Opportunistic},
}

// decides are functions whose answer matters although they do not want it in
// the audit log.
var decides = []string{
	"seccomp_prepare_filter", "seccomp_prepare_user_filter", "do_seccomp", "seccomp_set_mode_filter",
	"ptrace_may_access", "__ptrace_may_access", "ptrace_attach",
}

// classify says what a granted check was, by the functions that led to it,
// innermost first.
func classify(stack []string) string {
	for _, function := range stack {
		for _, r := range reasons {
			if function == r.function {
				return r.class
			}
		}
	}
	quiet := slices.ContainsFunc(stack, func(f string) bool { return strings.HasSuffix(f, "_noaudit") })
	if quiet && !slices.ContainsFunc(stack, func(f string) bool { return slices.Contains(decides, f) }) {
		return Opportunistic
	}
	return Needed
}

// questioner cuts off the functions above the one that asked.
func questioner(stack []string) []string {
	for i, function := range stack {
		if function != "cap_capable" {
			continue
		}
		for i++; i < len(stack) && slices.Contains(above, stack[i]) && !strings.HasSuffix(stack[i], "_noaudit"); i++ {
		}
		return stack[i:]
	}
	return stack
}

// mayCause reports whether a call that failed with an error may have done so
// because a capability was refused: most checks give EPERM or EACCES, those of
// limits what says that the limit is reached.
func mayCause(errno unix.Errno, name string) bool {
	switch errno {
	case unix.EPERM, unix.EACCES:
		return true
	case unix.ENOMEM:
		return name == "IPC_LOCK" || name == "SYS_RESOURCE"
	case unix.EAGAIN:
		return name == "SYS_RESOURCE" || name == "SYS_ADMIN" || name == "IPC_LOCK"
	case unix.ENOSPC, unix.EDQUOT, unix.EMFILE, unix.ENFILE, unix.EUSERS, unix.ENOBUFS:
		return name == "SYS_RESOURCE" || name == "SYS_ADMIN"
	}
	return false
}
