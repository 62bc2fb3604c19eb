package seccomp

import (
	"fmt"
	"strings"

	"github.com/brig-run/brig/internal/nearest"
)

// ParseArg reads an argument of a system call as people write it: a number,
// decimal, octal after 0, hexadecimal after 0x, or negative; or names of
// constants, joined with "|": AF_, CLONE_, PR_ and O_ ones. Arch is the ABI,
// since the values of some O_ constants depend on it.
func ParseArg(arch Arch, text string) (uint64, error) {
	var value uint64
	for _, part := range strings.Split(text, "|") {
		v, err := parseArgPart(arch, strings.TrimSpace(part))
		if err != nil {
			return 0, fmt.Errorf("argument %q: %w", text, err)
		}
		value |= v
	}
	return value, nil
}

func parseArgPart(arch Arch, text string) (uint64, error) {
	if text == "" {
		return 0, fmt.Errorf("empty number")
	}
	if c := text[0]; c == '-' || c >= '0' && c <= '9' {
		return parseValue(text, nil)
	}
	opens, err := openFlags(arch)
	if err != nil && strings.HasPrefix(text, "O_") {
		return 0, err
	}
	lists := [][]constant{addressFamilies[:], cloneConstants[:], prctlConstants[:], opens}
	for _, list := range lists {
		for _, c := range list {
			if c.name == text {
				return c.value, nil
			}
		}
	}
	near := nearest.Name(strings.ToUpper(text), func(yield func(string) bool) {
		for _, list := range lists {
			for _, c := range list {
				if !yield(c.name) {
					return
				}
			}
		}
	})
	if near != "" {
		return 0, fmt.Errorf("unknown constant %q; did you mean %s?", text, near)
	}
	return 0, fmt.Errorf("%q is neither a number nor a known constant (AF_, CLONE_, PR_, O_)", text)
}

// openFlags returns the flags of open(2) on an ABI, from
// include/uapi/asm-generic/fcntl.h and the uapi/asm/fcntl.h of arm, arm64 and
// powerpc. MIPS and the oldest ABIs have values of their own.
func openFlags(arch Arch) ([]constant, error) {
	direct, large, directory, nofollow := uint64(0o40000), uint64(0o100000), uint64(0o200000), uint64(0o400000)
	switch name := arch.Short(); {
	case strings.HasPrefix(name, "mips"), strings.HasPrefix(name, "parisc"):
		return nil, fmt.Errorf("%s has its own values of O_ constants, which are not known here; write the number", name)
	case strings.HasPrefix(name, "arm"), name == "m68k":
		direct, large, directory, nofollow = 0o200000, 0o400000, 0o40000, 0o100000
	case strings.HasPrefix(name, "ppc"):
		direct, large, directory, nofollow = 0o400000, 0o200000, 0o40000, 0o100000
	}
	return []constant{
		{"O_RDONLY", 0}, {"O_WRONLY", 1}, {"O_RDWR", 2}, {"O_CREAT", 0o100}, {"O_EXCL", 0o200},
		{"O_NOCTTY", 0o400}, {"O_TRUNC", 0o1000}, {"O_APPEND", 0o2000}, {"O_NONBLOCK", 0o4000},
		{"O_DSYNC", 0o10000}, {"O_DIRECT", direct}, {"O_LARGEFILE", large}, {"O_DIRECTORY", directory},
		{"O_NOFOLLOW", nofollow}, {"O_NOATIME", 0o1000000}, {"O_CLOEXEC", 0o2000000}, {"O_SYNC", 0o4010000},
		{"O_PATH", 0o10000000}, {"O_TMPFILE", 0o20000000 | directory},
	}, nil
}
