package spec

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-connections/nat"
)

// NetworkMode is the value of --network: the name or ID of a network, one of the
// modes below, or "container:NAME". "" is NetworkBridge.
type NetworkMode string

const (
	NetworkBridge  NetworkMode = "bridge"  // the default network
	NetworkPrivate NetworkMode = "private" // own namespace; its own name leads to itself
	NetworkNone    NetworkMode = "none"    // own namespace with nothing but loopback
	NetworkHost    NetworkMode = "host"
	// NetworkPasta is an ordinary user's: own namespace that pasta(1) connects.
	NetworkPasta NetworkMode = "pasta"
)

// Own reports whether the container is in a network namespace other than the
// host's.
func (m NetworkMode) Own() bool { return m != NetworkHost }

// Container gives the name or ID of the container whose network is shared, or
// "".
func (m NetworkMode) Container() string { return containerOf(string(m)) }

// Bridged reports whether the container is in networks.
func (m NetworkMode) Bridged() bool {
	return m != NetworkHost && m != NetworkNone && m != NetworkPrivate && m != NetworkPasta && m.Container() == ""
}

// Publishes reports whether ports of the container can be published.
func (m NetworkMode) Publishes() bool { return m.Bridged() || m == NetworkPasta }

// Endpoint is what a container wants of a network that it is in.
type Endpoint struct {
	Network string     `json:"network"` // name or ID
	IPv4    netip.Addr `json:"ipv4,omitzero"`
	IPv6    netip.Addr `json:"ipv6,omitzero"`
	MAC     string     `json:"mac,omitempty"`
	Aliases []string   `json:"aliases,omitempty"`
}

// Publish is a port of the container that the host's clients reach.
type Publish struct {
	Protocol    string     `json:"protocol"`              // "tcp" or "udp"
	HostIP      netip.Addr `json:"hostIP,omitzero"`       // unset: all of the host's
	HostPort    uint16     `json:"hostPort,omitempty"`    // 0: any free one
	HostPortEnd uint16     `json:"hostPortEnd,omitempty"` // above HostPort: the first free one of the range
	Port        uint16     `json:"port"`
}

// Wanted are the networks that the container wants to be in, the first one
// first.
func (o *Options) Wanted() []Endpoint {
	switch {
	case !o.Network.Bridged():
		return nil
	case len(o.Endpoints) == 0:
		return []Endpoint{{Network: string(o.NetworkMode())}}
	}
	return o.Endpoints
}

// NetworkMode is the network's mode by name.
func (o *Options) NetworkMode() NetworkMode {
	if o.Network == "" {
		return NetworkBridge
	}
	return o.Network
}

// ParseNetwork reads the value of --network: a mode, a network's name, or
// name=NETWORK[,alias=NAME][,ip=ADDR][,ip6=ADDR][,mac-address=MAC]. Whether there
// is such a network is not known here.
func ParseNetwork(value string) (NetworkMode, Endpoint, error) {
	e := Endpoint{Network: value}
	if strings.Contains(value, "=") {
		var err error
		if e, err = parseEndpoint(value); err != nil {
			return "", e, badValue("--network", value, "%v", err)
		}
	}
	mode := NetworkMode(e.Network)
	switch {
	case mode == "default":
		mode, e.Network = NetworkBridge, string(NetworkBridge)
	case strings.HasPrefix(e.Network, "container:") && mode.Container() != "":
	case !isNetworkName(e.Network):
		return "", e, badValue("--network", value, "write bridge, none, private, host, container:NAME or a network's name")
	}
	if !mode.Bridged() {
		if strings.Contains(value, "=") {
			return "", e, badValue("--network", value, "%s is no network that addresses and aliases are for", mode)
		}
		e = Endpoint{}
	}
	return mode, e, nil
}

// isNetworkName accepts what a network may be called; IDs look the same.
func isNetworkName(s string) bool {
	ok := s != "" && len(s) <= 128
	for i := range len(s) {
		ok = ok && (isAlnum(s[i]) || i > 0 && strings.IndexByte("_.-", s[i]) >= 0)
	}
	return ok
}

func parseEndpoint(value string) (e Endpoint, err error) {
	fields, err := csv.NewReader(strings.NewReader(value)).Read()
	if err != nil {
		return e, errors.New("write name=NETWORK,KEY=VALUE")
	}
	for _, f := range fields {
		key, v, _ := strings.Cut(f, "=")
		switch key {
		case "name":
			e.Network = v
		case "alias":
			e.Aliases = append(e.Aliases, v)
			_, err = ParseNetworkAlias(v)
		case "ip":
			e.IPv4, err = ParseIP("ip", v, false)
		case "ip6":
			e.IPv6, err = ParseIP("ip6", v, true)
		case "mac-address":
			e.MAC, err = ParseMAC("mac-address", v)
		default:
			err = errors.New(unknown("key", key, []string{"name", "alias", "ip", "ip6", "mac-address"}))
		}
		if err != nil {
			return e, err
		}
	}
	if e.Network == "" {
		return e, errors.New("name the network: name=NETWORK")
	}
	return e, nil
}

