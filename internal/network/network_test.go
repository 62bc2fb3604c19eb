package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
)

func store(t *testing.T, alive func(string) bool) *Store {
	t.Helper()
	if alive == nil {
		alive = func(string) bool { return true }
	}
	return Open(t.TempDir(), false, alive)
}

func make1(t *testing.T, s *Store, o CreateOptions) *Network {
	t.Helper()
	n, err := s.Create(o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func prefixes(list ...string) (all []netip.Prefix) {
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func member(i int) *Member {
	return &Member{Container: fmt.Sprintf("%064x", i), Name: fmt.Sprintf("c%d", i)}
}

func nothing([]netip.Addr) error { return nil }

func TestCreateRefuses(t *testing.T) {
	s := store(t, nil)
	make1(t, s, CreateOptions{Name: "lab", Subnets: prefixes("10.254.1.0/24"), Bridge: "brtest1"})
	addr := func(a string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(a)} }
	for want, o := range map[string]CreateOptions{
		"already exists":             {Name: "lab"},
		"reserved":                   {Name: "host"},
		"use letters":                {Name: "a b"},
		"belongs to network lab":     {Name: "x", Bridge: "brtest1"},
		"overlaps with network lab":  {Name: "x", Subnets: prefixes("10.254.0.0/16")},
		"bits behind":                {Name: "x", Subnets: prefixes("10.253.1.1/24")},
		"no room":                    {Name: "x", Subnets: prefixes("10.253.1.0/31")},
		"one subnet of a family":     {Name: "x", Subnets: prefixes("10.253.1.0/24", "10.253.2.0/24")},
		"not in a subnet":            {Name: "x", Subnets: prefixes("10.253.1.0/24"), Gateways: addr("10.253.2.1")},
		"cannot be the gateway":      {Name: "x", Subnets: prefixes("10.253.1.0/24"), Gateways: addr("10.253.1.255")},
		"not a part of a subnet":     {Name: "x", Subnets: prefixes("10.253.1.0/24"), Ranges: prefixes("10.253.0.0/16")},
		"overlaps with a route of t": {Name: "x", Subnets: prefixes("127.0.0.0/8")},
	} {
		if want == "overlaps with a route of t" && !hasRoute(netip.MustParsePrefix("127.0.0.0/8")) {
			continue
		}
		if _, err := s.Create(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("networks: %v, %v", list, err)
	}
}

func hasRoute(p netip.Prefix) bool {
	taken, _ := takenPrefixes()
	return slices.ContainsFunc(taken, func(c claim) bool { return c.prefix.Overlaps(p) })
}

func TestAllocateAll(t *testing.T) {
	s := store(t, nil)
	n := make1(t, s, CreateOptions{Name: "tiny", Subnets: prefixes("10.254.9.0/29", "fd00:9::/64")})
	var mu sync.Mutex
	got := map[string]bool{}
	var wg sync.WaitGroup
	for i := range 5 { // of 8: the network, the gateway, the broadcast address
		wg.Go(func() {
			addrs, err := s.allocate(n, &Wish{}, member(i), nil, nothing)
			mu.Lock()
			defer mu.Unlock()
			if err != nil || len(addrs) != 2 {
				t.Errorf("%v, %v", addrs, err)
				return
			}
			if got[addrs[0].String()] || got[addrs[1].String()] {
				t.Errorf("%v was given twice", addrs)
			}
			got[addrs[0].String()], got[addrs[1].String()] = true, true
		})
	}
	wg.Wait()
	if _, err := s.allocate(n, &Wish{}, member(9), nil, nothing); err == nil || !strings.Contains(err.Error(), "no address is free") {
		t.Errorf("a sixth: %v", err)
	}
	if got["10.254.9.1"] || got["10.254.9.0"] || got["10.254.9.7"] {
		t.Errorf("given: %v", got)
	}
}

// Who died without a word keeps an address only until it is wanted.
func TestAllocateSweeps(t *testing.T) {
	dead := member(1).Container
	alive := true
	s := store(t, func(id string) bool { return id != dead || alive })
	n := make1(t, s, CreateOptions{Name: "tiny", Subnets: prefixes("10.254.8.0/30")})
	wish := &Wish{IPv4: netip.MustParseAddr("10.254.8.2")}
	if _, err := s.allocate(n, wish, member(1), nil, nothing); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*Wish{wish, {}} {
		if _, err := s.allocate(n, w, member(2), nil, nothing); err == nil {
			t.Error("an address in use was given")
		}
	}
	alive = false
	if _, err := s.allocate(n, &Wish{}, member(2), nil, nothing); err != nil {
		t.Error(err)
	}
}

func TestNotAtOnceAgain(t *testing.T) {
	s := store(t, nil)
	n := make1(t, s, CreateOptions{Name: "small", Subnets: prefixes("10.254.7.0/24"), Ranges: prefixes("10.254.7.16/30")})
	var got []string
	for i := range 5 {
		addrs, err := s.allocate(n, &Wish{}, member(i), nil, nothing)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, addrs[0].String())
		os.Remove(s.endpointPath(n, addrs[0]))
	}
	if want := []string{"10.254.7.16", "10.254.7.17", "10.254.7.18", "10.254.7.19", "10.254.7.16"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestEndpointFile(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}
	ports := []Port{{"tcp", netip.Addr{}, 8080, 80}, {"udp", netip.MustParseAddr("::1"), 53, 53}}
	m := member(3)
	b := endpointFile(m, "02:00:00:00:00:01", []string{"db", m.Name}, ports, addrs)
	want := &Endpoint{Container: m.Container, Name: m.Name, Names: []string{m.Name, m.Container[:12], "db"}, Addrs: addrs, Ports: ports, MAC: "02:00:00:00:00:01"}
	if got, err := ParseEndpoint(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
}

func FuzzParseEndpoint(f *testing.F) {
	f.Add([]byte("container a\nname n\naddress 10.0.0.2 0a000002\npublish tcp * 80 80\n"))
	f.Add([]byte("publish tcp 1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEndpoint(b)
		if err == nil && (e.Container == "" || e.Name == "" || len(e.Addrs) == 0) {
			t.Errorf("%q becomes %+v", b, e)
		}
	})
}

func TestFreePrefix(t *testing.T) {
	s := Open("/x", true, nil)
	p, err := s.freePrefix(Default, nil)
	if err != nil || p.String() != "10.87.0.0/16" {
		t.Errorf("%v, %v", p, err)
	}
	if p, _ = s.freePrefix(Default, []claim{{p, "x"}}); p.String() != "10.88.0.0/16" {
		t.Errorf("the next: %v", p)
	}
	if p, _ = s.freePrefix("lab", nil); p.String() != "10.86.255.0/24" {
		t.Errorf("another network: %v", p)
	}
	if p, _ = s.freePrefix("lab", []claim{{p, "x"}}); p.String() != "10.86.254.0/24" {
		t.Errorf("the next: %v", p)
	}
	if _, err = s.freePrefix("lab", prefixesClaimed("10.0.0.0/8")); err == nil {
		t.Error("a taken one was given")
	}
	other := Open("/y", false, nil)
	for _, name := range []string{Default, "lab"} {
		if p, err := other.freePrefix(name, nil); err != nil || !netip.MustParsePrefix("10.0.0.0/8").Contains(p.Addr()) || p.Masked() != p {
			t.Errorf("%s of another root: %v, %v", name, p, err)
		}
	}
}

func prefixesClaimed(p string) []claim { return []claim{{netip.MustParsePrefix(p), "x"}} }

func TestBind(t *testing.T) {
	lo := netip.MustParseAddr("127.0.0.1")
	for _, proto := range []string{"tcp", "udp"} {
		ports, held, err := Bind([]PortWish{{Port: Port{Protocol: proto, Port: 80}}, {Port: Port{Protocol: proto, HostIP: lo, Port: 81}}})
		if err != nil {
			t.Fatal(err)
		}
		taken := ports[0].HostPort
		if taken == 0 || ports[1].HostPort == 0 {
			t.Errorf("%+v", ports)
		}
		for _, ip := range []netip.Addr{{}, lo} {
			if _, _, err := Bind([]PortWish{{Port: Port{Protocol: proto, HostIP: ip, HostPort: taken, Port: 80}}}); err == nil || !strings.Contains(err.Error(), "address already in use") {
				t.Errorf("%s port %d at %v twice: %v", proto, taken, ip, err)
			}
		}
		again, more, err := Bind([]PortWish{{Port: Port{Protocol: proto, HostPort: taken, Port: 80}, Last: min(taken, 65000) + 50}})
		if taken < 65000 && (err != nil || again[0].HostPort <= taken) {
			t.Errorf("range from %d: %+v, %v", taken, again, err)
		}
		for _, f := range append(held, more...) {
			f.Close()
		}
		if _, held, err = Bind([]PortWish{{Port: Port{Protocol: proto, HostPort: taken, Port: 80}}}); err != nil {
			t.Errorf("%s port %d, freed: %v", proto, taken, err)
		}
		for _, f := range held {
			f.Close()
		}
	}
}

// A program that listens has its port; one that has ended does not, though its
// connections linger.
func TestBindBesidesAServer(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	wish := []PortWish{{Port: Port{Protocol: "tcp", HostPort: port, Port: 80}}}
	if _, _, err := Bind(wish); err == nil {
		t.Error("a port in use was taken")
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Close() // first: the server's side stays in TIME_WAIT
	c.Close()
	l.Close()
	_, held, err := Bind(wish)
	if err != nil {
		t.Errorf("after the server's end: %v", err)
	}
	for _, f := range held {
		f.Close()
	}
}
