package seccomp

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	moby "github.com/moby/profiles/seccomp"
)

// The committed profile is what the generator makes.
func TestDefaultIsGenerated(t *testing.T) {
	out := filepath.Join(t.TempDir(), "default")
	cmd := exec.Command("go", "run", "gen.go", out)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("default.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("default.go differs from what gen.go makes; run go generate")
	}
}

// The built-in profile is Docker's, both as a Go value and as its JSON file.
func TestDefaultIsDockers(t *testing.T) {
	value, err := json.Marshal(moby.DefaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(profileModule(t), "default.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{value, file} {
		want, err := ParseProfile("default profile", text)
		if err != nil {
			t.Fatal(err)
		}
		got := Default()
		if len(got.Syscalls) != len(want.Syscalls) {
			t.Fatalf("%d rules, want %d", len(got.Syscalls), len(want.Syscalls))
		}
		for i := range want.Syscalls {
			want.Syscalls[i].Line = 0
			if !reflect.DeepEqual(got.Syscalls[i], want.Syscalls[i]) {
				t.Errorf("syscalls[%d]: got %+v\nwant %+v", i, got.Syscalls[i], want.Syscalls[i])
			}
		}
		got.Syscalls, want.Syscalls = nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
}

// What one caller does with the profile does not reach another.
func TestDefaultIsFresh(t *testing.T) {
	p := Default()
	p.DefaultAction = Allow
	p.Syscalls[0].Names = []string{"mount"}
	p.ArchMap[0].SubArches = nil
	if q := Default(); q.DefaultAction == Allow || len(q.Syscalls[0].Names) == 1 || q.ArchMap[0].SubArches == nil {
		t.Error("changed")
	}
	// The names count, though the calls were found already.
	if got := decide(t, p, target(0), 165); got != Allow {
		t.Errorf("mount: %v", got)
	}
	p.DefaultAction = Errno(1)
	if got := decide(t, p, target(0), 165); got != Allow {
		t.Errorf("mount: %v", got)
	}
	if got := decide(t, p, target(0), 0); got == Allow {
		t.Errorf("read: %v", got)
	}
}
