package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/nameserver"
	"github.com/brig-run/brig/internal/nearest"
	"github.com/brig-run/brig/internal/network"
	"github.com/brig-run/brig/internal/network/undo"
	"github.com/brig-run/brig/internal/pasta"
	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/socket"
	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/internal/userns"
)

// Networks are the networks of this root.
func (e *Engine) Networks() *network.Store { return e.networks() }

func (e *Engine) openNetworks() func() *network.Store {
	return sync.OnceValue(func() *network.Store {
		return network.Open(e.path("networks"), e.Root == DefaultRoot, e.holdsAddress)
	})
}

// networkInfo counts networks, and warns of what would keep packets from them.
func (e *Engine) networkInfo(i *Info) error {
	list, err := e.Networks().List()
	if err != nil {
		return err
	}
	for _, n := range list {
		if n.Name != network.Default {
			i.Networks++
		}
	}
	i.Warnings = append(i.Warnings, e.Networks().Obstacles()...)
	return nil
}

// holdsAddress says whether a container may still need its addresses: it runs,
// or somebody works on it.
func (e *Engine) holdsAddress(id string) bool {
	c, err := e.load(id)
	if err != nil {
		var missing *NotFoundError
		return !errors.As(err, &missing)
	}
	l, err := c.lock()
	if err == errLocked {
		return true
	}
	if err != nil {
		return false
	}
	defer l.Close()
	s, err := c.readState()
	return err != nil || s != nil && s.Running && alive(s)
}

// networkFile holds, in a container's directory, what it has of networks while it
// runs: a network.Record.
const networkFile = "network.json"

// attached is a start's part of the networks.
type attached struct {
	*network.Attachment
	held     []*os.File // ports of the host
	resolver spec.Resolver
	ns       *os.File // made and connected by pasta, or nil
}

// attachNetworks begins to make the networks of a container that is in some.
func (s *starter) attachNetworks() error {
	c := s.c
	s.net = &attached{resolver: c.resolver()}
	if c.Options.Network == spec.NetworkPasta {
		return s.attachPasta()
	}
	wanted := c.Options.Wanted()
	if len(wanted) == 0 {
		return nil
	}
	var err error
	var ports []network.Port
	if ports, s.net.held, err = network.Bind(portWishes(spec.Published(&c.Options, &c.ImageConfig))); err != nil {
		return err
	}
	s.files = append(s.files, s.net.held...)
	var create func() (*os.File, error)
	if s.userns != nil { // so that the container's capabilities count in it
		create = func() (*os.File, error) { return runtime.NewNetworkNamespace(s.userns) }
	}
	s.net.Attachment, err = c.engine.Networks().Attach(network.Request{
		NewNamespace: create,
		Dir:          c.dir(), Member: c.member(), Wishes: wishes(wanted), Ports: ports, NameServer: s.net.resolver.Embedded,
	})
	if err != nil {
		return networkError(err)
	}
	return nil
}

// networkError adds a way out where the kernel, or this user, cannot make networks.
func networkError(err error) error {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT, unix.ENOSYS} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w; to go without a network: --network none", err)
		}
	}
	return err
}

func portWishes(list []spec.Publish) (all []network.PortWish) {
	for _, p := range list {
		all = append(all, network.PortWish{Port: network.Port{Protocol: p.Protocol, HostIP: p.HostIP, HostPort: p.HostPort, Port: p.Port}, Last: p.HostPortEnd})
	}
	return all
}

func wishes(list []spec.Endpoint) (all []network.Wish) {
	for _, e := range list {
		all = append(all, network.Wish(e))
	}
	return all
}

func (c *Container) member() network.Member {
	return network.Member{Container: c.ID, Name: c.Name, Hostname: c.Options.Hostname}
}

// finishNetworks waits until the networks are made, and records them.
func (s *starter) finishNetworks() error {
	if s.net.Attachment == nil {
		return nil
	}
	a := s.net.Attachment
	s.net.Attachment = nil // nothing to wait for any more
	if err := a.Wait(); err != nil {
		return networkError(err)
	}
	for _, f := range a.NameServer {
		s.keep(f)
	}
	if err := s.c.writeRecord(&a.Record); err != nil {
		return err
	}
	return s.handOver(&a.Record, a.NameServer)
}

