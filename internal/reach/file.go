package reach

import (
	"debug/elf"
	"fmt"
	"io"
	"strings"
	"sync"
)

// File is an ELF file and what its code does. It is safe for use by several
// goroutines.
type File struct {
	code    *codeMap
	facts   *facts
	exports map[string][]uint64 // addresses of the functions and data it defines
	imports []string            // functions that it calls
	chunks  map[chunk][]string  // the exported names at the starts of chunks that pass numbers on
	strings func() map[string]bool

	mu    sync.Mutex
	extra map[string]*facts // by symbol and what is passed to it
}

// Scan reads an x86-64 ELF file. Errors wrap ErrNotELF or ErrOtherMachine for
// files that it is not meant for. It trusts nothing in the file, and uses
// memory and time in proportion to its size, which has a limit of 512 MiB.
func Scan(r io.ReaderAt) (*File, error) {
	m, err := readImage(r)
	if err != nil {
		return nil, err
	}
	c := mapCode(m)
	f := &File{code: c, facts: c.findFacts(), exports: map[string][]uint64{}, extra: map[string]*facts{}}
	for _, s := range m.dynsyms {
		if s.defined && !s.local && s.name != "" && s.kind != elf.STT_TLS && len(f.exports[s.name]) < maxVersions {
			f.exports[s.name] = append(f.exports[s.name], s.addr)
		}
	}
	f.findImports()
	f.strings = sync.OnceValue(f.readStrings)
	return f, nil
}

// maxVersions is how many definitions of a name, one a version, are used.
const maxVersions = 64

func (f *File) findImports() {
	seen := make([]bool, len(f.code.dynsyms))
	for _, e := range f.code.edges {
		if e.kind == edgeImport && !seen[e.to] {
			seen[e.to] = true
			f.imports = append(f.imports, f.code.symbolName(uint32(e.to)))
		}
	}
}

// Interpreter returns the dynamic linker that the file asks for, or "".
func (f *File) Interpreter() string { return f.code.interp }

// Needed returns the names of the libraries that the file is linked with.
func (f *File) Needed() []string { return f.code.needed }

// wrappers returns the exported functions that make a system call whose number
// is an argument, by name.
func (f *File) wrappers(facts *facts, into map[string][]passed) {
	if len(facts.passed) == 0 {
		return
	}
	byAddr := map[uint64][]passed{}
	for _, p := range facts.passed {
		lo := f.code.chunks[p.in].lo
		byAddr[lo] = append(byAddr[lo], p)
	}
	for name, addrs := range f.exports {
		for _, a := range addrs {
			into[name] = append(into[name], byAddr[a]...)
		}
		if len(into[name]) == 0 {
			delete(into, name)
		}
	}
}

// callsOf returns what the file passes to an imported function that makes the
// system calls of passed.
func (f *File) callsOf(name string, passed []passed) *facts {
	var key strings.Builder
	key.WriteString(name)
	for _, p := range passed {
		fmt.Fprint(&key, " ", p.term, p.entry)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if e, ok := f.extra[key.String()]; ok {
		return e
	}
	e := f.code.factsOf(name, passed)
	f.extra[key.String()] = e
	return e
}

// readStrings returns the strings in the constants of the file that can be
// names of symbols and libraries.
func (f *File) readStrings() map[string]bool {
	out := map[string]bool{}
	for _, s := range f.code.stringSpans() {
		data := f.code.bytes(s.lo, min(s.hi-s.lo, uint64(len(f.code.at(s.lo)))))
		start := 0
		for i, b := range data {
			if b > ' ' && b < 0x7f {
				continue
			}
			if n := i - start; b == 0 && n >= 3 && n < 200 {
				out[string(data[start:i])] = true
			}
			start = i + 1
		}
	}
	return out
}

func (m *image) stringSpans() []span {
	var out []span
	for _, s := range m.sections {
		if strings.HasPrefix(s.name, ".rodata") || strings.HasPrefix(s.name, ".data") {
			out = append(out, s.span)
		}
	}
	if len(m.sections) > 0 {
		return out
	}
	for _, s := range m.segments {
		out = append(out, s.span)
	}
	return out
}
