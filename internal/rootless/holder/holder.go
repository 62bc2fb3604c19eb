// Package holder is the process that keeps a user's namespaces for package
// rootless. It imports next to nothing: it shall cost next to nothing.
package holder

import "syscall"

// Argv0 is the name under which the binary is that process.
const Argv0 = "brig-rootless"

// Main does nothing until the process is killed.
func Main() {
	for {
		syscall.Syscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0) // without an end
	}
}
