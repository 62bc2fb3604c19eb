package seccomp

import (
	"strings"

	"golang.org/x/sys/unix"
)

// constant is a named value of an argument.
type constant struct {
	name  string
	value uint64
}

// constantKind says which constants an argument takes.
type constantKind uint8

const (
	noConstants constantKind = iota
	families                 // AF_
	cloneFlags               // CLONE_
	nsFlags                  // CLONE_, with CLONE_NEWTIME, for which clone(2) has no room
	prctlOps                 // PR_
)

// constantKindOf returns which constants argument index of the named call
// takes: those that have one value on all architectures. On s390 clone takes
// its flags in arg1.
func constantKindOf(call string, index uint8) constantKind {
	switch {
	case (call == "socket" || call == "socketpair") && index == 0:
		return families
	case call == "clone" && index <= 1:
		return cloneFlags
	case call == "unshare" && index == 0, call == "setns" && index == 1:
		return nsFlags
	case call == "prctl" && index == 0:
		return prctlOps
	}
	return noConstants
}

// constantsOf returns the constants for an argument of a rule, if all of its
// calls take the same there.
func constantsOf(r *SyscallRule, index uint8) []constant {
	kind := noConstants
	for i, name := range r.Names {
		k := constantKindOf(name, index)
		if i > 0 && k != kind {
			return nil
		}
		kind = k
	}
	switch kind {
	case families:
		return addressFamilies[:]
	case cloneFlags:
		return cloneConstants[:len(cloneConstants)-1]
	case nsFlags:
		return cloneConstants[:]
	case prctlOps:
		return prctlConstants[:]
	}
	return nil
}

// constantsFit reports whether the argument surely is what constantsOf says:
// whether arg0 or arg1 of clone has the flags depends on the architecture.
func constantsFit(r *SyscallRule, index uint8) bool {
	if r.Names[0] != "clone" {
		return true
	}
	swapped := len(r.Includes.Arches) > 0
	for _, a := range r.Includes.Arches {
		swapped = swapped && strings.HasPrefix(a.Short(), "s390")
	}
	return swapped == (index == 1)
}

// textConstant writes a value with constants where it is made of them alone,
// and where that reads well, and else as a number.
func textConstant(v uint64, names []constant, op Op) string {
	if op == NE || op == EQ {
		for _, k := range names {
			if k.value == v {
				return k.name
			}
		}
	}
	if v == 0 || op != MaskedEQ && op != NE && op != EQ || !strings.HasPrefix(names[0].name, "CLONE_") {
		return textNumber(v)
	}
	var parts []string
	rest := v
	for _, k := range names {
		if v&k.value != 0 {
			parts = append(parts, k.name)
			rest &^= k.value
		}
	}
	if rest != 0 {
		return textNumber(v)
	}
	return strings.Join(parts, "|")
}

// addressFamilies are the address families of socket(2).
var addressFamilies = [...]constant{
	{"AF_UNSPEC", unix.AF_UNSPEC}, {"AF_UNIX", unix.AF_UNIX}, {"AF_INET", unix.AF_INET},
	{"AF_AX25", unix.AF_AX25}, {"AF_IPX", unix.AF_IPX}, {"AF_APPLETALK", unix.AF_APPLETALK},
	{"AF_NETROM", unix.AF_NETROM}, {"AF_BRIDGE", unix.AF_BRIDGE}, {"AF_ATMPVC", unix.AF_ATMPVC},
	{"AF_X25", unix.AF_X25}, {"AF_INET6", unix.AF_INET6}, {"AF_ROSE", unix.AF_ROSE},
	{"AF_NETBEUI", unix.AF_NETBEUI}, {"AF_SECURITY", unix.AF_SECURITY}, {"AF_KEY", unix.AF_KEY},
	{"AF_NETLINK", unix.AF_NETLINK}, {"AF_PACKET", unix.AF_PACKET}, {"AF_ASH", unix.AF_ASH},
	{"AF_ECONET", unix.AF_ECONET}, {"AF_ATMSVC", unix.AF_ATMSVC}, {"AF_RDS", unix.AF_RDS},
	{"AF_SNA", unix.AF_SNA}, {"AF_IRDA", unix.AF_IRDA}, {"AF_PPPOX", unix.AF_PPPOX},
	{"AF_WANPIPE", unix.AF_WANPIPE}, {"AF_LLC", unix.AF_LLC}, {"AF_IB", unix.AF_IB},
	{"AF_MPLS", unix.AF_MPLS}, {"AF_CAN", unix.AF_CAN}, {"AF_TIPC", unix.AF_TIPC},
	{"AF_BLUETOOTH", unix.AF_BLUETOOTH}, {"AF_IUCV", unix.AF_IUCV}, {"AF_RXRPC", unix.AF_RXRPC},
	{"AF_ISDN", unix.AF_ISDN}, {"AF_PHONET", unix.AF_PHONET}, {"AF_IEEE802154", unix.AF_IEEE802154},
	{"AF_CAIF", unix.AF_CAIF}, {"AF_ALG", unix.AF_ALG}, {"AF_NFC", unix.AF_NFC},
	{"AF_VSOCK", unix.AF_VSOCK}, {"AF_KCM", unix.AF_KCM}, {"AF_QIPCRTR", unix.AF_QIPCRTR},
	{"AF_SMC", unix.AF_SMC}, {"AF_XDP", unix.AF_XDP}, {"AF_MCTP", unix.AF_MCTP},
}

