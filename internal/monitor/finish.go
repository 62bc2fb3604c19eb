package monitor

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/brig-run/brig/internal/network/undo"
	"github.com/brig-run/brig/internal/volume/held"
)

// finish ends the monitor after the container's first process: everything that
// the container still has goes, then the record is written, then the clients
// hear of it, so that whoever waits finds all as it will stay.
func (m *container) finish(code int) {
	if !m.start.OwnPIDNS {
		KillAll(m.start.Cgroups) // else the kernel has ended all with the first
	}
	m.drain()
	m.state.Running, m.state.FinishedAt, m.state.ExitCode = false, time.Now(), code
	m.state.OOMKilled = code == 128+int(syscall.SIGKILL) && oomKilled(m.start.Cgroups)
	ran := m.state.FinishedAt.Sub(m.state.StartedAt)
	if m.again(code) {
		m.state.Restarting, m.state.RestartCount = true, m.state.RestartCount+1
		m.state.RestartDelay = int64(nextDelay(time.Duration(m.state.RestartDelay), ran))
	}
	m.cleanUp()
	if !m.start.Remove {
		m.state.Write(m.start.Dir)
	}
	m.tellEnd(code, ran)
	msg := append(append([]byte{msgExit}, u32(uint32(code))...), byte(btoi(m.state.OOMKilled)))
	for _, c := range m.attached(Stdin | Stdout | Stderr) {
		c.send(msg)
	}
	if m.state.Restarting {
		m.restart()
	}
	os.Exit(0)
}

// tellEnd writes the events of a container's end.
func (m *container) tellEnd(code int, ran time.Duration) {
	if m.state.OOMKilled {
		m.event("oom")
	}
	m.event("die", "execDuration", strconv.Itoa(int(ran.Seconds())), "exitCode", strconv.Itoa(code))
	if m.start.Remove {
		m.event("destroy")
	}
}

// drain waits until the output is read to its end, and is in the log. A process
// outside that was given the container's streams can hold them open; it is not
// waited for. A log may be slow: a file that is full is compressed before another
// one is.
func (m *container) drain() {
	const patience, most = 2 * time.Second, 30 * time.Second
	done := make(chan struct{})
	go func() {
		m.outputs.Wait()
		m.log.close()
		close(done)
	}()
	for begun := time.Now(); time.Since(begun) < most; {
		before := m.chunks.Load()
		select {
		case <-done:
			return
		case <-time.After(patience):
		}
		if (m.log == nil || m.log.busy.Load() == 0) && m.chunks.Load() == before {
			return
		}
	}
}

// KillAll ends all processes in the cgroups, for a container that has no PID
// namespace of its own or has lost its monitor. New ones may be forked meanwhile, so it goes on until none is left.
func KillAll(cgroups []string) {
	for _, dir := range cgroups {
		if os.WriteFile(dir+"/cgroup.kill", []byte("1"), 0) == nil {
			break // cgroup v2 since 5.14: the kernel does it all
		}
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		left := false
		for _, dir := range cgroups {
			b, _ := os.ReadFile(dir + "/cgroup.procs")
			for _, f := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(f); err == nil && pid != os.Getpid() {
					left = true
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			if left { // a paused one does not even die, on v1
				os.WriteFile(dir+"/freezer.state", []byte("THAWED"), 0)
			}
		}
		if !left {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// oomKilled says whether the kernel's out-of-memory killer struck, memory.events
// on v2 and memory.oom_control on v1.
func oomKilled(cgroups []string) bool {
	for _, dir := range cgroups {
		for _, name := range []string{"/memory.events", "/memory.oom_control"} {
			b, err := os.ReadFile(dir + name)
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(b)) {
				if n, ok := strings.CutPrefix(line, "oom_kill "); ok && strings.TrimSpace(n) != "0" {
					return true
				}
			}
		}
	}
	return false
}

// cleanUp frees the container's addresses and ports, removes the cgroups, and the
// container itself if it shall not stay.
func (m *container) cleanUp() {
	undo.Perform(m.start.Dir)
	for _, f := range m.held {
		f.Close()
	}
	m.mu.Lock()
	if m.stopNames != nil {
		m.stopNames()
	}
	m.mu.Unlock()
	for _, dir := range m.start.Cgroups {
		RemoveCgroup(dir)
	}
	if m.start.Remove {
		m.releaseVolumes()
		RemoveContainer(m.start.Dir, m.start.NameLink, m.start.Trash, m.start.Lock)
	}
}

// releaseVolumes gives up the container's volumes before the container goes, so
// that a kill in between leaves a container that somebody finds and removes.
func (m *container) releaseVolumes() {
	id := m.start.Dir[strings.LastIndexByte(m.start.Dir, '/')+1:]
	for _, dir := range m.start.Volumes {
		held.Release(dir, id)
	}
	for _, dir := range m.start.Anonymous {
		held.Remove(dir, m.start.Trash)
	}
}

// RemoveCgroup removes a cgroup and those below it. The kernel may call it busy
// for a moment after the last process has gone.
func RemoveCgroup(dir string) error {
	var err error
	for wait := time.Millisecond; wait < 200*time.Millisecond; wait *= 2 {
		if err = syscall.Rmdir(dir); err == nil || err == syscall.ENOENT {
			return nil
		}
		if err == syscall.EBUSY {
			removeBelow(dir)
			if syscall.Rmdir(dir) == nil {
				return nil
			}
		}
		time.Sleep(wait)
	}
	return &os.PathError{Op: "remove cgroup", Path: dir, Err: err}
}

// removeBelow removes the cgroups that the container made in its own.
func removeBelow(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeBelow(dir + "/" + e.Name())
			syscall.Rmdir(dir + "/" + e.Name())
		}
	}
}

// RemoveContainer makes the container in dir vanish in one rename, frees its
// name, and deletes what is left. A crash after the rename leaves only trash,
// which the engine sweeps.
func RemoveContainer(dir, nameLink, trash, lock string) error {
	id := dir[strings.LastIndexByte(dir, '/')+1:]
	gone := trash + "/" + id
	if err := os.Rename(dir, gone); err != nil {
		return err
	}
	if nameLink != "" {
		FreeName(nameLink, id, lock)
	}
	return os.RemoveAll(gone)
}

// FreeName removes a name that belongs to the container id, or if that is
// another's by now, because the container was renamed, the one that it has. The
// lock keeps it from another container that takes the name at this moment.
func FreeName(nameLink, id, lock string) {
	fd, err := syscall.Open(lock, syscall.O_RDWR|syscall.O_CREAT|syscall.O_CLOEXEC, 0o600)
	if err == nil {
		syscall.Flock(fd, syscall.LOCK_EX)
		defer syscall.Close(fd)
	}
	if owner, err := os.Readlink(nameLink); err == nil && owner == id {
		os.Remove(nameLink)
		return
	}
	dir := nameLink[:strings.LastIndexByte(nameLink, '/')+1]
	names, _ := os.ReadDir(dir)
	for _, n := range names {
		if owner, err := os.Readlink(dir + n.Name()); err == nil && owner == id {
			os.Remove(dir + n.Name())
		}
	}
}
