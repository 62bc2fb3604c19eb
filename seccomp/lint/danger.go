package lint

import (
	"fmt"
	"slices"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// danger is a call that weakens a container's isolation.
type danger struct {
	call string
	// guarded is set where the kernel itself asks for a capability of the
	// host's user namespace: allowing the call then costs only a second line
	// of defence.
	guarded bool
}

// dangers are in the order of the names.
var dangers = [...]danger{
	{"acct", true}, {"add_key", false}, {"bpf", false}, {"clone", false}, {"clone3", false}, {"clock_settime", true},
	{"clock_settime64", true}, {"delete_module", true}, {"fanotify_init", false}, {"finit_module", true},
	{"fsconfig", false}, {"fsmount", false}, {"fsopen", false}, {"fspick", false}, {"init_module", true},
	{"io_uring_enter", false}, {"io_uring_register", false}, {"io_uring_setup", false}, {"ioperm", true}, {"iopl", true},
	{"kcmp", false}, {"kexec_file_load", true}, {"kexec_load", true}, {"keyctl", false}, {"mbind", false}, {"migrate_pages", false},
	{"mount", false}, {"mount_setattr", false}, {"move_mount", false}, {"move_pages", false}, {"open_by_handle_at", true},
	{"open_tree", false}, {"perf_event_open", false}, {"personality", false}, {"pidfd_getfd", false}, {"pivot_root", false},
	{"process_vm_readv", false}, {"process_vm_writev", false}, {"ptrace", false}, {"quotactl", true}, {"reboot", true},
	{"request_key", false}, {"set_mempolicy", false}, {"setns", false}, {"settimeofday", true}, {"socket", false},
	{"stime", true}, {"swapoff", true}, {"swapon", true}, {"syslog", true}, {"umount", false}, {"umount2", false},
	{"unshare", false}, {"userfaultfd", false}, {"vm86", false}, {"vm86old", false},
}

// dangers finds calls that are let through whatever their arguments, and that
// the default profile does not let through like that for the same target.
func (c *checker) dangers() {
	// The default profile's opinion is of the same capabilities and kernel.
	def, _, err := seccomp.Default().Resolve(c.target)
	if err != nil {
		return
	}
	a := c.native()
	type group struct {
		rule    int
		guarded bool
		names   []string
	}
	var groups []group
	for _, d := range dangers {
		nr, ok := syscalls.Number(a, d.call)
		if !ok || !c.outcome(a, nr).allowed() || def.Access(a, nr) == seccomp.Allowed {
			continue
		}
		g := group{rule: c.decidedBy(a, nr, c.outcome(a, nr).mildest()), guarded: d.guarded}
		at := slices.IndexFunc(groups, func(h group) bool { return h.rule == g.rule && h.guarded == g.guarded })
		if at < 0 {
			at, groups = len(groups), append(groups, g)
		}
		groups[at].names = append(groups[at].names, d.call)
	}
	for _, g := range groups {
		c.addDangers(g.rule, g.guarded, g.names)
	}
}

// maxReasons is up to how many calls of one rule get a finding each.
const maxReasons = 8

func (c *checker) addDangers(rule int, guarded bool, names []string) {
	severity, also := Warning, ""
	if guarded {
		severity, also = Info, "; the kernel asks for a capability too, and this takes the second lock away"
	}
	if len(names) > maxReasons {
		c.add(Finding{Code: "dangerous-allow", Severity: severity, Rule: rule, Names: names,
			Message: fmt.Sprintf("%s are let through, all of which the default profile blocks or restricts for this target%s", join(names), also),
			Fix:     "deny them; 'brig seccomp show default' says why for each"})
		return
	}
	for _, name := range names {
		why := seccomp.BlockReason(name)
		if why == "" {
			why = dangerReason(name)
		}
		c.add(Finding{Code: "dangerous-allow", Severity: severity, Rule: rule, Names: []string{name},
			Message: fmt.Sprintf("%s is let through whatever its arguments, which the default profile does not do for this target: %s%s", name, lowerFirst(why), also),
			Fix:     dangerFix(name)})
	}
}

// dangerReason has the reasons for calls that the default profile blocks only
// on some targets.
func dangerReason(name string) string {
	switch name {
	case "ptrace":
		return "before Linux 4.8, a traced process gets around the filter"
	case "process_vm_readv", "process_vm_writev":
		return "it reaches into the memory of other processes, as ptrace does, from which the default profile keeps kernels before 4.8"
	}
	return "it weakens the isolation of the container"
}

// lowerFirst turns a sentence into a part of one.
func lowerFirst(s string) string {
	if s != "" && s[len(s)-1] == '.' {
		s = s[:len(s)-1]
	}
	if s != "" && s[0] >= 'A' && s[0] <= 'Z' {
		s = string(s[0]+'a'-'A') + s[1:]
	}
	return s
}

// dangerFix says what to do about a call.
func dangerFix(name string) string {
	switch name {
	case "clone":
		return "deny the flags of new namespaces: allow it where arg0 & 0x7e020000 == 0 (SCMP_CMP_MASKED_EQ; arg1 on s390)"
	case "clone3":
		return `give it SCMP_ACT_ERRNO with "errnoRet": 38 (ENOSYS), so that programs fall back to clone`
	case "personality":
		return "allow the values 0x0, 0x8, 0x20000, 0x20008 and 0xffffffff only"
	case "socket":
		return "allow the families that are needed only, such as 1 (AF_UNIX), 2 (AF_INET) and 10 (AF_INET6)"
	}
	return "remove it, or allow it with a capability in includes"
}
