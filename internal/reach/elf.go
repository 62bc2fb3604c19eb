package reach

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
)

// Limits on what a file may ask for. Files are not trusted.
const (
	maxSegments = 128
	maxSections = 1 << 14
	maxLoad     = 512 << 20 // bytes of all segments
	maxTable    = 64 << 20  // bytes of a symbol or string table that is not loaded
	maxNeeded   = 1024      // libraries
)

// ErrNotELF is wrapped by the error for a file that is not ELF.
var ErrNotELF = errors.New("not an ELF file")

// ErrOtherMachine is wrapped by the error for an ELF file that is not for
// x86-64, and so not analysed.
var ErrOtherMachine = errors.New("not for x86-64")

// span is the addresses from lo up to, without, hi.
type span struct{ lo, hi uint64 }

func (s span) has(addr uint64) bool { return addr >= s.lo && addr < s.hi }

// find returns the index of the span that has addr. The spans are sorted and
// do not overlap.
func find(spans []span, addr uint64) (int, bool) {
	i := sort.Search(len(spans), func(i int) bool { return spans[i].hi > addr })
	return i, i < len(spans) && spans[i].lo <= addr
}

// segment is memory that the kernel or the dynamic linker maps from a file.
type segment struct {
	span        // in the file's own addresses
	data []byte // what the file has of it, from lo on
	exec bool
}

type section struct {
	name  string
	flags elf.SectionFlag
	span
}

// symbol is a symbol of a file: undefined ones have addr 0.
type symbol struct {
	name    string
	addr    uint64
	size    uint64
	kind    elf.SymType
	defined bool
	local   bool
	weak    bool
}

// relocation is a word that the dynamic linker fills in.
type relocation struct {
	at     uint64
	addend uint64
	sym    uint32 // index in dynsyms, 0 for none
	kind   elf.R_X86_64
}

// image is an ELF file as it lies in memory.
type image struct {
	fixed    bool // ET_EXEC: addresses are final, without relocations
	entry    uint64
	interp   string
	segments []segment
	sections []section
	code     []span // where instructions are

	needed   []string
	soname   string
	runpath  []string // DT_RUNPATH, else DT_RPATH
	dynsyms  []symbol
	symtab   []symbol // functions and objects of the symbol table, if not stripped
	relocs   []relocation
	starters []uint64 // DT_INIT, DT_FINI
	arrays   []span   // of functions to call before and after main
	got      span     // section .got
	ehHeader span
	tls      span // the initial thread-local storage
}

var order = binary.LittleEndian

// readImage reads an ELF file for x86-64.
func readImage(r io.ReaderAt) (*image, error) {
	var h elf.Header64
	if err := readHeader(r, &h); err != nil {
		return nil, err
	}
	m := &image{fixed: elf.Type(h.Type) == elf.ET_EXEC, entry: h.Entry}
	progs, err := readProgs(r, &h)
	if err != nil {
		return nil, err
	}
	if err := m.load(r, progs); err != nil {
		return nil, err
	}
	m.readSections(r, &h)
	m.findCode()
	m.readDynamic(progs)
	slices.SortFunc(m.relocs, func(a, b relocation) int { return cmp.Compare(a.at, b.at) })
	return m, nil
}

// readSymbolsOnly reads the libraries and symbols that a file needs and has.
func readSymbolsOnly(r io.ReaderAt) (*image, error) {
	var h elf.Header64
	if err := readHeader(r, &h); err != nil {
		return nil, err
	}
	progs, err := readProgs(r, &h)
	if err != nil {
		return nil, err
	}
	m := &image{}
	if err := m.load(r, slices.DeleteFunc(slices.Clone(progs), func(p elf.Prog64) bool {
		return p.Flags&uint32(elf.PF_X) != 0 && p.Off > 0
	})); err != nil {
		return nil, err
	}
	m.readDynamic(progs)
	return m, nil
}

func readHeader(r io.ReaderAt, h *elf.Header64) error {
	var b [64]byte
	n, err := r.ReadAt(b[:], 0)
	if n < len(b) && err != nil && err != io.EOF {
		return fmt.Errorf("read ELF header: %w", err)
	}
	if n < 20 || !bytes.Equal(b[:4], []byte(elf.ELFMAG)) {
		return ErrNotELF
	}
	machine := elf.Machine(order.Uint16(b[18:]))
	class, data := elf.Class(b[elf.EI_CLASS]), elf.Data(b[elf.EI_DATA])
	if class != elf.ELFCLASS64 || data != elf.ELFDATA2LSB || machine != elf.EM_X86_64 {
		return fmt.Errorf("%s program of %s: %w", machine, class, ErrOtherMachine)
	}
	if n < len(b) {
		return fmt.Errorf("ELF header of %d bytes: %w", n, io.ErrUnexpectedEOF)
	}
	if err := binary.Read(bytes.NewReader(b[:]), order, h); err != nil {
		return fmt.Errorf("read ELF header: %w", err)
	}
	if t := elf.Type(h.Type); t != elf.ET_EXEC && t != elf.ET_DYN {
		return fmt.Errorf("ELF type %s: want a program or a shared library", t)
	}
	return nil
}

