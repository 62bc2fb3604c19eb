package monitor

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RestartCommand is the hidden command of brig that starts a container anew. Its
// arguments are the container's ID and the descriptor of its lock.
const RestartCommand = "restart-by-policy"

// CompressCommand is the hidden command of brig that compresses a log file.
const CompressCommand = "compress-log"

// StoppedFile is the name of the file in a container's directory that says
// that somebody stopped it: then no policy starts it anew. Whoever stops it
// makes the file first; whoever starts it takes it away.
const StoppedFile = "stopped"

// Pauses before a container is started anew: each is twice as long as the one
// before, unless the container ran for a while. They are Docker's.
const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = time.Minute
	longRun    = 10 * time.Second
)

// again says whether the container, which has just ended, is to be started anew.
func (m *container) again(code int) bool {
	if most := m.start.MaxRetries; m.start.Restart == RestartOnFailure {
		return code != 0 && (most == 0 || m.state.RestartCount < most) && !m.stopped()
	}
	return m.start.Restart == RestartAlways && !m.stopped()
}

func (m *container) stopped() bool {
	var st syscall.Stat_t
	return syscall.Lstat(m.start.Dir+"/"+StoppedFile, &st) != syscall.ENOENT
}

// nextDelay is the pause that follows one of length last and a run.
func nextDelay(last, ran time.Duration) time.Duration {
	if last == 0 || ran >= longRun {
		return firstDelay
	}
	return min(2*last, lastDelay)
}

// restart waits, and becomes the command that starts the container. A fresh
// mount, cgroup and program are the engine's work, not the monitor's; the lock
// stays held all the while, so nobody else touches the container, and if this
// process is killed the lock is free and the next command mends the record.
func (m *container) restart() {
	select {
	case <-time.After(time.Duration(m.state.RestartDelay)):
	case <-m.giveUp:
	}
	if !m.stopped() {
		id := m.start.Dir[strings.LastIndexByte(m.start.Dir, '/')+1:]
		args := []string{"brig", "--root", m.start.Root, RestartCommand, id, strconv.Itoa(m.lock)}
		syscall.ForkLock.Lock() // nothing else may inherit the lock
		syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(m.lock), syscall.F_SETFD, 0)
		for _, exe := range []string{m.start.Self, "/proc/self/exe"} {
			m.state.Error = "start again: " + syscall.Exec(exe, args, environment()).Error()
		}
		syscall.ForkLock.Unlock()
	}
	m.state.Restarting = false
	m.state.Write(m.start.Dir)
	os.Exit(0)
}

// environment is that of the commands that a monitor has done: it has none
// itself.
func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
}

// compressor begins to compress a file of the log, by a process that is gone
// afterwards with the memory that it takes.
func (m *container) compressor(path string) <-chan int {
	m.mu.Lock()
	defer m.mu.Unlock()
	pid, err := syscall.ForkExec(m.start.Self, []string{"brig", "--root", m.start.Root, CompressCommand, path},
		&syscall.ProcAttr{Dir: "/", Env: environment(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return nil // it stays as it is
	}
	x := &execSession{done: make(chan int, 1)}
	m.execs[pid] = x
	return x.done
}
