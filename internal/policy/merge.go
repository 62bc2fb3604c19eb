package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Clone returns a policy that shares nothing with p.
func (p *Policy) Clone() *Policy {
	c := *p
	if p.Image != nil {
		image := *p.Image
		c.Image = &image
	}
	c.Command, c.Answers, c.Notes = slices.Clone(p.Command), slices.Clone(p.Answers), slices.Clone(p.Notes)
	c.Runs = cloned(p.Runs, func(r *Run) {
		r.Lost = maps.Clone(r.Lost)
		if r.Passed != nil {
			passed := *r.Passed
			r.Passed = &passed
		}
	})
	c.Capabilities = cloned(p.Capabilities, func(c *Capability) {
		c.Syscalls, c.Programs = slices.Clone(c.Syscalls), slices.Clone(c.Programs)
	})
	c.Syscalls = cloned(p.Syscalls, func(c *Syscall) {
		c.ABIs = slices.Clone(c.ABIs)
		c.Args = cloned(c.Args, func(a *Arg) { a.Values, a.Tried = slices.Clone(a.Values), slices.Clone(a.Tried) })
		if c.First != nil {
			first := *c.First
			c.First = &first
		}
	})
	c.Denials = cloned(p.Denials, func(d *Denial) { d.Capabilities = slices.Clone(d.Capabilities) })
	return &c
}

// cloned copies a list, and what each element points to by deepen.
func cloned[T any](list []T, deepen func(*T)) []T {
	list = slices.Clone(list)
	for i := range list {
		deepen(&list[i])
	}
	return list
}

// rank orders statuses by how sure they are that something is to be allowed.
func rank(status string) int {
	return slices.Index([]string{Noise, Unneeded, Asked, Base, Verified, Added}, status)
}

