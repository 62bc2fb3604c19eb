package oci

import "github.com/opencontainers/runtime-spec/specs-go"

func checkSpec(spec *specs.Spec, bundle string) error { return nil }