// handOver gives the monitor what it is to keep for the networks.
func (s *starter) handOver(r *network.Record, nameServer [2]*os.File) error {
	if len(s.net.held) == 0 && nameServer[0] == nil {
		return nil
	}
	client, err := s.booting.wait()
	if err != nil {
		return fmt.Errorf("start the monitor: %w", err)
	}
	var ports []monitor.Port
	for _, p := range r.Ports {
		ports = append(ports, monitor.Port{UDP: p.Protocol == "udp", To: socket.Address{IP: string(r.Target().AsSlice()), Port: p.Port}})
	}
	if err = client.Hold(s.net.held, ports); err == nil && nameServer[0] != nil {
		err = client.Names(nameServer)
	}
	if err != nil {
		return fmt.Errorf("talk to the monitor: %w", err)
	}
	return nil
}

// dropNetworks ends networks in the making, after a failure.
func (s *starter) dropNetworks() {
	if s.net != nil && s.net.Attachment != nil {
		if s.net.Attachment.Wait() == nil {
			for _, f := range s.net.Attachment.NameServer {
				f.Close()
			}
		}
	}
	undo.Perform(s.c.dir())
}

func (c *Container) writeRecord(r *network.Record) error {
	b, err := json.Marshal(r)
	if err == nil {
		err = writeAtomic(c.file(networkFile), b, false)
	}
	if err != nil {
		return fmt.Errorf("record the container's networks: %w", err)
	}
	return nil
}

// NetworkRecord is what the container has of networks; nothing unless it runs.
func (c *Container) NetworkRecord() (r network.Record, err error) {
	if !c.Options.Network.Publishes() {
		return r, nil
	}
	s, err := c.readState()
	if err != nil || s == nil || !s.Running {
		return r, err
	}
	b, err := os.ReadFile(c.file(networkFile))
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		return r, fmt.Errorf("container %s: %s: %w", c.Name, networkFile, err)
	}
	return r, nil
}

// resolver is how the container finds names.
func (c *Container) resolver() spec.Resolver {
	host, _ := os.ReadFile("/etc/resolv.conf")
	if spec.OnlyStub(host) {
		if real, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); err == nil {
			host = real
		}
	}
	return spec.ResolvConf(&c.Options, host, len(c.namedNetworks()) > 0)
}

// namedNetworks are the names of the container's networks in which containers
// have names.
func (c *Container) namedNetworks() (list []string) {
	for _, e := range c.Options.Wanted() {
		if e.Network != network.Default {
			list = append(list, e.Network)
		}
	}
	return list
}

// writeNames says to the container's name server where names are found.
func (c *Container) writeNames(r *network.Record, upstream []string) error {
	conf := nameserver.Config{}
	for _, u := range upstream {
		a, err := netip.ParseAddr(u)
		if err != nil {
			continue // the host's file may hold anything
		}
		server := nameserver.Server{Addr: string(a.Unmap().WithZone("").AsSlice())}
		if i, err := net.InterfaceByName(a.Zone()); err == nil {
			server.Zone = uint32(i.Index)
		}
		conf.Upstream = append(conf.Upstream, server)
	}
	out := false
	for _, l := range r.Links {
		if out = out || !l.Internal; l.Names {
			conf.Networks = append(conf.Networks, nameserver.Network{Name: l.Network, Dir: c.engine.Networks().EndpointDir(l.Network)})
		}
	}
	if !out {
		conf.Upstream = nil
	}
	if err := conf.Write(c.dir()); err != nil {
		return fmt.Errorf("write down where names are found: %w", err)
	}
	return nil
}

