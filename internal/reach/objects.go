package reach

import (
	"cmp"
	"debug/elf"
	"slices"
	"sort"
	"strings"
)

// dataWord is a word in data that has the address of code, of other data or of
// an imported symbol.
type dataWord struct {
	at, to   uint64
	sym      uint32
	isImport bool
}

// readWords returns the words in data that lead on.
func (m *image) readWords() []dataWord {
	var out []dataWord
	for _, r := range m.relocs {
		switch r.kind {
		case elf.R_X86_64_RELATIVE:
			if !m.inGOT(r.at) {
				out = append(out, dataWord{at: r.at, to: r.addend})
			}
		case elf.R_X86_64_IRELATIVE:
			out = append(out, dataWord{at: r.at, to: r.addend})
		case elf.R_X86_64_64:
			out = append(out, dataWord{at: r.at, sym: r.sym, isImport: true})
		}
	}
	if m.fixed {
		out = m.scanWords(out)
	}
	slices.SortFunc(out, func(a, b dataWord) int { return cmp.Compare(a.at, b.at) })
	return out
}

// inGOT reports whether a word is in the global offset table, which code uses
// word by word.
func (m *image) inGOT(addr uint64) bool { return m.got.has(addr) }

// scanWords appends what in a file with final addresses, which has no
// relocations to tell, looks like an address.
func (m *image) scanWords(out []dataWord) []dataWord {
	for _, s := range m.dataSpans() {
		lo := (s.lo + 7) &^ 7
		b := m.at(lo)
		if b == nil || s.hi < lo {
			continue
		}
		b = b[:min(uint64(len(b)), s.hi-lo)]
		for at := lo; len(b) >= 8; b, at = b[8:], at+8 {
			v := order.Uint64(b)
			if v < m.segments[0].lo || !m.mapped(v) {
				continue
			}
			if _, ok := m.relocationAt(at); !ok {
				out = append(out, dataWord{at: at, to: v})
			}
		}
	}
	return out
}

// dataSpans returns where a program can have pointers: its sections of data,
// without those that are for the linker, else its segments without code.
func (m *image) dataSpans() []span {
	var out []span
	for _, s := range m.sections {
		if s.flags&elf.SHF_EXECINSTR == 0 && !forLinker(s.name) {
			out = append(out, s.span)
		}
	}
	if len(m.sections) > 0 {
		return out
	}
	for _, s := range m.segments {
		if !s.exec {
			out = append(out, s.span)
		}
	}
	return out
}

func forLinker(name string) bool {
	for _, p := range []string{".dyn", ".gnu", ".eh_frame", ".note", ".rela.dyn", ".gcc_except", ".hash", ".got.plt"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return strings.HasSuffix(name, "pclntab")
}

// findObjects cuts data into objects: what code can get at when it has the
// address of one place in it. Symbols say where they are. In a file without,
// an object begins where code or data lead if that looks like the start of one
// (see startsObject). Else what lies side by side is one object.
func (c *codeMap) findObjects(events []event) {
	var used []uint64
	for _, e := range events {
		if e.kind == eventData {
			used = append(used, e.to)
		}
	}
	for _, w := range c.words {
		if !w.isImport && !c.isCode(w.to) {
			used = append(used, w.to)
		}
	}
	for _, r := range c.relocs {
		if r.kind == elf.R_X86_64_RELATIVE && c.inGOT(r.at) && !c.isCode(r.addend) {
			used = append(used, r.addend)
		}
	}
	slices.Sort(used)
	used = slices.Compact(used)
	c.used = used
	whole, ends := c.objectSymbols()
	for _, s := range c.dataSpans() {
		c.objects = append(c.objects, s.lo)
	}
	c.objects = append(c.objects, ends...)
	for _, a := range used {
		if i, ok := find(whole, a); ok && whole[i].lo != a {
			continue
		}
		if c.startsObject(a) {
			c.objects = append(c.objects, a)
		}
	}
	slices.Sort(c.objects)
	c.objects = slices.Compact(c.objects)
	c.findRoots(used, whole)
}

// objectSymbols returns the objects that symbols name, and their starts and ends.
func (c *codeMap) objectSymbols() ([]span, []uint64) {
	var whole []span
	for _, table := range [][]symbol{c.dynsyms, c.symtab} {
		for _, s := range table {
			if s.defined && s.kind == elf.STT_OBJECT && s.size > 0 && s.addr+s.size > s.addr {
				whole = append(whole, span{s.addr, s.addr + s.size})
			}
		}
	}
	slices.SortFunc(whole, func(a, b span) int { return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(b.hi, a.hi)) })
	var ends []uint64
	out := whole[:0]
	for _, s := range whole { // symbols in symbols count as part of the outer one
		if n := len(out); n > 0 && s.lo < out[n-1].hi {
			continue
		}
		out = append(out, s)
		ends = append(ends, s.lo, s.hi)
	}
	return out, ends
}

// startsObject reports whether an address that is used looks like the start of
// an object: compilers put objects of 32 bytes and more on multiples of 32,
// and the zero before it is then the space that was left. An element of an
// array can look so, too, if it ends with a zero and its size is a multiple.
func (c *codeMap) startsObject(addr uint64) bool {
	if addr%32 != 0 {
		return false
	}
	v, ok := c.word(addr - 8)
	i := sort.Search(len(c.words), func(i int) bool { return c.words[i].at >= addr-8 })
	return ok && v == 0 && (i == len(c.words) || c.words[i].at >= addr)
}

// objectAt returns the object that has an address, or -1.
func (c *codeMap) objectAt(addr uint64) int32 {
	return int32(sort.Search(len(c.objects), func(i int) bool { return c.objects[i] > addr })) - 1
}

// wordsOf returns the words of an object.
func (c *codeMap) wordsOf(n int32) []dataWord {
	from := sort.Search(len(c.words), func(i int) bool { return c.words[i].at >= c.objects[n] })
	to := len(c.words)
	if int(n)+1 < len(c.objects) {
		to = sort.Search(len(c.words), func(i int) bool { return c.words[i].at >= c.objects[n+1] })
	}
	return c.words[from:max(from, to)]
}

// findRoots finds the objects with words that nothing in the file leads to, or
// that are used by other means: arrays of functions that the dynamic linker
// calls, and thread-local storage.
func (c *codeMap) findRoots(used []uint64, whole []span) {
	known := make([]bool, len(c.objects))
	for _, a := range used {
		if n := c.objectAt(a); n >= 0 {
			known[n] = true
		}
	}
	for _, s := range whole {
		if n := c.objectAt(s.lo); n >= 0 {
			known[n] = true
		}
	}
	for n, lo := range c.objects {
		if words := c.wordsOf(int32(n)); len(words) > 0 && (!known[n] || c.golang || c.tls.has(lo) || c.isArray(words[0].at)) {
			c.roots = append(c.roots, int32(n))
		}
	}
}

// isArray reports whether an address is in an array of functions that the
// dynamic linker calls.
func (c *codeMap) isArray(addr uint64) bool {
	return slices.ContainsFunc(c.arrays, func(s span) bool { return s.has(addr) })
}
