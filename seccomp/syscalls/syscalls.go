// Package syscalls has the names and numbers of Linux system calls: tables for
// x86-64, i386 and x32, and the names alone for every other architecture, so
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
const tables = 3

// Call is a system call by its name. The zero Call is none.
type Call struct{ index uint16 } // one more than the index in names

// Find returns the system call that has the name on some architecture.
func Find(name string) (Call, bool) {
	i, ok := slices.BinarySearch(names[:], name)
	if !ok {
		return Call{}, false
	}
	return Call{uint16(i + 1)}, true
}

// Name returns the name of the call, such as "openat".
func (c Call) Name() string { return names[c.index-1] }

// Number returns the number of the call on a, with [X32Bit] for x32. It is
// false where a lacks the call or has no table.
func (c Call) Number(a Arch) (uint32, bool) {
	if a >= tables {
		return 0, false
	}
	n := numbers[c.index-1][a]
	if n < 0 {
		return 0, false
	}
	return uint32(n) | a.Bit(), true
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
	if a.Bit() != 0 {
		if nr&X32Bit == 0 {
			return "", false
		}
		nr &^= X32Bit
	}
	table := a.table()
	if uint64(nr) >= uint64(len(table)) || table[nr] == 0 {
		return "", false
	}
	return names[table[nr]-1], true
}

// All yields the calls of a in the order of their numbers.
func All(a Arch) iter.Seq2[uint32, string] {
	return func(yield func(uint32, string) bool) {
		for n, index := range a.table() {
			if index != 0 && !yield(uint32(n)|a.Bit(), names[index-1]) {
				return
			}
		}
	}
}

// Limit returns a number above those of all calls of a, without [X32Bit], or 0
// for an architecture without a table.
func Limit(a Arch) int { return len(a.table()) }

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

// table returns, by number, one more than the index in names, or 0.
func (a Arch) table() []uint16 {
	switch a {
	case X86_64:
		return x86_64[:]
	case I386:
		return i386[:]
	case X32:
		return x32[:]
	}
	return nil
}
