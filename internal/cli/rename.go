package cli

import (
	"github.com/spf13/cobra"
)

func newRename(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "rename CONTAINER NEW_NAME",
		Short:   "Give a container another name",
		Example: `  brig rename web old-web`,
		Args:    exactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.container(args[0])
			if err != nil {
				return err
			}
			return c.Rename(args[1])
		},
	}
}
