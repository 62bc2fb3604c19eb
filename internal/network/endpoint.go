package network

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Wish is what a container wants of a network.
type Wish struct {
	Network string
	IPv4    netip.Addr // unset: any
	IPv6    netip.Addr
	MAC     string // empty: one that follows from the address
	Aliases []string
}

// Member is the container that wants it.
type Member struct {
	Container string // ID
	Name      string
	Hostname  string
}

// Endpoint is a container's place in a network, as its file says.
type Endpoint struct {
	Container string
	Name      string
	Names     []string     // all under which it is found, Name first
	Addrs     []netip.Addr // IPv4 first
	Ports     []Port       // published
	MAC       string
}

// endpointFile is the text of an endpoint's files: a line "KEY VALUE" for each.
func endpointFile(m *Member, mac string, aliases []string, ports []Port, addrs []netip.Addr) []byte {
	var b bytes.Buffer
	line := func(key, value string) { b.WriteString(key + " " + value + "\n") }
	line("container", m.Container)
	seen := map[string]bool{}
	for _, n := range append([]string{m.Name, m.Container[:12], m.Hostname}, aliases...) {
		if n != "" && !seen[n] {
			seen[n] = true
			line("name", n)
		}
	}
	for _, a := range addrs {
		line("address", a.String()+" "+hex.EncodeToString(a.AsSlice())) // for the name server
	}
	line("mac", mac)
	for _, p := range ports {
		host := "*"
		if p.HostIP.IsValid() {
			host = p.HostIP.String()
		}
		line("publish", fmt.Sprintf("%s %s %d %d", p.Protocol, host, p.HostPort, p.Port))
	}
	return b.Bytes()
}

func parsePublish(value string) (p Port, err error) {
	var host string
	if _, err = fmt.Sscanf(value, "%s %s %d %d", &p.Protocol, &host, &p.HostPort, &p.Port); err != nil {
		return p, fmt.Errorf("endpoint: publish %q: %w", value, err)
	}
	if host != "*" {
		if p.HostIP, err = netip.ParseAddr(host); err != nil {
			return p, fmt.Errorf("endpoint: publish %q: %w", value, err)
		}
	}
	return p, nil
}

// ParseEndpoint reads an endpoint's file. Lines that it does not know are a
// newer version's, and skipped.
func ParseEndpoint(b []byte) (*Endpoint, error) {
	e := &Endpoint{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "container":
			e.Container = value
		case "name":
			e.Names = append(e.Names, value)
		case "mac":
			e.MAC = value
		case "address":
			text, _, _ := strings.Cut(value, " ")
			a, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("endpoint: %w", err)
			}
			e.Addrs = append(e.Addrs, a)
		case "publish":
			p, err := parsePublish(value)
			if err != nil {
				return nil, err
			}
			e.Ports = append(e.Ports, p)
		}
	}
	if e.Container == "" || len(e.Names) == 0 || len(e.Addrs) == 0 {
		return nil, errors.New("endpoint: a line for container, name or address is missing")
	}
	e.Name = e.Names[0]
	return e, nil
}

// Endpoints lists who is in a network, in the order of their addresses' names.
func (s *Store) Endpoints(n *Network) ([]*Endpoint, error) {
	dir := s.path(n.Name, "endpoints")
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the endpoints of network %s: %w", n.Name, err)
	}
	var list []*Endpoint
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("endpoint of network %s: %w", n.Name, err)
		}
		e, err := ParseEndpoint(b)
		if err != nil {
			return nil, fmt.Errorf("network %s: %s: %w", n.Name, f.Name(), err)
		}
		if e.Addrs[0].String() == f.Name() { // the file stands under each of its addresses
			list = append(list, e)
		}
	}
	return list, nil
}

// sweep frees the addresses of containers that are no more.
func (s *Store) sweep(n *Network) error {
	list, err := s.Endpoints(n)
	if err != nil {
		return err
	}
	for _, e := range list {
		if s.Alive(e.Container) {
			continue
		}
		for _, a := range e.Addrs {
			os.Remove(s.endpointPath(n, a))
		}
	}
	return nil
}

func (s *Store) endpointPath(n *Network, a netip.Addr) string {
	return s.path(n.Name, "endpoints", a.String())
}

// errTaken says that another container has an address.
var errTaken = errors.New("taken")

