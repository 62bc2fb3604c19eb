// Package inside is the stage of a container's start that runs inside it: from
// the clone into new namespaces up to the execve of the user's program.
//
// It owns two things. The first is Program: a flat list of system calls, with
// their arguments, built beforehand by package runtime and carried as plain
// bytes. The second is the interpreter that performs it in a freshly cloned
// process.
//
// The clone is a plain fork of a multi-threaded Go process, so the child has
// one thread and no working Go runtime: no scheduler, no garbage collector, no
// growing stack. Nothing here allocates, calls the runtime, or takes a lock
// after the clone; every function of that path is nosplit, and what it touches
// lives in a shared mapping that the runtime does not know. That is what lets
// pure Go join mount and user namespaces (they refuse multi-threaded
// processes), and what makes the seccomp filter the very last step: between
// loading it and execve the child makes no system call at all.
//
// The package knows neither OCI nor containers: it does what the list says.
// It imports only syscall and unsafe, because the monitor that uses it must
// boot in a fraction of a millisecond.
package inside

import "unsafe"

// Op is one step of a Program: a system call, or a pseudo operation (Nr >=
// PseudoBase). Arguments are immediate values, registers, or offsets into the
// program's bytes that become addresses when the program is mapped.
type Op struct {
	Nr   uint32   // system call number, or a pseudo operation
	Tag  uint32   // index of the message that describes this step on failure
	Arg  [6]int64 // values, register numbers or offsets, by Kind
	Kind [6]uint8 // Imm, Reg or Ptr, for each Arg
	Dst  uint8    // register for the result, plus one; 0 keeps nothing
	NErr uint8    // how many of Err are in use
	Err  [6]ErrRule
}

// ErrRule says what an expected error of a step means: continue Jump steps
// after the next one (0: ignore the error, go on with the next step).
type ErrRule struct {
	Errno uint16 // AnyErrno matches each
	Jump  int16
}

// AnyErrno in an ErrRule matches every error.
const AnyErrno = 0xffff

// Argument kinds.
const (
	Imm = iota // the value itself
	Reg        // the content of register Arg
	Ptr        // the address of the program's byte Arg
)

// PseudoBase is the first number that is not a system call.
const PseudoBase = 1 << 20

// Pseudo operations. They touch only memory, so they need no rights and
// survive any filter.
const (
	Jump       = PseudoBase + iota // continue Arg[0] steps after the next one
	Expect                         // fail with errno Arg[2] unless Arg[0] == Arg[1]
	ExpectByte                     // fail with errno Arg[2] unless the byte at Arg[0] == Arg[1]
	Set                            // Dst = Arg[0]
	FailIf                         // fail with errno Arg[2] if Arg[0] == Arg[1]
	Stage                          // publish progress Arg[0] for the parent
	Store32                        // write Arg[1] as 32 bits to the address Arg[0]
	Fork                           // go on in a sibling made with the CLONE_NEW* flags Arg[0]; its ID goes to RegChild
	Hold                           // wait for Release, in memory alone; fail with errno Arg[2] if it never comes
)

// Registers that the parent presets with its own descriptors.
const (
	RegStdin  = iota // becomes descriptor 0
	RegStdout        // becomes descriptor 1
	RegStderr        // becomes descriptor 2
	RegDone          // the child's end of the line to its parent, close-on-exec: its end of file tells of the execve
	RegChild         // set by Fork: process ID of the sibling, as its parent sees it
	regFirst         // first that NewReg gives
)

// Registers is the number of 64-bit registers of a program.
const Registers = 256

// header stands at offset 0 of a program's bytes.
type header struct {
	magic  uint64
	nops   uint32
	opsOff uint32
	nreloc uint32
	relOff uint32 // offsets of 64-bit words that hold offsets and must become addresses

	// Written by the child, read by the parent: the only report of a failure,
	// because a loaded filter may forbid write and exit alike.
	failed  uint32
	failTag uint32
	failErr uint32
	failPC  uint32
	stage   uint32
	retries uint32
	release uint32 // written by the parent: ends Hold
	hangup  uint32 // the parent's end of the line, plus one, for the child to close; 0: none

	regs [Registers]uint64
}

const magic = 0x31474f5250474952 // "RIGPROG1"

const (
	headerSize = int(unsafe.Sizeof(header{}))
	opSize     = int(unsafe.Sizeof(Op{}))
)

// Builder assembles a Program.
type Builder struct {
	ops  []Op
	data []byte
	rel  []uint32 // data offsets that hold data offsets
	Tags []string // messages, indexed by Op.Tag
	tag  uint32
	next uint8
}

// What names the steps that follow, for errors: "mount proc on /proc".
func (b *Builder) What(msg string) {
	b.Tags = append(b.Tags, msg)
	b.tag = uint32(len(b.Tags) - 1)
}

// NewBuilder starts an empty program.
func NewBuilder() *Builder { return &Builder{next: regFirst} }

// NewReg reserves a register.
func (b *Builder) NewReg() uint8 {
	if int(b.next) == Registers-1 {
		// A program of this size has hundreds of simultaneous descriptors: the
		// caller bounds its mounts long before.
		panic("inside: out of registers")
	}
	b.next++
	return b.next - 1
}