func readProgs(r io.ReaderAt, h *elf.Header64) ([]elf.Prog64, error) {
	if h.Phnum == 0 || h.Phnum > maxSegments || h.Phentsize != 56 {
		return nil, fmt.Errorf("%d program headers of %d bytes: want 1 to %d of 56", h.Phnum, h.Phentsize, maxSegments)
	}
	progs := make([]elf.Prog64, h.Phnum)
	b, err := readPart(r, h.Phoff, uint64(h.Phnum)*56)
	if err != nil {
		return nil, fmt.Errorf("read program headers: %w", err)
	}
	if err := binary.Read(bytes.NewReader(b), order, progs); err != nil {
		return nil, fmt.Errorf("read program headers: %w", err)
	}
	return progs, nil
}

// readPart reads n bytes at off, and allocates them only if the file has them.
func readPart(r io.ReaderAt, off, n uint64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if end := off + n; end < off || end > 1<<62 {
		return nil, fmt.Errorf("%d bytes at %#x: %w", n, off, io.ErrUnexpectedEOF)
	}
	var last [1]byte
	if k, err := r.ReadAt(last[:], int64(off+n-1)); k < 1 {
		return nil, fmt.Errorf("%d bytes at %#x: %w", n, off, noEOF(err))
	}
	b := make([]byte, n)
	if k, err := r.ReadAt(b, int64(off)); k < len(b) {
		return nil, fmt.Errorf("%d bytes at %#x: %w", n, off, noEOF(err))
	}
	return b, nil
}

