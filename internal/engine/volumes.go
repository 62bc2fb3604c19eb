package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/snapshot"
	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/internal/tree"
	"github.com/brig-run/brig/internal/volume"
)

// Volumes are the volumes of this root.
func (e *Engine) Volumes() *volume.Store {
	return volume.Open(e.path("volumes"), e.path("trash"), e.exists)
}

// exists says whether a container is there, or in the making.
func (e *Engine) exists(id string) bool {
	_, err := os.Stat(e.path("containers", id))
	return !errors.Is(err, fs.ErrNotExist)
}

// planVolumes completes the mounts by those of other containers and by the
// image's volumes. What the user names goes first.
func (c *Container) planVolumes() error {
	o := &c.Options
	if len(o.VolumesFrom)+len(c.ImageConfig.Volumes) == 0 {
		return nil
	}
	mounts := slices.Clone(o.Mounts)
	taken := func(target string) bool {
		return slices.ContainsFunc(mounts, func(m spec.Mount) bool { return m.Target == target })
	}
	for _, from := range o.VolumesFrom {
		other, err := c.engine.Find(from.Container)
		if err != nil {
			return fmt.Errorf("--volumes-from: %w", err)
		}
		for _, m := range other.Options.Mounts {
			if m.Type == spec.MountTmpfs || taken(m.Target) {
				continue
			}
			m.ReadOnly = m.ReadOnly || from.ReadOnly
			m.Volume.NoCopy, m.Volume.Implied = true, true
			mounts = append(mounts, m)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(c.ImageConfig.Volumes)) {
		target := path.Clean("/" + p)
		if taken(target) {
			continue
		}
		top, _, _ := strings.Cut(target[1:], "/")
		if target == "/" || slices.Contains([]string{"proc", "sys", "dev"}, top) || strings.IndexByte(p, 0) >= 0 {
			return usage("the image declares a volume at %q, which would replace a part of the system; mount something else there with -v", p)
		}
		mounts = append(mounts, spec.Mount{Type: spec.MountVolume, Target: target, Volume: spec.VolumeMount{Anonymous: true, Implied: true}})
	}
	o.Mounts = mounts
	return o.Validate()
}

// makeVolumes makes the volumes that are missing, holds all for the container,
// and copies into empty ones what the image has at their place. It gives the
// names of those that it has made, also when it fails.
func (c *Container) makeVolumes() (made []string, err error) {
	if !slices.ContainsFunc(c.Options.Mounts, isVolume) {
		return nil, nil
	}
	filler := &filler{c: c}
	defer filler.close()
	c.Options.Mounts = slices.Clone(c.Options.Mounts) // the caller's stay as they are
	for i := range c.Options.Mounts {
		m := &c.Options.Mounts[i]
		if m.Type != spec.MountVolume {
			continue
		}
		v, isNew, err := c.engine.Volumes().Create(volume.CreateOptions{
			Name: m.Source, Driver: m.Volume.Driver, Labels: m.Volume.Labels, Options: m.Volume.DriverOptions,
			Holder: c.ID, Fleeting: c.AutoRemove && m.Volume.Anonymous,
		})
		if err != nil {
			return made, fmt.Errorf("mount at %s: %w", m.Target, err)
		}
		m.Source = v.Name
		if isNew {
			made = append(made, v.Name)
			if err := v.Try(); err != nil {
				return made, err
			}
		}
		if err := filler.fill(v, m); err != nil {
			return made, fmt.Errorf("mount volume %s at %s: %w", v.Name, m.Target, err)
		}
	}
	return made, nil
}

func isVolume(m spec.Mount) bool { return m.Type == spec.MountVolume }

// filler copies content of the image into volumes.
type filler struct {
	c    *Container
	root *os.File // the image's, mounted when it is first needed
}

func (f *filler) close() {
	if f.root != nil {
		f.root.Close()
	}
}

func (f *filler) fill(v *volume.Volume, m *spec.Mount) error {
	if f.root == nil {
		var err error
		if f.root, err = f.c.engine.Layers.Mount(snapshot.MountOptions{Lower: f.c.Layers}); err != nil {
			return err
		}
	}
	from, err := tree.Open(f.root, m.Target, unix.O_PATH)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open it in the image: %w", err)
	}
	defer from.Close()
	fi, err := from.Stat()
	switch {
	case err != nil:
		return err
	case !fi.IsDir() && m.Volume.Subpath == "":
		return errors.New("cannot mount a volume over an existing file of the image")
	case !fi.IsDir() || m.Volume.NoCopy || v.Tmpfs():
		return nil // a tmpfs is empty whenever it is mounted anew
	}
	return v.Fill(context.Background(), from, m.Volume.Subpath, f.c.ID)
}

