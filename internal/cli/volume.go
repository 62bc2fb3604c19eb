package cli

import (
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/volume"
)

func newVolume(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume COMMAND",
		Short: "Make, list and remove volumes",
		Long: `Make, list and remove volumes. A volume is a directory that outlives the
containers that mount it, by its name with -v or --mount. An empty volume gets what
the image has at its place.`,
		Example: `  brig volume create data
  brig run -d --name db -v data:/var/lib/postgresql/data postgres
  brig volume inspect data`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownSubcommand(c, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, make := range []func(*app) *cobra.Command{newVolumeCreate, newVolumeLs, newVolumeInspect, newVolumeRm, newVolumePrune} {
		sub := make(a)
		sub.DisableFlagsInUseLine = true
		cmd.AddCommand(sub)
	}
	return cmd
}

// volumes opens the store of volumes.
func (a *app) volumes() (*volume.Store, error) {
	e, err := a.engine()
	if err != nil {
		return nil, err
	}
	return e.Volumes(), nil
}
