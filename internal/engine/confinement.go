package engine

import (
	"fmt"
	"os"
	"strings"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/seccomp"
)

// Confinement is what a container's processes are held by.
type Confinement struct {
	Caps capability.Set // the bounding set
	Root bool           // the first process runs as root
	// Profile is the seccomp profile, nil if there is none, and ProfileName
	// what to call it: "default profile", "profile p.json".
	Profile     *seccomp.Profile
	ProfileName string
	Policy      string // the policy file that all that is of, or ""
}

// Confinement returns what the container is held by.
func (c *Container) Confinement() (*Confinement, error) {
	base := capability.Default()
	if c.Options.Privileged {
		base = c.engine.host().Capabilities
	}
	caps, err := capability.Resolve(base, c.Options.CapAdd, c.Options.CapDrop)
	if err != nil {
		return nil, err
	}
	held := &Confinement{Caps: caps, Root: c.runsAsRoot(), Policy: c.Policy}
	switch mode := c.Options.Security.Seccomp.Mode; {
	case mode == spec.SeccompUnconfined || mode == spec.SeccompDefault && c.Options.Privileged:
		return held, nil
	case mode != spec.SeccompFile:
		held.Profile, held.ProfileName = seccomp.Default(), "default profile"
		return held, nil
	}
	path := c.Options.Security.Seccomp.Path
	text := c.profile
	if text == nil {
		if text, err = os.ReadFile(c.file(profileFile)); err != nil {
			return nil, fmt.Errorf("read the container's seccomp profile: %w", err)
		}
	}
	held.Profile, _, err = seccomp.ParseAny(path, text)
	held.ProfileName = "profile " + path
	return held, err
}

// runsAsRoot goes by what the user is called: an image may call root otherwise,
// but none does.
func (c *Container) runsAsRoot() bool {
	user := c.Options.User
	if user == "" {
		user = c.ImageConfig.User
	}
	name, _, _ := strings.Cut(user, ":")
	return name == "" || name == "0" || name == "root"
}
