package engine

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
	"github.com/brig-run/brig/internal/spec"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
)

// To compile and prove a filter takes half a millisecond of a start, and the
// next start most likely needs the same one. So filters are kept in a
// directory of the store, which only root can write, by all that they follow
// from: this very program file, the profile, and the target. What is not there
// or not whole is made anew.

// filterKey is all that a filter follows from.
type filterKey struct {
	// The program file, which has the compiler and the built-in profile.
	Device, Inode    uint64
	Size             int64
	Modified, Placed unix.Timespec // mtime and ctime
	Profile          [sha256.Size]byte
	Target           seccomp.Target
}

// maxFilters is how many filters are kept.
const maxFilters = 64

// newFilterKey returns the key for a profile, whose text is nil for the
// built-in one. It is false if the program file cannot be told.
func newFilterKey(s spec.Seccomp, text []byte, t seccomp.Target) (filterKey, bool) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/exe", &st); err != nil {
		return filterKey{}, false
	}
	return filterKey{
		Device: st.Dev, Inode: st.Ino, Size: st.Size, Modified: st.Mtim, Placed: st.Ctim,
		Profile: sha256.Sum256(append([]byte(string(s.Mode)+"\x00"+s.Path+"\x00"), text...)), Target: t,
	}, true
}

func (k *filterKey) text() []byte { return fmt.Appendf(nil, "%+v", *k) }

// filterFile is the start of a file, before the instructions.
type filterFile struct {
	Key      string
	Flags    uint
	Warnings []string
}

func (e *Engine) filterPath(k *filterKey) string {
	sum := sha256.Sum256(k.text())
	return filepath.Join(e.path("filters"), hex.EncodeToString(sum[:16]))
}

// cachedFilter returns the filter of a key, or nil.
func (e *Engine) cachedFilter(k *filterKey) (*runtime.Filter, []string) {
	data, err := os.ReadFile(e.filterPath(k))
	if err != nil || len(data) < sha256.Size {
		return nil, nil
	}
	// A crash of the machine may leave a file that is not whole.
	sum, data := data[:sha256.Size], data[sha256.Size:]
	if want := sha256.Sum256(data); !bytes.Equal(sum, want[:]) {
		return nil, nil
	}
	head, rest, _ := bytes.Cut(data, []byte("\n"))
	var f filterFile
	if json.Unmarshal(head, &f) != nil || f.Key != string(k.text()) {
		return nil, nil
	}
	prog, err := bpf.Decode(rest, binary.NativeEndian)
	if err != nil || bpf.Check(prog) != nil {
		return nil, nil
	}
	return runtimeFilter(prog, f.Flags), f.Warnings
}

// cacheFilter keeps a filter. That it cannot be kept is no fault.
func (e *Engine) cacheFilter(k *filterKey, f *seccomp.Filter, warnings []string) {
	head, err := json.Marshal(filterFile{string(k.text()), uint(f.Flags), warnings})
	if err != nil {
		return
	}
	data := append(append(head, '\n'), bpf.Encode(f.Program, binary.NativeEndian)...)
	sum := sha256.Sum256(data)
	dir := e.path("filters")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return
	}
	if old, err := os.ReadDir(dir); err == nil && len(old) >= maxFilters {
		for _, o := range old {
			os.Remove(filepath.Join(dir, o.Name()))
		}
	}
	tmp, err := os.CreateTemp(dir, "new-")
	if err != nil {
		return
	}
	_, err = tmp.Write(append(sum[:], data...))
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), e.filterPath(k))
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
}
