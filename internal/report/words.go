package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// callWords writes the values that were seen in the arguments of a call as the
// call that a programmer would write: "socket(AF_INET or AF_UNIX, SOCK_STREAM,
// 0)". Arguments that nobody looked at are "…". Which values came together is not
// known. It is "" if there are no values.
func callWords(name string, args []policy.Arg) string {
	args = slices.DeleteFunc(slices.Clone(args), func(a policy.Arg) bool { return a.Index > 5 })
	if len(args) == 0 {
		return ""
	}
	last := slices.MaxFunc(args, func(a, b policy.Arg) int { return int(a.Index) - int(b.Index) }).Index
	parts := make([]string, last+1)
	for i := range parts {
		parts[i] = "…"
	}
	for _, a := range args {
		parts[a.Index] = valuesWords(name, args, a)
	}
	more := ""
	if n, ok := argCount(name); ok && n > len(parts) {
		more = ", …"
	}
	return name + "(" + strings.Join(parts, ", ") + more + ")"
}

// Conditions writes the call with the values that its conditions allow, as in
// "socket(AF_INET or AF_UNIX, SOCK_STREAM, …)"; "" if it has none.
func Conditions(c *policy.Syscall) string {
	var args []policy.Arg
	for _, a := range c.Args {
		if a.Enforce {
			a.Values = a.Allowed()
			args = append(args, a)
		}
	}
	return callWords(c.Name, args)
}

// argCount is how many arguments a call has, on the first ABI that has it.
func argCount(name string) (int, bool) {
	call, ok := syscalls.Find(name)
	if !ok {
		return 0, false
	}
	for _, abi := range [...]syscalls.Arch{syscalls.X86_64, syscalls.I386, syscalls.AARCH64} {
		if n, ok := call.NArgs(abi); ok {
			return n, true
		}
	}
	return 0, false
}

func valuesWords(name string, args []policy.Arg, a policy.Arg) string {
	words := make([]string, 0, len(a.Values)+1)
	for _, v := range a.Values {
		words = append(words, valueWords(name, args, a.Index, v))
	}
	if a.More {
		words = append(words, "others")
	}
	if len(words) == 0 {
		return "…"
	}
	return strings.Join(words, " or ")
}

// valueWords names one value of an argument. Args are those of the whole call,
// because options of sockets mean something for a level only.
func valueWords(name string, args []policy.Arg, index uint8, v uint64) string {
	switch name {
	case "socket", "socketpair":
		switch index {
		case 0:
			return oneOf(families[:], v)
		case 1:
			return socketType(v)
		case 2:
			return protocol(args, v)
		}
	case "setsockopt", "getsockopt":
		switch index {
		case 1:
			return oneOf(levels[:], v)
		case 2:
			return option(args, v)
		}
	case "mmap", "mmap2", "mprotect", "pkey_mprotect":
		if index == 2 {
			return bits(protections[:], v, "PROT_NONE")
		}
	case "clone", "clone3":
		if index == 0 {
			return cloneWords(v)
		}
	case "unshare":
		if index == 0 {
			return bits(cloneFlags[:], v, "0")
		}
	case "personality":
		if index == 0 {
			return personality(v)
		}
	}
	if names := selectors(name); names != nil && index == selectorIndex(name) {
		return oneOf(names, v)
	}
	return number(v)
}

// selectors are the names of the argument that chooses what a call does.
func selectors(name string) []constant {
	switch name {
	case "fcntl", "fcntl64":
		return fcntls[:]
	case "ioctl":
		return ioctls[:]
	case "prctl":
		return prctls[:]
	case "arch_prctl":
		return archPrctls[:]
	case "ptrace":
		return ptraces[:]
	case "keyctl":
		return keyctls[:]
	case "bpf":
		return bpfs[:]
	case "ipc":
		return ipcs[:]
	case "socketcall":
		return socketcalls[:]
	}
	return nil
}

func selectorIndex(name string) uint8 {
	switch name {
	case "fcntl", "fcntl64", "ioctl":
		return 1
	}
	return 0
}

func number(v uint64) string {
	if v < 10 {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%#x", v)
}

func oneOf(names []constant, v uint64) string {
	for _, c := range names {
		if c.value == v {
			return c.name
		}
	}
	return number(v)
}

// bits writes flags joined by "|", with what has no name as a number.
func bits(names []constant, v uint64, zero string) string {
	if v == 0 {
		return zero
	}
	var parts []string
	for _, c := range names {
		if v&c.value == c.value {
			parts = append(parts, c.name)
			v &^= c.value
		}
	}
	if v != 0 {
		parts = append(parts, fmt.Sprintf("%#x", v))
	}
	return strings.Join(parts, "|")
}

// socketType splits type and flags (include/linux/net.h: SOCK_TYPE_MASK is 0xf).
func socketType(v uint64) string {
	text := oneOf(socketTypes[:], v&0xf)
	if v&^0xf != 0 {
		text += "|" + bits(socketFlags[:], v&^0xf, "")
	}
	return text
}

// protocol names the protocol of a socket by the families that were seen.
func protocol(args []policy.Arg, v uint64) string {
	if v == 0 {
		return "0"
	}
	var names []string
	for _, f := range valuesOf(args, 0) {
		list := protocols[:]
		switch f {
		case afInet, afInet6:
		case afNetlink:
			list = netlinks[:]
		default:
			continue
		}
		names = appendName(names, list, v)
	}
	return orNumber(names, v)
}

// option names a socket option by the levels that were seen.
func option(args []policy.Arg, v uint64) string {
	var names []string
	for _, level := range valuesOf(args, 1) {
		names = appendName(names, optionsOf(level), v)
	}
	return orNumber(names, v)
}

func optionsOf(level uint64) []constant {
	switch level {
	case 0:
		return ipOptions[:]
	case 1:
		return socketOptions[:]
	case 6:
		return tcpOptions[:]
	case 41:
		return ipv6Options[:]
	}
	return nil
}

func appendName(names []string, list []constant, v uint64) []string {
	for _, c := range list {
		if c.value == v && !slices.Contains(names, c.name) {
			return append(names, c.name)
		}
	}
	return names
}

func orNumber(names []string, v uint64) string {
	if len(names) == 0 {
		return number(v)
	}
	return strings.Join(names, "/")
}

func valuesOf(args []policy.Arg, index uint8) []uint64 {
	for _, a := range args {
		if a.Index == index {
			return a.Values
		}
	}
	return nil
}

// cloneWords has the signal that the parent gets in the lowest byte (clone(2)).
func cloneWords(v uint64) string {
	flags, signal := v&^0xff, v&0xff
	switch {
	case flags == 0 && signal == sigchld:
		return "SIGCHLD"
	case signal == sigchld:
		return bits(cloneFlags[:], flags, "") + "|SIGCHLD"
	case signal != 0 && flags != 0:
		return bits(cloneFlags[:], flags, "") + "|" + number(signal)
	case flags == 0:
		return number(signal)
	}
	return bits(cloneFlags[:], flags, "0")
}

// personality: all ones only ask (personality(2)).
func personality(v uint64) string {
	if uint32(v) == 0xffffffff {
		return "0xffffffff (query)"
	}
	text := oneOf(personas[:], v&0xff)
	if v&^0xff != 0 {
		text += "|" + bits(personaFlags[:], v&^0xff, "")
	}
	return text
}
