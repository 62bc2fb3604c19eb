package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// MoveDevice moves an interface of the caller's network namespace into that at
// the path ns (/proc/PID/ns/net) under the name to, and sets it up there. It
// takes along its permanent addresses of global scope, which the kernel forgets
// in a move; routes stay behind (runtime-spec config-linux.md "Network devices").
func MoveDevice(name, to, ns string) error {
	if err := moveDevice(name, to, ns); err != nil {
		return fmt.Errorf("move network device %s into the container as %s: %w", name, to, err)
	}
	return nil
}

func moveDevice(name, to, path string) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("open its network namespace: %w", err)
	}
	defer ns.Close()
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list its addresses: %w", err)
	}
	there, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer there.Close()
	// The kernel moves first and renames then: a name that is taken would leave
	// the device there under its old one.
	if _, err := there.LinkByName(to); err == nil {
		return fmt.Errorf("an interface %s is there already", to)
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("set it down: %w", err)
	}
	if err := moveAndRename(link.Attrs().Index, to, int(ns)); err != nil {
		if link.Attrs().RawFlags&unix.IFF_UP != 0 {
			err = errors.Join(err, netlink.LinkSetUp(link)) // as it was
		}
		return err
	}
	return setUpDevice(there, to, addrs)
}

// moveAndRename does both in one request, so that no name of the other
// namespace is in the way.
func moveAndRename(index int, to string, ns int) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(to)))
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns))))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func setUpDevice(h *netlink.Handle, name string, addrs []netlink.Addr) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_PERMANENT == 0 || a.Scope != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		if err := h.AddrAdd(link, &netlink.Addr{IPNet: a.IPNet, Peer: a.Peer}); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("give it the address %s: %w", a.IPNet, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set it up: %w", err)
	}
	return nil
}
