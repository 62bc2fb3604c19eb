// Package pids names processes for good: the kernel gives their numbers out again,
// but not with the same time of start.
package pids

import (
	"strconv"
	"strings"
	"syscall"
)

// Start reads when a process started, in clock ticks since boot: with
// the ID it names a process for good. ok is false when there is none, or only
// a zombie.
func Start(pid int) (ticks uint64, ok bool) {
	fd, err := syscall.Open("/proc/"+strconv.Itoa(pid)+"/stat", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	b := make([]byte, 1024) // the kernel gives it in one piece; lists of containers ask often
	n, err := syscall.Read(fd, b)
	syscall.Close(fd)
	if err != nil {
		return 0, false
	}
	b = b[:n]
	// The second field, the name, may hold spaces and parentheses.
	s := string(b)
	s = s[strings.LastIndexByte(s, ')')+1:]
	f := strings.Fields(s)
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return 0, false
	}
	ticks, err = strconv.ParseUint(f[19], 10, 64)
	return ticks, err == nil
}
