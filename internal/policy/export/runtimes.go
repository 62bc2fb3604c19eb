package export

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Call is a system call that a runtime makes.
type Call struct {
	Name string
	// Index is the argument that is known to have one of Values only. Without
	// Values any arguments are meant.
	Index  uint8
	Values []uint64
}

// RuntimeNeeds are the system calls that a runtime makes in the container's
// first process, or in one that joins it, after it has loaded the container's
// seccomp filter and before it executes the container's program.
type RuntimeNeeds struct {
	Runtime  string
	Measured []string // versions, and the machine
	Calls    []Call   // sorted by name
	// Spared are calls that it tries and does without where they are refused,
	// so that no profile need allow them.
	Spared []string
}

// The tables below were measured with strace -f on Linux 6.18 (x86-64): all
// calls of the thread that loads the filter, from then to its execve. The filter
// allowed everything. All combinations were run of: "run", "create" with "start"
// 1.5 s later (as containerd and podman do) and "exec"; with and without
// noNewPrivileges; with and without a terminal; as root with some capabilities,
// as user 1000 with none, and with one; with and without another working
// directory, limits, an OOM score and read-only paths. TestRuntimeNeedsMeasured
// does it again with what is installed.
//
// runc is written in Go, and has several threads; but it loads the filter
// without SECCOMP_FILTER_FLAG_TSYNC, so only the thread that will execute the
// program is filtered. What Go's own runtime does in it appears in one start out
// of many, and is completed here from its source (src/runtime: lock_futex.go,
// mem_linux.go, os_linux.go).
//
// With noNewPrivileges, runtimes load the filter later and need less. A profile
// is for both.

// NeedsOf returns what is known of a runtime: "runc", "crun", or "brig", which
// needs nothing, as it loads the filter in the last step before execve. Any other
// name is an error that suggests the nearest one.
func NeedsOf(name string) (RuntimeNeeds, error) {
	switch name {
	case "runc":
		return runcNeeds(), nil
	case "crun":
		return crunNeeds(), nil
	case "brig":
		return RuntimeNeeds{Runtime: name}, nil
	}
	return RuntimeNeeds{}, unknown("runtime", name, append(Runtimes(), "brig"))
}

// Runtimes lists the runtimes that need system calls.
func Runtimes() []string { return []string{"runc", "crun"} }

func runcNeeds() RuntimeNeeds {
	n := RuntimeNeeds{
		Runtime:  "runc",
		Measured: []string{"1.1.5 (Debian 12)", "1.2.6", "1.3.6 (by the test only)", "1.4.0", "1.5.2", "amd64"},
		Calls: append(anyArgs(
			"capget", "capset", "chdir", "close", "close_range", "execve", "faccessat", "faccessat2", "fchown", "fstat", "fstatfs",
			"getcwd", "getdents64", "getppid", "newfstatat", "openat", "openat2", "read", "setgid", "setgroups",
			"setuid", "statx", "uname", "write",
		),
			Call{"fcntl", 1, []uint64{unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_DUPFD_CLOEXEC}},
			prctlCaps(),
		),
		// "exec" since 1.4.0 would have a /proc of its own to open files in.
		Spared: []string{"fsconfig", "fsmount", "fsopen", "open_tree"},
	}
	n.Calls = append(n.Calls, goRuntime()...)
	return n.sorted()
}

// goRuntime are calls of Go's own runtime in a thread that is locked to one
// goroutine: it waits, wakes others, gets memory, and sends and gets signals.
func goRuntime() []Call {
	return append(anyArgs("epoll_ctl", "exit_group", "futex", "getpid", "madvise", "nanosleep", "rt_sigreturn", "sched_yield", "tgkill"),
		Call{"mmap", 2, []uint64{unix.PROT_NONE, unix.PROT_READ | unix.PROT_WRITE}})
}

func crunNeeds() RuntimeNeeds {
	n := RuntimeNeeds{
		Runtime:  "crun",
		Measured: []string{"1.8.1 (Debian 12)", "amd64"},
		Calls: append(anyArgs(
			"capset", "close", "execve", "exit_group", "fchown", "openat", "pselect6", "read", "rt_sigaction", "rt_sigprocmask",
			"setgroups", "setresgid", "setresuid", "statx", "umask", "write",
			// When the working directory may be entered by the user alone.
			"chdir",
		),
			Call{"ioctl", 1, []uint64{unix.TCGETS}},
			prctlCaps(),
		),
	}
	return n.sorted()
}

// prctlCaps are the operations of prctl(2) by which capabilities are set.
func prctlCaps() Call {
	return Call{"prctl", 0, []uint64{unix.PR_SET_KEEPCAPS, unix.PR_CAPBSET_DROP, unix.PR_CAP_AMBIENT}}
}

func anyArgs(names ...string) []Call {
	calls := make([]Call, 0, len(names)+16)
	for _, name := range names {
		calls = append(calls, Call{Name: name})
	}
	return calls
}

func (n RuntimeNeeds) sorted() RuntimeNeeds {
	slices.SortFunc(n.Calls, func(a, b Call) int { return strings.Compare(a.Name, b.Name) })
	return n
}
