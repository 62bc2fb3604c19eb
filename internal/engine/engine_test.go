package engine

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

func open(t *testing.T) *Engine {
	t.Helper()
	e, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func options(name string) CreateOptions {
	return CreateOptions{Image: "img", Name: name, Resolved: &image.Image{ID: "sha256:1"}, Options: spec.Options{Args: []string{"true"}}}
}

func create(t *testing.T, e *Engine, o CreateOptions) *Container {
	t.Helper()
	c, err := e.Create(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFind(t *testing.T) {
	e := open(t)
	a, b := create(t, e, options("aa")), create(t, e, options(""))
	for _, name := range []string{a.ID, a.ID[:12], "aa", "/aa"} {
		if c, err := e.Find(name); err != nil || c.ID != a.ID {
			t.Errorf("Find(%q) = %v, %v", name, c, err)
		}
	}
	if c, err := e.Find(b.Name); err != nil || c.ID != b.ID {
		t.Errorf("Find(%q), a name made up: %v, %v", b.Name, c, err)
	}
	var missing *NotFoundError
	if _, err := e.Find("zz"); !errors.As(err, &missing) {
		t.Errorf("Find of nothing: %v", err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../containers/" + a.ID} {
		if _, err := e.Find(name); err == nil || errors.As(err, &missing) {
			t.Errorf("Find(%q): %v", name, err)
		}
	}
}

// Of many that want one name, one gets it, and the others leave nothing.
func TestOneName(t *testing.T) {
	e := open(t)
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() { _, errs[i] = e.Create(options("same")) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		var taken *UsageError
		switch {
		case err == nil:
			won++
		case !errors.As(err, &taken) || !strings.Contains(err.Error(), "already in use"):
			t.Error(err)
		}
	}
	list, err := e.List()
	if won != 1 || len(list) != 1 || err != nil {
		t.Errorf("%d got the name, %d containers, %v", won, len(list), err)
	}
	if err := list[0].Remove(false, false); err != nil {
		t.Fatal(err)
	}
	create(t, e, options("same"))
}

// What a killed command leaves is not a container, and the next list sweeps it.
func TestLeftovers(t *testing.T) {
	e := open(t)
	half := &Container{ID: newID(), Name: "half", engine: e}
	l, err := half.makeLocked()
	if err != nil {
		t.Fatal(err)
	}
	if err := half.takeName(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.List(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(half.dir()); err != nil {
		t.Fatal("a container in the making was swept under its maker's hands")
	}
	l.Close() // its maker dies
	if err := os.MkdirAll(e.path("trash", "old", "upper"), 0o755); err != nil {
		t.Fatal(err)
	}
	create(t, e, options("half")) // the name is free again
	if list, err := e.List(); len(list) != 1 || err != nil {
		t.Errorf("%d containers, %v", len(list), err)
	}
	for _, p := range []string{half.dir(), e.path("trash", "old")} {
		if _, err := os.Stat(p); err == nil {
			t.Errorf("%s is still there", p)
		}
	}
}

// A record of a process that is not there any more is mended.
func TestStateAfterTheMonitorsDeath(t *testing.T) {
	e := open(t)
	c := create(t, e, options("cc"))
	if s, err := c.State(); err != nil || s.Status != StatusCreated {
		t.Fatalf("new: %+v, %v", s, err)
	}
	for name, boot := range map[string]string{"this boot": bootID(), "another boot": "other"} {
		s := &monitor.State{Running: true, PID: os.Getpid(), PIDStart: 1, BootID: boot}
		if err := s.Write(c.dir()); err != nil {
			t.Fatal(err)
		}
		got, err := c.State()
		if err != nil || got.Running || got.ExitCode != unknownExit || got.Error == "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestStateOfALivingProcess(t *testing.T) {
	e := open(t)
	c := create(t, e, options("cc"))
	ticks, _ := monitor.ProcessStart(os.Getpid())
	s := &monitor.State{Running: true, PID: os.Getpid(), PIDStart: ticks, BootID: bootID()}
	if err := s.Write(c.dir()); err != nil {
		t.Fatal(err)
	}
	if got, err := c.State(); err != nil || got.Status != StatusRunning {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.Remove(false, false); err == nil {
		t.Error("a running container was removed")
	}
}

func TestCreateRefuses(t *testing.T) {
	e := open(t)
	profile := t.TempDir() + "/p.json"
	if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALOW"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]struct {
		options spec.Options
		want    string
	}{
		"no command":         {spec.Options{}, "no command"},
		"unknown capability": {spec.Options{Args: []string{"x"}, CapAdd: []string{"SYS_TIM"}}, "did you mean SYS_TIME"},
		"bad profile": {spec.Options{Args: []string{"x"}, Security: spec.Security{Seccomp: spec.Seccomp{Mode: spec.SeccompFile, Path: profile}}},
			"did you mean SCMP_ACT_ALLOW"},
		"no profile": {spec.Options{Args: []string{"x"}, Security: spec.Security{Seccomp: spec.Seccomp{Mode: spec.SeccompFile, Path: "/nonexistent"}}},
			"/nonexistent"},
		"no source": {spec.Options{Args: []string{"x"}, Mounts: []spec.Mount{{Type: spec.MountBind, Source: "/nonexistent", Target: "/x"}}},
			"/nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.Create(CreateOptions{Resolved: &image.Image{}, Options: o.options, Name: "nn"})
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(o.want)) {
				t.Errorf("error %v, want %q in it", err, o.want)
			}
			if ids, _ := e.ids(); len(ids) > 0 {
				t.Errorf("it left %v", ids)
			}
		})
	}
}

func TestFilterPS(t *testing.T) {
	table := "UID        PID  PPID CMD\nroot         1     0 init\nroot        42     1 sleep 42\nroot       420     1 42\n"
	var out bytes.Buffer
	if err := filterPS(table, []int{42}, &out); err != nil {
		t.Fatal(err)
	}
	if want := "UID        PID  PPID CMD\nroot        42     1 sleep 42\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if err := filterPS("UID CMD\nroot init\n", []int{1}, &out); err == nil {
		t.Error("a table without PID was taken")
	}
}

func TestRandomNames(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		n := randomName(0)
		if err := spec.CheckName(n); err != nil {
			t.Errorf("%q: %v", n, err)
		}
		seen[n] = true
	}
	if len(seen) < 150 {
		t.Errorf("only %d different names of 200", len(seen))
	}
}

// What brig ps does, for 500 containers.
func BenchmarkList(b *testing.B) {
	e, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	for range 500 {
		if _, err := e.Create(options("")); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		list, err := e.List()
		if err != nil || len(list) != 500 {
			b.Fatalf("%d containers, %v", len(list), err)
		}
		if _, errs := States(list); errs[0] != nil {
			b.Fatal(errs[0])
		}
	}
}
