package syscalls

// Arg is one argument of a system call, as the kernel declares it: "int" and
// "fd", "const char *" and "pathname".
type Arg struct{ Type, Name string }

// Args returns the arguments of the call on a. It is false where they are not
// known.
func (c Call) Args(a Arch) ([]Arg, bool) { return nil, false }

// NArgs returns how many arguments the call takes on a. It is false where that
// is not known.
func (c Call) NArgs(a Arch) (int, bool) { return 0, false }

// Width returns how many low bits of an argument (from 0 on) the kernel looks
// at: 16, 32 or 64. Where that is not known, or the call takes no such
// argument, it is the whole register.
func (c Call) Width(a Arch, index int) uint8 { return a.registers() }

// registers returns the bits of an argument that the kernel shows to filters.
// x32 and MIPS N32 pass arguments in registers of 64 bits.
func (a Arch) registers() uint8 {
	switch {
	case a.Is64(), a == X32, a == MIPS64N32, a == MIPSEL64N32:
		return 64
	}
	return 32
}
