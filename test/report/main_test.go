package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []string
		code     int
	}{
		{"pass and skip", `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:3: this kernel has no X\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Elapsed":1.25}`,
			[]string{"ok   p 1.2s", "p TestB: b_test.go:3: this kernel has no X", "\n1 passed, 0 failed, 1 skipped\n"}, 0},
		{"fail", `{"Action":"output","Package":"p","Test":"TestA","Output":"got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`, []string{"got 1, want 2", "FAIL p", "\n0 passed, 1 failed, 0 skipped\n"}, 1},
		{"build", `{"ImportPath":"p [p.test]","Action":"build-output","Output":"undefined: x\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"pass","Package":"q","Test":"TestQ"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`, []string{"undefined: x", "\n1 passed, 1 failed, 0 skipped\n"}, 1},
		{"nothing ran", `{"Action":"pass","Package":"p"}`, []string{"\n0 passed, 0 failed, 0 skipped\n"}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out)
			if err := r.read(strings.NewReader(tc.in)); err != nil {
				t.Fatal(err)
			}
			if code := r.close(); code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			for _, w := range tc.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%q misses %q", out.String(), w)
				}
			}
		})
	}
}
