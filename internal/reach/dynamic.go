package reach

import (
	"debug/elf"
	"strings"
)

// dynamic is the values of the dynamic section that occur once. A tag that is
// missing is 0.
type dynamic struct {
	strtab, symtab, hash, gnuHash      uint64
	rela, relaSize, jmprel, pltRelSize uint64
	relr, relrSize                     uint64
	rpath, runpath                     uint64
	arrays                             [3]span // DT_PREINIT_ARRAY, DT_INIT_ARRAY, DT_FINI_ARRAY; hi is the size
}

// readDynamic reads the dynamic section: libraries, symbols and relocations.
func (m *image) readDynamic(progs []elf.Prog64) {
	var d dynamic
	var needed []uint64
	soname := uint64(0)
	for _, p := range progs {
		if elf.ProgType(p.Type) != elf.PT_DYNAMIC {
			continue
		}
		b := m.at(p.Vaddr)
		for b = b[:min(uint64(len(b)), p.Memsz)]; len(b) >= 16; b = b[16:] {
			tag, value := elf.DynTag(order.Uint64(b)), order.Uint64(b[8:])
			if tag == elf.DT_NULL {
				break
			}
			switch tag {
			case elf.DT_NEEDED:
				needed = append(needed, value)
			case elf.DT_SONAME:
				soname = value
			case elf.DT_INIT, elf.DT_FINI:
				m.starters = append(m.starters, value)
			default:
				d.set(tag, value)
			}
		}
	}
	for _, n := range needed[:min(len(needed), maxNeeded)] {
		m.needed = append(m.needed, m.string(d.strtab+n))
	}
	if soname != 0 {
		m.soname = m.string(d.strtab + soname)
	}
	if path := d.runpath | d.rpath; path != 0 {
		if d.runpath != 0 {
			path = d.runpath
		}
		m.runpath = strings.Split(m.string(d.strtab+path), ":")
	}
	m.readDynsyms(&d)
	m.readRelocations(&d)
	for _, a := range d.arrays {
		if end := a.lo + a.hi; end > a.lo {
			m.arrays = append(m.arrays, span{a.lo, end})
		}
	}
}

func (d *dynamic) set(tag elf.DynTag, v uint64) {
	switch tag {
	case elf.DT_STRTAB:
		d.strtab = v
	case elf.DT_SYMTAB:
		d.symtab = v
	case elf.DT_HASH:
		d.hash = v
	case elf.DT_GNU_HASH:
		d.gnuHash = v
	case elf.DT_RELA:
		d.rela = v
	case elf.DT_RELASZ:
		d.relaSize = v
	case elf.DT_JMPREL:
		d.jmprel = v
	case elf.DT_PLTRELSZ:
		d.pltRelSize = v
	case dtRELR:
		d.relr = v
	case dtRELRSZ:
		d.relrSize = v
	case elf.DT_RPATH:
		d.rpath = v
	case elf.DT_RUNPATH:
		d.runpath = v
	case elf.DT_PREINIT_ARRAY:
		d.arrays[0].lo = v
	case elf.DT_PREINIT_ARRAYSZ:
		d.arrays[0].hi = v
	case elf.DT_INIT_ARRAY:
		d.arrays[1].lo = v
	case elf.DT_INIT_ARRAYSZ:
		d.arrays[1].hi = v
	case elf.DT_FINI_ARRAY:
		d.arrays[2].lo = v
	case elf.DT_FINI_ARRAYSZ:
		d.arrays[2].hi = v
	}
}

// Tags of the compact form of relative relocations, which debug/elf lacks.
const (
	dtRELRSZ elf.DynTag = 35
	dtRELR   elf.DynTag = 36
)

// readDynsyms reads the dynamic symbols. The file does not say how many there
// are: the hash tables do.
func (m *image) readDynsyms(d *dynamic) {
	n := uint64(0)
	if d.hash != 0 {
		if b := m.bytes(d.hash, 8); b != nil {
			n = uint64(order.Uint32(b[4:]))
		}
	} else if d.gnuHash != 0 {
		n = m.gnuHashSymbols(d.gnuHash)
	}
	if d.strtab > d.symtab { // the usual order; imports are not in a GNU hash table
		n = max(n, (d.strtab-d.symtab)/24)
	}
	table := m.at(d.symtab)
	if d.symtab == 0 || table == nil {
		return
	}
	table = table[:min(uint64(len(table)), n*24, maxTable)]
	names := m.at(d.strtab)
	m.dynsyms = readSymbols(table, names[:min(len(names), maxTable)], false)
}

// gnuHashSymbols returns one more than the last index in a GNU hash table: a
// header of four words, a filter, buckets with first indices, and chains whose
// last has bit 0 set.
func (m *image) gnuHashSymbols(addr uint64) uint64 {
	h := m.bytes(addr, 16)
	if h == nil {
		return 0
	}
	buckets, first, words := uint64(order.Uint32(h)), uint64(order.Uint32(h[4:])), uint64(order.Uint32(h[8:]))
	at := addr + 16 + words*8
	table := m.bytes(at, buckets*4)
	last := uint64(0)
	for ; len(table) >= 4; table = table[4:] {
		last = max(last, uint64(order.Uint32(table)))
	}
	if last < first {
		return first
	}
	chain := m.at(at + buckets*4 + (last-first)*4)
	for ; len(chain) >= 4; chain = chain[4:] {
		last++
		if order.Uint32(chain)&1 != 0 {
			break
		}
	}
	return last
}

func (m *image) readRelocations(d *dynamic) {
	m.readRela(m.at(d.rela), d.relaSize)
	m.readRela(m.at(d.jmprel), d.pltRelSize)
	m.readRelr(m.at(d.relr), d.relrSize)
	for _, s := range m.sections { // a static program has no dynamic section
		if d.jmprel == 0 && d.rela == 0 && strings.HasPrefix(s.name, ".rela.") {
			m.readRela(m.at(s.lo), s.hi-s.lo)
		}
	}
}

func (m *image) readRela(b []byte, size uint64) {
	for b = b[:min(uint64(len(b)), size)]; len(b) >= 24; b = b[24:] {
		info := order.Uint64(b[8:])
		r := relocation{order.Uint64(b), order.Uint64(b[16:]), uint32(info >> 32), elf.R_X86_64(uint32(info))}
		if uint64(r.sym) >= uint64(len(m.dynsyms)) {
			r.sym = 0
		}
		m.relocs = append(m.relocs, r)
	}
}

// readRelr reads relative relocations in the compact form: an even word is the
// place of one, an odd one a bitmap of the 63 words that follow. Their addends
// are in the places.
func (m *image) readRelr(b []byte, size uint64) {
	next := uint64(0)
	add := func(at uint64) {
		if v, ok := m.word(at); ok {
			m.relocs = append(m.relocs, relocation{at: at, addend: v, kind: elf.R_X86_64_RELATIVE})
		}
	}
	for b = b[:min(uint64(len(b)), size)]; len(b) >= 8; b = b[8:] {
		w := order.Uint64(b)
		if w&1 == 0 {
			add(w)
			next = w + 8
			continue
		}
		for i := uint64(0); i < 63; i++ {
			if w>>(i+1)&1 != 0 {
				add(next + i*8)
			}
		}
		next += 63 * 8
	}
}
