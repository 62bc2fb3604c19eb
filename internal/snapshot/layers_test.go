package snapshot

import (
	"archive/tar"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func opaque(dir string) entry { return whiteout(dir + "/.wh..wh..opq") }

func deviceNode(name string, kind byte, major, minor int64) entry {
	return entry{tar.Header{Typeflag: kind, Name: name, Mode: 0o600, Devmajor: major, Devminor: minor}, ""}
}

// What a container sees of a stack of layers.
func TestMergedView(t *testing.T) {
	base := []entry{
		directory("a"), file("a/1", "base"), file("a/2", "base"), directory("a/sub"), file("a/sub/x", "base"),
		file("f", "base"), symlink("lib", "usr/lib"), directory("usr"), directory("usr/lib"), file("usr/lib/l", "base"),
	}
	for _, test := range []struct {
		name   string
		layers [][]entry
		want   string // what is below a, f and more, in one line
	}{
		{"base alone", nil,
			"a/ a/1=base a/2=base a/sub/ a/sub/x=base f=base lib->usr/lib usr/ usr/lib/ usr/lib/l=base"},
		{"whiteout of a file", [][]entry{{whiteout("a/.wh.1")}},
			"a/ a/2=base a/sub/ a/sub/x=base f=base lib->usr/lib usr/ usr/lib/ usr/lib/l=base"},
		{"whiteout of a directory", [][]entry{{whiteout(".wh.a")}, {whiteout(".wh.usr")}},
			"f=base lib->usr/lib"},
		{"whiteout, and back in a later layer", [][]entry{{whiteout(".wh.a"), whiteout(".wh.usr")}, {directory("a"), file("a/new", "3")}},
			"a/ a/new=3 f=base lib->usr/lib"},
		{"whiteout, then a directory in one layer", [][]entry{{whiteout(".wh.usr"), whiteout(".wh.a"), directory("a"), file("a/new", "2")}},
			"a/ a/new=2 f=base lib->usr/lib"},
		{"a directory, then its whiteout in one layer", [][]entry{{whiteout(".wh.usr"), directory("a"), file("a/new", "2"), whiteout(".wh.a")}},
			"a/ a/new=2 f=base lib->usr/lib"},
		{"whiteout, then an implied directory", [][]entry{{whiteout(".wh.usr"), whiteout(".wh.a"), file("a/sub/new", "2")}},
			"a/ a/sub/ a/sub/new=2 f=base lib->usr/lib"},
		{"a file, then its whiteout in one layer", [][]entry{{whiteout(".wh.usr"), whiteout(".wh.a"), file("f", "2"), whiteout(".wh.f")}},
			"f=2 lib->usr/lib"},
		{"opaque directory", [][]entry{{whiteout(".wh.usr"), directory("a"), opaque("a"), file("a/new", "2")}},
			"a/ a/new=2 f=base lib->usr/lib"},
		{"opaque mark after the content", [][]entry{{whiteout(".wh.usr"), file("a/new", "2"), opaque("a")}},
			"a/ a/new=2 f=base lib->usr/lib"},
		{"opaque root", [][]entry{{whiteout(".wh..wh..opq"), directory("a"), file("a/new", "2")}},
			"a/ a/new=2"},
		{"opaque root of the third layer", [][]entry{{file("second", "")}, {whiteout("./.wh..wh..opq"), file("f", "3")}},
			"f=3"},
		{"directory in place of a file", [][]entry{{whiteout(".wh.usr"), whiteout(".wh.a"), directory("f"), file("f/x", "2")}},
			"f/ f/x=2 lib->usr/lib"},
		{"file in place of a directory", [][]entry{{whiteout(".wh.usr"), file("a", "2")}},
			"a=2 f=base lib->usr/lib"},
		{"directory in place of a link", [][]entry{{whiteout(".wh.usr"), whiteout(".wh.a"), directory("lib"), file("lib/x", "2")}},
			"f=base lib/ lib/x=2"},
		{"AUFS bookkeeping", [][]entry{{
			whiteout(".wh..wh.aufs"), directory(".wh..wh.orph"), file(".wh..wh.orph/x", "no"), directory(".wh..wh.plnk"),
			file(".wh..wh.plnk/12.34", "linked"), hardlink("a/1", ".wh..wh.plnk/12.34"), hardlink("a/3", "/.wh..wh.plnk/12.34"), whiteout(".wh.usr"),
		}}, "a/ a/1=linked a/2=base a/3=linked a/sub/ a/sub/x=base f=base lib->usr/lib"},
		{"hard link to a file of a lower layer", [][]entry{{hardlink("a/hard", "f"), whiteout(".wh.usr"), whiteout("a/.wh.sub")}},
			"a/ a/1=base a/2=base a/hard=base f=base lib->usr/lib"},
		{"hard link to a link of a lower layer", [][]entry{{hardlink("a/hard", "lib"), whiteout(".wh.usr"), whiteout("a/.wh.sub")}},
			"a/ a/1=base a/2=base a/hard->usr/lib f=base lib->usr/lib"},
		{"through a link of the layer's own", [][]entry{{whiteout("usr/.wh.lib"), whiteout(".wh.a"), directory("usr"), directory("usr/real"), symlink("lib", "usr/real"), file("lib/x", "2"), hardlink("lib/y", "lib/x")}},
			"f=base lib->usr/real usr/ usr/real/ usr/real/x=2 usr/real/y=2"},
		{"through a link to what only a lower layer has", [][]entry{{whiteout(".wh.a"), symlink("lib", "usr/lib"), file("lib/x", "2")}},
			"f=base lib->usr/lib usr/ usr/lib/ usr/lib/l=base usr/lib/x=2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := memoryDir(t)
			s := openStore(t, dir+"/layers")
			chain := unpackAll(t, s, append([][]entry{base}, test.layers...)...)
			upper, work, err := PrepareUpper(dir + "/container")
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range []MountOptions{
				{Lower: stringsOf(chain)},
				{Lower: stringsOf(chain), Upper: upper, Work: work},
			} {
				if got := strings.Join(contents(t, mounted(t, s, o)), " "); got != test.want {
					t.Errorf("upper %q:\n got %s\nwant %s", o.Upper, got, test.want)
				}
			}
		})
	}
}

