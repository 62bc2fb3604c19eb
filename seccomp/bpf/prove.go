package bpf

import (
	"errors"
	"fmt"
)

// A Difference is a set of calls for which a program does not answer what it
// should, and one call of them.
type Difference struct {
	Example   Data
	FirstNr   uint32 // the numbers of the set are from FirstNr
	LastNr    uint32 // to LastNr
	Want, Got uint32
	Where     []Known // what the arguments are; none for all
}

func (d *Difference) Error() string {
	return fmt.Sprintf("arch %#x, number %#x, arguments %#x: the program answers %#x, not %#x",
		d.Example.Arch, d.Example.Nr, d.Example.Args, d.Got, d.Want)
}

// ErrTooComplex says that a program could neither be proved nor refuted with
// the work that [Prove] allows itself.
var ErrTooComplex = errors.New("the program is too complex to be proved")

// Prove shows that prog, which must pass [Check], answers what spec says for
// every architecture, number and argument. The error is a *[Difference] if it
// does not, and otherwise [ErrTooComplex].
//
// It walks all paths of the program and keeps, for each word of seccomp_data,
// the set of values with which the path is taken. Beside the path it walks the
// rules of the spec, as far as these sets decide them. Where a path comes to a
// new rule, it first tries to prove the rest for all arguments: what succeeds
// need not be walked again for other paths that get there. What a program
// computes from a word otherwise than by AND with a constant is not followed:
// both ways of a jump on it are walked, and differences that this gives are
// confirmed by [Run] or end in ErrTooComplex.
func Prove(prog []Instruction, spec *Spec) error {
	var first *Difference
	err := Differences(prog, spec, func(d *Difference) bool {
		first = d
		return false
	})
	if first != nil {
		return first
	}
	return err
}

// Differences calls yield for sets of calls that together are all for which
// prog does not answer what spec says, until yield returns false. The error is
// [ErrTooComplex] or nil.
func Differences(prog []Instruction, spec *Spec, yield func(*Difference) bool) error {
	p := prover{prog: prog, spec: spec, yield: yield, budget: maxSteps, proved: map[place]bool{}}
	p.survey()
	p.all()
	if p.unsure || p.budget < 0 {
		return ErrTooComplex
	}
	return nil
}

// maxSteps bounds the instructions that are walked. Docker's default profile
// takes some thousands.
const maxSteps = 1 << 20

// prover holds a program against a spec.
type prover struct {
	prog  []Instruction
	spec  *Spec
	yield func(*Difference) bool
	sets  sets

	// uniform has, for each instruction, the one answer that all paths from
	// it give, if there is one.
	uniform []answer
	// plain says that the program uses neither X nor scratch memory, so that
	// where it loads, nothing of its past but the words' domains matters.
	plain bool

	spare  []*state
	proved map[place]bool // tried for all arguments, and whether it succeeded
	trying int            // depth of such trials, in which differences are not told
	budget int
	stop   bool // yield wants no more
	unsure bool // a difference could not be confirmed
}

type answer struct {
	ret uint32
	one bool
}

// place is an instruction, what A has there, and the rule that is next.
type place struct {
	pc   int
	a    value
	rule *Rule
}

// survey fills in uniform and plain.
func (p *prover) survey() {
	p.plain = true
	p.uniform = make([]answer, len(p.prog))
	for pc := len(p.prog) - 1; pc >= 0; pc-- {
		in := p.prog[pc]
		u := &p.uniform[pc]
		switch {
		case in.Op == RetK:
			*u = answer{in.K, true}
		case in.Op == RetA, in.Op == Div|SrcX: // the latter may end the program
		case in.Op == Ja:
			*u = p.uniform[pc+1+int(in.K)]
		case in.isBranch():
			yes, no := p.uniform[pc+1+int(in.JT)], p.uniform[pc+1+int(in.JF)]
			if yes == no {
				*u = yes
			}
		default:
			*u = p.uniform[pc+1]
		}
		switch in.Op {
		case LdAbs, RetK, Ja, And, Jeq, Jgt, Jge, Jset:
		default:
			p.plain = false
		}
	}
}

// The words of seccomp_data, by their offset divided by 4.
const (
	wordNr   = OffNr / 4
	wordArch = OffArch / 4
	wordArgs = OffArgs / 4
	words    = dataSize / 4
)

// state is what is known on a path.
type state struct {
	arch  uint32 // AUDIT_ARCH value, by which the words of arguments are found
	a, x  value
	mem   *[memWords]value // never changed in place; nil: nothing stored
	words [words]domain
	// narrow says that the domain of an argument or of the instruction
	// pointer is not everything.
	narrow bool
	// fuzzy says that the path may be one that no call takes.
	fuzzy bool
}

