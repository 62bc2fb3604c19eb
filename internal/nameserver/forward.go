package nameserver

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"github.com/brig-run/brig/internal/socket"
)

// patience is how long a name server may take. Clients ask again after 5 seconds
// by default, resolv.conf(5).
const patience = 2 * time.Second

// forward asks one name server after the other, over the transport that the
// client used. It gives nil if none answers.
func forward(servers []Server, query []byte, tcp bool) []byte {
	if len(query) < 12 {
		return nil
	}
	for _, s := range servers {
		if a := ask(s, query, tcp); a != nil {
			return a
		}
	}
	return nil
}

// ask asks one server. The question goes out with an ID of its own, as the
// container's could be guessed by whoever wants to forge an answer.
func ask(server Server, query []byte, tcp bool) []byte {
	kind := syscall.SOCK_DGRAM
	if tcp {
		kind = syscall.SOCK_STREAM
	}
	conn, err := socket.Connect(socket.Address{IP: server.Addr, Port: 53, Zone: server.Zone}, kind)
	if err != nil {
		return nil
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	sent := append([]byte(nil), query...)
	binary.BigEndian.PutUint16(sent, uint16(rand.Uint32()))
	if tcp {
		err = writeFrame(conn, sent)
	} else {
		_, err = conn.Write(sent)
	}
	if err != nil {
		return nil
	}
	buf := make([]byte, maxUDP)
	for {
		var a []byte
		if tcp {
			a, err = readFrame(conn)
		} else {
			var n int
			n, err = conn.Read(buf)
			a = buf[:max(n, 0)]
		}
		if err != nil {
			return nil
		}
		if answers(a, sent) {
			copy(a, query[:2])
			return a
		}
	}
}

// answers says whether a message is the answer to a question: it has its ID and,
// where it repeats the question, asks the same.
func answers(a, q []byte) bool {
	if len(a) < 12 || a[0] != q[0] || a[1] != q[1] || a[2]&0x80 == 0 {
		return false
	}
	if binary.BigEndian.Uint16(a[4:]) == 0 {
		return true // only a refusal may leave it out
	}
	end := questionEnd(q)
	return end > 0 && len(a) >= end && strings.EqualFold(string(a[12:end]), string(q[12:end]))
}

// questionEnd is where the first question of a message ends; 0 if it does not.
func questionEnd(q []byte) int {
	for i := 12; i < len(q); i += int(q[i]) + 1 {
		switch {
		case q[i] == 0 && i+5 <= len(q):
			return i + 5 // type and class
		case q[i] == 0, q[i] > 63:
			return 0
		}
	}
	return 0
}