// cloneConstants are the flags of clone(2), and last the one that only unshare(2)
// and setns(2) take.
var cloneConstants = [...]constant{
	{"CLONE_VM", unix.CLONE_VM}, {"CLONE_FS", unix.CLONE_FS}, {"CLONE_FILES", unix.CLONE_FILES},
	{"CLONE_SIGHAND", unix.CLONE_SIGHAND}, {"CLONE_PIDFD", unix.CLONE_PIDFD},
	{"CLONE_PTRACE", unix.CLONE_PTRACE}, {"CLONE_VFORK", unix.CLONE_VFORK},
	{"CLONE_PARENT", unix.CLONE_PARENT}, {"CLONE_THREAD", unix.CLONE_THREAD},
	{"CLONE_NEWNS", unix.CLONE_NEWNS}, {"CLONE_SYSVSEM", unix.CLONE_SYSVSEM},
	{"CLONE_SETTLS", unix.CLONE_SETTLS}, {"CLONE_PARENT_SETTID", unix.CLONE_PARENT_SETTID},
	{"CLONE_CHILD_CLEARTID", unix.CLONE_CHILD_CLEARTID}, {"CLONE_DETACHED", unix.CLONE_DETACHED},
	{"CLONE_UNTRACED", unix.CLONE_UNTRACED}, {"CLONE_CHILD_SETTID", unix.CLONE_CHILD_SETTID},
	{"CLONE_NEWCGROUP", unix.CLONE_NEWCGROUP}, {"CLONE_NEWUTS", unix.CLONE_NEWUTS},
	{"CLONE_NEWIPC", unix.CLONE_NEWIPC}, {"CLONE_NEWUSER", unix.CLONE_NEWUSER},
	{"CLONE_NEWPID", unix.CLONE_NEWPID}, {"CLONE_NEWNET", unix.CLONE_NEWNET}, {"CLONE_IO", unix.CLONE_IO},
	{"CLONE_NEWTIME", unix.CLONE_NEWTIME},
}

