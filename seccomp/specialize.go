package seccomp

import (
	"slices"

	"github.com/brig-run/brig/seccomp/bpf"
)

// specialize returns a graph that does what entry does without tests whose
// outcome earlier tests on the way tell, or entry if that is no shorter. So
// rules that begin with the same conditions test them once.
func (c *compiler) specialize(entry ref) ref {
	size := c.count(entry)
	s := specializer{graph: c.graph, budget: 64 + 4*size}
	if to := s.visit(entry, word{}, nil); c.count(to) < size {
		return to
	}
	return entry
}

// count returns how many nodes there are from entry on.
func (g *graph) count(entry ref) int {
	seen := make([]bool, len(g.nodes))
	n := 0
	var visit func(r ref)
	visit = func(r ref) {
		for r != 0 && !seen[r] {
			seen[r] = true
			n++
			visit(g.nodes[r].no)
			r = g.nodes[r].yes
		}
	}
	visit(entry)
	return n
}

type specializer struct {
	*graph
	budget int // visits that are left; without any, all stays as it is
}

// fact is a test that was made on the way, and its outcome.
type fact struct {
	word word
	op   uint16
	k    uint32
	held bool
}

// visit returns what to do in place of r, where A has w and facts hold.
func (s *specializer) visit(r ref, w word, facts []fact) ref {
	n := s.nodes[r]
	if s.budget--; s.budget < 0 || n.op == bpf.RetK {
		return r
	}
	switch n.op {
	case bpf.LdAbs:
		return s.load(n.k, s.visit(n.yes, word{n.k, allBits}, facts))
	case bpf.And:
		next := s.visit(n.yes, word{w.off, w.mask & n.k}, facts)
		if op := s.nodes[next].op; op == bpf.RetK || op == bpf.LdAbs {
			return next
		}
		return s.intern(instr{op: bpf.And, k: n.k, yes: next})
	}
	f := fact{w, n.op, n.k, true}
	if held, known := f.known(facts); known {
		if held {
			return s.visit(n.yes, w, facts)
		}
		return s.visit(n.no, w, facts)
	}
	facts = slices.Clip(facts)
	yes := s.visit(n.yes, w, append(facts, f))
	f.held = false
	return s.branch(n.op, n.k, yes, s.visit(n.no, w, append(facts, f)))
}

// known says whether facts tell the outcome of a test, and which.
func (f fact) known(facts []fact) (held, known bool) {
	lo, hi := uint32(0), f.word.mask
	for _, have := range facts {
		switch {
		case have.word.off != f.word.off:
		case have.word.mask == allBits && have.op == bpf.Jeq && have.held:
			lo, hi = have.k&f.word.mask, have.k&f.word.mask // all of the word is known
		case have.word != f.word:
		case have.op == f.op && have.k == f.k:
			return have.held, true
		default:
			lo, hi = have.bounds(lo, hi)
		}
	}
	return f.within(lo, hi)
}

// bounds narrows the range of a word, from lo to hi, by a fact about it.
func (f fact) bounds(lo, hi uint32) (uint32, uint32) {
	switch {
	case f.op == bpf.Jeq && f.held:
		return f.k, f.k
	case f.op == bpf.Jge && f.held:
		lo = max(lo, f.k)
	case f.op == bpf.Jge && f.k > 0:
		hi = min(hi, f.k-1)
	case f.op == bpf.Jgt && f.held && f.k < allBits:
		lo = max(lo, f.k+1)
	case f.op == bpf.Jgt && !f.held:
		hi = min(hi, f.k)
	}
	return lo, hi
}

// within says whether a test has the same outcome for all words from lo to hi.
func (f fact) within(lo, hi uint32) (held, known bool) {
	switch f.op {
	case bpf.Jeq:
		return lo == hi && f.k == lo, f.k < lo || f.k > hi || lo == hi
	case bpf.Jge:
		return lo >= f.k, lo >= f.k || hi < f.k
	case bpf.Jgt:
		return lo > f.k, lo > f.k || hi <= f.k
	}
	return lo&f.k != 0, lo == hi
}
