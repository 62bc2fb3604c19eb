package cli

import (
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/network"
)

func newNetwork(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "network COMMAND",
		Short: "Make, list and remove networks",
		Long: `Make, list and remove networks. A network is a bridge with its own subnets;
containers on it reach each other, by name on all but the default one, and the
outside through the host. Networks do not reach each other.`,
		Example: `  brig network create backend
  brig run -d --name db --network backend postgres
  brig run --rm --network backend alpine ping -c1 db`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownSubcommand(c, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, make := range []func(*app) *cobra.Command{newNetworkCreate, newNetworkLs, newNetworkInspect, newNetworkConnect, newNetworkDisconnect, newNetworkRm, newNetworkPrune} {
		sub := make(a)
		sub.DisableFlagsInUseLine = true
		cmd.AddCommand(sub)
	}
	return cmd
}

// networks opens the store of networks, and mends what the kernel has of them.
func (a *app) networks() (*network.Store, error) {
	e, err := a.engine()
	if err != nil {
		return nil, err
	}
	s := e.Networks()
	return s, s.Mend()
}
