package learn

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/internal/spec"
)

// Until says what ends a learning run.
type Until int

const (
	// UntilHealthy: until the probe has passed a few times.
	UntilHealthy Until = iota
	// UntilTime: for the duration For after the container was ready.
	UntilTime
	// UntilExit: until the container ends by itself.
	UntilExit
)

// Learner learns one container's needs.
type Learner struct {
	Engine   *engine.Engine
	Create   engine.CreateOptions // what to run, as brig run has it
	Root     string               // of the store, for the probe's environment
	Probe    string               // shell command; "" for none
	Until    Until
	For      time.Duration // with UntilTime
	ExitCode int           // that UntilExit without a probe counts as success
	Runs     int           // to learn from, at least 1
	// Timeout bounds the time until the first learning run is ready or, with
	// UntilExit, has ended.
	Timeout      time.Duration
	ProbeTimeout time.Duration
	Prove        bool // run again under the policy, and without each part of it
	Shrink       Shrink
	// Args makes conditions of the values that arguments had.
	Args     bool
	Parallel int    // trials at a time; 0: as many as there are processors
	Under    string // what the learning runs are confined by, in a word
	// Within records the learning runs from within the container, by this program
	// as the container's first process: that needs no privileges, and sees system
	// calls alone. Which capabilities there must be is found out by trials.
	Within bool
	// Progress, if not nil, is told in words what is going on.
	Progress func(Event)

	probe    *probe
	parallel int

	once sync.Once
	rec  *record.Recorder
	err  error

	// stubborn: what it was learned from had to be killed at its end, as happens
	// to programs that as PID 1 do not handle their stop signal.
	stubborn atomic.Bool

	mu      sync.Mutex
	typical time.Duration  // until ready, in the slowest run that worked
	runs    int            // trials so far
	had     capability.Set // by what it was learned from
}

// Shrink says which system calls are taken away one at a time.
type Shrink int

const (
	ShrinkNone       Shrink = iota
	ShrinkSuspicious        // those that a container seldom needs and an attacker often
	ShrinkAll
)

// Event is one step of learning.
type Event struct {
	Step  string // learn, prove, drop, heal
	What  string // in words
	Err   error  // how it failed, if it did
	N, Of int    // position within the step
	Took  time.Duration
}

// Result is what was learned.
type Result struct {
	Policy *policy.Policy
	// Proved: the image was run under the policy, and the probe passed.
	Proved bool
	Trials int // how many containers were run in all
	Took   time.Duration
}

var errNoProbe = errors.New("a policy is proved by a probe: add --probe 'COMMAND', or --no-prove for one that is not proved")

// Learn runs the container as often as it takes.
func (l *Learner) Learn(ctx context.Context) (*Result, error) {
	started := time.Now()
	if err := l.prepare(); err != nil {
		return nil, err
	}
	defer l.close()
	p, err := l.learn(ctx)
	if err != nil {
		return nil, err
	}
	result := &Result{Policy: p}
	if l.Prove {
		result.Proved, err = l.prove(ctx, p)
	}
	result.Trials, result.Took = l.runs, time.Since(started)
	return result, err
}

func (l *Learner) prepare() error {
	if l.Prove && l.Probe == "" && l.Until != UntilExit {
		return errNoProbe
	}
	if l.Probe != "" {
		l.probe = &probe{command: l.Probe, timeout: l.ProbeTimeout, root: l.Root}
	}
	l.parallel = l.Parallel
	if l.parallel == 0 {
		l.parallel = max(2, runtime.NumCPU())
	}
	if !l.independent() {
		l.parallel = 1
	}
	if !l.Within {
		go l.recorder() // takes a moment; the first container is made meanwhile
	}
	return nil
}

// independent reports whether several containers of these options can run at
// once: they share neither addresses nor files that they write.
func (l *Learner) independent() bool {
	o := &l.Create.Options
	if o.Network == "host" || o.PID != "" || o.IPC != "" {
		return false
	}
	if len(o.VolumesFrom) > 0 {
		return false
	}
	for _, m := range o.Mounts {
		shared := m.Type == spec.MountBind || m.Type == spec.MountVolume && m.Source != ""
		if shared && !m.ReadOnly {
			return false
		}
	}
	return true
}

