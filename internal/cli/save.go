package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/image"
)

func newSave(a *app) *cobra.Command {
	var output, format string
	cmd := &cobra.Command{
		Use:   "save [flags] IMAGE [IMAGE...]",
		Short: "Save images to an archive or to standard output",
		Long: `Save images to a tar archive that docker load, podman load and the tools of the
OCI image layout read. Layers and manifests are those that came with the image,
byte for byte.`,
		Example: `  brig save -o busybox.tar busybox
  brig save --format oci-archive debian nginx | gzip > images.tar.gz`,
		Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var o image.SaveOptions
			switch format {
			case "docker-archive":
			case "oci-archive":
				o.OCIOnly = true
			default:
				return fmt.Errorf("--format %q: use docker-archive or oci-archive", format)
			}
			images, err := a.images()
			if err != nil {
				return err
			}
			return a.saveTo(output, func(w io.Writer) error { return images.Save(cmd.Context(), w, args, o) })
		},
	}
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", "", "write to this file, not to standard output")
	f.StringVar(&format, "format", "docker-archive", "docker-archive (an OCI layout as well) or oci-archive")
	return cmd
}

// saveTo writes a file, which is there as a whole or not at all, or standard
// output, unless that is a terminal.
func (a *app) saveTo(name string, write func(io.Writer) error) error {
	if name == "" || name == "-" {
		if isTerminal(a.out) {
			return errors.New("standard output is a terminal: name a file with -o, or send the archive on with >")
		}
		return write(a.out)
	}
	if fi, err := os.Stat(name); err == nil && !fi.Mode().IsRegular() { // such as /dev/null or a pipe
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	t, err := os.CreateTemp(filepath.Dir(name), ".brig-save-")
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	defer t.Close()
	if err := write(t); err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	return os.Rename(t.Name(), name)
}
