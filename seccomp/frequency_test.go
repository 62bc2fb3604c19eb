package seccomp

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/seccomp/syscalls"
)

// The committed table is what the generator makes of the recordings.
func TestFrequenciesAreGenerated(t *testing.T) {
	out := filepath.Join(t.TempDir(), "frequency")
	cmd := exec.Command("go", "run", "gen_frequency.go", out)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("frequency.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("frequency.go differs from what gen_frequency.go makes; run go generate")
	}
}

func TestFrequencyOf(t *testing.T) {
	if !slices.IsSortedFunc(frequencies[:], func(a, b weight) int { return strings.Compare(a.name, b.name) }) {
		t.Error("not sorted by name")
	}
	sum := 0
	for _, f := range frequencies {
		if !syscalls.Known(f.name) || f.weight == 0 {
			t.Errorf("%q %d", f.name, f.weight)
		}
		if got := frequencyOf(f.name); got != f.weight {
			t.Errorf("%s: %d, want %d", f.name, got, f.weight)
		}
		sum += int(f.weight)
	}
	if sum < 9500 || sum > 10000 {
		t.Errorf("the sum is %d of 10000", sum)
	}
	for _, name := range []string{"", "reboot", "zzz", "accept44", "reads"} {
		if got := frequencyOf(name); got != 0 {
			t.Errorf("%q: %d", name, got)
		}
	}
	if read, kill := frequencyOf("read"), frequencyOf("kill"); read < 100 || read <= kill {
		t.Errorf("read %d, kill %d", read, kill)
	}
}
