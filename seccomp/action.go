package seccomp

import (
	"fmt"
	"iter"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/nearest"
)

// Action is what happens to a system call, as the value that a filter returns
// to the kernel: the action in the high half and its data in the low half. See
// seccomp(2), "Filter return values".
type Action uint32

// The actions. Errno and Trace carry data; see [Errno] and [Trace].
const (
	KillProcess Action = 0x80000000
	KillThread  Action = 0x00000000
	Trap        Action = 0x00030000
	errno       Action = 0x00050000
	Notify      Action = 0x7fc00000
	trace       Action = 0x7ff00000
	Log         Action = 0x7ffc0000
	Allow       Action = 0x7fff0000

	actionKind Action = 0xffff0000
)

// maxErrno is the largest error number that the kernel hands on (MAX_ERRNO).
const maxErrno = 4095

// maxTrace is the largest message of a traced call (SECCOMP_RET_DATA).
const maxTrace = 0xffff

// Errno fails the call with error number n, 0 to 4095; 0 makes it return 0.
func Errno(n uint16) Action { return errno | Action(n) }

// Trace hands the call to a tracer, with n as the event message.
func Trace(n uint16) Action { return trace | Action(n) }

// Kind returns the action without its data.
func (a Action) Kind() Action { return a & actionKind }

// Data returns the error number of Errno or the message of Trace.
func (a Action) Data() uint16 { return uint16(a) }

// IsErrno reports whether the action fails the call with an error number.
func (a Action) IsErrno() bool { return a.Kind() == errno }

// hasData reports whether the action carries a number.
func (a Action) hasData() bool { return a.Kind() == errno || a.Kind() == trace }

// stricterThan reports whether the kernel prefers a to b when several filters
// answer differently (seccomp(2), "Filter return values").
func (a Action) stricterThan(b Action) bool { return int32(a.Kind()) < int32(b.Kind()) }

// String returns the action as in "ALLOW" or "ERRNO(EPERM)".
func (a Action) String() string {
	for _, entry := range actionNames {
		if entry.action != a.Kind() {
			continue
		}
		switch {
		case entry.action == errno:
			return "ERRNO(" + errnoName(a.Data()) + ")"
		case entry.action == trace || a.Data() != 0:
			return fmt.Sprintf("%s(%d)", entry.name, a.Data())
		}
		return entry.name
	}
	return fmt.Sprintf("%#x", uint32(a))
}

func errnoName(n uint16) string {
	if name := unix.ErrnoName(unix.Errno(n)); name != "" {
		return name
	}
	return strconv.Itoa(int(n))
}

// parseErrnoName returns the number of an error such as "EPERM".
func parseErrnoName(name string) (uint16, bool) {
	for n := range uint16(134) { // EHWPOISON, the last one, is 133
		if n > 0 && unix.ErrnoName(unix.Errno(n)) == name {
			return n, true
		}
	}
	return 0, false
}

const actionPrefix = "SCMP_ACT_"

// actionNames has the names of profiles without their prefix. KILL comes after
// KILL_THREAD, its other name, so that the latter is printed.
var actionNames = [...]struct {
	name   string
	action Action
}{
	{"ALLOW", Allow}, {"ERRNO", errno}, {"KILL_PROCESS", KillProcess}, {"KILL_THREAD", KillThread},
	{"KILL", KillThread}, {"TRAP", Trap}, {"TRACE", trace}, {"LOG", Log}, {"NOTIFY", Notify},
}

// parseAction reads a name such as "SCMP_ACT_ALLOW". The data of an action
// that carries a number is left at 0.
func parseAction(name string) (Action, error) {
	if short, ok := strings.CutPrefix(name, actionPrefix); ok {
		for _, entry := range actionNames {
			if entry.name == short {
				return entry.action, nil
			}
		}
	}
	return 0, unknown("action", name, actionPrefix, func(yield func(string) bool) {
		for _, entry := range actionNames {
			if !yield(entry.name) {
				return
			}
		}
	})
}

// unknown words the error for a name that is not among shorts, each of which
// goes with prefix, and suggests the nearest.
func unknown(what, name, prefix string, shorts iter.Seq[string]) error {
	bare := strings.TrimPrefix(strings.ToUpper(name), prefix)
	near := nearest.Name(bare, shorts)
	if near == "" {
		near = nearest.Name(strings.ToUpper(name), func(yield func(string) bool) {
			for short := range shorts {
				if !yield(prefix + short) {
					return
				}
			}
		})
		near = strings.TrimPrefix(near, prefix)
	}
	if near == "" {
		return fmt.Errorf("unknown %s %q", what, name)
	}
	return fmt.Errorf("unknown %s %q; did you mean %s?", what, name, prefix+near)
}

