package export

import (
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/seccomp"
)

// systemd writes a drop-in for a service; see systemd.exec(5).
func (x *exporter) systemd() error {
	p := x.withoutArgs()
	filter, err := p.Systemd(x.target)
	if err != nil {
		return err
	}
	u, known := x.user()
	switch {
	case known && !u.root():
		x.note("the policy was learned for the user %s of the image: set User= to the host's user that stands for it", u.text)
	case !known:
		x.note("set User= unless the service is to run as root, as in a container")
	}
	var b strings.Builder
	b.WriteString(x.head("What the service "+x.name+" may do", "Put this file into a directory such as /etc/systemd/system/"+x.name+".service.d"))
	b.WriteString("[Service]\n")
	// The empty assignment empties the set, and what was set elsewhere.
	b.WriteString("CapabilityBoundingSet=\n")
	if names := x.in.Capabilities.Names(); len(names) > 0 {
		b.WriteString("CapabilityBoundingSet=" + strings.Join(names, " ") + "\n")
	}
	b.WriteString("AmbientCapabilities=\n")
	if x.in.NoNewPrivileges {
		b.WriteString("NoNewPrivileges=yes\n")
	}
	rest, ok := strings.CutPrefix(string(filter), "[Service]\n")
	if !ok {
		return fmt.Errorf("settings of the filter do not begin with [Service]")
	}
	b.WriteString("SystemCallFilter=\n" + rest)
	x.file(".conf", []byte(b.String()))
	return nil
}

// withoutArgs returns the profile without conditions on arguments, which systemd
// cannot make: what is allowed with some arguments is allowed with all.
func (x *exporter) withoutArgs() *seccomp.Profile {
	out := *x.in.Profile
	out.Syscalls = nil
	var widened []string
	for _, r := range x.in.Profile.Syscalls {
		if len(r.Args) > 0 {
			if r.Action != seccomp.Allow && r.Action != seccomp.Log {
				out.Syscalls = append(out.Syscalls, r) // the writer says what is wrong with it
				continue
			}
			widened = append(widened, r.Names...)
			r.Args = nil
		}
		out.Syscalls = append(out.Syscalls, r)
	}
	if len(widened) > 0 {
		slices.Sort(widened)
		x.note("systemd cannot look at arguments: it allows with any arguments what the policy allows with some: %s", strings.Join(slices.Compact(widened), ", "))
	}
	return &out
}
