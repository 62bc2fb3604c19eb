package runtime

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
	"github.com/brig-run/brig/internal/userns"
)

// cloneFlag is the CLONE_NEW* flag of a namespace type, namespaces(7).
func cloneFlag(t specs.LinuxNamespaceType) (uintptr, bool) {
	switch t {
	case specs.PIDNamespace:
		return unix.CLONE_NEWPID, true
	case specs.NetworkNamespace:
		return unix.CLONE_NEWNET, true
	case specs.MountNamespace:
		return unix.CLONE_NEWNS, true
	case specs.IPCNamespace:
		return unix.CLONE_NEWIPC, true
	case specs.UTSNamespace:
		return unix.CLONE_NEWUTS, true
	case specs.CgroupNamespace:
		return unix.CLONE_NEWCGROUP, true
	case specs.UserNamespace:
		return unix.CLONE_NEWUSER, true
	case specs.TimeNamespace:
		return unix.CLONE_NEWTIME, true
	}
	return 0, false
}

// namespaces plans how the child comes into the spec's namespaces.
//
// Without a user or time namespace the clone itself makes all new ones. With
// one, the first child enters or makes that one and then makes a sibling in the
// rest: a user namespace must be there, with its maps, before what it shall own;
// a time namespace takes its offsets only while nobody is in it. The cgroup
// namespace is made later, once the child is in its cgroup, because it is rooted
// where its maker stands.
func (p *planner) namespaces() error {
	var joined []specs.LinuxNamespace
	var made uintptr
	for i, ns := range p.spec.Linux.Namespaces {
		flag, ok := cloneFlag(ns.Type)
		if !ok {
			return fmt.Errorf("spec: linux.namespaces[%d]: unknown namespace type %q", i, ns.Type)
		}
		switch {
		case ns.Path != "":
			joined = append(joined, ns)
		case ns.Type != specs.CgroupNamespace:
			made |= flag
		}
	}
	if !p.has(specs.MountNamespace) && !p.joins(specs.MountNamespace) {
		return fmt.Errorf("spec: linux.namespaces: a mount namespace is required: add {\"type\": \"mount\"}")
	}
	const first = unix.CLONE_NEWUSER | unix.CLONE_NEWTIME
	p.plan.Forks = made&first != 0 || p.joins(specs.UserNamespace) || p.joins(specs.PIDNamespace) && !mayReturn()
	if !p.plan.Forks {
		p.plan.Flags = made
		return p.join(joined)
	}
	p.plan.Flags = made & unix.CLONE_NEWUSER
	if err := p.join(joined); err != nil {
		return err
	}
	if made&unix.CLONE_NEWUSER != 0 {
		p.What("wait for the maps of the user namespace")
		p.Ask(inside.AskMaps)
	}
	if InUserNamespace(p.spec) {
		p.becomeRoot()
	}
	if made&unix.CLONE_NEWTIME != 0 {
		p.timeNamespace()
	}
	p.What("make the container's namespaces")
	p.Pseudo(inside.Fork, inside.V(made&^uintptr(first)))
	p.leader() // is not inherited
	p.Ask(inside.AskForked)
	return nil
}

// mayReturn says whether this process, having joined a PID namespace for its
// children, can join its own again: that takes rights over its own one, which
// root of a user namespace lacks. Then a child joins, and makes a sibling.
func mayReturn() bool { return !userns.Inside() }

// join plans the joining of namespaces by path. The user namespace comes last:
// in it, the child has no rights over the others.
func (p *planner) join(list []specs.LinuxNamespace) error {
	for _, user := range []bool{false, true} {
		for _, ns := range list {
			if user != (ns.Type == specs.UserNamespace) {
				continue
			}
			if err := p.joinPath(ns); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *planner) joinPath(ns specs.LinuxNamespace) error {
	flag, _ := cloneFlag(ns.Type)
	f, err := os.Open(ns.Path)
	if err != nil {
		return fmt.Errorf("open the %s namespace: %w", ns.Type, err)
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || uintptr(kind) != flag {
		f.Close()
		return fmt.Errorf("spec: linux.namespaces: %s is not a %s namespace", ns.Path, ns.Type)
	}
	if flag == unix.CLONE_NEWPID && !p.plan.Forks {
		p.plan.PIDNS = f // it takes effect for children only: whoever clones joins around the clone
		return nil
	}
	p.What("join namespace " + ns.Path)
	p.Call(unix.SYS_SETNS, inside.R(p.pass(f)), inside.V(flag))
	return nil
}

// becomeRoot takes the IDs 0 in a user namespace, if it maps them: until then
// the child is nobody there, and cannot make files.
func (p *planner) becomeRoot() {
	p.mapped = true
	p.What("become root of the user namespace")
	zero := inside.V(0)
	p.Call(unix.SYS_SETRESGID, zero, zero, zero).On(uint16(unix.EINVAL), 0)
	p.Call(unix.SYS_SETRESUID, zero, zero, zero).On(uint16(unix.EINVAL), 0)
	p.Call(unix.SYS_SETGROUPS, zero, zero).On(uint16(unix.EPERM), 0) // "deny" in /proc/PID/setgroups
	p.leader()                                                       // a change of IDs takes PR_SET_PDEATHSIG back
}

// timeNamespace makes a time namespace, has its clocks set, and leaves entering
// it to the sibling, time_namespaces(7).
func (p *planner) timeNamespace() {
	p.What("make a time namespace")
	p.Call(unix.SYS_UNSHARE, inside.V(unix.CLONE_NEWTIME))
	if len(p.spec.Linux.TimeOffsets) > 0 {
		p.What("wait for the offsets of the time namespace")
		p.Ask(inside.AskOffsets)
	}
}

// has says whether the spec gives the container a namespace of its own.
func (p *planner) has(t specs.LinuxNamespaceType) bool { return hasNamespace(p.spec, t, true) }

// joins says whether the container joins a namespace by path.
func (p *planner) joins(t specs.LinuxNamespaceType) bool { return hasNamespace(p.spec, t, false) }

// hasUserns says whether the container is in a user namespace: one that the spec
// names, or the caller's. Nobody in it may make devices, and proc and sysfs are
// mounted only in sight of others.
func (p *planner) hasUserns() bool {
	return userns.Inside() || p.spec != nil && InUserNamespace(p.spec)
}

func hasNamespace(spec *specs.Spec, t specs.LinuxNamespaceType, own bool) bool {
	if spec.Linux == nil {
		return false
	}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == t {
			return own == (ns.Path == "")
		}
	}
	return false
}

// InUserNamespace says whether a container has, or joins, a user namespace.
func InUserNamespace(spec *specs.Spec) bool {
	return hasNamespace(spec, specs.UserNamespace, true) || hasNamespace(spec, specs.UserNamespace, false)
}
