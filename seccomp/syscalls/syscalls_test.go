package syscalls

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// The committed tables are what the generator makes.
func TestTablesAreGenerated(t *testing.T) {
	out := filepath.Join(t.TempDir(), "tables")
	cmd := exec.Command("go", "run", "gen.go", "genargs.go", out)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("tables.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("tables.go differs from what gen.go makes; run go generate")
	}
}

func TestNumbers(t *testing.T) {
	for _, tc := range []struct {
		arch Arch
		name string
		nr   uint32
	}{
		{X86_64, "read", 0}, {X86_64, "rt_sigreturn", 15}, {X86_64, "openat2", 437}, {X86_64, "rseq_slice_yield", 471},
		{I386, "read", 3}, {I386, "socketcall", 102}, {I386, "clock_settime64", 404},
		{X32, "read", 1 << 30}, {X32, "rt_sigaction", 1<<30 | 512}, {X32, "pwritev2", 1<<30 | 547}, {X32, "openat2", 1<<30 | 437},
		{ARM, "read", 3}, {ARM, "breakpoint", 0xf0001}, {ARM, "get_tls", 0xf0006},
		{AARCH64, "openat", 56}, {AARCH64, "newfstatat", 79},
		{LOONGARCH64, "statx", 291}, {RISCV64, "riscv_hwprobe", 258}, {RISCV64, "newfstatat", 79},
		{MIPS, "syscall", 4000}, {MIPSEL, "socket", 4183}, {MIPS64, "read", 5000}, {MIPSEL64, "openat", 5247},
		{MIPS64N32, "read", 6000}, {MIPSEL64N32, "getdents64", 6299}, {MIPS64N32, "fcntl64", 6212}, {MIPS64N32, "statx", 6330},
		{MIPS64N32, "fanotify_init", 6300}, {MIPS64N32, "utimensat", 6279}, {MIPS64N32, "clock_gettime64", 6403}, {MIPS64N32, "clone3", 6435},
		{PPC, "fstatat64", 291}, {PPC64, "newfstatat", 291}, {PPC64LE, "socket", 326},
		{S390, "chown", 182}, {S390, "chown32", 212}, {S390, "mmap2", 192}, {S390, "openat2", 437}, {S390, "futex_time64", 422},
		{S390X, "chown", 212}, {S390X, "read", 3}, {S390X, "select", 142},
	} {
		if nr, ok := Number(tc.arch, tc.name); !ok || nr != tc.nr {
			t.Errorf("%v %s: %#x, %v", tc.arch, tc.name, nr, ok)
		}
		if name, ok := Name(tc.arch, tc.nr); !ok || name != tc.name {
			t.Errorf("%v %#x: %q, %v", tc.arch, tc.nr, name, ok)
		}
	}
	for _, tc := range []struct {
		arch Arch
		name string
	}{
		{X86_64, "socketcall"}, {X86_64, "riscv_flush_icache"}, {I386, "arch_specific_syscall"}, {X32, "uselib"},
		{X32, "map_shadow_stack"}, {AARCH64, "open"}, {AARCH64, "breakpoint"}, {200, "read"},
		{M68K, "read"}, {MIPS, "reserved221"}, {MIPS64N32, "reserved177"}, {RISCV64, "arch_specific_syscall"}, {S390, "select"}, {S390, "lchown3232"}, {X86_64, ""},
	} {
		if nr, ok := Number(tc.arch, tc.name); ok {
			t.Errorf("%v %s: %#x", tc.arch, tc.name, nr)
		}
	}
	for _, tc := range []struct {
		arch Arch
		nr   uint32
	}{
		{X86_64, 1 << 30}, {X86_64, 5000}, {X86_64, 1<<32 - 1}, {I386, 1 << 30}, {X32, 0}, {X32, 1 << 31}, {X32, 1<<31 | 1<<30},
		{ARM, 512}, {ARM, 0xf0000}, {ARM, 0xf0007}, {ARM, 1<<32 - 1}, {M68K, 1}, {200, 1},
		{MIPS, 0}, {MIPS, 3999}, {MIPS, 5000}, {MIPS64, 4001}, {MIPS64N32, 5001}, {MIPS64, 6000}, {MIPS, 1<<32 - 1},
		{X32, X32Bit | 548}, {S390, 471}, {S390X, 0},
	} {
		if name, ok := Name(tc.arch, tc.nr); ok {
			t.Errorf("%v %#x: %s", tc.arch, tc.nr, name)
		}
	}
}

func TestAll(t *testing.T) {
	if !slices.IsSorted(names[:]) {
		t.Error("names are not sorted")
	}
	for a := range Arch(archs) {
		if !a.HasTable() {
			for range All(a) {
				t.Errorf("%v: a call without a table", a)
			}
			continue
		}
		last, n := int64(-1), 0
		for nr, name := range All(a) {
			if int64(nr) <= last {
				t.Errorf("%v: %#x comes after %#x", a, nr, last)
			}
			last = int64(nr)
			n++
			if got, ok := Number(a, name); !ok || got != nr {
				t.Errorf("%v %s: %#x, %v, want %#x", a, name, got, ok, nr)
			}
			if got, ok := Name(a, nr); !ok || got != name {
				t.Errorf("%v %#x: %s, want %s", a, nr, got, name)
			}
		}
		if n < 300 {
			t.Errorf("%v: only %d calls", a, n)
		}
		for range All(a) {
			break
		}
	}
}

