package learn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/record"
)

// session is how a trial is recorded.
type session interface {
	Ready() error // the container is ready
	Stop() (*record.Recording, error)
}

// trial is one run of the container.
type trial struct {
	under    string        // what holds it, in a word, for the policy's list of runs
	policy   *restriction  // nil: what the user's flags say
	deadline time.Duration // to be ready, or to end
	linger   bool          // stay for as long as the user wants to record
	plain    bool          // not recorded from within
}

// outcome is what came of a trial.
type outcome struct {
	recording *record.Recording
	started   time.Time
	took      time.Duration // until it was ready, or had ended
	err       error         // why it is not what the user wants; nil: it works
	output    tail
	held      *engine.Confinement // nil under a policy
}

// errEnded says that a server ended before it answered.
type errEnded struct {
	code int
	last string
}

func (e *errEnded) Error() string {
	if e.last == "" {
		return fmt.Sprintf("the container ended with exit code %d", e.code)
	}
	return fmt.Sprintf("the container ended with exit code %d: %s", e.code, e.last)
}

// try runs a trial. An error is one of Brig's or the machine's; that the
// container does not work is part of the outcome.
func (l *Learner) try(ctx context.Context, t trial) (*outcome, error) {
	o := l.Create
	o.AutoRemove, o.Detached, o.Leash = true, true, true
	if l.parallel > 1 {
		o.Name = ""
	}
	if t.policy != nil {
		t.policy.apply(&o)
	}
	out := &outcome{started: time.Now()}
	var session session
	var err error
	switch {
	case l.Within && t.policy == nil && !t.plain:
		if session, err = l.within(&o); err != nil {
			return nil, err
		}
	case l.Within:
		session = unseen{out.started}
	default:
		o.Observe = func(cgroup string) error {
			s, err := l.observe(cgroup)
			if err == nil {
				session = s
			}
			return err
		}
	}
	run, err := l.Engine.Run(o, monitor.Stdout|monitor.Stderr, engine.ConsoleSize{})
	if err != nil {
		if session != nil {
			session.Stop()
		}
		if t.policy == nil || engine.ExitCode(err) == 125 && session == nil {
			return nil, err
		}
		out.err = fmt.Errorf("it does not start: %w", err)
		out.recording = &record.Recording{Version: 1, Complete: true}
		return out, nil
	}
	if t.policy == nil {
		if out.held, err = run.Container.Confinement(); err != nil { // now: it may soon be gone
			return nil, err
		}
		l.had = l.had.Union(out.held.Caps)
	}
	w := &watcher{l: l, t: t, run: run, session: session, out: out, ended: make(chan int, 1)}
	w.watch(ctx)
	out.recording, err = session.Stop()
	if errors.Is(err, errNothing) && out.err != nil { // which says why
		out.recording, err = record.New(out.started), nil
	}
	return out, err
}

func (l *Learner) observe(cgroup string) (*record.Session, error) {
	if cgroup == "" {
		return nil, errors.New("recording needs a cgroup of version 2, and this host has none")
	}
	target, err := record.CgroupTarget(cgroup)
	if err != nil {
		return nil, err
	}
	r, err := l.recorder()
	if err != nil {
		return nil, err
	}
	return r.Start(target)
}

// watcher follows one running container.
type watcher struct {
	l       *Learner
	t       trial
	run     *engine.Run
	session session
	out     *outcome
	ended   chan int // gets the exit code, once
	code    *int     // once known
}

func (w *watcher) watch(ctx context.Context) {
	defer w.run.Client.Close()
	go w.read()
	if w.l.Until == UntilExit {
		w.untilExit(ctx)
	} else {
		w.untilReady(ctx)
		if w.out.err == nil {
			w.session.Ready()
			w.out.took = time.Since(w.out.started)
			w.work(ctx)
		}
	}
	if w.out.err != nil {
		w.out.took = time.Since(w.out.started)
	}
	w.stop()
}

