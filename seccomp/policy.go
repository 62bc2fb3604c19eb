package seccomp

import (
	"errors"
	"fmt"

	"github.com/brig-run/brig/seccomp/syscalls"
)

// Policy is what a profile means for one target: rules by ABI and number. See
// the package documentation for its meaning.
type Policy struct {
	Default          Action      // for calls that no rule decides
	Newer            Action      // for those above the newest that the profile names
	OtherArch        Action      // for ABIs that are not in Archs
	Archs            []ArchRules // the native one first
	Flags            Flags       // without those that follow from the rules
	ListenerPath     string
	ListenerMetadata string
}

// ArchRules are the rules of one ABI.
type ArchRules struct {
	Arch   Arch
	Newest uint32      // calls above this number are newer than the profile
	Calls  []CallRules // in the order of their numbers
}

// CallRules are the rules of one call, the first that holds decides.
type CallRules struct {
	Nr    uint32
	Rules []Rule
}

// Rule is one rule of a call. It holds if all conditions do.
type Rule struct {
	Action Action
	Args   []Condition
	Index  int // the rule's place in Profile.Syscalls
}

// validate finds what makes a policy meaningless. Resolve makes none such.
func (p *Policy) validate() error {
	if len(p.Archs) == 0 {
		return errors.New("no architecture")
	}
	var seen [256]bool
	for i := range p.Archs {
		a := &p.Archs[i]
		switch {
		case !a.Arch.HasTable():
			return fmt.Errorf("no table of system calls for %v", a.Arch)
		case seen[a.Arch]:
			return fmt.Errorf("%v is listed twice", a.Arch)
		}
		seen[a.Arch] = true
		if err := a.validate(); err != nil {
			return fmt.Errorf("%v: %w", a.Arch, err)
		}
	}
	return nil
}

func (a *ArchRules) validate() error {
	for i := range a.Calls {
		call := &a.Calls[i]
		switch {
		case call.Nr&syscalls.X32Bit != a.Arch.Bit() || call.Nr >= 2*syscalls.X32Bit:
			return fmt.Errorf("%#x is no number of a system call", call.Nr)
		case i > 0 && call.Nr <= a.Calls[i-1].Nr:
			return fmt.Errorf("call %#x is not in the order of the numbers", call.Nr)
		}
		for _, r := range call.Rules {
			for _, c := range r.Args {
				switch {
				case c.Index > 5 || int(c.Op) >= len(opNames):
					return fmt.Errorf("call %#x: no argument %d or operator %v", call.Nr, c.Index, c.Op)
				case c.Bits != 16 && c.Bits != 32 && c.Bits != 64:
					return fmt.Errorf("call %#x: an argument of %d bits", call.Nr, c.Bits)
				}
			}
		}
	}
	return nil
}

// Reason says what part of a policy decided.
type Reason uint8

// The reasons for a decision.
const (
	ByDefault Reason = iota // no rule held
	ByRule                  // the rule that Decision.Rule counts
	ByNewer                 // the call is newer than the profile
	ByArch                  // the ABI is not in the policy
)

// String returns "rule", "newer", "architecture" or "default".
func (r Reason) String() string {
	switch r {
	case ByRule:
		return "rule"
	case ByNewer:
		return "newer"
	case ByArch:
		return "architecture"
	}
	return "default"
}

// Decision is the answer of a policy to one call.
type Decision struct {
	Action Action
	Reason Reason
	Rule   int // the place in Profile.Syscalls if Reason is ByRule, else -1
}

// noCall is a number that no system call has. Tracers set it to skip one.
const noCall = 1<<32 - 1

// Decide returns the answer of the policy, as the package documentation
// defines it. Audit is the AUDIT_ARCH value and nr the number that the kernel
// shows to filters.
func (p *Policy) Decide(audit, nr uint32, args [6]uint64) Decision {
	rules := p.find(audit, nr)
	if rules == nil {
		return Decision{p.OtherArch, ByArch, -1}
	}
	if call := rules.call(nr); call != nil {
		for i := range call.Rules {
			if r := &call.Rules[i]; r.holds(&args) {
				return Decision{r.Action, ByRule, r.Index}
			}
		}
	}
	if rules.newer(nr) {
		return Decision{p.Newer, ByNewer, -1}
	}
	return Decision{p.Default, ByDefault, -1}
}

// Action returns the action of [Policy.Decide].
func (p *Policy) Action(audit, nr uint32, args [6]uint64) Action {
	return p.Decide(audit, nr, args).Action
}

// find returns the rules of the ABI that a call came through, or nil.
func (p *Policy) find(audit, nr uint32) *ArchRules {
	isX32 := audit == X86_64.Audit() && nr >= syscalls.X32Bit && nr != noCall
	for i := range p.Archs {
		a := &p.Archs[i]
		if a.Arch.Audit() == audit && (a.Arch == X32) == isX32 {
			return a
		}
	}
	return nil
}

// arch returns the rules of an ABI, or nil.
func (p *Policy) arch(a Arch) *ArchRules {
	for i := range p.Archs {
		if p.Archs[i].Arch == a {
			return &p.Archs[i]
		}
	}
	return nil
}

// call returns the rules of a number, or nil.
func (a *ArchRules) call(nr uint32) *CallRules {
	low, high := 0, len(a.Calls)
	for low < high {
		mid := (low + high) / 2
		if a.Calls[mid].Nr < nr {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low < len(a.Calls) && a.Calls[low].Nr == nr {
		return &a.Calls[low]
	}
	return nil
}

// The calls that only x32 has are numbered from x32Own to x32End, and there
// will be no more (arch/x86/entry/syscalls/syscall_64.tbl).
const (
	x32Own = 512
	x32End = 547
)

// newer reports whether a number is that of a call newer than the profile.
func (a *ArchRules) newer(nr uint32) bool {
	_, newer := a.newerUpTo(nr &^ a.Arch.Bit())
	return newer
}

// newerUpTo is like newer for a number without the bit of x32. Last is the
// highest number up to which the answer is the same.
func (a *ArchRules) newerUpTo(nr uint32) (last uint32, newer bool) {
	newest := a.Newest
	if newest != noCall {
		newest &^= a.Arch.Bit()
	}
	switch {
	case nr <= newest:
		return newest, false
	case a.Arch == X32 && nr < x32Own:
		return x32Own - 1, true
	case a.Arch == X32 && nr <= x32End:
		return x32End, false
	}
	return noCall, true
}

// unlisted returns the action for a number of a without rules that hold.
func (p *Policy) unlisted(a *ArchRules, nr uint32) Action {
	if a.newer(nr) {
		return p.Newer
	}
	return p.Default
}

func (r *Rule) holds(args *[6]uint64) bool {
	for _, c := range r.Args {
		if !c.holds(args[c.Index]) {
			return false
		}
	}
	return true
}

// bits returns the mask of the bits of an argument that the condition sees.
func (c Condition) bits() uint64 { return ^uint64(0) >> (64 - c.Bits) }

// holds reports whether the condition holds for the argument v.
func (c Condition) holds(v uint64) bool {
	v &= c.bits()
	switch c.Op {
	case NE:
		return v != c.Value
	case LT:
		return v < c.Value
	case LE:
		return v <= c.Value
	case EQ:
		return v == c.Value
	case GE:
		return v >= c.Value
	case GT:
		return v > c.Value
	case MaskedEQ:
		return v&c.Value == c.ValueTwo
	}
	return false
}
