// Package socket accepts, receives and connects on sockets without package net,
// which would double what a container's monitor holds in memory. It imports next
// to nothing, as the monitor does, and knows no protocol.
package socket

import (
	"os"
	"syscall"
	"time"
)

// Accept gives each connection of a listening socket to serve, as a non-blocking
// descriptor of serve's own. It returns when the listener is closed.
func Accept(listener *os.File, serve func(fd int)) {
	raw, err := listener.SyscallConn()
	if err != nil {
		return
	}
	for {
		fd := -1
		if raw.Read(func(l uintptr) bool {
			fd, _, err = syscall.Accept4(int(l), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
			return err != syscall.EAGAIN
		}) != nil {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors: let some go
			continue
		}
		serve(fd)
	}
}

// Receive gives each datagram of a socket, cut to max bytes, to serve, whose bytes
// hold until serve returns. It returns when the socket is closed.
func Receive(socket *os.File, max int, serve func(packet []byte, from syscall.Sockaddr)) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, max)
	for {
		var n int
		var from syscall.Sockaddr
		if raw.Read(func(fd uintptr) bool {
			n, from, err = syscall.Recvfrom(int(fd), buf, 0)
			return err != syscall.EAGAIN
		}) != nil {
			return
		}
		if err != nil {
			continue // such as the news that an answer could not be delivered
		}
		serve(buf[:n], from)
	}
}

// Send sends one datagram from a socket that is not connected. That it does not
// arrive is nobody's error, as it is none of UDP's.
func Send(socket *os.File, packet []byte, to syscall.Sockaddr) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	raw.Write(func(fd uintptr) bool {
		return syscall.Sendto(int(fd), packet, syscall.MSG_NOSIGNAL, to) != syscall.EAGAIN
	})
}

// Address is where to connect to.
type Address struct {
	IP   string // 4 or 16 bytes
	Port uint16
	Zone uint32 // the interface of a link-local IPv6 address
}

// Connect begins to connect a socket of a kind, such as SOCK_STREAM; to write to
// it waits until it is connected.
func Connect(to Address, kind int) (*os.File, error) {
	var sa syscall.Sockaddr
	family := syscall.AF_INET
	switch len(to.IP) {
	case 4:
		sa = &syscall.SockaddrInet4{Port: int(to.Port), Addr: [4]byte([]byte(to.IP))}
	case 16:
		family, sa = syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(to.Port), Addr: [16]byte([]byte(to.IP)), ZoneId: to.Zone}
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
	return os.NewFile(uintptr(fd), "socket"), nil
}
