package engine

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/snapshot"
)

// Usage is what takes place on the disk.
type Usage struct {
	Images     []ImageUsage
	Containers []ContainerUsage
	Volumes    []VolumeUsage
	// Layers are the bytes of all images' layers, each counted once, and
	// ActiveLayers those that containers need.
	Layers, ActiveLayers int64
}

// ImageUsage is an image with its containers, and the bytes that it shares with
// others and those that it has alone.
type ImageUsage struct {
	*image.Image
	Containers     int
	Shared, Unique int64
}

// ContainerUsage is a container with the bytes of its own layer.
type ContainerUsage struct {
	*Container
	State State
	Size  int64
}

// VolumeUsage is a volume with its bytes and how many containers hold it.
type VolumeUsage struct {
	Name  string
	Links int
	Size  int64
}

// Usage looks at all files of the store: it takes its time.
func (e *Engine) Usage() (*Usage, error) {
	u := &Usage{}
	list, err := e.List()
	if err != nil {
		return nil, err
	}
	needed := map[string]int{}
	for _, c := range list {
		s, err := c.State()
		if err != nil {
			continue // it went while we looked
		}
		needed[c.ImageID]++
		size, err := c.Size()
		if err != nil {
			return nil, err
		}
		u.Containers = append(u.Containers, ContainerUsage{c, s, size})
	}
	if err := e.imageUsage(u, needed); err != nil {
		return nil, err
	}
	volumes, err := e.Volumes().List()
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		size, err := v.Size()
		if err != nil {
			return nil, err
		}
		u.Volumes = append(u.Volumes, VolumeUsage{v.Name, len(e.Volumes().Holders(v)), size})
	}
	return u, nil
}

func (e *Engine) imageUsage(u *Usage, needed map[string]int) error {
	images, err := e.Images()
	if err != nil {
		return err
	}
	list, err := images.List()
	if err != nil {
		return err
	}
	users, active := map[string]int{}, map[string]bool{}
	for _, i := range list {
		for _, l := range i.Layers {
			users[l]++
			active[l] = active[l] || needed[i.ID] > 0
		}
	}
	sizes := map[string]int64{}
	for l := range users {
		n, err := e.Layers.Size(digest.Digest(l))
		if err != nil {
			continue // removed meanwhile
		}
		sizes[l] = n
		u.Layers += n
		if active[l] {
			u.ActiveLayers += n
		}
	}
	for _, i := range list {
		one := ImageUsage{Image: i, Containers: needed[i.ID]}
		for _, l := range i.Layers {
			if users[l] > 1 {
				one.Shared += sizes[l]
			} else {
				one.Unique += sizes[l]
			}
		}
		u.Images = append(u.Images, one)
	}
	return nil
}

// Size is the bytes of the container's own layer.
func (c *Container) Size() (int64, error) { return snapshot.DirSize(c.file("upper")) }

// ImageSize is the bytes of the image's layers; 0 if it is gone.
func (c *Container) ImageSize() (total int64) {
	for _, l := range c.Layers {
		n, err := c.engine.Layers.Size(digest.Digest(l))
		if err != nil {
			return 0
		}
		total += n
	}
	return total
}

// Prune removes the containers that do not run and that match, and gives their
// IDs and the bytes that it freed.
func (e *Engine) Prune(match func(*Container) bool) (ids []string, bytes int64, err error) {
	list, err := e.List()
	if err != nil {
		return nil, 0, err
	}
	for _, c := range list {
		s, serr := c.State()
		if serr != nil || s.Up() || s.Status == StatusRestarting || !match(c) {
			continue
		}
		size, _ := c.Size()
		if rerr := c.Remove(false, false); rerr != nil {
			continue // somebody has just started or removed it
		}
		ids, bytes = append(ids, c.ID), bytes+size
	}
	return ids, bytes, nil
}

// Stopped says since when a container does not run: since its creation if it
// never did.
func (c *Container) Stopped(s *State) time.Time {
	if s.FinishedAt.IsZero() {
		return c.Created
	}
	return s.FinishedAt
}
