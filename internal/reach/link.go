package reach

import (
	"debug/elf"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/brig-run/brig/seccomp/syscalls"
)

const maxLibraries = 1024 // of one program

// link is a program with its libraries, as the dynamic linker puts them
// together.
type link struct {
	tree     *files
	out      *union
	program  string
	loaded   []*loaded // in the order in which symbols are looked up
	queue    []node
	found    map[string][]node // what a symbol leads to
	asked    []string          // symbols that were looked up since the last look at them
	services bool              // the name services are loaded
	plugged  bool              // the plugins are loaded
	linked   int               // how many files there were before any was loaded at run time
}

// loaded is a file of a program.
type loaded struct {
	*File
	path    string
	facts   []*facts
	reached []bool // by chunk
	from    []node // by chunk: one that leads to it
	used    []bool // by object
	user    []node // by object: one that leads to it
	calls   map[chunk][]fact
	unknown map[chunk][]fact
	passed  map[chunk]bool
	linker  bool // is the dynamic linker
	asks    bool // looks up symbols by name at run time
	opens   bool // loads libraries at run time
	asked   bool // what it asks for has been looked up
	opened  bool // what it loads has been loaded
	whole   bool // all that it exports can be called
}

// node is a chunk of a loaded file, or an object of its data.
type node struct {
	file int32
	chunk
	data bool // chunk is an object of data
}

// outside is where programs begin.
var outside = node{file: -1}

func newLink(t *files, u *union, program string) *link {
	return &link{tree: t, out: u, program: program, found: map[string][]node{}}
}

// load adds a file and, breadth first, the libraries that it needs.
func (l *link) load(resolved string, f *File) {
	first := len(l.loaded)
	if !l.add(resolved, f) {
		return
	}
	if p := f.Interpreter(); p != "" && first == 0 {
		defer l.loadInterpreter(p)
	}
	for i := first; i < len(l.loaded); i++ {
		f := l.loaded[i]
		for _, name := range f.Needed() {
			l.loadLibrary(name, f)
		}
	}
}

// add adds a file, unless it is there already.
func (l *link) add(resolved string, f *File) bool {
	if slices.ContainsFunc(l.loaded, func(o *loaded) bool { return o.path == resolved }) || len(l.loaded) >= maxLibraries {
		return false
	}
	l.out.files["/"+resolved] = true
	n, objects := len(f.code.chunks), len(f.code.objects)
	l.loaded = append(l.loaded, &loaded{
		File: f, path: resolved, facts: []*facts{f.facts},
		reached: make([]bool, n), from: make([]node, n),
		used: make([]bool, objects), user: make([]node, objects),
	})
	return true
}

func (l *link) loadLibrary(name string, by *loaded) {
	if l.isMusl() && strings.HasPrefix(name, "libc.") {
		return // it is the dynamic linker
	}
	resolved, f, err := l.tree.library(name, "/"+path.Dir(by.path), by.code.runpath)
	if err != nil {
		l.out.note("/%s: %v", by.path, err)
		return
	}
	l.add(resolved, f)
}

// isMusl reports whether the program uses the musl C library, which is one file
// with its dynamic linker, and has no name services.
func (l *link) isMusl() bool {
	return strings.HasPrefix(path.Base(l.loaded[0].Interpreter()), "ld-musl-")
}

func (l *link) loadInterpreter(name string) {
	resolved, err := l.tree.find(name)
	var f *File
	if err == nil {
		f, err = l.tree.scan(resolved)
	}
	if err != nil {
		l.out.note("/%s: dynamic linker: %v", l.program, err)
		return
	}
	l.add(resolved, f)
	for _, o := range l.loaded {
		if o.path == resolved {
			o.asks, o.linker = true, true
		}
	}
}

// run finds all code that is reached, and adds its calls to the result.
// Libraries that are loaded at run time come last, as they do then.
func (l *link) run() {
	l.linked = len(l.loaded)
	for first := 0; first < len(l.loaded); {
		l.begin(first)
		first = len(l.loaded)
		l.walk()
		l.openByName()
		for _, name := range l.asked {
			l.loadServices(name)
		}
		l.asked = l.asked[:0]
		l.loadPlugins()
	}
	l.collect()
}

// begin prepares the files from index first on, and reaches what starts there.
func (l *link) begin(first int) {
	l.passNumbers()
	for _, f := range l.loaded {
		f.index()
	}
	clear(l.found)
	for i := first; i < len(l.loaded); i++ {
		l.start(int32(i))
	}
}

