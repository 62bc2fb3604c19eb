package main

import (
	"fmt"
	"strings"
)

// goal is a figure that Brig is to reach.
type goal struct {
	Name     string `json:"name"`
	Measured string `json:"measured"`
	Reached  bool   `json:"reached"`
}

// noise is how far the costs of two calls that do the same may differ, in
// nanoseconds.
const noise = 3

// goals compares what was measured with what was promised. Where a figure is
// about libseccomp, it is the best of the libraries that were measured.
func goals(policies []*policy) []goal {
	three, one := policies[0], policies[1]
	list := []goal{
		atMost("three ABIs: at most 220 instructions", float64(three.brig().Instructions), 220, "%.0f"),
		atMost("x86-64 alone: at most 100 instructions", float64(one.brig().Instructions), 100, "%.0f"),
	}
	for _, p := range policies {
		b := p.brig()
		load := func(f *filter) float64 { return f.Load }
		executed := func(f *filter) float64 { return f.Executed }
		for _, g := range []goal{
			atMost("JSON to checked program in at most 1000 µs", b.Compile, 1000, "%.0f µs"),
			atMost("load time at most a third of libseccomp's tree", b.Load, p.bestTree(load)/3, "%.0f µs"),
			atMost("executed on the mix at most half of libseccomp's tree", b.Executed, p.bestTree(executed)/2, "%.2f"),
			atMost("worst case at most 16 instructions before arguments", float64(b.Worst.Before), 16, "%.0f"),
			atMost("at most 8 more for socket", float64(b.Worst.Socket), 8, "%.0f"),
			atMost("a call allowed by its number costs as under a filter of one ALLOW, within noise", b.Calls["getppid"].more(p.find(allowsAll).Calls["getppid"]), noise, "%+.1f ns"),
			below("a call allowed by its argument costs less than with libseccomp", p, "personality"),
			below("a call refused by its argument costs less than with libseccomp", p, "socket"),
		} {
			g.Name = p.Name + ": " + g.Name
			list = append(list, g)
		}
	}
	return list
}

func (p *policy) brig() *filter { return p.Filters[0] }

func (p *policy) find(name string) *filter {
	for _, f := range p.Filters {
		if f.Compiler == name {
			return f
		}
	}
	return nil
}

// bestTree is the least value of libseccomp's trees.
func (p *policy) bestTree(get func(f *filter) float64) float64 {
	least := 0.0
	for _, f := range p.Filters {
		if !strings.HasPrefix(f.Compiler, "libseccomp ") || !strings.HasSuffix(f.Compiler, " tree") {
			continue
		}
		if v := get(f); least == 0 || v < least {
			least = v
		}
	}
	return least
}

func atMost(name string, v, limit float64, form string) goal {
	return goal{name, fmt.Sprintf(form+" of "+form, v, limit), v <= limit}
}

// below compares with each of libseccomp's filters, and shows the nearest.
func below(name string, p *policy, call string) goal {
	var nearest *filter
	more := 0.0
	for _, f := range p.Filters {
		if !strings.HasPrefix(f.Compiler, "libseccomp ") {
			continue
		}
		if m := p.brig().Calls[call].more(f.Calls[call]); nearest == nil || m > more {
			nearest, more = f, m
		}
	}
	return goal{name, fmt.Sprintf("%+.1f ns against %s", more, nearest.Compiler), more < 0}
}
