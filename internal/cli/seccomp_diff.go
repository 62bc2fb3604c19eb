package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/seccomp"
)

func newSeccompDiff(a *app) *cobra.Command {
	var target targetFlags
	var wide bool
	var format string
	cmd := &cobra.Command{
		Use:   "diff [flags] A B",
		Short: "Show which system calls two profiles answer differently",
		Long: `Show which system calls, with which arguments, B answers otherwise than A. What
the files look like does not matter: the filter of A is proved against the rules
of B, and what stands in the way is shown, so no difference is missed. Each A
and B is a file in any form, "-" for standard input, or "default".

The exit code is 0 if B permits nothing that A does not, and 1 if it is looser.`,
		Example: `  brig seccomp diff default profile.json
  brig seccomp diff --cap ALL --arch arm64 old.json new.json
  brig seccomp diff --format json old.json new.json | jq '.[] | select(.effect == "looser")'`,
		Args: exactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkFormat(format, tableOrJSON); err != nil {
				return err
			}
			t, err := target.target()
			if err != nil {
				return err
			}
			var policies [2]*seccomp.Policy
			for i, name := range args {
				p, err := seccompProfile(name)
				if err != nil {
					return err
				}
				if policies[i], _, err = p.ResolveWith(t, seccomp.Options{WideArgs: wide}); err != nil {
					return err
				}
			}
			list, err := seccomp.Diff(policies[0], policies[1])
			if err != nil {
				return err
			}
			return printChanges(a, list, format)
		},
	}
	target.register(cmd)
	cmd.Flags().BoolVar(&wide, "wide-args", false, "compare all 64 bits of arguments, as libseccomp does")
	addFormat(cmd, &format, tableOrJSON)
	cmd.ValidArgsFunction = completeTwoProfiles
	return cmd
}

// completeTwoProfiles completes the names of two profiles.
func completeTwoProfiles(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		args = nil
	}
	return completeProfiles(c, args, prefix)
}

// printChanges prints what differs, and fails if something is looser.
func printChanges(a *app, list []seccomp.Change, format string) error {
	looser := 0
	for _, c := range list {
		if c.Effect == seccomp.Looser {
			looser++
		}
		if format == "json" {
			continue
		}
		if _, err := fmt.Fprintln(a.out, c); err != nil {
			return err
		}
	}
	if format == "json" {
		if list == nil {
			list = []seccomp.Change{}
		}
		if err := printIndented(a.out, list); err != nil {
			return err
		}
	}
	if looser > 0 {
		return &exitError{code: 1}
	}
	return nil
}
