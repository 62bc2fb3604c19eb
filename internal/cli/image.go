package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/image"
)

// resolve finds the image, or pulls it as --pull says.
func (a *app) resolve(ctx context.Context, name string, c *createFlags) (*image.Image, error) {
	e, err := a.engine()
	if err != nil {
		return nil, err
	}
	platform := imagePlatform(c.platform)
	if c.pull != "always" || engine.IsStarterImage(name) {
		found, err := e.FindImage(name, platform)
		var missing *image.NotFoundError
		var other *image.PlatformError
		switch {
		case c.pull == "never" && errors.As(err, &missing):
			return nil, fmt.Errorf("%w; pull it first: brig pull %s", err, name)
		case c.pull == "never" || !errors.As(err, &missing) && !errors.As(err, &other):
			return found, err
		}
		if missing != nil && !c.quiet {
			fmt.Fprintf(a.err, "Unable to find image '%s' locally\n", missing.Name)
		}
	}
	images, err := e.Images()
	if err != nil {
		return nil, err
	}
	o := image.PullOptions{RegistryOptions: c.registry.options(), Platform: platform}
	if _, err := a.pullImage(ctx, images, name, o, a.err, c.quiet); err != nil {
		return nil, err
	}
	return e.FindImage(name, platform)
}
