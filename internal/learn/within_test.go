package learn

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What the container has put in the place of its recording is not believed.
func TestRecordingFromWithin(t *testing.T) {
	for name, tt := range map[string]struct {
		put  func(file string) error
		want string // "" for a recording
	}{
		"whole":     {func(f string) error { return os.WriteFile(f, []byte(`{"Version":1}`), 0o600) }, ""},
		"missing":   {func(string) error { return nil }, errNothing.Error()},
		"half":      {func(f string) error { return os.WriteFile(f, []byte(`{"Version":`), 0o600) }, "read the recording"},
		"link":      {func(f string) error { return os.Symlink("/proc/self/status", f) }, "too many levels of symbolic links"},
		"pipe":      {func(f string) error { return unix.Mkfifo(f, 0o600) }, "is no regular file"},
		"directory": {func(f string) error { return os.Mkdir(f, 0o700) }, "is no regular file"},
	} {
		dir := filepath.Join(t.TempDir(), "learn")
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "out"), 0o700), tt.put(filepath.Join(dir, "out", withinFile))); err != nil {
			t.Fatal(err)
		}
		rec, err := (&within{dir}).Stop()
		if tt.want == "" && (err != nil || rec.Version != 1) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %+v, %v; want %q", name, rec, err, tt.want)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the directory is left: %v", name, err)
		}
	}
}
