// Package early does what must come before Go's own packages initialize.
//
// It imports nothing, so it is initialized among the first, and it talks to the
// kernel by a few lines of assembly. Two things need that:
//
//   - Package syscall raises the soft limit of open files as it initializes, and
//     gives the old one back only to processes that it executes itself. The
//     processes of containers are executed by other means and shall have the
//     caller's limit.
//   - A command that starts processes in containers executes this program anew,
//     sealed (CVE-2019-5736). All that was initialized before is lost work.
//
// Most of that work is Go's own start, a millisecond. A program of which the linker
// is told so begins before it, at entry, and Go starts when there is nothing to
// execute anew (x86-64):
//
//	go build -ldflags=-E=github.com/brig-run/brig/internal/early.entry ./cmd/brig-runtime
package early

import "unsafe"

// Soft and Hard are the limits of open files (RLIMIT_NOFILE) at the start of the
// process; both are zero if the kernel did not tell.
var Soft, Hard = limits()

func limits() (soft, hard uint64) {
	var limit [2]uint64 // struct rlimit64
	const nofile = 7    // RLIMIT_NOFILE
	if kernel(sysPrlimit64, 0, nofile, 0, uintptr(unsafe.Pointer(&limit)), 0, 0) != 0 {
		return 0, 0
	}
	return limit[0], limit[1]
}

// kernel is a system call; it returns the result, or a negative error number.
//
//go:noescape
func kernel(nr, a1, a2, a3, a4, a5, a6 uintptr) int
