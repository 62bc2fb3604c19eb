package oci

import (
	"fmt"
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func checkSpec(spec *specs.Spec, bundle string) error { return checkProcess(spec.Process, "process") }

// checkProcess refuses what no process can be made of.
func checkProcess(p *specs.Process, where string) error {
	switch {
	case len(p.Args) == 0:
		return fmt.Errorf("%s.args: must not be empty", where)
	case !path.IsAbs(p.Cwd):
		return fmt.Errorf("%s.cwd: %q must be an absolute path", where, p.Cwd)
	}
	return nil
}
