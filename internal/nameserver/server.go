package nameserver

import (
	"encoding/binary"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/brig-run/brig/internal/socket"
)

const (
	// maxQuestions bounds what is answered at a time. Further questions by UDP are
	// dropped, and asked again.
	maxQuestions = 128
	maxUDP       = 4096             // bytes; as much as EDNS lets clients say nowadays
	ttl          = 10               // seconds that an answer holds; a container's address may change
	idle         = 10 * time.Second // that a TCP connection may be
)

// server is the name server of one container.
type server struct {
	dir   string
	slots chan struct{}
	turn  atomic.Uint32 // rotates the addresses of a name

	mu    sync.Mutex
	table *table
}

// Serve answers the questions that come to the sockets, which it takes over, until
// the function that it gives is called.
func Serve(udp, tcp *os.File, dir string) (stop func()) {
	s := &server{dir: dir, slots: make(chan struct{}, maxQuestions)}
	go s.serveUDP(udp)
	go s.serveTCP(tcp)
	return func() {
		udp.Close()
		tcp.Close()
	}
}

func (s *server) serveUDP(f *os.File) {
	socket.Receive(f, maxUDP, func(packet []byte, from syscall.Sockaddr) {
		query := append([]byte(nil), packet...)
		select {
		case s.slots <- struct{}{}:
			go func() {
				defer func() { <-s.slots }()
				if a := s.answer(query, false); a != nil {
					socket.Send(f, a, from)
				}
			}()
		default:
		}
	})
}

func (s *server) serveTCP(f *os.File) {
	socket.Accept(f, func(fd int) {
		conn := os.NewFile(uintptr(fd), "name server connection")
		select {
		case s.slots <- struct{}{}:
			go func() {
				defer func() { <-s.slots }()
				s.connection(conn)
			}()
		default:
			conn.Close()
		}
	})
}

// connection answers one question after another, RFC 1035 section 4.2.2.
func (s *server) connection(conn *os.File) {
	defer conn.Close()
	for {
		conn.SetDeadline(time.Now().Add(idle))
		query, err := readFrame(conn)
		if err != nil {
			return
		}
		a := s.answer(query, true)
		if a == nil || writeFrame(conn, a) != nil {
			return
		}
	}
}

func readFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

// names is the table as of now.
func (s *server) names() *table {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.table.current(s.dir) {
		s.table = readTable(s.dir)
	}
	return s.table
}

// answer gives the answer to a question, or nil for what is none.
func (s *server) answer(query []byte, tcp bool) (a []byte) {
	defer func() {
		if recover() != nil {
			a = nil // a container's strange packet shall not end its monitor
		}
	}()
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return respond(h, nil, dnsmessage.RCodeFormatError, nil)
	}
	t := s.names()
	if h.OpCode == 0 && q.Class == dnsmessage.ClassINET {
		if body, known := s.local(t, &q); known {
			return respond(h, &q, dnsmessage.RCodeSuccess, body)
		}
	}
	if len(t.config.Upstream) == 0 {
		return respond(h, &q, dnsmessage.RCodeNameError, nil)
	}
	if a := forward(t.config.Upstream, query, tcp); a != nil {
		return a
	}
	return respond(h, &q, dnsmessage.RCodeServerFailure, nil)
}

// local answers for containers. known says whether the name is one of theirs.
func (s *server) local(t *table, q *dnsmessage.Question) (body []dnsmessage.ResourceBody, known bool) {
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	if q.Type == dnsmessage.TypePTR {
		target, ok := t.names[reverse(name)]
		if !ok {
			return nil, false
		}
		n, err := dnsmessage.NewName(target + ".")
		if err != nil {
			return nil, true
		}
		return []dnsmessage.ResourceBody{&dnsmessage.PTRResource{PTR: n}}, true
	}
	addrs := t.lookup(name)
	for _, a := range addrs {
		switch {
		case q.Type == dnsmessage.TypeA && len(a) == 4:
			body = append(body, &dnsmessage.AResource{A: [4]byte([]byte(a))})
		case q.Type == dnsmessage.TypeAAAA && len(a) == 16:
			body = append(body, &dnsmessage.AAAAResource{AAAA: [16]byte([]byte(a))})
		}
	}
	if n := len(body); n > 1 {
		k := int(s.turn.Add(1)) % n
		body = append(append([]dnsmessage.ResourceBody{}, body[k:]...), body[:k]...)
	}
	return body, len(addrs) > 0
}

// reverse is the address that a name below in-addr.arpa or ip6.arpa stands for,
// RFC 1035 section 3.5 and RFC 3596 section 2.5; "" for other names.
func reverse(name string) string {
	if v4, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		f := strings.Split(v4, ".")
		var b [4]byte
		for i := range b {
			if len(f) != len(b) {
				return ""
			}
			n, err := strconv.ParseUint(f[3-i], 10, 8)
			if err != nil {
				return ""
			}
			b[i] = byte(n)
		}
		return string(b[:])
	}
	v6, ok := strings.CutSuffix(name, ".ip6.arpa")
	f := strings.Split(v6, ".")
	if !ok || len(f) != 32 {
		return ""
	}
	var digits string
	for i := range f {
		digits += f[31-i]
	}
	return unhex(digits)
}

// respond packs an answer. One with very many addresses is cut short: they are
// alternatives.
func respond(h dnsmessage.Header, q *dnsmessage.Question, code dnsmessage.RCode, body []dnsmessage.ResourceBody) []byte {
	const most = 16
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired,
		RecursionAvailable: true, RCode: code}}
	if q != nil {
		m.Questions = []dnsmessage.Question{*q}
	}
	for _, b := range body[:min(len(body), most)] {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: ttl}, Body: b})
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}
