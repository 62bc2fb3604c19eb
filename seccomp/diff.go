package seccomp

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Change is a set of calls that two policies answer differently.
type Change struct {
	ABI string `json:"abi"` // as [Arch.Short] has it, or an AUDIT_ARCH value
	// Names are the calls; none if no call has the numbers, or for all calls.
	Names   []string    `json:"names,omitempty"`
	Numbers []bpf.Range `json:"numbers"` // as the kernel has them
	// Where is what the arguments are: all of it holds; none for all arguments.
	Where   []bpf.Known `json:"where,omitempty"`
	Example [6]uint64   `json:"example"` // arguments of one such call
	// OnlyIn says that just one policy has the ABI, "from" or "to". Then From
	// or To is that policy's default action.
	OnlyIn string `json:"onlyIn,omitempty"`
	From   Action `json:"from"`
	To     Action `json:"to"`
	Effect Effect `json:"effect"`
}

// Effect says whether a change permits more.
type Effect string

// The effects. Changed is neither, such as another error number.
const (
	Looser   Effect = "looser"
	Changed  Effect = "changed"
	Stricter Effect = "stricter"
)

// MarshalText writes the action as [Action.String] does.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Diff returns all calls that two policies answer differently, whatever their
// rules look like: looser ones first, then by ABI and number. It proves the
// filter of the first policy against the second and collects what stands in the
// way. It fails if that is too complex.
func Diff(from, to *Policy) ([]Change, error) {
	f, err := Compile(from)
	if err != nil {
		return nil, err
	}
	if err := to.validate(); err != nil {
		return nil, fmt.Errorf("compare seccomp policies: %w", err)
	}
	d := differ{from: from, to: to}
	err = bpf.Differences(f.Program, to.Spec(), func(found *bpf.Difference) bool {
		d.add(found)
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("compare seccomp policies: %w", err)
	}
	d.onlyIn()
	slices.SortStableFunc(d.list, func(c, e Change) int {
		order := []Effect{Looser, Changed, Stricter}
		return cmp.Or(slices.Index(order, c.Effect)-slices.Index(order, e.Effect),
			strings.Compare(c.ABI, e.ABI), cmp.Compare(c.Numbers[0].First, e.Numbers[0].First))
	})
	return d.list, nil
}

// differ collects changes.
type differ struct {
	from, to *Policy
	list     []Change
}

// add divides a difference by ABIs and calls.
func (d *differ) add(found *bpf.Difference) {
	c := Change{
		ABI: fmt.Sprintf("%#x", found.Example.Arch), Where: found.Where, Example: found.Example.Args,
		From: Action(found.Got), To: Action(found.Want), Effect: effect(Action(found.Got), Action(found.Want)),
	}
	known := false
	for a := range Arches() {
		if a.Audit() != found.Example.Arch {
			continue
		}
		known = true
		if (d.from.arch(a) == nil) != (d.to.arch(a) == nil) {
			continue // see onlyIn
		}
		first, last := found.FirstNr, found.LastNr
		if a == X32 {
			first = max(first, syscalls.X32Bit)
		} else if a == X86_64 {
			last = min(last, syscalls.X32Bit-1)
		}
		c.ABI = a.Short()
		d.addCalls(c, a, first, last)
	}
	if !known {
		c.Numbers = []bpf.Range{{First: found.FirstNr, Last: found.LastNr}}
		d.join(c)
	}
}

// addCalls adds a change of the numbers of a from first to last: those of calls
// by their names, and the others.
func (d *differ) addCalls(c Change, a Arch, first, last uint32) {
	where := c.Where
	for nr := uint64(first); nr <= uint64(last); nr++ {
		name, ok := syscalls.Name(a, uint32(nr))
		c.Names, c.Where = nil, where
		c.Numbers = []bpf.Range{{First: uint32(nr), Last: uint32(nr)}}
		switch {
		case ok:
			c.Names, c.Where = []string{name}, atWidth(where, name, a)
		case nr > uint64(a.Number(syscalls.MaxSlots)):
			c.Numbers[0].Last = last
			nr = uint64(last)
		}
		d.join(c)
	}
}

// atWidth says "arg0" for the low word of an argument of 32 bits or less.
func atWidth(where []bpf.Known, name string, a Arch) []bpf.Known {
	where = slices.Clone(where)
	for i := range where {
		arg, low := strings.CutSuffix(where[i].Word, ".lo")
		if low && callOf(name).Width(a, int(arg[len(arg)-1]-'0')) <= 32 {
			where[i].Word = arg
		}
	}
	return where
}

func effect(from, to Action) Effect {
	switch {
	case from.stricterThan(to):
		return Looser
	case to.stricterThan(from):
		return Stricter
	}
	return Changed
}

// join adds a change to one that is like it but for the call, or but for the
// values of one argument.
func (d *differ) join(c Change) {
	for i := range d.list {
		e := &d.list[i]
		if c.ABI != e.ABI || c.From != e.From || c.To != e.To || (c.Names == nil) != (e.Names == nil) {
			continue
		}
		if slices.EqualFunc(c.Where, e.Where, sameKnown) {
			e.Names = append(slices.Clip(e.Names), c.Names...)
			slices.Sort(e.Names)
			e.Names = slices.Compact(e.Names)
			e.Numbers = joinRanges(append(slices.Clip(e.Numbers), c.Numbers...))
			return
		}
		if slices.Equal(c.Names, e.Names) && slices.Equal(c.Numbers, e.Numbers) && len(c.Where) == 1 && len(e.Where) == 1 &&
			c.Where[0].Word == e.Where[0].Word && len(c.Where[0].Ranges) > 0 && len(e.Where[0].Ranges) > 0 {
			k := e.Where[0]
			k.Ranges = joinRanges(append(slices.Clip(k.Ranges), c.Where[0].Ranges...))
			e.Where = []bpf.Known{k}
			return
		}
	}
	d.list = append(d.list, c)
}

func sameKnown(a, b bpf.Known) bool { return a.String() == b.String() }

// joinRanges sorts ranges and joins those that touch.
func joinRanges(list []bpf.Range) []bpf.Range {
	slices.SortFunc(list, func(a, b bpf.Range) int { return cmp.Compare(a.First, b.First) })
	joined := list[:1]
	for _, r := range list[1:] {
		if last := &joined[len(joined)-1]; uint64(r.First) <= uint64(last.Last)+1 {
			last.Last = max(last.Last, r.Last)
		} else {
			joined = append(joined, r)
		}
	}
	return joined
}

// onlyIn adds a change for each ABI that just one policy has.
func (d *differ) onlyIn() {
	for a := range Arches() {
		c := Change{ABI: a.Short(), Numbers: []bpf.Range{{First: a.Number(0), Last: noCall}}}
		switch from, to := d.from.arch(a), d.to.arch(a); {
		case from != nil && to == nil:
			c.OnlyIn, c.From, c.To, c.Effect = "from", d.from.Default, d.to.OtherArch, Stricter
			if access(c.To) == Allowed {
				c.Effect = Looser
			}
		case from == nil && to != nil:
			c.OnlyIn, c.From, c.To, c.Effect = "to", d.from.OtherArch, d.to.Default, Looser
			if access(c.From) == Allowed {
				c.Effect = Stricter
			}
		default:
			continue
		}
		d.list = append(d.list, c)
	}
}

// calls returns the names of the calls, or their numbers if they have none.
func (c Change) calls() string {
	if c.Names != nil {
		return strings.Join(c.Names, " ")
	}
	var texts []string
	for _, r := range c.Numbers {
		switch {
		case r.First == r.Last:
			texts = append(texts, fmt.Sprint(r.First))
		case r.Last >= syscalls.X32Bit-1:
			texts = append(texts, fmt.Sprintf("from %d on", r.First))
		default:
			texts = append(texts, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return "numbers without a call: " + strings.Join(texts, ", ")
}

// String returns the change as a line.
func (c Change) String() string {
	switch c.OnlyIn {
	case "from":
		return fmt.Sprintf("%-8s  %-6s  the whole ABI, which only the first allows -> %v", c.Effect, c.ABI, c.To)
	case "to":
		return fmt.Sprintf("%-8s  %-6s  the whole ABI, which only the second allows, before %v", c.Effect, c.ABI, c.From)
	}
	text := fmt.Sprintf("%-8s  %-6s  %v -> %v: %s", c.Effect, c.ABI, c.From, c.To, c.calls())
	var where []string
	for _, k := range c.Where {
		where = append(where, k.String())
	}
	if where != nil {
		text += " (" + strings.Join(where, "; ") + ")"
	}
	return text
}
