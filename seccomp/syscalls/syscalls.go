// Package syscalls has the names and numbers of Linux system calls and the
// types of their arguments: tables for all architectures that Linux containers
// run on, and the names alone for the others, so that a name which exists
// elsewhere can be told from a misspelt one.
//
// The tables need no work at start-up. They are generated; see gen.go.
package syscalls

import (
	"iter"
	"slices"
	"strings"

	"github.com/brig-run/brig/internal/nearest"
)

//go:generate go run gen.go genargs.go

// X32Bit marks the number of an x32 call. x32 programs enter the kernel as
// x86-64 ones do, and seccomp sees the architecture x86-64 with this bit in
// the number (__X32_SYSCALL_BIT in arch/x86/include/uapi/asm/unistd.h).
const X32Bit = 1 << 30

// MaxSlots is above every slot; see [Call.Slot].
const MaxSlots = 576

// table is a set of numbers. None is not in the generated ones.
type table int8

const (
	tableNone table = iota - 1
	tableX86_64
	tableI386
	tableX32
	tableARM
	tableAARCH64
	tableLOONGARCH64
	tableMIPS
	tableMIPS64
	tableMIPS64N32
	tablePPC
	tablePPC64
	tableRISCV64
	tableS390
	tableS390X

	tables = iota - 1
)

// arm's private calls are numbered from armPrivate on and have the slots from
// armSlot on.
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

// Number returns the number of the call on a, with [X32Bit] for x32 and the
// base of its ABI (4000, 5000 or 6000) for MIPS. It is false where a lacks the
// call or has no table.
func (c Call) Number(a Arch) (uint32, bool) {
	slot, ok := c.Slot(a)
	if !ok {
		return 0, false
	}
	return a.Number(slot), true
}

// Slot returns a small number that stands for the number of the call on a: it
// is below [MaxSlots], and slots are in the order of the numbers. It is false
// where [Call.Number] is.
func (c Call) Slot(a Arch) (uint32, bool) {
	t := a.table()
	if t == tableNone || c == 0 || int(c) > len(names) {
		return 0, false
	}
	slot := slots[c-1][t]
	return uint32(max(slot, 0)), slot >= 0
}

// Alias returns a second number by which a call of x32 can be reached: that of
// x86-64 with [X32Bit], for a call that has another number on x32 or that x32
// lacks. Kernels before 5.4 run x86-64's own call then, later ones none: see
// arch/x86/entry/syscalls/syscall_64.tbl and Linux commit 6365b842aae4. It is
// false for every other call and architecture.
func (c Call) Alias(a Arch) (uint32, bool) {
	slot, ok := c.AliasSlot(a)
	if !ok {
		return 0, false
	}
	return a.Number(slot), true
}

// AliasSlot returns the slot of the number of [Call.Alias].
func (c Call) AliasSlot(a Arch) (uint32, bool) {
	if a != X32 {
		return 0, false
	}
	own, has := c.Slot(X32)
	native, ok := c.Slot(X86_64)
	if !ok || has && own == native {
		return 0, false
	}
	return native, true
}

// Number returns the number that a slot of a stands for, whether a call has it
// or not.
func (a Arch) Number(slot uint32) uint32 {
	if a == ARM && slot >= armSlot {
		return armPrivate + slot - armSlot
	}
	return slot + a.base()
}

// base returns the number of slot 0.
func (a Arch) base() uint32 {
	switch a {
	case X32:
		return X32Bit
	case MIPS, MIPSEL:
		return 4000
	case MIPS64, MIPSEL64:
		return 5000
	case MIPS64N32, MIPSEL64N32:
		return 6000
	}
	return 0
}

// slot returns the slot of a number, which may be beyond the end of the table.
func (a Arch) slot(nr uint32) uint32 {
	switch {
	case a == ARM && nr >= armPrivate:
		return nr - armPrivate + armSlot
	case a == ARM && nr >= armSlot:
		return 1 << 31
	}
	return nr - a.base() // lower numbers: beyond the end
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
// [X32Bit]. On x32, [Call.Alias] is a number of the call, too.
func Name(a Arch, nr uint32) (string, bool) {
	calls, slot := a.calls(), a.slot(nr)
	if uint64(slot) >= uint64(len(calls)) || calls[slot] == 0 {
		return "", false
	}
	return calls[slot].Name(), true
}

// All yields the calls of a by their numbers, as [Call.Number] has them, in
// the order of these.
func All(a Arch) iter.Seq2[uint32, string] {
	return func(yield func(uint32, string) bool) {
		for slot, c := range a.calls() {
			if own, ok := c.Slot(a); !ok || own != uint32(slot) {
				continue // no call, or an alias
			}
			if !yield(a.Number(uint32(slot)), c.Name()) {
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

// calls returns the calls of a by their slots, with aliases.
func (a Arch) calls() []Call {
	t := a.table()
	if t == tableNone {
		return nil
	}
	return bySlot[t]
}
