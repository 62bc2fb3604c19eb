package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// StarterLabel marks the image that shows what its container may do.
const StarterLabel = "dev.brig.starter"

// HostNamespacesVar is the variable that tells such a container which
// namespaces are the host's, as "pid=4026531836,...": their numbers are no
// secret, and without them it could not compare.
const HostNamespacesVar = "BRIG_HOST_NAMESPACES"

func (c *Container) isStarter() bool { return c.ImageConfig.Labels[StarterLabel] != "" }

func hostNamespaces() string {
	var parts []string
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"} {
		link, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			continue
		}
		number := strings.TrimSuffix(link[strings.IndexByte(link, '[')+1:], "]")
		parts = append(parts, ns+"="+number)
	}
	return HostNamespacesVar + "=" + strings.Join(parts, ",")
}
