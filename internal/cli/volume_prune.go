package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/volume"
)

func newVolumePrune(a *app) *cobra.Command {
	var force, all bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove volumes that no container uses",
		Long: `Remove the anonymous volumes that no container uses, and with --all the named
ones, too.`,
		Example: `  brig volume prune -f
  brig volume prune --all --filter label=test`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			match, err := pruneVolumes(all, filters)
			if err != nil {
				return err
			}
			what := "This will remove anonymous volumes not used by at least one container."
			if all {
				what = "This will remove all volumes not used by at least one container."
			}
			if !force && !a.confirm(what) {
				return nil
			}
			s, err := a.volumes()
			if err != nil {
				return err
			}
			gone, bytes, err := s.Prune(match)
			if len(gone) > 0 {
				fmt.Fprintln(a.out, "Deleted Volumes:")
			}
			for _, name := range gone {
				fmt.Fprintln(a.out, name)
			}
			if len(gone) > 0 {
				fmt.Fprintln(a.out)
			}
			fmt.Fprintln(a.out, "Total reclaimed space: "+units.HumanSize(float64(bytes)))
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "remove named volumes, too")
	f.BoolVarP(&force, "force", "f", false, "do not ask")
	f.StringArrayVar(&filters, "filter", nil, "remove those with label=KEY[=VALUE], or without: label!=KEY[=VALUE]")
	return cmd
}

// pruneVolumes says which unused volumes go.
func pruneVolumes(all bool, filters []string) (func(*volume.Volume) bool, error) {
	var labels labelFilter
	for _, f := range filters {
		k, v, ok := strings.Cut(f, "=")
		switch {
		case ok && labels.add(k, v):
		case ok && k == "all":
			b, err := strconv.ParseBool(v)
			if err != nil {
				return nil, fmt.Errorf("--filter %q: use true or false", f)
			}
			all = all || b
		default:
			return nil, fmt.Errorf("--filter %q: use label=KEY[=VALUE] or label!=KEY[=VALUE]", f)
		}
	}
	return func(v *volume.Volume) bool {
		return labels.match(v.Labels) && (all || v.Anonymous())
	}, nil
}