// allocate gives a container its addresses in a network. The caller holds the
// lock of networks, shared. note is told the addresses before they are taken.
func (s *Store) allocate(n *Network, w *Wish, m *Member, ports []Port, note func([]netip.Addr) error) ([]netip.Addr, error) {
	for _, a := range []netip.Addr{w.IPv4, w.IPv6} {
		if a.IsValid() {
			if err := checkWanted(n, a); err != nil {
				return nil, err
			}
		}
	}
	swept := false
	for {
		addrs, err := s.candidate(n, w)
		if err == nil {
			if err = s.take(n, w, m, ports, addrs, note); err == nil {
				return addrs, nil
			}
		}
		switch {
		case !errors.Is(err, errTaken):
			return nil, err
		case !w.IPv4.IsValid() && !w.IPv6.IsValid() && len(addrs) > 0:
			continue // another was faster
		case !swept:
			swept = true
			if err := s.sweep(n); err != nil {
				return nil, err
			}
		case len(addrs) == 0:
			return nil, fmt.Errorf("network %s: no address is free; remove containers, or make a network with a larger --subnet", n.Name)
		default:
			return nil, fmt.Errorf("network %s: address %s is in use by another container; choose another", n.Name, w.wanted())
		}
	}
}

// wanted are the addresses that were asked for.
func (w *Wish) wanted() string {
	var text []string
	for _, a := range []netip.Addr{w.IPv4, w.IPv6} {
		if a.IsValid() {
			text = append(text, a.String())
		}
	}
	return strings.Join(text, ", ")
}

// checkWanted refuses an address that the network cannot give.
func checkWanted(n *Network, a netip.Addr) error {
	sub := n.Family(a.Is6())
	if sub == nil || !sub.Prefix.Contains(a) {
		return fmt.Errorf("address %s: not in a subnet of network %s; see: brig network inspect %s", a, n.Name, n.Name)
	}
	if !usable(sub.Prefix, a) || a == sub.Gateway {
		return fmt.Errorf("address %s: is the network's own or its gateway's; choose another", a)
	}
	return nil
}

// candidate gives the addresses to try next: one of each family. None and
// errTaken mean that all are given out.
func (s *Store) candidate(n *Network, w *Wish) ([]netip.Addr, error) {
	taken, err := s.takenAddrs(n)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for i := range n.Subnets {
		sub := &n.Subnets[i]
		a := w.IPv4
		if sub.Prefix.Addr().Is6() {
			a = w.IPv6
		}
		if !a.IsValid() {
			if a = nextFree(sub, s.lastGiven(n, sub), taken); !a.IsValid() {
				return nil, errTaken
			}
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

func (s *Store) takenAddrs(n *Network) (map[string]bool, error) {
	d, err := os.Open(s.path(n.Name, "endpoints"))
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", n.Name, err)
	}
	taken := make(map[string]bool, len(names))
	for _, name := range names {
		taken[name] = true
	}
	return taken, nil
}

// nextFree gives the first free address after one, around the end. An address
// is not given again at once, because others may still remember who had it.
func nextFree(sub *Subnet, after netip.Addr, taken map[string]bool) netip.Addr {
	within := sub.Prefix
	if sub.Range.IsValid() {
		within = sub.Range
	}
	a := after
	if !within.Contains(a) {
		a = within.Addr().Prev()
	}
	for range len(taken) + 5 { // of so many, one is free, or none at all
		if a = a.Next(); !within.Contains(a) {
			a = within.Addr()
		}
		if usable(sub.Prefix, a) && a != sub.Gateway && !taken[a.String()] {
			return a
		}
	}
	return netip.Addr{}
}

// lastGiven reads the address of a family that was given out last.
func (s *Store) lastGiven(n *Network, sub *Subnet) netip.Addr {
	b, _ := os.ReadFile(s.path(n.Name, "last"))
	for line := range strings.Lines(string(b)) {
		if a, err := netip.ParseAddr(strings.TrimSpace(line)); err == nil && sub.Prefix.Contains(a) {
			return a
		}
	}
	return netip.Addr{}
}

// take makes the files of an endpoint, or none.
func (s *Store) take(n *Network, w *Wish, m *Member, ports []Port, addrs []netip.Addr, note func([]netip.Addr) error) error {
	dir := s.path(n.Name, "endpoints")
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return &os.PathError{Op: "make a file in", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	if _, err := f.Write(endpointFile(m, macFor(n, w, addrs), w.Aliases, ports, addrs)); err != nil {
		return fmt.Errorf("take an address: %w", err)
	}
	if err := note(addrs); err != nil {
		return err
	}
	for i, a := range addrs {
		path := s.endpointPath(n, a)
		err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
		if err != nil {
			for _, b := range addrs[:i] {
				os.Remove(s.endpointPath(n, b))
			}
			if err == unix.EEXIST {
				return errTaken
			}
			return &os.PathError{Op: "take the address", Path: path, Err: err}
		}
	}
	var text bytes.Buffer
	for _, a := range addrs {
		text.WriteString(a.String() + "\n")
	}
	os.WriteFile(s.path(n.Name, "last"), text.Bytes(), 0o600) // only a hint
	return nil
}
