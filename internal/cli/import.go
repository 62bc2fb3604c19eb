package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/spec"
)

func newImport(a *app) *cobra.Command {
	var o image.ImportOptions
	var changes []string
	var platform spec.Platform
	cmd := &cobra.Command{
		Use:   "import [flags] FILE|URL|- [NAME[:TAG]]",
		Short: "Make an image of an archive of a root file system",
		Example: `  brig import rootfs.tar.gz mine:1.0
  debootstrap --variant=minbase bookworm root && tar -C root -c . | brig import - debian:bookworm
  brig import -c 'CMD ["/bin/sh"]' -c 'ENV LANG=C.UTF-8' rootfs.tar mine`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return argsError(c, "1 or 2 arguments")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, c := range changes {
				if err := image.Change(&o.Config, c); err != nil {
					return fmt.Errorf("--change: %w", err)
				}
			}
			if len(args) == 2 {
				o.Name = args[1]
				if _, err := image.ParseReference(o.Name); err != nil {
					return err
				}
			}
			o.Platform = imagePlatform(platform)
			if o.Message == "" {
				o.Message = "Imported from " + args[0]
			}
			images, err := a.images()
			if err != nil {
				return err
			}
			in, err := a.openSource(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			id, err := images.Import(cmd.Context(), in, o)
			if err != nil {
				return err
			}
			a.eng.Event("image", "import", id, "name", strings.Join(args[1:], ""))
			fmt.Fprintln(a.out, id)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&changes, "change", "c", nil, "apply an instruction of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR")
	f.StringVarP(&o.Message, "message", "m", "", "comment for the image's history")
	parsed(f, "platform", "", "os/arch", "platform of the programs in the archive", spec.ParsePlatform, func(v spec.Platform) { platform = v })
	return cmd
}

// openSource opens a file, standard input or a URL.
func (a *app) openSource(ctx context.Context, name string) (io.ReadCloser, error) {
	if !strings.HasPrefix(name, "http://") && !strings.HasPrefix(name, "https://") {
		return a.openInput(name)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("get %s: %s", name, resp.Status)
	}
	return resp.Body, nil
}