// Arg is one argument of a step.
type Arg struct {
	kind uint8
	val  int64
}

// V is an immediate value.
func V[T ~int | ~int32 | ~int64 | ~uint | ~uint8 | ~uint32 | ~uint64 | ~uintptr](v T) Arg {
	return Arg{Imm, int64(v)}
}

// R is the content of register r.
func R(r uint8) Arg { return Arg{Reg, int64(r)} }

// P is the address of data placed by Bytes, Str or Strs.
func P(off uint32) Arg { return Arg{Ptr, int64(off)} }

// Str places a NUL-terminated string and returns its address.
func (b *Builder) Str(s string) Arg {
	off := len(b.data)
	b.data = append(b.data, s...)
	b.data = append(b.data, 0)
	return P(uint32(off))
}

// Bytes places bytes, aligned to 8, and returns their address.
func (b *Builder) Bytes(p []byte) Arg {
	b.align()
	off := len(b.data)
	b.data = append(b.data, p...)
	return P(uint32(off))
}

// Words places 64-bit words in host byte order.
func (b *Builder) Words(w ...uint64) Arg {
	b.align()
	off := len(b.data)
	for _, v := range w {
		b.data = append(b.data, (*[8]byte)(unsafe.Pointer(&v))[:]...)
	}
	return P(uint32(off))
}

// Strs places a NULL-terminated array of strings, as argv and envp are.
func (b *Builder) Strs(list []string) Arg {
	addrs := make([]uint64, 0, len(list)+1)
	for _, s := range list {
		addrs = append(addrs, uint64(b.Str(s).val))
	}
	a := b.Words(append(addrs, 0)...)
	for i := range list {
		b.rel = append(b.rel, uint32(a.val)+uint32(8*i))
	}
	return a
}

// Offset is the offset of a placed block, for a word that Relocate will make
// an address.
func (b *Builder) Offset(a Arg) uint64 { return uint64(a.val) }

// Relocate marks the word at byte offset into the block at a as an address.
func (b *Builder) Relocate(a Arg, offset int) {
	b.rel = append(b.rel, uint32(a.val)+uint32(offset))
}

func (b *Builder) align() {
	for len(b.data)%8 != 0 {
		b.data = append(b.data, 0)
	}
}

// Step is a handle to an emitted operation, to say more about it.
type Step struct {
	b *Builder
	i int
}

// Call emits system call nr.
func (b *Builder) Call(nr int, args ...Arg) Step { return b.emit(uint32(nr), args) }

// Pseudo emits a pseudo operation.
func (b *Builder) Pseudo(nr uint32, args ...Arg) Step { return b.emit(nr, args) }

func (b *Builder) emit(nr uint32, args []Arg) Step {
	op := Op{Nr: nr, Tag: b.tag}
	for i, a := range args {
		op.Kind[i], op.Arg[i] = a.kind, a.val
	}
	b.ops = append(b.ops, op)
	return Step{b, len(b.ops) - 1}
}

// To keeps the result in register r.
func (s Step) To(r uint8) Step {
	s.b.ops[s.i].Dst = r + 1
	return s
}

// On adds a rule for an expected error: skip n of the steps that follow.
func (s Step) On(errno uint16, n int) Step {
	op := &s.b.ops[s.i]
	op.Err[op.NErr] = ErrRule{errno, int16(n)}
	op.NErr++
	return s
}

// Land makes the pending rules (see Later) of the given steps, and those of
// them that are Jumps, continue at the next step to be emitted.
func (b *Builder) Land(steps ...Step) {
	here := len(b.ops)
	for _, s := range steps {
		op := &b.ops[s.i]
		if op.Nr == Jump {
			op.Arg[0] = int64(here - s.i - 1)
			continue
		}
		for i := range op.Err[:op.NErr] {
			if op.Err[i].Jump == pending {
				op.Err[i].Jump = int16(here - s.i - 1)
			}
		}
	}
}

const pending = -32768

// Later adds a rule for an expected error whose target a later Land sets.
func (s Step) Later(errno uint16) Step { return s.On(errno, pending) }

// Len is the number of steps so far.
func (b *Builder) Len() int { return len(b.ops) }

// Assemble lays the program out as bytes. The result is position independent until Map.
func (b *Builder) Assemble() []byte {
	opsOff := headerSize
	relOff := opsOff + len(b.ops)*opSize
	dataOff := (relOff + 4*len(b.rel) + 7) &^ 7
	out := make([]byte, dataOff+len(b.data))
	h := (*header)(unsafe.Pointer(&out[0]))
	h.magic, h.nops, h.opsOff = magic, uint32(len(b.ops)), uint32(opsOff)
	h.nreloc, h.relOff = uint32(len(b.rel)), uint32(relOff)
	copy(out[dataOff:], b.data)
	for i, op := range b.ops {
		for j := range op.Kind {
			if op.Kind[j] == Ptr {
				op.Arg[j] += int64(dataOff)
			}
		}
		*(*Op)(unsafe.Pointer(&out[opsOff+i*opSize])) = op
	}
	for i, r := range b.rel {
		at := uint32(dataOff) + r
		*(*uint32)(unsafe.Pointer(&out[relOff+4*i])) = at
		*(*uint64)(unsafe.Pointer(&out[at])) += uint64(dataOff)
	}
	return out
}
