package inspect

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// maxFilter bounds the size of a file with a filter in bytes.
const maxFilter = 8 * bpf.MaxLen

// InvalidFilterError says why a file is no filter that the kernel accepts.
type InvalidFilterError struct {
	File string
	Err  error
}

func (e *InvalidFilterError) Error() string {
	return fmt.Sprintf("%s is no valid seccomp filter: %v", e.File, e.Err)
}

// Unwrap returns the kernel's objection.
func (e *InvalidFilterError) Unwrap() error { return e.Err }

// LoadFilter reads a file with an array of struct sock_filter for machines of
// the architecture arch; see [ReadFilter].
func LoadFilter(path string, arch seccomp.Arch) ([]bpf.Instruction, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load seccomp filter: %w", err)
	}
	defer f.Close()
	return ReadFilter(path, f, arch)
}

// IsFilterFile reports whether a file looks like an array of struct
// sock_filter, and not like a profile: every opcode has a zero byte, and text
// has none.
func IsFilterFile(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [2]byte
	_, err = io.ReadFull(f, head[:])
	return err == nil && (head[0] == 0 || head[1] == 0)
}

// ReadFilter reads an array of struct sock_filter for machines of the
// architecture arch. Name is what errors call it. What is no valid filter is
// an [InvalidFilterError], together with the instructions that could be read.
func ReadFilter(name string, r io.Reader, arch seccomp.Arch) ([]bpf.Instruction, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFilter+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("load seccomp filter: %w", err)
	case len(data) > maxFilter:
		return nil, &InvalidFilterError{name, fmt.Errorf("more than %d instructions", bpf.MaxLen)}
	}
	order, other, example := seccomp.ByteOrder(arch), binary.ByteOrder(binary.BigEndian), syscalls.S390X
	if order == other {
		other, example = binary.LittleEndian, seccomp.X86_64
	}
	prog, err := bpf.Decode(data, order)
	if err == nil {
		err = bpf.Check(prog)
	}
	if err == nil {
		return prog, nil
	}
	if swapped, e := bpf.Decode(data, other); e == nil && bpf.Check(swapped) == nil {
		err = fmt.Errorf("its bytes are not in the order of %s; name the architecture that it is for, such as %s", arch.Short(), example.Short())
	}
	return prog, &InvalidFilterError{name, err}
}
