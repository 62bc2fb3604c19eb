// Package cgroup makes a container's cgroups and limits, on v1, v2 and hybrid
// hosts. The work is done by github.com/opencontainers/cgroups; this package
// owns the translation from the runtime-spec and the answer to "which
// directories are the container's". It knows no containers: only a path and
// resources.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // sets the device rules' implementation
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/internal/runtime"
)

// Root is where cgroups are mounted, cgroups(7).
const Root = "/sys/fs/cgroup"

// Group is the cgroup of one container: a directory in every hierarchy.
type Group struct {
	path   string
	mgr    cgroups.Manager
	Layout runtime.CgroupLayout
	// Dirs are the directories to join and to remove at the end.
	Dirs []string
	// Warnings name the limits that this kernel cannot hold.
	Warnings []string
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
	g := &Group{path: cgroupPath}
	config := &cgroups.Cgroup{Path: cgroupPath, Resources: &cgroups.Resources{}}
	var err error
	if cgroups.IsCgroup2UnifiedMode() {
		g.mgr, err = fs2.NewManager(config, filepath.Join(Root, cgroupPath))
	} else {
		g.mgr, err = fs.NewManager(config, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("cgroup %s: %w", cgroupPath, err)
	}
	g.layout()
	return g, nil
}

// Make makes the directories. On error nothing is left.
func (g *Group) Make() error {
	if err := g.mgr.Apply(-1); err != nil {
		g.Remove()
		return fmt.Errorf("create cgroup %s: %w", g.path, err)
	}
	return nil
}

// Limit sets the limits of a cgroup that Make made.
func (g *Group) Limit(r *specs.LinuxResources) error {
	res, err := g.resources(r)
	if err == nil && len(res.Unified) > 0 && !g.Layout.Unified {
		err = cgroups.ErrV1NoUnified
	}
	if err == nil {
		err = g.mgr.Set(res)
	}
	if err != nil {
		return fmt.Errorf("set the limits of cgroup %s: %w", g.path, err)
	}
	return nil
}

// Remove removes the directories. The cgroup must be empty.
func (g *Group) Remove() error { return g.mgr.Destroy() }

// Open opens the cgroup's directory of v2, alone or of a hybrid host, for
// CLONE_INTO_CGROUP; nil if there is no v2.
func (g *Group) Open() (*os.File, error) {
	if dir := g.UnifiedDir(); dir != "" {
		return os.Open(dir)
	}
	return nil, nil
}

// UnifiedDir is the cgroup's directory of v2, alone or of a hybrid host; "" if
// there is none.
func (g *Group) UnifiedDir() string {
	if g.Layout.Unified {
		return g.Dirs[0]
	}
	for _, h := range g.Layout.Hierarchies {
		if h.Type == "cgroup2" {
			return h.Path
		}
	}
	return ""
}

// layout sorts the manager's paths by hierarchy: several controllers may share
// one, as in /sys/fs/cgroup/cpu,cpuacct.
func (g *Group) layout() {
	g.Layout.Unified = cgroups.IsCgroup2UnifiedMode()
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

// resources translates the spec's limits.
func (g *Group) resources(r *specs.LinuxResources) (*cgroups.Resources, error) {
	out := &cgroups.Resources{}
	if r == nil {
		r = &specs.LinuxResources{}
	}
	rules := r.Devices
	if len(rules) == 0 { // without rules the cgroup restricts nothing
		rules = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
	if err := deviceRules(out, rules); err != nil {
		return nil, err
	}
	g.memory(out, r.Memory)
	if c := r.CPU; c != nil {
		set(&out.CpuShares, c.Shares)
		set(&out.CpuQuota, c.Quota)
		set(&out.CpuPeriod, c.Period)
		set(&out.CpuRtRuntime, c.RealtimeRuntime)
		set(&out.CpuRtPeriod, c.RealtimePeriod)
		out.CpuBurst, out.CPUIdle = c.Burst, c.Idle
		out.CpusetCpus, out.CpusetMems = c.Cpus, c.Mems
		if out.CpuShares != 0 {
			out.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(out.CpuShares)
		}
	}
	if r.Pids != nil {
		out.PidsLimit = r.Pids.Limit
	}
	if b := r.BlockIO; b != nil && b.Weight != nil {
		out.BlkioWeight = *b.Weight
	}
	for _, h := range r.HugepageLimits {
		out.HugetlbLimit = append(out.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: h.Pagesize, Limit: h.Limit})
	}
	if len(r.Unified) > 0 {
		out.Unified = r.Unified
	}
	return out, nil
}

func set[T any](dst *T, src *T) {
	if src != nil {
		*dst = *src
	}
}

func (g *Group) memory(out *cgroups.Resources, m *specs.LinuxMemory) {
	if m == nil {
		return
	}
	set(&out.Memory, m.Limit)
	set(&out.MemoryReservation, m.Reservation)
	set(&out.MemorySwap, m.Swap)
	out.MemorySwappiness = m.Swappiness
	set(&out.OomKillDisable, m.DisableOOMKiller)
	if out.MemorySwap != 0 && !swapLimits() {
		g.Warnings = append(g.Warnings, "this kernel cannot limit swap: memory is limited without it")
		out.MemorySwap = 0
	}
}

// swapLimits says whether the kernel accounts swap per cgroup.
func swapLimits() bool {
	if cgroups.IsCgroup2UnifiedMode() {
		_, err := os.Stat("/proc/swaps")
		return err == nil
	}
	_, err := os.Stat(Root + "/memory/memory.memsw.limit_in_bytes")
	return err == nil
}

// deviceRules puts the spec's device rules in order; the last match counts.
func deviceRules(out *cgroups.Resources, rules []specs.LinuxDeviceCgroup) error {
	for i, r := range rules {
		rule := &devices.Rule{Type: devices.WildcardDevice, Major: devices.Wildcard, Minor: devices.Wildcard,
			Permissions: devices.Permissions(r.Access), Allow: r.Allow}
		switch r.Type {
		case "", "a":
		case "c", "b":
			rule.Type = devices.Type(r.Type[0])
		default:
			return fmt.Errorf("spec: linux.resources.devices[%d].type: %q: want a, b or c", i, r.Type)
		}
		set(&rule.Major, r.Major)
		set(&rule.Minor, r.Minor)
		if r.Access == "" || strings.Trim(r.Access, "rwm") != "" {
			return fmt.Errorf("spec: linux.resources.devices[%d].access: %q: want letters of rwm", i, r.Access)
		}
		out.Devices = append(out.Devices, rule)
	}
	return nil
}

// Procs lists the processes in a cgroup directory and the ones below it.
func Procs(dir string) ([]int, error) {
	pids, err := cgroups.GetAllPids(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return pids, err
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
