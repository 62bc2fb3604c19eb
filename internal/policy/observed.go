package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/record"
)

// base are the calls that no program does without: the start, the end, and what
// the kernel makes programs call after signals (signal(7), restart_syscall(2)).
var base = []string{"execve", "exit", "exit_group", "restart_syscall", "rt_sigreturn"}

// StartCalls are the calls by which the loaders of glibc and musl start a program
// on x86-64: what is assumed where a start was not recorded.
func StartCalls() []string {
	return []string{
		"access", "arch_prctl", "brk", "close", "fcntl", "fstat", "futex", "getrandom", "mmap", "mprotect", "munmap", "newfstatat",
		"open", "openat", "pread64", "prlimit64", "read", "readlink", "rseq", "rt_sigaction", "rt_sigprocmask", "set_robust_list",
		"set_tid_address",
	}
}

// FromRecording makes a policy of what one run used. The run's kernel, machine,
// time and completeness are those of the recording if it leaves them out.
func FromRecording(rec *record.Recording, run Run) (*Policy, error) {
	if run.ID == "" {
		return nil, fmt.Errorf("make a policy: the run has no ID")
	}
	run.Kernel, run.Machine = cmp.Or(run.Kernel, rec.Kernel), cmp.Or(run.Machine, rec.Machine)
	if run.Started.IsZero() {
		run.Started, run.Seconds = rec.Started.UTC(), rec.Ended.Sub(rec.Started).Seconds()
	}
	run.Complete, run.Lost = rec.Complete, rec.Lost
	p := &Policy{Version: Version, IOUring: rec.IOUring, Notes: slices.Clone(rec.Notes)}
	p.Runs = []Run{run}
	p.addSyscalls(rec, run.ID)
	p.addCapabilities(rec, run.ID)
	p.addDenials(rec)
	p.settle()
	return p, nil
}

func (p *Policy) addSyscalls(rec *record.Recording, run string) {
	for i := range rec.Syscalls {
		c := &rec.Syscalls[i]
		if c.Count == 0 {
			continue
		}
		if c.Name == "" {
			p.note(fmt.Sprintf("call %d of %s was made, which no table has; the policy cannot allow it", c.Nr, c.ABI))
			continue
		}
		entry := Syscall{
			Name: c.Name, Status: Asked, ABIs: []string{c.ABI}, Startup: c.Startup, Running: c.Running, Runs: 1,
			First: &First{Program: c.FirstProgram, Thread: c.FirstThread, Run: run, Seconds: c.FirstAfter.Seconds()},
		}
		for _, a := range c.Args {
			entry.Args = append(entry.Args, Arg{Index: a.Index, Values: slices.Clone(a.Values), More: a.More, Memory: a.Memory})
		}
		p.addSyscall(entry)
	}
	for _, name := range base {
		p.addSyscall(Syscall{Name: name, Status: Base})
	}
	for _, name := range rec.Assumed {
		p.addSyscall(Syscall{Name: name, Status: Base, Comment: "assumed: it could not be recorded"})
	}
	if slices.ContainsFunc(rec.Syscalls, func(c record.Syscall) bool { return c.ABI == "x86" && c.Count > 0 }) {
		p.addSyscall(Syscall{Name: "sigreturn", Status: Base, ABIs: []string{"x86"}})
	}
}

// addSyscall adds an entry, or joins it with the one that the call has.
func (p *Policy) addSyscall(entry Syscall) {
	for i := range p.Syscalls {
		if have := &p.Syscalls[i]; have.Name == entry.Name {
			have.join(&entry)
			return
		}
	}
	p.Syscalls = append(p.Syscalls, entry)
}

// join takes in another ABI's entry of the same run.
func (c *Syscall) join(o *Syscall) {
	c.Status = surer(c.Status, o.Status)
	c.ABIs = union(c.ABIs, o.ABIs)
	c.Startup, c.Running = c.Startup+o.Startup, c.Running+o.Running
	c.Runs = max(c.Runs, o.Runs)
	if c.First == nil || o.First != nil && o.First.Seconds < c.First.Seconds {
		c.First = o.First
	}
	c.Args = joinArgs(c.Args, o.Args)
}

func (p *Policy) addCapabilities(rec *record.Recording, run string) {
	for _, name := range capabilityNames(rec) {
		p.Capabilities = append(p.Capabilities, capabilityOf(rec, name, run))
	}
}

func capabilityNames(rec *record.Recording) (names []string) {
	for i := range rec.Capabilities {
		names = append(names, rec.Capabilities[i].Name)
	}
	return union(names, nil)
}

