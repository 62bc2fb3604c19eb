// Package relay carries what reaches a published port's socket on the host to the
// container.
//
// The packet filter leads nearly all packets to the container before they could
// reach a socket (package network). What is left are connections by IPv6 from the
// host to itself, which the kernel does not route to another interface
// (rt6_need_strict in net/ipv6/route.c), those by IPv6 for a container that has
// none, and all while somebody has flushed the filter.
//
// It runs in the container's monitor, and imports next to nothing, as that does.
package relay

import (
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/brig-run/brig/internal/socket"
)

const (
	maxConns = 1024             // at a time, for a port
	udpIdle  = 90 * time.Second // after which a UDP client is forgotten
	maxUDP   = 64 << 10
)

// TCP carries connections from a listening socket, which it takes over, to a
// container's address.
func TCP(listener *os.File, to socket.Address) {
	slots := make(chan struct{}, maxConns)
	socket.Accept(listener, func(fd int) {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			client := os.NewFile(uintptr(fd), "relayed connection")
			defer client.Close()
			if server, err := socket.Connect(to, syscall.SOCK_STREAM); err == nil {
				defer server.Close()
				join(client, server)
			}
		}()
	})
}

// join copies both ways until both sides have ended.
func join(a, b *os.File) {
	var both sync.WaitGroup
	both.Add(2)
	one := func(dst, src *os.File) {
		defer both.Done()
		// Only the interfaces, as *os.File knows more ways to copy, which the
		// monitor has no use for.
		io.Copy(struct{ io.Writer }{dst}, struct{ io.Reader }{src})
		if raw, err := dst.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_WR) })
		}
	}
	go one(b, a)
	one(a, b)
	both.Wait()
}

// udp is a bound UDP socket and the clients that it has heard of lately.
type udp struct {
	f       *os.File
	to      socket.Address
	mu      sync.Mutex
	clients map[socket.Address]*os.File // connected to the container
}

// UDP carries packets from a bound socket, which it takes over, to a container's
// address, and answers back.
func UDP(bound *os.File, to socket.Address) {
	u := &udp{f: bound, to: to, clients: map[socket.Address]*os.File{}}
	socket.Receive(bound, maxUDP, func(packet []byte, from syscall.Sockaddr) {
		if server := u.client(from); server != nil {
			server.Write(packet)
		}
	})
}

// client gives the socket that stands for a client; nil if there are too many.
func (u *udp) client(from syscall.Sockaddr) *os.File {
	var key socket.Address
	switch sa := from.(type) {
	case *syscall.SockaddrInet4:
		key = socket.Address{IP: string(sa.Addr[:]), Port: uint16(sa.Port)}
	case *syscall.SockaddrInet6:
		key = socket.Address{IP: string(sa.Addr[:]), Port: uint16(sa.Port), Zone: sa.ZoneId}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.clients[key]; s != nil {
		return s
	}
	if len(u.clients) >= maxConns {
		return nil
	}
	s, err := socket.Connect(u.to, syscall.SOCK_DGRAM)
	if err != nil {
		return nil
	}
	u.clients[key] = s
	go u.answers(key, s, from)
	return s
}

// answers carries the container's answers to a client, until none comes for a
// while.
func (u *udp) answers(key socket.Address, s *os.File, to syscall.Sockaddr) {
	buf := make([]byte, maxUDP)
	for {
		s.SetReadDeadline(time.Now().Add(udpIdle))
		n, err := s.Read(buf)
		if err != nil {
			break
		}
		socket.Send(u.f, buf[:n], to)
	}
	u.mu.Lock()
	delete(u.clients, key)
	u.mu.Unlock()
	s.Close()
}
