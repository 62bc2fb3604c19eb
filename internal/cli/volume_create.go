package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/internal/volume"
)

func newVolumeCreate(a *app) *cobra.Command {
	o := volume.CreateOptions{}
	var labels []string
	var name string
	cmd := &cobra.Command{
		Use:   "create [flags] [VOLUME]",
		Short: "Make a volume",
		Long: `Make a volume, and print its name. The options type, device and o are those of
mount(8): the volume is then mounted from elsewhere whenever a container starts.`,
		Example: `  brig volume create data
  brig volume create -o type=tmpfs -o device=tmpfs -o o=size=100m,uid=1000 scratch
  brig volume create -o type=none -o o=bind -o device=/srv/data srv
  brig volume create -o type=nfs -o o=addr=10.0.0.1,rw -o device=:/export shared`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return argsError(c, "at most 1 argument")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Driver, "driver", "d", volume.Driver, "local is the only driver")
	f.StringArrayVar(&labels, "label", nil, "set a label: KEY=VALUE")
	f.StringVar(&name, "name", "", "the same as the argument")
	f.MarkHidden("name")
	parsed(f, "opt", "o", "key=value", "option of the driver: type, device or o",
		func(v string) (p pair, err error) {
			p.key, p.value, err = spec.ParseLabel("--opt", v)
			return p, err
		}, func(p pair) {
			if o.Options == nil {
				o.Options = map[string]string{}
			}
			o.Options[p.key] = p.value
		})
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if o.Name = name; len(args) == 1 {
			if name != "" {
				return errors.New("conflicting options: cannot specify a volume name through both --name and an argument")
			}
			if o.Name = args[0]; o.Name == "" {
				return volume.CheckName("")
			}
		}
		var err error
		if o.Labels, err = labelMap(labels); err != nil {
			return err
		}
		s, err := a.volumes()
		if err != nil {
			return err
		}
		v, made, err := s.Create(o)
		if err != nil {
			return err
		}
		if made {
			a.eng.Event("volume", "create", v.Name, "driver", "local")
		}
		fmt.Fprintln(a.out, v.Name)
		return nil
	}
	return cmd
}
