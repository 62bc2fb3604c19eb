package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/seccomp"
)

// readConfig reads a bundle's configuration.
func readConfig(bundle string) ([]byte, *specs.Spec, error) {
	name := filepath.Join(bundle, configFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("JSON specification file %s not found: is %s a bundle?", name, bundle)
	}
	if err != nil {
		return nil, nil, err
	}
	spec := &specs.Spec{}
	if err := json.Unmarshal(b, spec); err != nil {
		return nil, nil, jsonError(name, b, err)
	}
	if spec.Process == nil {
		return nil, nil, fmt.Errorf("%s: process: is missing", name)
	}
	if spec.Root == nil {
		return nil, nil, fmt.Errorf("%s: root: is missing", name)
	}
	if spec.Linux == nil {
		spec.Linux = &specs.Linux{}
	}
	return b, spec, nil
}

// withoutRules takes the rules of the seccomp profile out of a configuration: they
// are most of it, and the filter is kept. (To encode a specs.Spec would take a
// millisecond, in which the JSON library learns what other platforms' parts have.)
func withoutRules(config []byte) ([]byte, error) {
	return without(config, "linux", "seccomp", "syscalls")
}

// without takes a key of nested objects out of JSON.
func without(b []byte, path ...string) ([]byte, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil || object[path[0]] == nil {
		return b, err
	}
	if len(path) == 1 {
		delete(object, path[0])
	} else {
		inner, err := without(object[path[0]], path[1:]...)
		if err != nil {
			return nil, err
		}
		object[path[0]] = inner
	}
	return json.Marshal(object)
}

// jsonError adds the line to an error of the JSON library.
func jsonError(name string, b []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	offset := int64(-1)
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	}
	if offset < 0 || offset > int64(len(b)) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s:%d: %w", name, 1+bytes.Count(b[:offset], []byte("\n")), err)
}

// compileFilter makes the filter of a configuration; nil if it asks for none.
func compileFilter(oci *specs.LinuxSeccomp) (*runtime.Filter, error) {
	if oci == nil {
		return nil, nil
	}
	profile, err := seccomp.FromOCI("config.json", oci)
	if err != nil {
		return nil, fmt.Errorf("linux.seccomp: %w", err)
	}
	target, err := seccomp.Here(capability.Kernel())
	if err != nil {
		return nil, err
	}
	policy, _, err := profile.Resolve(target)
	if err != nil {
		return nil, fmt.Errorf("linux.seccomp: %w", err)
	}
	f, err := seccomp.Compile(policy)
	if err == nil {
		err = f.CheckKernel()
	}
	if err != nil {
		return nil, fmt.Errorf("linux.seccomp: %w", err)
	}
	if f.Notify && oci.ListenerPath == "" {
		return nil, errors.New("linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs an agent's socket here")
	}
	out := &runtime.Filter{Flags: uint(f.Flags), Program: make([]unix.SockFilter, len(f.Program)), Listener: f.Notify}
	for i, in := range f.Program {
		out.Program[i] = unix.SockFilter{Code: in.Op, Jt: in.JT, Jf: in.JF, K: in.K}
	}
	return out, nil
}
