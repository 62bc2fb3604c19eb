package network

import (
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// nameServer is where a container finds its name server, as in Docker.
var nameServer = [4]byte{127, 0, 0, 11}

// nameServerSockets makes the sockets of a container's name server, for UDP and
// TCP, in the network namespace of the thread.
//
// They are not bound to port 53, which the container's own name server may want
// on all of its addresses; packets to it are sent on.
func nameServerSockets() (files [2]*os.File, err error) {
	var ports [2]uint16
	for i, kind := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
		fd, port, err := nameServerSocket(kind)
		if err != nil {
			files[0].Close()
			return files, fmt.Errorf("make the container's name server: %w", err)
		}
		files[i], ports[i] = os.NewFile(uintptr(fd), "name server"), port
	}
	if err := redirectNames(ports); err != nil {
		files[0].Close()
		files[1].Close()
		return [2]*os.File{}, fmt.Errorf("lead the container to its name server: %w", err)
	}
	return files, nil
}

func nameServerSocket(kind int) (fd int, port uint16, err error) {
	fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, 0, err
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: nameServer})
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 64)
	}
	var sa unix.Sockaddr
	if err == nil {
		sa, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, 0, err
	}
	return fd, uint16(sa.(*unix.SockaddrInet4).Port), nil
}

// redirectNames leads port 53 of the name server's address to the sockets.
func redirectNames(ports [2]uint16) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	t := conn.AddTable(&nftables.Table{Name: "brig-names", Family: nftables.TableFamilyIPv4})
	chain := conn.AddChain(&nftables.Chain{Name: "output", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
	for i, proto := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: join(
			rule{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: nameServer[:]},
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
				dstPort(1), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: be16(53)},
				&expr.Immediate{Register: 1, Data: nameServer[:]}, &expr.Immediate{Register: 2, Data: be16(ports[i])},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2, Specified: true}})})
	}
	return conn.Flush()
}
