package inspect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func TestReadFilter(t *testing.T) {
	prog := []bpf.Instruction{{Op: bpf.LdAbs}, {Op: bpf.RetK, K: uint32(seccomp.Allow)}}
	for _, tc := range []struct {
		name string
		data []byte
		arch seccomp.Arch
		read int // instructions
		want string
	}{
		{"little", bpf.Encode(prog, binary.LittleEndian), seccomp.X86_64, 2, ""},
		{"big", bpf.Encode(prog, binary.BigEndian), syscalls.S390X, 2, ""},
		{"big as little", bpf.Encode(prog, binary.BigEndian), seccomp.X86_64, 2, "f is no valid seccomp filter: its bytes are not in the order of amd64; name the architecture that it is for, such as s390x"},
		{"little as big", bpf.Encode(prog, binary.LittleEndian), syscalls.S390X, 2, "such as amd64"},
		{"cut off", bpf.Encode(prog, binary.LittleEndian)[:15], seccomp.X86_64, 1, "15 bytes are no whole number"},
		{"no end", bpf.Encode(prog[:1], binary.LittleEndian), seccomp.X86_64, 1, "last instruction is no return"},
		{"empty", nil, seccomp.X86_64, 0, "empty program"},
		{"too long", make([]byte, 8*bpf.MaxLen+8), seccomp.X86_64, 0, "more than 4096 instructions"},
		{"text", []byte("{}\n     "), seccomp.X86_64, 1, "opcode"},
	} {
		got, err := ReadFilter("f", bytes.NewReader(tc.data), tc.arch)
		var invalid *InvalidFilterError
		if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) || !errors.As(err, &invalid)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		if len(got) != tc.read {
			t.Errorf("%s: %d instructions, want %d", tc.name, len(got), tc.read)
		}
	}
	if _, err := LoadFilter("/nonexistent", seccomp.X86_64); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestIsFilterFile(t *testing.T) {
	dir := t.TempDir()
	prog := []bpf.Instruction{{Op: bpf.LdAbs}, {Op: bpf.RetK}}
	for name, data := range map[string][]byte{
		"little": bpf.Encode(prog, binary.LittleEndian), "big": bpf.Encode(prog, binary.BigEndian),
		"json": []byte("{}"), "short": {6}, "none": nil,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, want := IsFilterFile(path), name == "little" || name == "big"; got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if IsFilterFile(dir) || IsFilterFile(filepath.Join(dir, "missing")) {
		t.Error("a directory or a missing file")
	}
}

// Summaries agree with what the filter does.
func TestSummarize(t *testing.T) {
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
		s := Summarize(policy, f)
		if s.Instructions != len(f.Program) || s.Bytes != 8*len(f.Program) || !slices.Equal(s.Flags, []string{"SECCOMP_FILTER_FLAG_SPEC_ALLOW"}) || s.Listener || len(s.Archs) != len(policy.Archs) {
			t.Errorf("%+v", s)
		}
		for i, as := range s.Archs {
			calls, cached, conditional, blocked := 0, 0, 0, 0
			for nr := range syscalls.All(policy.Archs[i].Arch) {
				calls++
				switch policy.Access(policy.Archs[i].Arch, nr) {
				case seccomp.Allowed:
					cached++
				case seccomp.Conditional:
					conditional++
				case seccomp.Blocked:
					blocked++
				}
			}
			if as.Arch != policy.Archs[i].Arch.Short() || as.Cached != cached || as.Conditional != conditional || as.Blocked != blocked ||
				as.Instructions > s.Instructions || as.Instructions < 50 || as.Depth < 5 || as.Depth > 30 {
				t.Errorf("%d calls: %d, %d, %d; %+v", calls, cached, conditional, blocked, as)
			}
		}
	}
}