// heldVolumes gives the directories of the container's volumes, and of those
// among them that go with it.
func (c *Container) heldVolumes() (all, anonymous []string) {
	for _, m := range c.Options.Mounts {
		if m.Type != spec.MountVolume || m.Source == "" {
			continue
		}
		dir := c.engine.Volumes().Dir(m.Source)
		all = append(all, dir)
		if m.Volume.Anonymous {
			anonymous = append(anonymous, dir)
		}
	}
	return all, anonymous
}

// releaseVolumes ends the container's hold of its volumes.
func (c *Container) releaseVolumes() error {
	for _, m := range c.Options.Mounts {
		if m.Type != spec.MountVolume || m.Source == "" {
			continue
		}
		remove := m.Volume.Anonymous && (c.AutoRemove || c.doomed)
		if err := c.engine.Volumes().Release(m.Source, c.ID, remove); err != nil {
			return fmt.Errorf("remove container %s: volume %s: %w", c.Name, m.Source, err)
		}
	}
	return nil
}

// volumes finds the container's volumes for a start. One that was deleted by
// hand is made anew, empty.
func (s *starter) volumes(in *spec.Input) error {
	if !slices.ContainsFunc(s.c.Options.Mounts, isVolume) {
		return nil
	}
	in.VolumeSources = map[string]string{}
	shared := map[string]*os.File{}
	for _, m := range byVolume(s.c.Options.Mounts) {
		v, _, err := s.c.engine.Volumes().Create(volume.CreateOptions{
			Name: m.Source, Labels: nil, Options: m.Volume.DriverOptions, Holder: s.c.ID,
		})
		if err != nil {
			return fmt.Errorf("mount at %s: %w", m.Target, err)
		}
		if v.Plain() && m.Volume.Subpath == "" {
			in.VolumeSources[m.Target] = v.Data()
			continue
		}
		f, err := s.volumeMount(v, m.Volume.Subpath, shared)
		if err != nil {
			return fmt.Errorf("mount at %s: %w", m.Target, err)
		}
		source := "volume " + v.Name + " for " + m.Target // no path: the runtime gets the mount itself
		in.VolumeSources[m.Target] = source
		s.tree(source, f)
	}
	return nil
}

// byVolume gives the mounts of volumes in the order of their names, in which all
// take locks.
func byVolume(mounts []spec.Mount) []spec.Mount {
	list := slices.DeleteFunc(slices.Clone(mounts), func(m spec.Mount) bool { return m.Type != spec.MountVolume })
	slices.SortStableFunc(list, func(a, b spec.Mount) int { return strings.Compare(a.Source, b.Source) })
	return list
}

// volumeMount mounts a volume, or takes a copy of the mount that its holders
// share. shared are the mounts that this start has made or found.
func (s *starter) volumeMount(v *volume.Volume, subpath string, shared map[string]*os.File) (*os.File, error) {
	if !v.Tmpfs() {
		return v.Mount(subpath)
	}
	top := shared[v.Name]
	if top == nil {
		lock, err := v.Lock() // until the container runs, and others can find the mount in it
		if err != nil {
			return nil, err
		}
		s.keep(lock)
		if top, err = s.c.engine.tmpfs(v, s.c.ID); err != nil {
			return nil, err
		}
		shared[v.Name] = s.keep(top)
	}
	return v.Part(top, subpath)
}

// tmpfs finds the tmpfs of a volume in a container that runs, or makes one.
func (e *Engine) tmpfs(v *volume.Volume, but string) (*os.File, error) {
	for _, id := range e.Volumes().Holders(v) {
		c, err := e.load(id)
		if id == but || err != nil {
			continue
		}
		state, err := c.readState()
		if err != nil || state == nil || !state.Running || !alive(state) {
			continue
		}
		for _, m := range c.Options.Mounts {
			if m.Type != spec.MountVolume || m.Source != v.Name || m.Volume.Subpath != "" {
				continue
			}
			f, err := treeOf(fmt.Sprintf("/proc/%d", state.PID), strings.TrimPrefix(m.Target, "/"))
			if err != nil {
				continue
			}
			// The container may have mounted something else there.
			if v.Shared(f, bootID()) {
				return f, nil
			}
			f.Close()
		}
	}
	f, err := v.Mount("")
	if err == nil {
		err = v.Share(f, bootID())
	}
	return f, err
}
