package reach

import (
	"debug/elf"
	"strings"
)

// readGoFunctions returns the functions of a Go program, which stripping
// leaves in: cmd/link/internal/ld/pcln.go writes, and debug/gosym reads, the
// table. It is nil for other programs and for Go before 1.18.
func (m *image) readGoFunctions() []symbol {
	var table []byte
	text := uint64(0)
	for _, s := range m.sections {
		switch {
		case strings.HasSuffix(s.name, ".gopclntab"):
			table = m.bytes(s.lo, s.hi-s.lo)
		case s.name == ".text":
			text = s.lo
		}
	}
	if len(table) < 72 || table[7] != 8 {
		return nil
	}
	if magic := order.Uint32(table); magic != 0xfffffff1 && magic != 0xfffffff0 {
		return nil
	}
	for _, s := range m.symtab { // programs with C code have that first
		if s.name == "runtime.text" {
			text = s.addr
		}
	}
	names, funcs := order.Uint64(table[32:]), order.Uint64(table[64:])
	if names >= uint64(len(table)) || funcs >= uint64(len(table)) {
		return nil
	}
	return m.goFunctions(text, order.Uint64(table[8:]), string(table[names:]), table[funcs:])
}

// goFunctions reads n pairs: the offset of a function from text, and that of
// its record in table, whose second word is the offset of its name.
func (m *image) goFunctions(text, n uint64, names string, table []byte) []symbol {
	n = min(n, uint64(len(table)/8))
	out := make([]symbol, 0, n)
	for i := range n {
		addr, at := text+uint64(order.Uint32(table[i*8:])), uint64(order.Uint32(table[i*8+4:]))
		if !m.isCode(addr) || at+8 > uint64(len(table)) {
			continue
		}
		s := symbol{addr: addr, kind: elf.STT_FUNC, defined: true}
		if name := uint64(order.Uint32(table[at+4:])); name < uint64(len(names)) {
			s.name = names[name:]
			s.name = s.name[:indexNUL(s.name)]
		}
		out = append(out, s)
	}
	return out
}
