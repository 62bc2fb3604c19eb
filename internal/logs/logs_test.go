package logs

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// line is the n-th record of a log, a second after the one before.
func line(n int) string {
	return fmt.Sprintf(`{"log":"%d\n","stream":"stdout","time":%q}`+"\n", n, epoch.Add(time.Duration(n)*time.Second).Format(time.RFC3339Nano))
}

// write makes a log of the files given by their numbers of records, the oldest
// first, and compresses those before the last but one.
func write(t *testing.T, counts ...int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	n := 0
	for i, count := range counts {
		name := path
		if back := len(counts) - 1 - i; back > 0 {
			name += "." + strconv.Itoa(back)
		}
		var text string
		for range count {
			text += line(n)
			n++
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if i < len(counts)-2 {
			if err := Compress(name, gzip.BestSpeed); err != nil {
				t.Fatal(err)
			}
		}
	}
	return path
}

func read(t *testing.T, path string, o Options) string {
	t.Helper()
	var got []string
	if err := Read(path, o, func(r *Record) { got = append(got, strings.TrimSpace(r.Log)) }); err != nil {
		t.Fatal(err)
	}
	return strings.Join(got, " ")
}

func numbers(from, to int) string {
	var s []string
	for ; from < to; from++ {
		s = append(s, strconv.Itoa(from))
	}
	return strings.Join(s, " ")
}

func TestRead(t *testing.T) {
	for _, counts := range [][]int{{10}, {4, 6}, {3, 3, 4}, {1, 2, 3, 4}, {10, 0}, {5, 0, 5}} {
		path := write(t, counts...)
		for _, tail := range []int{-1, 0, 1, 3, 4, 5, 9, 10, 11, 1000} {
			from := 0
			if tail >= 0 {
				from = max(0, 10-tail)
			}
			if got := read(t, path, Options{Tail: tail}); got != numbers(from, 10) {
				t.Errorf("%v: the last %d: %s", counts, tail, got)
			}
		}
		if got := read(t, path, Options{Tail: -1, Since: epoch.Add(3 * time.Second), Until: epoch.Add(7 * time.Second)}); got != "3 4 5 6 7" {
			t.Errorf("%v: a span: %s", counts, got)
		}
	}
	if got := read(t, filepath.Join(t.TempDir(), "none"), Options{Tail: 5}); got != "" {
		t.Errorf("of no file: %s", got)
	}
}

func TestSeekTail(t *testing.T) {
	long := strings.Repeat("x", 70<<10) + "\n"
	for _, tt := range []struct {
		text string
		n    int
		want string
	}{
		{"a\nb\nc\n", 2, "b\nc\n"}, {"a\nb\nc\n", 0, ""}, {"a\nb\nc\n", 9, "a\nb\nc\n"}, {"", 3, ""},
		{"a\nb\nc", 1, "c"}, {long + long + "z\n", 2, long + "z\n"}, {"\n\n\n", 2, "\n\n"},
	} {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(tt.text)
		if _, err := seekTail(f, tt.n); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		got.ReadFrom(f)
		f.Close()
		if got.String() != tt.want {
			t.Errorf("the last %d of %d bytes are %d bytes, want %d", tt.n, len(tt.text), got.Len(), len(tt.want))
		}
	}
}

// A reader that follows sees each record once, whatever becomes of the files
// while it waits.
func TestFollowOverRotations(t *testing.T) {
	for name, rotate := range map[string]func(path string, step int){
		"never": func(string, int) {},
		"plain": func(path string, step int) {
			if step%3 == 0 {
				os.Rename(path+".1", path+".2")
				os.Rename(path, path+".1")
			}
		},
		"two at once": func(path string, step int) {
			if step%4 == 0 {
				os.Rename(path, path+".2")
				os.WriteFile(path+".1", []byte(line(1000+step)), 0o600)
			}
		},
		"compressed": func(path string, step int) {
			if step%3 == 0 {
				os.Rename(path, path+".1")
				Compress(path+".1", gzip.BestSpeed)
			}
		},
		"replaced": func(path string, step int) {
			if step%3 == 0 {
				os.Remove(path)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			step := 0
			seen := map[string]int{}
			more := func() bool {
				if step++; step > 20 {
					return false
				}
				f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
				if err != nil {
					t.Error(err)
					return false
				}
				// In two pieces: a record may be seen before it is whole.
				text := line(step)
				f.WriteString(text[:7])
				f.WriteString(text[7:])
				f.Close()
				rotate(path, step)
				return true
			}
			if err := Read(path, Options{Tail: -1, More: more}, func(r *Record) { seen[strings.TrimSpace(r.Log)]++ }); err != nil {
				t.Fatal(err)
			}
			for n := 1; n <= 20; n++ {
				if name == "replaced" && n%3 == 0 && n > 1 {
					continue // it may be gone before anybody sees it
				}
				if got := seen[strconv.Itoa(n)]; got != 1 {
					t.Errorf("record %d was seen %d times", n, got)
				}
			}
		})
	}
}

func TestCompressLeavesWhatWasRenamed(t *testing.T) {
	path := write(t, 3, 3)
	if err := Compress(path+".1", gzip.BestSpeed); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + ".1"); err == nil {
		t.Error("the plain file is still there")
	}
	if got := read(t, path, Options{Tail: -1}); got != numbers(0, 6) {
		t.Errorf("read %s", got)
	}
	if err := Compress(path+".1", gzip.BestSpeed); err == nil {
		t.Error("no error for a file that is not there")
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 2 {
		t.Errorf("left: %v", entries)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(line(1)+line(2)), 1)
	f.Add([]byte("{\"log\":\"torn"), 3)
	f.Fuzz(func(t *testing.T, b []byte, tail int) {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		all, some := 0, 0
		if err := Read(path, Options{Tail: -1}, func(*Record) { all++ }); err != nil {
			t.Fatal(err)
		}
		if err := Read(path, Options{Tail: max(tail, 0)}, func(*Record) { some++ }); err != nil {
			t.Fatal(err)
		}
		if some > all || some > max(tail, 0) {
			t.Errorf("%d of %d records for a tail of %d", some, all, tail)
		}
	})
}

// While the monitor gives the files other numbers, one is missing for a moment.
// Where it stays missing, what there is is read.
func TestMissingNumber(t *testing.T) {
	line := func(n int) []byte {
		return fmt.Appendf(nil, "{\"log\":\"%d\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:0%dZ\"}\n", n, n)
	}
	for _, filled := range []bool{true, false} {
		path := filepath.Join(t.TempDir(), "log")
		for suffix, n := range map[string]int{"": 3, ".2": 1} {
			if err := os.WriteFile(path+suffix, line(n), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want := "1\n3\n"
		if filled {
			want = "1\n2\n3\n"
			time.AfterFunc(10*time.Millisecond, func() {
				os.WriteFile(path+".new", line(2), 0o600)
				os.Rename(path+".new", path+".1")
			})
		}
		var got string
		if err := Read(path, Options{Tail: -1}, func(r *Record) { got += r.Log }); err != nil || got != want {
			t.Errorf("filled %v: read %q, %v; want %q", filled, got, err, want)
		}
	}
}
