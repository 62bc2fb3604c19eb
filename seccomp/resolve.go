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
	NoteNoTable                     // the ABI cannot occur on this machine
	NoteShadowed                    // a rule has no effect beside an unconditional one
	NoteMultiplexed                 // i386 can reach the call with arguments that no filter sees
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
	By   int    // NoteShadowed: the place of the rule that decides
	Does Action // NoteMultiplexed: what decides there, whatever the arguments
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
		text = fmt.Sprintf("no filter sees the arguments of %s when a 32-bit program makes the call through %s, which gives %v there", n.Name, multiplexerName(n.Name), n.Does)
	case NoteNoListener:
		return fmt.Sprintf("%s has no effect, since no rule notifies", n.Name)
	}
	if n.Line > 0 {
		return fmt.Sprintf("line %d: syscalls[%d]: %s", n.Line, n.Rule, text)
	}
	return fmt.Sprintf("syscalls[%d]: %s", n.Rule, text)
}

// Resolve returns the policy that the profile means for t; see the package
// documentation. It fails if t's architecture has no table of system calls or,
// for a profile that no parser made, if a name is not known.
func (p *Profile) Resolve(t Target) (*Policy, []Note, error) {
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
	r := resolver{profile: p, policy: policy}
	if err := r.find(t); err != nil {
		return nil, nil, fmt.Errorf("resolve seccomp profile: %w", err)
	}
	archs := p.archs(t.Arch)
	policy.Archs = make([]ArchRules, 0, len(archs))
	for _, a := range archs {
		if !a.HasTable() {
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
	named   []named
	notes   []Note
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

// use is the use of one rule for one call, in a list by number.
type use struct {
	rule     int32
	next     int32 // the next use for the same number, or 0
	selector int32 // for a call made through a multiplexer, else -1
}

// maxCalls is the number of slots for calls, and privateSlot the first of those
// for the private calls of arm, whose numbers are from privateCall on. Slots
// are in the order of the numbers.
const (
	maxCalls    = 1024
	privateSlot = maxCalls - 16
	privateCall = 0x0f0000
)

func slotOf(nr uint32) uint32 {
	nr &^= syscalls.X32Bit
	if nr >= privateCall {
		return privateSlot + nr - privateCall
	}
	return nr
}

func numberOf(a Arch, slot uint32) uint32 {
	if slot >= privateSlot {
		return privateCall + slot - privateSlot
	}
	return slot | a.Bit()
}

// arch makes the rules of one ABI.
func (r *resolver) arch(a Arch) ArchRules {
	rules := ArchRules{Arch: a, ArgBits: 32}
	if a.Is64() {
		rules.ArgBits = 64
	}
	uses := make([]use, 1, len(r.named)+1)
	var first, last [maxCalls]int32
	calls := 0
	add := func(nr uint32, u use) {
		slot := slotOf(nr)
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
	for _, n := range r.named {
		nr, ok := n.call.Number(a)
		if ok {
			if slotOf(nr) < privateSlot {
				newest = max(newest, nr)
			}
			if !n.skip {
				add(nr, use{rule: int32(n.rule), selector: -1})
			}
		}
		if a == I386 && !n.skip {
			r.multiplex(n, add)
		}
	}
	// As in runc: a profile that names nothing but number 0 says nothing about
	// what is new.
	rules.Newest = newest
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
		nr := numberOf(a, uint32(slot))
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
			list = append(list, Rule{Action: rule.Action, Index: int(u.rule), Args: selectorArgs(nr, uint64(u.selector))})
		case repeats(rule.Args):
			for i := range rule.Args {
				list = append(list, Rule{Action: rule.Action, Index: int(u.rule), Args: conditions(rule.Args[i:i+1:i+1], a)})
			}
		default:
			list = append(list, Rule{Action: rule.Action, Index: int(u.rule), Args: conditions(rule.Args, a)})
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

// conditions returns args as ABI a compares them: on one of 32 bits a negative
// number, which is extended to 64 bits in the profile, means its low half.
func conditions(args []Condition, a Arch) []Condition {
	if a.Is64() || !slices.ContainsFunc(args, func(c Condition) bool { return c.Value>>32 != 0 || c.ValueTwo>>32 != 0 }) {
		return args
	}
	narrow := slices.Clone(args)
	for i := range narrow {
		c := &narrow[i]
		c.Value, c.ValueTwo = negative32(c.Value), negative32(c.ValueTwo)
	}
	return narrow
}

func negative32(v uint64) uint64 {
	if uint64(int64(int32(v))) == v {
		return uint64(uint32(v))
	}
	return v
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
			_, ok := n.call.Number(a.Arch)
			if !ok && a.Arch == I386 {
				_, _, ok = multiplexed(n.call.Name())
			}
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
