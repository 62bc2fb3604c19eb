//go:build amd64

package record

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkGetppid is the price of a system call: alone, of a process that is
// recorded, and of one beside it.
func BenchmarkGetppid(b *testing.B) {
	benchmarkCall(b, func() { unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0) })
}

// BenchmarkFcntl is a call with an argument that is kept.
func BenchmarkFcntl(b *testing.B) {
	benchmarkCall(b, func() { unix.RawSyscall(unix.SYS_FCNTL, 0, unix.F_GETFD, 0) })
}

// BenchmarkMmap is a pair of calls for the first of which the kernel looks for
// a capability.
func BenchmarkMmap(b *testing.B) {
	benchmarkCall(b, func() {
		addr, _, _ := unix.RawSyscall6(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON, ^uintptr(0), 0)
		unix.RawSyscall(unix.SYS_MUNMAP, addr, 4096, 0)
	})
}

func benchmarkCall(b *testing.B, call func()) {
	r := recorder(b)
	loop := func(b *testing.B) {
		for b.Loop() {
			call()
		}
	}
	b.Run("unrecorded", loop)
	b.Run("recorded", func(b *testing.B) {
		s := start(b, r, Target{PID: os.Getpid()})
		loop(b)
		rec := stop(b, s)
		complete(b, rec)
		if total := calls(rec); total < uint64(b.N) {
			b.Errorf("%d calls recorded, want %d or more", total, b.N)
		}
	})
	b.Run("beside", func(b *testing.B) {
		s := start(b, r, Target{MountNS: 1}) // nobody's
		loop(b)
		stop(b, s)
	})
}

func calls(rec *Recording) (n uint64) {
	for _, call := range rec.Syscalls {
		n += call.Count
	}
	return n
}

func BenchmarkOpen(b *testing.B) {
	recorder(b)
	for b.Loop() {
		r, err := Open(1, "")
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

// BenchmarkOpenFile loads what is kept in a file.
func BenchmarkOpenFile(b *testing.B) {
	b.Run("all", func(b *testing.B) {
		benchmarkOpenFile(b, func(file string) (*Recorder, error) { return Open(1, file) })
	})
	b.Run("denials", func(b *testing.B) { benchmarkOpenFile(b, OpenDenials) })
}

func benchmarkOpenFile(b *testing.B, open func(string) (*Recorder, error)) {
	recorder(b)
	file := filepath.Join(b.TempDir(), "programs")
	for b.Loop() {
		r, err := open(file)
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

// BenchmarkStart attaches: the time until the process is recorded.
func BenchmarkStart(b *testing.B) {
	r := recorder(b)
	for b.Loop() {
		s, err := r.Start(Target{PID: os.Getpid()})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if _, err := s.Stop(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkStop(b *testing.B) {
	r := recorder(b)
	for b.Loop() {
		b.StopTimer()
		s, err := r.Start(Target{PID: os.Getpid()})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := s.Stop(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	s := start(b, recorder(b), Target{PID: os.Getpid()})
	for b.Loop() {
		if _, err := s.Snapshot(); err != nil {
			b.Fatal(err)
		}
	}
}
