package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/volume"
)

// volumeInspection is a volume in the shape of docker volume inspect.
type volumeInspection struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

func inspectVolume(v *volume.Volume) volumeInspection {
	return volumeInspection{
		CreatedAt: v.Created.Local().Format(time.RFC3339), Driver: volume.Driver, Labels: v.Labels, Mountpoint: v.Data(),
		Name: v.Name, Options: v.Options, Scope: "local",
	}
}

func newVolumeInspect(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [flags] VOLUME [VOLUME...]",
		Short: "Show all about volumes",
		Example: `  brig volume inspect data
  brig volume inspect --format '{{.Mountpoint}}' data`,
		Args: minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.volumes()
			if err != nil {
				return err
			}
			found, failed := []any{}, false
			for _, name := range args {
				v, err := s.Find(name)
				if err != nil {
					failed = true
					fmt.Fprintf(a.err, "brig: %s\n", err)
					continue
				}
				found = append(found, inspectVolume(v))
			}
			if err := a.printInspected(found, format); err != nil {
				return err
			}
			if failed {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", `json, or a Go template such as "{{.Mountpoint}}"`)
	return cmd
}
