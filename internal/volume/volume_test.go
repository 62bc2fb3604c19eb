package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/volume/held"
)

// store makes a store whose holders are alive if their name begins with "live".
func store(t *testing.T) *Store {
	t.Helper()
	dir := t.TempDir()
	trash := filepath.Join(dir, "trash")
	if err := os.Mkdir(trash, 0o700); err != nil {
		t.Fatal(err)
	}
	return Open(filepath.Join(dir, "volumes"), trash, func(id string) bool { return strings.HasPrefix(id, "live") })
}

func create(t *testing.T, s *Store, o CreateOptions) *Volume {
	t.Helper()
	v, _, err := s.Create(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func names(t *testing.T, s *Store) []string {
	t.Helper()
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range list {
		out = append(out, v.Name)
	}
	return out
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"data": true, "A.b_c-9": true, "a": false, "": false, ".x": false, "-x": false, "a/b": false, "..": false, "a b": false,
		"ab\x00": false, "ünder": false, strings.Repeat("a", 255): true, strings.Repeat("a", 256): false,
	} {
		if got := CheckName(name) == nil; got != ok {
			t.Errorf("CheckName(%q): ok is %v", name, got)
		}
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"data", "../x", "a\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if CheckName(name) == nil && (filepath.Base(name) != name || strings.HasPrefix(name, ".") || !filepath.IsLocal(name)) {
			t.Errorf("%q is a name", name)
		}
	})
}

// The longest name works in every step.
func TestLongName(t *testing.T) {
	s := store(t)
	name := strings.Repeat("x", 255)
	create(t, s, CreateOptions{Name: name})
	if err := s.Remove(name); err != nil {
		t.Error(err)
	}
}

func TestLife(t *testing.T) {
	s := store(t)
	if got := names(t, s); got != nil {
		t.Fatalf("an empty store has %q", got)
	}
	v := create(t, s, CreateOptions{Name: "data", Labels: map[string]string{"k": "v"}})
	if fi, err := os.Stat(v.Data()); err != nil || fi.Mode().Perm() != 0o755 {
		t.Fatalf("%v %v", fi, err)
	}
	again, made, err := s.Create(CreateOptions{Name: "data"})
	if err != nil || made || again.Labels["k"] != "v" {
		t.Fatalf("%+v %v %v", again, made, err)
	}
	for _, o := range []CreateOptions{
		{Name: "data", Labels: map[string]string{"k": "w"}},
		{Name: "data", Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}},
	} {
		if _, _, err := s.Create(o); err == nil {
			t.Errorf("%+v passed for the volume that is there", o)
		}
	}
	anon := create(t, s, CreateOptions{})
	if !anon.Anonymous() || len(anon.Name) != 64 || v.Anonymous() {
		t.Errorf("%+v", anon)
	}
	if err := s.Remove("data"); err != nil {
		t.Fatal(err)
	}
	var missing *NotFoundError
	if err := s.Remove("data"); !errors.As(err, &missing) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := s.Find("../volumes"); !errors.As(err, &missing) {
		t.Errorf("a path is found: %v", err)
	}
	if got := names(t, s); !slices.Equal(got, []string{anon.Name}) {
		t.Errorf("%q", got)
	}
}

func TestHolders(t *testing.T) {
	s := store(t)
	v := create(t, s, CreateOptions{Name: "data", Holder: "live1"})
	if err := v.Hold("dead1"); err != nil {
		t.Fatal(err)
	}
	if got := s.Holders(v); !slices.Equal(got, []string{"live1"}) {
		t.Errorf("holders %q", got)
	}
	var used *InUseError
	if err := s.Remove("data"); !errors.As(err, &used) || !slices.Equal(used.Holders, []string{"live1"}) {
		t.Fatalf("%v", err)
	}
	if err := s.Release("data", "live1", false); err != nil {
		t.Fatal(err)
	}
	if gone, _, err := s.Prune(func(*Volume) bool { return true }); err != nil || !slices.Equal(gone, []string{"data"}) {
		t.Fatalf("%q %v", gone, err)
	}
	var missing *NotFoundError
	if err := v.Hold("live1"); !errors.As(err, &missing) {
		t.Errorf("a removed volume is held: %v", err)
	}
	// Nobody wants what was made for a container that never came to be; what a
	// container left on purpose stays.
	create(t, s, CreateOptions{Holder: "dead"})
	left := create(t, s, CreateOptions{Holder: "live"})
	s.Release(left.Name, "live", false)
	if got := names(t, s); !slices.Equal(got, []string{left.Name}) {
		t.Errorf("%q", got)
	}
}

// What a process that was killed at any point leaves is no volume, does not
// stand in the way, and goes.
func TestKilled(t *testing.T) {
	s := store(t)
	create(t, s, CreateOptions{Name: "other"})
	v := create(t, s, CreateOptions{Name: "data"})
	if err := os.Remove(v.dir + "/" + held.Users); err != nil { // in the middle of Remove
		t.Fatal(err)
	}
	if _, err := s.Find("data"); err == nil {
		t.Error("a volume that is half removed is found")
	}
	if _, made, err := s.Create(CreateOptions{Name: "data"}); err != nil || !made {
		t.Errorf("%v %v", made, err)
	}
	os.Remove(v.dir + "/" + held.Users)
	if err := os.MkdirAll(s.path(newPrefix+"x/_data"), 0o700); err != nil { // in the middle of Create
		t.Fatal(err)
	}
	if got := names(t, s); !slices.Equal(got, []string{"other"}) {
		t.Errorf("%q", got)
	}
	entries, _ := os.ReadDir(s.dir)
	if len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
	// In the middle of Fill.
	v, _ = s.Find("other")
	v.Hold("live")
	os.MkdirAll(v.dir+"/fill/half", 0o700)
	from := directory(t, "whole")
	if err := v.Fill(t.Context(), from, "", "live"); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadDir(v.Data()); len(got) != 1 || got[0].Name() != "whole" {
		t.Errorf("filled with %v", got)
	}
}

