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
	cases := []struct {
		name           string
		o              Options
		hostname, addr string
		base           []byte
		want           string
	}{
		{"no address", Options{}, "web", "", nil, fixedHosts},
		{"address", Options{}, "web", "10.0.0.2", nil, fixedHosts + "10.0.0.2\tweb\n"},
		{"domain", Options{Domainname: "a.org"}, "web", "10.0.0.2", nil, fixedHosts + "10.0.0.2\tweb.a.org web\n"},
		{"dotted name", Options{}, "web.a.org", "10.0.0.2", nil, fixedHosts + "10.0.0.2\tweb.a.org web\n"},
		{"added", Options{AddHost: db}, "web", "", nil, fixedHosts + "10.0.0.7\tdb\nfe80::1\tdb6\n"},
		{"the host's", Options{AddHost: db[:1]}, "web", "", []byte("1.1.1.1 a"), "1.1.1.1 a\n10.0.0.7\tdb\n"},
	}
	for _, c := range cases {
		if got := string(HostsFile(&c.o, c.hostname, c.addr, c.base)); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	if got := string(HostnameFile("web")); got != "web\n" {
		t.Errorf("hostname file %q", got)
	}
}

func TestResolvConf(t *testing.T) {
	const host = "# made by x\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\ndomain old.org\nsearch a.org b.org\noptions edns0\noptions trust-ad\nsortlist 1.2.3.4\n"
	cases := []struct {
		name string
		o    Options
		want string
	}{
		{"own network", Options{}, "nameserver 10.0.0.1\nsearch a.org b.org\noptions edns0 trust-ad\nsortlist 1.2.3.4\n"},
		{"host network", Options{Network: NetworkHost}, "nameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\nsearch a.org b.org\noptions edns0 trust-ad\nsortlist 1.2.3.4\n"},
		{"all given", Options{DNS: []string{"127.0.0.1"}, DNSSearch: []string{"c.org"}, DNSOptions: []string{"ndots:2"}}, "nameserver 127.0.0.1\nsearch c.org\noptions ndots:2\nsortlist 1.2.3.4\n"},
		{"no search", Options{DNSSearch: []string{"."}}, "nameserver 10.0.0.1\noptions edns0 trust-ad\nsortlist 1.2.3.4\n"},
	}
	for _, c := range cases {
		if got := string(ResolvConf(&c.o, []byte(host))); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	o := Options{DNSSearch: []string{".", "a"}}
	ResolvConf(&o, nil)
	if !slices.Equal(o.DNSSearch, []string{".", "a"}) {
		t.Errorf("options changed: %q", o.DNSSearch)
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 127.0.0.1\nsearch a\noptions b\n"))
	f.Add([]byte("nameserver\nsearch\n;x\n"))
	f.Fuzz(func(t *testing.T, host []byte) {
		o := &Options{}
		once := ResolvConf(o, host)
		if twice := ResolvConf(o, once); string(once) != string(twice) {
			t.Errorf("%q becomes %q", once, twice)
		}
		for line := range strings.Lines(string(once)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "nameserver" && isLoopback(f[1]) {
				t.Errorf("a loopback server is left in %q", once)
			}
		}
	})
}
