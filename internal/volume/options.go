package volume

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// checkOptions refuses options that the local driver does not know or that do
// not belong together, by Docker's rules.
func checkOptions(o map[string]string) error {
	for k, v := range o {
		switch k {
		case "type", "device", "o":
			if strings.IndexByte(v, 0) >= 0 {
				return fmt.Errorf("--opt %s: it holds a NUL byte", k)
			}
		case "size":
			return errors.New("--opt size: quotas of directories are not supported; for a tmpfs write --opt type=tmpfs --opt device=tmpfs --opt o=size=SIZE")
		default:
			return unknownKey("--opt", k, "type", "device", "o")
		}
	}
	if len(o) == 0 {
		return nil
	}
	for _, k := range []string{"type", "device"} {
		if o[k] == "" {
			return fmt.Errorf("--opt: missing required option %q; a volume that is mounted from elsewhere has type and device, as in --opt type=tmpfs --opt device=tmpfs", k)
		}
	}
	m, err := parseOptions(o)
	if err == nil && m.bind && !strings.HasPrefix(m.device, "/") {
		err = fmt.Errorf("--opt device=%s: a bind needs an absolute path", m.device)
	}
	return err
}

// mountOptions are a volume's options as the kernel's mount calls take them.
type mountOptions struct {
	fstype, device string
	bind, rbind    bool
	set, clear     uint64      // MOUNT_ATTR_* of the mount
	readOnly       bool        // of the file system, too
	data           [][2]string // options of the file system; a value "" is a flag
	propagation    string
}

func (o mountOptions) tmpfs() bool { return !o.bind && o.fstype == "tmpfs" }

// parseOptions reads the options in the form of mount(8).
func parseOptions(opts map[string]string) (mountOptions, error) {
	m := mountOptions{fstype: opts["type"], device: opts["device"]}
	if opts["o"] == "" {
		if m.fstype == "none" {
			return m, errors.New("--opt type=none: it means a bind mount; add --opt o=bind")
		}
		return m, nil
	}
	for word := range strings.SplitSeq(opts["o"], ",") {
		m.word(word)
	}
	if m.fstype == "none" && !m.bind {
		return m, errors.New("--opt type=none: it means a bind mount; write --opt o=bind")
	}
	if m.bind && len(m.data) > 0 {
		return m, fmt.Errorf("--opt o=%s: %q does not go with bind; there are ro, rw, nosuid, nodev, noexec, noatime and their opposites", opts["o"], m.data[0][0])
	}
	if m.propagation != "" {
		return m, fmt.Errorf("--opt o=%s: a volume's mount does not propagate; take out %s", opts["o"], m.propagation)
	}
	return m, nil
}

func (m *mountOptions) word(w string) {
	key, value, valued := strings.Cut(w, "=")
	switch w {
	case "", "defaults", "rw", "async":
		m.set &^= attrIf(w == "rw", unix.MOUNT_ATTR_RDONLY)
		m.readOnly = m.readOnly && w != "rw"
		return
	case "bind", "rbind":
		m.bind, m.rbind = true, m.rbind || w == "rbind"
		return
	case "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable":
		m.propagation = w
		return
	case "ro":
		m.readOnly = true
	}
	if attr, ok := attribute(strings.TrimPrefix(w, "no")); ok && w != "ro" {
		// nosuid sets MOUNT_ATTR_NOSUID, suid clears it; atime is the reverse of
		// noatime.
		if strings.HasPrefix(w, "no") {
			m.set, m.clear = m.set|attr, m.clear&^attr
		} else {
			m.set, m.clear = m.set&^attr, m.clear|attr
		}
		return
	}
	switch w {
	case "ro":
		m.set |= unix.MOUNT_ATTR_RDONLY
	case "relatime":
		m.clear |= unix.MOUNT_ATTR__ATIME
	case "strictatime":
		m.clear |= unix.MOUNT_ATTR__ATIME
		m.set |= unix.MOUNT_ATTR_STRICTATIME
	default:
		if valued {
			m.data = append(m.data, [2]string{key, value})
		} else {
			m.data = append(m.data, [2]string{w, ""})
		}
	}
}

func attrIf(cond bool, attr uint64) uint64 {
	if cond {
		return attr
	}
	return 0
}

// attribute is the attribute that "no" and the word set.
func attribute(word string) (uint64, bool) {
	switch word {
	case "suid":
		return unix.MOUNT_ATTR_NOSUID, true
	case "dev":
		return unix.MOUNT_ATTR_NODEV, true
	case "exec":
		return unix.MOUNT_ATTR_NOEXEC, true
	case "atime":
		return unix.MOUNT_ATTR_NOATIME, true
	case "diratime":
		return unix.MOUNT_ATTR_NODIRATIME, true
	}
	return 0, false
}

// resolveAddr replaces the name of a server by its address: the kernel's NFS and
// CIFS know no names.
func (m *mountOptions) resolveAddr() error {
	if !slices.Contains([]string{"nfs", "nfs4", "cifs"}, m.fstype) {
		return nil
	}
	for i, d := range m.data {
		if d[0] != "addr" || net.ParseIP(d[1]) != nil {
			continue
		}
		ip, err := net.ResolveIPAddr("ip", d[1])
		if err != nil {
			return fmt.Errorf("find the address of %s: %w", d[1], err)
		}
		m.data[i][1] = ip.String()
	}
	return nil
}
