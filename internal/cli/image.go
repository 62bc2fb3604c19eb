package cli

import (
	"context"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brig-run/brig/internal/image"
)

// resolve finds the image, or pulls it as --pull says.
func (a *app) resolve(ctx context.Context, name string, c *createFlags) (*image.Image, error) {
	e, err := a.engine()
	if err != nil {
		return nil, err
	}
	var platform *v1.Platform
	if c.platform.OS != "" || c.platform.Arch != "" {
		platform = &v1.Platform{OS: c.platform.OS, Architecture: c.platform.Arch, Variant: c.platform.Variant}
	}
	return e.FindImage(name, platform)
}
