package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/spec"
)

func newLoad(a *app) *cobra.Command {
	var input string
	var quiet bool
	var platform spec.Platform
	cmd := &cobra.Command{
		Use:   "load [flags]",
		Short: "Load images from an archive or from standard input",
		Long: `Load the images of an archive that docker save, podman save or an OCI tool has
written, compressed with gzip, zstd or bzip2 or not at all.`,
		Example: `  brig load -i busybox.tar.gz
  docker save debian nginx | brig load`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			images, err := a.images()
			if err != nil {
				return err
			}
			in, err := a.openInput(input)
			if err != nil {
				return err
			}
			defer in.Close()
			p := a.newProgress(quiet)
			loaded, err := images.Load(cmd.Context(), in, image.LoadOptions{Platform: imagePlatform(platform), Progress: p})
			p.Close()
			for _, l := range loaded {
				a.eng.Event("image", "load", l.ID, "name", strings.Join(l.Names, ","))
				for _, n := range l.Names {
					fmt.Fprintf(a.out, "Loaded image: %s\n", n)
				}
				if len(l.Names) == 0 {
					fmt.Fprintf(a.out, "Loaded image ID: %s\n", l.ID)
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&input, "input", "i", "", "read from this file, not from standard input")
	f.BoolVarP(&quiet, "quiet", "q", false, "print no progress")
	parsed(f, "platform", "", "os/arch", "which image of an archive for several platforms", spec.ParsePlatform, func(v spec.Platform) { platform = v })
	return cmd
}

// openInput opens a file, or standard input for "" and "-", unless that is a
// terminal: nobody types an archive.
func (a *app) openInput(name string) (io.ReadCloser, error) {
	if name != "" && name != "-" {
		return os.Open(name)
	}
	if isTerminal(a.in) {
		return nil, errors.New("standard input is a terminal: name a file with -i, or send the archive with <")
	}
	return io.NopCloser(a.in), nil
}
