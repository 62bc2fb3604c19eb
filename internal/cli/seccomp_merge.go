package cli

import (
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/seccomp"
)

func newSeccompMerge(a *app) *cobra.Command {
	o := &convertOptions{}
	var intersect bool
	to := []string{seccomp.FormDocker, seccomp.FormText, seccomp.FormOCI, seccomp.FormSystemd}
	cmd := &cobra.Command{
		Use:   "merge [flags] PROFILE...",
		Short: "Join profiles into one that allows what any, or all, of them allow",
		Long: `Join profiles into one that allows what any of them allows, as for recordings of
several runs, or with --intersect what all of them allow. Each PROFILE is a file
in any form, "-" for standard input, or "default" for the profile that containers
get. Rules that say the same are written once.

For every call and all arguments, the answer of the result is the most permissive
of the answers of the profiles, or with --intersect the least; where rules cannot
say that exactly, merge fails and names the call. Default action, architectures
and flags must be the same.
` + targetHelp,
		Example: `  brig seccomp merge -o nginx.json run1.json run2.json reload.json
  brig seccomp merge --to text default profile.seccomp
  brig seccomp merge --intersect default profile.json`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var profiles []*seccomp.Profile
			for _, name := range args {
				p, err := seccompProfile(name)
				if err != nil {
					return err
				}
				profiles = append(profiles, p)
			}
			join := seccomp.Merge
			if intersect {
				join = seccomp.Intersect
			}
			p, err := join(profiles...)
			if err != nil {
				return err
			}
			return o.write(a, p, to)
		},
		ValidArgsFunction: completeProfiles,
	}
	o.register(cmd, to)
	cmd.Flags().BoolVar(&intersect, "intersect", false, "allow what all of them allow")
	return cmd
}
