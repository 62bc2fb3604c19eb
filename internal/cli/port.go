package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/network"
	"github.com/brig-run/brig/internal/spec"
)

func newPort(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "port CONTAINER [PORT[/PROTOCOL]]",
		Short: "Show where a container's ports are published",
		Example: `  brig port web
  brig port web 80
  curl http://$(brig port web 80/tcp | head -1)/`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return argsError(c, "1 or 2 arguments")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.container(args[0])
			if err != nil {
				return err
			}
			ports, err := c.HostPorts()
			if err != nil {
				return err
			}
			want := ""
			if len(args) == 2 {
				list, err := spec.ParseExpose(args[1])
				if err != nil || len(list) != 1 {
					return fmt.Errorf("port %q: write PORT[/PROTOCOL], as in 80/tcp", args[1])
				}
				want = list[0]
			}
			return a.printPorts(args[0], ports, want)
		},
	}
}

func (a *app) printPorts(name string, ports []network.Port, want string) error {
	sortPorts(ports)
	found := false
	for _, p := range ports {
		key := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		for _, host := range hostAddresses(p) {
			switch want {
			case "":
				fmt.Fprintf(a.out, "%s -> %s:%d\n", key, host, p.HostPort)
			case key:
				fmt.Fprintf(a.out, "%s:%d\n", host, p.HostPort)
				found = true
			}
		}
	}
	if want != "" && !found {
		return fmt.Errorf("no public port %q published for %s", want, name)
	}
	return nil
}

func sortPorts(ports []network.Port) {
	slices.SortFunc(ports, func(a, b network.Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), a.HostIP.Compare(b.HostIP), cmp.Compare(a.HostPort, b.HostPort))
	})
}

// hostAddresses are the addresses at which a port is published, as in a URL.
func hostAddresses(p network.Port) []string {
	switch {
	case !p.HostIP.IsValid():
		return []string{"0.0.0.0", "[::]"}
	case p.HostIP.Is6():
		return []string{"[" + p.HostIP.String() + "]"}
	}
	return []string{p.HostIP.String()}
}

// portsText is the column of ps: published ports, ranges put together, and ports
// that are only exposed.
func portsText(c *engine.Container, s engine.State) string {
	exposed := c.ExposedPorts()
	if !s.Up() || len(exposed) == 0 {
		return ""
	}
	ports, err := c.HostPorts()
	if err != nil {
		return ""
	}
	sortPorts(ports)
	var list []portRange
	for _, p := range ports {
		for _, host := range hostAddresses(p) {
			list = appendPort(list, portRange{host: host, protocol: p.Protocol, first: p.Port, last: p.Port, hostFirst: p.HostPort, hostLast: p.HostPort})
		}
	}
	for _, e := range exposed {
		number, protocol, _ := strings.Cut(e, "/")
		if !slices.ContainsFunc(ports, func(p network.Port) bool { return fmt.Sprintf("%d/%s", p.Port, p.Protocol) == e }) {
			var n uint16
			fmt.Sscan(number, &n)
			list = appendPort(list, portRange{protocol: protocol, first: n, last: n})
		}
	}
	text := make([]string, len(list))
	for i, r := range list {
		text[i] = r.String()
	}
	return strings.Join(text, ", ")
}

// portRange is a run of ports that are published side by side, or not at all.
type portRange struct {
	host, protocol                   string
	first, last, hostFirst, hostLast uint16
}

func appendPort(list []portRange, p portRange) []portRange {
	for i := range list {
		r := &list[i]
		if r.host == p.host && r.protocol == p.protocol && r.last+1 == p.first && (p.host == "" || r.hostLast+1 == p.hostFirst) {
			r.last, r.hostLast = p.last, p.hostLast
			return list
		}
	}
	return append(list, p)
}

func (r portRange) String() string {
	span := func(a, b uint16) string {
		if a == b {
			return fmt.Sprint(a)
		}
		return fmt.Sprintf("%d-%d", a, b)
	}
	if r.host == "" {
		return span(r.first, r.last) + "/" + r.protocol
	}
	return fmt.Sprintf("%s:%s->%s/%s", r.host, span(r.hostFirst, r.hostLast), span(r.first, r.last), r.protocol)
}

// networksText are the names of a container's networks.
func networksText(c *engine.Container) string {
	wanted := c.Options.Wanted()
	if len(wanted) == 0 {
		return string(c.Network())
	}
	var names []string
	for _, w := range wanted {
		names = append(names, w.Network)
	}
	return strings.Join(names, ",")
}
