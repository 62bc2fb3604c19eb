package early_test

import (
	"strconv"
	"strings"
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
		argv := early.Addresses([]byte(strings.Join(append(tt.args, ""), "\x00")))
		if got := early.StartsProcesses(&argv[0]); got != tt.starts {
			t.Errorf("%q: starts processes: %v", tt.args, got)
		}
		if got := early.Attends(&argv[0]); got != tt.attend {
			t.Errorf("%q: attends: %v", tt.args, got)
		}
	}
}

func TestAddresses(t *testing.T) {
	b := []byte("a\x00\x00bc\x00")
	a := early.Addresses(b)
	if len(a) != 4 || *a[0] != 'a' || *a[1] != 0 || *a[2] != 'b' || a[3] != nil {
		t.Errorf("addresses: %v", a)
	}
}

func TestDecimal(t *testing.T) {
	for _, n := range []uint{0, 3, 9, 10, 42, 99, 100, 1007, 1048576} {
		b := [32]byte{'/', 1, 1, 1, 1, 1, 1, 1, 1, 1}
		early.Decimal(&b, 1, n)
		if got, _, _ := strings.Cut(string(b[:]), "\x00"); got != "/"+strconv.Itoa(int(n)) {
			t.Errorf("%d: %q", n, got)
		}
	}
}
