package export

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// portable returns the policy's profile as runtimes with libseccomp need it, in
// Docker's form, which holds for any machine.
func (x *exporter) portable() (*seccomp.Profile, error) {
	x.libseccompNotes()
	return x.forRuntimes(x.in.Profile)
}

// forTarget is portable for one machine, in the terms that OCI's form has too;
// comments are kept only for the runtimes' calls.
func (x *exporter) forTarget() (*seccomp.Profile, error) {
	x.libseccompNotes()
	data, err := x.in.Profile.OCIJSON(x.target)
	if err != nil {
		return nil, err
	}
	p, err := seccomp.ParseProfile(x.in.Profile.File, data)
	if err != nil {
		return nil, err
	}
	x.note("the profile is for %s machines only; export it once for each architecture", x.target.Arch.Short())
	return x.forRuntimes(p)
}

// forRuntimes returns p as the runtimes that will start the container need it.
func (x *exporter) forRuntimes(p *seccomp.Profile) (*seccomp.Profile, error) {
	if len(x.needed()) == 0 {
		return x.registers(p), nil
	}
	p, err := x.withNewer(x.registers(p))
	if err != nil {
		return nil, err
	}
	return x.withNeeds(p)
}

// newerComment marks the rule of withNewer.
const newerComment = "newer than all calls of the policy, so that programs fall back to older ones"

// withNewer returns p with a rule for each known call that is newer than all
// that p names. Brig and runc answer these with ENOSYS, crun only those that it
// is told (and that its libseccomp knows); and a rule for what a runtime needs may be for a newer call, so that others would
// not be newer any more.
func (x *exporter) withNewer(p *seccomp.Profile) (*seccomp.Profile, error) {
	pol, _, err := p.Resolve(x.target)
	if err != nil {
		return nil, err
	}
	r := seccomp.SyscallRule{Action: pol.Newer, Comment: newerComment}
	for nr, name := range syscalls.All(x.target.Arch) {
		if pol.Decide(x.target.Arch.Audit(), nr, [6]uint64{}).Reason == seccomp.ByNewer {
			r.Names = append(r.Names, name)
		}
	}
	if len(r.Names) == 0 {
		return p, nil
	}
	out := *p
	out.Syscalls = append(slices.Clone(p.Syscalls), r)
	return &out, nil
}

// libseccompNotes notes where other runtimes give the profile another meaning
// and no profile can help.
func (x *exporter) libseccompNotes() {
	p := x.in.Profile
	if d := p.DefaultAction; slices.Contains(x.in.Runtimes, "crun") && d.IsErrno() && d != seccomp.Errno(uint16(unix.ENOSYS)) {
		x.note("a system call that Brig, or the libseccomp that crun uses, is too old to know fails with %v under crun, and with ENOSYS under Brig and runc", unix.ErrnoName(unix.Errno(d.Data())))
	}
	_, notes, err := p.Resolve(x.target)
	if err != nil {
		return // the forms report it
	}
	for _, n := range notes {
		if n.Kind == seccomp.NoteMultiplexed && p.Syscalls[n.Rule].Action == seccomp.Allow && n.Does != seccomp.Allow {
			x.note("%v programs that call %s through %s may do so with any arguments under runc and crun, and not at all under Brig", n.Arch.Short(), n.Name, n.Through)
		}
	}
}

// registers returns p with conditions that runtimes with libseccomp, which
// compare whole registers, understand as Brig does, which compares what the
// kernel reads: socket(0x100000002, ...) is socket(AF_INET, ...).
func (x *exporter) registers(p *seccomp.Profile) *seccomp.Profile {
	out := *p
	out.Syscalls = nil
	for _, r := range p.Syscalls {
		if len(r.Args) == 0 {
			out.Syscalls = append(out.Syscalls, r)
			continue
		}
		for _, name := range r.Names {
			one := r
			one.Names, one.Args = []string{name}, nil
			for _, c := range r.Args {
				one.Args = append(one.Args, x.register(name, c))
			}
			last := len(out.Syscalls) - 1
			if last >= 0 && sameButNames(&out.Syscalls[last], &one) && name != r.Names[0] {
				out.Syscalls[last].Names = append(slices.Clone(out.Syscalls[last].Names), name)
				continue
			}
			out.Syscalls = append(out.Syscalls, one)
		}
	}
	return &out
}

