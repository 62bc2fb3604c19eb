package runtime

import (
	"encoding/binary"
	"errors"
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
// missing: a directory, or an empty file for the bind mount of a file.
func (p *planner) target(name string, file bool, dst uint8) {
	name = p.resolve(name)
	found := p.open(p.root, name, openPath, inRoot, dst).Later(uint16(unix.ENOENT))
	skip := p.Pseudo(inside.Jump)
	p.Land(found)
	p.makeAll(name, file)
	p.open(p.root, name, openPath, inRoot, dst)
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
		p.open(p.root, "/"+strings.Join(parts[:i], "/"), openPath|unix.O_DIRECTORY, inRoot, p.tmp)
		if file && i == len(parts)-1 {
			p.Call(unix.SYS_MKNODAT, inside.R(p.tmp), p.Str(part), inside.V(unix.S_IFREG|0o644), inside.V(0)).On(uint16(unix.EEXIST), 0)
		} else {
			p.Call(unix.SYS_MKDIRAT, inside.R(p.tmp), p.Str(part), inside.V(0o755)).On(uint16(unix.EEXIST), 0)
		}
		p.Call(unix.SYS_CLOSE, inside.R(p.tmp))
	}
}

// resolve follows the links of a mount point that does not exist yet, so that
// the target of a dangling link is made rather than refused: images carry
// /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf. The answer is
// only a path; the program opens it confined again.
func (p *planner) resolve(name string) string {
	if p.cfg.Root == nil {
		return name
	}
	fd, err := openat2(p.cfg.Root, name, openPath, inRoot)
	if err == nil {
		unix.Close(fd)
		return name
	}
	if !errors.Is(err, unix.ENOENT) {
		return name
	}
	return followDangling(p.cfg.Root, name)
}

func followDangling(root *os.File, name string) string {
	const maxLinks = 40 // as the kernel, path_resolution(7)
	done, rest := "/", strings.Trim(path.Clean("/"+name), "/")
	for links := 0; rest != ""; {
		part, more, _ := strings.Cut(rest, "/")
		next := path.Join(done, part)
		link, err := readlinkIn(root, next)
		if err != nil { // not a link, or missing
			done, rest = next, more
			continue
		}
		if links++; links > maxLinks {
			return name
		}
		if strings.HasPrefix(link, "/") {
			done = "/"
		}
		// Lexical ".." is right here: done has no links left.
		rest = strings.Trim(path.Join(link, more), "/")
		for strings.HasPrefix(rest, "..") && (rest == ".." || rest[2] == '/') {
			done, rest = path.Dir(done), strings.TrimPrefix(strings.TrimPrefix(rest, ".."), "/")
		}
	}
	return done
}

func readlinkIn(root *os.File, name string) (string, error) {
	fd, err := openat2(root, name, openPath|unix.O_NOFOLLOW, inRoot)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
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
