package runtime

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mountOptions is the parsed form of a spec mount's options.
type mountOptions struct {
	set, cleared uintptr // MS_* flags that were named, and those that were named to be off
	recSet       uint64  // MOUNT_ATTR_* for the whole tree (rro and friends)
	recClr       uint64
	bind, rbind  bool
	remount      bool
	idmap        bool // with the mount's mappings or the container's user namespace's
	ridmap       bool // the same for the whole tree
	copyUp       bool // a tmpfs starts with what lies below it
	propagation  []propagation
	data         []string // options of the file system itself
}

// propagation is one change of a mount's propagation type.
type propagation struct {
	kind      uint64 // MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE
	recursive bool
}

// flagOption is an option that stands for a bit of mount(2).
type flagOption struct {
	name  string
	ms    uintptr
	attr  uint64 // of mount_setattr(2); for these there is a recursive form, with an r before the name
	clear bool
}

const (
	attrRelatime = unix.MOUNT_ATTR_RELATIME // 0: the access time modes are one field
	attrAtime    = unix.MOUNT_ATTR__ATIME
)

// flagOptions are the options of runtime-spec config.md "Linux mount options"
// that are flags.
var flagOptions = [...]flagOption{
	{"ro", unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY, false},
	{"rw", unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY, true},
	{"nosuid", unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID, false},
	{"suid", unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID, true},
	{"nodev", unix.MS_NODEV, unix.MOUNT_ATTR_NODEV, false},
	{"dev", unix.MS_NODEV, unix.MOUNT_ATTR_NODEV, true},
	{"noexec", unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC, false},
	{"exec", unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC, true},
	{"nosymfollow", unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW, false},
	{"symfollow", unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW, true},
	{"nodiratime", unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME, false},
	{"diratime", unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME, true},
	{"noatime", unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME, false},
	{"atime", unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME, true},
	{"strictatime", unix.MS_STRICTATIME, unix.MOUNT_ATTR_STRICTATIME, false},
	{"nostrictatime", unix.MS_STRICTATIME, unix.MOUNT_ATTR_STRICTATIME, true},
	{"relatime", unix.MS_RELATIME, attrRelatime, false},
	{"norelatime", unix.MS_RELATIME, attrRelatime, true},
	{"sync", unix.MS_SYNCHRONOUS, noAttr, false},
	{"async", unix.MS_SYNCHRONOUS, noAttr, true},
	{"dirsync", unix.MS_DIRSYNC, noAttr, false},
	{"mand", unix.MS_MANDLOCK, noAttr, false},
	{"nomand", unix.MS_MANDLOCK, noAttr, true},
	{"lazytime", unix.MS_LAZYTIME, noAttr, false},
	{"nolazytime", unix.MS_LAZYTIME, noAttr, true},
	{"iversion", unix.MS_I_VERSION, noAttr, false},
	{"noiversion", unix.MS_I_VERSION, noAttr, true},
	{"silent", unix.MS_SILENT, noAttr, false},
	{"loud", unix.MS_SILENT, noAttr, true},
}

// noAttr marks a flag of the file system, which mount_setattr(2) does not know.
const noAttr = 1 << 63

// otherOptions are the options that are not flags.
var otherOptions = [...]struct {
	name  string
	apply func(*mountOptions)
}{
	{"", func(*mountOptions) {}},
	{"defaults", func(*mountOptions) {}},
	{"bind", func(o *mountOptions) { o.bind = true }},
	{"rbind", func(o *mountOptions) { o.bind, o.rbind = true, true }},
	{"remount", func(o *mountOptions) { o.remount = true }},
	{"idmap", func(o *mountOptions) { o.idmap = true }},
	{"ridmap", func(o *mountOptions) { o.idmap, o.ridmap = true, true }},
	{"tmpcopyup", func(o *mountOptions) { o.copyUp = true }},
	{"shared", func(o *mountOptions) { o.propagate(unix.MS_SHARED, false) }},
	{"rshared", func(o *mountOptions) { o.propagate(unix.MS_SHARED, true) }},
	{"slave", func(o *mountOptions) { o.propagate(unix.MS_SLAVE, false) }},
	{"rslave", func(o *mountOptions) { o.propagate(unix.MS_SLAVE, true) }},
	{"private", func(o *mountOptions) { o.propagate(unix.MS_PRIVATE, false) }},
	{"rprivate", func(o *mountOptions) { o.propagate(unix.MS_PRIVATE, true) }},
	{"unbindable", func(o *mountOptions) { o.propagate(unix.MS_UNBINDABLE, false) }},
	{"runbindable", func(o *mountOptions) { o.propagate(unix.MS_UNBINDABLE, true) }},
}

