package image

import (
	"reflect"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestChange(t *testing.T) {
	set := func(keys ...string) map[string]struct{} {
		m := map[string]struct{}{}
		for _, k := range keys {
			m[k] = struct{}{}
		}
		return m
	}
	for line, want := range map[string]v1.ImageConfig{
		`CMD ["/bin/sh", "-c"]`:     {Cmd: []string{"/bin/sh", "-c"}},
		`CMD echo "a b"`:            {Cmd: []string{"/bin/sh", "-c", `echo "a b"`}},
		`CMD`:                       {},
		`ENTRYPOINT ["x"]`:          {Entrypoint: []string{"x"}},
		`ENV A=1 B="2 3" C=a\ b`:    {Env: []string{"A=1", "B=2 3", "C=a b"}},
		`ENV A one two`:             {Env: []string{"A=one two"}},
		`EXPOSE 80 53/UDP 1-2/sctp`: {ExposedPorts: set("80/tcp", "53/udp", "1-2/sctp")},
		`LABEL a=b c='d e'`:         {Labels: map[string]string{"a": "b", "c": "d e"}},
		`  user   me:group `:        {User: "me:group"},
		`VOLUME /a /b`:              {Volumes: set("/a", "/b")},
		`VOLUME ["/a b"]`:           {Volumes: set("/a b")},
		`WORKDIR /w`:                {WorkingDir: "/w"},
		`WORKDIR w`:                 {WorkingDir: "/w"},
		`STOPSIGNAL SIGQUIT`:        {StopSignal: "SIGQUIT"},
	} {
		var c v1.ImageConfig
		if err := Change(&c, line); err != nil || !reflect.DeepEqual(c, want) {
			t.Errorf("%s: %+v, %v; want %+v", line, c, err, want)
		}
	}
	for _, line := range []string{"", "RUN x", "CMD [", `CMD ["a"`, "ENV", "ENV =x", "ENV A=1 B", `ENV A="x`, "EXPOSE x", "EXPOSE 0", "EXPOSE 70000", "EXPOSE 2-1", "EXPOSE 1/icmp", "USER", `VOLUME [""]`} {
		var c v1.ImageConfig
		if err := Change(&c, line); err == nil {
			t.Errorf("%s: no error, but %+v", line, c)
		} else {
			wantError(t, err, "change")
		}
	}
	c := v1.ImageConfig{Env: []string{"A=1", "B=2"}}
	if err := Change(&c, "ENV A=3"); err != nil || !reflect.DeepEqual(c.Env, []string{"A=3", "B=2"}) {
		t.Error(c.Env, err)
	}
}

func FuzzChange(f *testing.F) {
	for _, s := range []string{`CMD ["a"]`, `ENV A="b c" D=\ `, "EXPOSE 1-2/tcp", "LABEL a=b", "VOLUME [\"\"]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var c v1.ImageConfig
		Change(&c, s)
	})
}
