package learn

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/brig-run/brig/internal/explain"
	"github.com/brig-run/brig/internal/policy"
)

// maxHeals bounds how often a policy is widened by what its own proof was
// denied.
const maxHeals = 8

// prove runs the image under the policy, then takes away what can be. It
// reports whether the policy as it is at the end was seen to work.
func (l *Learner) prove(ctx context.Context, p *policy.Policy) (bool, error) {
	ok, err := l.heal(ctx, p)
	if err != nil || !ok {
		return false, err
	}
	if err := l.reduce(ctx, p, capabilities(p)); err != nil {
		return false, err
	}
	if l.Shrink != ShrinkNone {
		if err := l.reduce(ctx, p, l.suspects(p)); err != nil {
			return false, err
		}
		if err := l.reduce(ctx, p, l.values(p)); err != nil {
			return false, err
		}
		dropEmpty(p)
	}
	// What was granted on suspicion alone leaves no trace.
	p.Capabilities = slices.DeleteFunc(p.Capabilities, func(c policy.Capability) bool {
		return c.Status == policy.Unneeded && c.Granted == 0 && c.Refused == 0
	})
	o, err := l.twice(ctx, p)
	if err != nil {
		return false, err
	}
	p.Runs = append(p.Runs, l.runOf(o, policy.PurposeProve, "learned", len(p.Runs)+1))
	l.tell(Event{Step: "prove", What: "the smallest policy", Err: o.err, Took: o.took})
	return o.err == nil, nil
}

// enforced runs the image under the policy. That it may take some times as long as
// usual is for the second try, on a machine that is busy.
func (l *Learner) enforced(ctx context.Context, p *policy.Policy, times time.Duration) (*outcome, error) {
	r, err := restrict(p)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.runs++
	deadline := times * l.patience()
	l.mu.Unlock()
	o, err := l.try(ctx, trial{under: "learned", policy: r, deadline: deadline})
	if err == nil && o.err == nil {
		l.mu.Lock()
		l.typical = max(l.typical, o.took)
		l.mu.Unlock()
	}
	return o, cmp.Or(err, ctx.Err()) // a run that was cut short says nothing
}

// twice runs the image under the policy, and again if it failed and nothing that
// was denied can be to blame: then it may have been chance.
func (l *Learner) twice(ctx context.Context, p *policy.Policy) (*outcome, error) {
	o, err := l.enforced(ctx, p, 1)
	if err != nil || o.err == nil {
		return o, err
	}
	added, err := p.Clone().Admit(o.recording, "")
	if err != nil || len(added) > 0 {
		return o, err
	}
	return l.enforced(ctx, p, 2)
}

// patience is how long a container that lacks something may take: several times
// of what it took when it had all.
func (l *Learner) patience() time.Duration {
	return max(time.Second, 4*l.typical) + 500*time.Millisecond
}

// heal runs the image under the policy, and adds what the run was denied until
// it works: a program may take a path that no learning run took.
func (l *Learner) heal(ctx context.Context, p *policy.Policy) (bool, error) {
	for range maxHeals {
		o, err := l.twice(ctx, p)
		if err != nil {
			return false, err
		}
		l.tell(Event{Step: "prove", What: "what was recorded", Err: o.err, Took: o.took})
		if o.err == nil {
			return true, nil
		}
		added, err := p.Admit(o.recording, "refused in a run that proved the policy")
		if err != nil {
			return false, err
		}
		if len(added) == 0 {
			return l.healBlindly(ctx, p)
		}
		l.tell(Event{Step: "heal", What: strings.Join(added, ", ")})
	}
	return false, nil
}

// healBlindly is for failures that no denial explains: capset(2) and the like
// compare sets without asking for any one capability. It grants all that the
// container had; what is too much goes again, one by one. If that does not help,
// nothing is granted.
func (l *Learner) healBlindly(ctx context.Context, p *policy.Policy) (bool, error) {
	before := slices.Clone(p.Capabilities)
	added := p.Grant(l.had, "nothing asked for it")
	if len(added) == 0 {
		return false, nil
	}
	l.tell(Event{Step: "heal", What: strings.Join(added, ", ")})
	o, err := l.enforced(ctx, p, 1)
	if err == nil {
		l.tell(Event{Step: "prove", What: "that with all capabilities", Err: o.err, Took: o.took})
	}
	if err != nil || o.err != nil {
		p.Capabilities = before
		return false, err
	}
	return true, nil
}

// candidate is a part of a policy that may not be needed.
type candidate struct {
	what   string // in words
	name   string // of the capability or system call
	status *string
	breaks *string
}

func (c *candidate) drop() (undo func()) {
	before := *c.status
	*c.status = policy.Unneeded
	return func() { *c.status = before }
}

func capabilities(p *policy.Policy) (list []func(*policy.Policy) *candidate) {
	for i, c := range p.Capabilities {
		if c.Status == policy.Asked {
			list = append(list, func(p *policy.Policy) *candidate {
				c := &p.Capabilities[i]
				return &candidate{c.Name, c.Name, &c.Status, &c.Breaks}
			})
		}
	}
	return list
}

// suspects are the system calls that are tried to be done without.
func (l *Learner) suspects(p *policy.Policy) (list []func(*policy.Policy) *candidate) {
	for i, c := range p.Syscalls {
		if c.Status == policy.Asked && (l.Shrink == ShrinkAll || explain.Suspicious(c.Name)) {
			list = append(list, func(p *policy.Policy) *candidate {
				c := &p.Syscalls[i]
				return &candidate{c.Name, c.Name, &c.Status, &c.Breaks}
			})
		}
	}
	return list
}

