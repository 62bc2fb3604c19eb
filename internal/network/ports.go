package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// PortWish is a port to publish: at a certain port of the host, at the first free
// one of a range, or, with 0, at any.
type PortWish struct {
	Port
	Last uint16 // of the range that begins with HostPort; 0 for none
}

// Bind settles on the host's ports, and takes each by a socket that is bound to
// it, and for TCP listens: nothing else on the host can have it, nor is it taken
// from somebody, for as long as the socket is open. Few packets come so far; see
// package relay.
//
// On an error nothing is held.
func Bind(wishes []PortWish) (ports []Port, held []*os.File, err error) {
	for _, w := range wishes {
		p, f, err := w.bind()
		if err != nil {
			for _, f := range held {
				f.Close()
			}
			return nil, nil, fmt.Errorf("publish port %d/%s: %w", w.Port.Port, w.Protocol, err)
		}
		ports, held = append(ports, p), append(held, f)
	}
	return ports, held, nil
}

func (w *PortWish) bind() (Port, *os.File, error) {
	last := max(w.Last, w.HostPort)
	for n := int(w.HostPort); ; n++ {
		fd, port, err := bindPort(w.Protocol, w.HostIP, uint16(n))
		switch {
		case err == nil:
			p := w.Port
			p.HostPort = port
			return p, os.NewFile(uintptr(fd), "published port"), nil
		case errors.Is(err, unix.EADDRINUSE) && n < int(last):
			continue
		case errors.Is(err, unix.EADDRINUSE) && last > w.HostPort:
			return Port{}, nil, fmt.Errorf("all ports from %d to %d of the host are in use; choose another range", w.HostPort, last)
		case errors.Is(err, unix.EADDRINUSE):
			return Port{}, nil, fmt.Errorf("port %d of the host is in use already (address already in use); choose another, or see who has it: ss -lnp 'sport = %d'", n, n)
		case errors.Is(err, unix.EADDRNOTAVAIL):
			return Port{}, nil, fmt.Errorf("the host has no address %s; see: ip address", w.HostIP)
		}
		return Port{}, nil, fmt.Errorf("take port %d of the host: %w", n, err)
	}
}

// bindPort binds a socket of the host, and tells its port.
func bindPort(protocol string, ip netip.Addr, port uint16) (fd int, got uint16, err error) {
	kind := unix.SOCK_STREAM
	if protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	if fd, err = bindSocket(kind, ip, port); err != nil {
		return -1, 0, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		got = uint16(sa.Port)
	case *unix.SockaddrInet6:
		got = uint16(sa.Port)
	}
	return fd, got, nil
}

// bindSocket binds to one address, or to all of both families.
func bindSocket(kind int, ip netip.Addr, port uint16) (int, error) {
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(port)}
	family := unix.AF_INET6
	switch {
	case ip.Is4():
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(port), Addr: ip.As4()}
	case ip.Is6():
		sa = &unix.SockaddrInet6{Port: int(port), Addr: ip.As16()}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == unix.EAFNOSUPPORT && !ip.IsValid() { // a kernel without IPv6
		sa = &unix.SockaddrInet4{Port: int(port)}
		fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	}
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET6 {
		only := 0
		if ip.IsValid() {
			only = 1
		}
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	if kind == unix.SOCK_STREAM {
		// Connections of a server that has ended keep its port for a minute
		// (TIME_WAIT), which does not matter; whether another listens shows when
		// we do.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	err = unix.Bind(fd, sa)
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
