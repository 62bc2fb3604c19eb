package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/network"
)

// networkRow is one network in the list, with Docker's field names.
type networkRow struct {
	ID        string
	Name      string
	Driver    string
	Scope     string
	IPv4      string
	IPv6      string
	Internal  string
	Labels    string
	CreatedAt string

	labels map[string]string
}

// Label is the value of one label.
func (r networkRow) Label(name string) string { return r.labels[name] }

var networkFormat = listFormat{
	table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
	headers: map[string]string{
		"ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6",
		"Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
	},
}

func newNetworkLs(a *app) *cobra.Command {
	var filters []string
	var format string
	var quiet, noTrunc bool
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List networks",
		Example: `  brig network ls
  brig network ls --filter name=back --format '{{.Name}}: {{.Driver}}'`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			rows, err := a.networkRows(filters, noTrunc)
			if err != nil {
				return err
			}
			if !quiet {
				return networkFormat.print(a.out, format, rows)
			}
			for _, r := range rows {
				fmt.Fprintln(a.out, r.(networkRow).ID)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&filters, "filter", "f", nil, "show those with name=, id=, label=, driver= or type=")
	f.StringVar(&format, "format", "", formatHelp)
	f.BoolVarP(&quiet, "quiet", "q", false, "print IDs only")
	f.BoolVar(&noTrunc, "no-trunc", false, "do not shorten")
	return cmd
}

func (a *app) networkRows(filters []string, full bool) ([]any, error) {
	match, err := networkFilter(filters)
	if err != nil {
		return nil, err
	}
	s, err := a.networks()
	if err != nil {
		return nil, err
	}
	if _, err := s.Find(network.Default); err != nil {
		return nil, err
	}
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	var rows []any
	for _, n := range list {
		r := networkRow{ID: n.ID, Name: n.Name, Driver: "bridge", Scope: "local", IPv4: fmt.Sprint(n.Family(false) != nil),
			IPv6: fmt.Sprint(n.Family(true) != nil), Internal: fmt.Sprint(n.Internal), Labels: labelText(n.Labels), labels: n.Labels,
			CreatedAt: n.Created.Local().Format("2006-01-02 15:04:05 -0700 MST")}
		if !match(r) {
			continue
		}
		if !full {
			r.ID = shortID(r.ID)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// networkFilter makes one condition of all filters, as psFilter does.
func networkFilter(given []string) (func(networkRow) bool, error) {
	byKey := filters{}
	for _, f := range given {
		k, v, err := byKey.add(f)
		switch {
		case err != nil:
			return nil, err
		case !slices.Contains([]string{"name", "id", "label", "driver", "type"}, k):
			return nil, fmt.Errorf("--filter %q: unknown key; use name, id, label, driver or type", f)
		case k == "type" && v != "custom" && v != "builtin":
			return nil, fmt.Errorf("--filter %q: use custom or builtin", f)
		}
	}
	return func(r networkRow) bool {
		return byKey.hold(func(k, v string) bool { return networkMatch(r, k, v) })
	}, nil
}

func networkMatch(r networkRow, key, v string) bool {
	switch key {
	case "name":
		return strings.Contains(r.Name, v)
	case "id":
		return strings.HasPrefix(r.ID, v)
	case "driver":
		return r.Driver == v
	case "type":
		return (v == "builtin") == (r.Name == network.Default)
	}
	return hasLabel(r.labels, v)
}
