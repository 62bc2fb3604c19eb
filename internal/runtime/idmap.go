package runtime

import (
	"fmt"
	"os"
	goruntime "runtime"
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

func newUserNamespace(uids, gids []specs.LinuxIDMapping) (ns *os.File, err error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	pid, err := startHolder(pipe)
	unix.Close(pipe[0])
	defer func() {
		unix.Close(pipe[1]) // the holder's read ends, and it with it
		for pid > 0 {
			if _, werr := unix.Wait4(pid, nil, 0, nil); werr != unix.EINTR {
				break
			}
		}
	}()
	if err != nil {
		return nil, err
	}
	for _, m := range []struct {
		name string
		ids  []specs.LinuxIDMapping
	}{{"uid_map", uids}, {"gid_map", gids}} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, m.name), []byte(idMap(m.ids)), 0); err != nil {
			return nil, fmt.Errorf("write its %s %q: %w", m.name, idMap(m.ids), err)
		}
	}
	return os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
}

// startHolder starts a process in a new user namespace that waits for the end
// of the pipe.
func startHolder(pipe [2]int) (pid int, err error) {
	b := inside.NewBuilder()
	b.What("hold a user namespace")
	buf := b.Words(0)
	b.Call(unix.SYS_CLOSE, inside.V(pipe[1]))
	b.Call(unix.SYS_READ, inside.V(pipe[0]), buf, inside.V(1))
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
	return program.Start(inside.Clone{Flags: unix.CLONE_NEWUSER, PIDNS: -1, CgroupFD: -1})
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
