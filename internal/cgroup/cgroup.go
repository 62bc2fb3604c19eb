// Package cgroup makes a container's cgroups and limits, on v1, v2 and hybrid
// hosts, by itself or through systemd. The work is done by
// github.com/opencontainers/cgroups; this package owns the translation from the
// runtime-spec, the answer to "which directories are the container's", and what
// is done with all processes in them. It knows no containers: only a path and
// resources.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // sets the device rules' implementation
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/cgroups/systemd"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/userns"
)

// Root is where cgroups are mounted, cgroups(7).
const Root = "/sys/fs/cgroup"

// Group is the cgroup of one container: a directory in every hierarchy.
type Group struct {
	path   string // as the user knows it, for errors
	config *cgroups.Cgroup
	mgr    cgroups.Manager
	// foreign: the path is another's choice (linux.cgroupsPath), so what is
	// there already is looked at first.
	foreign bool
	// defaults are device rules that come after those of the spec.
	defaults []*devices.Rule

	Layout runtime.CgroupLayout
	// Dirs are the directories to join and to remove at the end.
	Dirs []string
	// Warnings name the limits that this kernel cannot hold.
	Warnings []string
}

// Options say how a runtime was asked to treat cgroups.
type Options struct {
	// Systemd lets systemd make the cgroup, as a transient scope; it then
	// exists only once Start was called with a process.
	Systemd bool
	// Rootless goes on without a cgroup if it cannot be made and nothing is to
	// be limited.
	Rootless bool
	// OwnerUID is the host's ID of the user that may administer the cgroup, for
	// a container with its own user namespace and a writable cgroup mount. Only
	// systemd's driver on v2 heeds it, as in runc.
	OwnerUID *int
}

// Mode is "v1", "v2" or "hybrid".
func Mode() string {
	switch {
	case cgroups.IsCgroup2UnifiedMode():
		return "v2"
	case cgroups.IsCgroup2HybridMode():
		return "hybrid"
	}
	return "v1"
}

// New plans the cgroup at path (as "/brig/ID", below the root of each
// hierarchy). It makes nothing yet.
func New(cgroupPath string) (*Group, error) {
	g := &Group{path: cgroupPath, config: &cgroups.Cgroup{Path: cgroupPath, Resources: &cgroups.Resources{}}}
	if userns.Inside() {
		g.config.Rootless = true
		if !cgroups.IsCgroup2UnifiedMode() || unix.Access(filepath.Dir(Root+cgroupPath), unix.W_OK) != nil {
			g.config.Path = "" // one in this form must be made
			g.config.Parent, g.config.Name = filepath.Split(cgroupPath)
		}
	}
	if err := g.manage(nil); err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", cgroupPath, err)
	}
	return g, nil
}

// ForSpec plans the cgroup of a runtime-spec (config-linux.md, Control groups)
// for the container id. It makes nothing yet. linux.cgroupsPath has runc's
// meanings: absolute is below the root of each hierarchy; relative, or empty for
// id itself, is below the caller's own cgroup (on v2, below that one's parent,
// because a cgroup with processes cannot have others that are limited); with
// systemd it is slice:prefix:name. What linux.resources asks of this host in
// vain is an error here already, as far as can be known.
func ForSpec(spec *specs.Spec, id string, o Options) (*Group, error) {
	g, err := planned(spec, id, o)
	if err != nil {
		return nil, err
	}
	if o.Systemd && !systemd.IsRunningSystemd() {
		return nil, errors.New("systemd is to make the cgroup, but does not run on this host")
	}
	return g, nil
}

func planned(spec *specs.Spec, id string, o Options) (*Group, error) {
	if spec.Linux == nil {
		spec = &specs.Spec{Annotations: spec.Annotations, Linux: &specs.Linux{}}
	}
	g := &Group{foreign: true, defaults: defaultDevices(spec.Linux.Devices)}
	var err error
	if g.config, err = place(spec, id, o); err != nil {
		return nil, err
	}
	if g.path = spec.Linux.CgroupsPath; g.path == "" {
		g.path = id
	}
	if g.config.Resources, err = g.resources(spec.Linux.Resources); err == nil {
		err = g.manage(nil)
	}
	if err == nil {
		err = g.supported(g.config.Resources)
	}
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", g.path, err)
	}
	return g, nil
}

