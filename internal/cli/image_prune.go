package cli

import (
	"fmt"
	"strconv"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/image"
)

func newImagePrune(a *app) *cobra.Command {
	var force, all bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove images without a name that no container needs",
		Example: `  brig image prune
  brig image prune --all --force --filter until=240h`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			match, err := pruneImages(all, filters)
			if err != nil {
				return err
			}
			what := "This will remove all images without a name that no container needs."
			if all {
				what = "This will remove all images without at least one container associated to them."
			}
			if !force && !a.confirm(what) {
				return nil
			}
			images, err := a.images()
			if err != nil {
				return err
			}
			r, bytes, err := images.Prune(match, a.eng.ContainersOf)
			if r == nil {
				return err
			}
			if len(r.Untagged)+len(r.Deleted) > 0 {
				fmt.Fprintln(a.out, "Deleted Images:")
			}
			for _, n := range r.Untagged {
				fmt.Fprintln(a.out, "untagged: "+n)
			}
			for _, d := range r.Deleted {
				fmt.Fprintln(a.out, "deleted: "+d)
			}
			if len(r.Untagged)+len(r.Deleted) > 0 {
				fmt.Fprintln(a.out)
			}
			fmt.Fprintln(a.out, "Total reclaimed space: "+units.HumanSize(float64(bytes)))
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "also images with a name")
	f.BoolVarP(&force, "force", "f", false, "do not ask")
	f.StringArrayVar(&filters, "filter", nil, "remove those with until=TIME (made before it, as 24h or 2026-01-02), label=KEY[=VALUE] or label!=KEY[=VALUE]")
	return cmd
}

// pruneImages says which unused images go.
func pruneImages(all bool, filters []string) (func(*image.Image) bool, error) {
	var p pruneFilter
	for _, f := range filters {
		k, v, err := cutFilter(f)
		switch {
		case err != nil:
		case p.labels.add(k, v):
		case k == "until":
			p.until, err = parseTime("--filter until", v)
		case k == "dangling":
			var b bool
			if b, err = strconv.ParseBool(v); err != nil {
				err = fmt.Errorf("--filter %q: use true or false", f)
			}
			all = all || !b
		default:
			err = unknownFilter(k, "until", "label", "label!", "dangling")
		}
		if err != nil {
			return nil, err
		}
	}
	return func(i *image.Image) bool {
		return p.match(i.Created, i.Config.Labels) && (all || len(i.RepoTags)+len(i.RepoDigests) == 0)
	}, nil
}
