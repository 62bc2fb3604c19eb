package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/network"
)

func newNetworkRm(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm [flags] NETWORK [NETWORK...]",
		Aliases: []string{"remove"},
		Short:   "Remove networks that no container is in",
		Example: `  brig network rm backend`,
		Args:    minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.networks()
			if err != nil {
				return err
			}
			return a.forEach(args, func(name string) error {
				n, _ := s.Find(name)
				err := s.Remove(name)
				if err == nil && n != nil {
					a.eng.Event("network", "destroy", n.ID, "name", n.Name, "type", "bridge")
				}
				var missing *network.NotFoundError
				if force && errors.As(err, &missing) {
					return nil
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not complain about a network that is not there")
	return cmd
}
