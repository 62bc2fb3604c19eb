package early_test

import (
	"slices"
	"testing"

	"github.com/brig-run/brig/internal/early"
)

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		args           []string
		starts, attend bool
	}{
		{nil, false, false},
		{[]string{"brig", "run", "x"}, false, true}, // attend counts only with the other
		{[]string{"brig", "runtime", "run", "x"}, true, true},
		{[]string{"/usr/bin/brig-runtime", "--root", "/r", "create", "--bundle", "b", "x"}, true, false},
		{[]string{"brig-runtime", "run", "--detach", "x"}, true, false},
		{[]string{"brig-runtime", "exec", "x", "ls", "-d"}, true, false},
		{[]string{"brig-runtime", "exec", "x", "ls"}, true, true},
		{[]string{"brig-runtime", "state", "run"}, false, true},
		{[]string{"my-brig-runtime", "run", "x"}, false, true},
		{[]string{"brig-runtime"}, false, false},
	} {
		if got := early.StartsProcesses(tt.args); got != tt.starts {
			t.Errorf("%q: starts processes: %v", tt.args, got)
		}
		if got := early.Attends(tt.args); got != tt.attend {
			t.Errorf("%q: attends: %v", tt.args, got)
		}
	}
}

func TestWords(t *testing.T) {
	b := []byte("a\x00\x00bc\x00")
	if got := early.Words(b); !slices.Equal(got, []string{"a", "", "bc"}) {
		t.Errorf("words: %q", got)
	}
	a := early.Addresses(b)
	if len(a) != 4 || *a[0] != 'a' || *a[1] != 0 || *a[2] != 'b' || a[3] != nil {
		t.Errorf("addresses: %v", a)
	}
	if got := string(early.Decimal(1007)); got != "1007" {
		t.Errorf("decimal: %s", got)
	}
}
