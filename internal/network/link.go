package network

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is a container's interface in a network.
type Link struct {
	Network   string       `json:"network"`
	NetworkID string       `json:"networkID"`
	Name      string       `json:"name"` // in the container, as eth0
	Host      string       `json:"host"` // the other end
	IPv4      netip.Prefix `json:"ipv4,omitzero"`
	IPv6      netip.Prefix `json:"ipv6,omitzero"`
	Gateway4  netip.Addr   `json:"gateway4,omitzero"` // unset in an internal network
	Gateway6  netip.Addr   `json:"gateway6,omitzero"`
	MAC       string       `json:"mac"`
	Aliases   []string     `json:"aliases,omitempty"`
	Names     bool         `json:"names,omitempty"` // name server at the bridge
	Bridge4   netip.Addr   `json:"bridge4,omitzero"`
	Bridge6   netip.Addr   `json:"bridge6,omitzero"`
	Internal  bool         `json:"internal,omitempty"`
	MTU       int          `json:"mtu,omitempty"`

	bridge string
}

func newLink(n *Network, index int, addrs []netip.Addr, w *Wish) *Link {
	l := &Link{Network: n.Name, NetworkID: n.ID, Name: fmt.Sprintf("eth%d", index), Host: "veth" + randomHex(4), MAC: macFor(n, w, addrs),
		Aliases: w.Aliases, Names: n.Names(), Internal: n.Internal, MTU: n.MTU, bridge: n.Bridge}
	for i, a := range addrs {
		sub := n.Subnets[i]
		p := netip.PrefixFrom(a, sub.Prefix.Bits())
		if a.Is4() {
			l.IPv4, l.Bridge4, l.Gateway4 = p, sub.Gateway, sub.Gateway
		} else {
			l.IPv6, l.Bridge6, l.Gateway6 = p, sub.Gateway, sub.Gateway
		}
	}
	if n.Internal {
		l.Gateway4, l.Gateway6 = netip.Addr{}, netip.Addr{}
	}
	return l
}

func macFor(n *Network, w *Wish, addrs []netip.Addr) string {
	if w.MAC != "" {
		return w.MAC
	}
	return macOf(n.ID, addrs[0])
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// macOf makes a locally administered address (IEEE 802, bit 1 of the first
// octet) that follows from the network and the container's address: others that
// remember it are not misled when the address is given again.
func macOf(network string, a netip.Addr) string {
	sum := sha256.Sum256([]byte(network + a.String()))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac.String()
}

// bridgeUp makes sure of a network's bridge. It tells whether it had to be
// made.
func bridgeUp(n *Network) (made bool, err error) {
	link, err := netlink.LinkByName(n.Bridge)
	var missing netlink.LinkNotFoundError
	switch {
	case err == nil && link.Type() != "bridge":
		return false, fmt.Errorf("interface %s is no bridge but of type %s; remove it or give network %s another: --opt com.docker.network.bridge.name=NAME", n.Bridge, link.Type(), n.Name)
	case err == nil:
		return false, nil
	case !errors.As(err, &missing):
		return false, fmt.Errorf("find bridge %s: %w", n.Bridge, err)
	}
	if err := makeBridge(n); err != nil {
		if link, lerr := netlink.LinkByName(n.Bridge); lerr == nil {
			netlink.LinkDel(link)
		}
		return false, fmt.Errorf("make bridge %s: %w", n.Bridge, err)
	}
	return true, nil
}

func makeBridge(n *Network) error {
	mac, err := net.ParseMAC(macOf(n.ID, n.Subnets[0].Gateway))
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = n.Bridge, mac, n.MTU
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); err != nil {
		return err
	}
	conf := map[string]string{"ipv4/conf/" + n.Bridge + "/route_localnet": "1"}
	if n.Family(true) == nil {
		conf["ipv6/conf/"+n.Bridge+"/disable_ipv6"] = "1"
	} else {
		conf["ipv6/conf/"+n.Bridge+"/accept_ra"] = "0"
	}
	for name, value := range conf {
		if err := writeSysctl(name, value); err != nil {
			return err
		}
	}
	for _, sub := range n.Subnets {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(sub.Gateway, sub.Prefix.Bits()))}
		if sub.Prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(br, addr); err != nil {
			return fmt.Errorf("give it the address %s: %w", addr.IPNet, err)
		}
	}
	if err := netlink.LinkSetUp(br); err != nil {
		return err
	}
	return forwarding(n)
}

