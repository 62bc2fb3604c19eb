package inspect

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// assemble makes a program of text.
func assemble(t *testing.T, text string) []bpf.Instruction {
	t.Helper()
	prog, err := bpf.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return prog
}

func TestDisassemble(t *testing.T) {
	prog := assemble(t, `
		ld [arch]
		jeq #0xc000003e, next, other
		ld [nr]
		jge #0x40000000, wide, next
		jeq #41, next, rest
		ld [arg0.lo]
		jgt #40, no, rest
rest:	jge #42, yes, no
wide:	jgt #0x40000001, no, yes
other:	jeq #0x40000003, next, kill
		ld [nr]
		jeq #102, yes, next
		and #0xff
		jeq #4, yes, no
yes:	ret #0x7fff0000
no:		ret #0x50001
kill:	ret #0x80000000
		ret #0x7fff0000
		ret #0x12345`)
	const want = `    ld [arch]
    jeq #0xc000003e, next, L2      ; amd64
amd64:
    ld [nr]
    jge #0x40000000, x32, next     ; x32
    jeq #0x29, next, L1            ; 41 socket
    ld [arg0.lo]                   ; socket
    jgt #0x28, eperm, next
L1:
    jge #0x2a, allow, eperm
x32:
    jgt #0x40000001, eperm, allow  ; > 1 write
L2:
    jeq #0x40000003, next, kill_process ; x86
x86:
    ld [nr]
    jeq #0x66, allow, next         ; 102 socketcall
    and #0xff
    jeq #0x4, next, eperm
allow:
    ret #0x7fff0000                ; ALLOW
eperm:
    ret #0x50001                   ; ERRNO(EPERM)
kill_process:
    ret #0x80000000                ; KILL_PROCESS
    ret #0x7fff0000                ; never reached
    ret #0x12345                   ; never reached
`
	got := Disassemble(prog, seccomp.X86_64).Format(prog)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if again := assemble(t, got); !slices.Equal(again, prog) {
		t.Errorf("the text is another program:\n%s", got)
	}
}

// A program that never asks for the architecture is one for the given one.
func TestDisassembleWithoutArch(t *testing.T) {
	prog := assemble(t, ".big\nld [nr]\njeq #5, +2, next\nld [arg1.lo]\nja +0\nret #0x7fff0000")
	got := Disassemble(prog, syscalls.S390X).Format(prog)
	if !strings.HasPrefix(got, ".big\n") || !strings.Contains(got, "; 5 open") || !strings.Contains(got, "[arg1.lo]") {
		t.Error(got)
	}
	if got := Disassemble(prog, seccomp.ARM64).Format(prog); !strings.Contains(got, "; 5 setxattr") || !strings.Contains(got, "[arg1.hi]") {
		t.Error(got)
	}
	if got := Disassemble(nil, seccomp.X86_64).Format(nil); got != "" {
		t.Errorf("empty program: %q", got)
	}
}

// The whole default profile, for every architecture: names come out that the
// profile decides on, and the text is the same program.
func TestDisassembleDefault(t *testing.T) {
	for a := range seccomp.Arches() {
		if !a.HasTable() {
			continue
		}
		policy, _, err := seccomp.Default().Resolve(seccomp.Target{Arch: a, Caps: capability.Default(), Kernel: seccomp.KernelVersion{Major: 6, Minor: 1}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := seccomp.Compile(policy)
		if err != nil {
			t.Fatal(err)
		}
		text := Disassemble(f.Program, a).Format(f.Program)
		for _, part := range []string{"; " + a.Short() + "\n", " personality\n", "; ALLOW\n", "; ERRNO(EPERM)\n", "allow:\n"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s: no %q in\n%s", a.Short(), part, text)
			}
		}
		if strings.Contains(text, "never reached") {
			t.Errorf("%s: dead code in\n%s", a.Short(), text)
		}
		if again := assemble(t, text); !slices.Equal(again, f.Program) {
			t.Errorf("%s: the text is another program", a.Short())
		}
	}
}

// No program makes the disassembler panic, and its text is always the program.
func FuzzDisassemble(f *testing.F) {
	policy, _, err := seccomp.Default().Resolve(seccomp.Target{Arch: seccomp.X86_64, Caps: capability.Default(), Kernel: seccomp.KernelVersion{Major: 6, Minor: 1}})
	if err != nil {
		f.Fatal(err)
	}
	filter, err := seccomp.Compile(policy)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bpf.Encode(filter.Program, binary.LittleEndian), uint8(0))
	f.Add(bpf.Encode(filter.Program[:50], binary.LittleEndian), uint8(3))
	f.Add([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 0x15, 0, 1, 0, 41, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0xff, 0x7f}, uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, arch uint8) {
		prog, _ := bpf.Decode(data, binary.LittleEndian)
		style := Disassemble(prog, seccomp.Arch(arch%23))
		text := style.Format(prog)
		again, err := bpf.Parse(text)
		if err != nil || !slices.Equal(again, prog) {
			t.Fatalf("%v\n%v\n%v\n%s", err, prog, again, text)
		}
	})
}
