package cli

import (
	"slices"

	"github.com/spf13/cobra"
)

// newContainer is the group of all commands about containers, as under Docker.
func newContainer(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "container COMMAND",
		Short: "All commands about containers, in one group",
		Example: `  brig container ls -a
  brig container prune`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownSubcommand(c, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	members := []string{"attach", "commit", "cp", "create", "diff", "exec", "export", "inspect", "kill", "logs", "pause", "port",
		"ps", "rename", "restart", "rm", "run", "start", "stats", "stop", "top", "unpause", "update", "wait"}
	for _, c := range commands() {
		if !slices.Contains(members, c.name) {
			continue
		}
		sub := c.make(a)
		switch c.name {
		case "ps":
			sub.Use, sub.Aliases = "ls [flags]", []string{"ps", "list"}
		case "inspect":
			sub.Short = "Print all that is known of containers, as JSON"
			sub.Flags().Set("type", "container")
			sub.Flags().MarkHidden("type")
		}
		sub.DisableFlagsInUseLine = true
		cmd.AddCommand(sub)
	}
	prune := newContainerPrune(a)
	prune.DisableFlagsInUseLine = true
	cmd.AddCommand(prune)
	return cmd
}