// prctlConstants are the operations of prctl(2).
var prctlConstants = [...]constant{
	{"PR_SET_PDEATHSIG", unix.PR_SET_PDEATHSIG}, {"PR_GET_PDEATHSIG", unix.PR_GET_PDEATHSIG},
	{"PR_GET_DUMPABLE", unix.PR_GET_DUMPABLE}, {"PR_SET_DUMPABLE", unix.PR_SET_DUMPABLE},
	{"PR_GET_UNALIGN", unix.PR_GET_UNALIGN}, {"PR_SET_UNALIGN", unix.PR_SET_UNALIGN},
	{"PR_GET_KEEPCAPS", unix.PR_GET_KEEPCAPS}, {"PR_SET_KEEPCAPS", unix.PR_SET_KEEPCAPS},
	{"PR_GET_FPEMU", unix.PR_GET_FPEMU}, {"PR_SET_FPEMU", unix.PR_SET_FPEMU},
	{"PR_GET_FPEXC", unix.PR_GET_FPEXC}, {"PR_SET_FPEXC", unix.PR_SET_FPEXC},
	{"PR_GET_TIMING", unix.PR_GET_TIMING}, {"PR_SET_TIMING", unix.PR_SET_TIMING},
	{"PR_SET_NAME", unix.PR_SET_NAME}, {"PR_GET_NAME", unix.PR_GET_NAME},
	{"PR_GET_ENDIAN", unix.PR_GET_ENDIAN}, {"PR_SET_ENDIAN", unix.PR_SET_ENDIAN},
	{"PR_GET_SECCOMP", unix.PR_GET_SECCOMP}, {"PR_SET_SECCOMP", unix.PR_SET_SECCOMP},
	{"PR_CAPBSET_READ", unix.PR_CAPBSET_READ}, {"PR_CAPBSET_DROP", unix.PR_CAPBSET_DROP},
	{"PR_GET_TSC", unix.PR_GET_TSC}, {"PR_SET_TSC", unix.PR_SET_TSC},
	{"PR_GET_SECUREBITS", unix.PR_GET_SECUREBITS}, {"PR_SET_SECUREBITS", unix.PR_SET_SECUREBITS},
	{"PR_SET_TIMERSLACK", unix.PR_SET_TIMERSLACK}, {"PR_GET_TIMERSLACK", unix.PR_GET_TIMERSLACK},
	{"PR_TASK_PERF_EVENTS_DISABLE", unix.PR_TASK_PERF_EVENTS_DISABLE},
	{"PR_TASK_PERF_EVENTS_ENABLE", unix.PR_TASK_PERF_EVENTS_ENABLE}, {"PR_MCE_KILL", unix.PR_MCE_KILL},
	{"PR_MCE_KILL_GET", unix.PR_MCE_KILL_GET}, {"PR_SET_MM", unix.PR_SET_MM},
	{"PR_SET_CHILD_SUBREAPER", unix.PR_SET_CHILD_SUBREAPER},
	{"PR_GET_CHILD_SUBREAPER", unix.PR_GET_CHILD_SUBREAPER},
	{"PR_SET_NO_NEW_PRIVS", unix.PR_SET_NO_NEW_PRIVS}, {"PR_GET_NO_NEW_PRIVS", unix.PR_GET_NO_NEW_PRIVS},
	{"PR_GET_TID_ADDRESS", unix.PR_GET_TID_ADDRESS}, {"PR_SET_THP_DISABLE", unix.PR_SET_THP_DISABLE},
	{"PR_GET_THP_DISABLE", unix.PR_GET_THP_DISABLE}, {"PR_SET_FP_MODE", unix.PR_SET_FP_MODE},
	{"PR_GET_FP_MODE", unix.PR_GET_FP_MODE}, {"PR_CAP_AMBIENT", unix.PR_CAP_AMBIENT},
	{"PR_SVE_SET_VL", unix.PR_SVE_SET_VL}, {"PR_SVE_GET_VL", unix.PR_SVE_GET_VL},
	{"PR_GET_SPECULATION_CTRL", unix.PR_GET_SPECULATION_CTRL},
	{"PR_SET_SPECULATION_CTRL", unix.PR_SET_SPECULATION_CTRL},
	{"PR_PAC_RESET_KEYS", unix.PR_PAC_RESET_KEYS},
	{"PR_SET_TAGGED_ADDR_CTRL", unix.PR_SET_TAGGED_ADDR_CTRL},
	{"PR_GET_TAGGED_ADDR_CTRL", unix.PR_GET_TAGGED_ADDR_CTRL},
	{"PR_SET_IO_FLUSHER", unix.PR_SET_IO_FLUSHER}, {"PR_GET_IO_FLUSHER", unix.PR_GET_IO_FLUSHER},
	{"PR_SET_SYSCALL_USER_DISPATCH", unix.PR_SET_SYSCALL_USER_DISPATCH},
	{"PR_PAC_SET_ENABLED_KEYS", unix.PR_PAC_SET_ENABLED_KEYS},
	{"PR_PAC_GET_ENABLED_KEYS", unix.PR_PAC_GET_ENABLED_KEYS}, {"PR_SCHED_CORE", unix.PR_SCHED_CORE},
	{"PR_SME_SET_VL", unix.PR_SME_SET_VL}, {"PR_SME_GET_VL", unix.PR_SME_GET_VL},
	{"PR_SET_MDWE", unix.PR_SET_MDWE}, {"PR_GET_MDWE", unix.PR_GET_MDWE},
	{"PR_SET_MEMORY_MERGE", unix.PR_SET_MEMORY_MERGE}, {"PR_GET_MEMORY_MERGE", unix.PR_GET_MEMORY_MERGE},
	{"PR_SET_VMA", unix.PR_SET_VMA}, {"PR_GET_AUXV", unix.PR_GET_AUXV},
	{"PR_SET_PTRACER", unix.PR_SET_PTRACER},
}
