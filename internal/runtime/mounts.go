package runtime

import (
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
)

const (
	emptyPath = unix.AT_EMPTY_PATH
	moveBoth  = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	atCWD     = unix.AT_FDCWD
)

// rootfs plans the mount namespace: take what is needed of the host, move into
// the new root, let go of the host, then mount everything else within.
func (p *planner) rootfs() error {
	mounts := p.spec.Mounts
	opts := make([]mountOptions, len(mounts))
	trees := make([]uint8, len(mounts)) // bind sources, cloned before the pivot
	for i, m := range mounts {
		opts[i] = parseMountOptions(m.Options)
	}
	// A tree that shall stay shared with the host must be cloned before the
	// namespace leaves the host's peer groups.
	for i := range mounts {
		if opts[i].bind && opts[i].propagation == unix.MS_SHARED {
			trees[i] = p.cloneTree(mounts[i], opts[i])
		}
	}
	p.What("leave the host's mount propagation")
	p.Call(unix.SYS_MOUNT, inside.V(0), p.Str("/"), inside.V(0), inside.V(unix.MS_REC|unix.MS_SLAVE), inside.V(0))
	for i := range mounts {
		if opts[i].bind && opts[i].propagation != unix.MS_SHARED {
			trees[i] = p.cloneTree(mounts[i], opts[i])
		}
	}
	p.cloneCgroups()
	nulls, err := p.maskSources()
	if err != nil {
		return err
	}
	p.mountRoot()
	if !p.cfg.Hooks {
		p.enterRoot()
	}
	for i, m := range mounts {
		if err := p.mount(m, opts[i], trees[i]); err != nil {
			return fmt.Errorf("spec: mounts[%d]: %w", i, err)
		}
	}
	if err := p.devices(); err != nil {
		return err
	}
	p.console()
	if p.cfg.Hooks {
		p.What("wait for the hooks")
		p.Ask(inside.AskHooks)
		p.enterRoot()
	}
	p.sysctls()
	writable := p.keepWritable()
	p.readonlyPaths()
	p.restoreWritable(writable)
	p.maskPaths(nulls)
	p.makeCwd()
	p.sealRoot()
	return nil
}

// cloneTree clones the source of a bind mount while the host's paths are
// there, and gives the detached copy its attributes.
func (p *planner) cloneTree(m specs.Mount, o mountOptions) uint8 {
	p.What("open bind source " + m.Source)
	var tree uint8
	if f := p.cfg.Trees[m.Source]; f != nil {
		tree = p.pass(f)
	} else {
		tree = p.NewReg()
		flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
		if o.rbind {
			flags |= unix.AT_RECURSIVE
		}
		p.Call(unix.SYS_OPEN_TREE, inside.V(atCWD), p.Str(m.Source), inside.V(flags)).To(tree)
	}
	if o.propagation != 0 && o.propagation != unix.MS_SHARED {
		p.setattr(tree, 0, 0, o.propagation, o.propRec)
	}
	if o.attrSet|o.attrClr != 0 {
		p.setattr(tree, o.attrSet, o.attrClr, 0, o.recursive)
	}
	return tree
}

// setattr emits mount_setattr(2) on the mount in register tree.
func (p *planner) setattr(tree uint8, set, clr, propagation uint64, recursive bool) {
	flags := emptyPath
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := p.Words(set, clr, propagation, 0) // struct mount_attr
	p.Call(unix.SYS_MOUNT_SETATTR, inside.R(tree), p.Str(""), inside.V(flags), attr, inside.V(32))
}

// mountRoot mounts the new root over MountPoint and keeps it open. From here on
// everything in it is reached through that descriptor.
func (p *planner) mountRoot() {
	p.What("mount the root file system on " + p.cfg.MountPoint)
	root := p.pass(p.cfg.Root)
	p.Call(unix.SYS_MOVE_MOUNT, inside.R(root), p.Str(""), inside.V(atCWD), p.Str(p.cfg.MountPoint), inside.V(unix.MOVE_MOUNT_F_EMPTY_PATH))
	p.Call(unix.SYS_OPENAT, inside.V(atCWD), p.Str("/"), inside.V(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), inside.V(0)).To(p.old)
	p.Call(unix.SYS_OPENAT, inside.V(atCWD), p.Str(p.cfg.MountPoint), inside.V(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC), inside.V(0)).To(p.root)
}

