package seccomp

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Load sets no_new_privs and loads the filter, on the calling thread or, with
// the flag TSYNC, on all threads of the process. Without TSYNC the caller must
// hold its thread with runtime.LockOSThread. It returns the listener if the
// filter notifies, else nil. There is no way to unload a filter.
func (f *Filter) Load() (*os.File, error) {
	if len(f.Program) == 0 {
		return nil, errors.New("load seccomp filter: empty program")
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
		kind := uint32(entry.action)
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&kind)))
		switch {
		case errno == 0 && !s.Has(entry.action):
			s.Actions = append(s.Actions, entry.action)
		case errno == unix.ENOSYS || errno == unix.EINVAL || errno == unix.EPERM:
			return Support{}, fmt.Errorf("probe seccomp: %w", errno)
		}
	}
	for flag := FlagTSync; flag <= FlagWaitKillableRecv; flag <<= 1 {
		// A known flag gets as far as reading the program, which is not there.
		ask := flag
		if flag == FlagWaitKillableRecv {
			ask |= FlagNewListener
		}
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(ask), 0)
		if errno == unix.EFAULT {
			s.Flags |= flag
		}
	}
	return s, nil
}
