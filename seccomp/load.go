package seccomp

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp/bpf"
)

// Load sets no_new_privs and loads the filter, on the calling thread or, with
// the flag TSYNC, on all threads of the process. Without TSYNC the caller must
// hold its thread with runtime.LockOSThread. It returns the listener if the
// filter notifies, else nil. There is no way to unload a filter.
func (f *Filter) Load() (*os.File, error) {
	if len(f.Program) == 0 || len(f.Program) > bpf.MaxLen {
		return nil, fmt.Errorf("load seccomp filter: program of %d instructions; the kernel accepts 1 to %d", len(f.Program), bpf.MaxLen)
	}
	if err := f.CheckKernel(); err != nil {
		return nil, fmt.Errorf("load seccomp filter: %w", err)
	}
	if f.Flags&FlagTSync == 0 {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("load seccomp filter: set no_new_privs: %w", err)
	}
	prog := unix.SockFprog{
		Len:    uint16(len(f.Program)),
		Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(f.Program))),
	}
	r, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		uintptr(f.Flags), uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(f)
	switch {
	case errno != 0:
		return nil, fmt.Errorf("load seccomp filter: %w", errno)
	case f.Notify:
		return os.NewFile(r, "seccomp listener"), nil
	case r != 0:
		return nil, fmt.Errorf("load seccomp filter: thread %d has another filter", r)
	}
	return nil, nil
}

// Support is what the running kernel can do.
type Support struct {
	Actions []Action // without data
	Flags   Flags
}

// Has reports whether the kernel has an action, whatever its data.
func (s Support) Has(a Action) bool {
	for _, have := range s.Actions {
		if have == a.Kind() {
			return true
		}
	}
	return false
}

// Supported asks the running kernel for the actions and flags that it has. It
// changes nothing. It fails if the kernel has no seccomp filters.
func Supported() (Support, error) {
	var s Support
	for _, entry := range actionNames {
		ok, err := hasAction(entry.action)
		if err != nil {
			return Support{}, err
		}
		if ok && !s.Has(entry.action) {
			s.Actions = append(s.Actions, entry.action)
		}
	}
	for flag := FlagTSync; flag <= FlagWaitKillableRecv; flag <<= 1 {
		if hasFlag(flag) {
			s.Flags |= flag
		}
	}
	return s, nil
}

// hasAction asks the kernel for an action; see seccomp(2),
// SECCOMP_GET_ACTION_AVAIL.
func hasAction(a Action) (bool, error) {
	kind := uint32(a.Kind())
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&kind)))
	switch errno {
	case 0:
		return true, nil
	case unix.EOPNOTSUPP:
		return false, nil
	}
	return false, fmt.Errorf("ask the kernel for seccomp action %v: %w", a.Kind(), errno)
}

// hasFlag asks the kernel for one flag.
func hasFlag(flag Flags) bool {
	if flag == FlagWaitKillableRecv {
		flag |= FlagNewListener
	}
	// A known flag gets as far as reading the program, which is not there.
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flag), 0)
	return errno == unix.EFAULT
}

// FilterFor compiles the policy that the profile means for t, and fails if the
// running kernel lacks what the filter uses: [Profile.Resolve], [Compile] and
// [Filter.CheckKernel] in one.
func (p *Profile) FilterFor(t Target) (*Filter, []Note, error) {
	policy, notes, err := p.Resolve(t)
	if err != nil {
		return nil, nil, err
	}
	f, err := Compile(policy)
	if err == nil {
		err = f.CheckKernel()
	}
	if err != nil {
		return nil, nil, err
	}
	return f, notes, nil
}

// CheckKernel fails with an error that names it if the running kernel lacks an
// action or a flag of the filter. An action that the kernel does not know
// would kill the process.
func (f *Filter) CheckKernel() error {
	asked := make([]Action, 0, 8)
	for _, in := range f.Program {
		a := Action(in.K).Kind()
		if in.Op != bpf.RetK || slices.Contains(asked, a) {
			continue
		}
		ok, err := hasAction(a)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("this kernel lacks the seccomp action %v", a)
		}
		asked = append(asked, a)
	}
	for flag := Flags(1); flag != 0; flag <<= 1 {
		if f.Flags&flag != 0 && !hasFlag(flag) {
			return fmt.Errorf("this kernel lacks the seccomp flag %v", flag)
		}
	}
	return nil
}
