package seccomp

import (
	"fmt"

	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Filter is a program for the kernel and how to load it.
type Filter struct {
	Program          []bpf.Instruction
	Flags            Flags  // the complete flags argument of seccomp(2)
	Notify           bool   // loading returns a listener descriptor
	ListenerPath     string // socket that gets the descriptor; "" unless Notify
	ListenerMetadata string
}

// Compile makes the filter of a policy. For every architecture, number and
// arguments it answers what [Policy.Decide] does. It fails if the program
// would be longer than the kernel accepts, or if p was not made by
// [Profile.Resolve] and is no policy.
//
// The program finds the architecture first, the native one before others, and
// then the number by a search tree. Calls that are decided by their number
// alone load nothing else, so the kernel's own evaluation at load
// ([bpf.Constant]) sees those that are allowed and lets them pass without the
// filter from then on.
func Compile(p *Policy) (*Filter, error) {
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("compile seccomp policy: %w", err)
	}
	c := compiler{policy: p}
	c.rev = make([]bpf.Instruction, 0, 512)
	f := &Filter{Program: c.program(), Flags: p.Flags, Notify: p.UsesNotify()}
	if err := bpf.Check(f.Program); err != nil {
		return nil, fmt.Errorf("compile seccomp policy: %w", err)
	}
	if f.Notify {
		f.Flags |= FlagNewListener
		if f.Flags&FlagTSync != 0 {
			f.Flags |= FlagTSyncESRCH
		}
		f.ListenerPath, f.ListenerMetadata = p.ListenerPath, p.ListenerMetadata
	}
	return f, nil
}

// compiler builds a program from its end to its start, since jumps go forward
// only: whatever an instruction jumps to exists before it.
type compiler struct {
	assembler
	policy *Policy
	segs   []segment // scratch space of the number tree
	spans  []span    // and of the ranges of an argument
	spare  []span
}

// segment is a range of 32-bit values with one outcome: from lo up to the next
// segment's lo.
type segment struct {
	lo     uint32
	target int64 // an action, or below 0 what its maker says
}

func (c *compiler) program() []bpf.Instruction {
	entry := c.ret(c.policy.OtherArch)
	for i := len(c.policy.Archs) - 1; i >= 0; i-- {
		a := c.policy.Archs[i].Arch
		if a == X32 && c.policy.arch(X86_64) != nil {
			continue // part of the tree of x86-64
		}
		entry = c.branch(bpf.Jeq, a.Audit(), c.arch(a.Audit()), entry)
	}
	c.load(bpf.OffArch, entry)
	return c.finish()
}

// arch emits what follows for an AUDIT_ARCH value.
func (c *compiler) arch(audit uint32) label {
	if audit != X86_64.Audit() {
		return c.load(bpf.OffNr, c.numbers(c.policy.find(audit, 0), 0))
	}
	// x86-64 and x32 share the value and part at a bit of the number, except
	// for the number that no call has.
	native, x32 := c.policy.arch(X86_64), c.policy.arch(X32)
	high := c.branch(bpf.Jeq, noCall, c.ret(c.unlisted(native, noCall)), c.numbers(x32, syscalls.X32Bit))
	return c.load(bpf.OffNr, c.branch(bpf.Jge, syscalls.X32Bit, high, c.numbers(native, 0)))
}

// unlisted returns the action for a number of a without rules that hold.
func (c *compiler) unlisted(a *ArchRules, nr uint32) Action {
	switch {
	case a == nil:
		return c.policy.OtherArch
	case nr > a.Newest:
		return c.policy.Newer
	}
	return c.policy.Default
}

// numbers emits the search tree for the numbers of a from base up. With A the
// number, its segments are the calls with rules and the gaps between them.
func (c *compiler) numbers(a *ArchRules, base uint32) label {
	segs := c.segs[:0]
	add := func(lo uint32, target int64) {
		if n := len(segs); n == 0 || segs[n-1].target != target {
			segs = append(segs, segment{lo, target})
		}
	}
	next := base // the first number that has no segment yet
	gap := func(end uint32) {
		if next >= end {
			return
		}
		if a == nil || next > a.Newest || end-1 <= a.Newest {
			add(next, int64(c.unlisted(a, next)))
			return
		}
		add(next, int64(c.policy.Default))
		add(a.Newest+1, int64(c.policy.Newer))
	}
	if a != nil {
		for i := range a.Calls {
			call := &a.Calls[i]
			gap(call.Nr)
			if action, ok := call.constant(); ok {
				add(call.Nr, int64(action))
			} else {
				add(call.Nr, int64(-1-i))
			}
			next = call.Nr + 1
		}
	}
	gap(noCall)
	c.segs = segs
	return c.tree(segs, func(target int64) label {
		if target >= 0 {
			return c.ret(Action(target))
		}
		call := &a.Calls[-1-target]
		return c.call(call, a.ArgBits, c.ret(c.unlisted(a, call.Nr)))
	})
}

// constant returns the action of a call that its number alone decides.
func (c *CallRules) constant() (Action, bool) {
	if len(c.Rules) > 0 && len(c.Rules[0].Args) == 0 {
		return c.Rules[0].Action, true
	}
	return 0, false
}

// tree emits a search for the segment of A, and then what leaf emits for its
// target.
func (c *compiler) tree(segs []segment, leaf func(target int64) label) label {
	if len(segs) == 1 {
		return leaf(segs[0].target)
	}
	if spots(segs) {
		rest := leaf(segs[0].target)
		entry := rest
		for i := len(segs) - 2; i > 0; i -= 2 {
			entry = c.branch(bpf.Jeq, segs[i].lo, leaf(segs[i].target), entry)
		}
		return entry
	}
	mid := len(segs) / 2
	right := c.tree(segs[mid:], leaf)
	left := c.tree(segs[:mid], leaf)
	return c.branch(bpf.Jge, segs[mid].lo, right, left)
}

// spots reports whether segs are up to three single values in a range that
// otherwise has one outcome, which equality tests find in fewer instructions
// than a search.
func spots(segs []segment) bool {
	if len(segs)%2 == 0 || len(segs) > 7 {
		return false
	}
	for i := 2; i < len(segs); i += 2 {
		if segs[i].target != segs[0].target || segs[i].lo != segs[i-1].lo+1 {
			return false
		}
	}
	return true
}
