package cli

import "github.com/spf13/cobra"

func newTag(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE NAME[:TAG]",
		Short: "Give an image another name",
		Example: `  brig tag debian:bookworm base
  brig tag 0f3c4a registry.example.com/team/app:1.0`,
		Args: exactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			images, err := a.images()
			if err != nil {
				return err
			}
			if err := images.Tag(args[0], args[1]); err != nil {
				return err
			}
			if i, err := images.Resolve(args[1], nil); err == nil {
				a.eng.Event("image", "tag", i.ID, "name", args[1])
			}
			return nil
		},
	}
}
