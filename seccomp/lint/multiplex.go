package lint

import (
	"fmt"
	"slices"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// selected is a call that can be made through socketcall or ipc.
type selected struct {
	name     string
	through  string
	selector uint64
}

// selections returns what the multiplexing calls of an ABI stand for. It asks
// Resolve: a profile that allows only these calls allows the selectors.
func (c *checker) selections(a seccomp.Arch) []selected {
	p := seccomp.Profile{DefaultAction: seccomp.Errno(1), Architectures: []seccomp.Arch{a}}
	for _, name := range multiplexedNames() {
		p.Syscalls = append(p.Syscalls, seccomp.SyscallRule{Names: []string{name}, Action: seccomp.Allow})
	}
	policy, _, err := p.Resolve(c.target)
	if err != nil {
		return nil
	}
	var list []selected
	for _, through := range []string{"socketcall", "ipc"} {
		nr, ok := syscalls.Number(a, through)
		if !ok {
			continue
		}
		for _, r := range rulesOf(policy, a, nr) {
			if len(r.Args) != 1 {
				continue
			}
			value := r.Args[0].Value
			if r.Args[0].Op == seccomp.MaskedEQ {
				value = r.Args[0].ValueTwo
			}
			list = append(list, selected{p.Syscalls[r.Index].Names[0], through, value})
		}
	}
	return list
}

// multiplexedNames are the calls that socketcall(2) and ipc(2) stand for.
func multiplexedNames() []string {
	return []string{"socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair",
		"send", "recv", "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4",
		"recvmmsg", "sendmmsg", "semop", "semget", "semctl", "semtimedop", "msgsnd", "msgrcv", "msgget", "msgctl",
		"shmat", "shmdt", "shmget", "shmctl"}
}

// hole is what a multiplexing call lets through.
type hole struct {
	through     string
	rule        int
	names       []string
	archs       []string
	here        bool // under Brig too
	does, other seccomp.Action
}

// multiplexers finds restrictions of calls that socketcall or ipc get around.
func (c *checker) multiplexers() {
	var holes []hole
	add := func(a seccomp.Arch, name string, h hole) {
		at := slices.IndexFunc(holes, func(g hole) bool {
			return g.through == h.through && g.rule == h.rule && g.here == h.here && g.does == h.does
		})
		if at < 0 {
			at, holes = len(holes), append(holes, h)
		}
		holes[at].names = appendNew(holes[at].names, name)
		holes[at].archs = appendNew(holes[at].archs, a.Short())
	}
	for _, rules := range c.policy.Archs {
		for _, s := range c.selections(rules.Arch) {
			if h, ok := c.hole(rules.Arch, s); ok {
				add(rules.Arch, s.name, h)
			}
		}
	}
	for _, h := range holes {
		c.addHole(h)
	}
}

// hole asks whether a call gets more through its multiplexing call than by its
// own number.
func (c *checker) hole(a seccomp.Arch, s selected) (hole, bool) {
	direct, ok := c.restricted(a, s.name)
	if !ok {
		return hole{}, false
	}
	nr, _ := syscalls.Number(a, s.through)
	d := c.policy.Decide(a.Audit(), nr, [6]uint64{s.selector})
	if passes(d.Action) && d.Reason != seccomp.ByDefault {
		return hole{through: s.through, rule: d.Rule, here: true, does: d.Action, other: direct.strictest()}, true
	}
	// For libseccomp, an allowance with conditions is one without there.
	for i := range c.profile.Syscalls {
		r := &c.profile.Syscalls[i]
		if c.applies(r) && len(r.Args) > 0 && passes(r.Action) && !passes(d.Action) && slices.Contains(r.Names, s.name) && c.decides(a, s.name, i) {
			return hole{through: s.through, rule: i, does: r.Action, other: d.Action}, true
		}
	}
	return hole{}, false
}

// restricted returns what can happen to a call by its own number, if that is
// not always the same as letting it through. A call without a number on a is
// asked for on the machine's own ABI.
func (c *checker) restricted(a seccomp.Arch, name string) (outcome, bool) {
	o, ok := c.named(a, name)
	if !ok {
		o, ok = c.named(c.native(), name)
	}
	return o, ok && !o.allowed()
}

// decides reports whether rule i decides something for the call's own number,
// where it has one.
func (c *checker) decides(a seccomp.Arch, name string, i int) bool {
	nr, ok := syscalls.Number(a, name)
	return !ok || slices.ContainsFunc(c.rules(a, nr), func(r seccomp.Rule) bool { return r.Index == i })
}

func (c *checker) addHole(h hole) {
	f := Finding{Code: "socketcall-hole", Severity: Warning, Rule: h.rule, Names: append([]string{h.through}, h.names...), Archs: h.archs}
	if h.here {
		f.Message = fmt.Sprintf("%s gives programs for %s %v for %s with all arguments, which lie in memory that no filter sees, where the calls themselves can get %v; so it is in every runtime, Brig too",
			h.through, join(h.archs), h.does, join(h.names), h.other)
		f.Fix = fmt.Sprintf("remove %s from the rule: the rules for the single calls cover it then", h.through)
	} else {
		f.Message = fmt.Sprintf("under runtimes that use libseccomp, programs for %s can make %s through %s with other arguments: these replace a condition on arg0 there, and look for others in registers that the program may fill; Brig gives %v, since no filter sees the arguments",
			join(h.archs), join(h.names), h.through, h.other)
		f.Fix = fmt.Sprintf("for other runtimes, add a rule for %s, or leave %s out of the architectures", h.through, join(h.archs))
	}
	c.add(f)
}
