package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/network"
	"github.com/brig-run/brig/internal/volume"
)

// pruneFilter is what may be removed: what is older than until, and has some
// labels and not others.
type pruneFilter struct {
	until  time.Time
	labels labelFilter
}

const pruneFilterHelp = "remove those with until=TIME (as 24h or 2026-01-02), label=KEY[=VALUE] or label!=KEY[=VALUE]"

func parsePruneFilter(filters []string) (*pruneFilter, error) {
	p := &pruneFilter{}
	for _, f := range filters {
		k, v, err := cutFilter(f)
		if err != nil {
			return nil, err
		}
		switch {
		case p.labels.add(k, v):
		case k == "until":
			t, err := parseTime("--filter until", v)
			if err != nil {
				return nil, err
			}
			p.until = t
		default:
			return nil, unknownFilter(k, "until", "label", "label!")
		}
	}
	return p, nil
}

func (p *pruneFilter) match(made time.Time, labels map[string]string) bool {
	return p.labels.match(labels) && (p.until.IsZero() || made.Before(p.until))
}

func newContainerPrune(a *app) *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove all containers that do not run",
		Example: `  brig container prune
  brig container prune -f --filter until=24h`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := parsePruneFilter(filters)
			if err != nil {
				return err
			}
			e, err := a.engine()
			if err != nil {
				return err
			}
			if !force && !a.confirm("This will remove all stopped containers.") {
				return nil
			}
			n, err := a.pruneContainers(e, p)
			fmt.Fprintln(a.out, "Total reclaimed space: "+units.HumanSize(float64(n)))
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&force, "force", "f", false, "do not ask")
	f.StringArrayVar(&filters, "filter", nil, pruneFilterHelp)
	return cmd
}

func (a *app) pruneContainers(e *engine.Engine, p *pruneFilter) (int64, error) {
	ids, n, err := e.Prune(func(c *engine.Container) bool { return p.match(c.Created, c.Labels()) })
	a.pruned("Containers", ids)
	return n, err
}

// pruned prints what is gone.
func (a *app) pruned(what string, list []string) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(a.out, "Deleted %s:\n%s\n\n", what, strings.Join(list, "\n"))
}

func newSystemPrune(a *app) *cobra.Command {
	var force, all, volumes bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove what nothing needs: containers, networks, images, volumes",
		Example: `  brig system prune
  brig system prune -af --volumes`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := parsePruneFilter(filters)
			if err != nil {
				return err
			}
			if volumes && !p.until.IsZero() {
				return errors.New("--filter until and --volumes exclude each other: volumes have no such time")
			}
			e, err := a.engine()
			if err != nil {
				return err
			}
			if !force && !a.confirm(pruneWarning(all, volumes)) {
				return nil
			}
			n, err := a.pruneAll(e, p, all, volumes)
			fmt.Fprintln(a.out, "Total reclaimed space: "+units.HumanSize(float64(n)))
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "also images with a name")
	f.BoolVarP(&force, "force", "f", false, "do not ask")
	f.BoolVar(&volumes, "volumes", false, "also anonymous volumes that no container uses")
	f.StringArrayVar(&filters, "filter", nil, pruneFilterHelp)
	return cmd
}

func pruneWarning(all, volumes bool) string {
	text := "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n"
	if volumes {
		text += "  - all anonymous volumes not used by at least one container\n"
	}
	if all {
		return text + "  - all images without at least one container associated to them\n"
	}
	return text + "  - all dangling images\n"
}

func (a *app) pruneAll(e *engine.Engine, p *pruneFilter, all, volumes bool) (int64, error) {
	total, err := a.pruneContainers(e, p)
	if err != nil {
		return total, err
	}
	gone, err := e.Networks().Prune(func(n *network.Network) bool { return !p.match(n.Created, n.Labels) })
	a.pruned("Networks", gone)
	if err != nil {
		return total, err
	}
	if volumes {
		names, n, err := e.Volumes().Prune(func(v *volume.Volume) bool { return v.Anonymous() && p.match(time.Time{}, v.Labels) })
		a.pruned("Volumes", names)
		if total += n; err != nil {
			return total, err
		}
	}
	n, err := a.pruneUnusedImages(e, p, all)
	return total + n, err
}

func (a *app) pruneUnusedImages(e *engine.Engine, p *pruneFilter, all bool) (int64, error) {
	images, err := e.Images()
	if err != nil {
		return 0, err
	}
	r, bytes, err := images.Prune(func(i *image.Image) bool {
		return (all || len(i.RepoTags)+len(i.RepoDigests) == 0) && p.match(i.Created, i.Config.Labels)
	}, e.ContainersOf)
	if r == nil {
		return 0, err
	}
	var gone []string
	for _, name := range r.Untagged {
		gone = append(gone, "untagged: "+name)
	}
	for _, id := range r.Deleted {
		gone = append(gone, "deleted: "+id)
	}
	a.pruned("Images", gone)
	return bytes, err
}
