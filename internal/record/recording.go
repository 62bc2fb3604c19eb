package record

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Recording is what one session saw: the evidence that policies are made from.
type Recording struct {
	Version int    // of this form: 1
	Kernel  string // the release, as of uname(2)
	Machine string // Go's name of the architecture
	Started time.Time
	Ended   time.Time
	// Complete is false if something is in Lost.
	Complete bool
	// Lost has the updates of maps that failed, by map, and calls of programs
	// that the kernel left out, as "missed sys_enter". Only counts above 0.
	Lost  map[string]uint64 `json:",omitempty"`
	Notes []string          `json:",omitempty"`
	// DenialsOnly: nothing but Denials was recorded. Syscalls is empty, and
	// Capabilities has only some that were refused.
	DenialsOnly bool `json:",omitempty"`
	// Syscalls are sorted by ABI and number.
	Syscalls []Syscall
	// Assumed are names of calls that could not be recorded, and that programs
	// need all the same.
	Assumed      []string `json:",omitempty"`
	Capabilities []Capability
	Denials      []Denial
	// IOUring: io_uring was used, whose operations no seccomp filter sees.
	IOUring bool
}

// New is a complete recording of nothing, on this machine, that ends now.
func New(started time.Time) *Recording {
	return &Recording{Version: 1, Kernel: release(), Machine: runtime.GOARCH, Started: started, Ended: time.Now(), Complete: true}
}

func release() string {
	var uts unix.Utsname
	unix.Uname(&uts)
	return unix.ByteSliceToString(uts.Release[:])
}

// Syscall is one system call of one ABI.
type Syscall struct {
	ABI  string // as syscalls.Arch.Short: amd64, x86, x32
	Nr   uint32 // with the bit of x32
	Name string `json:",omitempty"` // empty for a number that no table has
	// Count is how often it entered: no filter blocked it. Startup and Running
	// are its parts before and after the container was ready.
	Count, Startup, Running uint64
	// Blocked is how often a seccomp filter stopped it.
	Blocked uint64
	// FirstProgram (what its first thread is called), FirstThread (if that has
	// another name), FirstPID (as the host has it) and FirstAfter (since Started)
	// are those of the first that entered.
	FirstProgram string        `json:",omitempty"`
	FirstThread  string        `json:",omitempty"`
	FirstPID     int           `json:",omitempty"`
	FirstAfter   time.Duration `json:",omitempty"`
	Args         []ArgValues   `json:",omitempty"`
}

// ArgValues are the values that an argument had in calls that entered, sorted.
type ArgValues struct {
	Index  uint8
	Values []uint64
	// More: there were more values than the limit of 16.
	More bool `json:",omitempty"`
	// Memory: the argument is a pointer, and Values are what lay there first
	// (clone3: the flags, as the kernel used them). No filter can see that.
	Memory bool `json:",omitempty"`
}

// Classes of checks of capabilities.
const (
	// Needed: the call depends on the answer.
	Needed = "needed"
	// Opportunistic: the kernel asked to choose between two ways that both work,
	// or the answer was no and the call succeeded.
	Opportunistic = "opportunistic"
	// Noise: bookkeeping of the kernel, such as memory accounting, or a check of
	// another's credentials.
	Noise = "noise"
)

// Capability is a reason of the kernel to ask for a capability.
type Capability struct {
	Name             string // without CAP_: SYS_TIME
	Granted, Refused uint64 // answers
	// UserNS is "own" if the check was made in the user namespace in which the
	// container started, else "other": the host's, or one that a program in
	// the container made. Only checks in the own say something about the
	// container's set.
	UserNS   string
	Syscalls []string // empty if asked outside of calls
	Programs []string
	Stack    []string // kernel functions, innermost first
	Class    string   // Needed, Opportunistic or Noise
}

// Denial is one kind of call that was denied.
type Denial struct {
	Syscall, ABI, Program string
	Thread                string        `json:",omitempty"` // of the first, if not called as the program
	Args                  [6]uint64     // of the first
	PID                   int           // of the first, as the host has it
	After                 time.Duration // of the first, since Started
	Errno                 string        // EPERM, EACCES, ENOSYS; "" when a signal was sent, or for success
	By                    string        // seccomp, capability, or both joined with "+"
	Capabilities          []string      `json:",omitempty"`
	Killed                bool          `json:",omitempty"`
	Count                 uint64
}
