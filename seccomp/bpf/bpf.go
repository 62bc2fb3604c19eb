// Package bpf has classic BPF programs as seccomp uses them: the instruction,
// the kernel's checks before it accepts a filter, an interpreter that answers
// what the kernel would, and a disassembler.
//
// It knows neither profiles nor system calls. Sources: Linux
// include/uapi/linux/{bpf_common,filter,seccomp}.h for the encoding,
// net/core/filter.c (bpf_check_classic) and kernel/seccomp.c
// (seccomp_check_filter, seccomp_is_const_allow) for the rules.
package bpf

// Instruction is one instruction in the layout of struct sock_filter, so that
// a slice of them can be handed to the kernel as it is.
type Instruction struct {
	Op     uint16
	JT, JF uint8
	K      uint32
}

// MaxLen is the largest number of instructions in one filter (BPF_MAXINSNS).
const MaxLen = 4096

// memWords is the size of the scratch memory (BPF_MEMWORDS).
const memWords = 16

// The opcodes that seccomp accepts. A is the accumulator, X the index
// register, K the constant of the instruction and M the scratch memory.
const (
	LdAbs = 0x20 // A = seccomp_data[K:K+4]
	LdLen = 0x80 // A = 64, the size of struct seccomp_data
	LdImm = 0x00 // A = K
	LdMem = 0x60 // A = M[K]

	LdxLen = 0x81 // X = 64
	LdxImm = 0x01 // X = K
	LdxMem = 0x61 // X = M[K]

	St  = 0x02 // M[K] = A
	Stx = 0x03 // M[K] = X

	Add  = 0x04 // A += K; with SrcX X in place of K, as for those below
	Sub  = 0x14
	Mul  = 0x24
	Div  = 0x34
	Or   = 0x44
	And  = 0x54
	Lsh  = 0x64
	Rsh  = 0x74
	Neg  = 0x84 // A = -A
	Xor  = 0xa4
	SrcX = 0x08

	Ja   = 0x05 // skip K instructions
	Jeq  = 0x15 // skip JT instructions if A == K, else JF
	Jgt  = 0x25
	Jge  = 0x35
	Jset = 0x45 // if A & K != 0

	RetK = 0x06 // return K
	RetA = 0x16 // return A

	Tax = 0x07 // X = A
	Txa = 0x87 // A = X
)

// Offsets of the fields of struct seccomp_data.
const (
	OffNr   = 0
	OffArch = 4
	OffIP   = 8
	OffArgs = 16

	dataSize = 64
)

// littleEndian is the bit of AUDIT_ARCH values that tells the order of bytes
// (__AUDIT_ARCH_LE in include/uapi/linux/audit.h).
const littleEndian = 0x40000000

// OffArg returns the offset of the low or the high word of argument n, 0 to 5,
// for an AUDIT_ARCH value, which says in what order they stand.
func OffArg(arch uint32, n int, high bool) uint32 {
	off := uint32(OffArgs + 8*n)
	if high == (arch&littleEndian != 0) {
		off += 4
	}
	return off
}

// Data is struct seccomp_data: what a filter can see of a system call. The
// order of the words in 64-bit fields follows from Arch, as on the machines.
type Data struct {
	Nr   uint32
	Arch uint32 // an AUDIT_ARCH value
	IP   uint64 // instruction pointer
	Args [6]uint64
}

// word returns the aligned 32-bit word at offset off, below [dataSize].
func (d *Data) word(off uint32) uint32 {
	switch off {
	case OffNr:
		return d.Nr
	case OffArch:
		return d.Arch
	}
	v := d.IP
	if off >= OffArgs {
		v = d.Args[(off-OffArgs)/8]
	}
	if (off%8 != 0) == (d.Arch&littleEndian != 0) {
		return uint32(v >> 32)
	}
	return uint32(v)
}
