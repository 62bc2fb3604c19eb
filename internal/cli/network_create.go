package cli

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/network"
	"github.com/brig-run/brig/internal/spec"
)

func newNetworkCreate(a *app) *cobra.Command {
	o := network.CreateOptions{}
	var labels, opts []string
	var driver string
	cmd := &cobra.Command{
		Use:   "create [flags] NETWORK",
		Short: "Make a network",
		Example: `  brig network create backend
  brig network create --subnet 10.20.0.0/24 --gateway 10.20.0.254 --ipv6 lab
  brig network create --internal vault`,
		Args: exactArgs(1),
	}
	f := cmd.Flags()
	parsed(f, "subnet", "", "prefix", "subnet, as 10.20.0.0/24; one for IPv4, one for IPv6", prefixOf("--subnet"), func(p netip.Prefix) { o.Subnets = append(o.Subnets, p) })
	parsed(f, "gateway", "", "address", "address of the host in a subnet (default the first)", addressOf("--gateway"), func(v netip.Addr) { o.Gateways = append(o.Gateways, v) })
	parsed(f, "ip-range", "", "prefix", "part of a subnet from which containers get addresses", prefixOf("--ip-range"), func(p netip.Prefix) { o.Ranges = append(o.Ranges, p) })
	f.BoolVar(&o.IPv6, "ipv6", false, "give the network IPv6, too")
	f.BoolVar(&o.Internal, "internal", false, "no way out of the network, and none in")
	f.StringVarP(&driver, "driver", "d", "bridge", "bridge is the only driver")
	f.StringArrayVar(&labels, "label", nil, "set a label: KEY=VALUE")
	f.StringArrayVarP(&opts, "opt", "o", nil, "com.docker.network.bridge.name=NAME or com.docker.network.driver.mtu=BYTES")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		o.Name = args[0]
		if driver != "bridge" {
			return fmt.Errorf("--driver %q: bridge is the only driver", driver)
		}
		var err error
		if o.Labels, err = labelMap(labels); err != nil {
			return err
		}
		for _, v := range opts {
			if err := o.Option(v); err != nil {
				return err
			}
		}
		s, err := a.networks()
		if err != nil {
			return err
		}
		n, err := s.Create(o)
		if err != nil {
			return err
		}
		a.eng.Event("network", "create", n.ID, "name", n.Name, "type", "bridge")
		fmt.Fprintln(a.out, n.ID)
		return nil
	}
	return cmd
}

func labelMap(labels []string) (map[string]string, error) {
	m := map[string]string{}
	for _, l := range labels {
		k, v, err := spec.ParseLabel("--label", l)
		if err != nil {
			return nil, err
		}
		m[k] = v
	}
	return m, nil
}

// prefixOf makes a parser of prefixes that names its flag in errors.
func prefixOf(flag string) func(string) (netip.Prefix, error) {
	return func(v string) (netip.Prefix, error) {
		p, err := netip.ParsePrefix(v)
		if err != nil {
			return p, fmt.Errorf("%s %q: write an address and the length of the prefix, as in 10.20.0.0/24", flag, v)
		}
		return p, nil
	}
}

func addressOf(flag string) func(string) (netip.Addr, error) {
	return func(v string) (netip.Addr, error) {
		p, err := netip.ParseAddr(v)
		if err != nil || p.Zone() != "" {
			return p, fmt.Errorf("%s %q: not an IP address", flag, v)
		}
		return p.Unmap(), nil
	}
}