func surer(a, b string) string {
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// Merge returns the union of two policies of the same program: what either
// allows. It shares nothing with them. The result was never run, so runs that
// proved one of them are left out. A run that is in both is an error: what it
// saw would count twice.
func Merge(a, b *Policy) (*Policy, error) {
	out, b := a.Clone(), b.Clone()
	for _, r := range b.Runs {
		if slices.ContainsFunc(a.Runs, func(have Run) bool { return have.ID == r.ID }) {
			return nil, fmt.Errorf("merge policies: the run %s is in both", r.ID)
		}
	}
	out.Runs = append(out.Runs, b.Runs...)
	out.Runs = slices.DeleteFunc(out.Runs, func(r Run) bool { return r.Purpose == PurposeProve })
	out.Name = same(out.Name, b.Name)
	out.Comment = cmp.Or(out.Comment, b.Comment)
	out.User = same(out.User, b.User)
	out.mergeImage(b)
	for i := range b.Capabilities {
		out.mergeCapability(&b.Capabilities[i])
	}
	out.mergeSyscalls(b)
	for _, d := range b.Denials {
		out.mergeDenial(d)
	}
	for _, answer := range b.Answers {
		out.addAnswer(answer)
	}
	for _, n := range b.Notes {
		out.note(n)
	}
	out.IOUring = out.IOUring || b.IOUring
	out.settle()
	return out, nil
}

func same(a, b string) string {
	if a == b {
		return a
	}
	return ""
}

func (p *Policy) mergeImage(o *Policy) {
	if p.Image == nil || o.Image == nil || *p.Image != *o.Image {
		p.Image = nil
	}
	if !slices.Equal(p.Command, o.Command) {
		p.Command = nil
	}
}

func (p *Policy) mergeCapability(o *Capability) {
	i := slices.IndexFunc(p.Capabilities, func(c Capability) bool { return c.Name == o.Name })
	if i < 0 {
		p.Capabilities = append(p.Capabilities, *o)
		return
	}
	c := &p.Capabilities[i]
	if rank(o.Status) > rank(c.Status) {
		c.Status, c.Breaks, c.Why = o.Status, o.Breaks, cmp.Or(o.Why, c.Why)
	}
	c.Comment, c.First = cmp.Or(c.Comment, o.Comment), cmp.Or(c.First, o.First)
	c.Granted, c.Refused, c.Runs = c.Granted+o.Granted, c.Refused+o.Refused, c.Runs+o.Runs
	c.Syscalls, c.Programs = union(c.Syscalls, o.Syscalls), union(c.Programs, o.Programs)
}

func (p *Policy) mergeSyscalls(o *Policy) {
	place := make(map[string]int, len(p.Syscalls))
	for i := range p.Syscalls {
		place[p.Syscalls[i].Name] = i
	}
	for _, c := range o.Syscalls {
		if i, ok := place[c.Name]; ok {
			p.Syscalls[i].merge(&c)
		} else {
			p.Syscalls = append(p.Syscalls, c)
		}
	}
}

// merge takes in the entry of another policy.
func (c *Syscall) merge(o *Syscall) {
	c.mergeConditions(o)
	if rank(o.Status) > rank(c.Status) {
		c.Status, c.Breaks = o.Status, o.Breaks
	}
	c.Comment = cmp.Or(c.Comment, o.Comment)
	c.ABIs = union(c.ABIs, o.ABIs)
	c.Startup, c.Running, c.Runs = c.Startup+o.Startup, c.Running+o.Running, c.Runs+o.Runs
	if c.First == nil {
		c.First = o.First
	}
}

// mergeConditions joins the arguments. An argument is still a condition if it is
// one in every entry that allows the call, and all values are known.
func (c *Syscall) mergeConditions(o *Syscall) {
	enforced := func(s *Syscall, index uint8) bool {
		return !s.Allowed() || slices.ContainsFunc(s.Args, func(a Arg) bool { return a.Index == index && a.Enforce })
	}
	keep := [6]bool{}
	for i := range keep {
		keep[i] = enforced(c, uint8(i)) && enforced(o, uint8(i))
	}
	c.Args = joinArgs(c.Args, o.Args)
	for i := range c.Args {
		a := &c.Args[i]
		a.Enforce = keep[a.Index] && !a.More && !a.Memory
	}
}

// maxValues is how many values of an argument are kept, as many as the recorder
// keeps.
const maxValues = 16

// joinArgs returns the union of two calls' arguments; none is a condition.
func joinArgs(a, b []Arg) []Arg {
	out := slices.Clone(a)
	for _, arg := range b {
		i := slices.IndexFunc(out, func(have Arg) bool { return have.Index == arg.Index && have.Memory == arg.Memory })
		if i < 0 {
			out = append(out, arg)
			continue
		}
		values := slices.Concat(out[i].Values, arg.Values)
		slices.Sort(values)
		values = slices.Compact(values)
		out[i].Tried = joinTried(&out[i], &arg)
		out[i].More = out[i].More || arg.More || len(values) > maxValues
		out[i].Values = values[:min(len(values), maxValues)]
		out[i].Tried = slices.DeleteFunc(out[i].Tried, func(t Tried) bool { return !slices.Contains(out[i].Values, t.Value) })
	}
	slices.SortFunc(out, func(a, b Arg) int { return cmp.Compare(a.Index, b.Index) })
	return out
}

// joinTried keeps what broke in either, and as unneeded what neither allows.
func joinTried(a, b *Arg) (out []Tried) {
	allowed := append(a.Allowed(), b.Allowed()...)
	for _, t := range slices.Concat(a.Tried, b.Tried) {
		have := slices.ContainsFunc(out, func(o Tried) bool { return o.Value == t.Value })
		if !have && (t.Status == Verified || !slices.Contains(allowed, t.Value)) {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b Tried) int { return cmp.Compare(a.Value, b.Value) })
	return out
}

func (p *Policy) mergeDenial(d Denial) {
	for i := range p.Denials {
		if have := &p.Denials[i]; have.same(&d) {
			have.Count, have.Runs = have.Count+d.Count, have.Runs+d.Runs
			return
		}
	}
	p.Denials = append(p.Denials, d)
}

// Saturation says whether more runs are likely to bring more, or "" without
// runs.
func (p *Policy) Saturation() string {
	var runs, quiet int
	for _, r := range p.Runs {
		if r.Purpose != PurposeLearn {
			continue
		}
		runs++
		quiet++
		if r.New > 0 {
			quiet = 0
		}
	}
	switch {
	case runs == 0:
		return ""
	case runs == 1:
		return "learned in one run: more runs show whether it was all"
	case quiet == 0:
		return fmt.Sprintf("the last of %d runs still brought something new: more runs are needed", runs)
	case quiet == 1:
		return fmt.Sprintf("nothing new in the last of %d runs", runs)
	}
	return fmt.Sprintf("nothing new in the last %d of %d runs", quiet, runs)
}
