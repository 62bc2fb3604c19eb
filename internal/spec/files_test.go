package spec

import (
	"slices"
	"strings"
	"testing"
)

const fixedHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n" +
	"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"

func TestHostsFile(t *testing.T) {
	db := []HostEntry{{"db", "10.0.0.7"}, {"db6", "fe80::1"}}
	gateway := []HostEntry{{"host", hostGateway}}
	cases := []struct {
		name string
		o    Options
		h    Hosts
		want string
	}{
		{"no address", Options{}, Hosts{Hostname: "web"}, fixedHosts},
		{"address", Options{}, Hosts{Hostname: "web", Addrs: []string{"10.0.0.2"}}, fixedHosts + "10.0.0.2\tweb\n"},
		{"two addresses", Options{}, Hosts{Hostname: "web", Addrs: []string{"10.0.0.2", "fd00::2"}}, fixedHosts + "10.0.0.2\tweb\nfd00::2\tweb\n"},
		{"domain", Options{Domainname: "a.org"}, Hosts{Hostname: "web", Addrs: []string{"10.0.0.2"}}, fixedHosts + "10.0.0.2\tweb.a.org web\n"},
		{"dotted name", Options{}, Hosts{Hostname: "web.a.org", Addrs: []string{"10.0.0.2"}}, fixedHosts + "10.0.0.2\tweb.a.org web\n"},
		{"added", Options{AddHost: db}, Hosts{Hostname: "web"}, fixedHosts + "10.0.0.7\tdb\nfe80::1\tdb6\n"},
		{"the host's", Options{AddHost: db[:1]}, Hosts{Hostname: "web", Base: []byte("1.1.1.1 a")}, "1.1.1.1 a\n10.0.0.7\tdb\n"},
		{"gateway", Options{AddHost: gateway}, Hosts{Gateway: "10.0.0.1"}, fixedHosts + "10.0.0.1\thost\n"},
		{"no gateway", Options{AddHost: gateway}, Hosts{}, fixedHosts},
	}
	for _, c := range cases {
		if got := string(HostsFile(&c.o, c.h)); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	if got := string(HostnameFile("web")); got != "web\n" {
		t.Errorf("hostname file %q", got)
	}
}

func TestResolvConf(t *testing.T) {
	const host = "# made by x\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\ndomain old.org\nsearch a.org b.org\noptions edns0\noptions trust-ad\nsortlist 1.2.3.4\n"
	const (
		local = "nameserver 127.0.0.53\nsearch a.org\n"
		rest  = "search a.org b.org\noptions edns0 trust-ad\nsortlist 1.2.3.4\n"
	)
	all := []string{"127.0.0.53", "10.0.0.1", "::1"}
	cases := []struct {
		name     string
		o        Options
		host     string
		names    bool
		want     string
		upstream []string // of the embedded name server
	}{
		{"default network", Options{}, host, false, "nameserver 10.0.0.1\n" + rest, nil},
		{"no network", Options{Network: NetworkNone}, host, false, "nameserver 10.0.0.1\n" + rest, nil},
		{"host network", Options{Network: NetworkHost}, host, false, "nameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\n" + rest, nil},
		{"all given", Options{DNS: []string{"127.0.0.1"}, DNSSearch: []string{"c.org"}, DNSOptions: []string{"ndots:2"}}, host, false, "nameserver 127.0.0.1\nsearch c.org\noptions ndots:2\nsortlist 1.2.3.4\n", nil},
		{"no search", Options{DNSSearch: []string{"."}}, host, false, "nameserver 10.0.0.1\noptions edns0 trust-ad\nsortlist 1.2.3.4\n", nil},
		{"local servers only", Options{}, local, false, "nameserver 127.0.0.11\nsearch a.org\noptions ndots:0\n", []string{"127.0.0.53"}},
		{"local servers, no network", Options{Network: NetworkPrivate}, local, false, "search a.org\n", nil},
		{"missing", Options{}, "", false, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n", nil},
		{"names", Options{Network: "lab"}, host, true, "nameserver 127.0.0.11\nsearch a.org b.org\noptions edns0 trust-ad ndots:0\nsortlist 1.2.3.4\n", all},
		{"names, missing", Options{Network: "lab"}, "", true, "nameserver 127.0.0.11\noptions ndots:0\n", []string{"8.8.8.8", "8.8.4.4"}},
		{"names, given", Options{Network: "lab", DNS: []string{"10.9.9.9"}, DNSOptions: []string{"ndots:1"}}, host, true, "nameserver 127.0.0.11\nsearch a.org b.org\noptions ndots:1\nsortlist 1.2.3.4\n", []string{"10.9.9.9"}},
	}
	for _, c := range cases {
		got := ResolvConf(&c.o, []byte(c.host), c.names)
		if string(got.File) != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got.File, c.want)
		}
		if got.Embedded != (c.upstream != nil) || !slices.Equal(got.Upstream, c.upstream) {
			t.Errorf("%s: embedded %v, upstream %q", c.name, got.Embedded, got.Upstream)
		}
	}
	o := Options{DNSSearch: []string{".", "a"}}
	ResolvConf(&o, nil, false)
	if !slices.Equal(o.DNSSearch, []string{".", "a"}) {
		t.Errorf("options changed: %q", o.DNSSearch)
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 127.0.0.1\nsearch a\noptions b\n"))
	f.Add([]byte("nameserver\nsearch\n;x\n"))
	f.Fuzz(func(t *testing.T, host []byte) {
		o := &Options{Network: NetworkPrivate}
		once := ResolvConf(o, host, false).File
		if twice := ResolvConf(o, once, false).File; string(once) != string(twice) {
			t.Errorf("%q becomes %q", once, twice)
		}
		for line := range strings.Lines(string(once)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "nameserver" && isLoopback(f[1]) {
				t.Errorf("a loopback server is left in %q", once)
			}
		}
	})
}
