package capability

import (
	"encoding/json"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Set is a set of capabilities: bit n stands for capability number n, as in
// the hexadecimal masks of /proc/PID/status.
type Set uint64

// Of returns the set of the given capabilities.
func Of(caps ...Cap) Set {
	var s Set
	for _, c := range caps {
		s = s.Add(c)
	}
	return s
}

// Default returns the 14 capabilities that Docker gives a container.
func Default() Set {
	return 1<<CHOWN | 1<<DAC_OVERRIDE | 1<<FSETID | 1<<FOWNER | 1<<MKNOD |
		1<<NET_RAW | 1<<SETGID | 1<<SETUID | 1<<SETFCAP | 1<<SETPCAP |
		1<<NET_BIND_SERVICE | 1<<SYS_CHROOT | 1<<KILL | 1<<AUDIT_WRITE
}

// Known returns every capability that this package can name.
func Known() Set { return 1<<known - 1 }

var kernel struct {
	once sync.Once
	set  Set
}

// Kernel returns the capabilities that the running kernel knows, whether this
// process holds them or not. It asks the kernel once: PR_CAPBSET_READ fails
// for a number that the kernel does not know (prctl(2)).
func Kernel() Set {
	kernel.once.Do(func() {
		low, high := 0, maxCap+1 // low numbers are known, high is not
		for low < high {
			mid := (low + high) / 2
			if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(mid), 0, 0, 0); err == nil {
				low = mid + 1
			} else {
				high = mid
			}
		}
		kernel.set = Set(1)<<low - 1
	})
	return kernel.set
}

// Has reports whether c is in s.
func (s Set) Has(c Cap) bool { return c <= maxCap && s>>c&1 == 1 }

// Contains reports whether every capability of t is in s.
func (s Set) Contains(t Set) bool { return t&^s == 0 }

// Add returns s with c.
func (s Set) Add(c Cap) Set { return s | 1<<c }

// Drop returns s without c.
func (s Set) Drop(c Cap) Set { return s &^ (1 << c) }

// Union returns the capabilities in s or t.
func (s Set) Union(t Set) Set { return s | t }

// Intersect returns the capabilities in both s and t.
func (s Set) Intersect(t Set) Set { return s & t }

// Minus returns the capabilities in s but not in t.
func (s Set) Minus(t Set) Set { return s &^ t }

// Empty reports whether s has no capability.
func (s Set) Empty() bool { return s == 0 }

// Len returns how many capabilities s has.
func (s Set) Len() int { return bits.OnesCount64(uint64(s)) }

// List returns the capabilities of s in the order of their numbers.
func (s Set) List() []Cap {
	list := make([]Cap, 0, s.Len())
	for rest := uint64(s); rest != 0; rest &= rest - 1 {
		list = append(list, Cap(bits.TrailingZeros64(rest)))
	}
	return list
}

// Names returns the full names of s, such as "CAP_CHOWN", in the order of
// their numbers. It is never nil.
func (s Set) Names() []string {
	names := make([]string, 0, s.Len())
	for _, c := range s.List() {
		names = append(names, c.String())
	}
	return names
}

// String returns the full names of s joined by commas, or "none".
func (s Set) String() string {
	if s == 0 {
		return "none"
	}
	return strings.Join(s.Names(), ",")
}

// MarshalJSON writes s as a list of full names.
func (s Set) MarshalJSON() ([]byte, error) { return json.Marshal(s.Names()) }

// UnmarshalJSON reads a list of names as [Parse] understands them.
func (s *Set) UnmarshalJSON(data []byte) error {
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		return fmt.Errorf("decode capability set: %w", err)
	}
	set, err := ParseSet(names)
	if err != nil {
		return err
	}
	*s = set
	return nil
}

// ParseSet returns the set of the given names; see [Parse].
func ParseSet(names []string) (Set, error) {
	var s Set
	for _, name := range names {
		c, err := Parse(name)
		if err != nil {
			return 0, err
		}
		s = s.Add(c)
	}
	return s, nil
}

// parseHex reads a set in the form of /proc/PID/status: hexadecimal digits.
func parseHex(text string) (Set, error) {
	n, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		return 0, fmt.Errorf("invalid capability mask %q", text)
	}
	return Set(n), nil
}
