package engine

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brig-run/brig/internal/cgroup"
	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/snapshot"
)

// CommitOptions say what becomes of a container's file system.
type CommitOptions struct {
	Name            string // of the image, or empty
	Author, Message string
	Changes         []string // instructions of a Dockerfile, see image.Change
	Pause           bool     // the container stands still meanwhile
	// Warn is told if it cannot stand still; without Warn that is an error.
	Warn func(error)
}

// Commit makes an image of a container: a layer with what it has changed on top
// of its image's, without what is mounted in it. It returns the image's ID.
func (c *Container) Commit(ctx context.Context, o CommitOptions) (string, error) {
	config := c.commitConfig()
	for _, change := range o.Changes {
		if err := image.Change(&config, change); err != nil {
			return "", fmt.Errorf("--change: %w", err)
		}
	}
	images, err := c.engine.Images()
	if err != nil {
		return "", err
	}
	if o.Pause {
		thaw, err := c.standStill()
		switch {
		case err == nil:
			defer thaw()
		case o.Warn == nil:
			return "", err
		default:
			o.Warn(err)
		}
	}
	upper, lower, err := c.difference()
	if err != nil {
		return "", fmt.Errorf("commit container %s: %w", c.Name, err)
	}
	defer upper.Close()
	defer lower.Close()
	skip := c.stubs(upper, lower)
	id, err := images.Commit(ctx, image.CommitOptions{
		Base: c.ImageID, Name: o.Name, Author: o.Author, Comment: o.Message, CreatedBy: strings.Join(c.Command(), " "), Config: config,
		Layer: func(w io.Writer) error { return snapshot.WriteLayer(ctx, w, upper, skip) },
	})
	if err != nil {
		return "", fmt.Errorf("commit container %s: %w", c.Name, err)
	}
	return id, nil
}

// standStill freezes a running container, if it is not frozen already, and gives
// what lets it go on.
func (c *Container) standStill() (thaw func(), err error) {
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	if !s.State.Running || !alive(&s.State) || cgroup.Paused(s.Cgroups) {
		return func() {}, nil
	}
	g, err := cgroup.Load(s.Cgroups, cgroup.Options{})
	if err == nil {
		if err = g.Freeze(true); err != nil {
			g.Freeze(false)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("pause container %s: %w; commit it as it runs with --pause=false", c.Name, err)
	}
	return func() { g.Freeze(false) }, nil
}

// commitConfig is the image's configuration with what the user set for the
// container over it.
func (c *Container) commitConfig() v1.ImageConfig {
	k, o := c.ImageConfig, &c.Options
	i := c.inspectConfig()
	k.Cmd, k.Entrypoint, k.User, k.WorkingDir, k.StopSignal = i.Cmd, i.Entrypoint, i.User, i.WorkingDir, o.StopSignal
	if k.StopSignal == "" {
		k.StopSignal = c.ImageConfig.StopSignal
	}
	if k.Labels = i.Labels; len(k.Labels) == 0 {
		k.Labels = nil
	}
	k.Env = slices.Clone(k.Env)
	for _, e := range o.Env {
		name, _, valued := strings.Cut(e, "=")
		k.Env = slices.DeleteFunc(k.Env, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		if valued {
			k.Env = append(k.Env, e)
		}
	}
	k.Volumes = maps.Clone(k.Volumes)
	for target := range i.Volumes {
		if k.Volumes == nil {
			k.Volumes = map[string]struct{}{}
		}
		k.Volumes[target] = struct{}{}
	}
	return k
}
