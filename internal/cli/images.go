package cli

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/image"
)

// imageRow is one name of an image, with Docker's field names.
type imageRow struct {
	Containers   string
	CreatedAt    string
	CreatedSince string
	Digest       string
	ID           string
	Repository   string
	SharedSize   string
	Size         string
	Tag          string
	UniqueSize   string
	VirtualSize  string
}

func imagesFormat(digests bool) listFormat {
	l := listFormat{
		table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
		headers: map[string]string{
			"Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID", "CreatedSince": "CREATED",
			"CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS", "SharedSize": "SHARED SIZE",
			"UniqueSize": "UNIQUE SIZE", "VirtualSize": "SIZE",
		},
	}
	if digests {
		l.table = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
	}
	return l
}

type imagesOptions struct {
	all, digests, noTrunc, quiet bool
	filters                      []string
	format                       string
}

func newImages(a *app) *cobra.Command {
	var o imagesOptions
	cmd := &cobra.Command{
		Use:   "images [flags] [NAME[:TAG]]",
		Short: "List images",
		Example: `  brig images
  brig images --digests 'registry.example.com/*/*'
  brig images --filter dangling=true -q
  brig images --format '{{.Repository}}:{{.Tag}} {{.Size}}'`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return argsError(c, "at most 1 argument")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			for _, n := range args {
				o.filters = append(o.filters, "reference="+n)
			}
			return a.listImages(o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "accepted for Docker's sake: there are no hidden images")
	f.BoolVar(&o.digests, "digests", false, "show digests")
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "show those with reference=PATTERN, dangling=true|false, label=KEY[=VALUE], before=IMAGE or since=IMAGE")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVar(&o.noTrunc, "no-trunc", false, "do not shorten")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print IDs only")
	return cmd
}

func (a *app) listImages(o imagesOptions) error {
	images, err := a.images()
	if err != nil {
		return err
	}
	filter, err := parseImageFilter(images, o.filters)
	if err != nil {
		return err
	}
	list, err := images.List()
	if err != nil {
		return err
	}
	var rows []any
	for _, i := range list {
		if !filter.match(i) {
			continue
		}
		for _, r := range imageRows(i, filter.references, o.digests) {
			if !o.noTrunc {
				r.ID = shortID(r.ID)
			}
			rows = append(rows, r)
		}
	}
	if o.quiet {
		var seen []string
		for _, r := range rows {
			if id := r.(imageRow).ID; !slices.Contains(seen, id) {
				seen = append(seen, id)
				fmt.Fprintln(a.out, id)
			}
		}
		return nil
	}
	return imagesFormat(o.digests).print(a.out, o.format, rows)
}

const noName = "<none>"

// imageRows makes a row for each name of an image that the patterns match.
// Digests are names of their own only if they are shown, or where a repository
// has no tag.
func imageRows(i *image.Image, patterns []string, digests bool) []imageRow {
	row := imageRow{
		ID: i.ID, CreatedAt: i.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"), CreatedSince: since(i.Created),
		Size: units.HumanSizeWithPrecision(float64(i.Size), 3), Containers: "N/A", SharedSize: "N/A", UniqueSize: "N/A",
		Repository: noName, Tag: noName, Digest: noName,
	}
	row.VirtualSize = row.Size
	byRepo := make(map[string][]string)
	for _, n := range i.RepoDigests {
		repo, digest, _ := strings.Cut(n, "@")
		byRepo[repo] = append(byRepo[repo], digest)
	}
	var rows []imageRow
	tagged := make(map[string]bool)
	for _, n := range i.RepoTags {
		r := row
		at := strings.LastIndexByte(n, ':')
		r.Repository, r.Tag = n[:at], n[at+1:]
		tagged[r.Repository] = true
		if !matchesAny(n, patterns) {
			continue
		}
		list := byRepo[r.Repository]
		if !digests || len(list) == 0 {
			rows = append(rows, r)
			continue
		}
		for _, d := range list {
			r.Digest = d
			rows = append(rows, r)
		}
	}
	for _, n := range i.RepoDigests {
		repo, digest, _ := strings.Cut(n, "@")
		if !tagged[repo] && matchesAny(n, patterns) {
			r := row
			r.Repository, r.Digest = repo, digest
			rows = append(rows, r)
		}
	}
	if len(i.RepoTags)+len(i.RepoDigests) == 0 {
		rows = append(rows, row)
	}
	return rows
}

// matchesAny says whether a name matches one of the patterns, with or without
// its tag, as Docker shows it or in full. No patterns match everything.
func matchesAny(name string, patterns []string) bool {
	if len(patterns) == 0 {
		return true
	}
	ref, err := image.ParseReference(name)
	if err != nil {
		return false
	}
	for _, p := range patterns {
		for _, form := range []string{ref.Familiar(), ref.FamiliarName(), ref.String(), ref.Repository()} {
			if ok, _ := path.Match(p, form); ok {
				return true
			}
		}
	}
	return false
}

// imageFilter is what --filter asks for: all kinds must hold, and of one kind
// one of its values, but all labels.
type imageFilter struct {
	references    []string
	dangling      *bool
	labels        []string
	before, since *image.Image
}

func parseImageFilter(images *image.Store, filters []string) (*imageFilter, error) {
	out := &imageFilter{}
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("--filter %q: want KEY=VALUE", f)
		}
		var err error
		switch key {
		case "reference":
			if _, err = path.Match(value, ""); err == nil {
				out.references = append(out.references, value)
			}
		case "dangling":
			var b bool
			if b, err = strconv.ParseBool(value); err == nil {
				out.dangling = &b
			}
		case "label":
			out.labels = append(out.labels, value)
		case "before":
			out.before, err = images.Resolve(value, nil)
		case "since":
			out.since, err = images.Resolve(value, nil)
		default:
			return nil, unknownFilter(key, "reference", "dangling", "label", "before", "since")
		}
		if err != nil {
			return nil, fmt.Errorf("--filter %s: %w", f, err)
		}
	}
	return out, nil
}

func (f *imageFilter) match(i *image.Image) bool {
	if f.dangling != nil && *f.dangling != (len(i.RepoTags)+len(i.RepoDigests) == 0) {
		return false
	}
	for _, l := range f.labels {
		if !hasLabel(i.Config.Labels, l) {
			return false
		}
	}
	if f.before != nil && !i.Created.Before(f.before.Created) || f.since != nil && !i.Created.After(f.since.Created) {
		return false
	}
	return len(f.references) == 0 || slices.ContainsFunc(append(slices.Clone(i.RepoTags), i.RepoDigests...), func(n string) bool {
		return matchesAny(n, f.references)
	})
}
