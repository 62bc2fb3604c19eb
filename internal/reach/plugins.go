package reach

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Limits on the search for plugins.
const (
	maxPlugins    = 4096      // files that are looked at
	maxPluginSize = 128 << 20 // bytes of one
)

// plugin is a shared library outside of the directories of the dynamic linker,
// which something must load by its path.
type plugin struct {
	path string   // resolved
	lack []string // the symbols that neither it nor the libraries that it needs define
}

// plugins returns the plugins of the tree.
func (t *files) plugins() []plugin {
	t.findPlugins.Do(func() {
		seen := map[string]bool{}
		for _, dir := range t.dirs {
			if resolved, _, err := t.resolve(dir); err == nil {
				seen[resolved] = true
			}
		}
		for _, top := range []string{"usr/lib", "usr/lib64", "usr/local/lib", "lib", "opt"} {
			if info, err := t.fsys.Lstat(top); err == nil && info.IsDir() {
				t.walkPlugins(top, seen)
			}
		}
		t.symbolsOf = nil
	})
	return t.pluginList
}

func (t *files) walkPlugins(top string, libraries map[string]bool) {
	fs.WalkDir(t.fsys, top, func(name string, d fs.DirEntry, err error) error {
		if err != nil || len(t.pluginList) >= maxPlugins {
			return nil
		}
		if d.Type().IsRegular() && isLibraryName(name) && !libraries[path.Dir(name)] {
			if p, ok := t.readPlugin(name); ok {
				t.pluginList = append(t.pluginList, p)
			}
		}
		return nil
	})
}

func isLibraryName(name string) bool {
	base := path.Base(name)
	return strings.HasSuffix(base, ".so") || strings.Contains(base, ".so.")
}

// readPlugin reads what a library lacks, and no code. It is false if it lacks
// nothing.
func (t *files) readPlugin(name string) (plugin, bool) {
	m := t.symbols(name)
	if m == nil {
		return plugin{}, false
	}
	lack := map[string]bool{}
	for _, s := range m.dynsyms {
		if !s.defined && s.name != "" && !s.weak {
			lack[s.name] = true
		}
	}
	seen := map[string]bool{name: true}
	t.provide(m, path.Dir(name), lack, seen)
	p := plugin{path: name}
	for s := range lack {
		p.lack = append(p.lack, strings.Clone(s))
	}
	return p, len(p.lack) > 0
}

// provide takes off the symbols that the libraries which m needs define.
func (t *files) provide(m *image, dir string, lack, seen map[string]bool) {
	for _, need := range m.needed {
		resolved, ok := t.findLibrary(need, "/"+dir, m.runpath)
		if !ok || seen[resolved] {
			continue
		}
		seen[resolved] = true
		lib := t.symbols(resolved)
		if lib == nil {
			continue
		}
		for _, s := range lib.dynsyms {
			if s.defined {
				delete(lack, s.name)
			}
		}
		t.provide(lib, path.Dir(resolved), lack, seen)
	}
}

// symbols reads the symbols and the needed libraries of a file, or nil.
func (t *files) symbols(resolved string) *image {
	if m, ok := t.symbolsOf[resolved]; ok {
		return m
	}
	m := t.readSymbols(resolved)
	if t.symbolsOf == nil {
		t.symbolsOf = map[string]*image{}
	}
	t.symbolsOf[resolved] = m
	return m
}

func (t *files) readSymbols(resolved string) *image {
	info, err := t.fsys.Lstat(resolved)
	if err != nil || info.Size() > maxPluginSize {
		return nil
	}
	f, r, err := t.open(resolved)
	if err != nil {
		return nil
	}
	defer f.Close()
	m, err := readSymbolsOnly(r)
	if err != nil {
		return nil
	}
	m.segments, m.relocs = nil, nil
	return m
}

