package nameserver

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// world is a container's directory with the networks "lab" and "other".
func world(t *testing.T, upstream ...Server) (dir string, networks map[string]string) {
	t.Helper()
	dir = t.TempDir()
	networks = map[string]string{}
	c := Config{Upstream: upstream}
	for _, n := range []string{"lab", "other"} {
		networks[n] = filepath.Join(t.TempDir(), "endpoints")
		if err := os.Mkdir(networks[n], 0o700); err != nil {
			t.Fatal(err)
		}
		c.Networks = append(c.Networks, Network{n, networks[n]})
	}
	if err := c.Write(dir); err != nil {
		t.Fatal(err)
	}
	return dir, networks
}

// join puts a container into a network.
func join(t *testing.T, dir string, names string, addrs ...string) {
	t.Helper()
	text := "container 0123\n"
	for _, n := range strings.Fields(names) {
		text += "name " + n + "\n"
	}
	for _, a := range addrs {
		text += "address " + a + " " + Hex(string(netip.MustParseAddr(a).AsSlice())) + "\n"
	}
	for _, a := range addrs {
		if err := os.WriteFile(filepath.Join(dir, a), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func query(t *testing.T, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 77, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// say gives an answer in words.
func say(t *testing.T, b []byte) string {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		t.Fatalf("answer %x: %v", b, err)
	}
	if m.ID != 77 || !m.Response {
		t.Errorf("answer with ID %d, response %v", m.ID, m.Response)
	}
	words := []string{strings.TrimPrefix(m.RCode.String(), "RCode")}
	for _, a := range m.Answers {
		switch r := a.Body.(type) {
		case *dnsmessage.AResource:
			words = append(words, netip.AddrFrom4(r.A).String())
		case *dnsmessage.AAAAResource:
			words = append(words, netip.AddrFrom16(r.AAAA).String())
		case *dnsmessage.PTRResource:
			words = append(words, r.PTR.String())
		}
	}
	return strings.Join(words, " ")
}

func TestAnswer(t *testing.T) {
	dir, networks := world(t)
	join(t, networks["lab"], "web www 0123", "10.0.0.2", "fd00::2")
	join(t, networks["lab"], "db", "10.0.0.3")
	join(t, networks["other"], "db", "10.1.0.3")
	s := &server{dir: dir}
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		want string
	}{
		{"web.", dnsmessage.TypeA, "Success 10.0.0.2"},
		{"WeB.", dnsmessage.TypeA, "Success 10.0.0.2"},
		{"www.", dnsmessage.TypeAAAA, "Success fd00::2"},
		{"0123.lab.", dnsmessage.TypeA, "Success 10.0.0.2"},
		{"db.", dnsmessage.TypeA, "Success 10.0.0.3"}, // the first network's
		{"db.other.", dnsmessage.TypeA, "Success 10.1.0.3"},
		{"db.", dnsmessage.TypeAAAA, "Success"}, // known, but without
		{"db.", dnsmessage.TypeMX, "Success"},
		{"web.other.", dnsmessage.TypeA, "NameError"},
		{"nobody.", dnsmessage.TypeA, "NameError"},
		{"2.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "Success web.lab."},
		{"9.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError"},
		{"0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError"},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dnsmessage.TypePTR, "Success web.lab."},
	} {
		if got := say(t, s.answer(query(t, c.name, c.kind), false)); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.name, c.kind, got, c.want)
		}
	}
}

func TestAnswerFollowsTheFiles(t *testing.T) {
	dir, networks := world(t)
	s := &server{dir: dir}
	ask := func() string { return say(t, s.answer(query(t, "late.", dnsmessage.TypeA), false)) }
	if got := ask(); got != "NameError" {
		t.Error(got)
	}
	join(t, networks["lab"], "late", "10.0.0.9")
	if got := ask(); got != "Success 10.0.0.9" {
		t.Error(got)
	}
	time.Sleep(2 * settled) // so that it is kept
	for range 2 {
		if got := ask(); got != "Success 10.0.0.9" {
			t.Error(got)
		}
	}
	if err := os.Remove(filepath.Join(networks["lab"], "10.0.0.9")); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got != "NameError" {
		t.Error(got)
	}
	if err := (&Config{Networks: []Network{{"new", networks["other"]}}}).Write(dir); err != nil {
		t.Fatal(err)
	}
	join(t, networks["other"], "late", "10.1.0.9")
	if got := ask(); got != "Success 10.1.0.9" {
		t.Error(got)
	}
}

func TestAliasIsShared(t *testing.T) {
	dir, networks := world(t)
	join(t, networks["lab"], "one all", "10.0.0.2")
	join(t, networks["lab"], "two all", "10.0.0.3")
	s := &server{dir: dir}
	first := map[string]bool{}
	for range 4 {
		words := strings.Fields(say(t, s.answer(query(t, "all.", dnsmessage.TypeA), false)))
		if len(words) != 3 {
			t.Fatalf("%q", words)
		}
		first[words[1]] = true
	}
	if len(first) != 2 {
		t.Errorf("always first: %v", first)
	}
}