// AddNetwork adds the value of one --network. Networks add up; modes stand
// alone.
func (o *Options) AddNetwork(value string) error {
	mode, e, err := ParseNetwork(value)
	switch {
	case err != nil:
		return err
	case o.Network != "" && !(mode.Bridged() && o.Network.Bridged()):
		return badValue("--network", value, "cannot be combined with --network %s; name one of them", o.Network)
	case slices.ContainsFunc(o.Endpoints, func(have Endpoint) bool { return have.Network == e.Network }):
		return badValue("--network", value, "network %s is named twice; name it once", e.Network)
	case o.Network == "":
		o.Network = mode
	}
	if mode.Bridged() {
		o.Endpoints = append(o.Endpoints, e)
	}
	return nil
}

// ApplyFirst gives the first network what --ip, --ip6, --mac-address and
// --network-alias ask for.
func (o *Options) ApplyFirst(e Endpoint) error {
	if !e.IPv4.IsValid() && !e.IPv6.IsValid() && e.MAC == "" && len(e.Aliases) == 0 {
		return nil
	}
	if !o.Network.Bridged() {
		return fmt.Errorf("conflicting options: --ip, --mac-address or --network-alias, and --network %s: they are for networks; drop one of them", o.Network)
	}
	if len(o.Endpoints) == 0 {
		o.Endpoints = []Endpoint{{Network: string(o.NetworkMode())}}
	}
	first := &o.Endpoints[0]
	if first.IPv4.IsValid() && e.IPv4.IsValid() || first.IPv6.IsValid() && e.IPv6.IsValid() || first.MAC != "" && e.MAC != "" {
		return fmt.Errorf("conflicting options: --network %s names an address, and so do --ip, --ip6 or --mac-address; drop one of them", first.Network)
	}
	if e.IPv4.IsValid() {
		first.IPv4 = e.IPv4
	}
	if e.IPv6.IsValid() {
		first.IPv6 = e.IPv6
	}
	if e.MAC != "" {
		first.MAC = e.MAC
	}
	first.Aliases = append(first.Aliases, e.Aliases...)
	return nil
}

// ParseIP reads an address of one family for the named flag or key.
func ParseIP(name, value string, v6 bool) (netip.Addr, error) {
	a, err := netip.ParseAddr(value)
	if err != nil || a.Zone() != "" || a.Is4() == v6 || a.Is4In6() || a.IsUnspecified() {
		want := "IPv4 address, as 10.20.0.5"
		if v6 {
			want = "IPv6 address, as fd00:20::5"
		}
		return netip.Addr{}, badValue(name, value, "not an %s", want)
	}
	return a, nil
}

// ParseMAC reads an Ethernet address for the named flag or key.
func ParseMAC(name, value string) (string, error) {
	mac, err := net.ParseMAC(value)
	if err != nil || len(mac) != 6 {
		return "", badValue(name, value, "not an Ethernet address, as 02:42:ac:11:00:02")
	}
	if mac[0]&1 != 0 || slices.Equal(mac, make(net.HardwareAddr, 6)) {
		return "", badValue(name, value, "a group's address, or none: the first octet must be even and not all be 0")
	}
	return mac.String(), nil
}

// ParseNetworkAlias reads the value of --network-alias, a further name in a
// network.
func ParseNetworkAlias(value string) (string, error) {
	if !isHostName(value) {
		return "", badValue("--network-alias", value, "not a host name")
	}
	return value, nil
}

// ParsePublish reads the value of --publish, [[IP:][HOSTPORT]:]PORT[/PROTOCOL],
// with ranges FIRST-LAST; an IPv6 address stands in brackets.
func ParsePublish(value string) ([]Publish, error) {
	const flag = "--publish"
	list, err := nat.ParsePortSpec(value)
	if err != nil {
		return nil, badValue(flag, value, "%v; write [[IP:]HOSTPORT:]PORT[/udp], as in 8080:80", err)
	}
	var all []Publish
	for _, m := range list {
		p := Publish{Protocol: m.Port.Proto(), Port: uint16(m.Port.Int())}
		if p.Protocol != "tcp" && p.Protocol != "udp" {
			return nil, badValue(flag, value, "protocol %s is not supported; use tcp or udp", p.Protocol)
		}
		if p.Port == 0 {
			return nil, badValue(flag, value, "port 0 cannot be published")
		}
		if m.Binding.HostIP != "" {
			a, err := netip.ParseAddr(m.Binding.HostIP)
			if err != nil || a.Zone() != "" {
				return nil, badValue(flag, value, "%q is not an IP address", m.Binding.HostIP)
			}
			p.HostIP = a.Unmap()
		}
		first, last, err := portRange(m.Binding.HostPort)
		if err != nil {
			return nil, badValue(flag, value, "%v", err)
		}
		if p.HostPort = first; last > first {
			p.HostPortEnd = last
		}
		all = append(all, p)
	}
	return all, nil
}

