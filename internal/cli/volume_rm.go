package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/volume"
)

func newVolumeRm(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "rm [flags] VOLUME [VOLUME...]",
		Aliases: []string{"remove"},
		Short:   "Remove volumes that no container uses",
		Long: `Remove volumes that no container uses, with all that is in them. What a volume
was mounted from (its options type and device) stays as it is.`,
		Example: `  brig volume rm data
  brig volume rm $(brig volume ls -q --filter dangling=true)`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.volumes()
			if err != nil {
				return err
			}
			return a.forEach(args, func(name string) error {
				err := s.Remove(name)
				if err == nil {
					a.eng.Event("volume", "destroy", name, "driver", "local")
				}
				var missing *volume.NotFoundError
				if force && errors.As(err, &missing) {
					return nil
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not complain about a volume that is not there")
	return cmd
}
