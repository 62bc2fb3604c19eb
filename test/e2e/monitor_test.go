package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/brig-run/brig/test/harness"
)

// A monitor that waits has few pages of the program in memory, and serves its
// container as before.
func TestMonitorIsSmall(t *testing.T) {
	r := harness.NewWithBusybox(t)
	r.Must(t, "run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000")
	monitor := r.Must(t, "inspect", "-f", "{{.Brig.Monitor}}", "box")
	const most = 5000 // kB; a start takes 8000
	if err := harness.Eventually(fmt.Sprintf("the monitor has less than %d kB in memory", most), func() bool {
		now, err := strconv.Atoi(strings.TrimSuffix(statusOf(t, monitor, "VmRSS"), " kB"))
		return err == nil && now < most
	}); err != nil {
		t.Error(err)
	}
	if out := r.Must(t, "exec", "box", "echo", "hello"); out != "hello" {
		t.Errorf("exec: %q", out)
	}
	r.Must(t, "rm", "-f", "box")
}

// statusOf reads a field of /proc/PID/status.
func statusOf(t *testing.T, pid, field string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%s/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if value, ok := bytes.CutPrefix(line, []byte(field+":")); ok {
			return string(bytes.TrimSpace(value))
		}
	}
	t.Fatalf("process %s has no %s", pid, field)
	return ""
}
