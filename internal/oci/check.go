package oci

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/internal/resctrl"
	"github.com/brig-run/brig/internal/runtime"
)

// checkSpec refuses what no container can be made of, before anything is made.
func (rt *Runtime) checkSpec(spec *specs.Spec, bundle string) error {
	warnings, err := runtime.Validate(spec, bundle)
	for _, w := range warnings {
		rt.Warn(w)
	}
	if err == nil && spec.Linux.IntelRdt != nil {
		if _, err = resctrl.Mountpoint(); err != nil {
			err = fmt.Errorf("linux.intelRdt: intelRdt is specified in config, but %w", err)
		}
	}
	return err
}
