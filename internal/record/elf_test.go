//go:build amd64

package record

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

const loadAddr = 0x400000

// program writes a static program of nothing but code, for x86-64 or i386.
func program(t testing.TB, bits int, code ...byte) string {
	t.Helper()
	var b bytes.Buffer
	put := func(fields ...any) {
		for _, f := range fields {
			binary.Write(&b, binary.LittleEndian, f)
		}
	}
	ident := [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}
	if bits == 64 {
		const head = 64 + 56
		size := uint64(head + len(code))
		put(ident, uint16(2), uint16(62), uint32(1), uint64(loadAddr+head), uint64(64), uint64(0),
			uint32(0), uint16(64), uint16(56), uint16(1), uint16(64), uint16(0), uint16(0))
		put(uint32(1), uint32(5), uint64(0), uint64(loadAddr), uint64(loadAddr), size, size, uint64(0x1000))
	} else {
		ident[4] = 1
		const head = 52 + 32
		size := uint32(head + len(code))
		put(ident, uint16(2), uint16(3), uint32(1), uint32(loadAddr+head), uint32(52), uint32(0),
			uint32(0), uint16(52), uint16(32), uint16(1), uint16(40), uint16(0), uint16(0))
		put(uint32(1), uint32(0), uint32(loadAddr), uint32(loadAddr), size, size, uint32(5), uint32(0x1000))
	}
	b.Write(code)
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, b.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// stormCode forks 10,003 times: 3 times to be four processes, and each of them
// 2,500 times children that ask for their parent and end.
var stormCode = []byte{
	0xb8, 57, 0, 0, 0, 0x0f, 0x05, // mov eax, fork; syscall
	0xb8, 57, 0, 0, 0, 0x0f, 0x05,
	0xbb, 0xc4, 0x09, 0, 0, // mov ebx, 2500
	// again:
	0xb8, 57, 0, 0, 0, 0x0f, 0x05,
	0x85, 0xc0, // test eax, eax
	0x74, 32, // jz child
	0xb8, 61, 0, 0, 0, // mov eax, wait4
	0x48, 0x83, 0xcf, 0xff, // or rdi, -1
	0x31, 0xf6, 0x31, 0xd2, // xor esi, esi; xor edx, edx
	0x4d, 0x31, 0xd2, // xor r10, r10
	0x0f, 0x05,
	0xff, 0xcb, // dec ebx
	0x75, 0xdf, // jnz again
	0xb8, 60, 0, 0, 0, // mov eax, exit
	0x31, 0xff, // xor edi, edi
	0x0f, 0x05,
	0x90,
	// child:
	0xb8, 110, 0, 0, 0, 0x0f, 0x05, // getppid
	0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, // exit
}

// i386Code asks 7 times for its parent and ends.
var i386Code = []byte{
	0xbe, 7, 0, 0, 0, // mov esi, 7
	// again:
	0xb8, 64, 0, 0, 0, // mov eax, getppid
	0xcd, 0x80, // int 0x80
	0x4e,       // dec esi
	0x75, 0xf6, // jnz again
	0xb8, 1, 0, 0, 0, // mov eax, exit
	0x31, 0xdb, // xor ebx, ebx
	0xcd, 0x80,
}
