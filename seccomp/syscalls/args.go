package syscalls

import "strings"

// Arg is one argument of a system call, as the kernel declares it: "int" and
// "fd", "const char *" and "pathname".
type Arg struct{ Type, Name string }

// How the kernel reads an argument: two bits for each in an element of shapes,
// whose upper four bits are the number of arguments.
const (
	readWord = iota // 64 bits, or 32 on ABIs of 32 bits
	read32
	read16
	readPair // 64 bits, in two arguments on ABIs of 32 bits

	unknownArgs = 15 // as the number of arguments
)

// Args returns the arguments of the call on a. It is false where a lacks the
// call or they are not known.
//
// Types are those of the kernel for 64 bits. Where a is of 32 bits, an argument
// of 64 bits is two, as programs pass it: of type "u32", named "offset_lo" and
// "offset_hi" in the order of a, and after one named "pad" where a's calling
// convention leaves a register out. That can make more than the six arguments
// that filters see.
func (c Call) Args(a Arch) ([]Arg, bool) {
	sig := c.signature(a)
	if sig == 0 {
		return nil, false
	}
	list := make([]Arg, 0, 8)
	for i, p := range params[starts[sig]:][:shapes[sig]>>12] {
		text := paramText[paramEnd[p]:paramEnd[p+1]]
		at := strings.LastIndexByte(text, ' ')
		arg := Arg{text[:at], text[at+1:]}
		if shapes[sig]>>(2*i)&3 == readPair && a.registers() == 32 {
			list = a.split(list, arg.Name)
		} else {
			list = append(list, arg)
		}
	}
	return list, true
}

// split appends the two halves of an argument of 64 bits.
func (a Arch) split(list []Arg, name string) []Arg {
	if a.aligns() && len(list)%2 == 1 {
		list = append(list, Arg{"u32", "pad"})
	}
	low, high := Arg{"u32", name + "_lo"}, Arg{"u32", name + "_hi"}
	if a.BigEndian() {
		low, high = high, low
	}
	return append(list, low, high)
}

// aligns reports whether an argument of two registers starts at an even one.
func (a Arch) aligns() bool { return a == ARM || a == MIPS || a == MIPSEL || a == PPC }

// NArgs returns how many arguments the call takes on a. It is false where
// [Call.Args] is.
func (c Call) NArgs(a Arch) (int, bool) {
	sig := c.signature(a)
	if sig == 0 {
		return 0, false
	}
	n := 0
	for i := range shapes[sig] >> 12 {
		if shapes[sig]>>(2*i)&3 == readPair && a.registers() == 32 {
			if a.aligns() {
				n += n % 2
			}
			n++
		}
		n++
	}
	return n, true
}

// Width returns how many low bits of an argument, from 0 on, the kernel looks
// at: 16, 32 or 64. A condition on more bits can be evaded, or refuses what the
// kernel takes for the same. Where a lacks the call, its arguments are not
// known, or it has no such one, the width is that of the registers: 64 bits on
// ABIs of 64 bits, x32 and MIPS N32, else 32.
//
// Widths are those of Linux 6.18, for the number of [Call.Number]. The number of
// [Call.Alias] runs the call of [X86_64], with its widths. Before Linux 5.11,
// x32 and MIPS N32 looked at 32 bits of some longs, of readv for example, of
// which they look at 64 since.
func (c Call) Width(a Arch, index int) uint8 {
	full := a.registers()
	shape := shapes[c.signature(a)]
	if uint(index) >= uint(shape>>12) || shape>>12 == unknownArgs {
		return full
	}
	switch shape >> (2 * index) & 3 {
	case read32:
		return 32
	case read16:
		return 16
	}
	return full
}

// signature returns the index in shapes and starts of the arguments of the
// call, and 0 where they are not known.
func (c Call) signature(a Arch) uint16 {
	t := a.table()
	if t == tableNone || c == 0 || int(c) > len(names) {
		return 0
	}
	return variants[uint32(firstVariant[c-1])+pickVariant[c-1]>>(2*uint(t))&3]
}

// registers returns the bits of an argument that the kernel shows to filters.
// x32 and MIPS N32 pass arguments in registers of 64 bits.
func (a Arch) registers() uint8 {
	switch {
	case a.Is64(), a == X32, a == MIPS64N32, a == MIPSEL64N32:
		return 64
	}
	return 32
}
