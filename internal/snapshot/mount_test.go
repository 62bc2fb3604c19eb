package snapshot

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/tree"
)

// methods are the ways to mount. All three work on every kernel since 6.5, so
// that the tests of the older ones are true to life.
var methods = map[string]func(plan) (int, error){
	"one option per layer": mountAppending,
	"one joined option":    mountJoined,
	"mount(2)":             mountByPage,
}

// mountedBy mounts in one of the ways.
func mountedBy(t *testing.T, s *Store, method string, o MountOptions) string {
	t.Helper()
	dirs, err := s.lowerDirs(o)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := methods[method](plan{dirs, o.Upper, o.Work, o.Volatile})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return tree.FDPath(fd) + "/."
}

func TestMountMethods(t *testing.T) {
	dir := memoryDir(t)
	s := openStore(t, dir+"/layers")
	chain := unpackAll(t, s, []entry{file("a", "1"), file("b", "1"), file("d/x", "1")}, []entry{whiteout(".wh.a"), opaque("d"), file("d/y", "2")})
	for method := range methods {
		if method == "one option per layer" && !appendsLower() {
			continue // since Linux 6.5
		}
		t.Run(method, func(t *testing.T) {
			upper, work, err := PrepareUpper(dir + "/" + strings.ReplaceAll(method, " ", "_"))
			if err != nil {
				t.Fatal(err)
			}
			root := mountedBy(t, s, method, MountOptions{Lower: stringsOf(chain), Upper: upper, Work: work})
			if err := os.WriteFile(root+"/new", []byte("3"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(root + "/b"); err != nil {
				t.Fatal(err)
			}
			want := []string{"d/", "d/y=2", "new=3"}
			if got := contents(t, root); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if got := contents(t, upper); !slices.Equal(got, []string{"b char", "new=3"}) {
				t.Errorf("upper has %v", got)
			}
			view := mountedBy(t, s, method, MountOptions{Lower: stringsOf(chain)})
			if got := contents(t, view); !slices.Equal(got, []string{"b=1", "d/", "d/y=2"}) {
				t.Errorf("read-only view: %v", got)
			}
			if err := os.WriteFile(view+"/new", nil, 0o644); !errors.Is(err, unix.EROFS) {
				t.Errorf("write to the view: %v", err)
			}
		})
	}
}

func TestManyLayers(t *testing.T) {
	dir := memoryDir(t)
	s := openStore(t, dir+"/layers")
	var layers [][]entry
	for i := range 150 {
		layer := []entry{file(fmt.Sprintf("f%03d", i), fmt.Sprint(i)), file("top", fmt.Sprint(i))}
		if i%3 == 2 {
			layer = append(layer, whiteout(fmt.Sprintf(".wh.f%03d", i-1)))
		}
		layers = append(layers, layer)
	}
	chain := unpackAll(t, s, layers...)
	var want []string
	for i := range 150 {
		if i%3 != 1 {
			want = append(want, fmt.Sprintf("f%03d=%d", i, i))
		}
	}
	want = append(want, "top=149")
	for method := range methods {
		if method == "one option per layer" && !appendsLower() {
			continue
		}
		upper, work, err := PrepareUpper(dir + "/" + strings.ReplaceAll(method, " ", "_"))
		if err != nil {
			t.Fatal(err)
		}
		// "one joined option" is too long here, and turns to mount(2) by itself.
		root := mountedBy(t, s, method, MountOptions{Lower: stringsOf(chain), Upper: upper, Work: work})
		if got := contents(t, root); !slices.Equal(got, want) {
			t.Errorf("%s: got %v", method, got)
		}
	}
	root := mounted(t, s, MountOptions{Lower: stringsOf(chain)})
	if got := contents(t, root); !slices.Equal(got, want) {
		t.Errorf("read-only: got %v", got)
	}
}

// Paths that overlayfs would take for lists or escapes, and long ones.
func TestOddPaths(t *testing.T) {
	for _, odd := range []string{`back\slash`, "co:lon", "com,ma", "new\nline", "spa ce", strings.Repeat("long", 60), "lowerdir=x"} {
		dir := memoryDir(t) + "/" + odd
		s := openStore(t, dir+"/layers")
		chain := unpackAll(t, s, []entry{file("a", "1")}, []entry{file("b", "2")})
		for method := range methods {
			if method == "one option per layer" && !appendsLower() {
				continue
			}
			upper, work, err := PrepareUpper(dir + "/" + strings.ReplaceAll(method, " ", "_"))
			if err != nil {
				t.Fatal(err)
			}
			root := mountedBy(t, s, method, MountOptions{Lower: stringsOf(chain), Upper: upper, Work: work})
			if got := contents(t, root); !slices.Equal(got, []string{"a=1", "b=2"}) {
				t.Errorf("%q, %s: %v", odd, method, got)
			}
		}
	}
}

func TestNoLayers(t *testing.T) {
	dir := memoryDir(t)
	s := openStore(t, dir+"/layers")
	upper, work, err := PrepareUpper(dir + "/container")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []MountOptions{{}, {Upper: upper, Work: work}} {
		root := mounted(t, s, o)
		if got := contents(t, root); len(got) != 0 {
			t.Errorf("got %v", got)
		}
		if err := os.WriteFile(root+"/f", nil, 0o644); (err == nil) != (o.Upper != "") {
			t.Errorf("%v: write: %v", o, err)
		}
	}
}

// Two containers share their layers, and what one writes the other never sees.
func TestSharedLayers(t *testing.T) {
	dir := memoryDir(t)
	s := openStore(t, dir+"/layers")
	chain := unpackAll(t, s, []entry{file("f", "base")})
	var roots []string
	for _, name := range []string{"one", "two"} {
		upper, work, err := PrepareUpper(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, mounted(t, s, MountOptions{Lower: stringsOf(chain), Upper: upper, Work: work}))
	}
	if err := os.WriteFile(roots[0]+"/f", []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, roots[1]); !slices.Equal(got, []string{"f=base"}) {
		t.Errorf("the other sees %v", got)
	}
	if got := contents(t, lowerOf(t, s, chain[0])); !slices.Equal(got, []string{"f=base"}) {
		t.Errorf("the layer has %v", got)
	}
}

func TestMountErrors(t *testing.T) {
	dir := memoryDir(t)
	s := openStore(t, dir+"/layers")
	chain := stringsOf(unpackAll(t, s, []entry{file("f", "x")}))
	upper, work, err := PrepareUpper(dir + "/container")
	if err != nil {
		t.Fatal(err)
	}
	missing := string(digest.FromString("missing"))
	for _, test := range []struct {
		name string
		o    MountOptions
		err  string
	}{
		{"missing layer", MountOptions{Lower: []string{chain[0], missing}, Upper: upper, Work: work}, "no such layer"},
		{"path for a layer", MountOptions{Lower: []string{"/etc"}}, `chain ID "/etc": not a digest`},
		{"path in a digest", MountOptions{Lower: []string{"sha256:../" + strings.Repeat("a", 61)}}, "not a digest"},
		{"upper without work", MountOptions{Lower: chain, Upper: upper}, "give both or none"},
		{"missing upper", MountOptions{Lower: chain, Upper: dir + "/nowhere", Work: work}, "no such file or directory"},
		{"work inside of upper", MountOptions{Lower: chain, Upper: upper, Work: upper + "/w"}, "mount root of 1 layers"},
		{"too many layers", MountOptions{Lower: slices.Repeat(chain, 501)}, "501 layers: the kernel's overlayfs takes 500 at most"},
	} {
		if test.name == "work inside of upper" {
			if err := os.Mkdir(test.o.Work, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		f, err := s.Mount(test.o)
		if err == nil {
			f.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", test.name, err, test.err)
		}
		t.Logf("%s: %v", test.name, err)
	}
	if _, err := s.Mount(MountOptions{Lower: []string{missing}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing layer: %v", err)
	}
}

func TestMountLeaksNoDescriptors(t *testing.T) {
	dir := memoryDir(t) + `/with\backslash` // all paths are held by descriptors
	s := openStore(t, dir+"/layers")
	chain := stringsOf(unpackAll(t, s, []entry{file("f", "x")}))
	upper, work, err := PrepareUpper(dir + "/container")
	if err != nil {
		t.Fatal(err)
	}
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	good := MountOptions{Lower: chain, Upper: upper, Work: work}
	bad := MountOptions{Lower: chain, Upper: upper, Work: dir + "/nowhere"}
	before := count()
	for range 10 {
		f, err := s.Mount(good)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if _, err := s.Mount(bad); err == nil {
			t.Fatal("mounted without a work directory")
		}
		dirs, _ := s.lowerDirs(good)
		for method, mount := range methods {
			if fd, err := mount(plan{lower: dirs, upper: upper, work: work}); err == nil {
				unix.Close(fd)
			} else if method != "one option per layer" {
				t.Error(err)
			}
			if _, err := mount(plan{lower: dirs, upper: upper, work: bad.Work}); err == nil {
				t.Error("mounted without a work directory")
			}
		}
		if _, err := unpackBytes(s, makeTar(t, file("a/b", ""), hardlink("c", "a/b"), hardlink("x", "nothing"))); err == nil {
			t.Error("unpacked a broken layer")
		}
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}

// A volatile root can be mounted again, and shows what was written before.
func TestVolatile(t *testing.T) {
	dir := memoryDir(t)
	s := openStore(t, dir+"/layers")
	chain := stringsOf(unpackAll(t, s, []entry{file("f", "x")}))
	upper, work, err := PrepareUpper(dir + "/container")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		f, err := s.Mount(MountOptions{Lower: chain, Upper: upper, Work: work, Volatile: true})
		if err != nil {
			t.Fatal(err)
		}
		root := tree.FDPath(int(f.Fd())) + "/."
		if i == 0 {
			err = os.WriteFile(root+"/new", []byte("y"), 0o644)
		}
		if got := contents(t, root); err != nil || !slices.Equal(got, []string{"f=x", "new=y"}) {
			t.Errorf("mount %d: %v, %v", i, got, err)
		}
		f.Close()
	}
	for method := range methods {
		if method == "one option per layer" && !appendsLower() {
			continue
		}
		upper, work, err := PrepareUpper(dir + "/" + strings.ReplaceAll(method, " ", "_"))
		if err != nil {
			t.Fatal(err)
		}
		mountedBy(t, s, method, MountOptions{Lower: chain, Upper: upper, Work: work, Volatile: true})
		if _, err := os.Stat(work + "/work/incompat/volatile"); err != nil {
			t.Errorf("%s: not volatile: %v", method, err)
		}
	}
	if f, err := s.Mount(MountOptions{Lower: chain, Volatile: true}); err != nil {
		t.Errorf("a read-only view: %v", err)
	} else {
		f.Close()
	}
}

func TestRelease(t *testing.T) {
	for _, test := range []struct {
		in           string
		major, minor int
	}{
		{"6.18.44-fc-v669", 6, 18}, {"5.14.0-427.el9.x86_64", 5, 14}, {"6.5", 6, 5}, {"6.5-rc1", 6, 5}, {"7.0.0", 7, 0}, {"", 0, 0}, {"x.y", 0, 0},
	} {
		if major, minor := release(test.in); major != test.major || minor != test.minor {
			t.Errorf("%q: got %d.%d", test.in, major, minor)
		}
	}
}
