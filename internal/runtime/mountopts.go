package runtime

import (
	"strings"

	"golang.org/x/sys/unix"
)

// mountOptions is the parsed form of a spec mount's options.
type mountOptions struct {
	flags       uintptr // MS_* flags for mount(2) of a file system
	attrSet     uint64  // MOUNT_ATTR_* for mount_setattr(2) of a bind
	attrClr     uint64
	recursive   bool // attributes apply to the whole tree (rro and friends)
	bind        bool
	rbind       bool
	propagation uint64 // MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE
	propRec     bool
	data        []string // options of the file system itself
}

// parseMountOptions reads options in the form of mount(8), runtime-spec
// "mounts". What is not a flag belongs to the file system, which refuses what
// it does not know.
func parseMountOptions(options []string) mountOptions {
	var o mountOptions
	for _, s := range options {
		switch s {
		case "", "defaults":
		case "bind":
			o.bind = true
		case "rbind":
			o.bind, o.rbind = true, true
		case "shared", "slave", "private", "unbindable":
			o.propagation = propagation(s)
		case "rshared", "rslave", "rprivate", "runbindable":
			o.propagation, o.propRec = propagation(s[1:]), true
		default:
			if !o.flag(s) {
				o.data = append(o.data, s)
			}
		}
	}
	return o
}

func propagation(s string) uint64 {
	switch s {
	case "shared":
		return unix.MS_SHARED
	case "slave":
		return unix.MS_SLAVE
	case "private":
		return unix.MS_PRIVATE
	}
	return unix.MS_UNBINDABLE
}

// flag applies one flag word; a leading r makes it recursive (rro, rnosuid).
func (o *mountOptions) flag(s string) bool {
	ms, attr, clear, ok := flagWord(s)
	if !ok && strings.HasPrefix(s, "r") {
		if ms, attr, clear, ok = flagWord(s[1:]); ok && attr != 0 {
			o.recursive = true
		} else {
			return false
		}
	}
	if !ok {
		return false
	}
	if clear {
		o.flags &^= ms
		o.attrSet &^= attr
		o.attrClr |= attr
		return true
	}
	o.flags |= ms
	if attr&unix.MOUNT_ATTR__ATIME != 0 || s == "relatime" {
		o.attrClr |= unix.MOUNT_ATTR__ATIME // the access time modes are one field
		o.attrSet &^= unix.MOUNT_ATTR__ATIME
	}
	o.attrSet |= attr
	if attr&unix.MOUNT_ATTR__ATIME == 0 {
		o.attrClr &^= attr
	}
	return true
}

// flagWord gives the MS_* flag and the MOUNT_ATTR_* bits of one option word.
func flagWord(s string) (ms uintptr, attr uint64, clear, ok bool) {
	switch s {
	case "ro":
		return unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY, false, true
	case "rw":
		return unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY, true, true
	case "nosuid":
		return unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID, false, true
	case "suid":
		return unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID, true, true
	case "nodev":
		return unix.MS_NODEV, unix.MOUNT_ATTR_NODEV, false, true
	case "dev":
		return unix.MS_NODEV, unix.MOUNT_ATTR_NODEV, true, true
	case "noexec":
		return unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC, false, true
	case "exec":
		return unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC, true, true
	case "nosymfollow":
		return unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW, false, true
	case "symfollow":
		return unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW, true, true
	case "nodiratime":
		return unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME, false, true
	case "diratime":
		return unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME, true, true
	case "noatime":
		return unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME, false, true
	case "strictatime":
		return unix.MS_STRICTATIME, unix.MOUNT_ATTR_STRICTATIME, false, true
	case "relatime", "atime":
		return unix.MS_RELATIME, 0, false, true
	case "norelatime", "nostrictatime":
		return 0, 0, false, true
	case "sync":
		return unix.MS_SYNCHRONOUS, 0, false, true
	case "async":
		return unix.MS_SYNCHRONOUS, 0, true, true
	case "dirsync":
		return unix.MS_DIRSYNC, 0, false, true
	case "mand":
		return unix.MS_MANDLOCK, 0, false, true
	case "nomand":
		return unix.MS_MANDLOCK, 0, true, true
	case "lazytime":
		return unix.MS_LAZYTIME, 0, false, true
	case "nolazytime":
		return unix.MS_LAZYTIME, 0, true, true
	case "silent":
		return unix.MS_SILENT, 0, false, true
	case "loud":
		return unix.MS_SILENT, 0, true, true
	}
	return 0, 0, false, false
}
