package seccomp

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Arch is an ABI of system calls; see package syscalls.
type Arch = syscalls.Arch

// The ABIs that policies can be made for.
const (
	X86_64 = syscalls.X86_64
	I386   = syscalls.I386
	X32    = syscalls.X32
	ARM    = syscalls.ARM
	ARM64  = syscalls.AARCH64
)

// Profile is a seccomp profile as a user writes it: Docker's JSON, of which
// OCI's "linux.seccomp" is a part. It holds for any machine; [Profile.Resolve]
// makes the policy for one.
type Profile struct {
	File             string // where the profile is from, for messages
	DefaultAction    Action
	Architectures    []Arch       // beside the native one; OCI's form
	ArchMap          []ArchFamily // Docker's form; at most one of both is used
	Flags            Flags
	FlagsGiven       bool   // flags are given, if only as none; else Resolve sets SPEC_ALLOW
	ListenerPath     string // socket that gets the listener descriptor of NOTIFY
	ListenerMetadata string // text that goes with it
	Syscalls         []SyscallRule
}

// ArchFamily lists the ABIs that belong with a native one.
type ArchFamily struct {
	Arch      Arch
	SubArches []Arch
}

// SyscallRule is one entry of a profile's list "syscalls".
type SyscallRule struct {
	Names    []string
	Action   Action
	Args     []Condition
	Comment  string
	Includes Selector
	Excludes Selector
	Line     int // line in the file, or 0

	calls []syscalls.Call // of Names, as far as they were found already
}

// Condition compares one argument of a system call.
type Condition struct {
	Index    uint8 // which argument, 0 to 5
	Op       Op
	Value    uint64 // the mask for MaskedEQ
	ValueTwo uint64 // what remains under the mask, for MaskedEQ only
	// Bits is, in a policy, how many low bits of the argument are compared:
	// 16, 32 or 64. In a profile, which holds for every architecture, it is 0.
	Bits uint8
}

// Selector decides whether a rule applies to a target. As includes, every part
// that is given must fit: all capabilities, one of the architectures, and at
// least the kernel version. As excludes, one capability, one of the
// architectures, or the kernel version alone suffices.
type Selector struct {
	Caps      capability.Set
	Arches    []Arch
	MinKernel KernelVersion
}

// KernelVersion is the first two numbers of a kernel release, as in 5.14. The
// zero value is none.
type KernelVersion struct{ Major, Minor int }

// String returns the version as in "5.14".
func (v KernelVersion) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// AtLeast reports whether v is w or later.
func (v KernelVersion) AtLeast(w KernelVersion) bool {
	return v.Major > w.Major || v.Major == w.Major && v.Minor >= w.Minor
}

