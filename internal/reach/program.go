package reach

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/brig-run/brig/seccomp/syscalls"
)

// Reach is the system calls that programs can make.
type Reach struct {
	Calls   []Call   // sorted by ABI and number
	Unknown []Site   // whose number could not be found: they may make any call
	Notes   []string // what else can make the list too short
	Files   []string // programs and libraries that were looked at, absolute paths in the tree
}

// Call is a system call with one example of how it is reached.
type Call struct {
	ABI  string // as syscalls.Arch.Short: amd64, x32, or x86 for "int 0x80"
	Nr   uint32
	Name string // "" for a number that has none
	Site Site
}

// Site is a place in the code of a program that enters the kernel.
type Site struct {
	Program  string   // absolute path in the tree
	File     string   // the program or library that has the code
	Function string   // its symbol, else its address
	Entry    string   // "syscall", "int 0x80" or "sysenter"
	Path     []string // functions that lead there, from the start of the program
}

// Program returns what the program at an absolute path in a tree can reach:
// its own code and that of its libraries, from its entry point on. For a
// script that is its interpreter. Links are followed within the tree only,
// which must implement fs.ReadLinkFS, as that of an os.Root does.
func Program(fsys fs.FS, name string) (*Reach, error) {
	t, err := openFiles(fsys)
	if err != nil {
		return nil, err
	}
	resolved, err := t.find(name)
	if err != nil {
		return nil, err
	}
	u := newUnion()
	if err := t.program(resolved, u, 0); err != nil {
		return nil, err
	}
	return u.result(), nil
}

// program adds what a program reaches to u.
func (t *files) program(resolved string, u *union, depth int) error {
	f, err := t.scan(resolved)
	if errors.Is(err, ErrNotELF) {
		interpreter, ok := t.interpreter(resolved)
		if !ok {
			return err
		}
		if depth > 4 {
			return fmt.Errorf("/%s: too many interpreters of interpreters", resolved)
		}
		next, err := t.find(interpreter)
		if err != nil {
			return fmt.Errorf("/%s: interpreter: %w", resolved, err)
		}
		u.note("/%s is a script of %s; programs that it runs are not counted", resolved, interpreter)
		return t.program(next, u, depth+1)
	}
	if err != nil {
		return err
	}
	l := newLink(t, u, resolved)
	l.load(resolved, f)
	l.run()
	return nil
}

// interpreter returns the program of a script's first line.
func (t *files) interpreter(resolved string) (string, bool) {
	f, r, err := t.open(resolved)
	if err != nil {
		return "", false
	}
	defer f.Close()
	b := make([]byte, 256)
	n, _ := r.ReadAt(b, 0)
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	rest, ok := strings.CutPrefix(line, "#!")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return "", false
	}
	if path.Base(fields[0]) == "env" {
		for _, a := range fields[1:] {
			if strings.HasPrefix(a, "-") || strings.Contains(a, "=") {
				continue
			}
			return t.search(a), true
		}
	}
	return fields[0], true
}

// search finds a program by its name.
func (t *files) search(name string) string {
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if _, err := t.find(dir + "/" + name); err == nil {
			return dir + "/" + name
		}
	}
	return name
}

type callKey struct {
	abi syscalls.Arch
	nr  uint32
}

// union collects the result of programs.
type union struct {
	calls   map[callKey]Site
	unknown map[string]Site
	notes   []string
	files   map[string]bool
}

func newUnion() *union {
	return &union{calls: map[callKey]Site{}, unknown: map[string]Site{}, files: map[string]bool{}}
}

func (u *union) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(u.notes, n) && len(u.notes) < 1000 {
		u.notes = append(u.notes, n)
	}
}

// addRestart adds the call that the kernel makes a program make when a signal
// has stopped one of the calls that wait (restart_syscall(2)).
func (u *union) addRestart() {
	restart := callKey{syscalls.X86_64, 219}
	for _, nr := range []uint32{7, 35, 202, 230} { // poll, nanosleep, futex, clock_nanosleep
		s, ok := u.calls[callKey{syscalls.X86_64, nr}]
		if _, has := u.calls[restart]; ok && !has {
			u.calls[restart] = s
		}
	}
}

func (u *union) result() *Reach {
	u.addRestart()
	r := &Reach{Notes: u.notes}
	for k, s := range u.calls {
		name, _ := syscalls.Name(k.abi, k.nr)
		r.Calls = append(r.Calls, Call{k.abi.Short(), k.nr, name, s})
	}
	slices.SortFunc(r.Calls, func(a, b Call) int {
		return cmp.Or(cmp.Compare(a.ABI, b.ABI), cmp.Compare(a.Nr, b.Nr))
	})
	for _, s := range u.unknown {
		r.Unknown = append(r.Unknown, s)
	}
	slices.SortFunc(r.Unknown, func(a, b Site) int {
		return cmp.Or(strings.Compare(a.File, b.File), strings.Compare(a.Function, b.Function))
	})
	for f := range u.files {
		r.Files = append(r.Files, f)
	}
	slices.Sort(r.Files)
	return r
}
