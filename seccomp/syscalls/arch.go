package syscalls

import (
	"fmt"
	"iter"
	"runtime"

	"github.com/brig-run/brig/internal/nearest"
)

// Arch is an architecture (more exactly: an ABI) of Linux system calls.
type Arch uint8

// The architectures that seccomp profiles can name. Those with a table of
// system calls come first.
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
// libseccomp without SCMP_ARCH_, its name in Docker's "arches" filters, and
// its AUDIT_ARCH value, which the kernel shows to filters.
var archTable = [archs]struct {
	scmp, short string
	audit       uint32
}{
	X86_64:      {"X86_64", "amd64", 62 | audit64 | auditLE},
	I386:        {"X86", "x86", 3 | auditLE},
	X32:         {"X32", "x32", 62 | audit64 | auditLE},
	ARM:         {"ARM", "arm", 40 | auditLE},
	AARCH64:     {"AARCH64", "arm64", 183 | audit64 | auditLE},
	LOONGARCH64: {"LOONGARCH64", "loongarch64", 258 | audit64 | auditLE},
	M68K:        {"M68K", "m68k", 4},
	MIPS:        {"MIPS", "mips", 8},
	MIPS64:      {"MIPS64", "mips64", 8 | audit64},
	MIPS64N32:   {"MIPS64N32", "mips64n32", 8 | audit64 | auditN},
	MIPSEL:      {"MIPSEL", "mipsel", 8 | auditLE},
	MIPSEL64:    {"MIPSEL64", "mipsel64", 8 | audit64 | auditLE},
	MIPSEL64N32: {"MIPSEL64N32", "mipsel64n32", 8 | audit64 | auditLE | auditN},
	PARISC:      {"PARISC", "parisc", 15},
	PARISC64:    {"PARISC64", "parisc64", 15 | audit64},
	PPC:         {"PPC", "ppc", 20},
	PPC64:       {"PPC64", "ppc64", 21 | audit64},
	PPC64LE:     {"PPC64LE", "ppc64le", 21 | audit64 | auditLE},
	RISCV64:     {"RISCV64", "riscv64", 243 | audit64 | auditLE},
	S390:        {"S390", "s390", 22},
	S390X:       {"S390X", "s390x", 22 | audit64},
	SH:          {"SH", "sh", 42 | auditLE},
	SHEB:        {"SHEB", "sheb", 42},
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

// HasTable reports whether this package has the numbers of a.
func (a Arch) HasTable() bool { return a < tables }

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

func archNames(form func(Arch) string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for a := range Arch(archs) {
			if !yield(form(a)) {
				return
			}
		}
	}
}