// Load gives the group back whose Dirs were recorded when it was planned, with
// the same options. It serves what is done after a start, also after one that
// was killed in the middle: directories may be missing.
func Load(dirs []string, o Options) (*Group, error) {
	g := &Group{config: recorded(dirs, o), foreign: true}
	if len(dirs) > 0 {
		g.path = strings.TrimPrefix(dirs[0], Root)
		if !cgroups.IsCgroup2UnifiedMode() {
			g.path = strings.TrimPrefix(g.path, "/"+hierarchyDir(dirs[0]))
		}
	}
	if err := g.manage(pathsOf(dirs)); err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", g.path, err)
	}
	return g, nil
}

// manage chooses the implementation, and learns the directories from it unless
// they are known.
func (g *Group) manage(paths map[string]string) error {
	var err error
	unified := cgroups.IsCgroup2UnifiedMode()
	switch {
	case paths != nil && len(paths) == 0: // no cgroup was ever made
		g.mgr, err = fs.NewManager(g.config, paths)
	case unified && g.config.Systemd:
		g.mgr, err = systemd.NewUnifiedManager(g.config, paths[""])
	case unified && paths == nil && filepath.IsAbs(g.config.Path):
		g.mgr, err = fs2.NewManager(g.config, filepath.Join(Root, g.config.Path))
	case unified:
		g.mgr, err = fs2.NewManager(g.config, paths[""])
	case g.config.Systemd:
		g.mgr, err = systemd.NewLegacyManager(g.config, paths)
	default:
		if paths == nil && !filepath.IsAbs(g.config.Path) && g.config.Parent == "" {
			paths, err = belowOwn(g.config)
		}
		if err == nil {
			g.mgr, err = fs.NewManager(g.config, paths)
		}
	}
	if err == nil {
		g.layout()
	}
	return err
}

// Make makes the directories. On error nothing is left. With systemd's driver
// it only looks whether the place is free: Start makes the cgroup.
func (g *Group) Make() error {
	if g.foreign {
		if err := g.Free(); err != nil {
			return err
		}
	}
	if g.config.Systemd {
		return nil
	}
	return g.apply(-1)
}

// Start makes the cgroup with systemd's driver, around a process that has not
// begun its work: systemd wants one to start a scope with. It does nothing
// otherwise.
func (g *Group) Start(pid int) error {
	if !g.config.Systemd {
		return nil
	}
	return g.apply(pid)
}

func (g *Group) apply(pid int) error {
	err := g.mgr.Apply(pid)
	if errors.Is(err, cgroups.ErrRootless) {
		if g.foreign {
			g.warn("no permission to make a cgroup: the container runs without")
		} // else a limit that cannot be set is an error, and there is no more to say
		g.KeepMade()
		return nil
	}
	if err != nil {
		g.mgr.Destroy()
		return fmt.Errorf("create cgroup %s: %w", g.path, named(err))
	}
	return nil
}

// KeepMade forgets the directories that are not there, because their hierarchies
// are not open to this user.
func (g *Group) KeepMade() {
	g.layout()
	missing := func(dir string) bool { return !cgroups.PathExists(dir) }
	g.Dirs = slices.DeleteFunc(g.Dirs, missing)
	g.Layout.Hierarchies = slices.DeleteFunc(g.Layout.Hierarchies, func(h runtime.Hierarchy) bool { return missing(h.Path) })
}

// Free makes sure that the cgroup has no processes and is not frozen, which
// would be limits and a state that another made (as runc since 1.1).
func (g *Group) Free() error {
	pids, err := g.Pids()
	if err == nil && len(pids) > 0 {
		err = fmt.Errorf("container's cgroup is not empty: %d process(es) found", len(pids))
	}
	frozen := false
	if err == nil {
		frozen, err = g.Frozen()
	}
	if err == nil && frozen {
		err = errors.New("container's cgroup unexpectedly frozen")
	}
	if err != nil {
		return fmt.Errorf("cgroup %s: %w", g.path, err)
	}
	return nil
}

// Limit sets the limits of a cgroup that Make, or with systemd Start, made.
func (g *Group) Limit(r *specs.LinuxResources) error {
	return g.limit(r, func(*cgroups.Resources) {})
}

// limit sets limits after a change to what the library is told.
func (g *Group) limit(r *specs.LinuxResources, change func(*cgroups.Resources)) error {
	res, err := g.resources(r)
	if err == nil {
		change(res)
		err = g.supported(res)
	}
	if err == nil {
		err = named(g.mgr.Set(res))
	}
	if err != nil {
		return fmt.Errorf("set the limits of cgroup %s: %w", g.path, err)
	}
	return nil
}

// isRoot says whether a directory is the root of a hierarchy: on v2 alone what lies
// directly below it may be a container's.
func (g *Group) isRoot(dir string) bool {
	return dir == Root || !g.Layout.Unified && filepath.Dir(dir) == Root
}