// read takes the container's output until its end.
func (w *watcher) read() {
	for {
		ev, err := w.run.Client.Next()
		switch {
		case err != nil:
			code, err := w.run.Container.ExitOf(err)
			if err != nil {
				code = -1
			}
			w.ended <- code
			return
		case ev.Exited:
			w.ended <- ev.Code
			return
		}
		w.out.output.Write(ev.Data)
	}
}

// wait waits for the container's end and says whether it came.
func (w *watcher) wait(ctx context.Context, d time.Duration) bool {
	if w.code != nil {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case code := <-w.ended:
		w.code = &code
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// untilExit waits for a container that ends by itself.
func (w *watcher) untilExit(ctx context.Context) {
	if !w.wait(ctx, w.t.deadline) {
		w.out.err = fmt.Errorf("the container did not end within %s", w.t.deadline.Round(time.Millisecond))
		return
	}
	w.out.took = time.Since(w.out.started)
	switch {
	case w.l.probe != nil:
		// The container is gone; the probe looks at what it left.
		w.out.err = w.l.probe.tryAfter(ctx, w.run.Container.ID)
	case *w.code != w.l.ExitCode:
		w.out.err = w.endedErr()
	}
}

func (w *watcher) endedErr() error { return &errEnded{*w.code, w.out.output.lastLine()} }

// Pauses between tries of the probe.
const (
	firstPause = 5 * time.Millisecond
	maxPause   = 200 * time.Millisecond
)

// untilReady tries the probe until it passes. Without a probe a container that
// runs is ready.
func (w *watcher) untilReady(ctx context.Context) {
	if w.l.probe == nil {
		if w.wait(ctx, firstPause) {
			w.out.err = w.endedErr()
		}
		return
	}
	deadline := time.Now().Add(w.t.deadline)
	pause := firstPause
	for {
		try, cancel := context.WithDeadline(ctx, deadline)
		err := w.l.probe.try(try, w.run.Container.ID, w.run.PID)
		cancel()
		if err == nil {
			return
		}
		// A try that has no time left would say less than this one's error.
		if w.wait(ctx, min(pause, time.Until(deadline))) {
			w.out.err = w.endedErr()
			return
		}
		if !time.Now().Before(deadline) || ctx.Err() != nil {
			w.out.err = err
			return
		}
		pause = min(2*pause, maxPause)
	}
}

// again is how often the probe must pass after it has passed.
const again = 2

// work uses the container that is ready, for the time that is to be recorded.
func (w *watcher) work(ctx context.Context) {
	end := time.Now()
	if w.t.linger {
		end = end.Add(w.l.For)
	}
	for n := 0; n < again || time.Now().Before(end); n++ {
		if w.l.probe == nil {
			if w.wait(ctx, time.Until(end)) {
				w.out.err = w.endedErr()
			}
			return
		}
		if err := w.l.probe.try(ctx, w.run.Container.ID, w.run.PID); err != nil {
			w.out.err = fmt.Errorf("after it had passed, %w", err)
			return
		}
		if n >= again && w.wait(ctx, maxPause) {
			w.out.err = w.endedErr()
			return
		}
	}
}

// stop ends the container as a user would, because a shutdown has needs too.
func (w *watcher) stop() {
	begun := time.Now()
	if w.code == nil {
		grace := stopGrace
		if w.out.err != nil || w.l.stubborn.Load() {
			grace = 0 // it does not work anyhow, or does not listen
		}
		w.run.Container.Stop(&grace, "")
		w.wait(context.Background(), time.Minute)
	}
	// Its stop signal may be SIGKILL, too.
	killed := w.l.Until != UntilExit && w.code != nil && *w.code == 128+9 && time.Since(begun) >= stopGrace*time.Second
	switch {
	case w.out.err != nil || !killed:
	case w.t.policy == nil:
		w.l.stubborn.Store(true)
	case !w.l.stubborn.Load():
		w.out.err = fmt.Errorf("it had to be killed: it did not stop within %d seconds", stopGrace)
	}
}

// stopGrace is in seconds, as brig stop has it.
const stopGrace = 10
