package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/spec"
)

// registryFlags are the flags of all commands that talk to a registry.
type registryFlags struct {
	tlsVerify bool
}

func (r *registryFlags) add(f *pflag.FlagSet) {
	f.BoolVar(&r.tlsVerify, "tls-verify", true, "refuse plain HTTP and unknown certificates, except from this machine")
}

func (r *registryFlags) options() image.RegistryOptions {
	return image.RegistryOptions{Insecure: !r.tlsVerify}
}

func newPull(a *app) *cobra.Command {
	var quiet bool
	var platform spec.Platform
	var reg registryFlags
	cmd := &cobra.Command{
		Use:   "pull [flags] NAME[:TAG|@DIGEST]",
		Short: "Pull an image from a registry",
		Long: `Pull an image from a registry. What a broken connection has left is not
downloaded again. Credentials come from brig login, docker login or podman login.`,
		Example: `  brig pull debian
  brig pull --platform linux/arm64 alpine:3.20
  brig pull --tls-verify=false registry.lan:5000/app`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			images, err := a.images()
			if err != nil {
				return err
			}
			o := image.PullOptions{RegistryOptions: reg.options(), Platform: imagePlatform(platform)}
			p, err := a.pullImage(cmd.Context(), images, args[0], o, a.out, quiet)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, p.Ref)
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "print the full name only")
	parsed(f, "platform", "", "os/arch", "platform, if the registry has several", spec.ParsePlatform, func(v spec.Platform) { platform = v })
	reg.add(f)
	return cmd
}

// pullImage pulls an image and tells on out how it goes, in Docker's words.
func (a *app) pullImage(ctx context.Context, images *image.Store, name string, o image.PullOptions, out io.Writer, quiet bool) (*image.Pulled, error) {
	ref, err := image.ParseReference(name)
	if err != nil {
		return nil, err
	}
	id := ref.Tag
	if ref.Digest != "" {
		id = ref.Digest
	}
	p := startProgress(out, quiet)
	defer p.Close()
	p.Message(fmt.Sprintf("%s: Pulling from %s", id, ref.Path))
	o.Progress = p
	pulled, err := images.Pull(ctx, name, o)
	p.Close()
	if err == nil {
		a.eng.Event("image", "pull", ref.Familiar(), "name", ref.Familiar())
	}
	if err != nil || quiet {
		return pulled, err
	}
	status := "Downloaded newer image for " + ref.Familiar()
	if !pulled.New {
		status = "Image is up to date for " + ref.Familiar()
	}
	fmt.Fprintf(out, "Digest: %s\nStatus: %s\n", pulled.Digest, status)
	return pulled, nil
}
