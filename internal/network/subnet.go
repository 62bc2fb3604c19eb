package network

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// CreateOptions is what a network is made from.
type CreateOptions struct {
	Name     string
	Bridge   string         // wanted name of the interface, or ""
	Subnets  []netip.Prefix // at most one of each family
	Gateways []netip.Addr   // inside of a subnet each
	Ranges   []netip.Prefix // inside of a subnet each
	IPv6     bool           // with a subnet of IPv6, made up if none is given
	Internal bool
	MTU      int
	Labels   map[string]string
	Options  map[string]string
}

// subnets settles the subnets of a new network: the wanted ones, or free ones.
func (s *Store) subnets(o *CreateOptions, others []*Network) ([]Subnet, error) {
	taken, err := takenPrefixes()
	if err != nil {
		return nil, err
	}
	for _, n := range others {
		for _, sub := range n.Subnets {
			taken = append(taken, claim{sub.Prefix, "network " + n.Name})
		}
	}
	list, err := wantedSubnets(o, taken)
	if err != nil {
		return nil, err
	}
	has := func(v6 bool) bool { return (&Network{Subnets: list}).Family(v6) != nil }
	if !has(false) {
		p, err := s.freePrefix(o.Name, taken)
		if err != nil {
			return nil, err
		}
		list = append([]Subnet{{Prefix: p}}, list...)
	}
	if o.IPv6 && !has(true) {
		list = append(list, Subnet{Prefix: uniqueLocal(newID())})
	}
	return list, place(list, o)
}

// wantedSubnets checks what the user asked for.
func wantedSubnets(o *CreateOptions, taken []claim) ([]Subnet, error) {
	var list []Subnet
	for _, p := range o.Subnets {
		sub := Subnet{Prefix: p.Masked()}
		switch {
		case p != p.Masked():
			return nil, fmt.Errorf("--subnet %s: the address has bits behind the prefix; write %s", p, p.Masked())
		case p.Addr().Is4() && p.Bits() > 30, p.Bits() > 126:
			return nil, fmt.Errorf("--subnet %s: no room for a gateway and a container; use a shorter prefix", p)
		case p.Addr().Is4() && p.Bits() < 8, p.Addr().Is6() && p.Bits() < 16:
			return nil, fmt.Errorf("--subnet %s: too large; use a longer prefix", p)
		case (&Network{Subnets: list}).Family(p.Addr().Is6()) != nil:
			return nil, fmt.Errorf("--subnet %s: a network has one subnet of a family; drop one", p)
		}
		for _, t := range taken {
			if t.prefix.Overlaps(p) {
				return nil, fmt.Errorf("--subnet %s: overlaps with %s (%s); choose another", p, t.owner, t.prefix)
			}
		}
		list = append(list, sub)
	}
	return list, nil
}

// place puts gateways and ranges into their subnets.
func place(list []Subnet, o *CreateOptions) error {
	find := func(a netip.Addr) *Subnet {
		for i := range list {
			if list[i].Prefix.Contains(a) {
				return &list[i]
			}
		}
		return nil
	}
	for _, g := range o.Gateways {
		sub := find(g)
		if sub == nil {
			return fmt.Errorf("--gateway %s: not in a subnet of the network; give it with --subnet", g)
		}
		if !usable(sub.Prefix, g) || sub.Gateway.IsValid() {
			return fmt.Errorf("--gateway %s: cannot be the gateway of %s", g, sub.Prefix)
		}
		sub.Gateway = g
	}
	for _, r := range o.Ranges {
		sub := find(r.Addr())
		if sub == nil || r.Bits() < sub.Prefix.Bits() || sub.Range.IsValid() {
			return fmt.Errorf("--ip-range %s: not a part of a subnet of the network; give it with --subnet", r)
		}
		sub.Range = r.Masked()
	}
	for i := range list {
		if !list[i].Gateway.IsValid() {
			list[i].Gateway = list[i].Prefix.Addr().Next()
		}
	}
	return nil
}

// usable says whether a host of the subnet may have the address: not the
// network's own, nor the broadcast address of IPv4.
func usable(p netip.Prefix, a netip.Addr) bool {
	return p.Contains(a) && a != p.Addr() && !(a.Is4() && a == last(p))
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// claim is a prefix that somebody uses.
type claim struct {
	prefix netip.Prefix
	owner  string
}

// takenPrefixes are those that the machine has addresses in or routes to, and
// the name servers that it asks.
func takenPrefixes() ([]claim, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list the machine's routes: %w", err)
	}
	var list []claim
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		if ok && ones > 0 && !a.IsLinkLocalUnicast() && !a.IsMulticast() {
			list = append(list, claim{netip.PrefixFrom(a.Unmap(), ones), "a route of the machine"})
		}
	}
	b, _ := os.ReadFile("/etc/resolv.conf")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			if a, err := netip.ParseAddr(f[1]); err == nil && !a.IsLoopback() {
				list = append(list, claim{netip.PrefixFrom(a.WithZone(""), a.BitLen()), "a name server in /etc/resolv.conf"})
			}
		}
	}
	return list, nil
}

// freePrefix finds a private subnet of IPv4 that nobody uses: 10.87.0.0/16 and
// those above it for the default network, a /24 of 10.86.0.0/16 and those below
// it for others.
//
// Roots other than the machine's usual one, of which there may be many, begin at a
// place of their own, with a /20 of 10.128.0.0/9 for the default network: what
// another root has chosen cannot be seen before its first container runs.
func (s *Store) freePrefix(name string, taken []claim) (netip.Prefix, error) {
	from, bits, count, down := uint32(10<<24|87<<16), 16, uint32(169), false
	switch {
	case name != Default:
		from, bits, count, down = 10<<24|86<<16|255<<8, 24, 87<<8, true
	case s.owner != "":
		from, bits, count = 10<<24|128<<16, 20, 1<<11
	}
	begin := uint32(0)
	if s.owner != "" {
		n, _ := strconv.ParseUint(s.owner, 16, 32)
		begin = uint32(n) % count
	}
	for i := range count {
		step := (begin + i) % count << (32 - bits)
		base := from + step
		if down {
			base = from - step
		}
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], base)
		p := netip.PrefixFrom(netip.AddrFrom4(a), bits)
		if !slices.ContainsFunc(taken, func(t claim) bool { return t.prefix.Overlaps(p) }) {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("no free private subnet is left: name one with --subnet")
}

// uniqueLocal makes up a prefix of IPv6 that nobody else uses (RFC 4193).
func uniqueLocal(seed string) netip.Prefix {
	sum := sha256.Sum256([]byte(seed))
	var a [16]byte
	a[0] = 0xfd
	copy(a[1:8], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// Option sets an option in Docker's words, KEY=VALUE.
func (o *CreateOptions) Option(v string) error {
	key, value, _ := strings.Cut(v, "=")
	switch key {
	case bridgeOption:
		if value == "" || len(value) > 15 || strings.ContainsAny(value, "/ \t\n:") || value == "." || value == ".." {
			return fmt.Errorf("--opt %q: an interface's name has up to 15 characters, no space, slash or colon", v)
		}
		o.Bridge = value
	case "com.docker.network.driver.mtu":
		n, err := strconv.Atoi(value)
		if err != nil || n < 68 || n > 65535 {
			return fmt.Errorf("--opt %q: the MTU is a number from 68 to 65535", v)
		}
		o.MTU = n
	default:
		return fmt.Errorf("--opt %q: unknown option; use %s or com.docker.network.driver.mtu", v, bridgeOption)
	}
	if o.Options == nil {
		o.Options = map[string]string{}
	}
	o.Options[key] = value
	return nil
}
