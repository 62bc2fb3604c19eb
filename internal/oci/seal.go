package oci

import (
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/early"
	"github.com/brig-run/brig/internal/runtime"
)

// seal makes sure that no process of a container can write to the file of this
// program (CVE-2019-5736). Package early has seen to that in the cheapest way
// where it could; otherwise this executes a sealed copy, and does not return.
func seal() error {
	if early.Sealed || sealed() {
		return nil
	}
	f, err := runtime.SealedExecutable()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Exec(runtime.ExecPath(f), os.Args, os.Environ()); err != nil {
		return fmt.Errorf("execute the sealed copy of this program: %w", err)
	}
	return nil
}

// sealed says whether the file that this process executes cannot be written to:
// it is in a read-only mount, or sealed in memory.
func sealed() bool {
	var fs unix.Statfs_t
	if unix.Statfs("/proc/self/exe", &fs) == nil && fs.Flags&unix.ST_RDONLY != 0 {
		return true
	}
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	return err == nil && seals&unix.F_SEAL_WRITE != 0
}

// ownFileLimit gives a process whose configuration does not say otherwise the
// limit of open files that the caller has, which Go has raised here.
func ownFileLimit(p *specs.Process) {
	has := func(l specs.POSIXRlimit) bool { return l.Type == "RLIMIT_NOFILE" }
	if early.Hard != 0 && !slices.ContainsFunc(p.Rlimits, has) {
		p.Rlimits = append(slices.Clip(p.Rlimits), specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: early.Soft, Hard: early.Hard})
	}
}
