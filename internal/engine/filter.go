package engine

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	brigrt "github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/seccomp"
)

// loadProfile reads the profile that the user names.
func loadProfile(path string) (*seccomp.Profile, error) { return seccomp.LoadProfile(path) }

// filter makes the container's filter for its capabilities. Nil is no filter,
// and only if the user said unconfined.
func (e *Engine) filter(r *spec.Result) (*brigrt.Filter, error) {
	profile := seccomp.Default()
	switch r.Seccomp.Mode {
	case spec.SeccompUnconfined:
		return nil, nil
	case spec.SeccompFile:
		var err error
		if profile, err = loadProfile(r.Seccomp.Path); err != nil {
			return nil, err
		}
	}
	arch, err := seccomp.NativeArch(runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	policy, _, err := profile.Resolve(seccomp.Target{Arch: arch, Caps: r.Capabilities, Kernel: seccomp.RunningKernel()})
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	f, err := seccomp.Compile(policy)
	if err != nil {
		return nil, fmt.Errorf("compile the seccomp profile: %w", err)
	}
	out := &brigrt.Filter{Flags: f.Flags, Program: make([]unix.SockFilter, len(f.Program))}
	for i, in := range f.Program {
		out.Program[i] = unix.SockFilter(in)
	}
	return out, nil
}
