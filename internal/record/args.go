package record

import "github.com/brig-run/brig/seccomp/syscalls"

// watchedArgs are the arguments whose values say what a call does, as bits.
var watchedArgs = [...]struct {
	name string
	args uint8
}{
	{"bpf", 1 << 0},
	{"clone", 1 << 0},
	{"clone3", argMemory},
	{"fcntl", 1 << 1},
	{"fcntl64", 1 << 1},
	{"ioctl", 1 << 1},
	{"ipc", 1 << 0},
	{"keyctl", 1 << 0},
	{"mmap", 1 << 2},
	{"mmap2", 1 << 2},
	{"mprotect", 1 << 2},
	{"personality", 1 << 0},
	{"pkey_mprotect", 1 << 2},
	{"prctl", 1 << 0},
	{"ptrace", 1 << 0},
	{"setsockopt", 1<<1 | 1<<2},
	{"socket", 1<<0 | 1<<1 | 1<<2},
	{"socketcall", 1 << 0},
	{"unshare", 1 << 0},
}

// abis are the ABIs of the machine, in the order of the slots.
var abis = [...]syscalls.Arch{syscalls.X86_64, syscalls.X32, syscalls.I386}

// argTable says which arguments of which slot are kept, and where.
type argTable struct {
	mask, wide [slots]uint8
	first      [slots]uint16 // the place of the first one
	places     uint32
}

func newArgTable() *argTable {
	t := &argTable{}
	for i, abi := range abis {
		for _, w := range watchedArgs {
			call, _ := syscalls.Find(w.name)
			// i386 has its arguments of mmap in memory, and mmap2 beside it.
			if nr, ok := call.Number(abi); ok && !(abi == syscalls.I386 && w.name == "mmap") {
				t.add(uint32(i)*abiSlots+nr&^abi.Bit(), call, abi, w.args)
			}
		}
	}
	return t
}

func (t *argTable) add(slot uint32, call syscalls.Call, abi syscalls.Arch, args uint8) {
	t.mask[slot] = args
	t.first[slot] = uint16(t.places)
	for index := range 6 {
		if args&(1<<index) == 0 {
			continue
		}
		t.places++
		if call.Width(abi, index) == 64 {
			t.wide[slot] |= 1 << index
		}
	}
	if args == argMemory {
		t.places++
	}
}

// WatchedArgs are the arguments of a call whose values are recorded, as bits: those
// that lie in registers and say what the call does.
func WatchedArgs(abi syscalls.Arch, name string) uint8 {
	if abi == syscalls.I386 && name == "mmap" {
		return 0 // in memory
	}
	for _, w := range watchedArgs {
		if w.name == name && w.args != argMemory {
			return w.args
		}
	}
	return 0
}
