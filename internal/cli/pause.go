package cli

import (
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
)

func newPause(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "pause CONTAINER [CONTAINER...]",
		Short:   "Make all processes of containers stand still",
		Example: `  brig pause web`,
		Args:    minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.each(args, func(c *engine.Container) error { return c.Pause() })
		},
	}
}

func newUnpause(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "unpause CONTAINER [CONTAINER...]",
		Short:   "Let the processes of paused containers go on",
		Example: `  brig unpause web`,
		Args:    minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.each(args, func(c *engine.Container) error { return c.Unpause() })
		},
	}
}