// The slots are dense, in the order of the numbers, and one to one.
func TestSlots(t *testing.T) {
	for a := range Arch(archs) {
		last := int64(-1)
		for nr, name := range All(a) {
			c, _ := Find(name)
			slot, ok := c.Slot(a)
			if !ok || slot >= MaxSlots || int64(slot) <= last || a.Number(slot) != nr {
				t.Errorf("%v %s: slot %d, %v after %d, number %#x", a, name, slot, ok, last, a.Number(slot))
			}
			last = int64(slot)
		}
		for slot := range uint32(MaxSlots - 1) {
			if a.Number(slot) >= a.Number(slot+1) {
				t.Errorf("%v: slot %d has number %#x, the next %#x", a, slot, a.Number(slot), a.Number(slot+1))
			}
		}
	}
	if slot, ok := Call(0).Slot(X86_64); ok {
		t.Errorf("no call: slot %d", slot)
	}
}

func TestAlias(t *testing.T) {
	for _, tc := range []struct {
		name  string
		alias uint32
	}{{"rt_sigaction", 13}, {"ioctl", 16}, {"pwritev2", 328}, {"uselib", 134}, {"map_shadow_stack", 453}} {
		c, _ := Find(tc.name)
		nr, ok := c.Alias(X32)
		if !ok || nr != tc.alias|X32Bit {
			t.Errorf("%s: %#x, %v", tc.name, nr, ok)
		}
		if slot, ok := c.AliasSlot(X32); !ok || slot != tc.alias || X32.Number(slot) != nr {
			t.Errorf("%s: slot %d, %v", tc.name, slot, ok)
		}
		if got, ok := Name(X32, nr); !ok || got != tc.name {
			t.Errorf("%#x: %q, %v", nr, got, ok)
		}
		if own, ok := c.Number(X32); ok && own == nr {
			t.Errorf("%s: the alias is the number %#x", tc.name, own)
		}
		if nr, ok := c.Alias(X86_64); ok {
			t.Errorf("%s on x86-64: %#x", tc.name, nr)
		}
	}
	for _, name := range []string{"read", "openat2", "socketcall", "chown32"} {
		c, _ := Find(name)
		if nr, ok := c.Alias(X32); ok {
			t.Errorf("%s: %#x", name, nr)
		}
	}
	// Every number of x86-64 means the same call on x32.
	for nr, name := range All(X86_64) {
		if got, ok := Name(X32, nr|X32Bit); !ok || got != name {
			t.Errorf("%#x: %q, %v, want %q", nr|X32Bit, got, ok, name)
		}
	}
}

func TestNative(t *testing.T) {
	a, ok := Native()
	if !ok || !a.HasTable() {
		t.Fatalf("%v, %v", a, ok)
	}
	nr, ok := Number(a, "getpid")
	if pid, _, errno := syscall.Syscall(uintptr(nr), 0, 0, 0); !ok || errno != 0 || int(pid) != os.Getpid() {
		t.Errorf("call %d of %v: %d, %v", nr, a, pid, errno)
	}
}

func TestNearest(t *testing.T) {
	for text, want := range map[string]string{
		"opnat": "openat", "OpenAt": "openat", "sys_read": "read", " write": "write", "clone33": "clone3", "frobnicate": "", "": "",
	} {
		if got := Nearest(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestArchNames(t *testing.T) {
	audits := map[uint32]Arch{}
	for a := range Arch(archs) {
		if got, err := ParseArch(a.String()); err != nil || got != a {
			t.Errorf("%v: %v, %v", a, got, err)
		}
		if got, err := ParseShort(a.Short()); err != nil || got != a {
			t.Errorf("%s: %v, %v", a.Short(), got, err)
		}
		if other, ok := audits[a.Audit()]; ok && a != X32 {
			t.Errorf("%v and %v have the same audit value", a, other)
		}
		audits[a.Audit()] = a
		if want := !slices.Contains([]Arch{M68K, PARISC, PARISC64, SH, SHEB}, a); a.HasTable() != want {
			t.Errorf("%v: table %v", a, a.HasTable())
		}
		big := slices.Contains([]Arch{M68K, MIPS, MIPS64, MIPS64N32, PARISC, PARISC64, PPC, PPC64, S390, S390X, SHEB}, a)
		if a.BigEndian() != big {
			t.Errorf("%v: big endian %v", a, a.BigEndian())
		}
	}
	for a, want := range map[Arch]uint32{X86_64: 0xc000003e, I386: 0x40000003, X32: 0xc000003e, ARM: 0x40000028, AARCH64: 0xc00000b7, S390X: 0x80000016, RISCV64: 0xc00000f3, MIPSEL64N32: 0xe0000008} {
		if got := a.Audit(); got != want {
			t.Errorf("%v: audit %#x, want %#x", a, got, want)
		}
	}
	for a, want := range map[Arch]bool{X86_64: true, I386: false, X32: false, ARM: false, AARCH64: true, MIPS64: true, MIPS64N32: false} {
		if got := a.Is64(); got != want {
			t.Errorf("%v: 64 bits: %v", a, got)
		}
	}
	if _, err := ParseShort("amd46"); err == nil || err.Error() != `unknown architecture "amd46"; did you mean amd64?` {
		t.Error(err)
	}
	if _, err := ParseArch("nonsense"); err == nil || err.Error() != `unknown architecture "nonsense"` {
		t.Error(err)
	}
	if got := Arch(200).String() + Arch(200).Short(); got != "SCMP_ARCH_200arch200" {
		t.Error(got)
	}
}
