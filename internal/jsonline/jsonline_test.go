package jsonline

import (
	"encoding/json"
	"strings"
	"testing"
)

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "a\tb\r\n", "\"\\", "\x00\x1b", "é\u2028<&>", "bad \xff utf"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		b := AppendString(nil, s)
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		want, _ := json.Marshal(s)
		var back string
		json.Unmarshal(want, &back)
		if got != back {
			t.Errorf("got %q, want %q", got, back)
		}
		if strings.ContainsAny(string(b), "\n") {
			t.Errorf("%q has more than one line", b)
		}
	})
}

func TestMembers(t *testing.T) {
	for want, pairs := range map[string][]string{
		"": nil, `"a":"1"`: {"a", "1"}, `"a":"1","b":"\""`: {"a", "1", "b", `"`},
	} {
		if got := Members(pairs...); got != want {
			t.Errorf("Members(%q) = %s, want %s", pairs, got, want)
		}
	}
}
