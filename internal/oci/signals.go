package oci

import (
	"encoding/binary"
	"os"
	"os/signal"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

// listen keeps the signals that come, to be handed on by attend. It begins
// before the child does, whose first words may be answered with a signal.
//
// Package early has blocked them where it could, and then they are read from a
// descriptor, but for those that Go unblocks as it starts. Else Go notifies of
// all.
func listen() chan os.Signal {
	sigs := make(chan os.Signal, 128)
	if mask, ok := blocked(); ok {
		if fd, err := unix.Signalfd(-1, &mask, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK); err == nil {
			go readSignals(os.NewFile(uintptr(fd), "signals"), sigs)
			signal.Notify(sigs, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM)
			return sigs
		}
		setMask(&unix.Sigset_t{})
	}
	signal.Notify(sigs)
	return sigs
}

// blocked gives the signals that this process has blocked since it began; ok is
// false if package early did not block them.
func blocked() (mask unix.Sigset_t, ok bool) {
	if unix.PthreadSigmask(unix.SIG_BLOCK, nil, &mask) != nil {
		return mask, false
	}
	return mask, mask.Val[0]&(1<<(unix.SIGUSR1-1)) != 0
}

func setMask(mask *unix.Sigset_t) { unix.PthreadSigmask(unix.SIG_SETMASK, mask, nil) }

// unblocked runs f, which starts another program: that inherits the mask.
func unblocked(f func() error) error {
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	mask, ok := blocked()
	if !ok {
		return f()
	}
	setMask(&unix.Sigset_t{})
	defer setMask(&mask)
	return f()
}

// readSignals hands on what comes, signalfd(2).
func readSignals(f *os.File, sigs chan<- os.Signal) {
	var info [128]byte // struct signalfd_siginfo; its first word is the number
	for {
		n, err := f.Read(info[:])
		if err != nil || n != len(info) {
			return
		}
		select {
		case sigs <- unix.Signal(binary.NativeEndian.Uint32(info[:])):
		default: // so many that nobody can hand them on
		}
	}
}
