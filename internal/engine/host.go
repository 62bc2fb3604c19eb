package engine

import (
	"fmt"
	"os"
	"sync"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/network"
	"github.com/brig-run/brig/internal/spec"
)

var probeHost = sync.OnceValue(func() *spec.Host {
	caps := capability.Kernel()
	if own, err := capability.Current(); err == nil {
		caps &= own.Permitted & own.Bounding // what this process cannot have it cannot give
	}
	return spec.Probe(caps)
})

func (e *Engine) host() *spec.Host { return probeHost() }

// etcFile is a file of the host's that appears in the container's /etc.
type etcFile struct {
	name    string
	content []byte
}

// etcFiles are the files of a container with these networks.
func (c *Container) etcFiles(r *network.Record, resolv []byte) []etcFile {
	name := c.Options.Hostname
	if name == "" {
		name = c.ID[:12]
	}
	h := spec.Hosts{}
	h.Addrs, h.Gateway = recordAddrs(r)
	switch c.Options.Network {
	case spec.NetworkHost:
		h.Base, _ = os.ReadFile("/etc/hosts")
		h.Gateway = "127.0.0.1"
		if c.Options.Hostname == "" {
			name = c.engine.host().Hostname
		}
	case spec.NetworkNone, spec.NetworkPrivate, spec.NetworkPasta:
		h.Addrs = []string{"127.0.0.1"} // its own name leads to itself
	}
	h.Hostname = name
	return []etcFile{{"hosts", spec.HostsFile(&c.Options, h)}, {"hostname", spec.HostnameFile(name)}, {"resolv.conf", resolv}}
}

// etc writes the container's files of /etc, or finds those of the container whose
// network it shares.
func (s *starter) etc(in *spec.Input) error {
	c := s.c
	owner := c
	if c.Options.Network.Container() != "" {
		var err error
		if owner, err = c.sharedWith(); err != nil {
			return err
		}
	} else if err := s.writeEtc(); err != nil {
		return err
	}
	in.HostsPath, in.HostnamePath, in.ResolvConfPath = owner.file("hosts"), owner.file("hostname"), owner.file("resolv.conf")
	return nil
}

func (s *starter) writeEtc() error {
	r := &network.Record{}
	if s.net.Attachment != nil {
		r = &s.net.Attachment.Record
	}
	if s.net.resolver.Embedded {
		if err := s.c.writeNames(r, s.net.resolver.Upstream); err != nil {
			return err
		}
	}
	for _, f := range s.c.etcFiles(r, s.net.resolver.File) {
		if err := os.WriteFile(s.c.file(f.name), f.content, 0o644); err != nil {
			return fmt.Errorf("write the container's /etc/%s: %w", f.name, err)
		}
	}
	return nil
}

// rewriteEtc brings the files of a running container in line with its networks.
// They are written in place, as the container has them mounted; what it has written
// into them itself is lost, as in Docker.
func (c *Container) rewriteEtc(r *network.Record) error {
	res := c.resolver()
	if res.Embedded {
		if err := c.writeNames(r, res.Upstream); err != nil {
			return err
		}
	}
	for _, f := range c.etcFiles(r, res.File) {
		if err := os.WriteFile(c.file(f.name), f.content, 0o644); err != nil {
			return fmt.Errorf("write the container's /etc/%s: %w", f.name, err)
		}
	}
	return nil
}
