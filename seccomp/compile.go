package seccomp

import (
	"errors"
	"fmt"
	"slices"

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
// arguments it answers what [Policy.Decide] does, and Compile proves that
// ([bpf.Prove]) before it returns. It fails if the program would be longer than
// the kernel accepts, or if p was not made by [Profile.Resolve] and is no
// policy.
//
// The program finds the architecture first, the native one before others, and
// then the number by a search tree, in which frequent calls stand near the
// root. Calls that are decided by their number alone load nothing else, so the
// kernel's own evaluation at load ([bpf.Constant]) sees those that are allowed
// and lets them pass without the filter from then on.
func Compile(p *Policy) (*Filter, error) {
	prog, err := program(p)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp policy: %w", err)
	}
	f := &Filter{Program: prog, Flags: p.Flags, Notify: p.UsesNotify()}
	if f.Notify {
		f.Flags |= FlagNewListener
		if f.Flags&FlagTSync != 0 {
			f.Flags |= FlagTSyncESRCH
		}
		f.ListenerPath, f.ListenerMetadata = p.ListenerPath, p.ListenerMetadata
	}
	return f, nil
}

// program makes a program that is proved. If one with all optimisations is too
// complex for that, a plain one is made, which has the form of the rules.
func program(p *Policy) ([]bpf.Instruction, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	spec := p.Spec()
	var err error
	for _, plain := range []bool{false, true} {
		c := compiler{policy: p, graph: newGraph(), plain: plain}
		prog := c.layout(c.program())
		if err := bpf.Check(prog); err != nil {
			return nil, err
		}
		if err = bpf.Prove(prog, spec); err == nil {
			return prog, nil
		}
		if !errors.Is(err, bpf.ErrTooComplex) {
			break
		}
	}
	return nil, fmt.Errorf("prove the program: %w", err)
}

// compiler makes the graph of a program. Its methods return the node to enter
// a part at; where A must have something there, they say so.
type compiler struct {
	*graph
	policy *Policy
	plain  bool // no optimisation of conditions
	tree   tree
	spans  []span // scratch space of the ranges of an argument
	spare  []span

	frequent [len(frequencies)]syscalls.Call // of frequencies, as far as they were found already
}

func (c *compiler) program() ref {
	tables := make([]table, 0, len(c.policy.Archs))
	for i := range c.policy.Archs {
		tables = append(tables, c.table(&c.policy.Archs[i]))
	}
	if native, x32 := find(tables, X86_64), find(tables, X32); native != nil && x32 != nil {
		x32.shared = slices.EqualFunc(upTo(native.segs, x32Own), upTo(x32.segs, x32Own), segment.same)
	}
	c.shareEnd(tables)
	entry := c.ret(c.policy.OtherArch)
	for i := len(tables) - 1; i >= 0; i-- {
		t := &tables[i]
		var numbers ref
		switch {
		case t.rules.Arch == X86_64:
			numbers = c.x86(t, find(tables, X32))
		case t.rules.Arch != X32:
			numbers = c.search(t.segs, maxTests+2)
		case find(tables, X86_64) != nil:
			continue
		default:
			numbers = c.x86(nil, t)
		}
		entry = c.branch(bpf.Jeq, t.rules.Arch.Audit(), c.load(bpf.OffNr, numbers), entry)
	}
	return c.load(bpf.OffArch, entry)
}

func find(tables []table, a Arch) *table {
	for i := range tables {
		if tables[i].rules.Arch == a {
			return &tables[i]
		}
	}
	return nil
}

// x86 finds the number in A for the AUDIT_ARCH value that x86-64 and x32 have
// in common. They part at a bit of the number, except for the number that no
// call has. Either may be nil.
func (c *compiler) x86(native, x32 *table) ref {
	low, noCallTo := c.ret(c.policy.OtherArch), c.ret(c.policy.OtherArch)
	if native != nil {
		low = c.search(native.segs, maxTests)
		noCallTo = c.ret(c.policy.unlisted(native.rules, noCall))
	}
	high, last := c.ret(c.policy.OtherArch), c.ret(c.policy.OtherArch)
	if x32 != nil {
		high, last = c.x32(x32, low), c.ret(c.policy.unlisted(x32.rules, noCall))
	}
	if last != noCallTo {
		high = c.branch(bpf.Jeq, noCall, noCallTo, high)
	}
	return c.above(low, high, x32Depth)
}

// x32Depth is how far below the root of the search x32 is told apart at most.
const x32Depth = 3

// above returns a search that goes to high for the numbers of x32, and does
// what low does for all others. The test stands as far down on the side of the
// high numbers as depth allows, so that the lower ones, with the most frequent
// among them, do not pay for it.
func (c *compiler) above(low, high ref, depth int) ref {
	n := c.nodes[low]
	if n.op != bpf.Jge || depth == 0 {
		return c.branch(bpf.Jge, syscalls.X32Bit, high, low)
	}
	return c.branch(bpf.Jge, n.k, c.above(n.yes, high, depth-1), n.no)
}

// x32 finds the number in A, which has the bit of x32. Low is the search for
// numbers of x86-64, parts of which do for x32, too. It has a top of its own,
// since it is reached late.
func (c *compiler) x32(x32 *table, low ref) ref {
	if x32.shared {
		parts := c.parts(nil, low, 0)
		segs := append(slices.Clone(upTo(parts, x32Own)), x32.from(x32Own)...)
		return c.intern(instr{op: bpf.And, k: ^uint32(syscalls.X32Bit), yes: c.search(segs, x32Tests)})
	}
	segs := slices.Clone(x32.segs)
	for i := range segs[1:] {
		segs[i+1].lo |= syscalls.X32Bit
	}
	return c.search(segs, maxTests)
}

// How many tests a number of x32 needs at most after its bit was tested, and
// how many of them are made in parts that x86-64 has, too.
const (
	x32Tests = 7
	x32Parts = 3
)

// parts appends the parts of a search that need few tests, as segments from lo
// on.
func (c *compiler) parts(segs []segment, r ref, lo uint32) []segment {
	if n := c.nodes[r]; n.op == bpf.Jge && c.depth(r) > x32Parts {
		return c.parts(c.parts(segs, n.no, lo), n.yes, n.k)
	}
	return append(segs, segment{lo: lo, to: r, weight: 1, tests: uint8(c.depth(r))})
}

// upTo returns the segments that begin below end.
func upTo(segs []segment, end uint32) []segment {
	for i, s := range segs {
		if s.lo >= end {
			return segs[:i]
		}
	}
	return segs
}

func (s segment) same(t segment) bool { return s.lo == t.lo && s.to == t.to }