// passNumbers finds the numbers that files pass to functions of other files.
func (l *link) passNumbers() {
	for range maxWrappers {
		wrappers := map[string][]passed{}
		for _, f := range l.loaded {
			for _, facts := range f.facts {
				f.wrappers(facts, wrappers)
			}
		}
		more := false
		for _, f := range l.loaded {
			for _, name := range f.imports {
				if p := wrappers[name]; len(p) > 0 {
					e := f.callsOf(name, p)
					if !slices.Contains(f.facts, e) {
						f.facts = append(f.facts, e)
						more = more || len(e.passed) > 0
					}
				}
			}
		}
		if !more {
			return
		}
	}
}

// maxWrappers is how many files may pass a number on to the next.
const maxWrappers = 4

// index sorts the facts by chunks.
func (f *loaded) index() {
	f.calls, f.unknown, f.passed = map[chunk][]fact{}, map[chunk][]fact{}, map[chunk]bool{}
	for _, facts := range f.facts {
		for _, c := range facts.calls {
			f.calls[c.in] = append(f.calls[c.in], c)
		}
		for _, c := range facts.unknown {
			f.unknown[c.in] = append(f.unknown[c.in], c)
		}
		for _, p := range facts.passed {
			if !facts.known[callback{p.in, p.term}] {
				f.passed[p.in] = true
			}
		}
	}
}

// start reaches what runs without being called by other code.
func (l *link) start(i int32) {
	f := l.loaded[i]
	if i == 0 || f.linker {
		l.reachAddr(i, f.code.entry, outside, false)
	}
	for _, a := range f.code.starters {
		l.reachAddr(i, a, outside, false)
	}
	for _, n := range f.code.roots {
		l.use(node{i, n, true}, outside)
	}
	for _, r := range f.code.relocs {
		if r.kind == elf.R_X86_64_COPY {
			l.reachSymbol(i, f.code.symbolName(r.sym), outside, true)
		}
	}
	if f.whole {
		for _, addrs := range f.exports {
			for _, a := range addrs {
				l.reachAddr(i, a, outside, false)
			}
		}
	}
	if f.code.golang {
		for _, s := range f.code.funcs {
			l.reachAddr(i, s.addr, outside, false)
		}
	}
}

// reachWord reaches what a word in data leads to.
func (l *link) reachWord(i int32, w dataWord, from node) {
	c := l.loaded[i].code
	if w.isImport {
		l.reachSymbol(i, c.symbolName(w.sym), from, true)
		return
	}
	if slot, ok := c.stub(w.to); ok {
		if r, ok := c.relocationAt(slot); ok && r.sym != 0 {
			l.reachSymbol(i, c.symbolName(r.sym), from, true)
			return
		}
	}
	l.reachAddr(i, w.to, from, true)
}

func (l *link) reachAddr(i int32, addr uint64, from node, taken bool) {
	c := l.loaded[i].code
	if n := c.chunkAt(addr); n != noChunk {
		l.reach(node{i, n, false}, from, taken)
	} else if n := c.objectAt(addr); n >= 0 {
		l.use(node{i, n, true}, from)
	}
}

// use notes that an object of data is used.
func (l *link) use(n, from node) {
	f := l.loaded[n.file]
	if !f.used[n.chunk] {
		f.used[n.chunk] = true
		f.user[n.chunk] = from
		l.queue = append(l.queue, n)
	}
}

// reach notes that a chunk is reached. When its address was taken, and not
// called, nobody knows what it is passed.
func (l *link) reach(n, from node, taken bool) {
	if n.data {
		l.use(n, from)
		return
	}
	f := l.loaded[n.file]
	if !f.reached[n.chunk] {
		f.reached[n.chunk] = true
		f.from[n.chunk] = from
		l.queue = append(l.queue, n)
	}
	if taken && f.passed[n.chunk] {
		l.unknown(n, "syscall")
	}
}

func (l *link) walk() {
	for len(l.queue) > 0 {
		n := l.queue[len(l.queue)-1]
		l.queue = l.queue[:len(l.queue)-1]
		f := l.loaded[n.file]
		if n.data {
			for _, w := range f.code.wordsOf(n.chunk) {
				l.reachWord(n.file, w, n)
			}
			continue
		}
		for _, e := range f.code.out(n.chunk) {
			switch e.kind {
			case edgeCall, edgeInto:
				l.reach(node{n.file, e.to, false}, n, false)
			case edgeRef:
				l.reach(node{n.file, e.to, false}, n, true)
			case edgeData:
				l.use(node{n.file, e.to, true}, n)
			case edgeImport, edgeImportRef:
				l.reachSymbol(n.file, f.code.symbolName(uint32(e.to)), n, e.kind == edgeImportRef)
			}
		}
	}
}

