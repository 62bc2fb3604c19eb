package runtime

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What a specification can say, from the tables that plans are made with.

// Namespaces are the types of namespaces.
func Namespaces() []string {
	var names []string
	for _, t := range [...]specs.LinuxNamespaceType{specs.CgroupNamespace, specs.IPCNamespace, specs.MountNamespace, specs.NetworkNamespace,
		specs.PIDNamespace, specs.TimeNamespace, specs.UserNamespace, specs.UTSNamespace} {
		if _, ok := cloneFlag(t); ok {
			names = append(names, string(t))
		}
	}
	return names
}

// MemoryPolicies are the modes and flags of linux.memoryPolicy.
func MemoryPolicies() (modes, flags []string) {
	for _, m := range memoryModes {
		modes = append(modes, string(m))
	}
	for _, f := range memoryFlags {
		flags = append(flags, string(f.name))
	}
	slices.Sort(modes)
	slices.Sort(flags)
	return modes, flags
}
