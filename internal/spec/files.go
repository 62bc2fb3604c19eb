package spec

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
)

// HostsFile gives the contents of the container's /etc/hosts: the fixed names,
// the container's own at addr ("" for a container without an address), and the
// user's. base replaces the fixed names: the host's own file with --network
// host, nil otherwise.
func HostsFile(o *Options, hostname, addr string, base []byte) []byte {
	var b bytes.Buffer
	if base != nil {
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
		b.WriteString(e.IP + "\t" + e.Name + "\n")
	}
	if addr != "" && hostname != "" {
		names := hostname
		if o.Domainname != "" {
			names = hostname + "." + o.Domainname + " " + hostname
		} else if short, _, dotted := strings.Cut(hostname, "."); dotted {
			names += " " + short
		}
		b.WriteString(addr + "\t" + names + "\n")
	}
	return b.Bytes()
}

// HostnameFile gives the contents of the container's /etc/hostname.
func HostnameFile(hostname string) []byte { return []byte(hostname + "\n") }

// ResolvConf gives the contents of the container's /etc/resolv.conf
// (resolv.conf(5)): the host's, with each of the three lists replaced where the
// user gives one. A container with its own network cannot reach a name server
// on the host's loopback, so those are left out for it.
func ResolvConf(o *Options, host []byte) []byte {
	conf := parseResolv(host)
	if o.Network.Own() {
		conf.servers = slices.DeleteFunc(conf.servers, isLoopback)
	}
	if len(o.DNS) > 0 {
		conf.servers = o.DNS
	}
	if len(o.DNSSearch) > 0 {
		conf.search = slices.DeleteFunc(slices.Clone(o.DNSSearch), func(s string) bool { return s == "." })
	}
	if len(o.DNSOptions) > 0 {
		conf.options = o.DNSOptions
	}
	return conf.bytes()
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
