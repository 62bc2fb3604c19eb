package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/build"
	"github.com/brig-run/brig/internal/spec"
)

func newBuild(a *app) *cobra.Command {
	var o build.Options
	var platform spec.Platform
	var iidFile string
	cmd := &cobra.Command{
		Use:   "build [flags] DIRECTORY|-",
		Short: "Build an image from a Dockerfile, with BuildKit or buildah",
		Long: `Build an image from a Dockerfile. The work is done by a builder that is installed:
BuildKit, if buildctl is in the PATH and its daemon runs, else buildah. Images of
Brig's store that the Dockerfile names are handed to it; others it pulls. "-" is a
context on standard input: a tar archive, or a Dockerfile alone.`,
		Example: `  brig build -t app .
  brig build -t app:test --target test --build-arg VERSION=1.2 -f docker/Dockerfile .
  tar -c . | brig build -q -
  brig build -t app -f - . < Dockerfile`,
		Args: exactArgs(1),
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.Tags, "tag", "t", nil, "name of the image, NAME[:TAG]; repeatable")
	f.StringVarP(&o.File, "file", "f", "", "the Dockerfile (default DIRECTORY/Dockerfile; - is standard input)")
	f.StringArrayVar(&o.Args, "build-arg", nil, "value of an ARG: NAME=VALUE, or NAME to pass the variable here on")
	f.StringVar(&o.Target, "target", "", "the stage to build (default the last)")
	f.BoolVar(&o.NoCache, "no-cache", false, "do not use what earlier builds made")
	f.BoolVar(&o.Pull, "pull", false, "pull base images, also those that are here")
	f.BoolVarP(&o.Quiet, "quiet", "q", false, "print the image's ID only")
	f.StringArrayVar(&o.Labels, "label", nil, "set a label: KEY=VALUE")
	f.StringArrayVar(&o.AddHosts, "add-host", nil, "add a line to /etc/hosts for RUN: NAME:IP")
	f.StringArrayVar(&o.Secrets, "secret", nil, "give RUN --mount=type=secret a file: id=NAME,src=FILE")
	f.StringVar(&o.Network, "network", "", "network of RUN: default, none or host")
	f.StringVar(&iidFile, "iidfile", "", "write the image's ID to a file")
	f.StringVar(&o.Builder, "builder", "", "buildah or buildkit (default whichever there is)")
	parsed(f, "platform", "", "os/arch", "platform to build for", spec.ParsePlatform, func(v spec.Platform) { platform = v })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.Network != "" && o.Network != "default" && o.Network != "none" && o.Network != "host" {
			return fmt.Errorf("--network %q: use default, none or host", o.Network)
		}
		if (args[0] == "-" || o.File == "-") && isTerminal(a.in) {
			return errors.New("standard input is a terminal: send an archive or a Dockerfile with <")
		}
		if platform.OS != "" || platform.Arch != "" {
			o.Platform = platform.String()
		}
		images, err := a.images()
		if err != nil {
			return err
		}
		o.Context, o.Stdin, o.Progress, o.Cache = args[0], a.in, a.err, a.eng.BuildCache()
		id, err := build.Run(cmd.Context(), images, o)
		if err != nil {
			return err
		}
		if iidFile != "" {
			if err := os.WriteFile(iidFile, []byte(id), 0o644); err != nil {
				return fmt.Errorf("--iidfile: %w", err)
			}
		}
		if o.Quiet {
			fmt.Fprintln(a.out, id)
		} else {
			fmt.Fprintf(a.err, "Built %s %s\n", shortID(id), strings.Join(o.Tags, " "))
		}
		return nil
	}
	return cmd
}
