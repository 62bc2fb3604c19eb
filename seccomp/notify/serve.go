package notify

import (
	"context"
	"errors"
	"io"
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

// ServeHere hands one call at a time to the handler, in the caller's thread, until no
// process is left that is under the filter. With SyncWakeUp that is several times
// quicker than Serve, where each call waits for the answer to the one before anyhow.
// The listener must not be closed meanwhile.
func ServeHere(l *Listener, handle Handler) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		r, err := l.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
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
	var own unix.Errno
	if err := handle(r); errors.As(err, &own) && own != 0 {
		errno = own
	}
}