// loadPlugins adds the plugins of the program: those that lack symbols which the
// program defines, or which a library that it is linked with defines that loads
// others and names a part of the plugin's path.
func (l *link) loadPlugins() {
	linked := l.loaded[:l.linked]
	if l.plugged || !slices.ContainsFunc(linked, func(f *loaded) bool { return f.opens && !f.linker }) {
		return
	}
	l.plugged = true
	for _, p := range l.tree.plugins() {
		if l.isPlugin(p, linked) {
			l.loadWhole(p.path)
		}
	}
}

// isPlugin reports whether a plugin fits the files. They must define nearly all
// that it lacks: two programs can happen to have a function of one name.
func (l *link) isPlugin(p plugin, linked []*loaded) bool {
	left, fits := 0, false
	names := map[*loaded]bool{}
	for _, name := range p.lack {
		i := slices.IndexFunc(linked, func(f *loaded) bool { return len(f.exports[name]) > 0 })
		if i < 0 {
			left++
			continue
		}
		if f := linked[i]; i == 0 {
			fits = true
		} else if _, ok := names[f]; !ok && f.opens && !f.linker {
			names[f] = l.tree.namesPart(f.File, p.path)
			fits = fits || names[f]
		}
		if left*10 > len(p.lack) {
			return false
		}
	}
	return fits && left*10 <= len(p.lack)
}

// namesPart reports whether a string of the file has a directory of a path as a
// part, other than those in which libraries are.
func (t *files) namesPart(f *File, plugin string) bool {
	for dir := path.Dir(plugin); dir != "." && !t.isLibraryDir(dir); dir = path.Dir(dir) {
		base := path.Base(dir)
		for s := range f.strings() {
			if strings.Contains(s, base) && slices.Contains(strings.Split(s, "/"), base) {
				return true
			}
		}
	}
	return false
}

func (t *files) isLibraryDir(dir string) bool {
	return slices.Contains(t.dirs, "/"+dir) || !strings.Contains(dir, "/")
}

// loadWhole adds a library all of whose functions can be called, because their
// names are put together at run time.
func (l *link) loadWhole(resolved string) {
	f, err := l.tree.scan(resolved)
	if err != nil {
		l.out.note("%v", err)
		return
	}
	l.load(resolved, f)
	for _, o := range l.loaded {
		if o.path == resolved {
			o.whole = true
		}
	}
}

// loadServices adds what the C library loads for a function that programs call:
// the name services of nsswitch.conf(5), and the unwinder.
func (l *link) loadServices(name string) {
	switch {
	case name == "backtrace", name == "pthread_exit", name == "pthread_cancel":
		if resolved, _, err := l.tree.library("libgcc_s.so.1", "", nil); err == nil {
			l.loadWhole(resolved)
		}
	case usesServices(name) && !l.services && !l.isMusl():
		l.services = true
		for _, s := range l.tree.nameServices() {
			if resolved, _, err := l.tree.library("libnss_"+s+".so.2", "", nil); err == nil {
				l.loadWhole(resolved)
			}
		}
	}
}

func usesServices(name string) bool {
	for _, p := range []string{"getaddrinfo", "getnameinfo", "gethostby", "getpw", "setpwent", "getgr", "setgrent", "initgroups",
		"getserv", "getproto", "getnetby", "getspnam", "getspent", "getnetgrent", "innetgr", "setnetgrent", "getaliasby", "getrpcby"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// nameServices returns the services that nsswitch.conf names, and those that
// the C library uses without.
func (t *files) nameServices() []string {
	out := []string{"files", "dns"}
	conf := t.read("/etc/nsswitch.conf")
	if conf == "" {
		return append(out, "compat", "nis")
	}
	for line := range strings.Lines(conf) {
		line, _, _ = strings.Cut(line, "#")
		_, services, _ := strings.Cut(line, ":")
		for s := range strings.FieldsSeq(services) {
			if !strings.ContainsAny(s, "[]=/") && !slices.Contains(out, s) && len(out) < 64 {
				out = append(out, s)
			}
		}
	}
	return out
}