func noEOF(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// load reads the segments, and the names of the interpreter and the frames.
func (m *image) load(r io.ReaderAt, progs []elf.Prog64) error {
	total := uint64(0)
	for _, p := range progs {
		s := span{p.Vaddr, p.Vaddr + p.Memsz}
		switch elf.ProgType(p.Type) {
		case elf.PT_GNU_EH_FRAME:
			m.ehHeader = s
		case elf.PT_TLS:
			m.tls = span{p.Vaddr, p.Vaddr + p.Filesz}
		case elf.PT_INTERP:
			if p.Filesz > 4096 {
				return fmt.Errorf("name of the ELF interpreter has %d bytes: want at most 4096", p.Filesz)
			}
			b, err := readPart(r, p.Off, p.Filesz)
			if err != nil {
				return fmt.Errorf("read the name of the ELF interpreter: %w", err)
			}
			m.interp = cString(b)
		case elf.PT_LOAD:
			if total += p.Filesz; p.Filesz > maxLoad || total > maxLoad {
				return fmt.Errorf("segments of more than %d MiB", maxLoad>>20)
			}
			if s.hi < s.lo || p.Filesz > p.Memsz {
				return fmt.Errorf("segment at %#x has a size of %#x, %#x in the file", p.Vaddr, p.Memsz, p.Filesz)
			}
			b, err := readPart(r, p.Off, p.Filesz)
			if err != nil {
				return fmt.Errorf("read segment: %w", err)
			}
			m.segments = append(m.segments, segment{s, b, p.Flags&uint32(elf.PF_X) != 0})
		}
	}
	slices.SortStableFunc(m.segments, func(a, b segment) int { return cmp.Compare(a.lo, b.lo) })
	return nil
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// at returns what the file has in memory from addr to the end of the segment.
func (m *image) at(addr uint64) []byte {
	for i := range m.segments {
		if s := &m.segments[i]; addr >= s.lo && addr-s.lo < uint64(len(s.data)) {
			return s.data[addr-s.lo:]
		}
	}
	return nil
}

// bytes returns n bytes of memory, or nil.
func (m *image) bytes(addr, n uint64) []byte {
	if b := m.at(addr); uint64(len(b)) >= n {
		return b[:n:n]
	}
	return nil
}

func (m *image) word(addr uint64) (uint64, bool) {
	b := m.bytes(addr, 8)
	if b == nil {
		return 0, false
	}
	return order.Uint64(b), true
}

func (m *image) string(addr uint64) string {
	b := m.at(addr)
	return cString(b[:min(len(b), 4096)])
}

// isCode reports whether an instruction can be at addr.
func (m *image) isCode(addr uint64) bool {
	_, ok := find(m.code, addr)
	return ok
}

// readSections reads section headers and the symbol table. A file needs
// neither, so faults in them are no error.
func (m *image) readSections(r io.ReaderAt, h *elf.Header64) {
	if h.Shnum == 0 || h.Shnum > maxSections || h.Shentsize != 64 || h.Shstrndx >= h.Shnum {
		return
	}
	b, err := readPart(r, h.Shoff, uint64(h.Shnum)*64)
	if err != nil {
		return
	}
	headers := make([]elf.Section64, h.Shnum)
	if binary.Read(bytes.NewReader(b), order, headers) != nil {
		return
	}
	names := readTable(r, headers[h.Shstrndx])
	for _, s := range headers {
		if flags := elf.SectionFlag(s.Flags); flags&elf.SHF_ALLOC != 0 && s.Addr+s.Size > s.Addr {
			if name := stringAt(names, s.Name); name == ".got" {
				m.got = span{s.Addr, s.Addr + s.Size}
			} else if strings.HasSuffix(name, "_array") {
				m.arrays = append(m.arrays, span{s.Addr, s.Addr + s.Size})
			}
			m.sections = append(m.sections, section{stringAt(names, s.Name), flags, span{s.Addr, s.Addr + s.Size}})
		}
		if elf.SectionType(s.Type) == elf.SHT_SYMTAB && s.Link < uint32(len(headers)) && m.symtab == nil {
			m.symtab = readSymbols(readTable(r, s), readTable(r, headers[s.Link]), true)
		}
	}
}

func readTable(r io.ReaderAt, s elf.Section64) []byte {
	if elf.SectionType(s.Type) == elf.SHT_NOBITS || s.Size > maxTable {
		return nil
	}
	b, _ := readPart(r, s.Off, s.Size)
	return b
}

func stringAt(table []byte, at uint32) string {
	if uint64(at) >= uint64(len(table)) {
		return ""
	}
	return cString(table[at:])
}

// readSymbols reads a table of symbols: all, or those with an address.
func readSymbols(table, names []byte, defined bool) []symbol {
	var symbols []symbol
	all := string(names) // names share this
	for ; len(table) >= 24; table = table[24:] {
		s := symbol{
			addr: order.Uint64(table[8:]), size: order.Uint64(table[16:]),
			kind: elf.SymType(table[4] & 15), local: table[4]>>4 == uint8(elf.STB_LOCAL), weak: table[4]>>4 == uint8(elf.STB_WEAK),
		}
		index := elf.SectionIndex(order.Uint16(table[6:]))
		s.defined = index != elf.SHN_UNDEF && index != elf.SHN_ABS
		if defined && (!s.defined || s.kind != elf.STT_FUNC && s.kind != elf.STT_GNU_IFUNC && s.kind != elf.STT_NOTYPE && s.kind != elf.STT_OBJECT) {
			continue
		}
		if at := int(order.Uint32(table)); at < len(all) {
			s.name = all[at:]
			if end := indexNUL(s.name); end >= 0 {
				s.name = s.name[:end]
			}
		}
		symbols = append(symbols, s)
	}
	return symbols
}

// indexNUL returns where the name at the start of s ends. Names have a limit,
// so that a table of symbols that all name one long string takes no long time.
func indexNUL(s string) int {
	s = s[:min(len(s), 1<<14)]
	for i := range len(s) {
		if s[i] == 0 {
			return i
		}
	}
	return len(s)
}

// findCode sets the spans of instructions: those of the sections where there
// are any, because the segments have constants among the code in many files.
func (m *image) findCode() {
	for _, s := range m.sections {
		if s.flags&elf.SHF_EXECINSTR != 0 {
			m.code = append(m.code, s.span)
		}
	}
	if m.code == nil {
		for _, s := range m.segments {
			if s.exec {
				m.code = append(m.code, s.span)
			}
		}
	}
	for i := range m.code { // what the file does not have cannot be looked at
		s := &m.code[i]
		s.hi = min(s.hi, s.lo+uint64(len(m.at(s.lo))))
	}
	m.code = disjoint(m.code)
}

// disjoint sorts spans, leaves out empty ones, and ends each where the next
// begins.
func disjoint(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(a.hi, b.hi))
	})
	out := spans[:0]
	for _, s := range spans {
		if s.hi <= s.lo {
			continue
		}
		if n := len(out); n > 0 && out[n-1].hi > s.lo {
			if out[n-1].lo == s.lo {
				out = out[:n-1]
			} else {
				out[n-1].hi = s.lo
			}
		}
		out = append(out, s)
	}
	return out
}

// symbolName returns the name of a dynamic symbol by its index, or "".
func (m *image) symbolName(index uint32) string {
	if uint64(index) >= uint64(len(m.dynsyms)) {
		return ""
	}
	return m.dynsyms[index].name
}
