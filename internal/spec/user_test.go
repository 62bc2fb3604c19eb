package spec

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

const testPasswd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
alice:x:1000:1001:Alice:/home/alice:/bin/sh
nohome:x:1002:1002:::
evil:x:4294967296:0::/:/bin/sh
minus:x:-1:0::/:/bin/sh
evilgroup:x:5:4294967296::/:/bin/sh
`

const testGroup = `root:x:0:
daemon:x:1:
audio:x:29:alice,daemon
video:x:44:alice
staff:x:1001:
huge:x:4294967296:
`

// rootWith makes a root directory with files; a name that ends in "@" is a
// symbolic link to the contents.
func rootWith(t *testing.T, files map[string]string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, strings.TrimSuffix(name, "@"))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if strings.HasSuffix(name, "@") {
			err = os.Symlink(content, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return openRoot(t, dir)
}

func openRoot(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLookupUser(t *testing.T) {
	root := rootWith(t, map[string]string{"etc/passwd": testPasswd, "etc/group": testGroup})
	cases := []struct {
		spec     string
		groupAdd []string
		uid, gid uint32
		groups   []uint32
		home     string
		wantErr  string
	}{
		{spec: "", groups: []uint32{0}, home: "/root"},
		{spec: "root", groups: []uint32{0}, home: "/root"},
		{spec: "0", groups: []uint32{0}, home: "/root"},
		{spec: "alice", uid: 1000, gid: 1001, groups: []uint32{1001, 29, 44}, home: "/home/alice"},
		{spec: "1000", uid: 1000, gid: 1001, groups: []uint32{1001, 29, 44}, home: "/home/alice"},
		{spec: "alice:video", uid: 1000, gid: 44, groups: []uint32{44}, home: "/home/alice"},
		{spec: "alice:7", uid: 1000, gid: 7, groups: []uint32{7}, home: "/home/alice"},
		{spec: "77", uid: 77, groups: []uint32{0}},
		{spec: "77:88", uid: 77, gid: 88, groups: []uint32{88}},
		{spec: ":staff", gid: 1001, groups: []uint32{1001}, home: "/root"},
		{spec: "nohome", uid: 1002, gid: 1002, groups: []uint32{1002}},
		{spec: "2147483647", uid: 1<<31 - 1, groups: []uint32{0}},
		{spec: "77", groupAdd: []string{"video", "29", "5000"}, uid: 77, groups: []uint32{0, 29, 44, 5000}},
		{spec: "alice", groupAdd: []string{"audio"}, uid: 1000, gid: 1001, groups: []uint32{1001, 29, 44}, home: "/home/alice"},
		{spec: "bob", wantErr: "unable to find user bob: no matching entries in passwd file"},
		{spec: "alice:none", wantErr: "unable to find group none: no matching entries in group file"},
		{spec: "0", groupAdd: []string{"none"}, wantErr: "unable to find group none: no matching entries in group file"},
		{spec: "4294967296", wantErr: "range"},
		{spec: "-1", wantErr: "range"},
		{spec: "0:4294967295", wantErr: "range"},
		{spec: "evil", wantErr: "range"},
		{spec: "minus", wantErr: "range"},
		{spec: "evilgroup", wantErr: "range"},
		{spec: "0", groupAdd: []string{"huge"}, wantErr: "range"},
		{spec: "0:huge", wantErr: "range"},
	}
	for _, c := range cases {
		u, home, err := lookupUser(root, c.spec, c.groupAdd)
		if c.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("%q %v: got %+v, %v; want error %q", c.spec, c.groupAdd, u, err, c.wantErr)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q %v: %v", c.spec, c.groupAdd, err)
			continue
		}
		if u.UID != c.uid || u.GID != c.gid || !slices.Equal(u.AdditionalGids, c.groups) || home != c.home {
			t.Errorf("%q %v = %+v home %q, want %+v", c.spec, c.groupAdd, u, home, c)
		}
	}
}

func TestLookupUserMissingFiles(t *testing.T) {
	empty := rootWith(t, nil)
	for _, root := range []*os.File{nil, empty, rootWith(t, map[string]string{"etc": "a file"})} {
		u, home, err := lookupUser(root, "", nil)
		if err != nil || u.UID != 0 || home != "" {
			t.Errorf("no user: %+v %q %v", u, home, err)
		}
		if u, _, err = lookupUser(root, "12:34", []string{"56"}); err != nil || u.UID != 12 || u.GID != 34 || !slices.Equal(u.AdditionalGids, []uint32{34, 56}) {
			t.Errorf("numbers: %+v %v", u, err)
		}
		if _, _, err = lookupUser(root, "root", nil); !errors.Is(err, user.ErrNoPasswdEntries) {
			t.Errorf("name: %v", err)
		}
		if _, _, err = lookupUser(root, "0:root", nil); !errors.Is(err, user.ErrNoGroupEntries) {
			t.Errorf("group: %v", err)
		}
	}
}

// A link in the image must not lead to the host's files.
func TestLookupUserStaysInRoot(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "passwd"), []byte("mallory:x:0:0::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	links := map[string]map[string]string{
		"absolute":  {"etc/passwd@": filepath.Join(outside, "passwd")},
		"relative":  {"etc/passwd@": strings.Repeat("../", 40) + outside + "/passwd"},
		"directory": {"etc@": outside},
		"magic":     {"etc/passwd@": "/proc/self/root" + outside + "/passwd"},
		"loop":      {"etc/passwd@": "passwd"},
	}
	for name, files := range links {
		t.Run(name, func(t *testing.T) {
			u, _, err := lookupUser(rootWith(t, files), "mallory", nil)
			if err == nil {
				t.Fatalf("found a user of the host: %+v", u)
			}
		})
	}
	t.Run("inside", func(t *testing.T) {
		root := rootWith(t, map[string]string{"etc/passwd@": "/usr/lib/passwd", "usr/lib/passwd": testPasswd})
		u, _, err := lookupUser(root, "alice", nil)
		if err != nil || u.UID != 1000 {
			t.Errorf("absolute link within the root: %+v %v", u, err)
		}
	})
}

func TestLookupUserHostileFiles(t *testing.T) {
	t.Run("fifo", func(t *testing.T) {
		root := rootWith(t, map[string]string{"etc/x": ""})
		if err := unix.Mkfifo(filepath.Join(root.Name(), "etc/passwd"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := lookupUser(root, "", nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("directory", func(t *testing.T) {
		root := rootWith(t, map[string]string{"etc/passwd/x": ""})
		if _, _, err := lookupUser(root, "", nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("sparse giant", func(t *testing.T) {
		root := rootWith(t, map[string]string{"etc/passwd": ""})
		if err := os.Truncate(filepath.Join(root.Name(), "etc/passwd"), 1<<40); err != nil {
			t.Fatal(err)
		}
		if _, _, err := lookupUser(root, "", nil); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("long line", func(t *testing.T) {
		long := strings.Repeat("x", 1<<20)
		root := rootWith(t, map[string]string{"etc/passwd": long + "\n" + testPasswd})
		if u, _, err := lookupUser(root, "alice", nil); err != nil || u.UID != 1000 {
			t.Errorf("text before alice: %+v %v", u, err)
		}
		root = rootWith(t, map[string]string{"etc/passwd": long + ":x:0:0::/:\n" + testPasswd})
		if u, _, err := lookupUser(root, "alice", nil); err == nil {
			t.Errorf("an entry that cannot be read is passed over: %+v", u)
		}
	})
	t.Run("broken line is nobody", func(t *testing.T) {
		for _, line := range []string{"alice", "alice:x", "alice:x::1", "alice:x:abc:1", "alice:x:1:", "alice:x:99999999999999999999:1", "alice:x: 0:0"} {
			root := rootWith(t, map[string]string{"etc/passwd": line + "\n", "etc/group": "staff:x:\n"})
			if u, _, err := lookupUser(root, "alice", nil); !errors.Is(err, user.ErrNoPasswdEntries) {
				t.Errorf("%q: user %d, %v", line, u.UID, err)
			}
			if u, _, err := lookupUser(root, "0:staff", nil); !errors.Is(err, user.ErrNoGroupEntries) {
				t.Errorf("group %d, %v", u.GID, err)
			}
		}
	})
	t.Run("garbage lines", func(t *testing.T) {
		root := rootWith(t, map[string]string{"etc/passwd": ":::\n\n#\nalice\n" + testPasswd})
		if _, _, err := lookupUser(root, "daemon", nil); err != nil {
			t.Error(err)
		}
	})
}
