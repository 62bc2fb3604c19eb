package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newRmi(a *app) *cobra.Command {
	var force, noPrune bool
	cmd := &cobra.Command{
		Use:   "rmi [flags] IMAGE [IMAGE...]",
		Short: "Remove names of images, and images that have none left",
		Long: `Remove names of images. With its last name an image goes, and what only it
needed. An image that a container needs stays; -f takes off its names.`,
		Example: `  brig rmi busybox
  brig rmi -f 0f3c4a
  brig rmi $(brig images -q --filter dangling=true)`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			failed := false
			for _, n := range args {
				if err := a.rmi(n, force); err != nil {
					failed = true
					fmt.Fprintf(a.err, "brig: %s\n", err)
				}
			}
			if failed {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&force, "force", "f", false, "take off all names, also those of an image that a container needs")
	f.BoolVar(&noPrune, "no-prune", false, "accepted for Docker's sake: there are no parent images to keep")
	return cmd
}

func (a *app) rmi(name string, force bool) error {
	images, err := a.images()
	if err != nil {
		return err
	}
	r, err := images.Remove(name, force, a.eng.ContainersOf)
	if r != nil {
		for _, n := range r.Untagged {
			fmt.Fprintln(a.out, "Untagged: "+n)
			a.eng.Event("image", "untag", n, "name", n)
		}
		for _, d := range r.Deleted {
			fmt.Fprintln(a.out, "Deleted: "+d)
			a.eng.Event("image", "delete", d, "name", d)
		}
	}
	return err
}