// directory makes a directory with files, and opens it.
func directory(t *testing.T, files ...string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		if err := os.WriteFile(dir+"/"+f, []byte(f), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestFill(t *testing.T) {
	s := store(t)
	v := create(t, s, CreateOptions{Name: "data", Holder: "live1"})
	from := directory(t, "a")
	if err := unix.Fchmod(int(from.Fd()), 0o2750); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fchown(int(from.Fd()), 7, 8); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fsetxattr(int(from.Fd()), "user.x", []byte("y"), 0); err != nil && err != unix.ENOTSUP {
		t.Fatal(err)
	}
	fill := func(from *os.File, subpath string) {
		t.Helper()
		if err := v.Fill(t.Context(), from, subpath, "live1"); err != nil {
			t.Fatal(err)
		}
	}
	fill(from, "")
	var st unix.Stat_t
	if err := unix.Stat(v.Data(), &st); err != nil || st.Mode&0o7777 != 0o2750 || st.Uid != 7 || st.Gid != 8 {
		t.Errorf("%o %d:%d %v", st.Mode, st.Uid, st.Gid, err)
	}
	fill(directory(t, "b"), "") // not empty: nothing
	if _, err := os.Stat(v.Data() + "/b"); err == nil {
		t.Error("a volume with files was filled")
	}
	if err := os.Mkdir(v.Data()+"/sub", 0o700); err != nil {
		t.Fatal(err)
	}
	fill(directory(t, "c"), "sub")
	if b, _ := os.ReadFile(v.Data() + "/sub/c"); string(b) != "c" {
		t.Errorf("subpath has %q", b)
	}
	// One that another holds is filled where it is.
	v = create(t, s, CreateOptions{Name: "both", Holder: "live1"})
	v.Hold("live2")
	seen, err := os.Open(v.Data())
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	fill(from, "")
	if n, _ := seen.Readdirnames(-1); !slices.Equal(n, []string{"a"}) {
		t.Errorf("the other sees %q", n)
	}
}

func TestMountPoint(t *testing.T) {
	s := store(t)
	v := create(t, s, CreateOptions{Name: "data", Holder: "live1"})
	if err := unix.Mount("tmpfs", v.Data(), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(v.Data(), unix.MNT_DETACH)
	if err := v.Fill(t.Context(), directory(t, "a"), "", "live1"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(v.Data() + "/a"); err != nil {
		t.Error(err)
	}
	if err := s.Release("data", "live1", true); !errors.Is(err, held.ErrMounted) {
		t.Errorf("%v", err)
	}
	if err := s.Remove("data"); err == nil || !strings.Contains(err.Error(), "umount "+v.Data()) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(v.Data() + "/a"); err != nil {
		t.Errorf("what was mounted lost its files: %v", err)
	}
	if err := unix.Unmount(v.Data(), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("data"); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct{ o, want string }{
		{"", ""},
		{"type=tmpfs", "device"},
		{"device=/x", "type"},
		{"o=bind", "type"},
		{"type=tmpfs device=tmpfs o=size=1m,noexec,nosuid", ""},
		{"type=none device=/x o=bind,ro,nodev", ""},
		{"type=none device=/x", "bind"},
		{"type=none device=/x o=ro", "bind"},
		{"type=none device=x o=bind", "absolute"},
		{"type=none device=/x o=bind,size=1", "does not go with bind"},
		{"type=none device=/x o=rbind,rshared", "does not propagate"},
		{"typ=none", "did you mean type?"},
		{"size=1g", "quotas"},
	} {
		m := map[string]string{}
		for _, f := range strings.Fields(c.o) {
			k, v, _ := strings.Cut(f, "=")
			m[k] = v
		}
		err := checkOptions(m)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s: %v", c.o, err)
		}
	}
	m, err := parseOptions(map[string]string{"type": "ext4", "device": "/d", "o": "ro,noexec,exec,noatime,data=journal,sync"})
	if err != nil || !m.readOnly || m.set != unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOATIME || fmt.Sprint(m.data) != "[[data journal] [sync ]]" {
		t.Errorf("%+v %v", m, err)
	}
}

// No number of processes that make, hold and remove one name at once leaves it
// half there or gives it to one who does not hold it.
func TestTogether(t *testing.T) {
	s := store(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			id := fmt.Sprintf("live%d", i)
			for range 50 {
				v, _, err := s.Create(CreateOptions{Name: "data", Holder: id})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(v.Data()); err != nil {
					t.Errorf("held, and not there: %v", err)
				}
				if err := s.Remove("data"); err == nil {
					t.Error("removed under the eyes of its holder")
				}
				s.Release("data", id, false)
				s.Remove("data")
				s.List()
			}
		})
	}
	wg.Wait()
	s.Remove("data")
	if entries, _ := os.ReadDir(s.dir); len(entries) > 0 {
		t.Errorf("left: %v", entries)
	}
}
