package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/brig-run/brig/capability"
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

// etcFiles writes the files of the host that appear in the container's /etc.
func (c *Container) etcFiles(in *spec.Input) error {
	name := c.Options.Hostname
	if name == "" {
		name = c.ID[:12]
	}
	addr := ""
	var hosts []byte
	if c.Options.Network == spec.NetworkHost {
		hosts, _ = os.ReadFile("/etc/hosts")
		if c.Options.Hostname == "" {
			name = in.Host.Hostname
		}
	} else {
		addr = "127.0.0.1" // until networks with addresses come, its own name leads to itself
	}
	resolv, _ := os.ReadFile("/etc/resolv.conf")
	for _, f := range []struct {
		name    string
		content []byte
		path    *string
	}{
		{"hosts", spec.HostsFile(&c.Options, name, addr, hosts), &in.HostsPath},
		{"hostname", spec.HostnameFile(name), &in.HostnamePath},
		{"resolv.conf", spec.ResolvConf(&c.Options, resolv), &in.ResolvConfPath},
	} {
		*f.path = filepath.Join(c.dir(), f.name)
		if err := os.WriteFile(*f.path, f.content, 0o644); err != nil {
			return fmt.Errorf("write the container's /etc/%s: %w", f.name, err)
		}
	}
	return nil
}