// sameButNames reports whether two rules made of one have the same conditions.
func sameButNames(a, b *seccomp.SyscallRule) bool { return slices.Equal(a.Args, b.Args) }

// register returns the condition c on an argument of the named call, for whole
// registers.
func (x *exporter) register(name string, c seccomp.Condition) seccomp.Condition {
	bits := width(name, c.Index)
	if bits == 0 || bits == 64 {
		return c
	}
	mask := uint64(1)<<bits - 1
	switch {
	case c.Op == seccomp.EQ && (c.Value <= mask || c.Value|mask == ^uint64(0)):
		return seccomp.Condition{Index: c.Index, Op: seccomp.MaskedEQ, Value: mask, ValueTwo: c.Value & mask}
	case c.Op == seccomp.MaskedEQ:
		c.Value, c.ValueTwo = c.Value&mask, c.ValueTwo&mask
	default:
		x.note("argument %d of %s is compared with all its bits under runc and crun, and with the low %d under Brig", c.Index, name, bits)
	}
	return c
}

// width returns how many bits of an argument the kernel reads on ABIs of 64
// bits, or 0 if that is not the same on all. Registers of 32 bits have none to
// spare.
func width(name string, index uint8) (bits uint8) {
	call, _ := syscalls.Find(name)
	for a := range seccomp.Arches() {
		if _, ok := call.Slot(a); !ok || !a.Is64() {
			continue
		}
		w := call.Width(a, int(index))
		if bits != 0 && bits != w {
			return 0
		}
		bits = w
	}
	return bits
}

// withNeeds returns p with the calls that the runtimes make themselves.
func (x *exporter) withNeeds(p *seccomp.Profile) (*seccomp.Profile, error) {
	out := *p
	out.Syscalls = slices.Clone(p.Syscalls)
	if a := x.target.Arch; a != seccomp.X86_64 && len(x.needed()) > 0 {
		x.note("what %s need to start a container was measured on amd64 only; try the profile on %s", strings.Join(x.in.Runtimes, " and "), a.Short())
	}
	comment := "needed by " + strings.Join(x.in.Runtimes, " and ") + " to start the container, not by its programs"
	plain := seccomp.SyscallRule{Action: seccomp.Allow, Comment: comment}
	var more []seccomp.SyscallRule
	for _, call := range x.needed() {
		if err := x.unrefuse(&out, call.Name); err != nil {
			return nil, err
		}
		if p.DefaultAction == seccomp.Allow || p.DefaultAction == seccomp.Log {
			continue
		}
		rules, all := missing(&out, call)
		switch {
		case len(rules) > 0:
			for i := range rules {
				rules[i].Comment = comment
			}
			more = append(more, rules...)
		case all:
			plain.Names = append(plain.Names, call.Name)
		default:
			continue
		}
		x.noteLoosened(p, call)
	}
	if len(plain.Names) > 0 {
		out.Syscalls = append(out.Syscalls, plain)
	}
	out.Syscalls = append(out.Syscalls, more...)
	return &out, nil
}