// RunningKernel returns the version of the running kernel, from uname(2).
func RunningKernel() (KernelVersion, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return KernelVersion{}, fmt.Errorf("read the kernel version: %w", err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	major, rest, ok := strings.Cut(release, ".")
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	if !ok || end == 0 {
		return KernelVersion{}, fmt.Errorf("read the kernel version: unknown form of release %q", release)
	}
	return parseKernelVersion(major + "." + rest[:end])
}

func parseKernelVersion(text string) (KernelVersion, error) {
	major, minor, ok := strings.Cut(text, ".")
	a, err1 := strconv.ParseUint(major, 10, 16)
	b, err2 := strconv.ParseUint(minor, 10, 16)
	if !ok || err1 != nil || err2 != nil {
		return KernelVersion{}, fmt.Errorf(`invalid kernel version %q; write it as "5.14"`, text)
	}
	if a == 0 && b == 0 {
		return KernelVersion{}, errors.New("kernel version cannot be 0.0")
	}
	return KernelVersion{int(a), int(b)}, nil
}

// Error is a fault in a profile.
type Error struct {
	File string // as the caller named it
	Line int    // counted from 1; 0 if unknown
	Path string // the field, such as "syscalls[3].args[0].op"; "" for the whole
	Err  error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Path != "" {
		fmt.Fprintf(&b, ": %s", e.Path)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return strings.TrimPrefix(b.String(), ": ")
}

// Unwrap returns the fault without its place.
func (e *Error) Unwrap() error { return e.Err }

// maxProfile bounds the size of a profile file in bytes. Docker's own has 16
// KiB.
const maxProfile = 4 << 20

// LoadProfile reads the profile file at path; see [ParseProfile].
func LoadProfile(path string) (*Profile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load seccomp profile: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
	if err != nil {
		return nil, fmt.Errorf("load seccomp profile: %w", err)
	}
	p, err := ParseProfile(path, data)
	if err != nil {
		return nil, fmt.Errorf("load seccomp profile: %w", err)
	}
	return p, nil
}

// validate finds conditions that can never hold, which no author means.
func (c Condition) validate() error {
	switch {
	case c.Index > 5:
		return errors.New("a system call has only the arguments 0 to 5")
	case c.Op != MaskedEQ && c.ValueTwo != 0:
		return fmt.Errorf("valueTwo has a meaning only with %v", MaskedEQ)
	case c.Op == MaskedEQ && c.ValueTwo&^c.Value != 0:
		return fmt.Errorf("never holds: valueTwo %#x has bits outside of the mask %#x in value", c.ValueTwo, c.Value)
	case c.Op == LT && c.Value == 0:
		return errors.New("never holds: no argument is below 0")
	case c.Op == GT && c.Value == 1<<64-1:
		return errors.New("never holds: no argument is above the largest number")
	}
	return nil
}

// possible fails if a condition holds for no argument of some call of the rule,
// since its value has bits that the kernel does not read, on any architecture.
func (r *SyscallRule) possible(c Condition) error {
	for i, name := range r.Names {
		call, ok := r.call(i)
		if !ok {
			continue
		}
		c := c
		c.Bits = widest(call, int(c.Index))
		if c.Bits == 0 {
			continue
		}
		if c = c.cut(); c.never() {
			return fmt.Errorf("never holds: the kernel reads %d bits of argument %d of %s", c.Bits, c.Index, name)
		}
	}
	return nil
}

// never reports whether a condition that was cut to its width holds for no
// argument.
func (c Condition) never() bool {
	switch top := c.bits(); c.Op {
	case EQ, GE:
		return c.Value > top
	case GT:
		return c.Value >= top
	case MaskedEQ:
		return c.ValueTwo > top
	}
	return false
}

// widest returns how many bits of an argument the kernel reads at most.
func widest(call syscalls.Call, index int) (bits uint8) {
	for a := Arch(0); a < maxArchs; a++ {
		if _, ok := call.Slot(a); ok {
			bits = max(bits, call.Width(a, index))
		}
	}
	return bits
}

// withData returns the action with the number n, or with its default if n is
// nil, after checking that it may have one.
func (a Action) withData(n *uint64) (Action, error) {
	switch {
	case n == nil && a.hasData():
		return a | Action(unix.EPERM), nil
	case n == nil:
		return a, nil
	case !a.hasData():
		return 0, fmt.Errorf("has no meaning with %s%v", actionPrefix, a)
	case a.Kind() == errno && *n > maxErrno:
		return 0, fmt.Errorf("%d is no error number; they go from 0 to %d", *n, maxErrno)
	case *n > maxTrace:
		return 0, fmt.Errorf("%d is no message for a tracer; they go from 0 to %d", *n, maxTrace)
	}
	return a | Action(*n), nil
}

// addName adds a name with its system call.
func (r *SyscallRule) addName(name string) error {
	call, ok := syscalls.Find(name)
	if !ok {
		return unknownName(name)
	}
	r.Names, r.calls = append(r.Names, name), append(r.calls, call)
	return nil
}

// call returns the system call of name i. The caller of the package may have
// changed Names since they were found.
func (r *SyscallRule) call(i int) (syscalls.Call, bool) {
	if i < len(r.calls) && r.calls[i].Name() == r.Names[i] {
		return r.calls[i], true
	}
	return syscalls.Find(r.Names[i])
}

// unknownName words the error for an unknown name of a system call.
func unknownName(name string) error {
	if near := syscalls.Nearest(name); near != "" {
		return fmt.Errorf("unknown system call %q; did you mean %s?", name, near)
	}
	return fmt.Errorf("unknown system call %q", name)
}
