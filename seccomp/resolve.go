package seccomp

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Target is what a profile is resolved for.
type Target struct {
	Arch   Arch           // native ABI
	Caps   capability.Set // bounding set
	Kernel KernelVersion
}

// Here returns the target for processes of this program's architecture on the
// running kernel with the bounding set caps.
func Here(caps capability.Set) (Target, error) {
	arch, ok := syscalls.Native()
	if !ok {
		return Target{}, fmt.Errorf("seccomp: no table of system calls for this architecture")
	}
	kernel, err := RunningKernel()
	return Target{Arch: arch, Caps: caps, Kernel: kernel}, err
}

// NoteKind says what a note is about.
type NoteKind uint8

// The kinds of notes.
const (
	NoteElsewhere   NoteKind = iota // the call exists only on other architectures
	NoteNoTable                     // the ABI cannot occur on such a machine
	NoteShadowed                    // a rule has no effect beside an unconditional one
	NoteMultiplexed                 // socketcall or ipc can reach the call with arguments that no filter sees
	NoteNoListener                  // a setting for NOTIFY has no effect, since no rule notifies
)

// Note is something about a profile that is no fault but that its author may
// not expect.
type Note struct {
	Kind NoteKind
	Rule int // place in Profile.Syscalls, or -1
	Line int // of the rule in the file, or 0
	Name string
	Arch Arch
	By   int // NoteShadowed: the place of the rule that decides

	Through string // NoteMultiplexed: the call that stands for it
	Does    Action // NoteMultiplexed: what decides there, whatever the arguments
}

// String returns the note as one line.
func (n Note) String() string {
	var text string
	switch n.Kind {
	case NoteElsewhere:
		text = fmt.Sprintf("%s exists only on other architectures and is skipped", n.Name)
	case NoteNoTable:
		return fmt.Sprintf("architecture %s cannot occur here and is skipped", n.Name)
	case NoteShadowed:
		text = fmt.Sprintf("no effect on %s (%v), which syscalls[%d] decides whatever the arguments", n.Name, n.Arch, n.By)
	case NoteMultiplexed:
		text = fmt.Sprintf("no filter sees the arguments of %s when a program for %v makes the call through %s, which gives %v there", n.Name, n.Arch, n.Through, n.Does)
	case NoteNoListener:
		return fmt.Sprintf("%s has no effect, since no rule notifies", n.Name)
	}
	if n.Line > 0 {
		return fmt.Sprintf("line %d: syscalls[%d]: %s", n.Line, n.Rule, text)
	}
	return fmt.Sprintf("syscalls[%d]: %s", n.Rule, text)
}

// Options change what a profile means.
type Options struct {
	// WideArgs compares all bits of the registers of arguments, as libseccomp
	// and all runtimes that use it do, also where the kernel looks at fewer.
	WideArgs bool
	// OtherArch, if not nil, is the action for ABIs that the policy does not
	// list, in place of KILL_THREAD.
	OtherArch *Action
}

// Resolve returns the policy that the profile means for t; see the package
// documentation. It fails if t's architecture has no table of system calls or,
// for a profile that no parser made, if a name is not known.
func (p *Profile) Resolve(t Target) (*Policy, []Note, error) { return p.ResolveWith(t, Options{}) }

// ResolveWith is [Profile.Resolve] with options.
func (p *Profile) ResolveWith(t Target, o Options) (*Policy, []Note, error) {
	if !t.Arch.HasTable() {
		return nil, nil, fmt.Errorf("resolve seccomp profile: no table of system calls for %v", t.Arch)
	}
	policy := &Policy{
		Default: p.DefaultAction, OtherArch: KillThread, Newer: Errno(uint16(unix.ENOSYS)),
		Flags: p.Flags, ListenerPath: p.ListenerPath, ListenerMetadata: p.ListenerMetadata,
	}
	if !p.FlagsGiven && p.Flags == 0 {
		policy.Flags = FlagSpecAllow
	}
	switch p.DefaultAction.Kind() {
	case Allow, Log, trace:
		policy.Newer = p.DefaultAction
	}
	if o.OtherArch != nil {
		policy.OtherArch = *o.OtherArch
	}
	r := resolver{profile: p, policy: policy, options: o}
	if err := r.find(t); err != nil {
		return nil, nil, fmt.Errorf("resolve seccomp profile: %w", err)
	}
	archs := p.archs(t.Arch)
	policy.Archs = make([]ArchRules, 0, len(archs))
	for _, a := range archs {
		if !a.HasTable() || machine(a) != machine(t.Arch) {
			r.notes = append(r.notes, Note{Kind: NoteNoTable, Rule: -1, Name: a.String()})
			continue
		}
		policy.Archs = append(policy.Archs, r.arch(a))
	}
	r.noteElsewhere()
	r.noteMultiplexed()
	r.noteListener()
	return policy, r.notes, nil
}

