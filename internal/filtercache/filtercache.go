// Package filtercache keeps compiled seccomp filters in a directory. To compile
// and prove one takes half a millisecond of a start, and the next start most
// likely needs the same.
//
// A filter is kept under all that it follows from: this very program file, which
// has the compiler and the built-in profiles, and what the caller names. The
// directory is one that only its owner can write to; what is not there or not
// whole is made anew. The package knows neither profiles nor containers.
package filtercache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/runtime"
	"github.com/brig-run/brig/seccomp/bpf"
)

// maxFilters is how many filters are kept.
const maxFilters = 64

// Entry is a filter and what its maker had to say.
type Entry struct {
	Program  []bpf.Instruction
	Flags    uint // SECCOMP_FILTER_FLAG_*
	Notify   bool // some calls wait for a listener
	Warnings []string
}

// Filter gives the entry as the runtime takes it.
func (e *Entry) Filter() *runtime.Filter {
	f := &runtime.Filter{Flags: e.Flags, Listener: e.Notify, Program: make([]unix.SockFilter, len(e.Program))}
	for i, in := range e.Program {
		f.Program[i] = unix.SockFilter{Code: in.Op, Jt: in.JT, Jf: in.JF, K: in.K}
	}
	return f
}

// Key is all that a filter follows from, in one line.
type Key string

// NewKey makes a key of this program file and of the caller's words, each of
// which is hashed. It is false if the program file cannot be told.
func NewKey(words ...[]byte) (Key, bool) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &st); err != nil {
		return "", false
	}
	b := fmt.Appendf(nil, "%d:%d %d %d.%d %d.%d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
	for _, w := range words {
		sum := sha256.Sum256(w)
		b = hex.AppendEncode(append(b, ' '), sum[:])
	}
	return Key(b), true
}

// Cache is a directory of filters, which is made when it is first written to.
type Cache struct{ Dir string }

// head is the start of a file, before the instructions.
type head struct {
	Key      Key
	Flags    uint
	Notify   bool
	Warnings []string
}

func (c Cache) path(k Key) string {
	sum := sha256.Sum256([]byte(k))
	return filepath.Join(c.Dir, hex.EncodeToString(sum[:16]))
}

// Load gives the filter of a key, or nil.
func (c Cache) Load(k Key) *Entry {
	data, err := os.ReadFile(c.path(k))
	if err != nil || len(data) < sha256.Size {
		return nil
	}
	// A crash of the machine may leave a file that is not whole.
	sum, data := data[:sha256.Size], data[sha256.Size:]
	if want := sha256.Sum256(data); !bytes.Equal(sum, want[:]) {
		return nil
	}
	first, rest, _ := bytes.Cut(data, []byte("\n"))
	var h head
	if json.Unmarshal(first, &h) != nil || h.Key != k {
		return nil
	}
	prog, err := bpf.Decode(rest, binary.NativeEndian)
	if err != nil || bpf.Check(prog) != nil {
		return nil
	}
	return &Entry{Program: prog, Flags: h.Flags, Notify: h.Notify, Warnings: h.Warnings}
}

// Save keeps a filter. That it cannot be kept is no fault.
func (c Cache) Save(k Key, e *Entry) {
	first, err := json.Marshal(head{k, e.Flags, e.Notify, e.Warnings})
	if err != nil {
		return
	}
	data := append(append(first, '\n'), bpf.Encode(e.Program, binary.NativeEndian)...)
	sum := sha256.Sum256(data)
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return
	}
	c.sweep()
	tmp, err := os.CreateTemp(c.Dir, "new-")
	if err != nil {
		return
	}
	_, err = tmp.Write(append(sum[:], data...))
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), c.path(k))
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
}

// sweep empties a full cache: a filter that is still needed is soon there again.
func (c Cache) sweep() {
	old, err := os.ReadDir(c.Dir)
	if err != nil || len(old) < maxFilters {
		return
	}
	for _, o := range old {
		os.Remove(filepath.Join(c.Dir, o.Name()))
	}
}
