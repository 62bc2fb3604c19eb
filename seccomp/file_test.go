package seccomp

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
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func TestReadFilter(t *testing.T) {
	prog := []bpf.Instruction{{Op: bpf.LdAbs}, {Op: bpf.RetK, K: uint32(Allow)}}
	for _, tc := range []struct {
		name string
		data []byte
		arch Arch
		read int // instructions
		want string
	}{
		{"little", bpf.Encode(prog, binary.LittleEndian), X86_64, 2, ""},
		{"big", bpf.Encode(prog, binary.BigEndian), syscalls.S390X, 2, ""},
		{"big as little", bpf.Encode(prog, binary.BigEndian), X86_64, 2, "f is no valid seccomp filter: its bytes are not in the order of amd64; name the architecture that it is for, such as s390x"},
		{"little as big", bpf.Encode(prog, binary.LittleEndian), syscalls.S390X, 2, "such as amd64"},
		{"cut off", bpf.Encode(prog, binary.LittleEndian)[:15], X86_64, 1, "15 bytes are no whole number"},
		{"no end", bpf.Encode(prog[:1], binary.LittleEndian), X86_64, 1, "last instruction is no return"},
		{"empty", nil, X86_64, 0, "empty program"},
		{"too long", make([]byte, 8*bpf.MaxLen+8), X86_64, 0, "more than 4096 instructions"},
		{"text", []byte("{}\n     "), X86_64, 1, "opcode"},
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
	if _, err := LoadFilter("/nonexistent", X86_64); !errors.Is(err, os.ErrNotExist) {
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

func TestParseArchName(t *testing.T) {
	for name, want := range map[string]Arch{
		"amd64": X86_64, "x86_64": X86_64, "SCMP_ARCH_X86_64": X86_64, "scmp_arch_x86": I386, "386": I386, "i686": I386, "x86": I386,
		"x32": X32, "ARM64": ARM64, "aarch64": ARM64, "arm": ARM, "s390x": syscalls.S390X, "mips64le": syscalls.MIPSEL64,
		"loong64": syscalls.LOONGARCH64, "ppc64le": syscalls.PPC64LE, "riscv64": syscalls.RISCV64,
	} {
		if got, err := ParseArchName(name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{
		"amd46": "did you mean amd64?", "SCMP_ARCH_X86_46": "did you mean SCMP_ARCH_X86_64?", "": `unknown architecture ""`, "vax": `unknown architecture "vax"`,
	} {
		if got, err := ParseArchName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", name, got, err, want)
		}
	}
	for name := range ArchNames() {
		if _, err := ParseArchName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestParseCaps(t *testing.T) {
	for _, tc := range []struct {
		values []string
		want   capability.Set
	}{
		{[]string{"default"}, capability.Default()}, {[]string{"ALL"}, capability.Known()}, {[]string{"none"}, 0},
		{[]string{"sys_time,CAP_BPF", "Kill"}, capability.Of(capability.SYS_TIME, capability.BPF, capability.KILL)},
		{[]string{"default", "SYS_TIME"}, capability.Default().Add(capability.SYS_TIME)},
	} {
		if got, err := ParseCaps(tc.values); err != nil || got != tc.want {
			t.Errorf("%v: %v, %v", tc.values, got, err)
		}
	}
	for value, want := range map[string]string{"SYS_TME": "did you mean SYS_TIME?", "": "empty", "KILL,": "empty", "none,KILL": "stands alone"} {
		if got, err := ParseCaps([]string{value}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", value, got, err, want)
		}
	}
}

// Summaries agree with what the filter does.
func TestSummarize(t *testing.T) {
	for a := range Arches() {
		if !a.HasTable() {
			continue
		}
		policy, _, err := Default().Resolve(Target{Arch: a, Caps: capability.Default(), Kernel: KernelVersion{6, 1}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := Compile(policy)
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
				case Allowed:
					cached++
				case Conditional:
					conditional++
				case Blocked:
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