// Entries of one layer that meet under one name: the later one wins.
func TestDuplicates(t *testing.T) {
	for _, test := range []struct {
		name    string
		entries []entry
		want    string
	}{
		{"file twice", []entry{file("f", "first, and longer"), file("f", "2")}, "f=2"},
		{"file over a hard link leaves the other name", []entry{file("f", "1"), hardlink("g", "f"), file("f", "2")}, "f=2 g=1"},
		{"file over a directory", []entry{directory("d"), file("d/x", ""), file("d", "2")}, "d=2"},
		{"directory over a file", []entry{file("d", "1"), directory("d"), file("d/x", "2")}, "d/ d/x=2"},
		{"directory over a link", []entry{directory("e"), symlink("d", "e"), directory("d"), file("d/x", "2")}, "d/ d/x=2 e/"},
		{"file over a link", []entry{file("e", "1"), symlink("d", "e"), file("d", "2")}, "d=2 e=1"},
		{"link over a directory", []entry{directory("d"), file("d/x", ""), symlink("d", "e"), directory("e"), file("d/y", "2")}, "d->e e/ e/y=2"},
		{"directory twice keeps its content", []entry{directory("d"), file("d/x", "1"), directory("d")}, "d/ d/x=1"},
		{"device over a file", []entry{file("n", "1"), deviceNode("n", tar.TypeChar, 1, 3)}, "n char"},
		{"hard link over a file", []entry{file("f", "1"), file("g", "2"), hardlink("g", "f")}, "f=1 g=1"},
		{"hard link to itself", []entry{file("f", "1"), hardlink("f", "f")}, "f=1"},
		{"hard link made twice", []entry{file("f", "1"), hardlink("g", "f"), hardlink("g", "/f")}, "f=1 g=1"},
		{"the same directory under two names", []entry{directory("a"), file("a/x", "1"), file("./a//x", "2"), file("/a/y", "3")}, "a/ a/x=2 a/y=3"},
		{"removed on the way of the next entry", []entry{directory("a"), directory("a/b"), file("a/b/x", "1"), file("a", "2"), directory("a"), file("a/b/y", "3")}, "a/ a/b/ a/b/y=3"},
		{"link replaced on the way of the next entry", []entry{directory("a"), directory("b"), symlink("l", "a"), file("l/x", "1"), symlink("l", "b"), file("l/x", "2")}, "a/ a/x=1 b/ b/x=2 l->b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openStore(t, memoryDir(t)+"/layers")
			chain := unpackAll(t, s, test.entries)
			if got := strings.Join(contents(t, lowerOf(t, s, chain[0])), " "); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// A directory that a layer only implies is the one of the layers below.
func TestImpliedDirectories(t *testing.T) {
	dir := t.TempDir() // for user attributes, which tmpfs had not before 6.6
	s := openStore(t, dir+"/layers")
	then := time.Unix(1_000_000_000, 987_654_321)
	home := directory("home/user").with(func(h *tar.Header) {
		h.Mode, h.Uid, h.Gid, h.ModTime, h.Format = 0o2750, 1000, 1001, then, tar.FormatPAX
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.who": "me"}
	})
	root := directory(".").with(func(h *tar.Header) { h.Mode, h.ModTime = 0o711, then })
	chain := unpackAll(t, s,
		[]entry{root, directory("home"), home, directory("gone").with(func(h *tar.Header) { h.Mode = 0o700 }), directory("hidden/x").with(func(h *tar.Header) { h.Mode = 0o700 })},
		[]entry{file("unrelated", ""), whiteout(".wh.gone"), opaque("hidden")},
		[]entry{file("home/user/f", ""), file("gone/f", ""), file("new/f", ""), file("hidden/x/f", "")},
	)
	base, top := describe(t, lowerOf(t, s, chain[0])), describe(t, lowerOf(t, s, chain[2]))
	for _, same := range []string{".", "home/user"} {
		if base[same] != top[same] {
			t.Errorf("%q:\n got %s\nwant %s", same, top[same], base[same])
		}
	}
	if want := "042750 1000:1001 1000000000.987654321 user.who=\"me\""; top["home/user"] != want {
		t.Errorf("home/user: got %s, want %s", top["home/user"], want)
	}
	// An entry of its own, wherever it comes, says all there is to say.
	explicit := unpackAll(t, s,
		[]entry{directory("home/user").with(func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.user.who": "me"} })},
		[]entry{file("home/user/f", ""), directory("home/user").with(func(h *tar.Header) {
			h.Mode, h.ModTime = 0o711, time.Unix(7, 0)
			h.PAXRecords = map[string]string{"SCHILY.xattr.user.other": "1"}
		})})
	if got, want := describe(t, lowerOf(t, s, explicit[1]))["home/user"], `040711 0:0 7.000000000 user.other="1"`; got != want {
		t.Errorf("explicit home/user: got %s, want %s", got, want)
	}
	for _, fresh := range []string{"new", "gone", "hidden/x"} {
		if !strings.HasPrefix(top[fresh], "040755 0:0 ") {
			t.Errorf("%s: got %s, want mode 0755 of root", fresh, top[fresh])
		}
	}
}

// A file linked from a lower layer is copied with all that it has.
func TestHardLinkCopiesUp(t *testing.T) {
	s := openStore(t, t.TempDir()+"/layers")
	original := file("bin/tool", strings.Repeat("tool", 1<<16)).with(func(h *tar.Header) {
		h.Mode, h.Uid, h.Gid, h.ModTime, h.Format = 0o4755, 5, 6, time.Unix(1_000_000_000, 5), tar.FormatPAX
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.who": "me"}
	})
	chain := unpackAll(t, s, []entry{original, deviceNode("bin/null", tar.TypeChar, 1, 3)}, []entry{file("x", "")},
		[]entry{hardlink("bin/other", "bin/tool"), hardlink("bin/third", "bin/other"), hardlink("zero", "bin/null")})
	base, top := describe(t, lowerOf(t, s, chain[0])), describe(t, lowerOf(t, s, chain[2]))
	first := base["bin/tool"]
	if top["bin/other"] != first || top["bin/third"] != first+" = bin/other" || top["bin/tool"] != first+" = bin/other" {
		t.Errorf("want one inode like\n%s, got\n%s\n%s\n%s", first, top["bin/tool"], top["bin/other"], top["bin/third"])
	}
	if !strings.Contains(top["zero"], "dev 1:3") {
		t.Errorf("zero: got %s", top["zero"])
	}
	size, err := s.Size(chain[2])
	if err != nil || size != 1<<18 {
		t.Errorf("size of the layer with the copy: %d, %v; want %d", size, err, 1<<18)
	}
}

// A default ACL that a directory has must not reach the files unpacked into it.
func TestDefaultACLIsNotInherited(t *testing.T) {
	// Version 2; owner rwx, user 1000 rwx, group r-x, mask rwx, others none.
	acl := "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x07\x00\xe8\x03\x00\x00" +
		"\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	s := openStore(t, t.TempDir()+"/layers")
	shared := directory("shared").with(func(h *tar.Header) {
		h.PAXRecords = map[string]string{"SCHILY.xattr.system.posix_acl_default": acl}
	})
	chain := unpackAll(t, s, []entry{shared, file("shared/f", "x"), directory("shared/d")})
	got := describe(t, lowerOf(t, s, chain[0]))
	if !strings.Contains(got["shared"], "system.posix_acl_default=") {
		t.Skipf("the file system has no ACLs: %s", got["shared"])
	}
	for _, name := range []string{"shared/f", "shared/d"} {
		if strings.Contains(got[name], "acl") {
			t.Errorf("%s inherited: %s", name, got[name])
		}
	}
}

// The extended attributes that a layer may not set are left out.
func TestForbiddenXattrs(t *testing.T) {
	s := openStore(t, t.TempDir()+"/layers")
	xattrs := func(h *tar.Header) {
		h.PAXRecords = map[string]string{
			"SCHILY.xattr.trusted.overlay.opaque":         "y",
			"SCHILY.xattr.trusted.overlay.redirect":       "/etc",
			"SCHILY.xattr.trusted.overlay.metacopy":       "",
			"SCHILY.xattr.trusted.overlay.overlay.opaque": "y",
			"SCHILY.xattr.security.selinux":               "system_u:object_r:container_file_t:s0\x00",
			"SCHILY.xattr.security.evm":                   "\x02",
			"SCHILY.xattr.user.kept":                      "1",
			"SCHILY.xattr.trusted.kept":                   "2",
		}
	}
	chain := unpackAll(t, s, []entry{directory("d").with(xattrs), file("f", "").with(xattrs), directory(".").with(xattrs)})
	for name, line := range describe(t, lowerOf(t, s, chain[0])) {
		if _, got, _ := strings.Cut(line, " trusted."); got != `kept="2" user.kept="1"` {
			t.Errorf("%s: %s", name, line)
		}
	}
}

// User attributes cannot be on a link (xattr(7)); the layer is right anyway.
func TestUserXattrOnLink(t *testing.T) {
	s := openStore(t, t.TempDir()+"/layers")
	l := symlink("l", "t").with(func(h *tar.Header) {
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "1", "SCHILY.xattr.trusted.y": "2"}
	})
	chain := unpackAll(t, s, []entry{l})
	if got := describe(t, lowerOf(t, s, chain[0]))["l"]; !strings.HasSuffix(got, ` -> t trusted.y="2"`) {
		t.Error(got)
	}
}

// The process's umask has no say in what layers and containers look like.
func TestUmask(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := memoryDir(t)
	s := openStore(t, dir+"/layers")
	chain := unpackAll(t, s, []entry{file("implied/f", ""), directory("d"), deviceNode("n", tar.TypeChar, 1, 3).with(func(h *tar.Header) { h.Mode = 0o666 })})
	got := describe(t, lowerOf(t, s, chain[0]))
	for name, mode := range map[string]string{".": "040755", "implied": "040755", "implied/f": "100644", "d": "040755", "n": "020666"} {
		if !strings.HasPrefix(got[name], mode) {
			t.Errorf("%s: got %s, want mode %s", name, got[name], mode)
		}
	}
	upper, work, err := PrepareUpper(dir + "/container")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []MountOptions{{}, {Lower: stringsOf(chain), Upper: upper, Work: work}} {
		st, err := os.Stat(mounted(t, s, o))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o755 {
			t.Errorf("root of %v: mode %o, want 755", o, st.Mode().Perm())
		}
	}
}

func TestUpperKeepsWhatItHas(t *testing.T) {
	dir := memoryDir(t) + "/a/container"
	upper, work, err := PrepareUpper(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(upper+"/kept", []byte("12345"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(upper+"/kept", upper+"/again"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(upper, 0o700); err != nil {
		t.Fatal(err)
	}
	upper2, work2, err := PrepareUpper(dir)
	if err != nil || upper2 != upper || work2 != work {
		t.Fatalf("second call: %q, %q, %v", upper2, work2, err)
	}
	if got := contents(t, upper); !slices.Equal(got, []string{"again=12345", "kept=12345"}) {
		t.Errorf("got %v", got)
	}
	if st, err := os.Stat(upper); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the container's mode of / is lost: %v, %v", st.Mode(), err)
	}
	if n, err := DirSize(upper); err != nil || n != 5 {
		t.Errorf("size %d, %v; want 5", n, err)
	}
}
