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
	Names     bool         `json:"names,omitempty"` // containers find each other by name there
	Internal  bool         `json:"internal,omitempty"`
	Bridge    string       `json:"bridge"`
}

func newLink(n *Network, index int, addrs []netip.Addr, w *Wish) *Link {
	l := &Link{Network: n.Name, NetworkID: n.ID, Name: fmt.Sprintf("eth%d", index), Host: "veth" + randomHex(4), MAC: macFor(n, w, addrs),
		Aliases: w.Aliases, Names: n.Names(), Internal: n.Internal, Bridge: n.Bridge}
	for i, a := range addrs {
		sub := n.Subnets[i]
		p := netip.PrefixFrom(a, sub.Prefix.Bits())
		if a.Is4() {
			l.IPv4, l.Gateway4 = p, sub.Gateway
		} else {
			l.IPv6, l.Gateway6 = p, sub.Gateway
		}
	}
	if n.Internal {
		l.Gateway4, l.Gateway6 = netip.Addr{}, netip.Addr{}
	}
	return l
}

// EndpointID is an ID of the container's place in the network, as Docker has it.
func (l *Link) EndpointID(container string) string { return hash(container + l.NetworkID + l.MAC) }

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

// isUp says whether a network has its bridge, complete: to set it up is the last
// step of making it.
func isUp(n *Network) (bool, error) {
	link, err := netlink.LinkByName(n.Bridge)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("find bridge %s: %w", n.Bridge, err)
	case link.Type() != "bridge":
		return false, fmt.Errorf("interface %s is no bridge but of type %s; remove it or give the network another: --opt %s=NAME", n.Bridge, link.Type(), bridgeOption)
	}
	return link.Attrs().Flags&net.FlagUp != 0, nil
}

// bridgeUp makes a network's bridge, or goes on where a command was killed that
// made it.
func (s *Store) bridgeUp(n *Network) error {
	l, err := s.machineLock() // of all roots' and commands' bridges one is made at a time
	if err != nil {
		return err
	}
	defer l.Close()
	if up, err := isUp(n); up || err != nil {
		return err // another was faster
	}
	if err := makeBridge(n); err != nil {
		if link, lerr := netlink.LinkByName(n.Bridge); lerr == nil {
			netlink.LinkDel(link)
		}
		return err
	}
	return nil
}

func makeBridge(n *Network) error {
	taken, err := takenPrefixes()
	if err != nil {
		return err
	}
	for _, sub := range n.Subnets {
		for _, t := range taken {
			if t.prefix.Overlaps(sub.Prefix) {
				return fmt.Errorf("its subnet %s is used by %s (%s) now; remove the network and make it anew", sub.Prefix, t.owner, t.prefix)
			}
		}
	}
	mac, err := net.ParseMAC(macOf(n.ID, n.Subnets[0].Gateway))
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = n.Bridge, mac, n.MTU
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(br); errors.Is(err, unix.EEXIST) {
		link, err := netlink.LinkByName(n.Bridge)
		if err != nil {
			return err
		}
		br.Index = link.Attrs().Index
	} else if err != nil {
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
		if err := netlink.AddrReplace(br, addr); err != nil {
			return fmt.Errorf("give it the address %s: %w", addr.IPNet, err)
		}
	}
	if err := forwarding(n); err != nil {
		return err
	}
	return netlink.LinkSetUp(br)
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
//
// hairpin lets the bridge send packets back to where they came from. A container
// needs it to reach its own published port where bridged packets pass through the
// packet filter (br_netfilter): those are not routed.
func plug(host *netlink.Handle, l *Link, ns int, hairpin bool) error {
	bridge, err := host.LinkByName(l.Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", l.Bridge, err)
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
	if !hairpin {
		return nil
	}
	if err := host.LinkSetHairpin(pair, true); err != nil {
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
	return defaultRoute(inside, l)
}

// defaultRoute leads a container's packets out by a link.
func defaultRoute(inside *netlink.Handle, l *Link) error {
	link, err := inside.LinkByName(l.Name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", l.Name, err)
	}
	for _, g := range []netip.Addr{l.Gateway4, l.Gateway6} {
		if !g.IsValid() {
			continue
		}
		err := inside.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: g.AsSlice()})
		if err != nil && !errors.Is(err, unix.EEXIST) { // the container may have made its own
			return fmt.Errorf("route through %s: %w", g, err)
		}
	}
	return nil
}

// namespace makes a network namespace, by create or in a thread, hands it to whoever receives from ns, and
// runs f in a thread that is in it.
func namespace(create func() (*os.File, error), f func(ns *os.File) error, ns chan<- namespaceResult) error {
	if create == nil {
		create = unshareNet
	} else {
		create = joined(create)
	}
	return onThread(func() error {
		file, err := create()
		if err != nil {
			return err
		}
		// Two descriptors, as f may still need its own when the other is closed.
		defer file.Close()
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("open the network namespace: %w", err)
		}
		ns <- namespaceResult{ns: os.NewFile(uintptr(fd), "network namespace")}
		return f(file)
	})
}

// onThread runs f in a thread that ends with it, so that what f does to the
// thread stays without effect. The main thread would not end.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- onThread(f) // another one, as this one is taken
			return
		}
		done <- f()
	}()
	return <-done
}

// joined puts the thread into the namespace that create makes.
func joined(create func() (*os.File, error)) func() (*os.File, error) {
	return func() (*os.File, error) {
		ns, err := create()
		if err != nil {
			return nil, err
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			ns.Close()
			return nil, fmt.Errorf("join the container's network namespace: %w", err)
		}
		return ns, nil
	}
}

// NewNamespace makes a network namespace with nothing in it.
func NewNamespace() (ns *os.File, err error) {
	err = onThread(func() (err error) {
		ns, err = unshareNet()
		return err
	})
	return ns, err
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
func enter(path string, f func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the container's network namespace: %w", err)
	}
	defer ns.Close()
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("join the container's network namespace: %w", err)
		}
		return f()
	})
}

// loopbackUp sets the interface lo up, which makes its addresses, too.
func loopbackUp(inside *netlink.Handle) error {
	lo := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: 1}} // LOOPBACK_IFINDEX
	if err := inside.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set the loopback interface up: %w", err)
	}
	return nil
}
