package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/brig-run/brig/internal/network"
	"github.com/brig-run/brig/internal/spec"
)

// InspectionNetwork is the container's networks.
type InspectionNetwork struct {
	SandboxKey             string // path of the network namespace
	Ports                  map[string][]InspectionPort
	Gateway                string
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	MacAddress             string
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	Networks               map[string]*InspectionEndpoint
}

// InspectionPort is where a port is published.
type InspectionPort struct {
	HostIp   string
	HostPort string
}

// InspectionEndpoint is the container in one network.
type InspectionEndpoint struct {
	IPAMConfig          *InspectionIPAM
	Links               []string
	Aliases             []string
	MacAddress          string
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	DNSNames            []string
}

// InspectionIPAM is the addresses that the user asked for.
type InspectionIPAM struct {
	IPv4Address string `json:",omitempty"`
	IPv6Address string `json:",omitempty"`
}

// hostIPs are the addresses of the host on which a port is published, in words.
func hostIPs(ip netip.Addr) []string {
	if ip.IsValid() {
		return []string{ip.String()}
	}
	return []string{"0.0.0.0", "::"}
}

func (c *Container) inspectNetwork(s *State) (n InspectionNetwork, err error) {
	r, err := c.NetworkRecord()
	if err != nil {
		return n, err
	}
	n.Ports, n.Networks = map[string][]InspectionPort{}, map[string]*InspectionEndpoint{}
	if s.Up() {
		n.SandboxKey = fmt.Sprintf("/proc/%d/ns/net", s.PID)
		for _, p := range c.ExposedPorts() {
			n.Ports[p] = nil
		}
		for _, p := range r.Ports {
			key := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
			for _, ip := range hostIPs(p.HostIP) {
				n.Ports[key] = append(n.Ports[key], InspectionPort{ip, strconv.Itoa(int(p.HostPort))})
			}
		}
	}
	if !c.Options.Network.Bridged() {
		if c.Options.Network.Container() == "" {
			n.Networks[string(c.Network())] = &InspectionEndpoint{}
		}
		return n, nil
	}
	for _, w := range c.Options.Wanted() {
		e := &InspectionEndpoint{MacAddress: w.MAC, Aliases: w.Aliases}
		if w.IPv4.IsValid() || w.IPv6.IsValid() {
			e.IPAMConfig = &InspectionIPAM{addrText(w.IPv4), addrText(w.IPv6)}
		}
		if n.Networks[w.Network] = e; w.Network != network.Default {
			e.DNSNames = slices.Concat([]string{c.Name}, w.Aliases, []string{c.ID[:12]})
			if c.Options.Hostname != "" {
				e.DNSNames = append(e.DNSNames, c.Options.Hostname)
			}
		}
		for _, l := range r.Links {
			if l.Network == w.Network {
				e.fill(c, l)
			}
		}
	}
	if e := n.Networks[network.Default]; e != nil { // Docker repeats it, for older clients
		n.Gateway, n.IPAddress, n.IPPrefixLen, n.MacAddress = e.Gateway, e.IPAddress, e.IPPrefixLen, e.MacAddress
		n.IPv6Gateway, n.GlobalIPv6Address, n.GlobalIPv6PrefixLen = e.IPv6Gateway, e.GlobalIPv6Address, e.GlobalIPv6PrefixLen
	}
	return n, nil
}

func (e *InspectionEndpoint) fill(c *Container, l *network.Link) {
	e.MacAddress, e.NetworkID, e.EndpointID = l.MAC, l.NetworkID, l.EndpointID(c.ID)
	e.Gateway, e.IPv6Gateway = addrText(l.Gateway4), addrText(l.Gateway6)
	if l.IPv4.IsValid() {
		e.IPAddress, e.IPPrefixLen = l.IPv4.Addr().String(), l.IPv4.Bits()
	}
	if l.IPv6.IsValid() {
		e.GlobalIPv6Address, e.GlobalIPv6PrefixLen = l.IPv6.Addr().String(), l.IPv6.Bits()
	}
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// ExposedPorts are the ports that the image and the user name, as "80/tcp".
func (c *Container) ExposedPorts() []string {
	if !c.Options.Network.Publishes() {
		return nil
	}
	return spec.Exposed(&c.Options, &c.ImageConfig)
}

// portBindings are the ports to publish as the user wrote them.
func portBindings(list []spec.Publish) map[string][]InspectionPort {
	m := map[string][]InspectionPort{}
	for _, p := range list {
		b := InspectionPort{HostIp: addrText(p.HostIP)}
		if p.HostPort != 0 {
			b.HostPort = strconv.Itoa(int(p.HostPort))
		}
		if p.HostPortEnd != 0 {
			b.HostPort += "-" + strconv.Itoa(int(p.HostPortEnd))
		}
		key := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		m[key] = append(m[key], b)
	}
	return m
}