// needed returns what all of the runtimes need, sorted by name: values of both
// are joined, and any arguments win.
func (x *exporter) needed() []Call {
	var list []Call
	for _, name := range x.in.Runtimes {
		n, _ := NeedsOf(name) // checked before
		for _, c := range n.Calls {
			i := slices.IndexFunc(list, func(d Call) bool { return d.Name == c.Name })
			switch {
			case i < 0:
				c.Values = slices.Clone(c.Values)
				list = append(list, c)
			case c.Values == nil || list[i].Values == nil:
				list[i].Values = nil
			default:
				list[i].Values = append(list[i].Values, c.Values...)
			}
		}
	}
	for i := range list {
		slices.Sort(list[i].Values)
		list[i].Values = slices.Compact(list[i].Values)
	}
	slices.SortFunc(list, func(a, b Call) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// missing returns the rules that let a runtime's call through where p does not
// yet; or all, if it needs the call with any arguments and p has no such rule.
func missing(p *seccomp.Profile, call Call) (rules []seccomp.SyscallRule, all bool) {
	var have [][]seccomp.Condition
	for i := range p.Syscalls {
		r := &p.Syscalls[i]
		if !slices.Contains(r.Names, call.Name) || r.Action != seccomp.Allow || scoped(r) {
			continue
		}
		if len(r.Args) == 0 {
			return nil, false
		}
		have = append(have, r.Args)
	}
	if call.Values == nil {
		return nil, true
	}
	mask := uint64(1<<32 - 1)
	if width(call.Name, call.Index) == 64 {
		mask = ^uint64(0)
	}
	for _, v := range call.Values {
		c := seccomp.Condition{Index: call.Index, Op: seccomp.MaskedEQ, Value: mask, ValueTwo: v}
		if mask == ^uint64(0) {
			c = seccomp.Condition{Index: call.Index, Op: seccomp.EQ, Value: v}
		}
		if !slices.ContainsFunc(have, func(args []seccomp.Condition) bool { return len(args) == 1 && args[0] == c }) {
			rules = append(rules, seccomp.SyscallRule{Names: []string{call.Name}, Action: seccomp.Allow, Args: []seccomp.Condition{c}})
		}
	}
	return rules, false
}

// scoped reports whether a rule holds for some targets only.
func scoped(r *seccomp.SyscallRule) bool {
	some := func(s seccomp.Selector) bool {
		return !s.Caps.Empty() || len(s.Arches) > 0 || s.MinKernel != seccomp.KernelVersion{}
	}
	return some(r.Includes) || some(r.Excludes)
}

// unrefuse takes a call that a runtime needs out of the rules that refuse it.
func (x *exporter) unrefuse(p *seccomp.Profile, name string) error {
	for i := range p.Syscalls {
		r := &p.Syscalls[i]
		at := slices.Index(r.Names, name)
		if at < 0 || r.Action == seccomp.Allow || r.Action == seccomp.Log || r.Action == p.DefaultAction {
			continue
		}
		if len(r.Args) > 0 {
			return fmt.Errorf("%s is refused for some arguments, and %s needs it to start a container", name, strings.Join(x.in.Runtimes, " or "))
		}
		if r.Comment == newerComment {
			r.Names = slices.Delete(slices.Clone(r.Names), at, at+1)
			continue
		}
		x.note("%s is allowed, which the policy answers with %v: %s needs it to start the container", name, r.Action, strings.Join(x.in.Runtimes, " or "))
		r.Names = slices.Delete(slices.Clone(r.Names), at, at+1)
	}
	p.Syscalls = slices.DeleteFunc(p.Syscalls, func(r seccomp.SyscallRule) bool { return len(r.Names) == 0 })
	return nil
}

// noteLoosened notes that a runtime's need loosens a condition of the policy.
func (x *exporter) noteLoosened(p *seccomp.Profile, call Call) {
	for i := range p.Syscalls {
		r := &p.Syscalls[i]
		if !slices.Contains(r.Names, call.Name) || len(r.Args) == 0 || r.Action != seccomp.Allow {
			continue
		}
		what := "any arguments"
		if call.Values != nil {
			what = fmt.Sprintf("argument %d as %s", call.Index, hexList(call.Values))
		}
		x.note("%s is allowed with %s too, beside what the policy allows: %s needs it to start the container", call.Name, what, strings.Join(x.in.Runtimes, " or "))
	}
}

func hexList(values []uint64) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprintf("%#x", v)
	}
	return strings.Join(words, ", ")
}