// enterRoot makes the new root the child's and detaches the host's tree. What
// follows can reach the host only through descriptors that were opened before.
func (p *planner) enterRoot() {
	p.What("change into the root file system")
	p.Call(unix.SYS_FCHDIR, inside.R(p.root))
	if p.cfg.NoPivot {
		p.Call(unix.SYS_MOVE_MOUNT, inside.R(p.root), p.Str(""), inside.V(atCWD), p.Str("/"), inside.V(unix.MOVE_MOUNT_F_EMPTY_PATH))
		p.Call(unix.SYS_CHROOT, p.Str("."))
	} else {
		p.Call(unix.SYS_PIVOT_ROOT, p.Str("."), p.Str("."))
		p.What("detach the host's file systems")
		p.Call(unix.SYS_FCHDIR, inside.R(p.old))
		p.Call(unix.SYS_UMOUNT2, p.Str("."), inside.V(unix.MNT_DETACH))
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.old))
	p.Call(unix.SYS_CHDIR, p.Str("/"))
}

// mount mounts one entry of the spec at its destination.
func (p *planner) mount(m specs.Mount, o mountOptions, tree uint8) error {
	dst := path.Clean("/" + m.Destination)
	if dst == "/" {
		return fmt.Errorf("destination %q: cannot mount over the root file system", m.Destination)
	}
	if isCgroup(m) {
		p.mountCgroup(m, o, dst)
		return nil
	}
	p.What(fmt.Sprintf("mount %s on %s", orElse(m.Type, m.Source), dst))
	if o.bind {
		fi, err := p.statSource(m.Source)
		if err != nil {
			return fmt.Errorf("bind source: %w", err)
		}
		p.What(fmt.Sprintf("bind %s on %s", m.Source, dst))
		p.target(dst, !fi.IsDir(), p.tmp2)
		p.moveTo(tree, p.tmp2)
		p.Call(unix.SYS_CLOSE, inside.R(tree))
		return nil
	}
	p.target(dst, false, p.tmp2)
	switch {
	case m.Type == "proc":
		p.mountProc(o)
	case m.Type == "devpts" && p.cfg.Terminal != nil && p.cfg.Terminal.Mount != nil:
		p.moveTo(p.pass(p.cfg.Terminal.Mount), p.tmp2)
	default:
		p.mountFS(m, o)
	}
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
	return nil
}

