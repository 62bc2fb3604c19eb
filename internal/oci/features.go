package oci

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/seccomp"
)

// Features tells what this runtime supports, runtime-spec features.md. But for
// the supported seccomp flags it says nothing of the running kernel.
func Features(version, revision string) (*features.Features, error) {
	yes, no := true, false
	known := seccomp.KnownNames()
	f := &features.Features{
		OCIVersionMin: "1.0.0",
		OCIVersionMax: specs.Version,
		Hooks:         []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions:  runtime.MountOptions(),
		Annotations:   map[string]string{"dev.brig.version": version},
		Linux: &features.Linux{
			Namespaces:      runtime.Namespaces(),
			Cgroup:          &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &no, Rdma: &yes},
			Seccomp:         &features.Seccomp{Enabled: &yes, Actions: known.Actions, Operators: known.Operators, Archs: known.Archs, KnownFlags: known.Flags},
			Apparmor:        &features.Apparmor{Enabled: &yes},
			Selinux:         &features.Selinux{Enabled: &no},
			IntelRdt:        &features.IntelRdt{Enabled: &yes, Schemata: &yes, Monitoring: &yes},
			MemoryPolicy:    &features.MemoryPolicy{},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
			NetDevices:      &features.NetDevices{Enabled: &yes},
		},
	}
	if revision != "" {
		f.Annotations["dev.brig.revision"] = revision
	}
	for _, c := range capability.Known().List() {
		f.Linux.Capabilities = append(f.Linux.Capabilities, c.String())
	}
	f.Linux.MemoryPolicy.Modes, f.Linux.MemoryPolicy.Flags = runtime.MemoryPolicies()
	if s, err := seccomp.Supported(); err == nil {
		f.Linux.Seccomp.SupportedFlags = s.Flags.Names()
	}
	return f, nil
}
