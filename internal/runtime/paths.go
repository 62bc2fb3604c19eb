package runtime

import (
	"encoding/binary"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
)

// how is struct open_how of openat2(2).
type how struct{ flags, mode, resolve uint64 }

const (
	openPath = unix.O_PATH | unix.O_CLOEXEC
	// inRoot confines a path to the directory it starts from, as chroot would,
	// and refuses the magic links of /proc, which lead anywhere (CVE-2024-21626,
	// CVE-2025-31133).
	inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	// strictly is for paths whose links were followed when the start was
	// planned: a link that has appeared since then is refused.
	strictly = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS
	// procLinks is for paths below the container's own /proc that may have the
	// kernel's own links in them, such as /proc/self.
	procLinks = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS
	// ownProc is for paths below the container's own /proc: no link and no
	// other mount may stand in the way (CVE-2025-52881).
	ownProc = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS
)

// open emits an openat2 of name relative to the descriptor in register dir.
func (p *planner) open(dir uint8, name string, flags, resolve uint64, dst uint8) inside.Step {
	h := how{flags: flags, resolve: resolve}
	arg, ok := p.how[h]
	if !ok {
		arg = p.Words(h.flags, h.mode, h.resolve)
		p.how[h] = arg
	}
	return p.Call(unix.SYS_OPENAT2, inside.R(dir), p.Str(name), arg, inside.V(24)).To(dst)
}

// target opens the mount point name in the new root, made first if it is
// missing: a directory, or an empty file for the bind mount of a file. The name
// has no links in it, or had none when the start was planned.
func (p *planner) target(name string, file bool, dst uint8) {
	found := p.open(p.root, name, openPath, strictly, dst).Later(uint16(unix.ENOENT))
	skip := p.Pseudo(inside.Jump)
	p.Land(found)
	p.makeAll(name, file)
	p.open(p.root, name, openPath, strictly, dst)
	p.Land(skip)
}

// makeAll makes each missing component of name, every one of them through a
// parent that was opened within the root.
func (p *planner) makeAll(name string, file bool) {
	parts := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	for i, part := range parts {
		if part == "" {
			return // the root itself
		}
		p.open(p.root, "/"+strings.Join(parts[:i], "/"), openPath|unix.O_DIRECTORY, strictly, p.tmp)
		if file && i == len(parts)-1 {
			p.Call(unix.SYS_MKNODAT, inside.R(p.tmp), p.Str(part), inside.V(unix.S_IFREG|0o644), inside.V(0)).On(uint16(unix.EEXIST), 0)
		} else {
			p.Call(unix.SYS_MKDIRAT, inside.R(p.tmp), p.Str(part), inside.V(0o755)).On(uint16(unix.EEXIST), 0)
		}
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	}
}

func openat2(dir *os.File, name string, flags, resolve uint64) (int, error) {
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{Flags: flags, Resolve: resolve})
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

func le(words ...uint32) []byte {
	out := make([]byte, 0, 4*len(words))
	for _, w := range words {
		out = binary.NativeEndian.AppendUint32(out, w)
	}
	return out
}
