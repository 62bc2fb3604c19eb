package network

import (
	"strings"
	"time"
)

// Inspection is what is known of a network, in Docker's form.
type Inspection struct {
	Name       string
	ID         string `json:"Id"`
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       InspectionIPAM
	Internal   bool
	Containers map[string]InspectionEndpoint // by ID
	Options    map[string]string
	Labels     map[string]string
}

// InspectionIPAM is the addresses of a network.
type InspectionIPAM struct {
	Driver string
	Config []InspectionSubnet
}

// InspectionSubnet is one subnet.
type InspectionSubnet struct {
	Subnet  string
	IPRange string `json:",omitempty"`
	Gateway string
}

// InspectionEndpoint is a container in a network.
type InspectionEndpoint struct {
	Name        string
	MacAddress  string
	IPv4Address string
	IPv6Address string
}

// bridgeOption is Docker's name of the option for the name of the bridge.
const bridgeOption = "com.docker.network.bridge.name"

// Inspect tells all about a network. Containers that are no more are left out,
// and their addresses are free again.
func (s *Store) Inspect(n *Network) (*Inspection, error) {
	if err := s.sweep(n); err != nil {
		return nil, err
	}
	list, err := s.Endpoints(n)
	if err != nil {
		return nil, err
	}
	v := &Inspection{Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: "bridge", Internal: n.Internal,
		EnableIPv4: n.Family(false) != nil, EnableIPv6: n.Family(true) != nil, IPAM: InspectionIPAM{Driver: "default"},
		Containers: map[string]InspectionEndpoint{}, Options: map[string]string{bridgeOption: n.Bridge}, Labels: map[string]string{}}
	for k, o := range n.Options {
		v.Options[k] = o
	}
	for k, l := range n.Labels {
		v.Labels[k] = l
	}
	for _, sub := range n.Subnets {
		c := InspectionSubnet{Subnet: sub.Prefix.String(), Gateway: sub.Gateway.String()}
		if sub.Range.IsValid() {
			c.IPRange = sub.Range.String()
		}
		v.IPAM.Config = append(v.IPAM.Config, c)
	}
	for _, e := range list {
		v.Containers[e.Container] = inspectEndpoint(n, e)
	}
	return v, nil
}

func inspectEndpoint(n *Network, e *Endpoint) InspectionEndpoint {
	x := InspectionEndpoint{Name: e.Name, MacAddress: e.MAC}
	for _, a := range e.Addrs {
		sub := n.Family(a.Is6())
		if sub == nil {
			continue
		}
		text := a.String() + sub.Prefix.String()[strings.IndexByte(sub.Prefix.String(), '/'):]
		if a.Is4() {
			x.IPv4Address = text
		} else {
			x.IPv6Address = text
		}
	}
	return x
}