// reachSymbol reaches the definitions of a symbol in the first file that has any.
func (l *link) reachSymbol(by int32, name string, from node, taken bool) {
	switch name {
	case "dlsym", "dlvsym":
		l.loaded[by].asks = true
	case "dlopen", "dlmopen":
		l.loaded[by].opens = true
	}
	for _, n := range l.lookup(name) {
		l.reach(n, from, taken)
	}
}

func (l *link) lookup(name string) []node {
	if n, ok := l.found[name]; ok || name == "" {
		return n
	}
	l.asked = append(l.asked, name)
	var out []node
	for i, f := range l.loaded {
		addrs, ok := f.exports[name]
		if !ok {
			continue
		}
		for _, a := range addrs {
			if n := f.code.chunkAt(a); n != noChunk {
				out = append(out, node{int32(i), n, false})
			} else if n := f.code.objectAt(a); n >= 0 {
				out = append(out, node{int32(i), n, true})
			}
		}
		break
	}
	l.found[name] = out
	return out
}

// openByName reaches the functions, and adds the libraries, whose names a file
// that looks them up at run time has among its strings, or the program has.
// That finds no name which is put together from parts.
func (l *link) openByName() {
	for again := true; again; {
		again = false
		for i, f := range l.loaded {
			if f.asks && !f.asked || f.opens && !f.opened {
				again = true
				l.useStrings(f, f)
				if i > 0 && !f.linker {
					l.useStrings(f, l.loaded[0])
				}
				f.asked, f.opened = f.asks, f.opens
			}
		}
		l.walk()
	}
	for _, f := range l.loaded { // libraries that are new have new names
		f.asked = false
	}
}

// useStrings looks up the strings of a file for one that asks for names.
func (l *link) useStrings(f, source *loaded) {
	for name := range source.strings() {
		if f.asks {
			for j, g := range l.loaded {
				for _, a := range g.exports[name] {
					l.reachAddr(int32(j), a, outside, true)
				}
			}
		}
		if f.opens && strings.Contains(name, ".so") {
			if resolved, lib, err := l.tree.library(name, "/"+path.Dir(f.path), f.code.runpath); err == nil {
				l.load(resolved, lib)
			}
		}
	}
}

// collect adds the calls of all reached chunks to the result.
func (l *link) collect() {
	for i, f := range l.loaded {
		for n, calls := range f.calls {
			if f.reached[n] {
				for _, c := range calls {
					l.call(node{int32(i), n, false}, c)
				}
			}
		}
		for n, sites := range f.unknown {
			if f.reached[n] {
				l.unknown(node{int32(i), n, false}, sites[0].entry)
			}
		}
		if f.opens {
			l.out.note("/%s loads libraries at run time: those that it does not name are not counted", f.path)
		}
	}
}

func (l *link) call(n node, c fact) {
	key := callKey{syscalls.X86_64, c.nr}
	switch {
	case c.entry != "syscall":
		key.abi = syscalls.I386
	case c.nr&syscalls.X32Bit != 0:
		key.abi = syscalls.X32
	}
	if _, ok := l.out.calls[key]; !ok {
		l.out.calls[key] = l.site(n, c.entry)
	}
}

// maxUnknown is how many sites of one program are told apart.
const maxUnknown = 1000

func (l *link) unknown(n node, entry string) {
	if len(l.out.unknown) >= maxUnknown {
		l.out.note("/%s: more unknown sites than are listed", l.program)
		return
	}
	s := l.site(n, entry)
	key := s.File + " " + s.Function
	if _, ok := l.out.unknown[key]; !ok {
		l.out.unknown[key] = s
	}
}

func (l *link) site(n node, entry string) Site {
	s := Site{Program: "/" + l.program, File: "/" + l.loaded[n.file].path, Function: l.name(n), Entry: entry}
	for at, i := n, 0; at.file >= 0 && i < 64; i++ {
		f := l.loaded[at.file]
		s.Path = append(s.Path, path.Base(f.path)+":"+l.name(at))
		if at.data {
			at = f.user[at.chunk]
		} else {
			at = f.from[at.chunk]
		}
	}
	slices.Reverse(s.Path)
	return s
}

// name returns the name of the function that a chunk is, or its address.
func (l *link) name(n node) string {
	c := l.loaded[n.file].code
	if n.data {
		return fmt.Sprintf("data at %#x", c.objects[n.chunk])
	}
	if s := c.functionAt(c.chunks[n.chunk].lo); s != "" {
		return strings.ToValidUTF8(s, "?")
	}
	return fmt.Sprintf("%#x", c.chunks[n.chunk].lo)
}
