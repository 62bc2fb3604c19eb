package faults

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/brig-run/brig/test/harness"
)

// Whatever is killed while a policy starts a container anew, and whenever: the
// monitor in its pause, the command that it becomes, or the next monitor. The
// next command finds a state that is none of a restart, can start the container
// again, and removes all that is left.
func TestKilledWhileRestarting(t *testing.T) {
	root := harness.NewWithBusybox(t)
	for i := range 25 {
		id := root.Must(t, "run", "-d", "--network", "none", "--restart", "always", "busybox", "sh", "-c", "sleep 0.01")
		time.Sleep(time.Duration(rand.N(400)) * time.Millisecond)
		killed := killAll(id)
		if err := harness.Eventually("the restarts are over", func() bool {
			// A process has no command line while it becomes another program,
			// so one that was then in its exec has gone on.
			if n := killAll(id); n > 0 || killed == 0 {
				killed += n
				return false
			}
			s := root.Run("inspect", "-f", "{{.State.Status}}", id).Output()
			return s == "exited" || s == "created"
		}); err != nil {
			t.Fatalf("try %d, after the kill of %d processes: %v", i, killed, err)
		}
		root.Must(t, "start", id)
		root.Must(t, "rm", "-f", id)
	}
}

// killAll kills the processes of Brig that are about a container, until there
// are none, and says how many there were.
func killAll(id string) (n int) {
	for found := true; found; {
		found = false
		dirs, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range dirs {
			pid, err := strconv.Atoi(filepath.Base(dir))
			cmdline, _ := os.ReadFile(dir + "/cmdline")
			monitor := strings.HasPrefix(string(cmdline), "brig-monitor") && holds(dir, id)
			if err == nil && (monitor || strings.Contains(string(cmdline), "restart-by-policy\x00"+id)) {
				syscall.Kill(pid, syscall.SIGKILL)
				n, found = n+1, true
			}
		}
	}
	return n
}

// holds says whether a process has a file of the container open: its lock.
func holds(dir, id string) bool {
	fds, _ := os.ReadDir(dir + "/fd")
	for _, fd := range fds {
		if name, err := os.Readlink(dir + "/fd/" + fd.Name()); err == nil && strings.Contains(name, id) {
			return true
		}
	}
	return false
}
