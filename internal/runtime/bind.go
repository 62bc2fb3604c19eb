package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
)

// bindMount is one bind mount of the spec: where its tree comes from, and what
// is to be done to it before it is attached.
type bindMount struct {
	source string // a host path, or a path of the new root if within
	within bool   // the source is in the container's own tree, after the mounts before
	reg    uint8  // the tree
	cloned bool   // it was cloned here, with all its attributes
	ops    []attrOp
	isDir  bool
	proc   bool // the root of a proc file system
}

// attrOp is one mount_setattr(2).
type attrOp struct {
	set, clr    uint64
	propagation uint64
	recursive   bool
	userns      *os.File // with MOUNT_ATTR_IDMAP
}

// sourcePath is the host path of a bind source: relative ones are relative to
// the bundle, runtime-spec "mounts".
func (p *planner) sourcePath(m specs.Mount) string {
	if path.IsAbs(m.Source) || p.cfg.Bundle == "" {
		return m.Source
	}
	return path.Join(p.cfg.Bundle, m.Source)
}

// isBind: the type is a dummy for bind mounts, and "bind" alone means one, too.
func isBind(m specs.Mount, o *mountOptions) bool { return o.bind || m.Type == "bind" }

// bindSource looks at the source of a bind mount and plans how its tree is had.
func (p *planner) bindSource(m specs.Mount, o *mountOptions) (*bindMount, error) {
	b := &bindMount{source: p.sourcePath(m)}
	if rel, ok := p.ownPath(b.source); ok {
		idmap, err := p.idmapOf(m, o)
		if err == nil && idmap != nil {
			idmap, err = dupFile(idmap) // for the child to keep
		}
		if err != nil {
			return nil, err
		}
		b.source, b.within, b.isDir = rel, true, p.isDirWithin(rel)
		b.ops = withIDMap(p.bindOps(o, false), idmap, o)
		return b, nil
	}
	idmap, err := p.idmapOf(m, o)
	if err != nil {
		return nil, err
	}
	tree := p.cfg.Trees[m.Source]
	here := tree != nil || idmap != nil || p.hasUserns() || path.Clean("/"+m.Destination) == "/proc"
	if !here {
		fi, err := os.Stat(b.source)
		if err != nil {
			return nil, sourceError(m.Source, err)
		}
		b.isDir, b.reg, b.ops = fi.IsDir(), p.NewReg(), p.bindOps(o, false)
		return b, nil
	}
	if tree == nil {
		if tree, err = cloneHere(b.source, o.rbind); err != nil {
			return nil, sourceError(m.Source, err)
		}
	}
	b.reg, b.cloned = p.pass(tree), true
	return b, p.prepareTree(b, m, o, tree, idmap)
}

func dupFile(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func sourceError(source string, err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("bind source %s: %w", source, err)
}

func cloneHere(source string, recursive bool) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), source), nil
}

// prepareTree gives a tree that was cloned here its attributes.
func (p *planner) prepareTree(b *bindMount, m specs.Mount, o *mountOptions, tree *os.File, idmap *os.File) error {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := unix.Fstat(int(tree.Fd()), &st); err != nil {
		return sourceError(m.Source, err)
	}
	if err := unix.Fstatfs(int(tree.Fd()), &fs); err != nil {
		return sourceError(m.Source, err)
	}
	b.isDir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	b.proc = fs.Type == unix.PROC_SUPER_MAGIC && st.Ino == procRootIno
	ops := p.bindOps(o, p.cfg.Trees[m.Source] == nil)
	if p.hasUserns() {
		if err := keepLocked(ops, o, fs.Flags); err != nil {
			return err
		}
	}
	for _, op := range withIDMap(ops, idmap, o) {
		if err := op.apply(tree); err != nil {
			if op.userns != nil && errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("mount %s with IDs of its own: %w: its file system (or this kernel) cannot", m.Source, err)
			}
			return fmt.Errorf("set the options of the mount of %s: %w", m.Source, err)
		}
	}
	return nil
}

// withIDMap maps IDs first: the kernel does so only before a mount is attached,
// and not twice.
func withIDMap(ops []attrOp, idmap *os.File, o *mountOptions) []attrOp {
	if idmap == nil {
		return ops
	}
	return append([]attrOp{{set: unix.MOUNT_ATTR_IDMAP, userns: idmap, recursive: o.ridmap}}, ops...)
}

// procRootIno is the inode number of the root of every proc file system,
// include/linux/proc_ns.h PROC_ROOT_INO.
const procRootIno = 1

func (op attrOp) apply(tree *os.File) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if op.recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: op.set, Attr_clr: op.clr, Propagation: op.propagation}
	if op.userns != nil {
		attr.Userns_fd = uint64(op.userns.Fd())
	}
	return unix.MountSetattr(int(tree.Fd()), "", flags, &attr)
}

