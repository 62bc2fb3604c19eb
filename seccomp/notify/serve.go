package notify

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Handler answers a call. If it returns an error that holds a [unix.Errno], the
// call fails with that; if it returns another error or has not answered, the
// call fails with ENOSYS. So no process waits for ever.
type Handler func(*Request) error

// Serve hands calls to the handler, up to workers at a time, until the context
// ends or no process is left. It returns when all calls are answered: nil at
// the end of the processes, else the error.
func Serve(ctx context.Context, l *Listener, workers int, handle Handler) error {
	var group sync.WaitGroup
	defer group.Wait()
	free := make(chan struct{}, max(workers, 1))
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		r, err := l.Recv(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		group.Go(func() {
			defer func() { <-free }()
			answer(r, handle)
		})
	}
}

// ServeHere takes over the descriptor of a listener, as [New] does, and hands one call
// at a time to the handler, in the caller's thread, until no process is left that is
// under the filter. That is several times quicker than Serve, where each call waits
// for the answer to the one before anyhow. A request must not be used once the handler
// has returned.
func ServeHere(f *os.File, handle Handler) error {
	l, err := newListener(f, false)
	if err != nil {
		return err
	}
	defer l.Close()
	l.SyncWakeUp() // quicker still, where the kernel has it
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if cerr := l.conn.Control(func(fd uintptr) { err = l.serve(int(fd), handle) }); cerr != nil {
		err = cerr
	}
	return err
}

// serve receives and answers without Go's poller and without garbage. So nothing but a
// call, or the end of all processes under the filter, ends the wait.
func (l *Listener) serve(fd int, handle Handler) error {
	buf, r := make([]uint64, l.words()), &Request{l: l, fd: fd}
	for {
		if _, err := l.receive(fd, -1, buf, r); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		answer(r, handle)
	}
}

func answer(r *Request, handle Handler) {
	errno := unix.ENOSYS
	defer func() {
		// Also while a panic goes on its way, and of no effect if the handler
		// has answered.
		r.Fail(errno)
	}()
	if err := handle(r); err != nil {
		var own unix.Errno
		if errors.As(err, &own) && own != 0 {
			errno = own
		}
	}
}