// settleNetwork chooses the network where the user has not, and the default one
// cannot be: an ordinary user makes no bridges.
func settleNetwork(o *spec.Options) error {
	switch {
	case o.Network == spec.NetworkPasta && !userns.Inside():
		return usage("--network pasta is for ordinary users; root has --network bridge")
	case o.Network == spec.NetworkPasta && !pasta.Installed():
		return usage("--network pasta: %v", pasta.ErrMissing)
	case !userns.Inside() || !o.Network.Bridged():
		return nil
	case o.Network != "" || len(o.Endpoints) > 0:
		return usage("networks need root; without, use --network pasta, host, private or none")
	case pasta.Installed():
		o.Network = spec.NetworkPasta
	case len(o.Publish) > 0 || o.PublishAll:
		return usage("to publish a port without root: %v", pasta.ErrMissing)
	default:
		o.Network = spec.NetworkPrivate
	}
	return nil
}

// checkNetworks refuses networks that do not exist, and containers whose network
// is to be shared.
func (c *Container) checkNetworks() error {
	if name := c.Options.Network.Container(); name != "" {
		_, err := c.engine.Find(name)
		return err
	}
	for i, w := range c.Options.Wanted() {
		if w.Network == network.Default {
			continue // makes itself
		}
		n, err := c.engine.Networks().Find(w.Network)
		var missing *network.NotFoundError
		if errors.As(err, &missing) {
			return c.engine.unknownNetwork(w.Network)
		}
		if err != nil {
			return networkError(err)
		}
		c.Options.Endpoints[i].Network = n.Name // it may have been an ID
		if i == 0 {
			c.Options.Network = spec.NetworkMode(n.Name)
		}
	}
	return nil
}

func (e *Engine) unknownNetwork(name string) error {
	known := []string{"bridge", "host", "none", "private"}
	if list, err := e.Networks().List(); err == nil {
		for _, n := range list {
			known = append(known, n.Name)
		}
	}
	if near := nearest.Name(name, slices.Values(known)); near != "" {
		return usage("--network %s: network %s not found; did you mean %s?", name, name, near)
	}
	return usage("--network %s: network %s not found; make it: brig network create %s", name, name, name)
}

// sharedWith finds the container whose network this one shares, by way of others.
func (c *Container) sharedWith() (*Container, error) {
	seen := map[string]bool{}
	for at := c; ; {
		name := at.Options.Network.Container()
		if name == "" {
			return at, nil
		}
		next, err := c.engine.Find(name)
		if err != nil {
			return nil, err
		}
		if seen[next.ID] {
			return nil, usage("--network container:%s: the containers share each other's network", name)
		}
		seen[next.ID], at = true, next
	}
}

// sharedNetwork is the path of the network namespace that the container shares,
// and the host name that goes with it.
func (c *Container) sharedNetwork() (path, hostname string, err error) {
	if path, err = c.engine.namespaceOf(c.Options.Network.Container(), "net"); err != nil {
		return "", "", err
	}
	owner, err := c.sharedWith()
	if err != nil {
		return "", "", err
	}
	b, err := os.ReadFile(owner.file("hostname"))
	if err != nil {
		return "", "", fmt.Errorf("share the network of container %s: %w", owner.Name, err)
	}
	return path, strings.TrimSpace(string(b)), nil
}

// ConnectNetwork puts the container into a further network: now if it runs, and
// at its next start.
func (c *Container) ConnectNetwork(w spec.Endpoint) error {
	return c.changeNetworks(func(running *network.Running) error {
		return c.connect(w, running)
	})
}

func (c *Container) connect(w spec.Endpoint, running *network.Running) error {
	if c.Options.Network != "" && !c.Options.Network.Bridged() {
		return usage("container %s is with --network %s and cannot be connected to networks; make it anew without", c.Name, c.Options.Network)
	}
	n, err := c.engine.Networks().Find(w.Network)
	if err != nil {
		return err
	}
	w.Network = n.Name
	c.Options.Endpoints = c.Options.Wanted()
	for _, have := range c.Options.Endpoints {
		if m, err := c.engine.Networks().Find(have.Network); err == nil && m.Name == n.Name {
			return usage("container %s is already connected to network %s", c.Name, n.Name)
		}
	}
	names := len(c.namedNetworks()) > 0 || c.resolver().Embedded
	c.Options.Endpoints = append(c.Options.Endpoints, w)
	if err := c.Options.Validate(); err != nil || running == nil {
		return err
	}
	sockets, err := c.engine.Networks().Connect(running, network.Wish(w), !names && n.Names())
	if err != nil || sockets[0] == nil {
		return err
	}
	defer sockets[0].Close()
	defer sockets[1].Close()
	m, err := monitor.Dial(c.dir())
	if err == nil {
		err = m.Names(sockets)
		m.Close()
	}
	if err != nil {
		return fmt.Errorf("give the container its name server: %w", err)
	}
	return nil
}

