package nearest

import (
	"slices"
	"testing"
)

func TestName(t *testing.T) {
	names := []string{"SYS_TIME", "SYS_ADMIN", "CHOWN", "KILL", "NET_ADMIN"}
	for _, tc := range []struct{ want, got string }{
		{"SYS_TMIE", "SYS_TIME"},
		{"SYSTIME", "SYS_TIME"},
		{"CHWON", "CHOWN"},
		{"KIL", "KILL"},
		{"NETADMIN", "NET_ADMIN"},
		{"FROBNICATE", ""},
		{"", ""},
		{string(make([]byte, 1000)), ""},
	} {
		if got := Name(tc.want, slices.Values(names)); got != tc.got {
			t.Errorf("Name(%.20q) = %q, want %q", tc.want, got, tc.got)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		d    int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"ab", "ba", 1},
		{"kitten", "sitting", 3}, {"read", "raed", 1}, {"open", "openat", 2},
	} {
		if d := distance(tc.a, tc.b); d != tc.d {
			t.Errorf("distance(%q, %q) = %d, want %d", tc.a, tc.b, d, tc.d)
		}
		if d := distance(tc.b, tc.a); d != tc.d {
			t.Errorf("distance(%q, %q) = %d, want %d", tc.b, tc.a, d, tc.d)
		}
	}
}
