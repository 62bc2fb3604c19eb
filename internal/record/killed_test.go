//go:build amd64

package record

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// recorderModes are children that record, or that use what is seldom used.
func recorderModes() map[string]func() error {
	return map[string]func() error{
		"recorder": recorderMode,
		"io_uring": func() error {
			// Whether the kernel has it or not: it was tried.
			fd, _, errno := unix.RawSyscall(unix.SYS_IO_URING_SETUP, 1, ptr(strings.Repeat("\x00", 120)), 0)
			if errno == 0 {
				unix.Close(int(fd))
			}
			return nil
		},
	}
}

// recorderMode records itself until it is killed.
func recorderMode() error {
	fmt.Println("begin")
	r, err := Open(1, "")
	if err != nil {
		return err
	}
	if _, err := r.Start(Target{PID: os.Getpid()}); err != nil {
		return err
	}
	fmt.Println("recording")
	for {
		unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	}
}

// held are the numbers of the BPF programs and links that a process has open.
func held(pid int) (programs []ebpf.ProgramID, links []link.ID) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for line := range strings.Lines(string(b)) {
			var id uint32
			if n, _ := fmt.Sscanf(line, "prog_id:\t%d", &id); n == 1 {
				programs = append(programs, ebpf.ProgramID(id))
			}
			if n, _ := fmt.Sscanf(line, "link_id:\t%d", &id); n == 1 {
				links = append(links, link.ID(id))
			}
		}
	}
	return programs, links
}

// gone waits until the kernel has freed all of them.
func gone(programs []ebpf.ProgramID, links []link.ID) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		left := 0
		for _, id := range programs {
			if p, err := ebpf.NewProgramFromID(id); !errors.Is(err, os.ErrNotExist) {
				left++
				p.Close()
			}
		}
		for _, id := range links {
			if l, err := link.NewFromID(id); !errors.Is(err, os.ErrNotExist) {
				left++
				if l != nil {
					l.Close()
				}
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d of the programs %v and links %v are left", left, programs, links)
		}
	}
}

// A recorder that is killed, at any moment, leaves nothing in the kernel.
func TestKilledRecorder(t *testing.T) {
	recorder(t) // skips without root
	attached := 0
	for round := range 12 {
		c := startChild(t, "recorder", nil)
		c.let()
		if line, _ := c.out.ReadString('\n'); line != "begin\n" {
			t.Fatalf("the recorder says %q: %s", line, c.errs.String())
		}
		if round%3 == 0 {
			if line, _ := c.out.ReadString('\n'); line != "recording\n" {
				t.Fatalf("the recorder says %q: %s", line, c.errs.String())
			}
		} else {
			time.Sleep(time.Duration(rand.Int64N(int64(60 * time.Millisecond))))
		}
		// It must not get more while what it has is looked at.
		c.cmd.Process.Signal(syscall.SIGSTOP)
		programs, links := held(c.pid)
		if len(links) > 0 {
			attached++
		}
		c.cmd.Process.Kill()
		c.cmd.Wait()
		if err := gone(programs, links); err != nil {
			t.Error(err)
		}
	}
	if attached < 4 {
		t.Errorf("only %d recorders of 12 had attached anything", attached)
	}
}

func TestIOUring(t *testing.T) {
	rec := recordChild(t, "io_uring")
	complete(t, rec)
	if !rec.IOUring || len(rec.Notes) == 0 {
		t.Errorf("io_uring %v, notes %q", rec.IOUring, rec.Notes)
	}
	if other := recordChild(t, "processes"); other.IOUring {
		t.Error("a program that does not use io_uring is said to")
	}
}
