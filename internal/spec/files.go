package spec

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
)

// Hosts is what a container's /etc/hosts is made from besides its options.
type Hosts struct {
	Hostname string
	Addrs    []string // the container's own
	Gateway  string   // of the host in the container's network, for host-gateway
	// Base replaces the fixed names: the host's own file with --network host.
	Base []byte
}

// HostsFile gives the contents of the container's /etc/hosts: the fixed names,
// the user's, and the container's own.
func HostsFile(o *Options, h Hosts) []byte {
	var b bytes.Buffer
	if base := h.Base; base != nil {
		b.Write(base)
		if n := len(base); n > 0 && base[n-1] != '\n' {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::\tip6-localnet\n" +
			"ff00::\tip6-mcastprefix\n" +
			"ff02::1\tip6-allnodes\n" +
			"ff02::2\tip6-allrouters\n")
	}
	for _, e := range o.AddHost {
		if e.IP == hostGateway {
			e.IP = h.Gateway
		}
		if e.IP != "" {
			b.WriteString(e.IP + "\t" + e.Name + "\n")
		}
	}
	if h.Hostname == "" {
		return b.Bytes()
	}
	names := h.Hostname
	if o.Domainname != "" {
		names = h.Hostname + "." + o.Domainname + " " + h.Hostname
	} else if short, _, dotted := strings.Cut(h.Hostname, "."); dotted {
		names += " " + short
	}
	for _, addr := range h.Addrs {
		b.WriteString(addr + "\t" + names + "\n")
	}
	return b.Bytes()
}

// HostnameFile gives the contents of the container's /etc/hostname.
func HostnameFile(hostname string) []byte { return []byte(hostname + "\n") }

// NameServer is the address of the name server that Brig itself is to a
// container, as in Docker.
const NameServer = "127.0.0.11"

// Resolver is how a container finds names.
type Resolver struct {
	File []byte // of /etc/resolv.conf
	// Embedded says that File names the name server at NameServer, which passes
	// on to Upstream what it does not know.
	Embedded bool
	Upstream []string
}

// ResolvConf gives a container its resolv.conf(5): the host's, with each of the
// three lists replaced where the user gives one. names says that the container is
// in a network in which containers have names.
//
// A container with its own network cannot reach a name server on the host's
// loopback, so those are left out for it. If the host has no others, the embedded
// name server asks them; if it has none at all, Google's are used, as in Docker.
func ResolvConf(o *Options, host []byte, names bool) Resolver {
	conf := parseResolv(host)
	if len(o.DNS) > 0 {
		conf.servers = o.DNS
	}
	if len(o.DNSSearch) > 0 {
		conf.search = slices.DeleteFunc(slices.Clone(o.DNSSearch), func(s string) bool { return s == "." })
	}
	if len(o.DNSOptions) > 0 {
		conf.options = o.DNSOptions
	}
	switch {
	case o.Network.Bridged():
		return conf.bridged(names, len(o.DNS) > 0)
	case o.Network.Own() && len(o.DNS) == 0:
		conf.servers = slices.DeleteFunc(conf.servers, isLoopback)
	}
	return Resolver{File: conf.bytes()}
}

// bridged is the resolver of a container in a network; chosen says that the user
// named the servers.
func (c resolvConf) bridged(names, chosen bool) (r Resolver) {
	if len(c.servers) == 0 {
		c.servers = []string{"8.8.8.8", "8.8.4.4"}
	}
	remote := slices.DeleteFunc(slices.Clone(c.servers), isLoopback)
	if !names && (chosen || len(remote) > 0) {
		if !chosen {
			c.servers = remote
		}
		return Resolver{File: c.bytes()}
	}
	r = Resolver{Embedded: true, Upstream: c.servers}
	c.servers = []string{NameServer}
	if !slices.ContainsFunc(c.options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		c.options = append(slices.Clone(c.options), "ndots:0") // names of containers have no dots
	}
	r.File = c.bytes()
	return r
}

// OnlyStub says that a resolv.conf names no server but the stub of
// systemd-resolved, whose real servers stand in another file
// (systemd-resolved.service(8), /etc/resolv.conf).
func OnlyStub(file []byte) bool {
	c := parseResolv(file)
	return len(c.servers) == 1 && c.servers[0] == "127.0.0.53"
}

type resolvConf struct {
	servers, search, options, other []string
}

func parseResolv(file []byte) resolvConf {
	var c resolvConf
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSpace(line)
		fields := strings.Fields(line)
		if len(fields) == 0 || line[0] == '#' || line[0] == ';' {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if len(fields) > 1 {
				c.servers = append(c.servers, fields[1])
			}
		case "search", "domain":
			c.search = fields[1:] // the last such line counts
		case "options":
			c.options = append(c.options, fields[1:]...)
		default:
			c.other = append(c.other, line)
		}
	}
	return c
}

func isLoopback(server string) bool {
	addr, err := netip.ParseAddr(server)
	return err == nil && addr.Unmap().IsLoopback()
}

func (c resolvConf) bytes() []byte {
	var b bytes.Buffer
	for _, s := range c.servers {
		b.WriteString("nameserver " + s + "\n")
	}
	if len(c.search) > 0 {
		b.WriteString("search " + strings.Join(c.search, " ") + "\n")
	}
	if len(c.options) > 0 {
		b.WriteString("options " + strings.Join(c.options, " ") + "\n")
	}
	for _, line := range c.other {
		b.WriteString(line + "\n")
	}
	return b.Bytes()
}
