package seccomp

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// slow returns what the library's decoder makes of a text.
func slow(data []byte) (node, error) {
	d := decoder{}
	return d.decode(data)
}

func checkScan(t *testing.T, data []byte) bool {
	t.Helper()
	fast, ok := scan(data)
	if !ok {
		return false
	}
	want, err := slow(data)
	if err != nil {
		t.Fatalf("%q: read, but %v", data, err)
	}
	if !reflect.DeepEqual(fast, want) {
		t.Fatalf("%q:\n got %+v\nwant %+v", data, fast, want)
	}
	return true
}

func TestScan(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(profileModule(t), "default.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !checkScan(t, text) {
		t.Error("Docker's profile is not plain")
	}
	for _, tc := range []struct {
		text string
		ok   bool
	}{
		{`{}`, true}, {` { "a" : [ 1 , -20 , 0 , true , false , null , "x" , { } , [ ] ] } ` + "\n", true},
		{"{\n\"a\":\n1,\r\n\t\"b\": [\n2\n]}", true}, {`"text"`, true}, {`-0`, true},
		{``, false}, {`{`, false}, {`{"a"}`, false}, {`{"a":1,}`, false}, {`[1,]`, false}, {`[1 2]`, false}, {`{a:1}`, false},
		{`01`, false}, {`1.5`, false}, {`1e5`, false}, {`-`, false}, {`+1`, false}, {`1x`, false}, {`truex`, false}, {`nul`, false},
		{`"a`, false}, {`"a\n"`, false}, {"\"a\tb\"", false}, {`"é"`, false}, {`{"a":1,"a":2}`, false}, {`{} {}`, false},
	} {
		if got := checkScan(t, []byte(tc.text)); got != tc.ok {
			t.Errorf("%s: %v", tc.text, got)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte(`{"a": [1, "b", null, {}]}`))
	f.Add([]byte("[\n\n1]"))
	f.Fuzz(func(t *testing.T, data []byte) { checkScan(t, data) })
}
