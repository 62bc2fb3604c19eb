package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An ordinary user has volumes, and copies, compares, commits and exports.
func TestRootlessFiles(t *testing.T) {
	o := newOrdinary(t)
	o.load(t)
	openTun(t)
	file := filepath.Join(o.home, "file")
	if err := os.WriteFile(file, []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, int(o.uid), int(o.gid)); err != nil {
		t.Fatal(err)
	}
	if got := o.must(t, "run", "--rm", "-v", "data:/bin", "box", "sh", "-c", "ls /bin/sh; touch /bin/mark"); got != "/bin/sh" {
		t.Errorf("the volume was not filled: %q", got)
	}
	o.must(t, "run", "-d", "--name", "up", "-v", "data:/vol", "box", "sh", "-c", "trap exit TERM; sleep 1000 & wait")
	for _, path := range []string{"/tmp/file", "/vol/file"} {
		o.must(t, "cp", file, "up:"+path)
		if got := o.must(t, "exec", "up", "sh", "-c", "stat -c %u "+path+"; cat "+path); got != "0\ncontent" {
			t.Errorf("%s: %q", path, got)
		}
	}
	out := filepath.Join(o.home, "out")
	copyOut := func() {
		t.Helper()
		os.RemoveAll(out)
		o.must(t, "cp", "up:/tmp/file", out)
		if b, err := os.ReadFile(out); err != nil || string(b) != "content\n" {
			t.Errorf("copied out: %q, %v", b, err)
		}
	}
	copyOut()
	if got := o.must(t, "diff", "up"); !strings.Contains(got, "A /tmp/file") {
		t.Errorf("diff: %q", got)
	}
	o.must(t, "commit", "up", "made")
	if got := o.must(t, "run", "--rm", "made", "cat", "/tmp/file"); got != "content" {
		t.Errorf("committed: %q", got)
	}
	o.must(t, "stop", "up")
	copyOut()
	o.must(t, "cp", file, "up:/vol/stopped")
	o.must(t, "export", "-o", filepath.Join(o.home, "x.tar"), "up")
	o.must(t, "rm", "-v", "up")
	if got := o.must(t, "run", "--rm", "-v", "data:/vol", "box", "ls", "/vol/stopped", "/vol/mark"); got != "/vol/mark\n/vol/stopped" {
		t.Errorf("the volume has %q", got)
	}
	o.must(t, "volume", "rm", "data")
}
