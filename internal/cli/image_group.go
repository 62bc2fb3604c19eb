package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// newImage is the group of the commands for images. All but prune are those that
// stand by themselves, too.
func newImage(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image COMMAND",
		Short: "Manage images",
		Example: `  brig image ls
  brig image inspect debian
  brig image prune --all --filter until=24h`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownSubcommand(c, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, s := range []struct {
		name, alias string
		make        func(*app) *cobra.Command
	}{
		{"ls", "list", newImages}, {"inspect", "", newImageInspect}, {"rm", "remove", newRmi}, {"prune", "", newImagePrune},
		{"pull", "", newPull}, {"push", "", newPush}, {"tag", "", newTag}, {"build", "", newBuild},
		{"load", "", newLoad}, {"save", "", newSave}, {"import", "", newImport}, {"history", "", newHistory},
	} {
		cmd.AddCommand(inGroup("brig image", s.make(a), s.name, s.alias))
	}
	return cmd
}

// inGroup gives a command the name that it has in a group.
func inGroup(group string, sub *cobra.Command, name, alias string) *cobra.Command {
	old, rest, _ := strings.Cut(sub.Use, " ")
	sub.Use = strings.TrimSpace(name + " " + rest)
	for _, end := range []string{" ", "\n"} {
		sub.Example = strings.ReplaceAll(sub.Example+"\n", "brig "+old+end, group+" "+name+end)
		sub.Example = strings.TrimSuffix(sub.Example, "\n")
	}
	if alias != "" {
		sub.Aliases = append(sub.Aliases, alias)
	}
	sub.DisableFlagsInUseLine = true
	return sub
}

func newImageInspect(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [flags] IMAGE [IMAGE...]",
		Short: "Print all that is known of images, as JSON",
		Example: `  brig image inspect debian
  brig image inspect --format '{{.Config.Cmd}}' debian`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.inspect(args, "image", format, false) },
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "json, or a Go template such as '{{.Config.Cmd}}'")
	return cmd
}