// capabilityOf makes an entry of all checks of a capability. Only those in the
// container's own user namespace that the kernel granted, and whose answer
// mattered, speak for granting it.
func capabilityOf(rec *record.Recording, name, run string) Capability {
	entry := Capability{Name: name, Runs: 1, First: run}
	var own, other []*record.Capability
	for i := range rec.Capabilities {
		c := &rec.Capabilities[i]
		switch {
		case c.Name != name:
		case c.UserNS == "own":
			own = append(own, c)
		default:
			other = append(other, c)
		}
	}
	entry.Status, entry.Why = judge(own)
	counted := own
	if len(own) == 0 {
		entry.Status, entry.Why = Unneeded, "asked for in another user namespace only, where the container's capabilities mean nothing"
		counted = other
	}
	for _, c := range counted {
		entry.Granted, entry.Refused = entry.Granted+c.Granted, entry.Refused+c.Refused
		entry.Syscalls, entry.Programs = union(entry.Syscalls, c.Syscalls), union(entry.Programs, c.Programs)
	}
	return entry
}

// judge says what the checks in the container's own user namespace come to.
func judge(own []*record.Capability) (status, why string) {
	status = Noise
	for _, c := range own {
		switch {
		case c.Class == record.Needed && c.Granted > 0:
			return Asked, reason(c.Stack)
		case c.Class == record.Noise:
			if why == "" {
				why = reason(c.Stack)
			}
		case c.Class == record.Needed:
			status, why = Unneeded, reason(c.Stack)+"; refused, and the container went on"
		default:
			status, why = Unneeded, reason(c.Stack)+"; either answer works"
		}
	}
	return status, why
}

// reasons says in words what kernel functions want capabilities for. Source:
// Linux 6.18, the callers of capable and its kin.
var reasons = [...]struct{ function, words string }{
	{"security_vm_enough_memory_mm", "accounting of memory"},
	{"cap_vm_enough_memory", "accounting of memory"},
	{"oom_badness", "the choice of what to kill when memory runs out"},
	{"setattr_prepare", "change of a file's owner, mode or times"},
	{"setattr_should_drop_sgid", "the set-group-ID bit of a file that is changed"},
	{"setattr_copy", "the set-group-ID bit of a file that is changed"},
	{"in_group_or_capable", "the set-group-ID bit of a file that is changed"},
	{"should_remove_suid", "the set-user-ID bit of a file that is written"},
	{"chown_ok", "change of a file's owner"},
	{"chgrp_ok", "change of a file's group"},
	{"generic_permission", "access to a file in spite of its mode"},
	{"inode_owner_or_capable", "change of another user's file"},
	{"may_linkat", "a link to another user's file"},
	{"__check_sticky", "removal from a sticky directory"},
	{"__sys_setuid", "change of the user"},
	{"__sys_setreuid", "change of the user"},
	{"__sys_setresuid", "change of the user"},
	{"__sys_setfsuid", "change of the user for files"},
	{"__sys_setgid", "change of the group"},
	{"__sys_setregid", "change of the group"},
	{"__sys_setresgid", "change of the group"},
	{"__sys_setfsgid", "change of the group for files"},
	{"__do_sys_setgroups", "change of the supplementary groups"},
	{"ovl_open_realfile", "a look at who owns a file of a layer"},
	{"may_setgroups", "change of the supplementary groups"},
	{"cap_task_prctl", "prctl of its capabilities"},
	{"cap_prctl_drop", "a smaller bounding set"},
	{"cap_capset", "change of its capabilities"},
	{"__inet_bind", "a port below 1024"},
	{"__inet6_bind", "a port below 1024"},
	{"inet6_bind_sk", "a port below 1024"},
	{"inet_bind_sk", "a port below 1024"},
	{"inet_create", "a raw socket"},
	{"inet6_create", "a raw socket"},
	{"packet_create", "a packet socket"},
	{"ip_setsockopt", "a socket option"},
	{"sk_setsockopt", "a socket option"},
	{"do_sock_setsockopt", "a socket option"},
	{"net_ctl_permissions", "a kernel parameter of the network"},
	{"rtnetlink_rcv_msg", "configuration of the network"},
	{"devinet_ioctl", "configuration of the network"},
	{"dev_ioctl", "configuration of the network"},
	{"check_kill_permission", "a signal to another user's process"},
	{"ptrace_may_access", "a look at another process"},
	{"__ptrace_may_access", "a look at another process"},
	{"do_prlimit", "higher resource limits"},
	{"can_nice", "a higher priority"},
	{"set_one_prio", "a higher priority"},
	{"user_check_sched_setscheduler", "another scheduling policy"},
	{"__sched_setscheduler", "another scheduling policy"},
	{"can_do_mlock", "locked memory"},
	{"user_shm_lock", "locked memory"},
	{"ksys_chroot", "chroot"},
	{"__x64_sys_chroot", "chroot"},
	{"vfs_mknod", "a device file"},
	{"ksys_mount", "mounts"},
	{"may_mount", "mounts"},
	{"copy_namespaces", "new namespaces"},
	{"unshare_nsproxy_namespaces", "new namespaces"},
	{"security_settime64", "the clock"},
	{"do_adjtimex", "the clock"},
	{"__do_adjtimex", "the clock"},
	{"timekeeping_validate_timex", "the clock"},
	{"sethostname", "the host's name"},
	{"__do_sys_sethostname", "the host's name"},
	{"seccomp_prepare_filter", "a seccomp filter without no_new_privs"},
	{"do_seccomp", "a seccomp filter without no_new_privs"},
	{"cap_inode_setxattr", "a security attribute of a file"},
	{"cap_convert_nscap", "capabilities of a file"},
	{"__do_sys_bpf", "BPF"},
	{"__sys_bpf", "BPF"},
	{"perf_event_open", "performance counters"},
	{"__do_sys_perf_event_open", "performance counters"},
	{"audit_receive_msg", "the audit system"},
	{"audit_netlink_ok", "the audit system"},
	{"do_syslog", "the kernel's log"},
	{"check_syslog_permissions", "the kernel's log"},
	{"uncore_access", "I/O ports"},
	{"proc_pid_permission", "other users' entries of /proc"},
	{"do_task_stat", "addresses in /proc"},
	{"kallsyms_show_value", "addresses in /proc"},
}

