package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/image"
)

func newDiff(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "diff CONTAINER",
		Short: "Show what a container has changed of its image's files",
		Long: `Show what a container has changed of its image's files: A added, C changed,
D deleted. Volumes and bind mounts are no part of it.`,
		Example: `  brig diff web`,
		Args:    exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.container(args[0])
			if err != nil {
				return err
			}
			changes, err := c.Diff()
			for _, ch := range changes {
				// A name of the container's must not steer the terminal.
				fmt.Fprintf(a.out, "%c %s\n", ch.Kind, image.Printable(ch.Path, 1<<16))
			}
			return err
		},
	}
}