// Op is the way in which a condition compares an argument.
type Op uint8

// The operators. All compare without sign.
const (
	NE       Op = iota // argument != Value
	LT                 // argument < Value
	LE                 // argument <= Value
	EQ                 // argument == Value
	GE                 // argument >= Value
	GT                 // argument > Value
	MaskedEQ           // argument & Value == ValueTwo
)

const opPrefix = "SCMP_CMP_"

var opNames = [...]string{NE: "NE", LT: "LT", LE: "LE", EQ: "EQ", GE: "GE", GT: "GT", MaskedEQ: "MASKED_EQ"}

// String returns the name that profiles use, such as "SCMP_CMP_EQ".
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opPrefix + opNames[o]
	}
	return fmt.Sprintf("%s%d", opPrefix, uint8(o))
}

func parseOp(name string) (Op, error) {
	for op := range Op(len(opNames)) {
		if op.String() == name {
			return op, nil
		}
	}
	return 0, unknown("operator", name, opPrefix, func(yield func(string) bool) {
		for _, n := range opNames {
			if !yield(n) {
				return
			}
		}
	})
}

// Flags are the flags of seccomp(2) with SECCOMP_SET_MODE_FILTER.
type Flags uint32

// The flags, by their kernel bits.
const (
	FlagTSync            Flags = 1 << 0 // load on all threads
	FlagLog              Flags = 1 << 1 // log every action but ALLOW
	FlagSpecAllow        Flags = 1 << 2 // leave speculative store bypass alone
	FlagNewListener      Flags = 1 << 3 // return a descriptor for NOTIFY
	FlagTSyncESRCH       Flags = 1 << 4 // with TSYNC: fail with ESRCH, so that a listener can be returned
	FlagWaitKillableRecv Flags = 1 << 5 // a received notification can only be broken by a fatal signal
)

const flagPrefix = "SECCOMP_FILTER_FLAG_"

// flagNames has the names without their prefix. Those that a profile can ask
// for come first; the others follow from its rules.
var flagNames = [...]struct {
	name string
	flag Flags
}{
	{"TSYNC", FlagTSync}, {"LOG", FlagLog}, {"SPEC_ALLOW", FlagSpecAllow},
	{"WAIT_KILLABLE_RECV", FlagWaitKillableRecv},
	{"NEW_LISTENER", FlagNewListener}, {"TSYNC_ESRCH", FlagTSyncESRCH},
}

// profileFlags is the number of flags that a profile can ask for.
const profileFlags = 4

// String returns the flags by their names in the kernel, joined with "|".
func (f Flags) String() string {
	var names []string
	for _, entry := range flagNames {
		if f&entry.flag != 0 {
			names = append(names, flagPrefix+entry.name)
			f &^= entry.flag
		}
	}
	if f != 0 || len(names) == 0 {
		names = append(names, fmt.Sprintf("%#x", uint32(f)))
	}
	return strings.Join(names, "|")
}

func parseFlag(name string) (Flags, error) {
	if short, ok := strings.CutPrefix(name, flagPrefix); ok {
		for _, entry := range flagNames[:profileFlags] {
			if entry.name == short {
				return entry.flag, nil
			}
		}
		for _, entry := range flagNames[profileFlags:] {
			if entry.name == short {
				return 0, fmt.Errorf("flag %q cannot be asked for; it is set where SCMP_ACT_NOTIFY needs it", name)
			}
		}
	}
	return 0, unknown("flag", name, flagPrefix, func(yield func(string) bool) {
		for _, entry := range flagNames[:profileFlags] {
			if !yield(entry.name) {
				return
			}
		}
	})
}

// Names returns the flags as profiles name them, without those that a profile
// cannot ask for.
func (f Flags) Names() []string {
	var names []string
	for _, entry := range flagNames[:profileFlags] {
		if f&entry.flag != 0 {
			names = append(names, flagPrefix+entry.name)
		}
	}
	return names
}

// All returns the names of all flags that are set, as the kernel has them.
func (f Flags) All() []string {
	names := []string{}
	for _, entry := range flagNames {
		if f&entry.flag != 0 {
			names = append(names, flagPrefix+entry.name)
		}
	}
	return names
}
