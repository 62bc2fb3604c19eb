package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/image"
)

func newCp(a *app) *cobra.Command {
	var o engine.CopyOptions
	var quiet bool
	cmd := &cobra.Command{
		Use:   "cp [flags] [CONTAINER:]SOURCE|- [CONTAINER:]DESTINATION|-",
		Short: "Copy files between a container and the host",
		Long: `Copy files between a container and the host. The container may run or not; its
volumes and bind mounts are seen. "-" is a tar archive on standard input or output.

A directory is copied into a destination that exists, and becomes one that does
not; SOURCE/. is a directory's content. Links are copied as links, unless -L is
given or SOURCE ends in a slash.

Files copied out belong to the user who copies, without set-user-ID and
set-group-ID bits and capabilities; -a keeps owners and all bits. Files copied in
keep their owners' numbers; with -a they belong to the container's user.`,
		Example: `  brig cp web:/etc/nginx/nginx.conf .
  brig cp site/. web:/usr/share/nginx/html
  tar -C conf -c . | brig cp - web:/etc/app
  brig cp web:/var/log - | tar -t`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("quiet") {
				quiet = !isTerminal(a.out)
			}
			n, to, err := a.copy(cmd.Context(), args[0], args[1], o)
			if err == nil && !quiet && to != "" {
				fmt.Fprintf(a.err, "Successfully copied %s to %s\n", units.HumanSize(float64(n)), to)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Archive, "archive", "a", false, "keep owners and all mode bits; copied in: give the files to the container's user")
	f.BoolVarP(&o.FollowLink, "follow-link", "L", false, "copy what a link in SOURCE names")
	f.BoolVarP(&quiet, "quiet", "q", false, "do not tell what was copied (default unless on a terminal)")
	return cmd
}

// copy copies one way or the other, and gives the bytes and the destination for
// the user to read; none where an archive went by.
func (a *app) copy(ctx context.Context, src, dst string, o engine.CopyOptions) (int64, string, error) {
	from, fromPath := copyArg(src)
	to, toPath := copyArg(dst)
	switch {
	case from != "" && to != "":
		return 0, "", errors.New("copying between containers is not supported; copy by way of the host, or: brig cp A:PATH - | brig cp - B:PATH")
	case from == "" && to == "":
		return 0, "", errors.New("must specify at least one container source or destination, as CONTAINER:PATH")
	case from != "":
		c, err := a.container(from)
		if err != nil {
			return 0, "", err
		}
		if dst != "-" {
			n, err := c.CopyOut(ctx, fromPath, dst, o)
			return n, dst, err
		}
		if isTerminal(a.out) {
			return 0, "", errors.New("standard output is a terminal: name a destination, or send the archive on with >")
		}
		return 0, "", c.ArchiveOut(ctx, fromPath, a.out, o)
	}
	c, err := a.container(to)
	if err != nil {
		return 0, "", err
	}
	if src != "-" {
		n, err := c.CopyIn(ctx, src, toPath, o)
		return n, dst, err
	}
	if isTerminal(a.in) {
		return 0, "", errors.New("standard input is a terminal: name a source, or send an archive with <")
	}
	in, err := image.Decompress(a.in)
	if err != nil {
		return 0, "", fmt.Errorf("read the archive: %w", err)
	}
	defer in.Close()
	if err := c.ArchiveIn(ctx, in, toPath, o); err != nil {
		return 0, "", err
	}
	_, err = io.Copy(io.Discard, in) // else whoever writes the padding gets SIGPIPE
	return 0, "", err
}

// copyArg splits CONTAINER:PATH, as Docker does: what begins with a slash or a
// dot is a path of the host.
func copyArg(arg string) (container, path string) {
	name, path, ok := strings.Cut(arg, ":")
	if !ok || filepath.IsAbs(arg) || strings.HasPrefix(name, ".") || name == "" {
		return "", arg
	}
	return name, path
}
