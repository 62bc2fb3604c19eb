package monitor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func TestStartSurvivesItsMessage(t *testing.T) {
	want := &Start{
		Dir: "/d", Trash: "/t", Lock: "/l", BootID: "b", CloneFlag: 1 << 33, Size: 7,
		Regs: []uint8{5, 6}, HasPIDNS: true, HasCgroup: true, Cgroups: []string{"/c1", "/c2"}, TTY: true, OpenStdin: true,
		StdinOnce: true, Attach: Stdout | Stderr, OwnPIDNS: true, Leash: true,
		Log:    Log{Path: "/log", MaxSize: 10, MaxFiles: 3, Compress: true, Buffer: 7, Attributes: `"a":"b"`, Journal: "A=b\n"},
		Events: "/e", Health: true, Restarts: 3, Delay: 1 << 40, Self: "/brig", Root: "/root",
		Changeable: Changeable{NameLink: "/n", Attributes: `"name":"n"`, Remove: true, Restart: RestartOnFailure, MaxRetries: 4},
	}
	got, err := decodeStart(want.encode()[1:])
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestHealthSurvivesItsMessage(t *testing.T) {
	want := &Health{Exec: Exec{Size: 9, Regs: []uint8{1, 2}, HasPIDNS: true, ID: "i", Command: "c"}, Interval: 1, Timeout: 2, StartPeriod: 3, StartInterval: 4, Retries: 5}
	got, err := decodeHealth(want.encode()[1:])
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add((&Start{Dir: "/d", Cgroups: []string{"a"}, Regs: []uint8{1}}).encode()[1:])
	f.Add((&Exec{Size: 9, Regs: []uint8{1, 2}}).encode()[1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeStart(b); err == nil {
			if _, err := decodeStart(s.encode()[1:]); err != nil {
				t.Errorf("what was decoded cannot be encoded: %v", err)
			}
		}
		decodeExec(b)
		decodeHealth(b)
	})
}

// The log must be what encoding/json reads back, for any bytes.
func FuzzLog(f *testing.F) {
	for _, s := range []string{"", "plain\n", "a\tb\r\n", "\"quoted\\\"\n", "\x00\x1b[0m\n", "é\u2028<&>\n", "bad \xff utf\n", "no end"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		path := filepath.Join(t.TempDir(), "log")
		s := &stream{log: newLog(Log{Path: path}), name: "stdout"}
		if cut < 0 || cut > len(text) {
			cut = len(text) / 2
		}
		s.write(text[:cut])
		s.write(text[cut:])
		s.end()
		got, lines := readLog(t, path)
		want := strings.ToValidUTF8(string(text), "\ufffd")
		if utf8.Valid(text) && got != string(text) {
			t.Errorf("logged %q, want %q", got, text)
		}
		if strings.Count(got, "\n") != strings.Count(want, "\n") {
			t.Errorf("logged %q, want the lines of %q", got, want)
		}
		for _, l := range lines {
			if strings.Count(l, "\n") > 1 {
				t.Errorf("two lines in one record: %q", l)
			}
		}
	})
}

func readLog(t *testing.T, path string) (all string, records []string) {
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return "", nil
	}
	for line := range strings.Lines(string(b)) {
		var r struct {
			Log    string
			Stream string
			Time   time.Time
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("record %q: %v", line, err)
		}
		if r.Stream != "stdout" || r.Time.IsZero() {
			t.Errorf("record %q lacks its stream or time", line)
		}
		all += r.Log
		records = append(records, r.Log)
	}
	return all, records
}

// A line longer than a record becomes several, as with Docker's json-file.
func TestLongLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := &stream{log: newLog(Log{Path: path}), name: "stdout"}
	text := strings.Repeat("x", 3*maxLine+10) + "\n"
	s.write([]byte(text))
	s.end()
	all, records := readLog(t, path)
	if all != text || len(records) != 4 {
		t.Errorf("got %d records of %d bytes, want 4 of %d", len(records), len(all), len(text))
	}
}

// Of each size and number of files: all that is kept is the end of what was
// written, in order, and no file is larger than allowed.
func TestRotation(t *testing.T) {
	for _, c := range []struct{ size, files, kept int }{{1000, 3, 3}, {1000, 1, 1}, {200, 5, 5}, {100, 2, 2}, {1 << 20, 3, 1}} {
		path := filepath.Join(t.TempDir(), "log")
		var compressed []string
		s := &stream{log: newLog(Log{Path: path, MaxSize: int64(c.size), MaxFiles: c.files, Compress: true}), name: "stdout"}
		s.log.compress = func(path string) <-chan int {
			compressed = append(compressed, path)
			done := make(chan int, 1)
			done <- 0
			return done
		}
		var want string
		for i := range 200 {
			line := strings.Repeat("x", i%7) + strconv.Itoa(i) + "\n"
			want += line
			s.write([]byte(line))
		}
		var got string
		files := 0
		for n := c.files; n >= 0; n-- {
			name := path + "." + strconv.Itoa(n)
			if n == 0 {
				name = path
			}
			fi, err := os.Stat(name)
			if err != nil {
				continue
			}
			files++
			if fi.Size() > int64(c.size) {
				t.Errorf("%+v: %s has %d bytes", c, name, fi.Size())
			}
			all, _ := readLog(t, name)
			got += all
		}
		if files != c.kept || got == "" || !strings.HasSuffix(want, got) {
			t.Errorf("%+v: %d files with %q", c, files, got)
		}
		if (len(compressed) > 0) != (c.kept > 1) {
			t.Errorf("%+v: compressed %q", c, compressed)
		}
	}
}