func (l *Learner) recorder() (*record.Recorder, error) {
	l.once.Do(func() { l.rec, l.err = record.Open(l.parallel+1, l.Engine.RecorderFile()) })
	return l.rec, l.err
}

func (l *Learner) close() {
	if l.Within {
		return
	}
	if r, err := l.recorder(); err == nil {
		r.Close()
	}
}

func (l *Learner) tell(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Progress != nil {
		l.Progress(e)
	}
}

// learn makes the policy of the learning runs.
func (l *Learner) learn(ctx context.Context) (*policy.Policy, error) {
	var all *policy.Policy
	for n := range max(l.Runs, 1) {
		o, err := l.try(ctx, trial{under: l.Under, deadline: l.Timeout, linger: true})
		l.runs++
		if err != nil {
			return nil, err
		}
		l.typical = max(l.typical, o.took)
		l.tell(Event{Step: "learn", What: l.Under, Err: o.err, N: n + 1, Of: max(l.Runs, 1), Took: o.took})
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if o.err != nil {
			return nil, l.unlearnable(o)
		}
		p, err := l.policyOf(o, n+1)
		if err == nil && all != nil {
			p, err = policy.Merge(all, p)
		}
		if err != nil {
			return nil, err
		}
		all = p
	}
	if l.Within && l.Prove && l.Until != UntilExit {
		// The recorder was the first process, which has to handle its stop signal;
		// now it is the program itself.
		o, err := l.try(ctx, trial{under: l.Under, deadline: l.patience(), plain: true})
		l.runs++
		if err != nil {
			return nil, err
		}
		l.tell(Event{Step: "learn", What: l.Under + ", not recorded", Err: o.err, N: 1, Of: 1, Took: o.took})
		if o.err != nil {
			return nil, l.unlearnable(o)
		}
	}
	l.describe(all)
	return all, nil
}

// UnlearnableError says that the container does not work even under what it was
// allowed while learning.
type UnlearnableError struct {
	Err       error
	Under     string
	Recording *record.Recording
	Held      *engine.Confinement // what confined it
	Output    string              // the last line that it wrote, if any
}

func (e *UnlearnableError) Error() string {
	return fmt.Sprintf("nothing to learn from: under the policy %q, %v", e.Under, e.Err)
}

func (e *UnlearnableError) Unwrap() error { return e.Err }

func (l *Learner) unlearnable(o *outcome) error {
	return &UnlearnableError{o.err, l.Under, o.recording, o.held, o.output.lastLine()}
}

// policyOf makes a policy of one run's recording.
func (l *Learner) policyOf(o *outcome, n int) (*policy.Policy, error) {
	return policy.FromRecording(o.recording, l.runOf(o, policy.PurposeLearn, l.Under, n))
}

func (l *Learner) runOf(o *outcome, purpose, under string, n int) policy.Run {
	passed := o.err == nil
	return policy.Run{
		ID: fmt.Sprintf("%s-%s-%d", purpose, o.started.UTC().Format("20060102T150405.000"), n), Purpose: purpose,
		Kernel: o.recording.Kernel, Machine: o.recording.Machine,
		Started: o.started.UTC(), Seconds: o.recording.Ended.Sub(o.recording.Started).Seconds(),
		Under: under, Probe: l.Probe, Passed: &passed,
		Complete: o.recording.Complete, Lost: o.recording.Lost,
	}
}

// describe says what the policy is for.
func (l *Learner) describe(p *policy.Policy) {
	p.Image = &policy.Image{Reference: l.Create.Image, Digest: l.Create.Resolved.ID}
	p.Command = l.Create.Options.Args
	p.User = l.Create.Options.User
	if l.stubborn.Load() {
		p.Notes = append(p.Notes, fmt.Sprintf("it had to be killed: it did not stop within %d seconds; --init or another --stop-signal may help", stopGrace))
	}
	if l.Args {
		p.EnforceArgs()
	}
}