func portRange(s string) (first, last uint16, err error) {
	if s == "" {
		return 0, 0, nil
	}
	a, b, ok := strings.Cut(s, "-")
	if !ok {
		b = a
	}
	x, errX := strconv.ParseUint(a, 10, 16)
	y, errY := strconv.ParseUint(b, 10, 16)
	if errX != nil || errY != nil || y < x {
		return 0, 0, fmt.Errorf("%q is not a port or a range of ports", s)
	}
	return uint16(x), uint16(y), nil
}

// ParseExpose reads the value of --expose, PORT[-PORT][/PROTOCOL], and gives
// each port as "80/tcp".
func ParseExpose(value string) ([]string, error) {
	ports, proto, ok := strings.Cut(value, "/")
	if !ok {
		proto = "tcp"
	}
	if proto = strings.ToLower(proto); proto != "tcp" && proto != "udp" {
		return nil, badValue("--expose", value, "%s", unknown("protocol", proto, []string{"tcp", "udp"}))
	}
	first, last, err := portRange(ports)
	if err != nil || first == 0 || strings.HasPrefix(ports, "+") {
		return nil, badValue("--expose", value, "write PORT[-PORT][/udp], as in 80")
	}
	var list []string
	for p := int(first); p <= int(last); p++ {
		list = append(list, fmt.Sprintf("%d/%s", p, proto))
	}
	return list, nil
}

// Exposed are the ports that the image and the user name as the container's own,
// as "80/tcp", in order.
func Exposed(o *Options, img *ImageConfig) []string {
	list := slices.Clone(o.Expose)
	for p := range img.ExposedPorts {
		if more, err := ParseExpose(p); err == nil {
			list = append(list, more...)
		}
	}
	for _, p := range o.Publish {
		list = append(list, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
	}
	slices.SortFunc(list, comparePorts)
	return slices.Compact(list)
}

func comparePorts(a, b string) int {
	x, y := nat.Port(a), nat.Port(b)
	if d := x.Int() - y.Int(); d != 0 {
		return d
	}
	return strings.Compare(x.Proto(), y.Proto())
}

// Published are the ports to publish: the user's, and with PublishAll those that
// are exposed.
func Published(o *Options, img *ImageConfig) []Publish {
	list := slices.Clone(o.Publish)
	if !o.PublishAll {
		return list
	}
	for _, e := range Exposed(o, img) {
		p := Publish{Protocol: nat.Port(e).Proto(), Port: uint16(nat.Port(e).Int())}
		if !slices.ContainsFunc(list, func(have Publish) bool { return have.Protocol == p.Protocol && have.Port == p.Port }) {
			list = append(list, p)
		}
	}
	return list
}

// checkNetwork refuses what a container that shares another's network cannot
// have, and addresses that no network gives.
func (o *Options) checkNetwork() error {
	if o.Network != "" {
		if _, _, err := ParseNetwork(string(o.Network)); err != nil {
			return err
		}
	}
	if o.Network.Container() != "" {
		for _, c := range []struct {
			set  bool
			what string
		}{
			{o.Hostname != "", "--hostname"}, {len(o.DNS) > 0, "--dns"}, {len(o.AddHost) > 0, "--add-host"},
			{len(o.Publish) > 0 || o.PublishAll, "--publish"}, {len(o.Expose) > 0, "--expose"},
		} {
			if c.set {
				return fmt.Errorf("conflicting options: %s and --network %s: that container's settings hold for both; drop one of them", c.what, o.Network)
			}
		}
	}
	for _, h := range o.AddHost {
		if h.IP == hostGateway && (o.Network == NetworkNone || o.Network == NetworkPrivate) {
			return fmt.Errorf("--add-host %s:%s: there is no way to the host with --network %s; drop one of them", h.Name, h.IP, o.Network)
		}
	}
	for _, e := range o.Endpoints {
		if e.Network == string(NetworkBridge) && len(e.Aliases) > 0 {
			return fmt.Errorf("--network-alias %s: the default network knows no names; make a network: brig network create NAME", e.Aliases[0])
		}
	}
	return nil
}
