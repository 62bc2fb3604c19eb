package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/volume"
)

// volumeRow is one volume in the list, with Docker's field names.
type volumeRow struct {
	Availability string
	Driver       string
	Group        string
	Labels       string
	Links        string
	Mountpoint   string
	Name         string
	Scope        string
	Size         string
	Status       string

	labels map[string]string
}

// Label is the value of one label.
func (r volumeRow) Label(name string) string { return r.labels[name] }

func volumeFormat() listFormat {
	return listFormat{
		table: "{{.Driver}}\t{{.Name}}",
		headers: map[string]string{
			"Driver": "DRIVER", "Name": "VOLUME NAME", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS", "Links": "LINKS",
			"Size": "SIZE", "Status": "STATUS", "Availability": "AVAILABILITY", "Group": "GROUP",
		},
	}
}

func newVolumeLs(a *app) *cobra.Command {
	var filters []string
	var format string
	var quiet bool
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List volumes",
		Example: `  brig volume ls
  brig volume ls --filter dangling=true -q
  brig volume ls --format '{{.Name}}: {{.Mountpoint}}'`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			rows, err := a.volumeRows(filters)
			if err != nil {
				return err
			}
			if !quiet {
				return volumeFormat().print(a.out, format, rows)
			}
			for _, r := range rows {
				fmt.Fprintln(a.out, r.(volumeRow).Name)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&filters, "filter", "f", nil, "show those with name=, label=, driver= or dangling=true|false")
	f.StringVar(&format, "format", "", formatHelp)
	f.BoolVarP(&quiet, "quiet", "q", false, "print names only")
	return cmd
}

func (a *app) volumeRows(filters []string) ([]any, error) {
	s, err := a.volumes()
	if err != nil {
		return nil, err
	}
	match, err := volumeFilter(filters, func(v *volume.Volume) bool { return len(s.Holders(v)) == 0 })
	if err != nil {
		return nil, err
	}
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	var rows []any
	for _, v := range list {
		if !match(v) {
			continue
		}
		r := volumeRow{Driver: volume.Driver, Name: v.Name, Scope: "local", Mountpoint: v.Data(), Size: "N/A", Status: "N/A",
			Availability: "N/A", Group: "N/A", Links: "N/A", Labels: labelText(v.Labels), labels: v.Labels}
		rows = append(rows, r)
	}
	return rows, nil
}

// volumeFilter makes one condition of all filters: of one key one value must
// hold, but all labels.
func volumeFilter(given []string, dangling func(*volume.Volume) bool) (func(*volume.Volume) bool, error) {
	byKey := filters{}
	for _, f := range given {
		k, v, err := byKey.add(f)
		switch {
		case err != nil:
			return nil, err
		case k == "dangling":
			if _, err := strconv.ParseBool(v); err != nil {
				return nil, fmt.Errorf("--filter %q: use true or false", f)
			}
		case !slices.Contains([]string{"name", "label", "driver"}, k):
			return nil, unknownFilter(k, "name", "label", "driver", "dangling")
		}
	}
	return func(vol *volume.Volume) bool {
		return byKey.hold(func(k, v string) bool {
			switch k {
			case "name":
				return strings.Contains(vol.Name, v)
			case "driver":
				return v == volume.Driver
			case "dangling":
				want, _ := strconv.ParseBool(v)
				return dangling(vol) == want
			}
			return hasLabel(vol.Labels, v)
		})
	}, nil
}
