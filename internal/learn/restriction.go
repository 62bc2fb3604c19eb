package learn

import (
	"fmt"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/spec"
)

// restriction is a policy in the form in which the engine takes it.
type restriction struct {
	caps    capability.Set
	profile []byte
}

// restrict makes a restriction of a policy.
func restrict(p *policy.Policy) (*restriction, error) {
	caps, err := p.Granted()
	if err != nil {
		return nil, err
	}
	text, err := profileText(p)
	if err != nil {
		return nil, err
	}
	return &restriction{caps, text}, nil
}

func (r *restriction) apply(o *engine.CreateOptions) {
	enforce(o, "policy", r.caps, r.profile)
}

// Enforce puts a policy's capabilities and seccomp profile in place of what the
// options say. Path is where the policy is from, for messages.
func Enforce(o *engine.CreateOptions, path string, p *policy.Policy) error {
	r, err := restrict(p)
	if err != nil {
		return err
	}
	enforce(o, path, r.caps, r.profile)
	o.Policy = path
	return nil
}

func enforce(o *engine.CreateOptions, path string, caps capability.Set, profile []byte) {
	o.Options.Privileged = false
	o.Options.CapDrop = []string{"ALL"}
	o.Options.CapAdd = caps.Names()
	o.Options.CapAmbient = o.Options.CapAmbient && !caps.Empty()
	o.Options.Security.Seccomp = spec.Seccomp{Mode: spec.SeccompFile, Path: path}
	o.Profile = profile
}

// profileText is a policy's seccomp profile in Docker's form.
func profileText(p *policy.Policy) ([]byte, error) {
	profile, err := p.Profile()
	if err != nil {
		return nil, fmt.Errorf("make the policy's seccomp profile: %w", err)
	}
	return profile.DockerJSON()
}
