package spec

import (
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ExecOptions is what the user may ask for of a further process in a running
// container.
type ExecOptions struct {
	Args       []string `json:"args"`
	Env        []string `json:"env,omitempty"`
	Workdir    string   `json:"workdir,omitempty"` // "" is the container's
	User       string   `json:"user,omitempty"`    // "" is the container's
	TTY        bool     `json:"tty,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
}

// ErrNoExecCommand says that an exec names no program.
var ErrNoExecCommand = errors.New("no exec command specified")

// BuildExec makes the process of an exec. in is what the container was built
// from, with Root opened in it as it is now. The process gets the container's
// capabilities, for its own user; all that the host can grant if Privileged.
// Warnings that the container's start gave already are not repeated.
func BuildExec(in Input, e *ExecOptions) (*specs.Process, error) {
	if len(e.Args) == 0 || e.Args[0] == "" {
		return nil, ErrNoExecCommand
	}
	b, err := newBuilder(in)
	if err != nil {
		return nil, err
	}
	for _, step := range [...]func() error{b.hostname, b.rlimits} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if err := b.execProcess(e); err != nil {
		return nil, err
	}
	return b.spec.Process, nil
}

func (b *builder) execProcess(e *ExecOptions) error {
	p := b.spec.Process
	p.Args, p.Terminal = e.Args, e.TTY
	var err error
	workdir := e.Workdir
	if workdir == "" {
		workdir = b.o.Workdir
	}
	if p.Cwd, err = b.cwd(workdir); err != nil {
		return err
	}
	user := e.User
	if user == "" {
		user = b.userSpec(b.o.User)
	}
	var home string
	if p.User, home, err = lookupUser(b.Root, user, b.o.GroupAdd); err != nil {
		return err
	}
	p.Env = b.env(e.TTY, e.Env, home)
	score := b.o.OOMScoreAdj
	p.OOMScoreAdj = &score
	if err := b.capabilities(); err != nil {
		return err
	}
	if e.Privileged {
		if p.Capabilities, err = b.privilegedSets(p.User.UID); err != nil {
			return err
		}
	}
	if err := noNUL("argument", e.Args); err != nil {
		return err
	}
	if err := noNUL("variable", p.Env); err != nil {
		return err
	}
	p.NoNewPrivileges = b.o.Security.NoNewPrivileges
	if b.host.AppArmor {
		p.ApparmorProfile = b.o.Security.AppArmor
		if e.Privileged {
			p.ApparmorProfile = "unconfined"
		}
	}
	return nil
}

// privilegedSets are all capabilities that the host can grant.
func (b *builder) privilegedSets(uid uint32) (*specs.LinuxCapabilities, error) {
	if b.host.Capabilities == 0 {
		return nil, fmt.Errorf("exec --privileged: the host's capabilities are unknown")
	}
	names := b.host.Capabilities.Names()
	c := &specs.LinuxCapabilities{Bounding: names}
	if uid == 0 {
		c.Permitted, c.Effective = names, names
	}
	return c, nil
}
