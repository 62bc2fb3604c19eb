package oci

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/internal/runtime"
)

// checkSpec refuses what no container can be made of, before anything is made.
func (rt *Runtime) checkSpec(spec *specs.Spec, bundle string) error {
	warnings, err := runtime.Validate(spec, bundle)
	for _, w := range warnings {
		rt.Warn(w)
	}
	return err
}