// MountOptions are the names of all options that are not a file system's own.
func MountOptions() []string {
	var names []string
	for _, f := range flagOptions {
		names = append(names, f.name)
		if f.attr != noAttr {
			names = append(names, "r"+f.name)
		}
	}
	for _, o := range otherOptions {
		if o.name != "" {
			names = append(names, o.name)
		}
	}
	slices.Sort(names)
	return names
}

// parseMountOptions reads options in the form of mount(8), runtime-spec
// "mounts". What is not a flag belongs to the file system, which refuses what
// it does not know.
func parseMountOptions(options []string) mountOptions {
	var o mountOptions
next:
	for _, s := range options {
		if o.flag(s) {
			continue
		}
		for i := range otherOptions {
			if otherOptions[i].name == s {
				otherOptions[i].apply(&o)
				continue next
			}
		}
		o.data = append(o.data, s)
	}
	return o
}

func (o *mountOptions) propagate(kind uint64, recursive bool) {
	o.propagation = append(o.propagation, propagation{kind, recursive})
}

// flag applies one option word that is a flag; a leading r makes it recursive.
func (o *mountOptions) flag(s string) bool {
	for i := range flagOptions {
		f := &flagOptions[i]
		switch {
		case f.name == s:
			o.set, o.cleared = change(o.set, o.cleared, f.ms, f.clear)
			return true
		case f.attr != noAttr && len(s) == len(f.name)+1 && s[0] == 'r' && s[1:] == f.name:
			o.recursive(f)
			return true
		}
	}
	return false
}

func change[T uintptr | uint64](set, cleared, bits T, clear bool) (T, T) {
	if clear {
		return set &^ bits, cleared | bits
	}
	return set | bits, cleared &^ bits
}

// recursive applies an option to the attributes of the whole tree. To change
// one of the access time modes the kernel wants all of the field cleared,
// mount_setattr(2).
func (o *mountOptions) recursive(f *flagOption) {
	atime := f.attr == attrRelatime || f.attr&attrAtime != 0
	switch {
	case !atime:
		o.recSet, o.recClr = change(o.recSet, o.recClr, f.attr, f.clear)
	case f.clear:
		if o.recSet &^= f.attr; f.attr != attrRelatime {
			o.recClr |= attrAtime
		}
	default:
		o.recSet = o.recSet&^attrAtime | f.attr
		o.recClr |= attrAtime
	}
}

// flags are the MS_* flags for mount(2) of a file system, which has no tree
// yet: the recursive options are its own.
func (o *mountOptions) flags() uintptr {
	flags := o.set
	for i := range flagOptions {
		if f := &flagOptions[i]; !f.clear && f.attr != noAttr && o.recSet&f.attr != 0 {
			flags |= f.ms
		}
	}
	return flags
}

// attrs are the same as MOUNT_ATTR_* bits, for fsmount(2).
func (o *mountOptions) attrs() uint64 { return attrsOf(o.flags()) }

func attrsOf(ms uintptr) (attrs uint64) {
	for i := range flagOptions {
		if f := &flagOptions[i]; !f.clear && f.attr != noAttr && ms&f.ms != 0 {
			attrs |= f.attr
		}
	}
	switch { // one of them, as mount(2) chooses
	case ms&unix.MS_STRICTATIME != 0:
		return attrs&^attrAtime | unix.MOUNT_ATTR_STRICTATIME
	case ms&unix.MS_NOATIME != 0:
		return attrs&^attrAtime | unix.MOUNT_ATTR_NOATIME
	}
	return attrs &^ attrAtime
}

// has says whether a file system option of that name is among the data.
func (o *mountOptions) has(name string) bool {
	for _, kv := range o.data {
		if k, _, _ := strings.Cut(kv, "="); k == name {
			return true
		}
	}
	return false
}

// shared says whether the mount's last word on propagation is to share.
func (o *mountOptions) shared() bool {
	n := len(o.propagation)
	return n > 0 && o.propagation[n-1].kind == unix.MS_SHARED
}

const (
	plainAttrs = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSYMFOLLOW
	atimeFlags = unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME | unix.MS_STRICTATIME
)

// bindAttrs are the attributes of a bind mount itself, to set and to clear. As
// with mount(8), a bind without flags keeps those of its source, and one with
// flags has these and no others; the access time mode stays unless one is named.
func (o *mountOptions) bindAttrs() (set, clr uint64) {
	const known = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOSYMFOLLOW | atimeFlags
	if (o.set|o.cleared)&known == 0 {
		return 0, 0
	}
	set = attrsOf(o.set)
	clr = plainAttrs
	if o.set&atimeFlags != 0 {
		clr |= attrAtime | unix.MOUNT_ATTR_NODIRATIME
	} else {
		set &^= attrAtime
	}
	return set, clr
}
