package cli

import (
	"io"

	"github.com/spf13/cobra"
)

func newExport(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [flags] CONTAINER",
		Short: "Write a container's file system as a tar archive",
		Long: `Write a container's file system as a tar archive, to a file or standard output.
Volumes and bind mounts are no part of it.`,
		Example: `  brig export -o web.tar web
  brig export web | brig import - web:flat`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.container(args[0])
			if err != nil {
				return err
			}
			return a.saveTo(output, func(w io.Writer) error { return c.Export(cmd.Context(), w) })
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this file, not to standard output")
	return cmd
}
