// Package mountns does things in a mount namespace that nobody else sees.
//
// A program of Go has many threads, which share their file system context: a
// namespace is entered by one of them, that is then good for nothing else and
// ends.
package mountns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Private runs f on a thread with a mount namespace of its own, a copy of the
// caller's in which nothing propagates to or from outside. Descriptors that f
// opens stay good, and with a descriptor of the namespace, which keep asks for,
// so do the mounts that f makes.
func Private(f func() error) error {
	return Thread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare the mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("make mounts private: %w", err)
		}
		return f()
	})
}

// Keep opens the namespace of the thread that Private or Join runs: as long as
// it is open, the namespace's mounts stay.
func Keep() (*os.File, error) { return os.Open("/proc/thread-self/ns/mnt") }

// Join runs f on a thread in the mount namespace that ns refers to, with the
// namespace's root as its root.
func Join(ns *os.File, f func() error) error {
	return Thread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return err
		}
		return f()
	})
}

// Thread runs f on a thread that ends with it: what f changes of the thread harms
// nobody.
func Thread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}
