// Package syscalls has the names and numbers of Linux system calls: tables for
// x86-64, i386, x32, arm and arm64, and the names alone for every other architecture, so
// that a name which exists elsewhere can be told from a misspelt one.
//
// The tables need no work at start-up. They are generated; see gen.go.
package syscalls

import (
	"iter"
	"slices"
	"strings"

	"github.com/brig-run/brig/internal/nearest"
)

//go:generate go run gen.go

// X32Bit marks the number of an x32 call. x32 programs enter the kernel as
// x86-64 ones do, and seccomp sees the architecture x86-64 with this bit in
// the number (__X32_SYSCALL_BIT in arch/x86/include/uapi/asm/unistd.h).
const X32Bit = 1 << 30

// tables is the number of architectures that have a table: the first ones of
// the list of [Arch].
const tables = 5

// arm's private calls are numbered from armPrivate on and stand in the table
// from armSlot on.
const (
	armPrivate = 0x0f0001
	armSlot    = 512
)

// Call is a system call by its name. Its value means nothing outside of this
// build of the package. The zero Call is none.
type Call uint16 // one more than the index in names

// Find returns the system call that has the name on some architecture.
func Find(name string) (Call, bool) {
	i, ok := slices.BinarySearch(names[:], name)
	if !ok {
		return 0, false
	}
	return Call(i + 1), true
}

// Name returns the name of the call, such as "openat", or "" for none.
func (c Call) Name() string {
	if c == 0 || int(c) > len(names) {
		return ""
	}
	return names[c-1]
}

// Number returns the number of the call on a, with [X32Bit] for x32. It is
// false where a lacks the call or has no table.
func (c Call) Number(a Arch) (uint32, bool) {
	if a >= tables || c == 0 || int(c) > len(names) {
		return 0, false
	}
	slot := numbers[c-1][a]
	if slot < 0 {
		return 0, false
	}
	return a.number(uint32(slot)), true
}

// number returns the number of the call at a place of a's table.
func (a Arch) number(slot uint32) uint32 {
	if a == ARM && slot >= armSlot {
		return armPrivate + slot - armSlot
	}
	return slot | a.Bit()
}

// slot returns the place of a number in a's table, which may be beyond its end.
func (a Arch) slot(nr uint32) uint32 {
	switch {
	case a == X32:
		return nr ^ X32Bit // without the bit: beyond the end
	case a == ARM && nr >= armPrivate:
		return nr - armPrivate + armSlot
	case a == ARM && nr >= armSlot:
		return 1 << 31
	}
	return nr
}

// Number returns the number of the named call on a; see [Call.Number].
func Number(a Arch, name string) (uint32, bool) {
	c, ok := Find(name)
	if !ok {
		return 0, false
	}
	return c.Number(a)
}

// Name returns the name of call number nr on a, where the numbers of x32 have
// [X32Bit].
func Name(a Arch, nr uint32) (string, bool) {
	table, slot := a.table(), a.slot(nr)
	if uint64(slot) >= uint64(len(table)) || table[slot] == 0 {
		return "", false
	}
	return names[table[slot]-1], true
}

// All yields the calls of a in the order of their numbers.
func All(a Arch) iter.Seq2[uint32, string] {
	return func(yield func(uint32, string) bool) {
		for slot, index := range a.table() {
			if index != 0 && !yield(a.number(uint32(slot)), names[index-1]) {
				return
			}
		}
	}
}

// Known reports whether name is a system call on any Linux architecture.
func Known(name string) bool {
	_, ok := Find(name)
	return ok
}

// Nearest returns the known name that a misspelt one most likely means, or "".
func Nearest(name string) string {
	name = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(name)), "sys_")
	return nearest.Name(name, slices.Values(names[:]))
}

// Bit returns what marks the numbers of a: [X32Bit] or 0.
func (a Arch) Bit() uint32 {
	if a == X32 {
		return X32Bit
	}
	return 0
}

// table returns, by place, one more than the index in names, or 0.
func (a Arch) table() []uint16 {
	switch a {
	case X86_64:
		return x86_64[:]
	case I386:
		return i386[:]
	case X32:
		return x32[:]
	case ARM:
		return arm[:]
	case AARCH64:
		return aarch64[:]
	}
	return nil
}
