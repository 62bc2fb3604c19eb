//go:build amd64

package record

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// TestDenialsOnly sees all kinds of denials with the programs that record
// nothing else.
func TestDenialsOnly(t *testing.T) {
	recorder(t) // skips where nothing can be recorded
	r, err := OpenDenials("")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	group := cgroup(t, fmt.Sprintf("record-denials-%d", os.Getpid()))
	target, err := CgroupTarget(group)
	if err != nil {
		t.Fatal(err)
	}
	target.AtExec = true
	dir, pid := files(t), victimOf(t)
	eachCase(t, func(t *testing.T, name string, c denialCase) {
		s := start(t, r, target)
		child := startChild(t, name, into(t, group), dir, strconv.Itoa(pid))
		if err := child.end(); (err != nil) != c.dies {
			t.Fatalf("the child: %v: %s", err, child.errs.String())
		}
		rec := stop(t, s)
		complete(t, rec)
		if !rec.DenialsOnly || len(rec.Syscalls) > 0 {
			t.Errorf("recorded: %+v", rec)
		}
		checkDenials(t, rec, c.want)
	})
}

// TestDenialsOnlyTargets: a recorder of denials does not look at who is there.
func TestDenialsOnlyTargets(t *testing.T) {
	recorder(t)
	r, err := OpenDenials("")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, target := range []Target{{PID: os.Getpid()}, {Cgroup: 1}, {MountNS: 1, AtExec: true}} {
		if s, err := r.Start(target); err == nil {
			s.Stop()
			t.Errorf("%+v was taken", target)
		}
	}
}

// TestFile: programs come out of the file as they went in, and a file
// that is spoilt in any way is made anew.
func TestFile(t *testing.T) {
	t.Run("all", func(t *testing.T) {
		testFile(t, func(file string) (*Recorder, error) { return Open(2, file) })
	})
	t.Run("denials", func(t *testing.T) { testFile(t, OpenDenials) })
}

func testFile(t *testing.T, openIt func(string) (*Recorder, error)) {
	recorder(t)
	file := filepath.Join(t.TempDir(), "programs")
	open := func() []byte {
		t.Helper()
		r, err := openIt(file)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := r.Start(Target{Cgroup: 1, AtExec: true}); err != nil {
			t.Error(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	change := func(from, to string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) }
	}
	first := open()
	before, _ := os.Stat(file)
	open()
	if after, _ := os.Stat(file); !os.SameFile(before, after) {
		t.Error("the file was made anew without need")
	}
	key := string(first[len(`{"Key":"`):][:8])
	for name, spoil := range map[string]func([]byte) []byte{
		"empty":        func([]byte) []byte { return nil },
		"cut":          func(b []byte) []byte { return b[:len(b)/2] },
		"other kernel": change(key, "00000000"),
		"no code":      change(`"Code":"`, `"Code":"","Was":"`),
		"other code":   change(`"Code":"`, `"Code":"AAAA`),
		"missing map":  change(`"Name":"targets"`, `"Name":"none"`),
		"far map":      change(`"At":`, `"At":99`),
		"no such type": change(`"Type":`, `"Type":99`),
	} {
		t.Run(name, func(t *testing.T) {
			wrong := spoil(slices.Clone(first))
			if bytes.Equal(wrong, first) {
				t.Fatal("nothing is spoilt")
			}
			if err := os.WriteFile(file, wrong, 0o600); err != nil {
				t.Fatal(err)
			}
			if got := open(); bytes.Equal(got, wrong) {
				t.Error("the file was kept")
			}
		})
	}
}

// TestNoTracepoint: on a kernel without cap_capable the rest is recorded, and
// one line says what is not.
func TestNoTracepoint(t *testing.T) {
	recorder(t)
	cache, has, err := kernelTypes()
	if err != nil {
		t.Fatal(err)
	}
	without := func(tracepoint string) bool { return tracepoint != "cap_capable" && has(tracepoint) }
	group := cgroup(t, fmt.Sprintf("record-old-%d", os.Getpid()))
	target, err := CgroupTarget(group)
	if err != nil {
		t.Fatal(err)
	}
	target.AtExec = true
	for _, args := range []*argTable{nil, newArgTable()} {
		p, err := fit(cache, without, args)
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.open(1, args)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		s := start(t, r, target)
		startChild(t, "seccomp/EPERM", into(t, group)).mustEnd()
		rec := stop(t, s)
		checkDenials(t, rec, denied("EPERM", false))
		if !slices.Equal(rec.Notes, []string{noCapabilities}) || len(rec.Capabilities) > 0 {
			t.Errorf("notes %q, capabilities %+v", rec.Notes, rec.Capabilities)
		}
	}
}

// TestNoSyscallTracepoints: without those nothing can be recorded, and one line
// says why.
func TestNoSyscallTracepoints(t *testing.T) {
	recorder(t)
	cache, has, err := kernelTypes()
	if err != nil {
		t.Fatal(err)
	}
	_, err = fit(cache, func(tracepoint string) bool { return tracepoint != "sys_exit" && has(tracepoint) }, nil)
	if err == nil || err.Error() != "this kernel has no trace point sys_exit, which recording needs (CONFIG_FTRACE_SYSCALLS)" {
		t.Errorf("%v", err)
	}
}
