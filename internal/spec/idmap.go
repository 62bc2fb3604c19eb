package spec

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// IDMap is a range of users or groups of a container's user namespace: Size IDs
// from Container on are those of the host from Host on, user_namespaces(7).
type IDMap struct {
	Container uint32 `json:"container"`
	Host      uint32 `json:"host"`
	Size      uint32 `json:"size"`
}

// UserNS is what --userns, --uidmap and --gidmap ask for.
type UserNS struct {
	Mode string `json:"mode,omitempty"` // one of the modes below
	Size uint32 `json:"size,omitempty"` // of UsernsAuto; 0 is 65536
	// UIDs and GIDs are the maps: given by the user, or chosen when the container
	// was created.
	UIDs []IDMap `json:"uids,omitempty"`
	GIDs []IDMap `json:"gids,omitempty"`
}

// Modes of user namespaces.
const (
	UsernsHost   = ""        // the host's
	UsernsAuto   = "auto"    // one with IDs that no other container has
	UsernsKeepID = "keep-id" // an ordinary user keeps the own IDs inside
	UsernsMaps   = "maps"    // one with the maps that the user gives
)

// Own says whether the container gets a user namespace of its own.
func (u *UserNS) Own() bool { return u.Mode != UsernsHost }

// ParseUserns reads the value of --userns.
func ParseUserns(value string) (UserNS, error) {
	mode, rest, more := strings.Cut(value, ":")
	switch mode {
	case "", modeHost:
		if !more {
			return UserNS{}, nil
		}
	case UsernsKeepID:
		if !more {
			return UserNS{Mode: UsernsKeepID}, nil
		}
	case UsernsAuto:
		u := UserNS{Mode: UsernsAuto}
		if !more {
			return u, nil
		}
		size, ok := strings.CutPrefix(rest, "size=")
		n, err := strconv.ParseUint(size, 10, 32)
		if !ok || err != nil || n == 0 {
			return u, badValue("--userns", value, "%q is no option; write auto:size=65536", rest)
		}
		u.Size = uint32(n)
		return u, nil
	}
	return UserNS{}, badValue("--userns", value, "%s", unknown("mode", value, []string{"host", "auto", "auto:size=N", "keep-id"}))
}

// ParseIDMap reads the value of --uidmap or --gidmap, CONTAINER:HOST[:SIZE].
func ParseIDMap(flag, value string) (IDMap, error) {
	parts := strings.Split(value, ":")
	if len(parts) == 2 {
		parts = append(parts, "1")
	}
	bad := func(format string, args ...any) (IDMap, error) {
		return IDMap{}, badValue(flag, value, format, args...)
	}
	if len(parts) != 3 {
		return bad("write CONTAINER:HOST:SIZE, as in 0:100000:65536")
	}
	var n [3]uint32
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return bad("%q is no number of an ID; write CONTAINER:HOST:SIZE, as in 0:100000:65536", p)
		}
		n[i] = uint32(v)
	}
	m := IDMap{n[0], n[1], n[2]}
	if m.Size == 0 || m.Container+m.Size < m.Container || m.Host+m.Size < m.Host {
		return bad("the range must have at least one ID and end below 4294967295")
	}
	return m, nil
}

// checkUserns refuses maps that the kernel would refuse, and what does not go
// together.
func (o *Options) checkUserns() error {
	u := &o.UserNS
	switch {
	case u.Mode == UsernsMaps && (len(u.UIDs) == 0 || len(u.GIDs) == 0):
		return fmt.Errorf("--uidmap and --gidmap: give at least one of them")
	case u.Own() && o.Privileged:
		return fmt.Errorf("conflicting options: --privileged and --userns: the devices of the host are not root's of a user namespace; drop one of them")
	}
	for _, m := range []struct {
		flag string
		list []IDMap
	}{{"--uidmap", u.UIDs}, {"--gidmap", u.GIDs}} {
		for i, a := range m.list {
			for _, b := range m.list[:i] {
				if overlap(a.Container, b.Container, a.Size, b.Size) || overlap(a.Host, b.Host, a.Size, b.Size) {
					return fmt.Errorf("%s: %d:%d:%d and %d:%d:%d overlap", m.flag, b.Container, b.Host, b.Size, a.Container, a.Host, a.Size)
				}
			}
		}
		if _, ok := HostID(m.list, 0); len(m.list) > 0 && !ok {
			return fmt.Errorf("%s: no range has 0, the container's root", m.flag)
		}
	}
	return nil
}

func overlap(a, b, sizeA, sizeB uint32) bool {
	return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
}

// HostID is the host's ID for one of the container's.
func HostID(maps []IDMap, id uint32) (uint32, bool) {
	for _, m := range maps {
		if id >= m.Container && id-m.Container < m.Size {
			return m.Host + (id - m.Container), true
		}
	}
	return 0, false
}

// Mappings are maps in the form of the specification.
func Mappings(maps []IDMap) (list []specs.LinuxIDMapping) {
	for _, m := range maps {
		list = append(list, specs.LinuxIDMapping{ContainerID: m.Container, HostID: m.Host, Size: m.Size})
	}
	return list
}

// lastGroup is the highest group ID of the container.
func (b *builder) lastGroup() uint32 {
	last := b.host.lastGroup()
	if !b.o.UserNS.Own() {
		return last
	}
	inside := uint32(0)
	for _, m := range b.o.UserNS.GIDs {
		inside = max(inside, m.Container+m.Size-1)
	}
	return min(last, inside)
}

// devptsOptions takes the group of terminals away where the container has no
// such group.
func (b *builder) devptsOptions(options []string) []string {
	if _, ok := HostID(b.o.UserNS.GIDs, ttyGroup); ok || !b.o.UserNS.Own() {
		return options
	}
	var kept []string
	for _, o := range options {
		if !strings.HasPrefix(o, "gid=") {
			kept = append(kept, o)
		}
	}
	return kept
}

// ttyGroup is the group of terminals, as all distributions number it.
const ttyGroup = 5
