package spec

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParsePublish(t *testing.T) {
	lo, v6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	runParse(t, "--publish", ParsePublish, []parseCase[[]Publish]{
		{in: "80", want: []Publish{{Protocol: "tcp", Port: 80}}},
		{in: "8080:80", want: []Publish{{Protocol: "tcp", HostPort: 8080, Port: 80}}},
		{in: "53:53/udp", want: []Publish{{Protocol: "udp", HostPort: 53, Port: 53}}},
		{in: "53:53/UDP", want: []Publish{{Protocol: "udp", HostPort: 53, Port: 53}}},
		{in: "127.0.0.1:8080:80", want: []Publish{{Protocol: "tcp", HostIP: lo, HostPort: 8080, Port: 80}}},
		{in: "127.0.0.1::80", want: []Publish{{Protocol: "tcp", HostIP: lo, Port: 80}}},
		{in: "[::1]:8080:80", want: []Publish{{Protocol: "tcp", HostIP: v6, HostPort: 8080, Port: 80}}},
		{in: "8000-8001:80-81", want: []Publish{{Protocol: "tcp", HostPort: 8000, Port: 80}, {Protocol: "tcp", HostPort: 8001, Port: 81}}},
		{in: "8000-8005:80", want: []Publish{{Protocol: "tcp", HostPort: 8000, HostPortEnd: 8005, Port: 80}}},
		{in: "", wantErr: "no port specified"}, {in: "x", wantErr: "invalid containerPort"}, {in: "80:x", wantErr: "invalid containerPort"},
		{in: "x:80", wantErr: "invalid hostPort"}, {in: "99999:80", wantErr: "invalid hostPort"}, {in: "80/sctp", wantErr: "use tcp or udp"},
		{in: "80/ftp", wantErr: "invalid proto"}, {in: "1-3:1-2", wantErr: "invalid ranges"}, {in: "10.0.0.300:1:1", wantErr: "invalid IP"}, {in: "0", wantErr: "port 0"},
	})
	runParse(t, "--expose", ParseExpose, []parseCase[[]string]{
		{in: "80", want: []string{"80/tcp"}}, {in: "53/udp", want: []string{"53/udp"}}, {in: "1-3", want: []string{"1/tcp", "2/tcp", "3/tcp"}},
		{in: "", wantErr: "PORT"}, {in: "80/sctp", wantErr: "use tcp or udp"}, {in: "0", wantErr: "PORT"}, {in: "9-8", wantErr: "PORT"},
	})
}

func TestAddNetwork(t *testing.T) {
	cases := []struct {
		values  []string
		mode    NetworkMode
		wanted  []string
		wantErr string
	}{
		{nil, "bridge", []string{"bridge"}, ""},
		{[]string{"bridge"}, "bridge", []string{"bridge"}, ""},
		{[]string{"default"}, "bridge", []string{"bridge"}, ""},
		{[]string{"none"}, "none", nil, ""},
		{[]string{"host"}, "host", nil, ""},
		{[]string{"container:x"}, "container:x", nil, ""},
		{[]string{"a", "name=b,alias=x"}, "a", []string{"a", "b"}, ""},
		{[]string{"a", "a"}, "", nil, "named twice"},
		{[]string{"a", "host"}, "", nil, "cannot be combined"},
		{[]string{"none", "a"}, "", nil, "cannot be combined"},
		{[]string{"container:"}, "", nil, "network's name"},
		{[]string{""}, "", nil, "network's name"},
		{[]string{"a/b"}, "", nil, "network's name"},
		{[]string{"name=host,ip=10.0.0.1"}, "", nil, "no network"},
		{[]string{"name=a,ipp=10.0.0.1"}, "", nil, "did you mean ip?"},
		{[]string{"name=a,ip=fd00::1"}, "", nil, "IPv4"},
		{[]string{"alias=a"}, "", nil, "name the network"},
	}
	for _, c := range cases {
		var o Options
		var err error
		for _, v := range c.values {
			if err == nil {
				err = o.AddNetwork(v)
			}
		}
		if c.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("%q: error %v, want one with %q", c.values, err, c.wantErr)
			}
			continue
		}
		var names []string
		for _, e := range o.Wanted() {
			names = append(names, e.Network)
		}
		if err != nil || o.NetworkMode() != c.mode || !slices.Equal(names, c.wanted) {
			t.Errorf("%q: mode %s, networks %q, error %v", c.values, o.NetworkMode(), names, err)
		}
	}
}

func TestApplyFirst(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	o := Options{}
	if err := o.ApplyFirst(Endpoint{IPv4: a, Aliases: []string{"x"}}); err != nil || o.Wanted()[0].IPv4 != a || o.Wanted()[0].Network != "bridge" {
		t.Errorf("%+v, %v", o.Wanted(), err)
	}
	if err := o.ApplyFirst(Endpoint{IPv4: b}); err == nil {
		t.Error("two addresses were accepted")
	}
	o = Options{Network: NetworkHost}
	if err := o.ApplyFirst(Endpoint{MAC: "02:00:00:00:00:01"}); err == nil {
		t.Error("an address in the host's network was accepted")
	}
}

func TestCheckNetwork(t *testing.T) {
	shared := func(o Options) Options { o.Network = "container:x"; return o }
	for _, c := range []struct {
		o    Options
		want string
	}{
		{shared(Options{}), ""},
		{shared(Options{Hostname: "x"}), "--hostname"},
		{shared(Options{DNS: []string{"1.1.1.1"}}), "--dns"},
		{shared(Options{AddHost: []HostEntry{{"a", "1.1.1.1"}}}), "--add-host"},
		{shared(Options{Publish: []Publish{{Protocol: "tcp", Port: 1}}}), "--publish"},
		{shared(Options{PublishAll: true}), "--publish"},
		{shared(Options{Expose: []string{"1/tcp"}}), "--expose"},
		{shared(Options{Sysctls: map[string]string{"net.core.somaxconn": "1"}}), "another container"},
		{Options{Network: NetworkNone, AddHost: []HostEntry{{"a", hostGateway}}}, "no way to the host"},
		{Options{AddHost: []HostEntry{{"a", hostGateway}}}, ""},
		{Options{Endpoints: []Endpoint{{Network: "bridge", Aliases: []string{"a"}}}}, "knows no names"},
	} {
		err := c.o.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

func TestPublished(t *testing.T) {
	img := &ImageConfig{ExposedPorts: map[string]struct{}{"80/tcp": {}, "443": {}, "bad": {}}}
	o := &Options{Publish: []Publish{{Protocol: "tcp", HostPort: 8080, Port: 80}}, Expose: []string{"53/udp"}}
	if got := Exposed(o, img); !slices.Equal(got, []string{"53/udp", "80/tcp", "443/tcp"}) {
		t.Errorf("exposed %q", got)
	}
	if got := Published(o, img); len(got) != 1 {
		t.Errorf("published %+v", got)
	}
	o.PublishAll = true
	if got := Published(o, img); len(got) != 3 || got[0].HostPort != 8080 || got[1].Protocol != "udp" || got[2].Port != 443 || got[2].HostPort != 0 {
		t.Errorf("all published %+v", got)
	}
}
