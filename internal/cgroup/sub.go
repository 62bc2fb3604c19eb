package cgroup

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"

	"github.com/brig-run/brig/internal/runtime"
)

// ForExec is the group that one more process of a running container joins:
// its directories, or others below them. sub are the arguments of "exec
// --cgroup": PATH for all hierarchies or CONTROLLER[,CONTROLLER...]:PATH for some
// of v1. Without sub, where the group's own directory of v2 can hold no process
// because the container has made others below it, it is the one that the
// container's first process, init, is in.
func (g *Group) ForExec(sub []string, init int) (*Group, error) {
	below, err := subPaths(sub)
	if err != nil {
		return nil, err
	}
	if len(sub) == 0 {
		if dir := g.initDir(init); dir != "" {
			return g.moved(map[string]string{g.UnifiedDir(): dir}), nil
		}
		return g, nil
	}
	moves := map[string]string{}
	for controller, p := range g.mgr.GetPaths() {
		rel, ok := below[controller]
		if all, has := below[""]; !ok && has && len(below) == 1 {
			rel, ok = all, true
		}
		if !ok || p == "" {
			continue
		}
		dir := filepath.Join(p, rel)
		if dir != p && !strings.HasPrefix(dir, p+"/") {
			return nil, fmt.Errorf("--cgroup %s: is not below the container's cgroup", rel)
		}
		if !cgroups.PathExists(dir) {
			return nil, fmt.Errorf("--cgroup %s: the container has no such cgroup (%s)", rel, dir)
		}
		moves[p] = dir
	}
	for controller := range below {
		if _, ok := g.mgr.GetPaths()[controller]; controller != "" && !ok {
			return nil, fmt.Errorf("--cgroup %s: the container has no cgroup of controller %s", strings.Join(sub, " "), controller)
		}
	}
	return g.moved(moves), nil
}

// subPaths reads the arguments of --cgroup; the key "" stands for all.
func subPaths(args []string) (map[string]string, error) {
	paths := map[string]string{}
	for _, a := range args {
		controllers, p, ok := strings.Cut(a, ":")
		if !ok {
			if len(args) > 1 {
				return nil, fmt.Errorf("invalid --cgroup argument: %s (missing <controller>: prefix)", a)
			}
			return map[string]string{"": a}, nil
		}
		for c := range strings.SplitSeq(controllers, ",") {
			if c == "" {
				return nil, fmt.Errorf("invalid --cgroup argument: %s (empty <controller> prefix)", a)
			}
			if _, twice := paths[c]; twice {
				return nil, fmt.Errorf("invalid --cgroup argument(s): controller %s specified multiple times", c)
			}
			paths[c] = p
		}
	}
	return paths, nil
}

// initDir is the directory of v2 that the process init is in, if the group's own
// gives controllers to others below it (cgroups(7), no internal processes).
func (g *Group) initDir(init int) string {
	own := g.UnifiedDir()
	if !g.Layout.Unified || own == "" {
		return ""
	}
	if given, err := cgroups.ReadFile(own, "cgroup.subtree_control"); err != nil || strings.TrimSpace(given) == "" {
		return ""
	}
	now, err := cgroups.ParseCgroupFile(fmt.Sprintf("/proc/%d/cgroup", init))
	if err != nil {
		return ""
	}
	dir := filepath.Join(Root, now[""])
	if dir != own && strings.HasPrefix(dir, own+"/") {
		return dir
	}
	return ""
}

// moved is the group with other directories in the place of some.
func (g *Group) moved(dirs map[string]string) *Group {
	to := func(dir string) string {
		if d, ok := dirs[dir]; ok {
			return d
		}
		return dir
	}
	m := *g
	m.Dirs = slices.Clone(g.Dirs)
	for i, d := range m.Dirs {
		m.Dirs[i] = to(d)
	}
	m.Layout = runtime.CgroupLayout{Unified: g.Layout.Unified, Hierarchies: slices.Clone(g.Layout.Hierarchies)}
	for i, h := range m.Layout.Hierarchies {
		m.Layout.Hierarchies[i].Path = to(h.Path)
	}
	return &m
}