func (p *planner) statSource(source string) (os.FileInfo, error) {
	if f := p.cfg.Trees[source]; f != nil {
		return f.Stat()
	}
	return os.Stat(source)
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (p *planner) moveTo(tree, target uint8) {
	p.Call(unix.SYS_MOVE_MOUNT, inside.R(tree), p.Str(""), inside.R(target), p.Str(""), inside.V(moveBoth))
}

// mountFS mounts a file system on the directory in tmp2, by way of the current
// directory: mount(2) takes no descriptor, and a path would be followed again.
func (p *planner) mountFS(m specs.Mount, o mountOptions) {
	data := inside.V(0)
	if len(o.data) > 0 {
		data = p.Str(strings.Join(o.data, ","))
	}
	p.Call(unix.SYS_FCHDIR, inside.R(p.tmp2))
	p.Call(unix.SYS_MOUNT, p.Str(orElse(m.Source, m.Type)), p.Str("."), p.Str(m.Type), inside.V(o.flags), data)
	if o.propagation != 0 {
		// The directory now lies below the mount: look it up again.
		p.open(p.root, path.Clean("/"+m.Destination), openPath, inRoot, p.tmp)
		p.setattr(p.tmp, 0, 0, o.propagation, o.propRec)
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	}
}

// mountProc keeps the descriptor of the mount: all later access to /proc goes
// through it, whatever else comes to lie over it.
func (p *planner) mountProc(o mountOptions) {
	p.Call(unix.SYS_FSOPEN, p.Str("proc"), inside.V(unix.FSOPEN_CLOEXEC)).To(p.tmp)
	for _, kv := range o.data {
		k, v, _ := strings.Cut(kv, "=")
		p.Call(unix.SYS_FSCONFIG, inside.R(p.tmp), inside.V(unix.FSCONFIG_SET_STRING), p.Str(k), p.Str(v), inside.V(0))
	}
	p.Call(unix.SYS_FSCONFIG, inside.R(p.tmp), inside.V(unix.FSCONFIG_CMD_CREATE), inside.V(0), inside.V(0), inside.V(0))
	p.Call(unix.SYS_FSMOUNT, inside.R(p.tmp), inside.V(unix.FSMOUNT_CLOEXEC), inside.V(o.attrSet)).To(p.proc)
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	p.moveTo(p.proc, p.tmp2)
	p.hasProc = true
}

// inProc splits a path below /proc.
func (p *planner) inProc(name string) (rel string, ok bool) {
	rel, ok = strings.CutPrefix(path.Clean("/"+name), "/proc/")
	return rel, ok && p.hasProc
}

// openPathIn opens a path of the container for masking: below the container's
// own /proc without any link or mount on the way, elsewhere within the root.
func (p *planner) openPathIn(name string, dst uint8) inside.Step {
	if rel, ok := p.inProc(name); ok {
		return p.open(p.proc, rel, openPath, ownProc, dst)
	}
	return p.open(p.root, name, openPath, inRoot, dst)
}

// sysctls writes linux.sysctl through the container's own /proc.
func (p *planner) sysctls() {
	for _, k := range sortedKeys(p.spec.Linux.Sysctl) {
		v := p.spec.Linux.Sysctl[k]
		p.What(fmt.Sprintf("set sysctl %s = %s", k, v))
		p.open(p.proc, "sys/"+sysctlPath(k), unix.O_WRONLY|unix.O_CLOEXEC, ownProc, p.tmp)
		p.Call(unix.SYS_WRITE, inside.R(p.tmp), p.Str(v), inside.V(len(v)))
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	}
}

// sysctlPath turns a sysctl's name into its path: dots separate, and a slash
// stands for a dot within a component (net.ipv4.conf.eth0/1.x), sysctl(8).
func sysctlPath(k string) string {
	if strings.IndexByte(k, '/') >= 0 && (strings.IndexByte(k, '.') < 0 || strings.IndexByte(k, '/') < strings.IndexByte(k, '.')) {
		return k
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, k)
}

// readonlyPaths binds each path over itself, read-only.
func (p *planner) readonlyPaths() {
	for _, name := range p.spec.Linux.ReadonlyPaths {
		p.What("make " + name + " read-only")
		miss := p.openPathIn(name, p.tmp2).Later(uint16(unix.ENOENT))
		p.Call(unix.SYS_OPEN_TREE, inside.R(p.tmp2), p.Str(""), inside.V(emptyPath|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)).To(p.tmp)
		p.setattr(p.tmp, unix.MOUNT_ATTR_RDONLY, 0, 0, true)
		p.moveTo(p.tmp, p.tmp2)
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
		p.Land(miss)
	}
}

// keepWritable clones the WritablePaths before their parents become read-only.
func (p *planner) keepWritable() []uint8 {
	var regs []uint8
	for _, name := range p.cfg.WritablePaths {
		p.What("keep " + name + " writable")
		r := p.NewReg()
		p.openPathIn(name, p.tmp)
		p.Call(unix.SYS_OPEN_TREE, inside.R(p.tmp), p.Str(""), inside.V(emptyPath|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(r)
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
		regs = append(regs, r)
	}
	return regs
}

// restoreWritable mounts them back, over the read-only parents.
func (p *planner) restoreWritable(regs []uint8) {
	for i, r := range regs {
		p.What("keep " + p.cfg.WritablePaths[i] + " writable")
		p.open(p.root, p.cfg.WritablePaths[i], openPath, inRoot, p.tmp)
		p.moveTo(r, p.tmp)
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	}
}

// maskSources clones the host's /dev/null once for every masked file, before
// the pivot: the container's own /dev is not to be trusted with it
// (CVE-2025-31133). Directories are masked with an empty file system.
func (p *planner) maskSources() ([]uint8, error) {
	regs := make([]uint8, len(p.spec.Linux.MaskedPaths))
	if len(regs) == 0 {
		return regs, nil
	}
	var st unix.Stat_t
	if err := unix.Lstat("/dev/null", &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		return nil, fmt.Errorf("mask paths: the host's /dev/null is not the null device")
	}
	p.What("open the null device")
	for i, name := range p.spec.Linux.MaskedPaths {
		if kernelPathKind(name) == pathDir {
			continue
		}
		regs[i] = p.NewReg()
		p.Call(unix.SYS_OPEN_TREE, inside.V(atCWD), p.Str("/dev/null"), inside.V(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(regs[i])
	}
	return regs, nil
}

type pathKind int

const (
	pathUnknown pathKind = iota
	pathDir
	pathFile
)

// kernelPathKind looks at a path of /proc or /sys on the host, because the same
// kernel shows the container the same kind. A path that is missing here may yet
// be there in the container, whose /proc has its own mount options.
func kernelPathKind(name string) pathKind {
	name = path.Clean("/" + name)
	if !strings.HasPrefix(name, "/proc/") && !strings.HasPrefix(name, "/sys/") {
		return pathUnknown
	}
	fi, err := os.Lstat(name)
	switch {
	case err != nil:
		return pathUnknown
	case fi.IsDir():
		return pathDir
	}
	return pathFile
}

// maskPaths hides linux.maskedPaths. A path that is not there needs no mask.
func (p *planner) maskPaths(nulls []uint8) {
	for i, name := range p.spec.Linux.MaskedPaths {
		p.What("mask " + name)
		miss := p.openPathIn(name, p.tmp2).Later(uint16(unix.ENOENT)).Later(uint16(unix.ENOTDIR))
		var done inside.Step
		if nulls[i] != 0 {
			dir := p.Call(unix.SYS_MOVE_MOUNT, inside.R(nulls[i]), p.Str(""), inside.R(p.tmp2), p.Str(""), inside.V(moveBoth)).
				Later(uint16(unix.EINVAL)).Later(uint16(unix.ENOTDIR))
			done = p.Pseudo(inside.Jump)
			p.Land(dir) // a directory after all
		}
		p.Call(unix.SYS_FCHDIR, inside.R(p.tmp2))
		p.Call(unix.SYS_MOUNT, p.Str("tmpfs"), p.Str("."), p.Str("tmpfs"), inside.V(unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC), p.Str("size=0k,nr_inodes=2,mode=755"))
		if nulls[i] != 0 {
			p.Land(done)
		}
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
		p.Land(miss)
	}
}

// sealRoot makes the root read-only when asked, and shares it as asked.
func (p *planner) sealRoot() {
	p.Call(unix.SYS_CHDIR, p.Str("/"))
	if p.spec.Root != nil && p.spec.Root.Readonly {
		p.What("make the root file system read-only")
		p.setattr(p.root, unix.MOUNT_ATTR_RDONLY, 0, 0, false)
	}
	if o := parseMountOptions([]string{p.spec.Linux.RootfsPropagation}); o.propagation != 0 {
		p.What("set the propagation of the root file system")
		p.setattr(p.root, 0, 0, o.propagation, o.propRec)
	}
}

// makeCwd makes the working directory if the image lacks it, as Docker does.
func (p *planner) makeCwd() {
	cwd := path.Clean("/" + p.spec.Process.Cwd)
	if cwd == "/" {
		return
	}
	p.What("make working directory " + cwd)
	p.target(cwd, false, p.tmp2)
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
}
