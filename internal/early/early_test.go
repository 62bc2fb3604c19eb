package early_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/brig-run/brig/internal/early"
)

// The test runs itself under a soft limit of its own, which Go then raises.
func TestLimitOfTheStart(t *testing.T) {
	if os.Getenv("NOFILE_CHILD") != "" {
		var now syscall.Rlimit
		syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now)
		if early.Soft != 321 || early.Hard != now.Max || now.Cur == 321 {
			t.Fatalf("started with %d of %d; now %d of %d", early.Soft, early.Hard, now.Cur, now.Max)
		}
		return
	}
	cmd := exec.Command("sh", "-c", `ulimit -S -n 321 && exec "$0" -test.run TestLimitOfTheStart`, os.Args[0])
	cmd.Env = append(os.Environ(), "NOFILE_CHILD=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Fatalf("%v: %s", err, out)
	}
}
