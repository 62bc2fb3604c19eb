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
)

const (
	maxConns = 1024             // at a time, for a port
	udpIdle  = 90 * time.Second // after which a UDP client is forgotten
	maxUDP   = 64 << 10
)

// Target is a port of a container.
type Target struct {
	Addr string // 4 or 16 bytes
	Port uint16
}

// TCP carries connections from a listening socket, which it takes over, to a
// container's address.
func TCP(listener *os.File, to Target) {
	raw, err := listener.SyscallConn()
	if err != nil {
		return
	}
	slots := make(chan struct{}, maxConns)
	for {
		slots <- struct{}{}
		fd := -1
		if raw.Read(func(l uintptr) bool {
			fd, _, err = syscall.Accept4(int(l), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
			return err != syscall.EAGAIN
		}) != nil {
			return
		}
		if err != nil {
			<-slots
			time.Sleep(10 * time.Millisecond) // out of descriptors: let some go
			continue
		}
		go func() {
			defer func() { <-slots }()
			client := os.NewFile(uintptr(fd), "relayed connection")
			defer client.Close()
			if server, err := connect(to, syscall.SOCK_STREAM); err == nil {
				defer server.Close()
				join(client, server)
			}
		}()
	}
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

// connect begins to connect a socket; to write waits until it is connected.
func connect(to Target, kind int) (*os.File, error) {
	var sa syscall.Sockaddr
	family := syscall.AF_INET
	switch len(to.Addr) {
	case 4:
		sa = &syscall.SockaddrInet4{Port: int(to.Port), Addr: [4]byte([]byte(to.Addr))}
	case 16:
		family, sa = syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(to.Port), Addr: [16]byte([]byte(to.Addr))}
	default:
		return nil, syscall.EINVAL
	}
	fd, err := syscall.Socket(family, kind|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Connect(fd, sa); err != nil && err != syscall.EINPROGRESS {
		syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "relayed connection"), nil
}

// udp is a bound UDP socket and the clients that it has heard of lately.
type udp struct {
	raw     syscall.RawConn
	to      Target
	mu      sync.Mutex
	clients map[Target]*os.File // connected to the container
}

// UDP carries packets from a bound socket, which it takes over, to a container's
// address, and answers back.
func UDP(socket *os.File, to Target) {
	u := &udp{to: to, clients: map[Target]*os.File{}}
	var err error
	if u.raw, err = socket.SyscallConn(); err != nil {
		return
	}
	buf := make([]byte, maxUDP)
	for {
		var n int
		var from syscall.Sockaddr
		if u.raw.Read(func(fd uintptr) bool {
			n, from, err = syscall.Recvfrom(int(fd), buf, 0)
			return err != syscall.EAGAIN
		}) != nil {
			return
		}
		if err != nil {
			continue // such as the news that an answer could not be delivered
		}
		if server := u.client(from); server != nil {
			server.Write(buf[:n])
		}
	}
}

// client gives the socket that stands for a client; nil if there are too many.
func (u *udp) client(from syscall.Sockaddr) *os.File {
	var key Target
	switch sa := from.(type) {
	case *syscall.SockaddrInet4:
		key = Target{string(sa.Addr[:]), uint16(sa.Port)}
	case *syscall.SockaddrInet6:
		key = Target{string(sa.Addr[:]), uint16(sa.Port)}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.clients[key]; s != nil {
		return s
	}
	if len(u.clients) >= maxConns {
		return nil
	}
	s, err := connect(u.to, syscall.SOCK_DGRAM)
	if err != nil {
		return nil
	}
	u.clients[key] = s
	go u.answers(key, s, from)
	return s
}

// answers carries the container's answers to a client, until none comes for a
// while.
func (u *udp) answers(key Target, s *os.File, to syscall.Sockaddr) {
	buf := make([]byte, maxUDP)
	for {
		s.SetReadDeadline(time.Now().Add(udpIdle))
		n, err := s.Read(buf)
		if err != nil {
			break
		}
		u.raw.Write(func(fd uintptr) bool {
			return syscall.Sendto(int(fd), buf[:n], 0, to) != syscall.EAGAIN
		})
	}
	u.mu.Lock()
	delete(u.clients, key)
	u.mu.Unlock()
	s.Close()
}