// DisconnectNetwork takes the container out of a network.
func (c *Container) DisconnectNetwork(name string) error {
	return c.changeNetworks(func(running *network.Running) error {
		n, err := c.engine.Networks().Find(name)
		if err != nil {
			return err
		}
		c.Options.Endpoints = c.Options.Wanted()
		at := slices.IndexFunc(c.Options.Endpoints, func(e spec.Endpoint) bool {
			m, err := c.engine.Networks().Find(e.Network)
			return err == nil && m.Name == n.Name
		})
		if at < 0 {
			return usage("container %s is not connected to network %s", c.Name, n.Name)
		}
		c.Options.Endpoints = slices.Delete(slices.Clone(c.Options.Endpoints), at, at+1)
		c.Options.Network = spec.NetworkNone
		if len(c.Options.Endpoints) > 0 {
			c.Options.Network = spec.NetworkMode(c.Options.Endpoints[0].Network)
		}
		if running == nil {
			return nil
		}
		return c.engine.Networks().Disconnect(running, n.Name)
	})
}

// changeNetworks changes the container's options and, if it runs, its networks,
// and then its files in /etc.
func (c *Container) changeNetworks(change func(*network.Running) error) error {
	l, err := c.lockChanges()
	if err != nil {
		return err
	}
	defer l.Close()
	now, err := c.engine.load(c.ID)
	if err != nil {
		return err
	}
	*c = *now
	s, err := c.State()
	if err != nil {
		return err
	}
	if !s.Up() {
		if err := change(nil); err != nil {
			return err
		}
		return c.save(true)
	}
	r := &network.Running{Dir: c.dir(), Namespace: fmt.Sprintf("/proc/%d/ns/net", s.PID), Member: c.member()}
	if r.Record, err = c.NetworkRecord(); err != nil {
		return err
	}
	if err := change(r); err != nil {
		return err
	}
	if err := c.save(true); err != nil {
		return err
	}
	if err := c.writeRecord(&r.Record); err != nil {
		return err
	}
	return c.rewriteEtc(&r.Record)
}

// renameInNetworks lets the container be found by its new name, if it runs.
func (c *Container) renameInNetworks() error {
	r, err := c.NetworkRecord()
	if err != nil || len(r.Links) == 0 {
		return err
	}
	return c.engine.Networks().Renamed(&network.Running{Dir: c.dir(), Member: c.member(), Record: r})
}

// lockChanges takes the lock of whoever changes what was fixed at the container's
// creation, while it may run.
func (c *Container) lockChanges() (*os.File, error) {
	d, err := os.Open(c.dir())
	if errors.Is(err, os.ErrNotExist) {
		return nil, &NotFoundError{c.ID}
	}
	if err != nil {
		return nil, err
	}
	for {
		switch err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err {
		case nil:
			return d, nil
		case unix.EINTR:
		default:
			d.Close()
			return nil, fmt.Errorf("lock container %s: %w", c.Name, err)
		}
	}
}

// HostPorts are the published ports of the container, as they are now.
func (c *Container) HostPorts() ([]network.Port, error) {
	owner, err := c.sharedWith()
	if err != nil {
		return nil, err
	}
	r, err := owner.NetworkRecord()
	return r.Ports, err
}

// addrs are the addresses of all of a record's links.
func recordAddrs(r *network.Record) (list []string, gateway string) {
	for _, l := range r.Links {
		for _, p := range []netip.Prefix{l.IPv4, l.IPv6} {
			if p.IsValid() {
				list = append(list, p.Addr().String())
			}
		}
		for _, g := range []netip.Addr{l.Gateway4, l.Gateway6} {
			if g.IsValid() && gateway == "" {
				gateway = g.String()
			}
		}
	}
	return list, gateway
}