// forwarding makes the machine pass packets on between its interfaces.
func forwarding(n *Network) error {
	if n.Internal {
		return nil
	}
	if err := setSysctl("ipv4/ip_forward", "1"); err != nil {
		return err
	}
	if n.Family(true) == nil || readSysctl("ipv6/conf/all/forwarding") == "1" {
		return nil
	}
	// A machine that forwards no longer listens to router advertisements
	// (Documentation/networking/ip-sysctl.rst, accept_ra), and would lose its
	// own way out, unless accept_ra is 2.
	links, err := os.ReadDir("/proc/sys/net/ipv6/conf")
	if err != nil {
		return err
	}
	for _, l := range links {
		name := "ipv6/conf/" + l.Name() + "/accept_ra"
		if l.Name() != "all" && l.Name() != "lo" && readSysctl(name) == "1" {
			writeSysctl(name, "2")
		}
	}
	return writeSysctl("ipv6/conf/all/forwarding", "1")
}

func readSysctl(name string) string {
	b, _ := os.ReadFile("/proc/sys/net/" + name)
	return strings.TrimSpace(string(b))
}

func writeSysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(name, "ipv6/") {
		return nil // a kernel without IPv6
	}
	return err
}

func setSysctl(name, value string) error {
	if readSysctl(name) == value {
		return nil
	}
	return writeSysctl(name, value)
}

// bridgeDown removes a network's bridge.
func bridgeDown(n *Network) error {
	link, err := netlink.LinkByName(n.Bridge)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return nil
	case err != nil:
		return fmt.Errorf("find bridge %s: %w", n.Bridge, err)
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("remove bridge %s: %w", n.Bridge, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// plug makes the pair of interfaces: one end on the bridge, up; the other, down
// and without addresses, in the namespace of the descriptor ns.
func plug(host *netlink.Handle, l *Link, ns int) error {
	bridge, err := host.LinkByName(l.bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", l.bridge, err)
	}
	mac, err := net.ParseMAC(l.MAC)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.Flags, attrs.MTU = l.Host, bridge.Attrs().Index, net.FlagUp, bridge.Attrs().MTU
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: l.Name, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(ns)}
	if err := host.LinkAdd(pair); err != nil {
		return fmt.Errorf("make interface %s: %w", l.Name, err)
	}
	return nil
}

// configure gives the container's end its addresses and routes. It runs in a
// thread that is in the namespace.
func configure(inside *netlink.Handle, l *Link, first bool) error {
	link, err := inside.LinkByName(l.Name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", l.Name, err)
	}
	conf := "ipv6/conf/" + l.Name
	if !l.IPv6.IsValid() {
		err = writeSysctl(conf+"/disable_ipv6", "1")
	} else {
		err = writeSysctl(conf+"/accept_ra", "0")
	}
	if err != nil {
		return err
	}
	for _, p := range []netip.Prefix{l.IPv4, l.IPv6} {
		if !p.IsValid() {
			continue
		}
		addr := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD // nobody else can have it
		}
		if err := inside.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("give %s the address %s: %w", l.Name, p, err)
		}
	}
	if err := inside.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", l.Name, err)
	}
	if !first {
		return nil
	}
	for _, g := range []netip.Addr{l.Gateway4, l.Gateway6} {
		if !g.IsValid() {
			continue
		}
		if err := inside.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: g.AsSlice()}); err != nil {
			return fmt.Errorf("route through %s: %w", g, err)
		}
	}
	return nil
}

// namespace makes a network namespace, with its loopback interface up, and runs
// f in a thread that is in it.
func namespace(f func(ns *os.File) error) (*os.File, error) {
	type result struct {
		ns  *os.File
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err := unshareNet()
		if err == nil {
			err = f(ns)
		}
		done <- result{ns, err}
	}()
	r := <-done
	if r.err != nil && r.ns != nil {
		r.ns.Close()
		r.ns = nil
	}
	return r.ns, r.err
}

func unshareNet() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the network namespace: %w", err)
	}
	return ns, nil
}

// enter runs f in a thread that has joined a network namespace.
func enter(ns *os.File, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		if err != nil {
			err = fmt.Errorf("join the network namespace: %w", err)
		} else {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// loopbackUp sets the interface lo up, which makes its addresses, too.
func loopbackUp(inside *netlink.Handle) error {
	lo := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: 1}} // LOOPBACK_IFINDEX
	if err := inside.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the loopback interface up: %w", err)
	}
	return nil
}
