package annotation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/explain"
	"github.com/brig-run/brig/seccomp"
)

// Subject is the container that is recorded, as far as the recording does not say
// it.
type Subject struct {
	ID      string
	Image   string         // its reference; "" if nobody said it
	Engine  explain.Engine // who started it
	Command []string
	User    string              // UID:GID
	Caps    []string            // the bounding set
	Root    bool                // the first process runs as root
	Seccomp *specs.LinuxSeccomp `json:",omitempty"`
	Request Request
	// Policy is the name of the policy's file, in the directory that the recorder
	// has open.
	Policy string `json:",omitempty"`
}

// subjectOf reads a configuration.
func subjectOf(id string, spec *specs.Spec, r Request) *Subject {
	p := spec.Process
	s := &Subject{
		ID: id, Image: imageOf(spec.Annotations), Engine: engineOf(spec), Command: slices.Clone(p.Args),
		User: fmt.Sprintf("%d:%d", p.User.UID, p.User.GID), Root: p.User.UID == 0, Request: r,
	}
	if p.Capabilities != nil {
		s.Caps = p.Capabilities.Bounding
	}
	if spec.Linux != nil {
		s.Seccomp = spec.Linux.Seccomp
	}
	return s
}

// imageOf says what the container was made from. The engine's word is taken before
// the user's: policies are joined by image, and nobody shall widen that of an image
// which is not his.
func imageOf(annotations map[string]string) string {
	return cmp.Or(
		annotations["io.kubernetes.cri.image-name"],  // containerd
		annotations["io.kubernetes.cri-o.ImageName"], // CRI-O
		annotations["io.kubernetes.cri-o.Image"],     // CRI-O, where the name is not known
		annotations[Image],
	)
}

// engineOf goes by the traces that engines leave in configurations.
func engineOf(spec *specs.Spec) explain.Engine {
	has := func(prefix string) bool {
		for name := range spec.Annotations {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return false
	}
	switch {
	case spec.Annotations["io.container.manager"] == "libpod": // it also sets some of CRI-O's
		return explain.Podman
	case has("io.kubernetes.cri"):
		return explain.Kubernetes
	case has("nerdctl/"), dockers(spec):
		return explain.Docker
	}
	return explain.Bundle
}

// dockers reports whether Docker's daemon has made the configuration: its
// containers are in the cgroup docker or system.slice:docker:ID, and have its hook.
func dockers(spec *specs.Spec) bool {
	if spec.Linux != nil {
		if p := spec.Linux.CgroupsPath; strings.HasPrefix(p, "/docker/") || strings.Contains(p, ":docker:") {
			return true
		}
	}
	return slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool {
		return m.Destination == "/etc/hostname" && strings.Contains(m.Source, "/docker/containers/")
	})
}

// context is what explanations need.
func (s *Subject) context() (explain.Context, error) {
	kernel, _ := seccomp.RunningKernel()
	c := explain.Context{Root: s.Root, Kernel: kernel, Engine: s.Engine, ProfileName: "profile of the container"}
	for _, name := range s.Caps {
		if one, err := capability.Parse(name); err == nil { // the runtime has warned of others
			c.Caps = c.Caps.Add(one)
		}
	}
	if s.Seccomp == nil {
		return c, nil
	}
	var err error
	c.Profile, err = seccomp.FromOCI("config.json", s.Seccomp)
	return c, err
}
