package reach

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"sync"
	"syscall"
)

// Limits on the work for a tree.
const (
	maxTreeEntries  = 2e6
	maxTreePrograms = 1 << 15
)

// Tree returns what all programs of a tree can reach together: its executable
// ELF files with their libraries and plugins, and then its shared libraries
// that none of these loads, with all that they export. Directories /dev, /proc
// and /sys are left out.
func Tree(fsys fs.FS) (*Reach, error) {
	t, err := openFiles(fsys)
	if err != nil {
		return nil, err
	}
	u := newUnion()
	programs, libraries, err := t.list(u)
	if err != nil {
		return nil, err
	}
	t.union(programs, u, t.linkProgram)
	libraries = slices.DeleteFunc(libraries, func(name string) bool { return u.files["/"+name] })
	t.union(libraries, u, t.linkLibrary)
	return u.result(), nil
}

// list returns the executable files and the shared libraries of the tree, each
// file once.
func (t *files) list(u *union) (programs, libraries []string, err error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	entries := 0
	err = fs.WalkDir(t.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if entries++; entries > maxTreeEntries || len(programs)+len(libraries) > maxTreePrograms {
			u.note("the tree has more files than are looked at: the rest is not counted")
			return fs.SkipAll
		}
		switch {
		case err != nil && name == ".":
			return err
		case err != nil:
			u.note("/%s: %v", name, err)
			return nil
		case d.IsDir():
			if name == "dev" || name == "proc" || name == "sys" {
				return fs.SkipDir
			}
			return nil
		case !d.Type().IsRegular():
			return nil
		}
		library := isLibraryName(name)
		info, err := d.Info()
		if err != nil || !library && info.Mode()&0o111 == 0 {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			key := inode{uint64(st.Dev), st.Ino}
			if seen[key] {
				return nil
			}
			seen[key] = true
		}
		if library {
			libraries = append(libraries, name)
		} else {
			programs = append(programs, name)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read the tree: %w", err)
	}
	return programs, libraries, nil
}

// union links files, a few at a time, and adds what they reach to u in their
// order, so that the examples are always the same.
func (t *files) union(names []string, u *union, do func(string, *union) error) {
	results := make([]*union, len(names))
	var next sync.Mutex
	at := 0
	var group sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), 4) {
		group.Go(func() {
			for {
				next.Lock()
				i := at
				at++
				next.Unlock()
				if i >= len(names) {
					return
				}
				results[i] = newUnion()
				if err := do(names[i], results[i]); err != nil && !errors.Is(err, ErrNotELF) {
					results[i].note("%v", err)
				}
			}
		})
	}
	group.Wait()
	for _, r := range results {
		u.add(r)
	}
}

// linkProgram adds what an executable file reaches. Scripts reach nothing of
// their own, as their interpreters are in the tree.
func (t *files) linkProgram(name string, u *union) error {
	f, err := t.scanOnce(name)
	if err != nil {
		return err
	}
	l := newLink(t, u, name)
	l.load(name, f)
	l.run()
	return nil
}

// linkLibrary adds what all functions of a library reach.
func (t *files) linkLibrary(name string, u *union) error {
	f, err := t.scan(name)
	if err != nil {
		return err
	}
	l := newLink(t, u, name)
	l.load(name, f)
	l.loaded[0].whole = true
	l.run()
	return nil
}

// add adds what another union has.
func (u *union) add(o *union) {
	for k, s := range o.calls {
		if _, ok := u.calls[k]; !ok {
			u.calls[k] = s
		}
	}
	for k, s := range o.unknown {
		if _, ok := u.unknown[k]; !ok {
			u.unknown[k] = s
		}
	}
	for f := range o.files {
		u.files[f] = true
	}
	for _, n := range o.notes {
		u.note("%s", n)
	}
}
