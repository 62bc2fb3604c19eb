package lint

import (
	"fmt"
	"slices"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// need is something that programs cannot do without: one of some calls.
type need struct {
	calls []string // any suffices
	why   string
}

// needs returns what the first program of a container needs to run, if it is
// linked dynamically.
func needs(a seccomp.Arch) []need {
	list := []need{
		{[]string{"execve"}, "comes after the filter is loaded"},
		{[]string{"mmap", "mmap2"}, "maps the program's libraries"},
		{[]string{"openat", "open"}, "opens its libraries"},
		{[]string{"read"}, "reads their headers"},
		{[]string{"mprotect"}, "protects what is relocated"},
		{[]string{"exit_group", "exit"}, "ends the program"},
	}
	switch a {
	case syscalls.X86_64, syscalls.X32:
		list = append(list, need{[]string{"arch_prctl"}, "sets the thread pointer"})
	case syscalls.I386:
		list = append(list, need{[]string{"set_thread_area"}, "sets the thread pointer"})
	case syscalls.ARM:
		list = append(list, need{[]string{"set_tls"}, "sets the thread pointer"})
	}
	return list
}

// atStart are calls that glibc and musl make when a program starts, or that
// every program makes soon, and whose failure they bear; but not a kill.
func atStart() []string {
	return []string{"brk", "close", "fstat", "newfstatat", "pread64", "munmap", "access", "faccessat", "set_tid_address",
		"set_robust_list", "rseq", "prlimit64", "getrandom", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "futex", "write",
		"writev"}
}

// start finds profiles under which no program can start.
func (c *checker) start() {
	a := c.native()
	var names, why []string
	for _, n := range needs(a) {
		if c.noneOf(a, n.calls) {
			names, why = append(names, n.calls[0]), append(why, n.calls[0]+" ("+n.why+")")
		}
	}
	if len(names) > 0 {
		text := "no dynamically linked program can run"
		if names[0] == "execve" {
			text = "nothing can start"
		}
		c.add(Finding{Code: "cannot-start", Severity: Error, Rule: -1, Names: names,
			Message: text + ": blocked are " + join(why), Fix: "allow " + join(names)})
	}
	c.kills(a, names)
}

// noneOf reports whether all of the calls that a has are blocked.
func (c *checker) noneOf(a seccomp.Arch, calls []string) bool {
	found := false
	for _, name := range calls {
		if o, ok := c.named(a, name); ok {
			if found = true; !o.blocked() {
				return false
			}
		}
	}
	return found
}

// kills finds calls for which programs are killed when they start.
func (c *checker) kills(a seccomp.Arch, told []string) {
	var killed []string
	for _, name := range atStart() {
		if o, ok := c.named(a, name); ok && o.blocked() && kills(o.mildest()) && !slices.Contains(told, name) {
			killed = append(killed, name)
		}
	}
	if len(killed) > 0 {
		c.add(Finding{Code: "kills-at-start", Severity: Warning, Rule: -1, Names: killed,
			Message: fmt.Sprintf("programs are killed for %s, which a C library calls when a program starts or which nearly every program makes; an error it would bear",
				join(killed)),
			Fix: "allow them, or give them SCMP_ACT_ERRNO"})
	}
}

// relatives returns the ABIs whose programs a machine may run besides its own.
// X32 is not among them: hardly any program uses it.
func relatives(a seccomp.Arch) []seccomp.Arch {
	switch a {
	case syscalls.X86_64:
		return []seccomp.Arch{syscalls.I386}
	case syscalls.AARCH64:
		return []seccomp.Arch{syscalls.ARM}
	case syscalls.S390X:
		return []seccomp.Arch{syscalls.S390}
	case syscalls.PPC64:
		return []seccomp.Arch{syscalls.PPC}
	case syscalls.MIPS64:
		return []seccomp.Arch{syscalls.MIPS, syscalls.MIPS64N32}
	case syscalls.MIPSEL64:
		return []seccomp.Arch{syscalls.MIPSEL, syscalls.MIPSEL64N32}
	}
	return nil
}

// listed reports whether the policy has rules for an ABI.
func (c *checker) listed(a seccomp.Arch) bool {
	return slices.ContainsFunc(c.policy.Archs, func(r seccomp.ArchRules) bool { return r.Arch == a })
}

// archs finds ABIs that are left out, or in.
func (c *checker) archs() {
	var missing []string
	for _, a := range relatives(c.native()) {
		if !c.listed(a) {
			missing = append(missing, a.Short())
		}
	}
	if len(missing) > 0 {
		c.add(Finding{Code: "missing-arch", Severity: Info, Rule: -1, Archs: missing,
			Message: fmt.Sprintf("32-bit programs, for %s, get %v at their first call, whatever it is, for the profile does not list their architecture",
				join(missing), c.policy.OtherArch),
			Fix: "if they are to run, add it to architectures or archMap"})
	}
	if c.native() == syscalls.X86_64 && c.listed(syscalls.X32) {
		c.add(Finding{Code: "x32", Severity: Info, Rule: -1, Archs: []string{"x32"},
			Message: "the x32 ABI is listed, which hardly any program uses and which has brought the kernel holes of its own",
			Fix:     "remove SCMP_ARCH_X32, unless a program needs it"})
	}
}

// manyNewer is how many calls a profile has to miss to be called old. Linux gets
// about five a year.
const manyNewer = 12

// age finds profiles that are older than many of the calls known today.
func (c *checker) age() {
	a := c.native()
	newest := c.policy.Archs[0].Newest
	name, ok := syscalls.Name(a, newest)
	if !ok {
		return
	}
	var newer []string
	for nr, name := range syscalls.All(a) {
		if nr > newest {
			newer = append(newer, name)
		}
	}
	if len(newer) < manyNewer {
		return
	}
	nr, _ := syscalls.Number(a, newer[0])
	action := c.unlisted(a, nr)
	f := Finding{Code: "newer-calls", Severity: Info, Rule: -1, Names: newer,
		Message: fmt.Sprintf("the newest call that the profile names is %s; %d calls are newer, among them %s, and get %v, as those will that are to come",
			name, len(newer), join(newer[:3]), action),
		Fix: "programs fall back to older calls; to allow newer ones, name them"}
	if passes(action) {
		f.Fix = "name those that are to be denied, or make the default action SCMP_ACT_ERRNO and list what is allowed"
	}
	c.add(f)
}

// tracers finds calls that are handed to a tracer.
func (c *checker) tracers() {
	trace := seccomp.Trace(0).Kind()
	const fix = "run the container under a tracer that asked for PTRACE_O_TRACESECCOMP, or use another action"
	if c.profile.DefaultAction.Kind() == trace {
		c.add(Finding{Code: "trace-without-tracer", Severity: Warning, Rule: -1,
			Message: "the default action hands calls to a tracer; without one they fail with ENOSYS", Fix: fix})
	}
	for i := range c.profile.Syscalls {
		r := &c.profile.Syscalls[i]
		if c.applies(r) && r.Action.Kind() == trace && r.Action != c.profile.DefaultAction {
			c.add(Finding{Code: "trace-without-tracer", Severity: Warning, Rule: i, Names: r.Names,
				Message: fmt.Sprintf("%s %s handed to a tracer; without one they fail with ENOSYS", join(r.Names), verb(len(r.Names), "is", "are")), Fix: fix})
		}
	}
}

// listeners finds notifications without a listener, and a listener without
// notifications.
func (c *checker) listeners() {
	for _, n := range c.notes {
		if n.Kind == seccomp.NoteNoListener {
			c.add(Finding{Code: "notify-without-listener", Severity: Warning, Rule: -1,
				Message: n.Name + " has no effect for this target, since no rule has SCMP_ACT_NOTIFY", Fix: "remove it, or add such a rule"})
		}
	}
	for i := range c.profile.Syscalls {
		r := &c.profile.Syscalls[i]
		if !c.applies(r) || r.Action.Kind() != seccomp.Notify {
			continue
		}
		if c.profile.ListenerPath == "" {
			c.add(Finding{Code: "notify-without-listener", Severity: Warning, Rule: i, Names: r.Names,
				Message: fmt.Sprintf("%s %s for a listener, and listenerPath names none; without one they fail with ENOSYS", join(r.Names), verb(len(r.Names), "waits", "wait")),
				Fix:     "set listenerPath to the socket of the agent that answers"})
		}
		if slices.Contains(r.Names, "write") {
			c.add(Finding{Code: "notify-without-listener", Severity: Warning, Rule: i, Names: []string{"write"},
				Message: "runc refuses SCMP_ACT_NOTIFY for write, by which it hands over the listener", Fix: "use another action for write"})
		}
	}
}

// logs finds profiles that log much.
func (c *checker) logs() {
	if c.profile.Flags&seccomp.FlagLog != 0 && !c.lenient() {
		c.add(Finding{Code: "log-flood", Severity: Info, Rule: -1,
			Message: fmt.Sprintf("SECCOMP_FILTER_FLAG_LOG logs each call that is not allowed, and the default action is %v: programs that try calls fill the log", c.profile.DefaultAction),
			Fix:     "use the flag to look for faults only"})
	}
	if c.profile.DefaultAction.Kind() == seccomp.Log {
		c.add(Finding{Code: "log-flood", Severity: Info, Rule: -1,
			Message: "the default action lets calls through and logs each: the filter restricts nothing that no rule names", Fix: "use it to record what a program needs, and then a stricter one"})
	}
}