func TestServe(t *testing.T) {
	dir, networks := world(t)
	join(t, networks["lab"], "web", "10.0.0.2")
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	udp, tcp := file(t, pc), file(t, l)
	stop := Serve(udp, tcp, dir)
	u, err := net.Dial("udp4", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.SetDeadline(time.Now().Add(30 * time.Second))
	u.Write([]byte("no question")) // no answer, and no harm
	u.Write(query(t, "web.", dnsmessage.TypeA))
	buf := make([]byte, 512)
	n, err := u.Read(buf)
	if err != nil || say(t, buf[:n]) != "Success 10.0.0.2" {
		t.Fatalf("%x, %v", buf[:n], err)
	}
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	for range 2 {
		if err := writeFrame(c, query(t, "web.", dnsmessage.TypeA)); err != nil {
			t.Fatal(err)
		}
		b, err := readFrame(c)
		if err != nil || say(t, b) != "Success 10.0.0.2" {
			t.Fatalf("%x, %v", b, err)
		}
	}
	stop()
	pc.Close()
	l.Close()
	if _, err := net.Dial("tcp4", l.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

// file takes a socket out of its net type.
func file(t *testing.T, c interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAnswers(t *testing.T) {
	q := query(t, "a.example.", dnsmessage.TypeA)
	good := append([]byte(nil), q...)
	good[2] |= 0x80
	change := func(i int, v byte) []byte {
		b := append([]byte(nil), good...)
		b[i] = v
		return b
	}
	for name, c := range map[string]struct {
		a    []byte
		want bool
	}{
		"answer":           {good, true},
		"question":         {q, false},
		"another ID":       {change(0, 9), false},
		"another name":     {change(13, 'b'), false},
		"another case":     {change(13, 'A'), true},
		"another type":     {change(len(good)-3, 28), false},
		"short":            {good[:11], false},
		"without question": {append(append([]byte(nil), good[:5]...), 0, 0, 0, 0, 0, 0, 0)[:12], true},
		"cut":              {good[:20], false},
	} {
		if got := answers(c.a, q); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Whatever a container sends, and whatever its files hold, there is one answer at
// most, it is one, and nothing panics.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x00\x00\x01\x00\x01"), "name web\naddress 10.0.0.2 0a000002\n")
	f.Add([]byte("\x00\x07\x81\x00"), "")
	f.Fuzz(func(t *testing.T, q []byte, endpoint string) {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, "10.0.0.2"), []byte(endpoint), 0o600)
		(&Config{Networks: []Network{{"lab", dir}}}).Write(dir)
		s := &server{dir: dir}
		a := s.answer(q, false)
		if a == nil {
			return
		}
		var p dnsmessage.Parser
		if h, err := p.Start(a); err != nil || !h.Response || len(q) < 2 || h.ID != uint16(q[0])<<8|uint16(q[1]) {
			t.Errorf("%x is answered by %x", q, a)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("network lab /x\nserver 0a000001 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range parseConfig(b).Upstream {
			if len(s.Addr) != 4 && len(s.Addr) != 16 {
				t.Errorf("%q gives the server %x", b, s.Addr)
			}
		}
	})
}

// upstream is a name server on an address of the loopback interface, whose answer
// tells over which transport it was asked.
func upstream(t *testing.T, ip string) Server {
	t.Helper()
	pc, err := net.ListenPacket("udp4", ip+":53")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", ip+":53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close(); l.Close() })
	reply := func(q []byte, last byte) []byte {
		var p dnsmessage.Parser
		h, _ := p.Start(q)
		question, _ := p.Question()
		return respond(h, &question, dnsmessage.RCodeSuccess, []dnsmessage.ResourceBody{&dnsmessage.AResource{A: [4]byte{192, 0, 2, last}}})
	}
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			forged := reply(buf[:n], 66)
			forged[0]++
			pc.WriteTo(forged, from) // with another ID: not to be believed
			pc.WriteTo(reply(buf[:n], 17), from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if q, err := readFrame(c); err == nil {
				writeFrame(c, reply(q, 6))
			}
			c.Close()
		}
	}()
	a := netip.MustParseAddr(ip).As4()
	return Server{Addr: string(a[:])}
}

func TestForward(t *testing.T) {
	deaf := Server{Addr: "\x7f\x4d\x00\x09"} // nobody listens there
	there := upstream(t, "127.77.0.1")
	dir, _ := world(t, deaf, there)
	s := &server{dir: dir}
	q := query(t, "www.example.org.", dnsmessage.TypeA)
	if got := say(t, s.answer(q, false)); got != "Success 192.0.2.17" {
		t.Errorf("UDP: %s", got)
	}
	if got := say(t, s.answer(q, true)); got != "Success 192.0.2.6" {
		t.Errorf("TCP: %s", got)
	}
	dir, _ = world(t, deaf)
	if got := say(t, (&server{dir: dir}).answer(q, false)); got != "ServerFailure" {
		t.Errorf("none: %s", got)
	}
}