// RemoveEmpty removes the directories if nothing is in them, and says whether they
// are gone. It waits for nothing.
func (g *Group) RemoveEmpty() bool {
	if g.config.Systemd {
		return false
	}
	for _, dir := range g.Dirs {
		if g.isRoot(dir) {
			return false
		}
		if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
			return false
		}
	}
	return true
}

// Remove removes the directories with all below them. The cgroup must be empty
// of processes; those that are about to end are waited for, up to a second.
func (g *Group) Remove() error {
	for _, dir := range g.Dirs {
		if g.isRoot(dir) {
			return fmt.Errorf("remove cgroup %s: is the root of a hierarchy", dir)
		}
	}
	if err := g.Wait(time.Second); err != nil {
		return fmt.Errorf("remove %w", err)
	}
	if err := g.mgr.Destroy(); err != nil {
		return fmt.Errorf("remove cgroup %s: %w", g.path, err)
	}
	return nil
}

// Exists says whether any of the directories is there.
func (g *Group) Exists() bool {
	return slices.ContainsFunc(g.Dirs, cgroups.PathExists)
}

// Open opens the cgroup's directory of v2, alone or of a hybrid host, for
// CLONE_INTO_CGROUP; nil if there is no v2, or if systemd has not made the
// cgroup yet.
func (g *Group) Open() (*os.File, error) {
	dir := g.UnifiedDir()
	if dir == "" {
		return nil, nil
	}
	f, err := os.OpenFile(dir, unix.O_DIRECTORY, 0)
	if errors.Is(err, os.ErrNotExist) && g.config.Systemd {
		return nil, nil
	}
	return f, err
}

// UnifiedDir is the cgroup's directory of v2, alone or of a hybrid host; "" if
// there is none.
func (g *Group) UnifiedDir() string {
	if g.Layout.Unified {
		if len(g.Dirs) == 0 {
			return ""
		}
		return g.Dirs[0]
	}
	for _, h := range g.Layout.Hierarchies {
		if h.Type == "cgroup2" {
			return h.Path
		}
	}
	return ""
}

func (g *Group) warn(format string, args ...any) {
	if w := fmt.Sprintf(format, args...); !slices.Contains(g.Warnings, w) {
		g.Warnings = append(g.Warnings, w)
	}
}

// layout sorts the manager's paths by hierarchy: several controllers may share
// one, as in /sys/fs/cgroup/cpu,cpuacct.
func (g *Group) layout() {
	g.Layout, g.Dirs = runtime.CgroupLayout{Unified: cgroups.IsCgroup2UnifiedMode()}, nil
	byDir := map[string]*runtime.Hierarchy{}
	for controller, p := range g.mgr.GetPaths() {
		if p == "" {
			continue
		}
		dir := hierarchyDir(p)
		h := byDir[dir]
		if h == nil {
			h = &runtime.Hierarchy{Dir: dir, Type: "cgroup", Data: dir, Path: p}
			switch {
			case controller == "":
				h.Type, h.Data = "cgroup2", ""
			case strings.HasPrefix(controller, "name="):
				h.Data = controller
			}
			byDir[dir] = h
		}
		if controller != dir && controller != "" && !strings.HasPrefix(controller, "name=") {
			h.Links = append(h.Links, controller)
		}
	}
	for _, h := range byDir {
		g.Dirs = append(g.Dirs, h.Path)
		sort.Strings(h.Links)
		if !g.Layout.Unified {
			g.Layout.Hierarchies = append(g.Layout.Hierarchies, *h)
		}
	}
	sort.Strings(g.Dirs)
	sort.Slice(g.Layout.Hierarchies, func(i, j int) bool { return g.Layout.Hierarchies[i].Dir < g.Layout.Hierarchies[j].Dir })
}

func hierarchyDir(p string) string {
	rel := strings.TrimPrefix(p, Root+"/")
	dir, _, _ := strings.Cut(rel, "/")
	return dir
}

// Existing lists the directories that a cgroup path has on this host now.
func Existing(cgroupPath string) (dirs []string) {
	try := func(dir string) {
		if _, err := os.Stat(dir); err == nil {
			dirs = append(dirs, dir)
		}
	}
	try(filepath.Join(Root, cgroupPath))
	if cgroups.IsCgroup2UnifiedMode() {
		return dirs
	}
	hierarchies, _ := os.ReadDir(Root)
	for _, h := range hierarchies {
		if h.IsDir() {
			try(filepath.Join(Root, h.Name(), cgroupPath))
		}
	}
	return dirs
}