func TestNextDelay(t *testing.T) {
	var d time.Duration
	for _, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000} {
		if d = nextDelay(d, time.Second); d != want*time.Millisecond {
			t.Errorf("got %s, want %dms", d, want)
		}
	}
	if d = nextDelay(d, 10*time.Second); d != 100*time.Millisecond {
		t.Errorf("after a long run: %s", d)
	}
}

func TestStateIsReadBack(t *testing.T) {
	dir := t.TempDir()
	want := State{Running: true, PID: 7, PIDStart: 1 << 40, Monitor: 8, BootID: "boot", StartedAt: time.Now().UTC().Round(0),
		FinishedAt: time.Unix(0, 5).UTC(), ExitCode: 137, OOMKilled: true, Restarting: true, RestartCount: 3, RestartDelay: 1 << 33,
		Error: "a \"quoted\"\nline", Cgroups: []string{"/a", "/b"}}
	if err := want.Write(dir); err != nil {
		t.Fatal(err)
	}
	if got := readState(t, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func readState(t *testing.T, dir string) (s State) {
	b, err := os.ReadFile(filepath.Join(dir, StateFile))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// On a full disk the end of a container is still recorded.
func TestStateOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	if err := (&State{Running: true, PID: 7, Cgroups: []string{"/c"}}).Write(dir); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for buf := make([]byte, 4096); err == nil; {
		_, err = f.Write(buf)
	}
	if err := (&State{PID: 7, ExitCode: 3, Cgroups: []string{"/c"}}).Write(dir); err != nil {
		t.Fatal(err)
	}
	if got := readState(t, dir); got.Running || got.ExitCode != 3 {
		t.Errorf("got %+v", got)
	}
}

func TestProcessStart(t *testing.T) {
	ticks, ok := ProcessStart(os.Getpid())
	again, _ := ProcessStart(os.Getpid())
	if !ok || ticks == 0 || ticks != again {
		t.Errorf("own start: %d, %d, %v", ticks, again, ok)
	}
	if _, ok := ProcessStart(1 << 22); ok {
		t.Error("a process that cannot be has a start")
	}
}

func TestFreeNameLeavesAnothers(t *testing.T) {
	dir := t.TempDir()
	name, lock := filepath.Join(dir, "name"), filepath.Join(dir, "lock")
	if err := os.Symlink("other", name); err != nil {
		t.Fatal(err)
	}
	FreeName(name, "mine", lock)
	if owner, _ := os.Readlink(name); owner != "other" {
		t.Errorf("the name of another container is gone")
	}
	// The container has another name by now.
	if err := os.Symlink("mine", filepath.Join(dir, "renamed")); err != nil {
		t.Fatal(err)
	}
	FreeName(name, "mine", lock)
	if _, err := os.Lstat(filepath.Join(dir, "renamed")); err == nil {
		t.Errorf("the new name of a renamed container is still there")
	}
	FreeName(name, "other", lock)
	if _, err := os.Lstat(name); err == nil {
		t.Errorf("the name is still there")
	}
}

// What a log cannot take at once waits, up to its bound; what is too much is left
// out, whole lines at a time.
func TestQueue(t *testing.T) {
	q := newQueue(10)
	for _, line := range []string{"first and long\n", "four\n", "x\n"} {
		q.put(&stream{line: []byte(line)}) // the first finds nothing that waits
	}
	var got string
	for _, s := range q.take() {
		got += string(s.line)
	}
	for _, line := range []string{"123456\n", "four\n", "x\n"} {
		q.put(&stream{line: []byte(line)})
	}
	q.close()
	for _, s := range q.take() {
		got += string(s.line)
	}
	if want := "first and long\n123456\nx\n"; got != want || q.take() != nil {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLogWithBuffer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l := newLog(Log{Path: path, Buffer: 1 << 20, MaxSize: 2000, MaxFiles: 100})
	out, errs := &stream{log: l, name: "stdout"}, &stream{log: l, name: "stderr"}
	for i := range 100 {
		out.write(fmt.Appendf(nil, "line %d\nbeg", i))
		errs.write([]byte("e\n"))
		out.write([]byte("un\n"))
	}
	out.write([]byte("rest"))
	out.end()
	errs.end()
	l.close()
	var lines int
	files, _ := filepath.Glob(path + "*")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines += strings.Count(string(b), "\n")
	}
	if last, err := os.ReadFile(path); lines != 301 || err != nil || !strings.Contains(string(last), `"log":"rest"`) {
		t.Errorf("%d lines in %d files, the last %s, %v", lines, len(files), last, err)
	}
	var none *logFile
	none.close()
}
