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

// Request is what a container that starts wants of its networks.
type Request struct {
	Dir    string // the container's directory, where what is to be undone is written down
	Member Member
	Wishes []Wish
	Ports  []Port // published to the first network that is not internal; see Bind
	// NameServer makes the sockets of a name server.
	NameServer bool
	// NewNamespace makes the network namespace; nil for one that belongs to the
	// caller's user namespace.
	NewNamespace func() (*os.File, error)
}

// Attachment is a container's networks in the making.
type Attachment struct {
	Record
	// NameServer is the sockets of the container's name server, for UDP and TCP,
	// once Wait has returned.
	NameServer [2]*os.File

	store        *Store
	dir          string
	container    string // ID
	nameServer   bool
	locked       *os.File
	nets         []*Network
	newNamespace func() (*os.File, error)
	ns           chan namespaceResult
	done         chan error
}

// Record is what a container has of networks while it runs.
type Record struct {
	Links []*Link `json:"links"`
	Ports []Port  `json:"ports,omitempty"`
}

type namespaceResult struct {
	ns  *os.File
	err error
}

// Attach gives a container addresses in networks, and begins to make its
// network namespace with an interface in each of them.
//
// On an error nothing is left; else the caller must call Wait.
func (s *Store) Attach(r Request) (*Attachment, error) {
	a := &Attachment{store: s, dir: r.Dir, container: r.Member.Container, nameServer: r.NameServer, newNamespace: r.NewNamespace, ns: make(chan namespaceResult, 1), done: make(chan error, 1)}
	a.Ports = r.Ports
	for _, w := range r.Wishes {
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
	if err := a.addresses(&r.Member, r.Wishes); err != nil {
		a.locked.Close()
		undo.Perform(r.Dir)
		return nil, err
	}
	go a.make()
	return a, nil
}

// Namespace waits for the container's namespace, which Wait makes complete. The
// caller closes it.
func (a *Attachment) Namespace() (*os.File, error) {
	r := <-a.ns
	return r.ns, r.err
}

// Wait waits until all is made. On an error nothing is left.
func (a *Attachment) Wait() error {
	err := <-a.done
	a.locked.Close()
	if err != nil {
		for _, f := range a.NameServer {
			f.Close()
		}
		undo.Perform(a.dir)
	}
	return err
}

// addresses takes the addresses, and writes down how to give them back.
func (a *Attachment) addresses(m *Member, wishes []Wish) error {
	target := published(a.nets)
	if len(a.Ports) > 0 && target < 0 {
		return fmt.Errorf("publish ports: network %s is internal, so nothing reaches it; drop -p, or add another network", a.nets[0].Name)
	}
	for i, n := range a.nets {
		if _, err := os.Stat(a.store.path(n.Name)); err != nil {
			return &NotFoundError{n.Name} // removed before we had the lock
		}
		var ports []Port
		if i == target {
			ports = a.Ports
		}
		addrs, err := a.store.allocate(n, &wishes[i], m, ports, func(addrs []netip.Addr) error {
			next := Record{append(a.Links[:i:i], newLink(n, i, addrs, &wishes[i])), a.Ports}
			return a.store.noteUndo(a.dir, &next)
		})
		if err != nil {
			return err
		}
		a.Links = append(a.Links, newLink(n, i, addrs, &wishes[i]))
	}
	return nil
}

// noteUndo writes down how to undo what a container has of networks.
func (s *Store) noteUndo(dir string, r *Record) error {
	var log undo.Log
	log.Lock(s.path(filterLock))
	for _, l := range r.Links {
		for _, a := range l.addrs() {
			log.Endpoint(s.path(l.Network, "endpoints", a.String()))
		}
	}
	if target := r.published(); len(r.Ports) > 0 && target != nil {
		batch, err := s.removal(r.Ports, target.addrs())
		if err != nil {
			return err
		}
		log.Filter(batch)
	}
	return log.Write(dir)
}

// published is the index of the network to which ports are published; -1 if
// there is none.
func published(nets []*Network) int {
	for i, n := range nets {
		if !n.Internal {
			return i
		}
	}
	return -1
}

// published is the link to which ports are published, which is the one of the
// default route, too; nil if there is none.
func (r *Record) published() *Link {
	for _, l := range r.Links {
		if !l.Internal {
			return l
		}
	}
	return nil
}

// Target is the address of the container that a published port leads to; for one
// with several it is that of IPv4.
func (r *Record) Target() netip.Addr {
	if l := r.published(); l != nil {
		if a := l.addrs(); len(a) > 0 {
			return a[0]
		}
	}
	return netip.Addr{}
}

// make makes the kernel's part.
func (a *Attachment) make() {
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		err = fmt.Errorf("talk to the kernel's networks: %w", err)
		a.ns <- namespaceResult{err: err}
		a.done <- err
		return
	}
	defer host.Close()
	filtered := make(chan error, 1)
	ready := make(chan struct{}) // the bridges are there, or never will be
	var bridges error
	go func() {
		bridges = a.store.ensure(a.nets, a.container)
		close(ready)
		err := bridges
		if err == nil {
			err = a.store.publish(&a.Record, a.container)
		}
		filtered <- err
	}()
	handed := false
	err = namespace(a.newNamespace, func(ns *os.File) error {
		handed = true
		return a.inside(host, ns, func() bool { <-ready; return bridges == nil })
	}, a.ns)
	if !handed {
		a.ns <- namespaceResult{err: err}
	}
	a.done <- errors.Join(<-filtered, err)
}

