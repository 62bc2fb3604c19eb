// Package record sees what a container uses and what it is denied: system calls
// with their ABI, counts, first user and the values of arguments that matter;
// checks of capabilities with the kernel's reason; and calls that failed because
// a seccomp filter or a missing capability stopped them.
//
// It knows cgroups, processes and BPF, and neither images nor policies.
//
//	recorder, err := record.Open(1, "")        // loads, attaches nothing
//	defer recorder.Close()
//	session, err := recorder.Start(target)     // attaches
//	err = session.Ready()                      // from now on, calls are of the phase "running"
//	recording, err := session.Stop()           // detaches
//
// Programs at the kernel's trace points (bpf/record.bpf.c) count in maps of the
// kernel. There are no events, so none can be lost under load; an update that
// fails for want of memory or room is counted in Recording.Lost. Nothing is
// pinned: when the process ends, in any way, the kernel detaches everything.
//
// # Where a record begins
//
// A process that is there at Start begins at once, with its threads and, for a
// target by PID, its descendants; the call in flight is left out. A process that
// comes into a cgroup or a namespace later begins when it executes a program: the
// calls of the runtime that set up the container, and its execve, are left out.
// Children of a recorded process are recorded from their first instruction,
// wherever they go.
//
// # What is needed
//
// Linux 5.15 or later with BTF, on x86-64, and the privileges for tracing (root
// of the host). Capabilities and their denials need 6.14 or later, which has the
// trace point cap_capable; without it a note in the recording says so.
//
// Cgroups are those of the v2 hierarchy, which hybrid hosts have too: that is
// the one that BPF sees. Where a container is in none, its mount namespace tells
// it from others.
package record

//go:generate sh bpf/generate
