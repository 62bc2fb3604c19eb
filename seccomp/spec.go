package seccomp

import (
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Spec returns the policy as what a program has to answer, in the terms of
// package bpf: AUDIT_ARCH values, ranges of numbers, and tests of arguments. It
// says of every call what [Policy.Decide] says.
func (p *Policy) Spec() *bpf.Spec {
	s := &bpf.Spec{Other: uint32(p.OtherArch)}
	for i := range p.Archs {
		a := &p.Archs[i]
		if a.Arch == X32 && p.arch(X86_64) != nil {
			continue // part of x86-64
		}
		s.Archs = append(s.Archs, bpf.ArchSpec{Arch: a.Arch.Audit(), Cases: p.cases(a)})
	}
	return s
}

// cases returns what is to be answered for the AUDIT_ARCH value of a.
func (p *Policy) cases(a *ArchRules) []bpf.Case {
	l := caseList{policy: p, cases: make([]bpf.Case, 0, 128)}
	if a.Arch.Audit() != X86_64.Audit() {
		l.add(a, 0, noCall)
		return l.cases
	}
	native, x32 := p.arch(X86_64), p.arch(X32)
	l.add(native, 0, syscalls.X32Bit-1)
	l.add(x32, syscalls.X32Bit, noCall-1)
	l.add(native, noCall, noCall)
	return l.cases
}

// caseList collects the cases of an AUDIT_ARCH value in the order of their
// numbers.
type caseList struct {
	policy *Policy
	cases  []bpf.Case
}

// append appends a case, unless the last one says the same.
func (l *caseList) append(c bpf.Case) {
	if n := len(l.cases); n > 0 && len(c.Rules) == 0 && len(l.cases[n-1].Rules) == 0 && l.cases[n-1].Else == c.Else {
		return
	}
	l.cases = append(l.cases, c)
}

// add adds the cases of the numbers from first to last, which are of a or, if
// that is nil, of an ABI that is not listed.
func (l *caseList) add(a *ArchRules, first, last uint32) {
	if a == nil {
		l.append(bpf.Case{Lo: first, Else: uint32(l.policy.OtherArch)})
		return
	}
	next := uint64(first) // the first number without a case
	for i := range a.Calls {
		call := &a.Calls[i]
		if call.Nr < first || call.Nr > last {
			continue
		}
		l.gap(a, next, uint64(call.Nr))
		c := bpf.Case{Lo: call.Nr, Else: uint32(l.policy.unlisted(a, call.Nr))}
		if action, ok := call.constant(); ok {
			c.Else = uint32(action)
		} else {
			c.Rules = specRules(call.Rules)
		}
		l.append(c)
		next = uint64(call.Nr) + 1
	}
	l.gap(a, next, uint64(last)+1)
}

// gap adds the cases of the numbers from next up to end, which have no rules.
func (l *caseList) gap(a *ArchRules, next, end uint64) {
	for next < end {
		nr := uint32(next)
		l.append(bpf.Case{Lo: nr, Else: uint32(l.policy.unlisted(a, nr))})
		stop, _ := a.newerUpTo(nr &^ a.Arch.Bit())
		if stop == noCall {
			return
		}
		next = uint64(stop|a.Arch.Bit()) + 1
	}
}

func specRules(rules []Rule) []bpf.Rule {
	list := make([]bpf.Rule, len(rules))
	for i, r := range rules {
		list[i].Ret = uint32(r.Action)
		list[i].Tests = make([]bpf.Test, len(r.Args))
		for j, c := range r.Args {
			list[i].Tests[j] = c.test()
		}
	}
	return list
}

// test returns the condition in the terms of package bpf.
func (c Condition) test() bpf.Test {
	t := bpf.Test{Arg: c.Index, Op: bpf.Jeq, Mask: c.bits(), Value: c.Value}
	switch c.Op {
	case NE:
		t.Not = true
	case LT:
		t.Op, t.Not = bpf.Jge, true
	case LE:
		t.Op, t.Not = bpf.Jgt, true
	case GE:
		t.Op = bpf.Jge
	case GT:
		t.Op = bpf.Jgt
	case MaskedEQ:
		t.Mask &= c.Value
		t.Value = c.ValueTwo
	}
	return t
}
