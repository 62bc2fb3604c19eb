package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/network/undo"
)

// Attachment is a container's networks in the making.
type Attachment struct {
	Links []*Link
	Ports []Port

	store  *Store
	dir    string
	log    undo.Log
	locked *os.File
	nets   []*Network
	ns     chan namespaceResult
	done   chan error
}

type namespaceResult struct {
	ns  *os.File
	err error
}

// Attach gives a container addresses in networks, and begins to make its
// network namespace with an interface in each of them. dir is the container's
// directory, where what is to be undone is written down. Ports are published to
// the first network that is not internal.
//
// On an error nothing is left; else the caller must call Namespace and then
// Wait.
func (s *Store) Attach(dir string, m Member, wishes []Wish, ports []Port) (*Attachment, error) {
	a := &Attachment{Ports: ports, store: s, dir: dir, ns: make(chan namespaceResult, 1), done: make(chan error, 1)}
	for _, w := range wishes {
		n, err := s.Find(w.Network)
		if err != nil {
			return nil, err
		}
		a.nets = append(a.nets, n)
	}
	var err error
	if a.locked, err = s.lock(unix.LOCK_SH); err != nil {
		return nil, err
	}
	if err := a.addresses(&m, wishes); err != nil {
		a.locked.Close()
		undo.Perform(dir)
		return nil, err
	}
	go a.make()
	return a, nil
}

// Namespace waits for the container's namespace, which Wait makes complete.
func (a *Attachment) Namespace() (*os.File, error) {
	r := <-a.ns
	return r.ns, r.err
}

// Wait waits until all is made. On an error nothing is left.
func (a *Attachment) Wait() error {
	err := <-a.done
	a.locked.Close()
	if err != nil {
		undo.Perform(a.dir)
	}
	return err
}

// addresses takes the addresses, and writes down how to give them back.
func (a *Attachment) addresses(m *Member, wishes []Wish) error {
	target := a.published()
	if len(a.Ports) > 0 && target < 0 {
		return fmt.Errorf("cannot publish ports: network %s is internal", a.nets[0].Name)
	}
	a.log.Lock(a.store.path(filterLock))
	for i, n := range a.nets {
		if _, err := os.Stat(a.store.path(n.Name)); err != nil {
			return &NotFoundError{n.Name} // removed before we had the lock
		}
		var ports []Port
		if i == target {
			ports = a.Ports
		}
		addrs, err := a.store.allocate(n, &wishes[i], m, ports, func(path string) error {
			a.log.Endpoint(path)
			return a.log.Write(a.dir)
		})
		if err != nil {
			return err
		}
		a.Links = append(a.Links, newLink(n, i, addrs, &wishes[i]))
		if len(ports) > 0 {
			batch, err := a.store.removal(ports, addrs)
			if err != nil {
				return err
			}
			a.log.Filter(batch)
		}
	}
	return a.log.Write(a.dir)
}

// published is the index of the network to which ports are published; -1 if
// there is none.
func (a *Attachment) published() int {
	for i, n := range a.nets {
		if !n.Internal {
			return i
		}
	}
	return -1
}

// make makes the kernel's part.
func (a *Attachment) make() {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		a.fail(fmt.Errorf("talk to the kernel's networks: %w", err))
		return
	}
	defer host.Close()
	filtered := make(chan error, 1)
	ready := make(chan error, 1)
	go func() {
		err := a.store.ensure(a.nets)
		ready <- err
		if err == nil {
			err = a.filter()
		}
		filtered <- err
	}()
	handed := false
	_, err = namespace(func(ns *os.File) error {
		a.ns <- namespaceResult{ns: ns}
		handed = true
		if err := <-ready; err != nil {
			return nil // said by filtered
		}
		return a.inside(host, ns)
	})
	if !handed {
		a.ns <- namespaceResult{err: err}
	}
	a.done <- errors.Join(<-filtered, err)
}

func (a *Attachment) fail(err error) {
	a.ns <- namespaceResult{err: err}
	a.done <- err
}

// inside runs in a thread that is in the new namespace.
func (a *Attachment) inside(host *netlink.Handle, ns *os.File) error {
	inside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("talk to the container's network: %w", err)
	}
	defer inside.Close()
	if err := loopbackUp(inside); err != nil {
		return err
	}
	gateway := a.published()
	for i, l := range a.Links {
		if err := plug(host, l, int(ns.Fd())); err != nil {
			return err
		}
		if err := configure(inside, l, i == gateway); err != nil {
			return fmt.Errorf("network %s: %w", l.Network, err)
		}
	}
	return nil
}

// filter publishes the ports.
func (a *Attachment) filter() error {
	if len(a.Ports) == 0 {
		return nil
	}
	err := a.publish()
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		// Left by a container that is no more, or by another engine's hand.
		if err := a.store.mend(); err != nil {
			return err
		}
		err = a.publish()
	}
	if err != nil {
		return fmt.Errorf("publish ports: %w", err)
	}
	return nil
}

// filterLock is the name of the lock that guards the table: shared by whoever
// adds or removes elements that the directory of networks already tells, or no
// longer; exclusive to rebuild it from there.
const filterLock = "filter.lock"

func (a *Attachment) publish() error {
	l, err := a.store.flock(filterLock, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer l.Close()
	f, err := a.store.newFilter()
	if err != nil {
		return err
	}
	all := map[*nftables.Set][]nftables.SetElement{}
	f.ofPorts(all, a.Ports, a.Links[a.published()].addrs())
	for set, elements := range all {
		if err := f.add(set, elements); err != nil {
			return err
		}
	}
	return f.conn.Flush()
}

func (l *Link) addrs() (list []netip.Addr) {
	for _, p := range []netip.Prefix{l.IPv4, l.IPv6} {
		if p.IsValid() {
			list = append(list, p.Addr())
		}
	}
	return list
}

// ensure makes sure that networks have their bridges and the table its rules.
// The caller holds the lock of networks, shared.
func (s *Store) ensure(nets []*Network) error {
	f, err := s.newFilter(nftables.AsLasting())
	if err != nil {
		return err
	}
	defer f.close()
	missing := !f.whole()
	for _, n := range nets {
		made, err := bridgeUp(n)
		if err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
		missing = missing || made
	}
	if missing {
		return s.mend()
	}
	return nil
}

// mend brings the table in line with what the directory of networks says. It is
// one batch.
func (s *Store) mend() error {
	l, err := s.flock(filterLock, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer l.Close()
	f, err := s.newFilter(nftables.AsLasting())
	if err != nil {
		return err
	}
	defer f.close()
	nets, err := s.List()
	if err != nil {
		return err
	}
	all := map[*nftables.Set][]nftables.SetElement{}
	for _, n := range nets {
		if err := s.sweep(n); err != nil {
			return err
		}
		f.ofNetwork(all, n)
		list, err := s.Endpoints(n)
		if err != nil {
			return err
		}
		for _, e := range list {
			f.ofPorts(all, e.Ports, e.Addrs)
		}
	}
	return f.rebuild(all)
}

// takeDown removes what the kernel has of a network without containers.
func (s *Store) takeDown(n *Network) error {
	if err := bridgeDown(n); err != nil {
		return err
	}
	nets, err := s.List()
	if err != nil {
		return err
	}
	for _, other := range nets {
		if _, err := netlink.LinkByName(other.Bridge); other.Name != n.Name && err == nil {
			return s.mend()
		}
	}
	f, err := s.newFilter() // no bridge is left
	if err != nil {
		return err
	}
	return f.drop()
}
