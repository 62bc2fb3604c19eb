package record

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
)

// symbols knows the kernel's functions by address. It reads them when the first
// one is asked for: they are some 10 MB of text.
type symbols struct {
	once  sync.Once
	err   error
	start []uint64 // sorted
	name  []string
}

const kallsyms = "/proc/kallsyms"

func (s *symbols) load() error {
	s.once.Do(func() {
		f, err := os.Open(kallsyms)
		if err != nil {
			s.err = fmt.Errorf("read the kernel's symbols: %w", err)
			return
		}
		defer f.Close()
		s.err = s.read(f)
	})
	return s.err
}

// read takes in lines such as "ffffffff81000000 T _stext [module]".
func (s *symbols) read(r io.Reader) error {
	type symbol struct {
		at   uint64
		name string
	}
	var all []symbol
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Bytes()
		addr, rest, ok := bytes.Cut(line, []byte{' '})
		if !ok || len(rest) < 3 || rest[0] != 't' && rest[0] != 'T' {
			continue
		}
		at, err := strconv.ParseUint(string(addr), 16, 64)
		if err != nil {
			return fmt.Errorf("read the kernel's symbols: line %q: %w", line, err)
		}
		name, _, _ := bytes.Cut(rest[2:], []byte{'\t'})
		if at != 0 { // 0 for those who may not know
			all = append(all, symbol{at, string(name)})
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the kernel's symbols: %w", err)
	}
	if len(all) == 0 {
		return fmt.Errorf("read the kernel's symbols: %s hides them (sysctl kernel.kptr_restrict)", kallsyms)
	}
	slices.SortStableFunc(all, func(a, b symbol) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return 0
	})
	for _, sym := range all {
		s.start = append(s.start, sym.at)
		s.name = append(s.name, sym.name)
	}
	return nil
}

// find returns the function that an address is in, or the address in hex.
func (s *symbols) find(addr uint64) string {
	i, exact := slices.BinarySearch(s.start, addr)
	if !exact {
		i--
	}
	if i < 0 {
		return "0x" + strconv.FormatUint(addr, 16)
	}
	return s.name[i]
}
