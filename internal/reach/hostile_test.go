package reach

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// program makes a file of one segment with code.
func program(code []byte, change func(*elf.Header64, *elf.Prog64)) []byte {
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: 0x400000 + 120,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	p := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: 0x400000,
		Filesz: uint64(120 + len(code)), Memsz: uint64(120 + len(code)), Align: 4096}
	if change != nil {
		change(&h, &p)
	}
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, h)
	binary.Write(&b, binary.LittleEndian, p)
	b.Write(code)
	return b.Bytes()
}

func TestScanRefusesWhatIsNoProgram(t *testing.T) {
	good := program([]byte{0x0f, 0x05}, nil)
	for _, c := range []struct {
		name string
		file []byte
		want error
		text string
	}{
		{"empty", nil, ErrNotELF, ""},
		{"script", []byte("#!/bin/sh\necho hello, this is a script\n"), ErrNotELF, ""},
		{"cut", good[:50], io.ErrUnexpectedEOF, ""},
		{"arm64", program(nil, func(h *elf.Header64, p *elf.Prog64) { h.Machine = uint16(elf.EM_AARCH64) }), ErrOtherMachine, "EM_AARCH64"},
		{"32 bits", program(nil, func(h *elf.Header64, p *elf.Prog64) { h.Ident[elf.EI_CLASS] = 1 }), ErrOtherMachine, ""},
		{"object", program(nil, func(h *elf.Header64, p *elf.Prog64) { h.Type = 1 }), nil, "ET_REL"},
		{"no headers", program(nil, func(h *elf.Header64, p *elf.Prog64) { h.Phnum = 0 }), nil, "program headers"},
		{"headers outside", program(nil, func(h *elf.Header64, p *elf.Prog64) { h.Phoff = 1 << 63 }), io.ErrUnexpectedEOF, ""},
		{"segment too large", program(nil, func(h *elf.Header64, p *elf.Prog64) { p.Filesz, p.Memsz = 1<<40, 1<<40 }), nil, "MiB"},
		{"segment outside", program(nil, func(h *elf.Header64, p *elf.Prog64) { p.Filesz, p.Memsz = 1<<28, 1<<28 }), io.ErrUnexpectedEOF, ""},
		{"segment wraps", program(nil, func(h *elf.Header64, p *elf.Prog64) { p.Vaddr, p.Memsz = 1<<63, 1<<63+1 }), nil, "segment"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Scan(bytes.NewReader(c.file))
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v: want %v, %q", err, c.want, c.text)
			}
		})
	}
}

// TestHostileCodeTakesBoundedWork has code that is as large and as tangled as
// can be.
func TestHostileCodeTakesBoundedWork(t *testing.T) {
	calls := make([]byte, 0, 1<<20)
	for len(calls) < 1<<20 { // each calls the next but one, and enters the kernel
		calls = append(calls, 0xe8, 10, 0, 0, 0, 0x0f, 0x05, 0x90, 0x90, 0xc3)
	}
	jumps := bytes.Repeat([]byte{0x74, 0x7e, 0x75, 0x80, 0xff, 0xc0, 0x50, 0x0f, 0x05}, 1<<16)
	tables := bytes.Repeat([]byte{0xff, 0x24, 0xc5, 0x78, 0, 0x40, 0, 0x0f, 0x05}, 1<<16)
	for _, c := range []struct {
		name string
		code []byte
	}{
		{"syscalls", bytes.Repeat([]byte{0x0f, 0x05}, 1<<20)},
		{"zeros", make([]byte, 4<<20)},
		{"calls", calls}, {"jumps", jumps}, {"tables", tables},
		{"pushes", bytes.Repeat([]byte{0x50, 0x74, 0xfd, 0x0f, 0x05}, 1<<18)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			tree := fstest.MapFS{"p": {Data: program(c.code, nil), Mode: 0o755}}
			r, err := Program(tree, "/p")
			if err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			t.Logf("%d bytes: %v, %d MiB allocated, %d calls, %d unknown sites", len(c.code), time.Since(start), (after.TotalAlloc-before.TotalAlloc)>>20, len(r.Calls), len(r.Unknown))
			if len(r.Unknown) == 0 && c.name != "zeros" {
				t.Error("nothing is unknown")
			}
		})
	}
}

// TestNothingOutsideOfTheTree has links that lead out, in circles and nowhere.
func TestNothingOutsideOfTheTree(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	root := filepath.Join(dir, "root")
	for _, d := range []string{root + "/bin", root + "/usr/lib"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exit := program([]byte{0xb8, 60, 0, 0, 0, 0x0f, 0x05}, nil) // mov $60,%eax; syscall
	getpid := program([]byte{0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xf4}, nil)
	for name, data := range map[string][]byte{
		outside: getpid, root + "/bin/p": exit,
		root + "/bin/script": []byte("#! /bin/link -x\n"), root + "/bin/env-script": []byte("#!/bin/env -S p\n"),
		root + "/bin/self": []byte("#!/bin/self\n"),
	} {
		if err := os.WriteFile(name, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"bin/link": "/bin/p", "bin/up": "../../../../../bin/p", "bin/out": outside, "bin/dots": "../../outside",
		"bin/circle": "circle", "sbin": "bin", "bin/nowhere": "/none",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for name, want := range map[string]string{
		"/bin/p": "exit", "/bin/link": "exit", "/sbin/link": "exit", "/bin/up": "exit", "/bin/script": "exit", "/bin/env-script": "exit",
		"/bin/out": "", "/bin/dots": "", "/bin/circle": "", "/bin/nowhere": "", "/bin": "", "/bin/self": "", "/../outside": "",
	} {
		r, err := Program(tree.FS(), name)
		if want == "" {
			if err == nil {
				t.Errorf("%s: no error, %v", name, r.Calls)
			}
			continue
		}
		if err != nil || len(r.Calls) != 1 || r.Calls[0].Name != want || r.Calls[0].Site.Program != "/bin/p" {
			t.Errorf("%s: %+v, %v: want %s", name, r, err, want)
		}
	}
	r, err := Tree(tree.FS())
	if err != nil || len(r.Calls) != 1 || r.Calls[0].Name != "exit" {
		t.Errorf("the tree: %+v, %v", r, err)
	}
}

func TestABIsAreKeptApart(t *testing.T) {
	code := []byte{
		0xb8, 20, 0, 0, 0, 0xcd, 0x80, // mov $20,%eax; int $0x80
		0xb8, 39, 0, 0, 0x40, 0x0f, 0x05, // mov $0x40000027,%eax; syscall
		0x31, 0xc0, 0x0f, 0x05, // xor %eax,%eax; syscall
		0x8b, 0x07, 0x0f, 0x05, // mov (%rdi),%eax; syscall
		0xc3,
	}
	r, err := Program(fstest.MapFS{"p": {Data: program(code, nil), Mode: 0o755}}, "/p")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range r.Calls {
		got = append(got, c.ABI+" "+c.Name)
	}
	if s := strings.Join(got, ", "); s != "amd64 read, x32 getpid, x86 getpid" || len(r.Unknown) != 1 {
		t.Errorf("%s, %d unknown", s, len(r.Unknown))
	}
}
