package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/network/undo"
)

// Running is a container that changes its networks while it runs.
type Running struct {
	Dir       string
	Namespace string // path of its network namespace
	Member    Member
	Record    Record
}

// Connect puts a running container into a further network. With nameServer it
// makes the sockets of a name server, too.
func (s *Store) Connect(c *Running, w Wish, nameServer bool) (sockets [2]*os.File, err error) {
	n, err := s.Find(w.Network)
	if err != nil {
		return sockets, err
	}
	locked, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return sockets, err
	}
	defer locked.Close()
	before := c.Record
	had := before.published()
	var ports []Port
	if had == nil && !n.Internal {
		ports = before.Ports // of a network that it has left
	}
	var link *Link
	addrs, err := s.allocate(n, &w, &c.Member, ports, func(addrs []netip.Addr) error {
		link = newLink(n, before.free(), addrs, &w)
		c.Record.Links = append(slices.Clone(before.Links), link)
		return s.noteUndo(c.Dir, &c.Record)
	})
	if err != nil {
		c.Record = before
		return sockets, err
	}
	err = s.ensure([]*Network{n}, "")
	if err == nil {
		sockets, err = s.plugIn(c.Namespace, link, had == nil && !n.Internal, nameServer)
	}
	if err == nil && len(ports) > 0 {
		err = s.publish(&c.Record, c.Member.Container)
	}
	if err != nil {
		if host, herr := netlink.NewHandle(unix.NETLINK_ROUTE); herr == nil {
			unplug(host, link)
			host.Close()
		}
		for _, a := range addrs {
			os.Remove(s.endpointPath(n, a))
		}
		c.Record = before
		return sockets, errors.Join(err, s.noteUndo(c.Dir, &before))
	}
	return sockets, nil
}

// free is the lowest number of an interface that the container does not have.
func (r *Record) free() int {
	for i := 0; ; i++ {
		name := fmt.Sprintf("eth%d", i)
		if !slices.ContainsFunc(r.Links, func(l *Link) bool { return l.Name == name }) {
			return i
		}
	}
}

func (s *Store) plugIn(path string, l *Link, gateway, nameServer bool) (sockets [2]*os.File, err error) {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return sockets, fmt.Errorf("talk to the kernel's networks: %w", err)
	}
	defer host.Close()
	err = enter(path, func() error {
		ns, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return fmt.Errorf("open the container's network namespace: %w", err)
		}
		defer ns.Close()
		inside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("talk to the container's network: %w", err)
		}
		defer inside.Close()
		if err := plug(host, l, int(ns.Fd()), gateway); err != nil {
			return err
		}
		if err = configure(inside, l, gateway); err == nil && nameServer {
			sockets, err = nameServerSockets()
		}
		if err != nil {
			unplug(host, l)
		}
		return err
	})
	return sockets, err
}

func unplug(host *netlink.Handle, l *Link) error {
	link, err := host.LinkByName(l.Host)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err == nil {
		err = host.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove interface %s: %w", l.Host, err)
	}
	return nil
}

// Disconnect takes a running container out of a network. Its published ports and
// its way out move to the first network that is left and can have them.
func (s *Store) Disconnect(c *Running, name string) error {
	n, err := s.Find(name)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(c.Record.Links, func(l *Link) bool { return l.Network == n.Name })
	if at < 0 {
		return fmt.Errorf("container %s is not connected to network %s", c.Member.Name, n.Name)
	}
	locked, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer locked.Close()
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("talk to the kernel's networks: %w", err)
	}
	defer host.Close()
	gone := c.Record.Links[at]
	had := c.Record.published()
	if had == gone && len(c.Record.Ports) > 0 {
		s.changePorts(c.Record.Ports, gone.addrs(), (*filter).remove) // if they are not there, all the better
	}
	if err := unplug(host, gone); err != nil {
		return err
	}
	c.Record.Links = slices.Delete(slices.Clone(c.Record.Links), at, at+1)
	if err := s.noteUndo(c.Dir, &c.Record); err != nil {
		return err
	}
	for _, a := range gone.addrs() {
		os.Remove(s.endpointPath(n, a))
	}
	if next := c.Record.published(); had == gone && next != nil {
		return s.takeOver(c, next)
	}
	return nil
}

// takeOver gives a container the default route and its published ports by a link
// that it has.
func (s *Store) takeOver(c *Running, l *Link) error {
	err := enter(c.Namespace, func() error {
		inside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("talk to the container's network: %w", err)
		}
		defer inside.Close()
		return defaultRoute(inside, l)
	})
	if err != nil || len(c.Record.Ports) == 0 {
		return err
	}
	if err := s.rewrite(c, l); err != nil {
		return err
	}
	return s.publish(&c.Record, c.Member.Container)
}

// Renamed gives a running container's new name to those who look for it in its
// networks.
func (s *Store) Renamed(c *Running) error {
	locked, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer locked.Close()
	for _, l := range c.Record.Links {
		if err := s.rewrite(c, l); err != nil {
			return err
		}
	}
	return nil
}

// rewrite writes the files of a link's addresses anew.
func (s *Store) rewrite(c *Running, l *Link) error {
	var ports []Port
	if l == c.Record.published() {
		ports = c.Record.Ports
	}
	text := endpointFile(&c.Member, l.MAC, l.Aliases, ports, l.addrs())
	for _, a := range l.addrs() {
		path := s.path(l.Network, "endpoints", a.String())
		tmp := s.path(l.Network, "."+a.String())
		err := os.WriteFile(tmp, text, 0o600)
		if err == nil {
			err = os.Rename(tmp, path)
		}
		if err != nil {
			os.Remove(tmp)
			return fmt.Errorf("write down who has the address %s: %w", a, err)
		}
	}
	return nil
}

// Undo frees what a container has that does not run, and never will with this
// record.
func Undo(dir string) error { return undo.Perform(dir) }
