package engine

import (
	"errors"
	"fmt"
	"os"

	"github.com/brig-run/brig/internal/filtercache"
	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/seccomp"
)

// profileFile is the copy of the user's seccomp profile in a container's
// directory: what was asked for at creation holds, though the user's file may
// change, and every exec gets the same filter.
const profileFile = "seccomp.json"

// readProfile reads the profile that the user names, if there is one, and
// refuses it if it is wrong. b is its text if that is known.
func readProfile(s spec.Seccomp, b []byte) ([]byte, error) {
	if s.Mode != spec.SeccompFile {
		return nil, nil
	}
	if b == nil {
		var err error
		if b, err = os.ReadFile(s.Path); err != nil {
			return nil, fmt.Errorf("--security-opt seccomp: read the profile: %w", err)
		}
	}
	if _, _, err := seccomp.ParseAny(s.Path, b); err != nil {
		return nil, fmt.Errorf("--security-opt seccomp: %w", err)
	}
	return b, nil
}

// filter makes the container's filter for its capabilities. Nil is no filter,
// and only if the user said unconfined. The warnings are of rules that have no
// effect.
func (c *Container) filter(r *spec.Result) (_ *runtime.Filter, warnings []string, err error) {
	if r.Seccomp.Mode == spec.SeccompUnconfined {
		return nil, nil, nil
	}
	var text []byte
	if r.Seccomp.Mode == spec.SeccompFile {
		if text, err = os.ReadFile(c.file(profileFile)); err != nil {
			return nil, nil, fmt.Errorf("read the container's seccomp profile: %w", err)
		}
	}
	target, err := seccomp.Here(r.Capabilities)
	if err != nil {
		return nil, nil, err
	}
	cache := filtercache.Cache{Dir: c.engine.path("filters")}
	key, ok := filtercache.NewKey([]byte(r.Seccomp.Mode), []byte(r.Seccomp.Path), text, fmt.Appendf(nil, "%+v", target))
	if ok {
		if e := cache.Load(key); e != nil {
			return e.Filter(), e.Warnings, nil
		}
	}
	f, warnings, err := compile(r.Seccomp, text, target)
	if err != nil {
		return nil, nil, err
	}
	e := &filtercache.Entry{Program: f.Program, Flags: uint(f.Flags), Warnings: warnings}
	if ok {
		cache.Save(key, e)
	}
	return e.Filter(), warnings, nil
}

// compile makes the filter of a profile.
func compile(s spec.Seccomp, text []byte, target seccomp.Target) (_ *seccomp.Filter, warnings []string, err error) {
	profile := seccomp.Default()
	if s.Mode == spec.SeccompFile {
		if profile, _, err = seccomp.ParseAny(s.Path, text); err != nil {
			return nil, nil, err
		}
	}
	f, notes, err := profile.FilterFor(target)
	if err != nil {
		return nil, nil, fmt.Errorf("seccomp profile: %w", err)
	}
	if f.Notify {
		return nil, nil, errors.New("the seccomp profile uses SCMP_ACT_NOTIFY, for which nobody would listen here; use another action, such as SCMP_ACT_ERRNO")
	}
	for _, n := range notes {
		if n.Kind == seccomp.NoteShadowed {
			warnings = append(warnings, "seccomp profile: "+n.String())
		}
	}
	return f, warnings, nil
}
