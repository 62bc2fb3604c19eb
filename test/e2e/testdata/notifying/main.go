// Notifying runs a program whose calls to mknod somebody else answers:
//
//	notifying SOCKET PROGRAM [ARGUMENT...]
//
// It loads a filter into itself, sends the listener to the socket, and becomes
// the program.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/notify"
)

func main() {
	runtime.LockOSThread() // the filter is of this thread, and so is the program
	err := run(os.Args[1], os.Args[2:])
	fmt.Fprintln(os.Stderr, "notifying:", err)
	os.Exit(1)
}

func run(socket string, program []string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	target, err := seccomp.Here(capability.Default())
	if err != nil {
		return err
	}
	profile := &seccomp.Profile{DefaultAction: seccomp.Allow, Syscalls: []seccomp.SyscallRule{{Names: []string{"mknod", "mknodat"}, Action: seccomp.Notify}}}
	policy, _, err := profile.Resolve(target)
	if err != nil {
		return err
	}
	filter, err := seccomp.Compile(policy)
	if err != nil {
		return err
	}
	listener, err := filter.Load()
	if err != nil {
		return err
	}
	state := &specs.ContainerProcessState{Version: specs.Version, Pid: os.Getpid()}
	if err := notify.SendListener(conn.(*net.UnixConn), state, listener); err != nil {
		return err
	}
	// The listener and the socket close as the program begins.
	return unix.Exec(program[0], program, os.Environ())
}
