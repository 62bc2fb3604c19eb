package runtime

import (
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
)

// CgroupLayout is how the host mounts cgroups, with the container's own
// directories in them.
type CgroupLayout struct {
	Unified     bool // cgroup v2 alone
	Hierarchies []Hierarchy
}

// Hierarchy is one mounted cgroup hierarchy of a v1 or hybrid host.
type Hierarchy struct {
	Dir   string   // name below /sys/fs/cgroup: "cpu,cpuacct", "unified"
	Type  string   // "cgroup" or "cgroup2"
	Data  string   // mount option: "cpu,cpuacct", "name=systemd", or empty
	Links []string // other names for the same hierarchy: "cpu", "cpuacct"
	Path  string   // the container's directory on the host
}

func isCgroup(m specs.Mount) bool { return m.Type == "cgroup" || m.Type == "cgroup2" }

// lateCgroups says whether the cgroup mounts can wait until everything else is
// mounted. They need the cgroup namespace, which needs the join, which may take
// a grace period of the kernel: meanwhile the rest gets done. They cannot wait
// if another mount lies below them.
func (p *planner) lateCgroups() bool {
	for _, c := range p.spec.Mounts {
		if !isCgroup(c) {
			continue
		}
		for _, m := range p.spec.Mounts {
			if strings.HasPrefix(path.Clean(m.Destination), path.Clean(c.Destination)+"/") {
				return false
			}
		}
	}
	return true
}

// joinCgroup waits until the monitor has put the child into its cgroup, and
// then makes that the root of a new cgroup namespace.
func (p *planner) joinCgroup() {
	if p.joined {
		return
	}
	p.awaitCgroup()
	if p.has(specs.CgroupNamespace) {
		p.What("make a cgroup namespace")
		p.Call(unix.SYS_UNSHARE, inside.V(unix.CLONE_NEWCGROUP))
	}
}

// cloneCgroups takes the container's cgroup directories from the host's tree,
// for a container that shares the host's cgroup namespace.
func (p *planner) cloneCgroups() {
	if p.has(specs.CgroupNamespace) || p.cfg.Cgroups.Unified {
		return
	}
	for _, m := range p.spec.Mounts {
		if !isCgroup(m) {
			continue
		}
		for _, h := range p.cfg.Cgroups.Hierarchies {
			p.What("open cgroup " + h.Path)
			r := p.NewReg()
			p.Call(unix.SYS_OPEN_TREE, inside.V(atCWD), p.Str(h.Path), inside.V(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(r)
			p.cgroups = append(p.cgroups, r)
		}
		return
	}
}

// awaitCgroup waits for the monitor's word; its end instead of it ends the start.
func (p *planner) awaitCgroup() {
	p.joined = true
	p.What("wait for the container's cgroup")
	n := p.NewReg()
	p.Call(unix.SYS_READ, inside.R(inside.RegSync), p.Bytes(make([]byte, 8)), inside.V(1)).To(n)
	p.Pseudo(inside.Expect, inside.R(n), inside.V(1), inside.V(int(unix.ECANCELED)))
}

func (p *planner) mountCgroup(m specs.Mount, o mountOptions, dst string) {
	p.joinCgroup()
	p.What("mount cgroups on " + dst)
	p.target(dst, false, p.tmp2)
	p.Call(unix.SYS_FCHDIR, inside.R(p.tmp2))
	if p.cfg.Cgroups.Unified {
		p.Call(unix.SYS_MOUNT, p.Str("cgroup"), p.Str("."), p.Str("cgroup2"), inside.V(o.flags), inside.V(0))
		return
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	p.Call(unix.SYS_MOUNT, p.Str("tmpfs"), p.Str("."), p.Str("tmpfs"), inside.V(flags), p.Str("mode=755"))
	p.open(p.root, dst, openPath, inRoot, p.tmp2)
	for i, h := range p.cfg.Cgroups.Hierarchies {
		p.What("mount cgroup hierarchy " + h.Dir)
		p.hierarchy(i, h, o)
		for _, l := range h.Links {
			p.Call(unix.SYS_SYMLINKAT, p.Str(h.Dir), inside.R(p.tmp2), p.Str(l))
		}
	}
	if o.attrSet&unix.MOUNT_ATTR_RDONLY != 0 {
		p.setattr(p.tmp2, unix.MOUNT_ATTR_RDONLY, 0, 0, false)
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
}

// hierarchy mounts one hierarchy in the directory in tmp2, a tmpfs that nothing
// but this program has touched.
func (p *planner) hierarchy(i int, h Hierarchy, o mountOptions) {
	p.Call(unix.SYS_MKDIRAT, inside.R(p.tmp2), p.Str(h.Dir), inside.V(0o755))
	p.open(p.tmp2, h.Dir, openPath, ownProc, p.tmp)
	if len(p.cgroups) > 0 {
		p.setattr(p.cgroups[i], o.attrSet, o.attrClr, 0, false)
		p.moveTo(p.cgroups[i], p.tmp)
	} else {
		data := inside.V(0)
		if h.Data != "" {
			data = p.Str(h.Data)
		}
		p.Call(unix.SYS_FCHDIR, inside.R(p.tmp))
		p.Call(unix.SYS_MOUNT, p.Str(h.Type), p.Str("."), p.Str(h.Type), inside.V(o.flags), data)
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
}
