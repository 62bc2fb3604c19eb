package lint

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// enosys is the answer of a kernel that lacks a call.
var enosys = seccomp.Errno(uint16(unix.ENOSYS))

// probe is a call that is tried first, and after ENOSYS, and that alone, made up
// for by older calls.
type probe struct {
	call     string
	older    []string // of which one has to be allowed; none: any way will do
	who      string   // tries it, and what happens at another error
	severity Severity
}

// probes are from glibc: sysdeps/unix/sysv/linux/clone-internal.c, faccessat.c,
// fchmodat.c, statx.c, fstatat64.c, preadv2.c, and stdlib/arc4random.c.
var probes = [...]probe{
	{"clone3", []string{"clone"}, "glibc from 2.34 cannot start threads or spawn processes", Warning},
	{"faccessat2", []string{"faccessat", "access"}, "glibc's faccessat from 2.33 fails, and with it test -r of the shell", Warning},
	{"fchmodat2", []string{"fchmodat"}, "glibc's fchmodat from 2.39 fails for AT_SYMLINK_NOFOLLOW, and with it tar", Warning},
	{"statx", []string{"newfstatat", "fstatat64", "stat", "stat64"}, "glibc's statx fails, and with it ls and stat of coreutils; on 32-bit ABIs all forms of stat", Warning},
	{"getrandom", nil, "glibc's arc4random from 2.36 aborts the program", Warning},
	{"preadv2", []string{"preadv"}, "glibc's preadv2 fails also without flags", Info},
	{"pwritev2", []string{"pwritev"}, "glibc's pwritev2 fails also without flags", Info},
	{"openat2", []string{"openat"}, "programs that confine paths with it fall back at ENOSYS, and not all of them at other errors", Info},
	{"epoll_pwait2", []string{"epoll_pwait", "epoll_wait"}, "event libraries fall back at ENOSYS only", Info},
}

// probed reports whether a call is in the list of probes.
func probed(name string) bool {
	for _, p := range probes {
		if p.call == name {
			return true
		}
	}
	return false
}

// probing finds calls that libraries probe for and that fail in a way that they
// do not expect.
func (c *checker) probing() {
	for _, p := range probes {
		for _, a := range c.policy.Archs {
			action, rule, ok := c.refused(a.Arch, p.call)
			if !ok || len(p.older) > 0 && c.firstAllowed(a.Arch, p.older) == "" {
				continue
			}
			c.addProbe(p, a.Arch, action, rule)
			break // the same holds on the others, for whom it matters less
		}
	}
	c.timeProbing()
}

// refused returns what happens to a call that is always blocked, but not with
// ENOSYS, and the rule that decides so or -1.
func (c *checker) refused(a seccomp.Arch, name string) (seccomp.Action, int, bool) {
	o, ok := c.named(a, name)
	if !ok || !o.blocked() || o.mildest() == enosys {
		return 0, -1, false
	}
	nr, _ := syscalls.Number(a, name)
	return o.mildest(), c.decidedBy(a, nr, o.mildest()), true
}

const fixProbe = `give %s SCMP_ACT_ERRNO with "errnoRet": 38 (ENOSYS), or allow %s`

func (c *checker) addProbe(p probe, a seccomp.Arch, action seccomp.Action, rule int) {
	on := c.on([]string{a.Short()})
	text := fmt.Sprintf("%s%s gets %v, not ENOSYS, which a kernel without it gives and at which programs fall back: %s", on, p.call, action, p.who)
	severity := p.severity
	if kills(action) {
		text = fmt.Sprintf("%s%s gets %v, where programs would fall back at ENOSYS: those that try it are killed", on, p.call, action)
		severity = Warning
	}
	c.add(Finding{Code: "probing-errno", Severity: severity, Rule: rule, Names: []string{p.call}, Archs: []string{a.Short()},
		Message: text, Fix: fmt.Sprintf(fixProbe, p.call, "it")})
}

// timeProbing does the same for calls with times beyond 2038.
func (c *checker) timeProbing() {
	for _, a := range c.policy.Archs {
		byRule := map[int][]string{}
		var rules []int
		var action seccomp.Action
		for _, t := range timeCalls {
			got, rule, ok := c.refused(a.Arch, t[0])
			if !ok || c.firstAllowed(a.Arch, []string{t[1]}) == "" {
				continue
			}
			action, rules = got, appendNew(rules, rule)
			byRule[rule] = append(byRule[rule], t[0])
		}
		for _, rule := range rules {
			names := byRule[rule]
			c.add(Finding{Code: "probing-errno", Severity: Warning, Rule: rule, Names: names, Archs: []string{a.Arch.Short()},
				Message: fmt.Sprintf("%s %s %v, not ENOSYS, though the older calls are allowed: on %s glibc, from 2.31 on more and more, and musl from 1.2 try them first and fall back at ENOSYS only",
					join(names), verb(len(names), "gets", "get"), action, a.Arch.Short()),
				Fix: fmt.Sprintf(fixProbe, verb(len(names), "it", "them"), verb(len(names), "it", "them"))})
		}
	}
}
