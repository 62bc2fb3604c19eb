package notify_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp/notify"
)

// serve answers the child's calls until stop is called, which returns how that
// ended.
func (w *watched) serve(workers int, h notify.Handler) (stop func(context.CancelFunc) error, cancel context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- notify.Serve(ctx, w.Listener, workers, h) }()
	return func(end context.CancelFunc) error {
		end()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			return errors.New("serve does not end")
		}
	}, cancel
}

func TestNotifyServe(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	answers := []struct {
		name  string
		do    func(*notify.Request) error
		value int
		errno unix.Errno
	}{
		{"answers", func(r *notify.Request) error { return r.Respond(5) }, 5, 0},
		{"an error number", func(*notify.Request) error { return unix.EROFS }, -1, unix.EROFS},
		{"an error number within", func(*notify.Request) error { return fmt.Errorf("x: %w", &fs.PathError{Err: unix.EXDEV}) }, -1, unix.EXDEV},
		{"another error", func(*notify.Request) error { return errors.New("x") }, -1, unix.ENOSYS},
		{"the error number 0", func(*notify.Request) error { return unix.Errno(0) }, -1, unix.ENOSYS},
		{"no answer", func(*notify.Request) error { return nil }, -1, unix.ENOSYS},
		{"an answer and an error", func(r *notify.Request) error { r.Respond(6); return unix.EIO }, 6, 0},
	}
	stop, cancel := w.serve(1, func(r *notify.Request) error { return answers[r.Args[0]].do(r) })
	defer cancel()
	for i, tt := range answers {
		t.Run(tt.name, func(t *testing.T) { w.want(w.start("getpgid", "", i), tt.value, tt.errno) })
	}
	if err := stop(w.kill); err != nil {
		t.Errorf("at the end of the processes: %v", err)
	}
}

// So many are at work at a time as may be, and no more.
func TestNotifyServeWorkers(t *testing.T) {
	for _, workers := range []int{0, 1, 2, 5} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			w := watch(t, 0, nil, "getpgid")
			n := max(workers, 1)
			var working, most atomic.Int64
			var all sync.WaitGroup // of the first n, which leave when all are there
			all.Add(n)
			var first atomic.Int64
			stop, cancel := w.serve(workers, func(r *notify.Request) error {
				now := working.Add(1)
				defer working.Add(-1)
				for most.Load() < now && !most.CompareAndSwap(now-1, now) {
				}
				if first.Add(1) <= int64(n) {
					all.Done()
					all.Wait()
				}
				return r.Respond(int64(r.Args[0]) + 1)
			})
			defer cancel()
			var calls []<-chan result
			for i := range 20 {
				calls = append(calls, w.start("getpgid", "", i))
			}
			for i, c := range calls {
				w.want(c, i+1, 0)
			}
			if got := most.Load(); got != int64(n) {
				t.Errorf("%d at a time, want %d", got, n)
			}
			if err := stop(cancel); !errors.Is(err, context.Canceled) {
				t.Errorf("at the end of the context: %v", err)
			}
		})
	}
}

// What is received is answered, also when the context ends meanwhile.
func TestNotifyServeEnds(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	here, leave := make(chan struct{}, 1), make(chan struct{})
	stop, cancel := w.serve(1, func(r *notify.Request) error {
		here <- struct{}{}
		<-leave
		return r.Respond(9)
	})
	c := w.start("getpgid", "", 1)
	<-here
	cancel()
	if err := stop(func() { close(leave) }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.want(c, 9, 0)
	// The listener lives on.
	r, c := w.getpgid(2)
	w.must(r.Respond(3))
	w.want(c, 3, 0)
}

func TestNotifyServeClosed(t *testing.T) {
	w := watch(t, 0, nil, "getpgid")
	stop, cancel := w.serve(2, func(r *notify.Request) error { return nil })
	defer cancel()
	w.want(w.start("getpgid", "", 1), -1, unix.ENOSYS) // it serves
	if err := stop(func() { w.Close() }); err == nil {
		t.Error("no error though the listener is closed")
	}
}