// value is what is known of a register.
type value struct {
	kind valueKind
	word uint8  // of wordValue
	k    uint32 // the constant, or the mask of wordValue
}

type valueKind uint8

const (
	constant  valueKind = iota
	wordValue           // a word of seccomp_data AND k
	unknown
)

// all walks the program for every architecture of the spec and for all others.
func (p *prover) all() {
	var s state
	for i := range s.words {
		s.words[i].in = everything
	}
	rest := domain{in: everything}
	for i := range p.spec.Archs {
		a := &p.spec.Archs[i]
		one := s
		one.arch = a.Arch
		one.words[wordArch], _ = p.sets.refine(s.words[wordArch], maxWord, Jeq, a.Arch, true)
		rest, _ = p.sets.refine(rest, maxWord, Jeq, a.Arch, false)
		p.numbers(0, &one, a.Cases)
	}
	s.words[wordArch] = rest
	p.numbers(0, &s, []Case{{Else: p.spec.Other}})
}

// numbers walks from pc on as long as only the architecture and the number
// matter, and then goes on case by case. It reports whether no difference was
// found.
func (p *prover) numbers(pc int, s *state, cases []Case) bool {
	for p.spend() {
		in := &p.prog[pc]
		if in.Op == RetK || in.Op == LdAbs && in.K/4 != wordNr && in.K/4 != wordArch || !p.plain {
			return p.split(pc, s, cases)
		}
		if !in.isBranch() {
			pc = p.step(pc, s)
			continue
		}
		yes, no := pc+1+int(in.JT), pc+1+int(in.JF)
		other := p.copy(s)
		canYes, canNo := p.assume(other, in, true), p.assume(s, in, false)
		switch {
		case canYes && canNo:
			if !p.numbers(yes, other, cases) && p.done() {
				return false
			}
			pc = no
		case canYes:
			*s, pc = *other, yes
		default:
			pc = no
		}
		p.drop(other)
	}
	return false
}

// split goes on from pc for each case in which the number may be.
func (p *prover) split(pc int, s *state, cases []Case) bool {
	spec := ArchSpec{Cases: cases}
	ok := true
	for _, iv := range s.words[wordNr].in {
		for i := spec.place(iv.lo); i < len(cases) && cases[i].Lo <= iv.hi; i++ {
			c := &cases[i]
			last := iv.hi
			if i+1 < len(cases) {
				last = min(last, cases[i+1].Lo-1)
			}
			if u := p.uniform[pc]; len(c.Rules) == 0 && u.one && u.ret == c.Else {
				continue
			}
			one := p.copy(s)
			nr := &one.words[wordNr]
			nr.in = append(p.sets.grab(1), interval{max(iv.lo, c.Lo), last})
			if _, some := nr.witness(); some && !p.rules(pc, one, position{rules: c.Rules, last: c.Else}) {
				if ok = false; p.done() {
					return false
				}
			}
			p.drop(one)
		}
	}
	return ok
}

// position is how far the rules of a case are decided.
type position struct {
	rules   []Rule // the first is the next to be decided
	test    int    // of which the tests before this one hold
	last    uint32 // answer if none holds
	decided bool   // what is wanted is last
}

// rules walks from pc on with the rules of a case beside it. It reports whether
// no difference was found.
func (p *prover) rules(pc int, s *state, at position) bool {
	ok := true
	for p.spend() {
		before := len(at.rules)
		p.advance(s, &at)
		if at.decided {
			if u := p.uniform[pc]; u.one {
				return (u.ret == at.last || p.differ(s, at.last, u.ret)) && ok
			}
		} else if at.test == 0 && len(at.rules) < before && s.narrow {
			if p.forAll(pc, s, at) {
				return ok
			}
		}
		in := &p.prog[pc]
		switch {
		case in.Op == RetK || in.Op == RetA:
			return p.answers(s, at, in) && ok
		case !in.isBranch():
			if in.Op == Div|SrcX && !p.divides(s, at) {
				return false
			}
			pc = p.step(pc, s)
			continue
		}
		yes, no := pc+1+int(in.JT), pc+1+int(in.JF)
		other := p.copy(s)
		canYes, canNo := p.assume(other, in, true), p.assume(s, in, false)
		switch {
		case canYes && canNo:
			if !p.rules(yes, other, at) {
				if ok = false; p.done() {
					return false
				}
			}
			pc = no
		case canYes:
			*s, pc = *other, yes
		default:
			pc = no
		}
		p.drop(other)
	}
	return false
}

// copy returns a copy of s, for a while; see drop.
func (p *prover) copy(s *state) *state {
	if len(p.spare) == 0 {
		p.spare = append(p.spare, new(state))
	}
	c := p.spare[len(p.spare)-1]
	p.spare = p.spare[:len(p.spare)-1]
	*c = *s
	return c
}

