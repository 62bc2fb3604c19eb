package seccomp

import (
	"slices"

	"github.com/brig-run/brig/seccomp/bpf"
)

// graph is a program as a graph of decisions: equal parts exist once, whoever
// needs them. [graph.layout] makes instructions of it.
type graph struct {
	nodes []instr
	table []ref // of nodes by their hash; 0 is a free place
}

// ref is a node, by its place in the graph. A node refers to earlier ones only.
// Zero is none.
type ref int32

// instr is a node: one instruction: a load or an AND that goes on to yes, a jump to yes
// or no, or a return.
type instr struct {
	op      uint16
	k       uint32
	yes, no ref
}

func newGraph() *graph {
	return &graph{nodes: make([]instr, 1, 512), table: make([]ref, 1024)}
}

// intern returns the node that equals n.
func (g *graph) intern(n instr) ref {
	if 2*len(g.nodes) > len(g.table) {
		g.grow()
	}
	at := g.slot(n)
	if g.table[at] == 0 {
		g.nodes = append(g.nodes, n)
		g.table[at] = ref(len(g.nodes) - 1)
	}
	return g.table[at]
}

// slot returns where n is in the table, or would be.
func (g *graph) slot(n instr) uint32 {
	mask := uint32(len(g.table) - 1)
	h := (uint32(n.op)*0x9e3779b1 ^ n.k) * 0x85ebca6b
	h = (h ^ h>>15 ^ uint32(n.yes)) * 0xc2b2ae35
	h = (h ^ h>>13 ^ uint32(n.no)) * 0x27d4eb2f
	at := (h ^ h>>16) & mask
	for g.table[at] != 0 && g.nodes[g.table[at]] != n {
		at = (at + 1) & mask
	}
	return at
}

func (g *graph) grow() {
	g.table = make([]ref, 2*len(g.table))
	for i := range g.nodes[1:] {
		g.table[g.slot(g.nodes[i+1])] = ref(i + 1)
	}
}

func (g *graph) ret(a Action) ref { return g.intern(instr{op: bpf.RetK, k: uint32(a)}) }

// branch goes to yes if the test of A holds, else to no.
func (g *graph) branch(op uint16, k uint32, yes, no ref) ref {
	if yes == no {
		return yes
	}
	return g.intern(instr{op: op, k: k, yes: yes, no: no})
}

// load goes to next with a word of seccomp_data in A.
func (g *graph) load(off uint32, next ref) ref {
	if op := g.nodes[next].op; op == bpf.RetK || op == bpf.LdAbs {
		return next // which does not look at A
	}
	return g.intern(instr{op: bpf.LdAbs, k: off, yes: next})
}

// word is what of seccomp_data a test looks at: the word at off AND mask.
type word struct{ off, mask uint32 }

// load goes to next with w in A.
func (g *graph) loadWord(w word, next ref) ref {
	if op := g.nodes[next].op; w.mask != allBits && op != bpf.RetK && op != bpf.LdAbs {
		next = g.intern(instr{op: bpf.And, k: w.mask, yes: next})
	}
	return g.load(w.off, next)
}

// with returns what to go on with in place of r where A has w already.
func (g *graph) with(w word, r ref) ref {
	n := g.nodes[r]
	if n.op != bpf.LdAbs || n.k != w.off {
		return r
	}
	next := g.nodes[n.yes]
	switch {
	case w.mask == allBits:
		return n.yes
	case next.op == bpf.And && next.k == w.mask:
		return next.yes
	}
	return r
}

const allBits = 1<<32 - 1

// test goes to yes if w passes the test, else to no.
func (g *graph) test(w word, op uint16, k uint32, yes, no ref) ref {
	if yes == no || w.mask == 0 {
		if yes == no || op == bpf.Jeq && k == 0 || op == bpf.Jge && k == 0 {
			return yes
		}
		return no
	}
	return g.loadWord(w, g.branch(op, k, g.with(w, yes), g.with(w, no)))
}

// layout writes the instructions, from the last to the first.
type layout struct {
	*graph
	rev  []bpf.Instruction
	at   []label // of each node: the latest place that does what it does; 0 is none
	size []int32 // of each node: instructions below it, parts that are shared counted often
}

// label is an instruction by its distance from the end, from 1 on.
type label int32

// maxSkip is how far a conditional jump reaches.
const maxSkip = 255

// layout returns the program that starts at entry.
func (g *graph) layout(entry ref) []bpf.Instruction {
	l := layout{graph: g, rev: make([]bpf.Instruction, 0, 512), at: make([]label, len(g.nodes)), size: make([]int32, len(g.nodes))}
	for i, n := range g.nodes {
		l.size[i] = min(1+l.size[n.yes]+l.size[n.no], 1<<20)
	}
	l.place(entry)
	slices.Reverse(l.rev)
	return l.rev
}

func (l *layout) emit(in bpf.Instruction) label {
	l.rev = append(l.rev, in)
	return label(len(l.rev))
}

// skip returns how many instructions lie between one emitted now and to.
func (l *layout) skip(to label) int { return len(l.rev) - int(to) }

// place emits a node, after all that it needs.
func (l *layout) place(r ref) {
	if l.at[r] != 0 {
		return
	}
	n := l.nodes[r]
	in := bpf.Instruction{Op: n.op, K: n.k}
	switch n.op {
	case bpf.RetK:
	case bpf.LdAbs, bpf.And:
		l.place(n.yes)
		if l.skip(l.at[n.yes]) != 0 {
			l.near(n.yes)
		}
	default:
		// The larger part is put further away.
		first, second := n.yes, n.no
		if l.size[first] < l.size[second] {
			first, second = second, first
		}
		l.place(first)
		l.place(second)
		for l.skip(l.at[n.yes]) > maxSkip || l.skip(l.at[n.no]) > maxSkip {
			if l.skip(l.at[n.yes]) > maxSkip {
				l.near(n.yes)
			}
			if l.skip(l.at[n.no]) > maxSkip {
				l.near(n.no)
			}
		}
		in.JT, in.JF = uint8(l.skip(l.at[n.yes])), uint8(l.skip(l.at[n.no]))
	}
	l.at[r] = l.emit(in)
}

// near emits what does what r does: a copy of a return, or a jump.
func (l *layout) near(r ref) {
	if n := l.nodes[r]; n.op == bpf.RetK {
		l.at[r] = l.emit(bpf.Instruction{Op: bpf.RetK, K: n.k})
		return
	}
	l.at[r] = l.emit(bpf.Instruction{Op: bpf.Ja, K: uint32(l.skip(l.at[r]))})
}
