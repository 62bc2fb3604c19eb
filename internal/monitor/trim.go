package monitor

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settled is when a container counts as one that stays: what follows then would
// make short ones longer.
const settled = 2 * time.Second

// trim forgets which pages of the program this process has looked at. They belong
// to the page cache, and those that it needs while it waits come back: the others,
// and the tables that lead to them, were for the start.
func trim() {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		// start-end permissions offset device inode path: proc_pid_maps(5)
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1][1] == 'w' || fields[4] == "0" {
			continue
		}
		first, last, _ := strings.Cut(fields[0], "-")
		from, err1 := strconv.ParseUint(first, 16, 64)
		to, err2 := strconv.ParseUint(last, 16, 64)
		if err1 == nil && err2 == nil {
			syscall.RawSyscall(syscall.SYS_MADVISE, uintptr(from), uintptr(to-from), syscall.MADV_DONTNEED)
		}
	}
}
