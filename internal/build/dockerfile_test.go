package build

import (
	"slices"
	"strings"
	"testing"
)

func TestImages(t *testing.T) {
	arg := func(name string) (string, bool) { return "given", name == "GIVEN" }
	for _, c := range []struct {
		text string
		want []string
	}{
		{"FROM debian", []string{"debian"}},
		{"from scratch\nCOPY a /", nil},
		{"# syntax=docker/dockerfile:1\n\nFROM --platform=linux/arm64 a:1 AS One\nFROM b\nCOPY --chown=1 --from=one /x /\nCOPY --from=0 /x /\nCOPY --from=c:2 /y /\nFROM ONE", []string{"a:1", "b", "c:2"}},
		{"ARG V=12\nARG W=${V}-slim U\nFROM debian:$W\nARG V=13\nFROM x:${V}y\nFROM z:${U:-def}${V:+set}${U:+no}", []string{"debian:12-slim", "x:12y", "z:defset"}},
		{"ARG GIVEN=default\nFROM x:$GIVEN", []string{"x:given"}},
		{"FROM \\\n  # a comment within\n  debian \\\n  AS x\nRUN --mount=type=bind,from=tools:1,target=/t true", []string{"debian", "tools:1"}},
		{"# escape=`\nFROM `\nwin\nRUN a \\\nFROM b", []string{"win", "b"}},
		{"FROM\nFROM a\nFROM a", []string{"a"}},
		{"FROM \"quoted\"\nFROM ${UNSET}\nFROM ${broken", []string{"quoted"}},
		{"RUN echo --from=x\nLABEL a=FROM", nil},
	} {
		got, err := Images(strings.NewReader(c.text), arg)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, %v, want %q", c.text, got, err, c.want)
		}
	}
}

func FuzzImages(f *testing.F) {
	for _, s := range []string{"FROM a AS b\nCOPY --from=b x y", "ARG A=${B:-c}\nFROM $A${", "# escape=`\nFROM `\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		names, err := Images(strings.NewReader(s), func(string) (string, bool) { return "", false })
		for _, n := range names {
			if err == nil && (n == "" || n == "scratch" || strings.ContainsAny(n, " \n")) && !strings.Contains(s, "$") {
				t.Errorf("%q gives the name %q", s, n)
			}
		}
	})
}

func TestArgs(t *testing.T) {
	t.Setenv("FROMENV", "env")
	j := &job{file: "/c/sub/Other", Options: Options{
		Context: "/c", Args: []string{"A=1", "FROMENV", "UNSET"}, Labels: []string{"l=v"}, Target: "t", Platform: "linux/arm64", NoCache: true,
		Secrets: []string{"id=s"}, AddHosts: []string{"h:1.2.3.4"},
	}}
	got := strings.Join(buildkitArgs(j, []layout{{"debian:12", "base-0", "/l", "sha256:x"}}, "/out"), " ")
	want := "build --frontend dockerfile.v0 --local context=/c --local dockerfile=/c/sub --opt filename=Other --output type=docker,dest=/out " +
		"--opt target=t --opt platform=linux/arm64 --opt build-arg:A=1 --opt build-arg:FROMENV=env --opt label:l=v --opt add-hosts=h:1.2.3.4 " +
		"--secret id=s --no-cache --oci-layout base-0=/l --opt context:debian:12=oci-layout://base-0@sha256:x"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	got = strings.Join(buildahArgs(j, "/iid"), " ")
	want = "build --format docker --layers --force-rm --iidfile /iid --file /c/sub/Other --pull=false --no-cache --target t --platform linux/arm64 " +
		"--build-arg A=1 --build-arg FROMENV --build-arg UNSET --label l=v --secret id=s --add-host h:1.2.3.4 /c"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
