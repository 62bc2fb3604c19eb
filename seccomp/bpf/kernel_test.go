package bpf

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childSeed makes the test binary a child that loads filters, which a process
// cannot get rid of.
const childSeed = "BPF_TEST_CHILD_SEED"

func TestMain(m *testing.M) {
	if seed := os.Getenv(childSeed); seed != "" {
		if err := loadRandomPrograms(seed); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestCheckIsTheKernels(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for seed := range 3 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), childSeed+"="+strconv.Itoa(seed))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		} else {
			t.Logf("%s", out)
		}
	}
}

// loadRandomPrograms compares Check with what the kernel accepts. Each program
// starts with a return of ALLOW, so that the process lives on with those that
// are accepted; the kernel checks what is behind it all the same.
func loadRandomPrograms(seed string) error {
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(n, 2))
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	accepted := 0
	for range 3000 {
		prog := []Instruction{ret(allow)}
		length := rng.IntN(8)
		for i := range length {
			prog = append(prog, random(rng, length-i+1))
		}
		if rng.IntN(20) > 0 {
			prog = append(prog, ret(0))
		}
		errno := load(prog)
		if errno == unix.ENOMEM {
			break // as many filters as one thread can have
		}
		if errno != 0 && errno != unix.EINVAL {
			return fmt.Errorf("load: %v\n%s", errno, Format(prog))
		}
		if err := Check(prog); (err == nil) != (errno == 0) {
			return fmt.Errorf("Check: %v, kernel: %v\n%s", err, errno, Format(prog))
		}
		if errno == 0 {
			accepted++
		}
	}
	if accepted < 100 {
		return fmt.Errorf("only %d programs were accepted", accepted)
	}
	long := append(make([]Instruction, MaxLen), ret(allow))
	if errno := load(long); errno != unix.EINVAL {
		return fmt.Errorf("%d instructions: %v", len(long), errno)
	}
	if errno := load(nil); errno != unix.EINVAL {
		return fmt.Errorf("no instructions: %v", errno)
	}
	fmt.Printf("%d programs accepted", accepted)
	return nil
}

func load(prog []Instruction) unix.Errno {
	f := unix.SockFprog{Len: uint16(len(prog)), Filter: (*unix.SockFilter)(unsafe.Pointer(unsafe.SliceData(prog)))}
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&f)))
	return errno
}
