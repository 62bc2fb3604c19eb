package oci

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/filtercache"
	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/seccomp"
)

// filterSource is where a container's filter comes from: the cache of filters below
// the root directory, or else the compiler.
type filterSource struct {
	cache  filtercache.Cache
	key    filtercache.Key // "" for a profile that cannot be told from others
	cached *filtercache.Entry
}

// findFilter looks whether the filter of a configuration is known.
func (rt *Runtime) findFilter(c *config) (*filterSource, error) {
	s := &filterSource{cache: filtercache.Cache{Dir: filepath.Join(rt.Root, filterDir)}}
	if c.profile == nil {
		return s, nil
	}
	target, err := seccomp.Here(capability.Kernel())
	if err != nil {
		return nil, err
	}
	if key, ok := filtercache.NewKey(c.profile, fmt.Appendf(nil, "%+v", target)); ok {
		s.key, s.cached = key, s.cache.Load(key)
	}
	return s, nil
}

// filter gives the filter of a configuration; nil if it asks for none.
func (s *filterSource) filter(profile *specs.LinuxSeccomp) (*runtime.Filter, error) {
	if profile == nil {
		return nil, nil
	}
	e := s.cached
	if e == nil {
		var err error
		if e, err = compileFilter(profile); err != nil {
			return nil, err
		}
		if s.key != "" {
			s.cache.Save(s.key, e)
		}
	}
	if e.Notify && profile.ListenerPath == "" {
		return nil, errors.New("linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs an agent's socket here")
	}
	return e.Filter(), nil
}

func compileFilter(oci *specs.LinuxSeccomp) (*filtercache.Entry, error) {
	profile, err := seccomp.FromOCI(configFile, oci)
	if err != nil {
		return nil, fmt.Errorf("linux.seccomp: %w", err)
	}
	target, err := seccomp.Here(capability.Kernel())
	if err != nil {
		return nil, err
	}
	f, _, err := profile.FilterFor(target)
	if err != nil {
		return nil, fmt.Errorf("linux.seccomp: %w", err)
	}
	return &filtercache.Entry{Program: f.Program, Flags: uint(f.Flags), Notify: f.Notify}, nil
}

// saveFilter keeps the compiled filter for exec.
func (c *Container) saveFilter(f *runtime.Filter) error {
	if f == nil {
		return nil
	}
	b := binary.NativeEndian.AppendUint64(nil, uint64(f.Flags))
	b = append(b, unsafe.Slice((*byte)(unsafe.Pointer(&f.Program[0])), 8*len(f.Program))...)
	if err := os.WriteFile(c.file(filterFile), b, 0o600); err != nil {
		return fmt.Errorf("keep the seccomp filter: %w", err)
	}
	return nil
}

// loadFilter reads it; nil if the container has none.
func (c *Container) loadFilter() (*runtime.Filter, error) {
	spec, err := c.Spec()
	if err != nil {
		return nil, err
	}
	if spec.Linux == nil || spec.Linux.Seccomp == nil {
		return nil, nil
	}
	b, err := os.ReadFile(c.file(filterFile))
	if err != nil || len(b) < 16 || len(b)%8 != 0 {
		return nil, fmt.Errorf("read the container's seccomp filter: %w", errors.Join(err, errors.New("the file is not whole")))
	}
	f := &runtime.Filter{Flags: uint(binary.NativeEndian.Uint64(b)), Program: make([]unix.SockFilter, len(b)/8-1), Listener: c.Listener}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&f.Program[0])), len(b)-8), b[8:])
	return f, nil
}
