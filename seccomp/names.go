package seccomp

import (
	"slices"

	"github.com/brig-run/brig/seccomp/syscalls"
)

// Names are what profiles can say, sorted: the values that OCI's features tell
// of, runtime-spec features-linux.md.
type Names struct {
	Actions, Operators, Archs, Flags []string
}

// KnownNames returns all of them, whether the running kernel has them or not.
func KnownNames() Names {
	var n Names
	for _, a := range actionNames {
		n.Actions = append(n.Actions, actionPrefix+a.name)
	}
	for op := range Op(len(opNames)) {
		n.Operators = append(n.Operators, op.String())
	}
	n.Archs = syscalls.ArchNames()
	for _, f := range flagNames[:profileFlags] {
		n.Flags = append(n.Flags, flagPrefix+f.name)
	}
	for _, list := range [][]string{n.Actions, n.Operators, n.Archs, n.Flags} {
		slices.Sort(list)
	}
	return n
}
