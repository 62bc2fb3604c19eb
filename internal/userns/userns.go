// Package userns knows whether this process is in a user namespace, and how IDs
// are mapped into one: user_namespaces(7). It makes none.
package userns

import (
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// initial is the inode of the first user namespace, include/linux/proc_ns.h
// (PROC_USER_INIT_INO).
const initial = 0xEFFFFFFD

// Inside says whether this process is in another user namespace than the
// machine's first: it may be root there, but cannot make devices, for example.
var Inside = sync.OnceValue(func() bool {
	var st unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &st) == nil && st.Ino != initial
})

// LastGroup is the highest group ID that this process's namespace maps; 0 if that
// cannot be told.
func LastGroup() uint32 { return Last("gid") }

// OuterVar is the variable in which package rootless leaves what the user's IDs
// are outside, as UID:GID.
const OuterVar = "_BRIG_ROOTLESS_IDS"

// Outer is the user and group that root of this namespace is outside of it.
func Outer() (uid, gid uint32, ok bool) {
	u, g, found := strings.Cut(os.Getenv(OuterVar), ":")
	a, err1 := strconv.ParseUint(u, 10, 32)
	b, err2 := strconv.ParseUint(g, 10, 32)
	return uint32(a), uint32(b), found && err1 == nil && err2 == nil && Inside()
}

// Last is the highest ID of a kind ("uid", "gid") that this process's namespace
// maps; 0 if that cannot be told.
func Last(kind string) uint32 {
	b, _ := os.ReadFile("/proc/self/" + kind + "_map")
	last := uint64(0)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 {
			first, _ := strconv.ParseUint(f[0], 10, 32)
			size, _ := strconv.ParseUint(f[2], 10, 32)
			last = max(last, first+size-1)
		}
	}
	return uint32(last)
}
