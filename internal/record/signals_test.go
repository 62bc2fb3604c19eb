//go:build amd64

package record

import (
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Signals break off the kernel's check of a program, which is no fault: Go's
// scheduler sends them on a busy machine.
func TestOpenUnderSignals(t *testing.T) {
	recorder(t)
	file := filepath.Join(t.TempDir(), "programs")
	var done atomic.Bool
	defer done.Store(true)
	go func() {
		for !done.Load() {
			threads, _ := os.ReadDir("/proc/self/task")
			for _, t := range threads {
				tid, _ := strconv.Atoi(t.Name())
				unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
			}
			time.Sleep(500 * time.Microsecond)
		}
	}()
	for range 20 {
		r, err := OpenDenials(file)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
}
