package runtime

import (
	"slices"

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

// joinCgroups moves the child into its cgroups of the v1 hierarchies, while the
// host's paths are there; the cgroup of v2, also a hybrid host's, it was cloned
// into. Then that place becomes the root of a new cgroup namespace.
//
// The child moves itself, through "tasks": for a thread that moves itself the
// kernel needs no lock of all forks and exits, and so no grace period, for
// which "cgroup.procs" waits 5 to 16 ms after a while of idleness
// (kernel/cgroup/cgroup.c, cgroup_procs_write_start). The child has one thread.
func (p *planner) joinCgroups(l CgroupLayout) {
	for _, h := range l.Hierarchies {
		if h.Type != "cgroup" {
			continue
		}
		p.What("join cgroup " + h.Path)
		p.Call(unix.SYS_OPENAT, inside.V(atCWD), p.Str(h.Path+"/tasks"), inside.V(unix.O_WRONLY|unix.O_CLOEXEC), inside.V(0)).To(p.tmp)
		p.Call(unix.SYS_WRITE, inside.R(p.tmp), p.Str("0"), inside.V(1))
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	}
}

func (p *planner) cgroupNamespace() {
	if p.has(specs.CgroupNamespace) {
		p.What("make a cgroup namespace")
		p.Call(unix.SYS_UNSHARE, inside.V(unix.CLONE_NEWCGROUP))
	}
}

// cloneCgroups takes the container's cgroup directories from the host's tree,
// for a container that shares the host's cgroup namespace.
func (p *planner) cloneCgroups() {
	if p.has(specs.CgroupNamespace) || !slices.ContainsFunc(p.spec.Mounts, isCgroup) {
		return
	}
	hierarchies := p.cfg.Cgroups.Hierarchies
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if p.cfg.Cgroups.Unified {
		if !p.hasUserns() {
			return // it can be mounted
		}
		hierarchies = []Hierarchy{{Path: "/sys/fs/cgroup"}}
	}
	if p.hasUserns() {
		flags |= unix.AT_RECURSIVE // mounts that came together stay together, mount_namespaces(7)
	}
	for _, h := range hierarchies {
		p.What("open cgroup " + h.Path)
		r := p.NewReg()
		p.Call(unix.SYS_OPEN_TREE, inside.V(atCWD), p.Str(h.Path), inside.V(flags)).To(r)
		p.cgroups = append(p.cgroups, r)
	}
}

func (p *planner) mountCgroup(m *mountPlan) {
	p.What("mount cgroups on " + m.dst)
	p.target(m.dst, false, p.tmp2)
	if p.cfg.Cgroups.Unified {
		p.mountUnified(m)
		return
	}
	p.Call(unix.SYS_FCHDIR, inside.R(p.tmp2))
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	p.Call(unix.SYS_MOUNT, p.Str("tmpfs"), p.Str("."), p.Str("tmpfs"), inside.V(flags), p.Str("mode=755"))
	p.open(p.root, m.dst, openPath, strictly, p.tmp2)
	for i, h := range p.cfg.Cgroups.Hierarchies {
		p.What("mount cgroup hierarchy " + h.Dir)
		p.hierarchy(i, h, &m.o)
		for _, l := range h.Links {
			p.Call(unix.SYS_SYMLINKAT, p.Str(h.Dir), inside.R(p.tmp2), p.Str(l))
		}
	}
	if m.o.attrs()&unix.MOUNT_ATTR_RDONLY != 0 {
		p.setattr(p.tmp2, unix.MOUNT_ATTR_RDONLY, 0, 0, false)
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
	p.setPropagation(m)
}

// mountUnified mounts cgroup2 on the directory in tmp2.
func (p *planner) mountUnified(m *mountPlan) {
	if len(p.cgroups) > 0 {
		p.setattr(p.cgroups[0], m.o.attrs()&^attrAtime, 0, 0, true)
		p.moveTo(p.cgroups[0], p.tmp2)
	} else {
		p.Call(unix.SYS_FCHDIR, inside.R(p.tmp2))
		p.Call(unix.SYS_MOUNT, p.Str("cgroup"), p.Str("."), p.Str("cgroup2"), inside.V(m.o.flags()), p.data(m))
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
	p.setPropagation(m)
}

// hierarchy mounts one hierarchy in the directory in tmp2, a tmpfs that nothing
// but this program has touched.
func (p *planner) hierarchy(i int, h Hierarchy, o *mountOptions) {
	p.Call(unix.SYS_MKDIRAT, inside.R(p.tmp2), p.Str(h.Dir), inside.V(0o755))
	p.open(p.tmp2, h.Dir, openPath, ownProc, p.tmp)
	if len(p.cgroups) > 0 {
		p.setattr(p.cgroups[i], o.attrs()&^attrAtime, 0, 0, false)
		p.moveTo(p.cgroups[i], p.tmp)
	} else {
		data := inside.V(0)
		if h.Data != "" {
			data = p.Str(h.Data)
		}
		p.Call(unix.SYS_FCHDIR, inside.R(p.tmp))
		p.Call(unix.SYS_MOUNT, p.Str(h.Type), p.Str("."), p.Str(h.Type), inside.V(o.flags()), data)
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
}
