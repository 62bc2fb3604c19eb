package engine

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/internal/snapshot"
	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/internal/userns"
)

// The IDs for --userns auto, where /etc/subuid gives none to "brig" or
// "containers": above those that systemd takes for its containers
// (systemd.io/UIDS-GIDS) and below 2^31.
const (
	autoFirst = 0x70000000
	autoCount = 0x0fff0000
	autoSize  = 65536
)

// planIDs chooses the maps of the container's user namespace, which then stay:
// the files that it writes are owned accordingly.
func (c *Container) planIDs() error {
	u := &c.Options.UserNS
	if len(u.UIDs)+len(u.GIDs) > 0 {
		if u.Mode != spec.UsernsHost {
			return usage("conflicting options: --userns %s and --uidmap or --gidmap; drop one of them", u.Mode)
		}
		u.Mode = spec.UsernsMaps
		if len(u.GIDs) == 0 {
			u.GIDs = u.UIDs
		} else if len(u.UIDs) == 0 {
			u.UIDs = u.GIDs
		}
		return c.Options.Validate()
	}
	switch u.Mode {
	case spec.UsernsKeepID:
		return c.keepIDs()
	case spec.UsernsAuto:
		return c.autoIDs()
	}
	return nil
}

// keepIDs lets an ordinary user have the own IDs inside: what is 0 in the user's
// namespace (package rootless) becomes the user's number again, and the others
// close up.
func (c *Container) keepIDs() error {
	uid, gid, ok := userns.Outer()
	if !ok {
		return usage("--userns keep-id is for ordinary users: root keeps its ID without")
	}
	u := &c.Options.UserNS
	u.UIDs, u.GIDs = keepID(uid, userns.Last("uid")), keepID(gid, userns.Last("gid"))
	if c.Options.User == "" && c.ImageConfig.User == "" {
		c.Options.User = fmt.Sprintf("%d:%d", uid, gid)
	}
	return nil
}

func keepID(own, last uint32) []spec.IDMap {
	below := min(own, last)
	m := []spec.IDMap{{Container: own, Host: 0, Size: 1}}
	if below > 0 {
		m = append(m, spec.IDMap{Container: 0, Host: 1, Size: below})
	}
	if last > own {
		m = append(m, spec.IDMap{Container: own + 1, Host: own + 1, Size: last - own})
	}
	return m
}

// autoIDs gives the container IDs that no other one has.
func (c *Container) autoIDs() error {
	u := &c.Options.UserNS
	size := u.Size
	if size == 0 {
		size = autoSize
	}
	others, err := c.engine.List()
	if err != nil {
		return err
	}
	uids, err := c.engine.freeIDs("uid", size, others)
	if err != nil {
		return err
	}
	gids, err := c.engine.freeIDs("gid", size, others)
	if err != nil {
		return err
	}
	u.UIDs = []spec.IDMap{{Container: 0, Host: uids, Size: size}}
	u.GIDs = []spec.IDMap{{Container: 0, Host: gids, Size: size}}
	return nil
}

// freeIDs is the first of size IDs in a row that no container has.
func (e *Engine) freeIDs(kind string, size uint32, others []*Container) (uint32, error) {
	first, count := autoRange(kind)
	var taken []spec.IDMap
	for _, o := range others {
		maps := o.Options.UserNS.UIDs
		if kind == "gid" {
			maps = o.Options.UserNS.GIDs
		}
		taken = append(taken, maps...)
	}
	slices.SortFunc(taken, func(a, b spec.IDMap) int { return int(int64(a.Host) - int64(b.Host)) })
	at := uint64(first)
	for _, t := range taken {
		if uint64(t.Host)+uint64(t.Size) <= at || uint64(t.Host) >= at+uint64(size) {
			continue
		}
		at = uint64(t.Host) + uint64(t.Size)
	}
	if at+uint64(size) > uint64(first)+uint64(count) {
		return 0, usage("--userns auto: no %d %ss in a row are free in %d-%d; remove containers, or give \"brig\" a larger range in /etc/sub%s", size, kind, first, uint64(first)+uint64(count)-1, kind)
	}
	return uint32(at), nil
}

// autoRange is where the IDs for --userns auto lie: in a user's own namespace all
// but its root's, on a host what /etc/subuid says.
func autoRange(kind string) (first, count uint32) {
	if userns.Inside() {
		return 1, userns.Last(kind)
	}
	f, err := os.Open("/etc/sub" + kind)
	if err != nil {
		return autoFirst, autoCount
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		p := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(p) != 3 || p[0] != "brig" && p[0] != "containers" {
			continue
		}
		a, err1 := strconv.ParseUint(p[1], 10, 32)
		n, err2 := strconv.ParseUint(p[2], 10, 32)
		if err1 == nil && err2 == nil {
			return uint32(a), uint32(n)
		}
	}
	return autoFirst, autoCount
}

// userNamespace makes the container's own user namespace, if it shall have one.
func (s *starter) userNamespace() error {
	u := &s.c.Options.UserNS
	if !u.Own() {
		return nil
	}
	ns, err := runtime.NewUserNamespace(spec.Mappings(u.UIDs), spec.Mappings(u.GIDs))
	if err == nil {
		s.userns = s.keep(ns)
	}
	return err
}

// idMap is how the layers are mapped into the container's user namespace; nil
// without one.
func (c *Container) idMap(ns *os.File) *snapshot.IDMap {
	if ns == nil {
		return nil
	}
	m := &snapshot.IDMap{Namespace: ns}
	m.UID, _ = spec.HostID(c.Options.UserNS.UIDs, 0) // Validate has seen that there is one
	m.GID, _ = spec.HostID(c.Options.UserNS.GIDs, 0)
	return m
}

// terminalOwner gives a terminal that is made outside to the container's root and
// group of terminals.
func (c *Container) terminalOwner(options []string) []string {
	u := &c.Options.UserNS
	if !u.Own() {
		return options
	}
	options = slices.DeleteFunc(slices.Clone(options), func(o string) bool { return strings.HasPrefix(o, "gid=") })
	if uid, ok := spec.HostID(u.UIDs, 0); ok {
		options = append(options, fmt.Sprintf("uid=%d", uid))
	}
	for _, group := range []uint32{5, 0} {
		if gid, ok := spec.HostID(u.GIDs, group); ok {
			return append(options, fmt.Sprintf("gid=%d", gid))
		}
	}
	return options
}
