package oci

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// Features tells what this runtime supports, runtime-spec features.md.
func Features(version, revision string) (*features.Features, error) {
	return &features.Features{OCIVersionMin: "1.0.0", OCIVersionMax: specs.Version}, nil
}
