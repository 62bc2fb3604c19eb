package seccomp

import "github.com/brig-run/brig/seccomp/syscalls"

// Old ABIs have calls that stand for many: socketcall(2) and ipc(2).
const (
	socketcall = "socketcall"
	ipc        = "ipc"
)

// multiplexed returns the call of ABI a through which the given call can be
// made too, and its selector there. It is false if there is none.
func multiplexed(call syscalls.Call, a Arch) (through syscalls.Call, selector int32, ok bool) {
	name, selector, ok := multiplexer(call.Name())
	if !ok {
		return 0, 0, false
	}
	through, _ = syscalls.Find(name)
	_, ok = through.Slot(a)
	return through, selector, ok
}

// hasMultiplexer reports whether a has calls that stand for many.
func hasMultiplexer(a Arch) bool {
	_, ok := syscalls.Number(a, ipc)
	return ok
}

// multiplexer returns the name of the multiplexing call and the selector for
// the named call, from include/uapi/linux/net.h and include/uapi/linux/ipc.h.
func multiplexer(name string) (through string, selector int32, ok bool) {
	switch name {
	case "socket":
		return socketcall, 1, true
	case "bind":
		return socketcall, 2, true
	case "connect":
		return socketcall, 3, true
	case "listen":
		return socketcall, 4, true
	case "accept":
		return socketcall, 5, true
	case "getsockname":
		return socketcall, 6, true
	case "getpeername":
		return socketcall, 7, true
	case "socketpair":
		return socketcall, 8, true
	case "send":
		return socketcall, 9, true
	case "recv":
		return socketcall, 10, true
	case "sendto":
		return socketcall, 11, true
	case "recvfrom":
		return socketcall, 12, true
	case "shutdown":
		return socketcall, 13, true
	case "setsockopt":
		return socketcall, 14, true
	case "getsockopt":
		return socketcall, 15, true
	case "sendmsg":
		return socketcall, 16, true
	case "recvmsg":
		return socketcall, 17, true
	case "accept4":
		return socketcall, 18, true
	case "recvmmsg":
		return socketcall, 19, true
	case "sendmmsg":
		return socketcall, 20, true
	case "semop":
		return ipc, 1, true
	case "semget":
		return ipc, 2, true
	case "semctl":
		return ipc, 3, true
	case "semtimedop":
		return ipc, 4, true
	case "msgsnd":
		return ipc, 11, true
	case "msgrcv":
		return ipc, 12, true
	case "msgget":
		return ipc, 13, true
	case "msgctl":
		return ipc, 14, true
	case "shmat":
		return ipc, 21, true
	case "shmdt":
		return ipc, 22, true
	case "shmget":
		return ipc, 23, true
	case "shmctl":
		return ipc, 24, true
	}
	return "", 0, false
}

// multiplex adds to a multiplexing call what a rule for one of its calls means
// there. Conditions cannot be tested there, so a rule with conditions counts as
// one without if it restricts more than the default action, and else not at
// all: what cannot be seen is not allowed by it.
func (r *resolver) multiplex(n named, a Arch, add func(slot uint32, u use)) {
	through, selector, ok := multiplexed(n.call, a)
	if !ok {
		return
	}
	rule := &r.profile.Syscalls[n.rule]
	if len(rule.Args) == 0 || rule.Action.stricterThan(r.profile.DefaultAction) {
		slot, _ := through.Slot(a)
		add(slot, use{rule: int32(n.rule), call: through, selector: selector})
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
	for i := range r.policy.Archs {
		a := r.policy.Archs[i].Arch
		if !hasMultiplexer(a) {
			continue
		}
		for _, n := range r.named {
			if n.skip || len(r.profile.Syscalls[n.rule].Args) == 0 {
				continue
			}
			through, selector, ok := multiplexed(n.call, a)
			if !ok {
				continue
			}
			if direct, ok := n.call.Number(a); ok && r.policy.Access(a, direct) != Conditional {
				continue // the conditions have no effect anyway
			}
			nr, _ := through.Number(a)
			does := r.policy.Action(a.Audit(), nr, [6]uint64{uint64(selector)})
			r.note(Note{Kind: NoteMultiplexed, Rule: n.rule, Name: n.call.Name(), Arch: a, Through: through.Name(), Does: does})
		}
	}
}

// selectorArgs returns the condition for one selector of a multiplexing call.
// The kernel takes only the low half of ipc's first argument for the selector;
// the rest is a version.
func selectorArgs(through syscalls.Call, selector uint64) []Condition {
	if through.Name() == ipc {
		return []Condition{{Index: 0, Op: MaskedEQ, Value: 0xffff, ValueTwo: selector, Bits: 32}}
	}
	return []Condition{{Index: 0, Op: EQ, Value: selector, Bits: 32}}
}