// bindOps are the changes that the options ask for. A tree cloned here, in the
// host's mount namespace, leaves the peer groups of the host first, as the
// child's own mounts do; one that shall share with the host stays.
func (p *planner) bindOps(o *mountOptions, cloned bool) (ops []attrOp) {
	if cloned && (p.hasUserns() || !o.shared()) {
		ops = append(ops, attrOp{propagation: unix.MS_SLAVE, recursive: true})
	}
	for _, pr := range o.propagation {
		ops = append(ops, attrOp{propagation: pr.kind, recursive: pr.recursive})
	}
	if set, clr := o.bindAttrs(); set|clr != 0 {
		ops = append(ops, attrOp{set: set, clr: clr})
	}
	if o.recSet|o.recClr != 0 {
		ops = append(ops, attrOp{set: o.recSet, clr: o.recClr, recursive: true})
	}
	return ops
}

// lockable are the flags that the kernel locks on mounts that come from a more
// privileged user namespace, mount_namespaces(7): statfs(2) flag, mount flag,
// attribute.
var lockable = [...]struct {
	st, ms uintptr
	attr   uint64
	name   string
}{
	{unix.ST_RDONLY, unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY, "ro"},
	{unix.ST_NOSUID, unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID, "nosuid"},
	{unix.ST_NODEV, unix.MS_NODEV, unix.MOUNT_ATTR_NODEV, "nodev"},
	{unix.ST_NOEXEC, unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC, "noexec"},
}

// keepLocked makes the changes respect what a container in a user namespace may
// not undo: its mounts are prepared by a more privileged process, which must
// not give it what it could not have taken.
func keepLocked(ops []attrOp, o *mountOptions, have int64) error {
	for _, l := range lockable {
		if uintptr(have)&l.st == 0 {
			continue
		}
		if o.cleared&l.ms != 0 || o.recClr&^o.recSet&l.attr != 0 {
			return fmt.Errorf("cannot clear the locked flag %s of the source in a user namespace: %w", l.name, unix.EPERM)
		}
		for i := range ops {
			ops[i].clr &^= l.attr
		}
	}
	if o.set&atimeFlags != 0 && o.set&atimeFlags != atimeOf(have) {
		return fmt.Errorf("cannot change the locked access time mode of the source in a user namespace: %w", unix.EPERM)
	}
	return nil
}

// atimeOf gives the access time flags of a mount from its statfs(2) flags,
// which have none for strictatime.
func atimeOf(st int64) (ms uintptr) {
	for _, f := range [...]struct{ st, ms uintptr }{{unix.ST_NOATIME, unix.MS_NOATIME}, {unix.ST_NODIRATIME, unix.MS_NODIRATIME}, {unix.ST_RELATIME, unix.MS_RELATIME}} {
		if uintptr(st)&f.st != 0 {
			ms |= f.ms
		}
	}
	if ms&(unix.MS_NOATIME|unix.MS_RELATIME) == 0 {
		ms |= unix.MS_STRICTATIME
	}
	return ms
}

// ownPath says whether a bind source lies in the container's own tree, where
// mounts of the spec may cover it: such a source is taken from there.
func (p *planner) ownPath(source string) (rel string, ok bool) {
	if p.spec.Root == nil || !path.IsAbs(p.spec.Root.Path) || p.spec.Root.Path == "/" || len(p.view.layers) < 2 {
		return "", false
	}
	rel, ok = below(path.Clean(p.spec.Root.Path), path.Clean(source))
	return rel, ok && rel != "/"
}

func (p *planner) isDirWithin(name string) bool {
	f, err := p.view.open(p.view.resolve(name))
	if err != nil {
		return true
	}
	defer f.Close()
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// clone has the child clone a tree while the host's paths are there.
func (p *planner) clone(b *bindMount, o *mountOptions) {
	p.What("open bind source " + b.source)
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if o.rbind {
		flags |= unix.AT_RECURSIVE
	}
	p.Call(unix.SYS_OPEN_TREE, inside.V(atCWD), p.Str(b.source), inside.V(flags)).To(b.reg)
	p.setattrs(b.reg, b.ops)
}

// cloneWithin clones a tree of the container's own into register tmp.
func (p *planner) cloneWithin(b *bindMount, o *mountOptions) {
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | emptyPath
	if o.rbind || p.hasUserns() { // mounts that are locked together stay together
		flags |= unix.AT_RECURSIVE
	}
	b.reg = p.NewReg()
	p.open(p.root, p.view.resolve(b.source), openPath, strictly, p.tmp)
	p.Call(unix.SYS_OPEN_TREE, inside.R(p.tmp), p.Str(""), inside.V(flags)).To(b.reg)
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	p.setattrs(b.reg, b.ops)
}

func (p *planner) setattrs(tree uint8, ops []attrOp) {
	for _, op := range ops {
		p.emit(tree, op)
	}
}

func (p *planner) setattr(tree uint8, set, clr, propagation uint64, recursive bool) {
	p.emit(tree, attrOp{set: set, clr: clr, propagation: propagation, recursive: recursive})
}

// emit has the child change the mount in register tree, mount_setattr(2).
func (p *planner) emit(tree uint8, op attrOp) {
	flags := emptyPath
	if op.recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := p.Words(op.set, op.clr, op.propagation, 0) // struct mount_attr
	if op.userns != nil {
		const usernsFD = 24
		p.Pseudo(inside.Store32, inside.P(uint32(p.Offset(attr))+usernsFD), inside.R(p.pass(op.userns)))
	}
	p.Call(unix.SYS_MOUNT_SETATTR, inside.R(tree), p.Str(""), inside.V(flags), attr, inside.V(32))
}
