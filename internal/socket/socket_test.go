package socket

import (
	"bytes"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// bound gives a socket that package net made, as the file that the monitor gets.
func bound(t *testing.T, s interface {
	File() (*os.File, error)
	Close() error
}) *os.File {
	t.Helper()
	f, err := s.File()
	s.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := syscall.Dup(int(f.Fd())) // which makes it blocking: nothing could end it
	if err != nil {
		t.Fatal(err)
	}
	syscall.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), "bound")
}

func address(ip net.IP, port int) Address {
	if four := ip.To4(); four != nil {
		ip = four
	}
	return Address{IP: string(ip), Port: uint16(port)}
}

func await(t *testing.T, done <-chan bool, fault string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal(fault)
	}
}

func TestStream(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(host)})
		if err != nil {
			t.Fatal(err)
		}
		to := l.Addr().(*net.TCPAddr)
		f, done := bound(t, l), make(chan bool)
		go func() {
			defer close(done)
			Accept(f, func(fd int) {
				go func() {
					c := os.NewFile(uintptr(fd), "echo")
					io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
					c.Close()
				}()
			})
		}()
		for range 3 {
			c, err := Connect(address(to.IP, to.Port), syscall.SOCK_STREAM)
			if err != nil {
				t.Fatal(err)
			}
			want := bytes.Repeat([]byte(host), 1000)
			go c.Write(want)
			got := make([]byte, len(want))
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %d bytes, %v", host, len(got), err)
			}
			c.Close()
		}
		f.Close()
		await(t, done, "Accept goes on with a closed listener")
	}
}

func TestDatagrams(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		u, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
		if err != nil {
			t.Fatal(err)
		}
		to := u.LocalAddr().(*net.UDPAddr)
		f, done := bound(t, u), make(chan bool)
		go func() {
			defer close(done)
			Receive(f, 8, func(packet []byte, from syscall.Sockaddr) { Send(f, packet, from) })
		}()
		c, err := Connect(address(to.IP, to.Port), syscall.SOCK_DGRAM)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		for _, x := range []struct{ sent, want string }{{"short", "short"}, {"longer than max", "longer t"}} {
			c.Write([]byte(x.sent))
			buf := make([]byte, 100)
			n, err := c.Read(buf)
			if err != nil || string(buf[:n]) != x.want {
				t.Errorf("%s: sent %q, got %q, %v", host, x.sent, buf[:max(n, 0)], err)
			}
		}
		f.Close()
		await(t, done, "Receive goes on with a closed socket")
	}
}

// Without a port, an address, or somebody who listens.
func TestConnectFails(t *testing.T) {
	if _, err := Connect(Address{IP: "abc", Port: 1}, syscall.SOCK_STREAM); err != syscall.EINVAL {
		t.Errorf("an address of 3 bytes: %v", err)
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	to := l.Addr().(*net.TCPAddr)
	l.Close()
	c, err := Connect(address(to.IP, to.Port), syscall.SOCK_STREAM)
	if err == nil {
		_, err = c.Write([]byte("x"))
		c.Close()
	}
	if err == nil {
		t.Error("wrote to a port that nobody listens at")
	}
}
