package runtime

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// view is the container's tree of directories as it will be when a mount is
// made, as far as the planner can know: the root, and what the mounts before
// laid over it. Through it the planner finds where the links of a destination
// lead. The answer is only a path: the program opens it confined and without
// following any link, so a tree that changes meanwhile stops the start.
type view struct{ layers []layer }

// layer is a mount: a directory that can be looked into, or an empty or
// kernel's file system, which has no links that matter.
type layer struct {
	at     string   // where it is, without links
	dir    *os.File // opened at the first look
	source string   // host path of a bind mount
	mine   bool     // dir was opened here
}

func newView(root *os.File) *view { return &view{layers: []layer{{at: "/", dir: root}}} }

// add lays a mount over the view; source is the host's path of a bind mount.
func (v *view) add(at, source string, dir *os.File) {
	v.layers = append(v.layers, layer{at: at, source: source, dir: dir})
}

func (v *view) close() {
	for _, l := range v.layers {
		if l.mine {
			l.dir.Close()
		}
	}
}

// under gives the layer that holds name, and name within it. dir is nil for a
// layer without content.
func (v *view) under(name string) (dir *os.File, rel string) {
	for i := len(v.layers) - 1; i >= 0; i-- {
		l := &v.layers[i]
		rel, ok := below(l.at, name)
		if !ok {
			continue
		}
		if l.dir == nil && l.source != "" {
			if f, err := os.OpenFile(l.source, unix.O_PATH, 0); err == nil {
				l.dir, l.mine = f, true
			}
		}
		return l.dir, rel
	}
	return nil, name
}

// below says where name is, seen from dir.
func below(dir, name string) (rel string, ok bool) {
	if dir == "/" {
		return name, true
	}
	rel, ok = strings.CutPrefix(name, dir)
	if rel == "" {
		rel = "/"
	}
	return rel, ok && rel[0] == '/'
}

// open opens name (O_PATH) without following any link.
func (v *view) open(name string) (*os.File, error) {
	dir, rel := v.under(name)
	if dir == nil {
		return nil, unix.ENOENT
	}
	if rel == "/" {
		return dupFile(dir) // a mount point, of a directory or a file
	}
	fd, err := openat2(dir, rel, openPath, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// resolve gives name without links; what is missing stays as it is, so that the
// target of a dangling link can be made: images carry
// /etc/resolv.conf -> ../run/systemd/resolve/stub-resolv.conf.
func (v *view) resolve(name string) string {
	name = path.Clean("/" + name)
	f, err := v.open(name)
	if err == nil {
		f.Close()
	}
	if !errors.Is(err, unix.ELOOP) {
		return name
	}
	return v.follow(name)
}

func (v *view) follow(name string) string {
	const maxLinks = 40 // as the kernel, path_resolution(7)
	done, rest := "/", strings.Trim(name, "/")
	for links := 0; rest != ""; {
		part, more, _ := strings.Cut(rest, "/")
		next := path.Join(done, part)
		link, err := v.readlink(next)
		if err != nil { // not a link, or missing
			done, rest = next, more
			continue
		}
		if links++; links > maxLinks {
			return name // the program's open will fail
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

func (v *view) readlink(name string) (string, error) {
	dir, rel := v.under(name)
	if dir == nil || rel == "/" {
		return "", unix.EINVAL // a mount point is no link
	}
	fd, err := openat2(dir, rel, openPath|unix.O_NOFOLLOW, inRoot)
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
