package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/test/harness"
)

// asNobody is a command of an ordinary user.
func asNobody(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}

// An ordinary user records a command; the container of root that is held to the
// policy does the same, and nothing else.
func TestRecordWithoutRoot(t *testing.T) {
	r := harness.NewWithBusybox(t)
	dir, err := os.MkdirTemp(harness.Scratch(), "brig-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { // the user writes here, and finds brig here
		t.Fatal(err)
	}
	brig := filepath.Join(dir, "brig")
	if out, err := exec.Command("cp", r.Binary, brig).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	file := filepath.Join(dir, "ls.policy.json")
	script := "ls -l /etc | head -n 1; exit 4"
	res := harness.Finish(asNobody(dir, brig, "record", "-o", file, "/bin/busybox", "sh", "-c", script))
	if res.Code != 4 || !strings.HasPrefix(res.Stdout, "total ") || !strings.Contains(res.Stderr, "NOTE: recorded without privileges") {
		t.Fatalf("%+v", res)
	}
	p, err := policy.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	granted, err := p.Granted()
	if err != nil || !granted.Empty() {
		t.Errorf("grants %s, %v", granted, err)
	}
	res = r.Run("run", "--rm", "--policy", file, "busybox", "sh", "-c", script)
	if res.Code != 4 || !strings.HasPrefix(res.Stdout, "total ") {
		t.Errorf("under the policy: %+v", res)
	}
	res = r.Run("run", "--rm", "--policy", file, "busybox", "sh", "-c", "mkdir /tmp/x && echo made")
	if strings.Contains(res.Stdout, "made") || !strings.Contains(res.Stderr, "Operation not permitted") {
		t.Errorf("what was not recorded: %+v", res)
	}
}

func TestRecordCommandFaults(t *testing.T) {
	r := harness.New(t)
	for _, c := range []struct {
		code int
		args []string
	}{
		{127, []string{"record", "nosuchprogram"}},
		{126, []string{"record", "/etc"}},
		{1, []string{"record", "--for", "1s", "true"}},
		{1, []string{"record", "--pid", "1", "true"}},
		{1, []string{"record", "-o", "-", "true"}},
		{1, []string{"record"}},
		{128 + 9, []string{"record", "-o", "/dev/null", "sh", "-c", "kill -9 $$"}},
	} {
		res := r.Run(c.args...)
		if res.Code != c.code {
			t.Errorf("%v: exit code %d, want %d: %s", c.args, res.Code, c.code, res.Stderr)
		}
		if c.code < 128 && strings.Count(res.Stderr, "\n") != 1 {
			t.Errorf("%v: not one line: %q", c.args, res.Stderr)
		}
	}
}