// drop takes a copy back.
func (p *prover) drop(s *state) { p.spare = append(p.spare, s) }

// spend counts a step. It is false when the walk has to end.
func (p *prover) spend() bool {
	p.budget--
	return p.budget >= 0 && !p.stop
}

// done reports whether one difference is enough.
func (p *prover) done() bool { return p.trying > 0 || p.stop || p.budget < 0 }

// forAll tries to prove, once for each place, that the program from pc on
// answers what the rules from here on say, whatever the arguments.
func (p *prover) forAll(pc int, s *state, at position) bool {
	if !p.plain {
		return false
	}
	here := place{pc, s.a, &at.rules[0]}
	ok, tried := p.proved[here]
	if tried {
		return ok
	}
	p.proved[here] = false // while it is being tried
	free := p.copy(s)
	for i := range free.words {
		if i != wordNr && i != wordArch {
			free.words[i] = domain{in: everything}
		}
	}
	free.narrow = false
	p.trying++
	ok = p.rules(pc, free, at)
	p.drop(free)
	p.trying--
	p.proved[here] = ok
	return ok
}

// advance decides as many tests as the state does.
func (p *prover) advance(s *state, at *position) {
	for !at.decided {
		switch {
		case len(at.rules) == 0:
			at.decided = true
		case at.test == len(at.rules[0].Tests):
			at.decided, at.last = true, at.rules[0].Ret
		default:
			yes, no := p.outcomes(s, &at.rules[0].Tests[at.test])
			switch {
			case yes && no:
				return
			case yes:
				at.test++
			default:
				at.rules, at.test = at.rules[1:], 0
			}
		}
	}
}

// answers compares the answer of a path that ends with what the rules say.
func (p *prover) answers(s *state, at position, in *Instruction) bool {
	got, known := in.K, true
	if in.Op == RetA {
		got, known = s.a.k, s.a.kind == constant
		s.fuzzy = s.fuzzy || !known
	}
	ok := true
	for p.spend() {
		p.advance(s, &at)
		if at.decided {
			return (known && got == at.last || p.differ(s, at.last, got)) && ok
		}
		// The program does not look at what the rules look at: follow these.
		rule := &at.rules[0]
		t := &rule.Tests[at.test]
		if at.test+1 < len(rule.Tests) || rule.Ret != got || !known {
			next := position{rules: at.rules, test: at.test + 1, last: at.last}
			parts, n := p.parts(s, t, true)
			for _, part := range parts[:n] {
				if !p.answers(part, next, in) {
					if ok = false; p.done() {
						return false
					}
				}
				p.drop(part)
			}
		}
		parts, n := p.parts(s, t, false)
		at.rules, at.test = at.rules[1:], 0
		if n == 2 && !p.answers(parts[1], at, in) {
			if ok = false; p.done() {
				return false
			}
		}
		*s = *parts[0]
		for _, part := range parts[:n] {
			p.drop(part)
		}
	}
	return false
}

// divides handles a division by X, which ends the program if X is 0.
func (p *prover) divides(s *state, at position) bool {
	if s.x.kind == constant && s.x.k != 0 {
		return true
	}
	end := p.copy(s)
	defer p.drop(end)
	end.fuzzy = end.fuzzy || s.x.kind != constant
	return p.answers(end, at, &Instruction{Op: RetK})
}

// differ tells of a difference. It returns false.
func (p *prover) differ(s *state, want, got uint32) bool {
	if p.trying > 0 {
		return false
	}
	d := &Difference{Want: want, Got: got, Example: s.example(), FirstNr: s.words[wordNr].in[0].lo, Where: s.where()}
	d.LastNr = s.words[wordNr].in[len(s.words[wordNr].in)-1].hi
	if s.fuzzy {
		real, err := Run(p.prog, &d.Example)
		d.Want, d.Got = p.spec.Answer(&d.Example), real
		if err != nil || d.Want == d.Got {
			p.unsure = true
			return false
		}
	}
	if !p.yield(d) {
		p.stop = true
	}
	return false
}

// example returns one call of those that s describes.
func (s *state) example() Data {
	var w [words]uint32
	for i := range w {
		w[i], _ = s.words[i].witness()
	}
	d := Data{Nr: w[wordNr], Arch: w[wordArch]}
	long := func(i int) uint64 {
		if d.Arch&littleEndian == 0 {
			return uint64(w[i])<<32 | uint64(w[i+1])
		}
		return uint64(w[i+1])<<32 | uint64(w[i])
	}
	d.IP = long(OffIP / 4)
	for i := range d.Args {
		d.Args[i] = long(wordArgs + 2*i)
	}
	return d
}
