package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/image"
)

func newPush(a *app) *cobra.Command {
	var quiet, all bool
	var reg registryFlags
	cmd := &cobra.Command{
		Use:   "push [flags] NAME[:TAG]",
		Short: "Push an image to the registry in its name",
		Example: `  brig tag app registry.example.com/team/app:1.0
  brig push registry.example.com/team/app:1.0
  brig push --all-tags registry.example.com/team/app`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			images, err := a.images()
			if err != nil {
				return err
			}
			names := args
			if all {
				if names, err = images.TagsOf(args[0]); err != nil {
					return err
				}
			}
			for _, n := range names {
				if err := a.push(cmd, images, n, reg.options(), quiet); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "print the full name only")
	f.BoolVarP(&all, "all-tags", "a", false, "push all tags that the image has in the repository")
	reg.add(f)
	return cmd
}

func (a *app) push(cmd *cobra.Command, images *image.Store, name string, o image.RegistryOptions, quiet bool) error {
	ref, err := image.ParseReference(name)
	if err != nil {
		return err
	}
	p := a.newProgress(quiet)
	defer p.Close()
	p.Message(fmt.Sprintf("The push refers to repository [%s]", ref.Repository()))
	pushed, err := images.Push(cmd.Context(), name, image.PushOptions{RegistryOptions: o, Progress: p})
	p.Close()
	if err != nil {
		return err
	}
	if quiet {
		fmt.Fprintln(a.out, pushed.Ref)
		return nil
	}
	fmt.Fprintf(a.out, "%s: digest: %s size: %d\n", pushed.Ref.Tag, pushed.Digest, pushed.Size)
	return nil
}
