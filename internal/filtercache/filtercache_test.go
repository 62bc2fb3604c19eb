package filtercache

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/brig-run/brig/seccomp/bpf"
)

// entry returns a valid program that differs by n.
func entry(n uint32) *Entry {
	return &Entry{Program: []bpf.Instruction{{Op: 0x20, K: 0}, {Op: 0x06, K: 0x7ff00000 + n}}, Flags: 4, Notify: n%2 == 1, Warnings: []string{fmt.Sprint("w", n)}}
}

func key(t *testing.T, words ...string) Key {
	t.Helper()
	var list [][]byte
	for _, w := range words {
		list = append(list, []byte(w))
	}
	k, ok := NewKey(list...)
	if !ok {
		t.Fatal("no key for this program")
	}
	return k
}

func TestKeysDiffer(t *testing.T) {
	seen := map[Key]bool{}
	for _, words := range [][]string{{}, {""}, {"", ""}, {"a", "b"}, {"ab", ""}, {"", "ab"}, {"b", "a"}} {
		k := key(t, words...)
		if seen[k] {
			t.Errorf("%q has the key of others", words)
		}
		if seen[k] = true; k != key(t, words...) {
			t.Errorf("%q has two keys", words)
		}
	}
}

func TestKeeps(t *testing.T) {
	c := Cache{filepath.Join(t.TempDir(), "deep", "filters")}
	a, b := key(t, "a"), key(t, "b")
	if c.Load(a) != nil {
		t.Error("a cache that is not there gives a filter")
	}
	c.Save(a, entry(0))
	c.Save(b, entry(1))
	for k, want := range map[Key]*Entry{a: entry(0), b: entry(1)} {
		if got := c.Load(k); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if c.Load(key(t, "c")) != nil {
		t.Error("a filter for a key that was never kept")
	}
	if f := c.Load(b).Filter(); !f.Listener || f.Flags != 4 || len(f.Program) != 2 || f.Program[1].K != 0x7ff00001 {
		t.Errorf("as the runtime takes it: %+v", f)
	}
	fi, err := os.Stat(c.Dir)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", fi, err)
	}
}

// Whatever has become of a file, the cache gives the filter or none.
func TestDamaged(t *testing.T) {
	c := Cache{t.TempDir()}
	k, other := key(t, "a"), key(t, "b")
	c.Save(k, entry(0))
	whole, err := os.ReadFile(c.path(k))
	if err != nil {
		t.Fatal(err)
	}
	put := func(k Key, b []byte) {
		t.Helper()
		if err := os.WriteFile(c.path(k), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for n := range whole {
		if put(k, whole[:n]); c.Load(k) != nil {
			t.Fatalf("the first %d of %d bytes are taken", n, len(whole))
		}
		changed := append([]byte(nil), whole...)
		changed[n] ^= 1
		if put(k, changed); c.Load(k) != nil {
			t.Fatalf("byte %d changed, and it is taken", n)
		}
	}
	if put(other, whole); c.Load(other) != nil {
		t.Error("a filter under another's name is taken")
	}
	if put(k, whole); c.Load(k) == nil {
		t.Error("the whole file is not taken")
	}
}

func TestBounded(t *testing.T) {
	c := Cache{t.TempDir()}
	for i := range uint32(3 * maxFilters) {
		k := key(t, fmt.Sprint(i))
		if c.Save(k, entry(i)); c.Load(k) == nil {
			t.Fatalf("filter %d is not kept", i)
		}
	}
	if files, err := os.ReadDir(c.Dir); err != nil || len(files) > maxFilters {
		t.Errorf("%d files, %v", len(files), err)
	}
}
