// Package nofile knows the limit of open files (RLIMIT_NOFILE) that this process
// was started with.
//
// Go's package syscall raises the soft limit as it initializes, and gives the old
// one back only to processes that it executes itself. The processes of containers
// are executed by other means and shall have the caller's limit. This package
// imports nothing, so it is initialized before syscall, and it therefore asks the
// kernel by a few lines of assembly.
package nofile

// Soft and Hard are the limits at the start of the process; both are zero if the
// kernel did not tell.
var Soft, Hard = read()

func read() (soft, hard uint64) {
	var limit [2]uint64 // struct rlimit64
	if getrlimit(&limit) != 0 {
		return 0, 0
	}
	return limit[0], limit[1]
}

// getrlimit is prlimit64(0, RLIMIT_NOFILE, NULL, limit), prlimit(2). It returns 0,
// or a negative error number.
//
//go:noescape
func getrlimit(limit *[2]uint64) int64
