package seccomp

import (
	"encoding/binary"
	"fmt"
	"iter"
	"strings"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/nearest"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// ParseKernelVersion reads the first two numbers of a kernel release, as in
// "5.14". More than that is an error.
func ParseKernelVersion(text string) (KernelVersion, error) { return parseKernelVersion(text) }

// archAliases are names of architectures beside those of profiles: Go's
// (GOARCH) and those of uname(2), in the order of the names.
var archAliases = [...]struct {
	name  string
	short string // Docker's name
}{
	{"386", "x86"}, {"aarch64", "arm64"}, {"i386", "x86"}, {"i486", "x86"}, {"i586", "x86"}, {"i686", "x86"},
	{"loong64", "loongarch64"}, {"mips64le", "mipsel64"}, {"mipsle", "mipsel"}, {"x86_64", "amd64"},
}

// ParseArchName reads the name of an architecture as people write it: Docker's
// ("amd64", "x86"), Go's ("386", "mipsle"), that of uname(2) ("x86_64"), or
// that of profiles ("SCMP_ARCH_X86_64"). Case does not matter. Any other name
// is an error that suggests the nearest known one.
func ParseArchName(name string) (Arch, error) {
	lower := strings.TrimPrefix(strings.ToLower(name), "scmp_arch_")
	if lower != strings.ToLower(name) {
		return syscalls.ParseArch(strings.ToUpper(name))
	}
	for _, alias := range archAliases {
		if alias.name == lower {
			lower = alias.short
		}
	}
	if a, err := syscalls.ParseShort(lower); err == nil {
		return a, nil
	}
	if near := nearest.Name(lower, ArchNames()); near != "" {
		return 0, fmt.Errorf("unknown architecture %q; did you mean %s?", name, near)
	}
	return 0, fmt.Errorf("unknown architecture %q", name)
}

// Arches yields all architectures that have a name, with or without a table of
// system calls.
func Arches() iter.Seq[Arch] {
	return func(yield func(Arch) bool) {
		for a := Arch(0); a.Audit() != 0; a++ {
			if !yield(a) {
				return
			}
		}
	}
}

// auditLittleEndian is the bit of AUDIT_ARCH values that tells the order of
// bytes (__AUDIT_ARCH_LE in include/uapi/linux/audit.h).
const auditLittleEndian = 0x40000000

// ByteOrder returns the order of bytes on machines of the architecture a: the
// one that a filter for them has in a file.
func ByteOrder(a Arch) binary.ByteOrder {
	if a.Audit()&auditLittleEndian != 0 {
		return binary.LittleEndian
	}
	return binary.BigEndian
}

// ArchNames yields the names that [ParseArchName] knows, without those of
// profiles.
func ArchNames() iter.Seq[string] {
	return func(yield func(string) bool) {
		for a := range Arches() {
			if !yield(a.Short()) {
				return
			}
		}
		for _, alias := range archAliases {
			if !yield(alias.name) {
				return
			}
		}
	}
}

// ParseCaps reads a set of capabilities from values that each are a list
// separated by commas: names in any case, with or without CAP_; "ALL" for all
// that are known; "default" for Docker's 14; "none", which only stands alone.
func ParseCaps(values []string) (capability.Set, error) {
	var set capability.Set
	names := strings.Split(strings.Join(values, ","), ",")
	for _, name := range names {
		switch strings.ToLower(name) {
		case "all":
			set = set.Union(capability.Known())
		case "default":
			set = set.Union(capability.Default())
		case "none":
			if len(names) > 1 {
				return 0, fmt.Errorf(`"none" stands alone, without other capabilities`)
			}
		default:
			c, err := capability.Parse(name)
			if err != nil {
				return 0, err
			}
			set = set.Add(c)
		}
	}
	return set, nil
}