// values are the values of arguments that are tried to be done without: those of
// conditions, of calls that are needed. What came of it is kept in the policy.
func (l *Learner) values(p *policy.Policy) (list []func(*policy.Policy) *candidate) {
	for i := range p.Syscalls {
		c := &p.Syscalls[i]
		for j := range c.Args {
			a := &c.Args[j]
			if !a.Enforce || c.Status != policy.Asked && c.Status != policy.Verified {
				continue
			}
			onlyOne := len(a.Allowed()) == 1
			for _, v := range a.Allowed() {
				if l.Shrink != ShrinkAll && !explain.SuspiciousValue(c.Name, int(a.Index), v) || onlyOne && c.Status == policy.Verified {
					continue // the last value goes with the call
				}
				n := len(a.Tried)
				a.Tried = append(a.Tried, policy.Tried{Value: v, Status: policy.Asked})
				list = append(list, func(p *policy.Policy) *candidate {
					c := &p.Syscalls[i]
					a := &c.Args[j]
					what := fmt.Sprintf("%s with argument %d = %#x", c.Name, a.Index, v)
					return &candidate{what, c.Name, &a.Tried[n].Status, &a.Tried[n].Breaks}
				})
			}
		}
	}
	return list
}

// dropEmpty takes away calls that are allowed with no value any more.
func dropEmpty(p *policy.Policy) {
	for i := range p.Syscalls {
		for _, a := range p.Syscalls[i].Args {
			if a.Enforce && len(a.Allowed()) == 0 {
				p.Syscalls[i].Status = policy.Unneeded
			}
		}
	}
}

// reduce tries to do without each part, then without all of those together that
// alone could be done without; if that breaks, one after the other goes.
func (l *Learner) reduce(ctx context.Context, p *policy.Policy, parts []func(*policy.Policy) *candidate) error {
	broken, err := l.each(ctx, p, parts)
	if err != nil {
		return err
	}
	var free []*candidate
	for i, part := range parts {
		c := part(p)
		if broken[i] == "" {
			free = append(free, c)
			continue
		}
		*c.status, *c.breaks = policy.Verified, broken[i]
	}
	if len(free) == 0 {
		return nil
	}
	var undo []func()
	for _, c := range free {
		undo = append(undo, c.drop())
	}
	o, err := l.enforced(ctx, p, 1)
	if err != nil || o.err == nil {
		return err
	}
	for _, u := range slices.Backward(undo) {
		u()
	}
	return l.oneByOne(ctx, p, free)
}

// oneByOne is for parts that can stand in for each other: the last one that is
// left is needed.
func (l *Learner) oneByOne(ctx context.Context, p *policy.Policy, free []*candidate) error {
	for i, c := range free {
		undo := c.drop()
		o, err := l.enforced(ctx, p, 1)
		if err != nil {
			return err
		}
		l.tell(Event{Step: "drop", What: c.what + " and others", Err: o.err, N: i + 1, Of: len(free), Took: o.took})
		if o.err != nil {
			undo()
			*c.status, *c.breaks = policy.Verified, verdict(o, c.name)+" (when others that can stand in for it are gone too)"
		}
	}
	return nil
}

// each runs the image without each part, several at a time. The result says
// what broke; "" if nothing did.
func (l *Learner) each(ctx context.Context, p *policy.Policy, parts []func(*policy.Policy) *candidate) ([]string, error) {
	broken, errs := make([]string, len(parts)), make([]error, len(parts))
	free := make(chan struct{}, l.parallel)
	var group sync.WaitGroup
	for i, part := range parts {
		free <- struct{}{}
		group.Go(func() {
			defer func() { <-free }()
			without := p.Clone()
			c := part(without)
			c.drop()
			broken[i], errs[i] = l.without(ctx, without, c, i+1, len(parts))
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return broken, ctx.Err()
}

// without runs the image without a part of the policy. A failure with which no
// denial goes must come twice.
func (l *Learner) without(ctx context.Context, p *policy.Policy, c *candidate, n, of int) (string, error) {
	for try := 0; ; try++ {
		o, err := l.enforced(ctx, p, time.Duration(try+1))
		if err != nil {
			return "", err
		}
		if o.err != nil && try == 0 && !blames(o, c.name) {
			continue
		}
		l.tell(Event{Step: "drop", What: c.what, Err: o.err, N: n, Of: of, Took: o.took})
		if o.err == nil {
			return "", nil
		}
		return verdict(o, c.name), nil
	}
}

// blames reports whether the run was denied what it lacked.
func blames(o *outcome, name string) bool {
	for _, d := range o.recording.Denials {
		if d.Syscall == name || slices.Contains(d.Capabilities, name) {
			return true
		}
	}
	return false
}

// verdict says in one line what broke, with the denial that came of what was
// lacking, or the first one.
func verdict(o *outcome, name string) string {
	text := o.err.Error()
	first := -1
	for i, d := range o.recording.Denials {
		if d.Syscall == name || slices.Contains(d.Capabilities, name) {
			first = i
			break
		}
		if first < 0 && (d.By != "seccomp" || d.Errno != "ENOSYS") {
			first = i
		}
	}
	if first < 0 {
		return text
	}
	d := &o.recording.Denials[first]
	return fmt.Sprintf("%s (%s: %s in %s)", text, d.Syscall, outcomeOf(d.Errno, d.Killed), d.Program)
}

func outcomeOf(errno string, killed bool) string {
	if killed {
		return "killed"
	}
	return errno
}
