package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/image"
)

func newCommit(a *app) *cobra.Command {
	var o engine.CommitOptions
	cmd := &cobra.Command{
		Use:   "commit [flags] CONTAINER [NAME[:TAG]]",
		Short: "Make an image of a container",
		Long: `Make an image of a container: its image with one layer more, which has what the
container changed. Volumes and bind mounts are no part of it.`,
		Example: `  brig commit web site:2
  brig commit -m "with curl" -c 'CMD ["curl", "--version"]' box tools`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return argsError(c, "1 or 2 arguments")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				o.Name = args[1]
				if _, err := image.ParseReference(o.Name); err != nil {
					return err
				}
			}
			if !cmd.Flags().Changed("pause") { // else it is a wish that must be granted
				o.Warn = func(err error) { fmt.Fprintf(a.err, "WARNING: %s\n", err) }
			}
			c, err := a.container(args[0])
			if err != nil {
				return err
			}
			id, err := c.Commit(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, id)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Author, "author", "a", "", `author, as "Ada Lovelace <ada@example.com>"`)
	f.StringArrayVarP(&o.Changes, "change", "c", nil, "apply an instruction of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR")
	f.StringVarP(&o.Message, "message", "m", "", "comment for the image's history")
	f.BoolVarP(&o.Pause, "pause", "p", true, "let the container stand still meanwhile")
	return cmd
}
