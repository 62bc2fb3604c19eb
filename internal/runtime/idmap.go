package runtime

import (
	"cmp"
	"fmt"
	"os"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime/inside"
)

// NewUserNamespace makes a user namespace with the given maps and returns its
// descriptor, to map the IDs of a mount with (mount_setattr(2),
// MOUNT_ATTR_IDMAP) or to be joined. The process that it takes lives until the
// maps are written, or its maker dies.
func NewUserNamespace(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	ns, err := newUserNamespace(uids, gids)
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	return ns, nil
}

func newUserNamespace(uids, gids []specs.LinuxIDMapping) (*os.File, error) {
	h, err := newHolder(-1, 0)
	if err != nil {
		return nil, err
	}
	defer h.end()
	for _, m := range []struct {
		name string
		ids  []specs.LinuxIDMapping
	}{{"uid_map", uids}, {"gid_map", gids}} {
		if err := os.WriteFile(h.file(m.name), []byte(idMap(m.ids)), 0); err != nil {
			return nil, fmt.Errorf("write its %s %q: %w", m.name, idMap(m.ids), err)
		}
	}
	return os.Open(h.file("ns/user"))
}

// holder is a process that waits in a user namespace until it is ended, or its
// maker dies.
type holder struct {
	pid  int
	pipe int // the holder reads from it, and ends when it is closed
}

func (h *holder) file(name string) string { return fmt.Sprintf("/proc/%d/%s", h.pid, name) }

func (h *holder) end() {
	unix.Close(h.pipe)
	for {
		if _, err := unix.Wait4(h.pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}

func (h *holder) readMap(name string) (ids []specs.LinuxIDMapping, err error) {
	b, err := os.ReadFile(h.file(name))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		var m specs.LinuxIDMapping
		if _, err := fmt.Sscan(line, &m.ContainerID, &m.HostID, &m.Size); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", name, line, err)
		}
		ids = append(ids, m)
	}
	return ids, nil
}

// NewNetworkNamespace makes a network namespace that belongs to a user namespace.
func NewNetworkNamespace(userns *os.File) (*os.File, error) {
	h, err := newHolder(int(userns.Fd()), unix.CLONE_NEWNET)
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	defer h.end()
	return os.Open(h.file("ns/net"))
}

// newHolder starts a holder in a new user namespace, or in that of descriptor
// ns, and there in the new namespaces more (CLONE_NEW*). It says by a byte that it
// has joined them.
func newHolder(ns int, more uintptr) (h *holder, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	pid, err := startHolder(pair, ns, more)
	unix.Close(pair[1])
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	h = &holder{pid: pid, pipe: pair[0]}
	if n, err := unix.Read(h.pipe, make([]byte, 1)); n != 1 {
		h.end()
		return nil, fmt.Errorf("join the user namespace: %w", orEPERM(err))
	}
	return h, nil
}

func orEPERM(err error) error {
	if err == nil {
		return unix.EPERM // the process has ended instead
	}
	return err
}

func startHolder(pair [2]int, ns int, more uintptr) (pid int, err error) {
	b := inside.NewBuilder()
	b.What("hold a user namespace")
	buf := b.Words(0)
	b.Call(unix.SYS_CLOSE, inside.V(pair[0]))
	var flags uintptr = unix.CLONE_NEWUSER
	if ns >= 0 {
		flags = 0
		b.Call(unix.SYS_SETNS, inside.V(ns), inside.V(unix.CLONE_NEWUSER))
	}
	if more != 0 {
		b.Call(unix.SYS_UNSHARE, inside.V(more))
	}
	b.Call(unix.SYS_WRITE, inside.V(pair[1]), buf, inside.V(1))
	b.Call(unix.SYS_READ, inside.V(pair[1]), buf, inside.V(1))
	b.Call(unix.SYS_EXIT_GROUP, inside.V(0))
	raw := b.Assemble()
	fd, err := unix.MemfdCreate("brig-userns", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, raw); err != nil {
		return 0, err
	}
	program, err := inside.Map(fd, len(raw))
	if err != nil {
		return 0, err
	}
	defer program.Unmap()
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	return program.Start(inside.Clone{Flags: flags, PIDNS: -1, CgroupFD: -1})
}

// idMap is the text of a uid_map or gid_map file, user_namespaces(7).
func idMap(ids []specs.LinuxIDMapping) string {
	var b strings.Builder
	for _, m := range ids {
		fmt.Fprintf(&b, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return b.String()
}

// idmapOf is the user namespace whose maps a mount's files shall get: that of
// the mount's own mappings, or the container's; nil if none is asked for.
func (p *planner) idmapOf(m specs.Mount, o *mountOptions) (*os.File, error) {
	if !wantsIDMap(m, o) {
		return nil, nil
	}
	uids, gids := m.UIDMappings, m.GIDMappings
	if len(uids)+len(gids) == 0 {
		for _, ns := range p.spec.Linux.Namespaces {
			if ns.Type == specs.UserNamespace && ns.Path != "" {
				f, err := os.Open(ns.Path)
				if err != nil {
					return nil, fmt.Errorf("open the user namespace to map IDs with: %w", err)
				}
				p.closeLater(f)
				return f, nil
			}
		}
		uids, gids = p.spec.Linux.UIDMappings, p.spec.Linux.GIDMappings
	}
	key := idMap(uids) + "/" + idMap(gids)
	if f := p.idmaps[key]; f != nil {
		return f, nil
	}
	f, err := NewUserNamespace(uids, gids)
	if err != nil {
		return nil, err
	}
	if p.idmaps == nil {
		p.idmaps = map[string]*os.File{}
	}
	p.idmaps[key] = f
	p.closeLater(f)
	return f, nil
}

func wantsIDMap(m specs.Mount, o *mountOptions) bool {
	return o.idmap || len(m.UIDMappings)+len(m.GIDMappings) > 0
}

// mapsOf reads the ID maps of the user namespace at a path, as the caller sees
// them: a process has to join it for that.
func mapsOf(path string) (uids, gids []specs.LinuxIDMapping, err error) {
	ns, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer ns.Close()
	h, err := newHolder(int(ns.Fd()), 0)
	if err != nil {
		return nil, nil, err
	}
	defer h.end()
	if uids, err = h.readMap("uid_map"); err == nil {
		gids, err = h.readMap("gid_map")
	}
	return uids, gids, err
}

// sameMaps says whether two maps say the same, in whichever order.
func sameMaps(a, b []specs.LinuxIDMapping) bool {
	order := func(x, y specs.LinuxIDMapping) int { return cmp.Compare(x.ContainerID, y.ContainerID) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order))
}
