package syscalls

import (
	"fmt"
	"iter"
	"runtime"
	"slices"

	"github.com/brig-run/brig/internal/nearest"
)

// Arch is an architecture (more exactly: an ABI) of Linux system calls.
type Arch uint8

// The architectures that seccomp profiles can name.
const (
	X86_64 Arch = iota
	I386
	X32
	ARM
	AARCH64
	LOONGARCH64
	M68K
	MIPS
	MIPS64
	MIPS64N32
	MIPSEL
	MIPSEL64
	MIPSEL64N32
	PARISC
	PARISC64
	PPC
	PPC64
	PPC64LE
	RISCV64
	S390
	S390X
	SH
	SHEB

	archs = iota
)

// The parts of the audit values; see include/uapi/linux/audit.h. The rest is
// the ELF machine number.
const (
	audit64 = 0x80000000
	auditLE = 0x40000000
	auditN  = 0x20000000 // MIPS N32
)

// archTable has for each architecture its name in profiles, which is that of
// libseccomp without SCMP_ARCH_, its name in Docker's "arches" filters, its
// AUDIT_ARCH value, which the kernel shows to filters, and its table of system
// calls. Architectures that differ only in the order of bytes share a table.
var archTable = [archs]struct {
	scmp, short string
	audit       uint32
	table       table
}{
	X86_64:      {"X86_64", "amd64", 62 | audit64 | auditLE, tableX86_64},
	I386:        {"X86", "x86", 3 | auditLE, tableI386},
	X32:         {"X32", "x32", 62 | audit64 | auditLE, tableX32},
	ARM:         {"ARM", "arm", 40 | auditLE, tableARM},
	AARCH64:     {"AARCH64", "arm64", 183 | audit64 | auditLE, tableAARCH64},
	LOONGARCH64: {"LOONGARCH64", "loongarch64", 258 | audit64 | auditLE, tableLOONGARCH64},
	M68K:        {"M68K", "m68k", 4, tableNone},
	MIPS:        {"MIPS", "mips", 8, tableMIPS},
	MIPS64:      {"MIPS64", "mips64", 8 | audit64, tableMIPS64},
	MIPS64N32:   {"MIPS64N32", "mips64n32", 8 | audit64 | auditN, tableMIPS64N32},
	MIPSEL:      {"MIPSEL", "mipsel", 8 | auditLE, tableMIPS},
	MIPSEL64:    {"MIPSEL64", "mipsel64", 8 | audit64 | auditLE, tableMIPS64},
	MIPSEL64N32: {"MIPSEL64N32", "mipsel64n32", 8 | audit64 | auditLE | auditN, tableMIPS64N32},
	PARISC:      {"PARISC", "parisc", 15, tableNone},
	PARISC64:    {"PARISC64", "parisc64", 15 | audit64, tableNone},
	PPC:         {"PPC", "ppc", 20, tablePPC},
	PPC64:       {"PPC64", "ppc64", 21 | audit64, tablePPC64},
	PPC64LE:     {"PPC64LE", "ppc64le", 21 | audit64 | auditLE, tablePPC64},
	RISCV64:     {"RISCV64", "riscv64", 243 | audit64 | auditLE, tableRISCV64},
	S390:        {"S390", "s390", 22, tableS390},
	S390X:       {"S390X", "s390x", 22 | audit64, tableS390X},
	SH:          {"SH", "sh", 42 | auditLE, tableNone},
	SHEB:        {"SHEB", "sheb", 42, tableNone},
}

// String returns the name that profiles use, such as "SCMP_ARCH_X86_64".
func (a Arch) String() string {
	if a < archs {
		return "SCMP_ARCH_" + archTable[a].scmp
	}
	return fmt.Sprintf("SCMP_ARCH_%d", uint8(a))
}

// Short returns the name that the "arches" filters of Docker's profiles use,
// such as "amd64" or "x86".
func (a Arch) Short() string {
	if a < archs {
		return archTable[a].short
	}
	return fmt.Sprintf("arch%d", uint8(a))
}

// Audit returns the AUDIT_ARCH value of a, which seccomp_data has in its arch
// field. X86_64 and X32 share one.
func (a Arch) Audit() uint32 {
	if a < archs {
		return archTable[a].audit
	}
	return 0
}

// Is64 reports whether the arguments of a's calls are registers of 64 bits. On
// x32 they are too, but programs see 32 bits.
func (a Arch) Is64() bool {
	return a < archs && archTable[a].audit&(audit64|auditN) == audit64 && a != X32
}

// BigEndian reports whether the high half of a 64-bit argument comes first in
// a's seccomp_data.
func (a Arch) BigEndian() bool { return a < archs && archTable[a].audit&auditLE == 0 }

// HasTable reports whether this package has the numbers of a.
func (a Arch) HasTable() bool { return a.table() != tableNone }

// table returns the table of a, or tableNone.
func (a Arch) table() table {
	if a < archs {
		return archTable[a].table
	}
	return tableNone
}

// Native returns the architecture that this program was built for. It is false
// for one that this package has no numbers for.
func Native() (Arch, bool) {
	switch runtime.GOARCH {
	case "amd64":
		return X86_64, true
	case "386":
		return I386, true
	case "arm":
		return ARM, true
	case "arm64":
		return AARCH64, true
	case "loong64":
		return LOONGARCH64, true
	case "mips":
		return MIPS, true
	case "mipsle":
		return MIPSEL, true
	case "mips64":
		return MIPS64, true
	case "mips64le":
		return MIPSEL64, true
	case "ppc64":
		return PPC64, true
	case "ppc64le":
		return PPC64LE, true
	case "riscv64":
		return RISCV64, true
	case "s390x":
		return S390X, true
	}
	return 0, false
}

// ParseArch reads a name such as "SCMP_ARCH_X86_64". Any other name is an error
// that suggests the nearest known one.
func ParseArch(name string) (Arch, error) { return parseArch(name, Arch.String) }

// ParseShort reads a name such as "amd64"; see [Arch.Short]. "mips3l64n32",
// which Docker's own table has for MIPSEL64N32, is understood too.
func ParseShort(name string) (Arch, error) {
	if name == "mips3l64n32" {
		return MIPSEL64N32, nil
	}
	return parseArch(name, Arch.Short)
}

func parseArch(name string, form func(Arch) string) (Arch, error) {
	for a := range Arch(archs) {
		if form(a) == name {
			return a, nil
		}
	}
	if near := nearest.Name(name, archNames(form)); near != "" {
		return 0, fmt.Errorf("unknown architecture %q; did you mean %s?", name, near)
	}
	return 0, fmt.Errorf("unknown architecture %q", name)
}

// ArchNames returns the names of all architectures, as profiles use them.
func ArchNames() []string { return slices.Collect(archNames(Arch.String)) }

func archNames(form func(Arch) string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for a := range Arch(archs) {
			if !yield(form(a)) {
				return
			}
		}
	}
}
