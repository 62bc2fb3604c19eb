package cli

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/network"
)

func newNetworkPrune(a *app) *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove all networks that no container is in",
		Long: `Remove all networks that no container is in. The default network stays, but its
bridge goes until it is needed again.`,
		Example: `  brig network prune -f
  brig network prune --filter label=test`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			for _, f := range filters {
				if !strings.HasPrefix(f, "label=") {
					return fmt.Errorf("--filter %q: use label=KEY or label=KEY=VALUE", f)
				}
			}
			if !force && !a.confirm("This will remove all networks that no container is in.") {
				return nil
			}
			return a.networkPrune(filters)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&force, "force", "f", false, "do not ask")
	f.StringArrayVar(&filters, "filter", nil, "remove those with label= only")
	return cmd
}

func (a *app) networkPrune(filters []string) error {
	s, err := a.networks()
	if err != nil {
		return err
	}
	match, err := networkFilter(filters)
	if err != nil {
		return err
	}
	gone, err := s.Prune(func(n *network.Network) bool { return !match(networkRow{labels: n.Labels}) })
	if len(gone) > 0 {
		fmt.Fprintln(a.out, "Deleted Networks:")
	}
	for _, name := range gone {
		fmt.Fprintln(a.out, name)
	}
	return err
}

// confirm asks whether to go on.
func (a *app) confirm(what string) bool {
	fmt.Fprintf(a.out, "WARNING! %s\nAre you sure you want to continue? [y/N] ", what)
	line, _ := bufio.NewReader(a.in).ReadString('\n')
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes"
}
