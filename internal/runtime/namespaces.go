package runtime

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
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
	}
	return 0, false
}

// namespaces splits the spec's namespaces into those that clone makes and
// those that the child joins. The cgroup namespace is made later, once the
// child is in its cgroup, because it is rooted where its maker stands.
func (p *planner) namespaces() error {
	mount := false
	for i, ns := range p.spec.Linux.Namespaces {
		flag, ok := cloneFlag(ns.Type)
		if !ok {
			return fmt.Errorf("spec: linux.namespaces[%d]: namespace type %q is not supported yet", i, ns.Type)
		}
		mount = mount || ns.Type == specs.MountNamespace && ns.Path == ""
		switch {
		case ns.Path != "":
			if err := p.join(ns.Path, flag); err != nil {
				return err
			}
		case ns.Type != specs.CgroupNamespace:
			p.plan.Flags |= flag
		}
	}
	if !mount {
		return fmt.Errorf("spec: linux.namespaces: a mount namespace of the container's own is required")
	}
	return nil
}

func (p *planner) join(path string, flag uintptr) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	if flag == unix.CLONE_NEWPID {
		p.plan.PIDNS = f // it takes effect for children only: the monitor joins around the clone
		return nil
	}
	p.What("join namespace " + path)
	p.Call(unix.SYS_SETNS, inside.R(p.pass(f)), inside.V(flag))
	return nil
}

// has says whether the spec gives the container a namespace of its own.
func (p *planner) has(t specs.LinuxNamespaceType) bool {
	for _, ns := range p.spec.Linux.Namespaces {
		if ns.Type == t {
			return ns.Path == ""
		}
	}
	return false
}
