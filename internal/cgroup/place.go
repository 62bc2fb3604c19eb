package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	systemddbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// scopePrefix begins the names of scopes whose place the spec leaves open.
const scopePrefix = "brig"

// place reads linux.cgroupsPath.
func place(spec *specs.Spec, id string, o Options) (*cgroups.Cgroup, error) {
	c := &cgroups.Cgroup{Systemd: o.Systemd, Rootless: o.Rootless, OwnerUID: o.OwnerUID, Resources: &cgroups.Resources{}}
	p := spec.Linux.CgroupsPath
	if o.Systemd {
		return c, systemdPlace(c, p, id, spec.Annotations)
	}
	if p == "" {
		c.Name = id
		return c, nil
	}
	// The library cleans the path too; the root is found out here.
	if c.Path = filepath.Clean(p); !filepath.IsAbs(p) {
		c.Path = strings.TrimPrefix(filepath.Clean("/"+p), "/")
	}
	if c.Path == "/" || c.Path == "" {
		return nil, fmt.Errorf("linux.cgroupsPath: %q: the root of a hierarchy cannot be a container's cgroup", p)
	}
	return c, nil
}

// belowOwn gives the directories of v1 and hybrid hierarchies, by controller, of a
// place below this process's own cgroups. The library would give the same, and read
// /proc/self/cgroup once for each of the fifteen.
func belowOwn(c *cgroups.Cgroup) (map[string]string, error) {
	inner := c.Path
	if inner == "" {
		inner = c.Name
	}
	top := *c
	top.Path, top.Name = "/", ""
	m, err := fs.NewManager(&top, nil) // which controllers there are
	if err != nil {
		return nil, err
	}
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	paths := map[string]string{}
	for controller, dir := range m.GetPaths() {
		here, ok := own[controller]
		switch {
		case !ok && controller == "devices":
			return nil, errors.New("/proc/self/cgroup does not say which cgroup of the controller devices this process is in")
		case !ok:
			continue
		case controller != "": // v2 of a hybrid host begins at its root
			mount, root, err := cgroups.FindCgroupMountpointAndRoot("", controller)
			if err != nil {
				return nil, err
			}
			// In a container without a cgroup namespace the names are the host's.
			if here, err = filepath.Rel(root, here); err != nil {
				return nil, err
			}
			dir = filepath.Join(mount, here)
		}
		paths[controller] = filepath.Join(dir, inner)
	}
	return paths, nil
}

func systemdPlace(c *cgroups.Cgroup, p, id string, annotations map[string]string) error {
	c.ScopePrefix, c.Name = scopePrefix, id
	if p != "" {
		parts := strings.Split(p, ":")
		if len(parts) != 3 || parts[2] == "" {
			return fmt.Errorf("linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got %q instead", p)
		}
		c.Parent, c.ScopePrefix, c.Name = parts[0], parts[1], parts[2]
	}
	if strings.Contains(c.ScopePrefix+c.Name, "/") {
		return fmt.Errorf("linux.cgroupsPath: %q: the name of a unit has no slashes", p)
	}
	var err error
	c.SystemdProps, err = unitProperties(annotations)
	return err
}

// propertyPrefix begins annotations that set a property of the scope, as
// org.systemd.property.TimeoutStopUSec="uint64 123456789".
const propertyPrefix = "org.systemd.property."

// unitProperties reads the properties of annotations, in GVariant's text form.
func unitProperties(annotations map[string]string) ([]systemddbus.Property, error) {
	var props []systemddbus.Property
	for key, text := range annotations {
		name, ok := strings.CutPrefix(key, propertyPrefix)
		if !ok {
			continue
		}
		if len(name) < 3 || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz") != "" {
			return nil, fmt.Errorf("annotations[%q]: %q is not the name of a unit's property: want three or more letters", key, name)
		}
		value, err := dbus.ParseVariant(text, dbus.Signature{})
		if err == nil {
			name, value, err = microseconds(name, value)
		}
		if err != nil {
			return nil, fmt.Errorf("annotations[%q]: %q: %w; want a value as of busctl or gdbus, such as 'uint64 5' or true", key, text, err)
		}
		props = append(props, systemddbus.Property{Name: name, Value: value})
	}
	slices.SortFunc(props, func(a, b systemddbus.Property) int { return strings.Compare(a.Name, b.Name) })
	return props, nil
}

// microseconds turns a property documented in seconds (TimeoutStopSec) into the
// one that systemd has on the bus (TimeoutStopUSec).
func microseconds(name string, v dbus.Variant) (string, dbus.Variant, error) {
	stem, ok := strings.CutSuffix(name, "Sec")
	if !ok || stem == "" || stem[len(stem)-1] < 'a' {
		return name, v, nil
	}
	const million = 1_000_000
	var usec uint64
	switch n := v.Value().(type) {
	case byte:
		usec = uint64(n) * million
	case int16:
		usec = uint64(n) * million
	case uint16:
		usec = uint64(n) * million
	case int32:
		usec = uint64(n) * million
	case uint32:
		usec = uint64(n) * million
	case int64:
		usec = uint64(n) * million
	case uint64:
		usec = n * million
	case float64:
		usec = uint64(n * million)
	default:
		return name, v, errors.New("not a number")
	}
	return stem + "USec", dbus.MakeVariant(usec), nil
}

// recorded is the place of a group whose directories are known.
func recorded(dirs []string, o Options) *cgroups.Cgroup {
	c := &cgroups.Cgroup{Systemd: o.Systemd, Rootless: o.Rootless, Resources: &cgroups.Resources{}}
	if !o.Systemd || len(dirs) == 0 {
		return c
	}
	unit := filepath.Base(dirs[0])
	if strings.HasSuffix(unit, ".slice") {
		c.Name = unit
		return c
	}
	c.ScopePrefix, c.Name, _ = strings.Cut(strings.TrimSuffix(unit, ".scope"), "-")
	return c
}

// pathsOf tells for which controllers directories are, as the library names
// them. The result is not nil.
func pathsOf(dirs []string) map[string]string {
	paths := map[string]string{}
	for _, dir := range dirs {
		switch h := hierarchyDir(dir); {
		case cgroups.IsCgroup2UnifiedMode() || h == "unified":
			paths[""] = dir
		case h == "systemd":
			paths["name=systemd"] = dir
		default:
			for controller := range strings.SplitSeq(h, ",") {
				paths[controller] = dir
			}
		}
	}
	return paths
}
