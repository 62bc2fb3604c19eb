package seccomp

import "github.com/brig-run/brig/seccomp/syscalls"

// The calls of i386 that stand for many; see socketcall(2) and ipc(2).
const (
	nrSocketcall = 102
	nrIPC        = 117
)

// multiplexed returns the number of the i386 call through which the named call
// can be made too, and its selector there, from include/uapi/linux/net.h and
// include/uapi/linux/ipc.h.
func multiplexed(name string) (nr uint32, selector int32, ok bool) {
	switch name {
	case "socket":
		return nrSocketcall, 1, true
	case "bind":
		return nrSocketcall, 2, true
	case "connect":
		return nrSocketcall, 3, true
	case "listen":
		return nrSocketcall, 4, true
	case "accept":
		return nrSocketcall, 5, true
	case "getsockname":
		return nrSocketcall, 6, true
	case "getpeername":
		return nrSocketcall, 7, true
	case "socketpair":
		return nrSocketcall, 8, true
	case "send":
		return nrSocketcall, 9, true
	case "recv":
		return nrSocketcall, 10, true
	case "sendto":
		return nrSocketcall, 11, true
	case "recvfrom":
		return nrSocketcall, 12, true
	case "shutdown":
		return nrSocketcall, 13, true
	case "setsockopt":
		return nrSocketcall, 14, true
	case "getsockopt":
		return nrSocketcall, 15, true
	case "sendmsg":
		return nrSocketcall, 16, true
	case "recvmsg":
		return nrSocketcall, 17, true
	case "accept4":
		return nrSocketcall, 18, true
	case "recvmmsg":
		return nrSocketcall, 19, true
	case "sendmmsg":
		return nrSocketcall, 20, true
	case "semop":
		return nrIPC, 1, true
	case "semget":
		return nrIPC, 2, true
	case "semctl":
		return nrIPC, 3, true
	case "semtimedop":
		return nrIPC, 4, true
	case "msgsnd":
		return nrIPC, 11, true
	case "msgrcv":
		return nrIPC, 12, true
	case "msgget":
		return nrIPC, 13, true
	case "msgctl":
		return nrIPC, 14, true
	case "shmat":
		return nrIPC, 21, true
	case "shmdt":
		return nrIPC, 22, true
	case "shmget":
		return nrIPC, 23, true
	case "shmctl":
		return nrIPC, 24, true
	}
	return 0, 0, false
}

// multiplexerName returns "socketcall" or "ipc" for a call that one of them
// stands for.
func multiplexerName(name string) string {
	nr, _, _ := multiplexed(name)
	through, _ := syscalls.Name(I386, nr)
	return through
}

// multiplex adds to a multiplexing call what a rule for one of its calls means
// there. Conditions cannot be tested there, so a rule with conditions counts as
// one without if it restricts more than the default action, and else not at
// all: what cannot be seen is not allowed by it.
func (r *resolver) multiplex(n named, add func(uint32, use)) {
	nr, selector, ok := multiplexed(n.call.Name())
	if !ok {
		return
	}
	rule := &r.profile.Syscalls[n.rule]
	if len(rule.Args) == 0 || rule.Action.stricterThan(r.profile.DefaultAction) {
		add(nr, use{rule: int32(n.rule), selector: selector})
	}
}

// selected reports whether, among uses of a multiplexing call, a rule without
// conditions is for the given selector.
func (r *resolver) selected(uses []use, first, selector int32) bool {
	for at := first; at != 0; at = uses[at].next {
		if uses[at].selector == selector && len(r.profile.Syscalls[uses[at].rule].Args) == 0 {
			return true
		}
	}
	return false
}

// noteMultiplexed notes the conditions that 32-bit programs can get around or
// that hit them harder.
func (r *resolver) noteMultiplexed() {
	if r.policy.arch(I386) == nil {
		return
	}
	for _, n := range r.named {
		nr, selector, ok := multiplexed(n.call.Name())
		if !ok || n.skip || len(r.profile.Syscalls[n.rule].Args) == 0 {
			continue
		}
		if direct, ok := n.call.Number(I386); ok && r.policy.Access(I386, direct) != Conditional {
			continue // the conditions have no effect anyway
		}
		does := r.policy.Action(I386.Audit(), nr, [6]uint64{uint64(selector)})
		r.note(Note{Kind: NoteMultiplexed, Rule: n.rule, Name: n.call.Name(), Arch: I386, Does: does})
	}
}

// selectorArgs returns the condition for one selector of a multiplexing call.
// The kernel takes only the low half of ipc's first argument for the selector;
// the rest is a version.
func selectorArgs(nr uint32, selector uint64) []Condition {
	if nr == nrIPC {
		return []Condition{{Index: 0, Op: MaskedEQ, Value: 0xffff, ValueTwo: selector}}
	}
	return []Condition{{Index: 0, Op: EQ, Value: selector}}
}