// reason puts the kernel's reason into words: the innermost function that is
// known, or the innermost of all.
func reason(stack []string) string {
	for _, function := range stack {
		for _, r := range reasons {
			if r.function == function {
				return r.words
			}
		}
	}
	for _, function := range stack {
		if !strings.HasSuffix(function, "_noaudit") { // only a way to ask
			return "asked by the kernel's " + function
		}
	}
	return ""
}

func (p *Policy) addDenials(rec *record.Recording) {
	for i := range rec.Denials {
		d := &rec.Denials[i]
		p.addDenial(Denial{
			Syscall: d.Syscall, ABI: d.ABI, Program: d.Program, Errno: d.Errno, Killed: d.Killed,
			By: d.By, Capabilities: slices.Clone(d.Capabilities), Count: d.Count, Runs: 1,
		})
		if d.By != "seccomp" || d.Errno == "" || d.Errno == unix.ErrnoName(unix.EPERM) {
			continue
		}
		if _, err := errnoOf(d.Errno); err == nil {
			p.addAnswer(Answer{d.Syscall, d.Errno})
		}
	}
}

func (p *Policy) addDenial(d Denial) {
	for i := range p.Denials {
		if have := &p.Denials[i]; have.same(&d) {
			have.Count, have.Runs = have.Count+d.Count, max(have.Runs, d.Runs)
			return
		}
	}
	p.Denials = append(p.Denials, d)
}

func (d *Denial) same(o *Denial) bool {
	return d.Syscall == o.Syscall && d.ABI == o.ABI && d.Program == o.Program && d.Errno == o.Errno &&
		d.Killed == o.Killed && d.By == o.By && slices.Equal(d.Capabilities, o.Capabilities)
}

// addAnswer keeps the error that a call got. Where a call got several, programs
// fall back on ENOSYS.
func (p *Policy) addAnswer(a Answer) {
	i := slices.IndexFunc(p.Answers, func(have Answer) bool { return have.Name == a.Name })
	switch {
	case i < 0:
		p.Answers = append(p.Answers, a)
	case a.Errno == unix.ErrnoName(unix.ENOSYS):
		p.Answers[i].Errno = a.Errno
	}
}

func (p *Policy) note(text string) {
	if !slices.Contains(p.Notes, text) {
		p.Notes = append(p.Notes, text)
	}
}

// settle puts the lists in order, drops answers of calls that are allowed, and
// counts what each run brought.
func (p *Policy) settle() {
	slices.SortFunc(p.Syscalls, func(a, b Syscall) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(p.Capabilities, func(a, b Capability) int { return cmp.Compare(number(a.Name), number(b.Name)) })
	slices.SortFunc(p.Answers, func(a, b Answer) int { return cmp.Compare(a.Name, b.Name) })
	p.Answers = slices.DeleteFunc(p.Answers, func(a Answer) bool {
		return slices.ContainsFunc(p.Syscalls, func(c Syscall) bool {
			return c.Name == a.Name && c.Allowed() && !c.conditional()
		})
	})
	for i := range p.Runs {
		p.Runs[i].New = p.broughtBy(p.Runs[i].ID)
	}
}

func number(name string) int {
	c, err := capability.Parse(name)
	if err != nil {
		return 1 << 8
	}
	return int(c)
}

// broughtBy counts what was seen in a run for the first time.
func (p *Policy) broughtBy(run string) int {
	n := 0
	for i := range p.Syscalls {
		if f := p.Syscalls[i].First; f != nil && f.Run == run {
			n++
		}
	}
	for i := range p.Capabilities {
		if p.Capabilities[i].First == run {
			n++
		}
	}
	return n
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
