package reach

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
)

// files is the tree of files that programs are looked up in, with what is
// known of them.
type files struct {
	fsys fs.ReadLinkFS

	mu    sync.Mutex
	known map[string]*scanned
	dirs  []string // where the dynamic linker looks

	libraries map[string]string // resolved paths by names, "" for none

	findPlugins sync.Once
	pluginList  []plugin
	symbolsOf   map[string]*image // while plugins are looked for
}

type scanned struct {
	once sync.Once
	file *File
	err  error
}

func openFiles(fsys fs.FS) (*files, error) {
	links, ok := fsys.(fs.ReadLinkFS)
	if !ok {
		return nil, fmt.Errorf("file system %T cannot read symbolic links", fsys)
	}
	t := &files{fsys: links, known: map[string]*scanned{}, libraries: map[string]string{}}
	t.dirs = t.libraryDirs()
	return t, nil
}

const maxLinks = 40 // as in the kernel

// resolve follows all links of an absolute path, whose "/" and ".." never lead
// out of the tree, and returns the path in the form of package fs. A link that
// changes meanwhile leads nowhere else either, if fsys is that of an os.Root.
func (t *files) resolve(name string) (string, fs.FileInfo, error) {
	at, rest, links := ".", strings.Split(name, "/"), 0
	info, err := t.fsys.Lstat(at)
	for len(rest) > 0 && err == nil {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			info, err = t.fsys.Lstat(at)
			continue
		}
		next := path.Join(at, part)
		if info, err = t.fsys.Lstat(next); err != nil {
			break
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", nil, fmt.Errorf("%s: too many symbolic links", name)
		}
		target, err := t.fsys.ReadLink(next)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", name, err)
		}
		if strings.HasPrefix(target, "/") {
			at = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
		if len(rest) > 4096 {
			return "", nil, fmt.Errorf("%s: path is too long", name)
		}
	}
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", name, err)
	}
	return at, info, nil
}

// open opens a regular file by its resolved path.
func (t *files) open(resolved string) (fs.File, io.ReaderAt, error) {
	f, err := t.fsys.Open(resolved)
	if err != nil {
		return nil, nil, err
	}
	r, ok := f.(io.ReaderAt)
	if !ok {
		f.Close()
		return nil, nil, fmt.Errorf("%s: file of %T cannot be read at an offset", resolved, t.fsys)
	}
	return f, r, nil
}

var errNotRegular = errors.New("not a regular file")

// scan reads the program or library at a resolved path, once.
func (t *files) scan(resolved string) (*File, error) {
	t.mu.Lock()
	s := t.known[resolved]
	if s == nil {
		s = &scanned{}
		t.known[resolved] = s
	}
	t.mu.Unlock()
	s.once.Do(func() { s.file, s.err = t.scanFile(resolved) })
	return s.file, s.err
}

// scanOnce is scan for a file that is not needed again.
func (t *files) scanOnce(resolved string) (*File, error) {
	t.mu.Lock()
	s := t.known[resolved]
	t.mu.Unlock()
	if s != nil {
		return t.scan(resolved)
	}
	return t.scanFile(resolved)
}

func (t *files) scanFile(resolved string) (*File, error) {
	f, r, err := t.open(resolved)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	file, err := Scan(r)
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", resolved, err)
	}
	return file, nil
}

// find resolves a path to a regular file.
func (t *files) find(name string) (string, error) {
	resolved, info, err := t.resolve(name)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", name, errNotRegular)
	}
	return resolved, err
}

// read returns a small file, or "".
func (t *files) read(name string) string {
	resolved, err := t.find(name)
	if err != nil {
		return ""
	}
	f, err := t.fsys.Open(resolved)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 1<<20))
	return string(b)
}

// libraryDirs returns the directories of ld.so.conf, and then the usual ones.
// The cache of ldconfig has nothing that these have not.
func (t *files) libraryDirs() []string {
	dirs := t.confDirs("/etc/ld.so.conf", 0)
	return append(dirs, "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
}

// confDirs reads a file of ld.so.conf(5)'s form.
func (t *files) confDirs(name string, depth int) []string {
	var out []string
	for line := range strings.Lines(t.read(name)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 2 && fields[0] == "include" && depth < 4 {
			for _, n := range t.glob(fields[1]) {
				out = append(out, t.confDirs(n, depth+1)...)
			}
		} else if len(fields) == 1 && strings.HasPrefix(fields[0], "/") && len(out) < 100 {
			out = append(out, fields[0])
		}
	}
	return out
}

// glob returns the files of a pattern that has wildcards in its last part only.
func (t *files) glob(pattern string) []string {
	dir, last := path.Split(pattern)
	resolved, _, err := t.resolve(dir)
	if err != nil {
		return nil
	}
	entries, _ := fs.ReadDir(t.fsys, resolved)
	var out []string
	for _, e := range entries {
		if ok, _ := path.Match(last, e.Name()); ok && len(out) < 100 {
			out = append(out, dir+e.Name())
		}
	}
	return out
}

// library finds and reads a library as ld.so(8) does for a file in directory
// origin, but for the environment.
func (t *files) library(name, origin string, runpath []string) (string, *File, error) {
	resolved, ok := t.findLibrary(name, origin, runpath)
	if !ok {
		return "", nil, fmt.Errorf("library %s: %w", name, fs.ErrNotExist)
	}
	f, err := t.scan(resolved)
	return resolved, f, err
}

// findLibrary returns the path of a library. Files for other machines are
// passed over.
func (t *files) findLibrary(name, origin string, runpath []string) (string, bool) {
	if strings.Contains(name, "/") {
		resolved, err := t.find(expand(name, origin))
		return resolved, err == nil
	}
	if resolved, ok := t.findIn(runpath, name, origin); ok {
		return resolved, true
	}
	t.mu.Lock()
	resolved, ok := t.libraries[name]
	t.mu.Unlock()
	if !ok {
		resolved, _ = t.findIn(t.dirs, name, origin)
		t.mu.Lock()
		t.libraries[name] = resolved
		t.mu.Unlock()
	}
	return resolved, resolved != ""
}

func (t *files) findIn(dirs []string, name, origin string) (string, bool) {
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		if resolved, err := t.find(expand(dir, origin) + "/" + name); err == nil && t.isForUs(resolved) {
			return resolved, true
		}
	}
	return "", false
}

// isForUs reports whether a file is an ELF file for x86-64.
func (t *files) isForUs(resolved string) bool {
	f, r, err := t.open(resolved)
	if err != nil {
		return false
	}
	defer f.Close()
	var h elf.Header64
	return readHeader(r, &h) == nil
}

func expand(p, origin string) string {
	for _, v := range [][2]string{{"ORIGIN", origin}, {"LIB", "lib/x86_64-linux-gnu"}, {"PLATFORM", "x86_64"}} {
		p = strings.ReplaceAll(strings.ReplaceAll(p, "${"+v[0]+"}", v[1]), "$"+v[0], v[1])
	}
	return p
}
