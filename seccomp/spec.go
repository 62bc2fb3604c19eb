package seccomp

import (
	"slices"

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
	if a.Arch.Audit() != X86_64.Audit() {
		return p.appendCases(make([]bpf.Case, 0, 2*len(a.Calls)+4), a, 0, noCall)
	}
	native, x32 := p.arch(X86_64), p.arch(X32)
	cases := p.appendCases(nil, native, 0, syscalls.X32Bit-1)
	cases = p.appendCases(cases, x32, syscalls.X32Bit, noCall-1)
	return p.appendCases(cases, native, noCall, noCall)
}

// appendCases appends those of the numbers from first to last, which are of a
// or, if that is nil, of an ABI that is not listed.
func (p *Policy) appendCases(cases []bpf.Case, a *ArchRules, first, last uint32) []bpf.Case {
	if a == nil {
		return append(cases, bpf.Case{Lo: first, Else: uint32(p.OtherArch)})
	}
	cases = slices.Grow(cases, 2*len(a.Calls)+4)
	next := uint64(first) // the first number without a case
	gap := func(end uint64) {
		for next < end {
			stop, newer := a.newerUpTo(uint32(next) &^ a.Arch.Bit())
			c := bpf.Case{Lo: uint32(next), Else: uint32(p.Default)}
			if newer {
				c.Else = uint32(p.Newer)
			}
			cases = append(cases, c)
			if stop == noCall {
				break
			}
			next = uint64(stop|a.Arch.Bit()) + 1
		}
		next = end
	}
	for i := range a.Calls {
		call := &a.Calls[i]
		if call.Nr < first || call.Nr > last {
			continue
		}
		gap(uint64(call.Nr))
		c := bpf.Case{Lo: call.Nr, Else: uint32(p.Default)}
		if a.newer(call.Nr) {
			c.Else = uint32(p.Newer)
		}
		if action, ok := call.constant(); ok {
			c.Else = uint32(action)
		} else {
			c.Rules = specRules(call.Rules)
		}
		cases = append(cases, c)
		next++
	}
	gap(uint64(last) + 1)
	return cases
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
