package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/network"
	"github.com/brig-run/brig/internal/spec"
)

func newNetworkConnect(a *app) *cobra.Command {
	var e spec.Endpoint
	cmd := &cobra.Command{
		Use:   "connect [flags] NETWORK CONTAINER",
		Short: "Put a container into a further network",
		Long: `Put a container into a further network: at once if it runs, and at its next
start.`,
		Example: `  brig network connect backend web
  brig network connect --alias db --ip 10.20.0.5 backend postgres`,
		Args: exactArgs(2),
	}
	f := cmd.Flags()
	addEndpoint(f, &e)
	parsed(f, "alias", "", "name", "further name in the network", spec.ParseNetworkAlias, func(v string) { e.Aliases = append(e.Aliases, v) })
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		c, err := a.container(args[1])
		if err != nil {
			return err
		}
		e.Network = args[0]
		return c.ConnectNetwork(e)
	}
	return cmd
}

func newNetworkDisconnect(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "disconnect [flags] NETWORK CONTAINER",
		Short:   "Take a container out of a network",
		Example: `  brig network disconnect bridge web`,
		Args:    exactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.container(args[1])
			if err == nil {
				err = c.DisconnectNetwork(args[0])
			}
			var noNetwork *network.NotFoundError
			var noContainer *engine.NotFoundError
			if force && (errors.As(err, &noNetwork) || errors.As(err, &noContainer)) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not complain about a network or container that is not there")
	return cmd
}

// completeNetworks gives the names of networks, and of containers after them
// where those follow.
func (a *app) completeNetworks(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 && (c.Name() == "connect" || c.Name() == "disconnect") {
		return a.completeContainers()(c, args, typed)
	}
	s, err := a.networks()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _ := s.List()
	var names []string
	for _, n := range list {
		names = append(names, fmt.Sprintf("%s\t%s", n.Name, n.Subnets[0].Prefix))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
