package engine

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/mountns"
	"github.com/brig-run/brig/internal/spec"
)

// ownUserNS is the container's user namespace, nil if it has none of its own.
func (c *Container) ownUserNS() *spec.UserNS {
	if !c.Options.UserNS.Own() {
		return nil
	}
	return &c.Options.UserNS
}

func oneOwner(uid, gid int) func(int, int) (int, int) {
	return func(int, int) (int, int) { return uid, gid }
}

// overflowID stands for IDs that a user namespace does not have,
// user_namespaces(7).
const overflowID = 65534

// inside turns IDs of the files into the container's; nil if they are that.
func (f *fileSystem) inside() func(uid, gid int) (int, int) {
	if f.userns == nil {
		return nil
	}
	turn := func(maps []spec.IDMap, id int) int {
		for _, m := range maps {
			if d := int64(id) - int64(m.Host); 0 <= d && d < int64(m.Size) {
				return int(int64(m.Container) + d)
			}
		}
		return overflowID
	}
	return func(uid, gid int) (int, int) { return turn(f.userns.UIDs, uid), turn(f.userns.GIDs, gid) }
}

// outside turns the container's IDs into those of the files; what the container
// does not have becomes its root's.
func (f *fileSystem) outside() func(uid, gid int) (int, int) {
	if f.userns == nil {
		return nil
	}
	turn := func(maps []spec.IDMap, id int) int {
		host, ok := spec.HostID(maps, uint32(id))
		if !ok {
			host, _ = spec.HostID(maps, 0) // Validate has seen that there is one
		}
		return int(host)
	}
	return func(uid, gid int) (int, int) { return turn(f.userns.UIDs, uid), turn(f.userns.GIDs, gid) }
}

// asRoot runs f with the container's root as the owner of what f makes: on an
// idmapped mount nobody else can make anything (mount_setattr(2), EOVERFLOW). It
// takes a thread, which keeps its capabilities.
func (f *fileSystem) asRoot(do func() error) error {
	if f.userns == nil {
		return do()
	}
	uid, gid := f.outside()(0, 0)
	return mountns.Thread(func() error {
		if err := unix.Setfsgid(gid); err != nil {
			return fmt.Errorf("become the container's root: %w", err)
		}
		if err := unix.Setfsuid(uid); err != nil {
			return fmt.Errorf("become the container's root: %w", err)
		}
		// The kernel has taken the capabilities that concern files,
		// capabilities(7), "Effect of user ID changes".
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		err := unix.Capget(&h, &caps[0])
		if err == nil {
			for i := range caps {
				caps[i].Effective = caps[i].Permitted
			}
			err = unix.Capset(&h, &caps[0])
		}
		if err != nil {
			return fmt.Errorf("become the container's root: %w", err)
		}
		return do()
	})
}