// archs returns the ABIs of the policy: the native one and those that the
// profile joins to it.
func (p *Profile) archs(native Arch) []Arch {
	list := append(make([]Arch, 0, 4), native)
	add := func(more []Arch) {
		for _, a := range more {
			if !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	for _, family := range p.ArchMap {
		if family.Arch == native {
			add(family.SubArches)
		}
	}
	add(p.Architectures)
	return list
}

// machine returns what is the same for all ABIs that one machine has.
func machine(a Arch) string {
	switch a {
	case X86_64, I386, X32:
		return "x86"
	case ARM, ARM64:
		return "arm"
	case syscalls.MIPS, syscalls.MIPS64, syscalls.MIPS64N32:
		return "mips"
	case syscalls.MIPSEL, syscalls.MIPSEL64, syscalls.MIPSEL64N32:
		return "mipsel"
	case syscalls.PPC, syscalls.PPC64:
		return "ppc"
	case syscalls.S390, syscalls.S390X:
		return "s390"
	}
	return a.Short()
}

// applies decides includes and excludes.
func (r *SyscallRule) applies(t Target) bool {
	in, ex := &r.Includes, &r.Excludes
	none := KernelVersion{}
	switch {
	case slices.Contains(ex.Arches, t.Arch),
		ex.Caps.Intersect(t.Caps) != 0,
		ex.MinKernel != none && t.Kernel.AtLeast(ex.MinKernel):
		return false
	}
	return (len(in.Arches) == 0 || slices.Contains(in.Arches, t.Arch)) &&
		t.Caps.Contains(in.Caps) &&
		(in.MinKernel == none || t.Kernel.AtLeast(in.MinKernel))
}

// resolver turns the rules that apply into those of each ABI.
type resolver struct {
	profile *Profile
	policy  *Policy
	options Options
	named   []named
	notes   []Note
	conds   []Condition // what the rules of the policy are cut from
}

// named is one name of a rule that applies.
type named struct {
	call syscalls.Call
	rule int
	skip bool // same action as the default
}

func (r *resolver) find(t Target) error {
	count := 0
	for i := range r.profile.Syscalls {
		count += len(r.profile.Syscalls[i].Names)
	}
	r.named = make([]named, 0, count)
	for i := range r.profile.Syscalls {
		rule := &r.profile.Syscalls[i]
		if !rule.applies(t) {
			continue
		}
		skip := rule.Action == r.profile.DefaultAction
		for j, name := range rule.Names {
			call, ok := rule.call(j)
			if !ok {
				return &Error{File: r.profile.File, Line: rule.Line, Path: item(item("syscalls", i)+".names", j), Err: unknownName(name)}
			}
			r.named = append(r.named, named{call, i, skip})
		}
	}
	return nil
}

// use is the use of one rule for one call, in a list by slot.
type use struct {
	rule     int32
	next     int32 // the next use for the same number, or 0
	selector int32 // for a call made through a multiplexer, else -1
	call     syscalls.Call
}

// closedSlots is where the slots begin of which there will be no more: those
// of x32's own calls and of arm's private ones.
const closedSlots = 512

func callOf(name string) syscalls.Call {
	c, _ := syscalls.Find(name)
	return c
}

// slotsOf returns the slots of all numbers by which a call can be reached, of
// which there are n.
func slotsOf(call syscalls.Call, a Arch) (slots [2]uint32, n int) {
	if slot, ok := call.Slot(a); ok {
		slots[n] = slot
		n++
	}
	if slot, ok := call.AliasSlot(a); ok {
		slots[n] = slot
		n++
	}
	return slots, n
}

// arch makes the rules of one ABI.
func (r *resolver) arch(a Arch) ArchRules {
	rules := ArchRules{Arch: a}
	uses := make([]use, 1, len(r.named)+1)
	var first, last [syscalls.MaxSlots]int32
	calls := 0
	add := func(slot uint32, u use) {
		uses = append(uses, u)
		at := int32(len(uses) - 1)
		if first[slot] == 0 {
			first[slot] = at
			calls++
		} else {
			uses[last[slot]].next = at
		}
		last[slot] = at
	}
	newest := uint32(0)
	multiplexes := hasMultiplexer(a)
	for _, n := range r.named {
		slots, count := slotsOf(n.call, a)
		for _, slot := range slots[:count] {
			if slot < closedSlots {
				newest = max(newest, slot)
			}
			if !n.skip {
				add(slot, use{rule: int32(n.rule), call: n.call, selector: -1})
			}
		}
		if !n.skip && multiplexes {
			r.multiplex(n, a, add)
		}
	}
	// As in runc: a profile that names nothing but the first call says nothing
	// about what is new.
	rules.Newest = a.Number(newest)
	if newest == 0 {
		rules.Newest = noCall
	}
	rules.Calls = make([]CallRules, 0, calls)
	arena := make([]Rule, 0, len(uses))
	for slot, head := range first {
		if head == 0 {
			continue
		}
		start := len(arena)
		nr := a.Number(uint32(slot))
		arena = r.call(arena, uses, head, a, nr)
		rules.Calls = append(rules.Calls, CallRules{nr, arena[start:len(arena):len(arena)]})
	}
	return rules
}

// call appends the rules of one call to list: the first unconditional one, or
// else all.
func (r *resolver) call(list []Rule, uses []use, first int32, a Arch, nr uint32) []Rule {
	for at := first; at != 0; at = uses[at].next {
		u := uses[at]
		rule := &r.profile.Syscalls[u.rule]
		if u.selector < 0 && len(rule.Args) == 0 {
			for other := first; other != 0; other = uses[other].next {
				if r.profile.Syscalls[uses[other].rule].Action != rule.Action {
					name, _ := syscalls.Name(a, nr)
					r.note(Note{Kind: NoteShadowed, Rule: int(uses[other].rule), Name: name, Arch: a, By: int(u.rule)})
				}
			}
			return append(list, Rule{Action: rule.Action, Index: int(u.rule)})
		}
	}
	for at := first; at != 0; at = uses[at].next {
		u := uses[at]
		rule := &r.profile.Syscalls[u.rule]
		switch {
		case u.selector >= 0 && len(rule.Args) > 0 && r.selected(uses, first, u.selector):
			// A rule without conditions decides the call alone, here too.
		case u.selector >= 0:
			list = append(list, Rule{Action: rule.Action, Index: int(u.rule), Args: selectorArgs(u.call, uint64(u.selector))})
		case repeats(rule.Args):
			for i := range rule.Args {
				list = append(list, Rule{Action: rule.Action, Index: int(u.rule), Args: r.conditions(rule.Args[i:i+1], u.call, a)})
			}
		default:
			list = append(list, Rule{Action: rule.Action, Index: int(u.rule), Args: r.conditions(rule.Args, u.call, a)})
		}
	}
	return list
}

// repeats reports whether two conditions are on the same argument.
func repeats(args []Condition) bool {
	var seen uint8
	for _, c := range args {
		if seen>>c.Index&1 == 1 {
			return true
		}
		seen |= 1 << c.Index
	}
	return false
}

// conditions returns args as they are compared for a call of ABI a: at the width
// at which the kernel reads the argument.
func (r *resolver) conditions(args []Condition, call syscalls.Call, a Arch) []Condition {
	start := len(r.conds)
	for _, c := range args {
		c.Bits = call.Width(a, int(c.Index))
		switch {
		case r.options.WideArgs && a.Is64():
			c.Bits = 64
		case r.options.WideArgs:
			c.Bits = 32
		}
		r.conds = append(r.conds, c.cut())
	}
	return r.conds[start:len(r.conds):len(r.conds)]
}

// cut returns the condition for arguments of its number of bits. A value that
// is a negative number extended to 64 bits means its low part. Other values
// that do not fit stay, and no argument equals them.
func (c Condition) cut() Condition {
	mask := c.bits()
	low := func(v uint64) uint64 {
		if v|mask>>1 == 1<<64-1 {
			return v & mask
		}
		return v
	}
	c.Value = low(c.Value)
	if c.Op == MaskedEQ {
		c.Value, c.ValueTwo = c.Value&mask, low(c.ValueTwo)
	}
	return c
}

// note records a note. A list of rules for one name gives one note.
func (r *resolver) note(n Note) {
	if i := len(r.notes) - 1; i >= 0 && n.Kind != NoteShadowed && r.notes[i].Kind == n.Kind && r.notes[i].Name == n.Name {
		return
	}
	n.Line = r.profile.Syscalls[n.Rule].Line
	r.notes = append(r.notes, n)
}

// noteElsewhere notes the names that no ABI of the policy has.
func (r *resolver) noteElsewhere() {
	for _, n := range r.named {
		found := slices.ContainsFunc(r.policy.Archs, func(a ArchRules) bool {
			if _, n := slotsOf(n.call, a.Arch); n > 0 {
				return true
			}
			_, _, ok := multiplexed(n.call, a.Arch)
			return ok
		})
		if !found {
			r.note(Note{Kind: NoteElsewhere, Rule: n.rule, Name: n.call.Name()})
		}
	}
}

// noteListener drops and notes what only a listener gives a meaning.
func (r *resolver) noteListener() {
	if r.policy.UsesNotify() {
		return
	}
	if r.policy.Flags&FlagWaitKillableRecv != 0 {
		// The kernel refuses the flag without a listener.
		r.policy.Flags &^= FlagWaitKillableRecv
		r.notes = append(r.notes, Note{Kind: NoteNoListener, Rule: -1, Name: flagPrefix + "WAIT_KILLABLE_RECV"})
	}
	if r.policy.ListenerPath != "" {
		r.policy.ListenerPath, r.policy.ListenerMetadata = "", ""
		r.notes = append(r.notes, Note{Kind: NoteNoListener, Rule: -1, Name: "listenerPath"})
	}
}
