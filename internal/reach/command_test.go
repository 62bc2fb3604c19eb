package reach

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"
)

func TestCommand(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text), Mode: 0o755} }
	tree := fstest.MapFS{
		"usr/sbin/nginx": file("\x7fELF"), "bin/sh": file("\x7fELF"), "entry": file("#!/bin/sh\n"),
		"usr/bin/nginx/x": file(""), "usr/bin/empty": file(""),
	}
	for _, tt := range []struct {
		command []string
		want    string
		err     error
	}{
		{[]string{"nginx", "-g"}, "/usr/sbin/nginx", nil}, // not the directory that comes before
		{[]string{"/usr/sbin/nginx"}, "/usr/sbin/nginx", nil},
		{[]string{"/usr/../../usr/sbin/nginx"}, "/usr/sbin/nginx", nil},
		{[]string{"sh", "-c", "nginx"}, "/bin/sh", ErrRunsOthers},
		{[]string{"/entry", "nginx"}, "/entry", ErrRunsOthers},
		{[]string{"redis"}, "", fs.ErrNotExist},
		{[]string{"empty"}, "", fs.ErrNotExist},
	} {
		got, err := Command(tree, tt.command, "/usr/bin:/usr/sbin::/bin")
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q: %q, %v; want %q, %v", tt.command, got, err, tt.want, tt.err)
		}
	}
	if _, err := Command(tree, nil, ""); err == nil {
		t.Error("no command has a program")
	}
}
