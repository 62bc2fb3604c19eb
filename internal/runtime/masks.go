package runtime

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
)

// inProc splits a path below /proc.
func (p *planner) inProc(name string) (rel string, ok bool) {
	rel, ok = strings.CutPrefix(path.Clean("/"+name), "/proc/")
	return rel, ok && p.hasProc
}

// openPathIn opens a path of the container for masking: below the container's
// own /proc without any mount on the way, elsewhere within the root.
func (p *planner) openPathIn(name string, dst uint8) inside.Step {
	if rel, ok := p.inProc(name); ok {
		return p.open(p.proc, rel, openPath, procLinks, dst)
	}
	return p.open(p.root, name, openPath, inRoot, dst)
}

// readonlyPaths binds each path over itself, read-only. What is masked is so
// already.
func (p *planner) readonlyPaths() {
	for _, name := range p.spec.Linux.ReadonlyPaths {
		if p.masked(name) {
			continue
		}
		p.What("make " + name + " read-only")
		miss := p.openPathIn(name, p.tmp2).Later(uint16(unix.ENOENT)).Later(uint16(unix.ENOTDIR))
		p.Call(unix.SYS_OPEN_TREE, inside.R(p.tmp2), p.Str(""), inside.V(emptyPath|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)).To(p.tmp)
		p.setattr(p.tmp, unix.MOUNT_ATTR_RDONLY, 0, 0, true)
		p.moveTo(p.tmp, p.tmp2)
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
		p.Land(miss)
	}
}

func (p *planner) masked(name string) bool {
	return slices.ContainsFunc(p.spec.Linux.MaskedPaths, func(mask string) bool {
		_, ok := below(path.Clean("/"+mask), path.Clean("/"+name))
		return ok
	})
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

// mask is one of linux.maskedPaths.
type mask struct {
	name string
	null uint8 // a clone of the host's /dev/null, or 0 for what is a directory
}

// maskSources clones the host's /dev/null once for every masked file, before
// the pivot: the container's own /dev is not to be trusted with it
// (CVE-2025-31133). Directories are masked with an empty file system.
func (p *planner) maskSources() ([]mask, error) {
	var masks []mask
	seen := map[string]bool{}
	for _, name := range p.spec.Linux.MaskedPaths {
		if clean := path.Clean("/" + name); !seen[clean] {
			seen[clean] = true
			masks = append(masks, mask{name: name})
		}
	}
	if len(masks) == 0 {
		return nil, nil
	}
	var st unix.Stat_t
	if err := unix.Lstat("/dev/null", &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		return nil, fmt.Errorf("mask paths: the host's /dev/null is not the null device")
	}
	p.What("open the null device")
	for i := range masks {
		if p.pathKind(masks[i].name) == pathDir {
			continue
		}
		if p.hasUserns() {
			tree, err := p.hostNode("/dev/null", unix.MOUNT_ATTR_RDONLY)
			if err != nil {
				return nil, fmt.Errorf("mask paths: %w", err)
			}
			masks[i].null = p.pass(tree)
			continue
		}
		masks[i].null = p.NewReg()
		p.Call(unix.SYS_OPEN_TREE, inside.V(atCWD), p.Str("/dev/null"), inside.V(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(masks[i].null)
		// It is the host's inode: read-only, or the container's root could
		// change the mode and the owner of the host's /dev/null.
		p.setattr(masks[i].null, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, 0, 0, false)
	}
	return masks, nil
}

type pathKind int

const (
	pathUnknown pathKind = iota
	pathDir
	pathFile
)

// pathKind looks at a path of /proc or /sys on the host, because the same
// kernel shows the container the same kind. A path that is missing here may yet
// be there in the container, whose /proc has its own mount options; and what
// lies elsewhere may change.
func (p *planner) pathKind(name string) pathKind {
	name = path.Clean("/" + name)
	if !strings.HasPrefix(name, "/proc/") && !strings.HasPrefix(name, "/sys/") {
		return pathUnknown
	}
	fi, err := os.Lstat(name)
	switch {
	case err != nil || fi.Mode()&os.ModeSymlink != 0:
		return pathUnknown
	case fi.IsDir():
		return pathDir
	}
	return pathFile
}

// maskPaths hides linux.maskedPaths. A path that is not there needs no mask.
func (p *planner) maskPaths(masks []mask) {
	if len(masks) == 0 {
		return
	}
	empty := p.emptyDirectory()
	for _, m := range masks {
		p.What("mask " + m.name)
		miss := p.openPathIn(m.name, p.tmp2).Later(uint16(unix.ENOENT)).Later(uint16(unix.ENOTDIR))
		var masked inside.Step
		if m.null != 0 {
			dir := p.Call(unix.SYS_MOVE_MOUNT, inside.R(m.null), p.Str(""), inside.R(p.tmp2), p.Str(""), inside.V(moveBoth)).
				Later(uint16(unix.EINVAL)).Later(uint16(unix.ENOTDIR))
			masked = p.Pseudo(inside.Jump)
			p.Land(dir) // a directory after all
		}
		// One empty file system serves all. Before Linux 6.15 it can be cloned
		// only once it is attached: the first directory gets it itself.
		first := p.Call(unix.SYS_OPEN_TREE, inside.R(empty), p.Str(""), inside.V(emptyPath|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)).To(p.tmp).Later(uint16(unix.EINVAL))
		p.moveTo(p.tmp, p.tmp2)
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
		cloned := p.Pseudo(inside.Jump)
		p.Land(first)
		p.moveTo(empty, p.tmp2)
		p.Land(cloned)
		if m.null != 0 {
			p.Land(masked)
		}
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp2))
		p.Land(miss)
	}
	p.Call(unix.SYS_CLOSE, inside.R(empty))
}

// emptyDirectory makes a read-only file system without anything in it.
func (p *planner) emptyDirectory() uint8 {
	p.What("make the file system that masks directories")
	empty := p.NewReg()
	p.Call(unix.SYS_FSOPEN, p.Str("tmpfs"), inside.V(unix.FSOPEN_CLOEXEC)).To(p.tmp)
	p.fsconfig(p.tmp, []string{"source=tmpfs", "size=0k", "nr_inodes=2", "mode=755", "ro"})
	p.Call(unix.SYS_FSCONFIG, inside.R(p.tmp), inside.V(unix.FSCONFIG_CMD_CREATE), inside.V(0), inside.V(0), inside.V(0))
	attrs := unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	p.Call(unix.SYS_FSMOUNT, inside.R(p.tmp), inside.V(unix.FSMOUNT_CLOEXEC), inside.V(attrs)).To(empty)
	p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	return empty
}
