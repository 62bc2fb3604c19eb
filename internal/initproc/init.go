// Package initproc is the init process of `brig run --init`: it starts the
// user's program, hands it every signal that it gets itself, reaps the orphans
// of the container, and ends as the program ends.
package initproc

import (
	"os"
	"os/signal"
	"syscall"
)

// Path is where the engine binds Brig's binary in a container with --init; it
// is also argv[0] of that process.
const Path = "/sbin/brig-init"

// Main runs "-- COMMAND ARGS" and does not return.
func Main(args []string) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fail(127, "brig-init: no command given")
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	path, err := lookPath(args[0])
	if err != nil {
		fail(exitCode(err), "brig-init: exec "+args[0]+": "+err.Error())
	}
	// A process group of its own, in the foreground where there is a terminal:
	// then the terminal's signals reach the program once and not twice.
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	if isTerminal(0) {
		attr.Sys.Foreground, attr.Sys.Ctty = true, 0
	}
	pid, err := syscall.ForkExec(path, args, attr)
	if err != nil {
		fail(exitCode(err), "brig-init: exec "+args[0]+": "+err.Error())
	}
	go forward(signals, pid)
	os.Exit(reap(pid))
}

func fail(code int, msg string) {
	os.Stderr.WriteString(msg + "\n")
	os.Exit(code)
}

func exitCode(err error) int {
	if err == syscall.ENOENT {
		return 127
	}
	return 126
}

func forward(signals <-chan os.Signal, pid int) {
	for s := range signals {
		switch s {
		case syscall.SIGCHLD, syscall.SIGURG: // the first is ours, the second is the Go runtime's
		default:
			syscall.Kill(pid, s.(syscall.Signal))
		}
	}
}

// reap waits for all children until the program has ended.
func reap(program int) int {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 125
		case pid == program && ws.Signaled():
			return 128 + int(ws.Signal())
		case pid == program:
			return ws.ExitStatus()
		}
	}
}