// inside runs in a thread that is in the new namespace.
func (a *Attachment) inside(host *netlink.Handle, ns *os.File, bridges func() bool) error {
	inside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("talk to the container's network: %w", err)
	}
	defer inside.Close()
	if err := loopbackUp(inside); err != nil {
		return err
	}
	if a.nameServer {
		if a.NameServer, err = nameServerSockets(); err != nil {
			return err
		}
	}
	if !bridges() {
		return nil // whoever makes them says why
	}
	for _, l := range a.Links {
		if err := plug(host, l, int(ns.Fd()), len(a.Ports) > 0 && l == a.published()); err != nil {
			return err
		}
		if err := configure(inside, l, l == a.published()); err != nil {
			return fmt.Errorf("network %s: %w", l.Network, err)
		}
	}
	return nil
}

// filterLock is the name of the lock that guards the table: shared by whoever
// adds or removes elements that the directory of networks already tells, or no
// longer; exclusive to rebuild it from there.
const filterLock = "filter.lock"

// publish lets the host's clients reach a container's ports.
func (s *Store) publish(r *Record, container string) error {
	if len(r.Ports) == 0 {
		return nil
	}
	err := s.addPorts(r.Ports, r.published().addrs())
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOENT) {
		// Left by a container that is no more, or gone by another's hand.
		if err := s.mend(container); err != nil {
			return err
		}
		err = s.addPorts(r.Ports, r.published().addrs())
	}
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		return errors.New("publish ports: another container, which has lost its monitor, has one of the ports; see: brig ps")
	}
	if err != nil {
		return fmt.Errorf("publish ports: %w", err)
	}
	return nil
}

func (s *Store) addPorts(ports []Port, addrs []netip.Addr) error {
	return s.changePorts(ports, addrs, (*filter).add)
}

func (s *Store) changePorts(ports []Port, addrs []netip.Addr, change func(*filter, *nftables.Set, []nftables.SetElement) error) error {
	l, err := s.flock(filterLock, unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer l.Close()
	f, err := s.newFilter()
	if err != nil {
		return err
	}
	all := map[*nftables.Set][]nftables.SetElement{}
	f.ofPorts(all, ports, addrs)
	for set, elements := range all {
		if err := change(f, set, elements); err != nil {
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
func (s *Store) ensure(nets []*Network, container string) error {
	f, err := s.newFilter(nftables.AsLasting())
	if err != nil {
		return err
	}
	defer f.close()
	missing := !f.whole()
	var down []*Network
	for _, n := range nets {
		up, err := isUp(n)
		if err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
		if !up {
			missing, down = true, append(down, n)
		}
	}
	if missing {
		if err := s.mend(container); err != nil {
			return err
		}
	}
	for _, n := range down { // only then, so that one that is up has its rules, too
		if err := s.bridgeUp(n); err != nil {
			return fmt.Errorf("network %s: make bridge %s: %w", n.Name, n.Bridge, err)
		}
	}
	return nil
}

// Mend makes sure that the packet filter is as it should be for the networks that
// have a bridge, whoever has flushed it.
func (s *Store) Mend() error {
	l, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer l.Close()
	nets, err := s.List()
	if err != nil {
		return err
	}
	for _, n := range nets {
		if _, err := netlink.LinkByName(n.Bridge); err == nil {
			return s.ensure(nil, "")
		}
	}
	return nil
}

// mend brings the table in line with what the directory of networks says, but for
// the published ports of one container, which come after: another may have them.
// It is one batch.
func (s *Store) mend(but string) error {
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
			if e.Container != but {
				f.ofPorts(all, e.Ports, e.Addrs)
			}
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
			return s.mend("")
		}
	}
	f, err := s.newFilter() // no bridge is left
	if err != nil {
		return err
	}
	return f.drop()
}
