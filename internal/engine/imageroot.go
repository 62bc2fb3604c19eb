package engine

import (
	"errors"
	"fmt"
	"os"

	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/snapshot"
)

// ImageRoot is an image's file system, to be read. No name leads out of it.
type ImageRoot struct {
	*os.Root
	mount *os.File
}

// OpenImage opens the file system of an image.
func (e *Engine) OpenImage(img *image.Image) (*ImageRoot, error) {
	mount, err := e.Layers.Mount(snapshot.MountOptions{Lower: img.Layers})
	if err != nil {
		return nil, fmt.Errorf("mount the image %s: %w", img.ID, err)
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", mount.Fd()))
	if err != nil {
		mount.Close()
		return nil, fmt.Errorf("open the image %s: %w", img.ID, err)
	}
	return &ImageRoot{root, mount}, nil
}

// Close dissolves the mount.
func (r *ImageRoot) Close() error { return errors.Join(r.Root.Close(), r.mount.Close()) }
