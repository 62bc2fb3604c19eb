package policy

import (
	"fmt"
	"slices"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// EnforceArgs makes conditions of the arguments whose values are all known, and
// returns how many.
func (p *Policy) EnforceArgs() int {
	n := 0
	for i := range p.Syscalls {
		c := &p.Syscalls[i]
		if c.Status != Asked && c.Status != Verified {
			continue
		}
		for j := range c.Args {
			a := &c.Args[j]
			if a.Enforce = !a.More && !a.Memory && len(a.Values) > 0; a.Enforce {
				n++
			}
		}
	}
	return n
}

// Admit adds what a run under the policy was denied, with a comment, and says
// what it added. What was already denied while the policy was learned stays
// out: the container worked without. It adds capabilities; only if there are
// none, system calls; and only if there are none of these either, calls that
// failed with ENOSYS, on which programs fall back. The rest may be of no use: a
// program that fails does things on its way out that it never does otherwise.
func (p *Policy) Admit(rec *record.Recording, comment string) ([]string, error) {
	for _, kind := range []func(*record.Denial) bool{
		func(d *record.Denial) bool { return len(d.Capabilities) > 0 },
		func(d *record.Denial) bool { return d.Errno != "ENOSYS" },
		func(d *record.Denial) bool { return true },
	} {
		var added []string
		for i := range rec.Denials {
			d := &rec.Denials[i]
			if !kind(d) || p.knew(d) {
				continue
			}
			more, err := p.admit(d, comment)
			if err != nil {
				return added, err
			}
			added = append(added, more...)
		}
		if len(added) > 0 {
			p.settle()
			return added, nil
		}
	}
	return nil, nil
}

// knew reports whether the same was denied while the policy was learned.
func (p *Policy) knew(d *record.Denial) bool {
	return slices.ContainsFunc(p.Denials, func(have Denial) bool {
		return have.Syscall == d.Syscall && have.ABI == d.ABI && have.Program == d.Program && have.Errno == d.Errno &&
			have.Killed == d.Killed && have.By == d.By && slices.Equal(have.Capabilities, d.Capabilities)
	})
}

// Grant adds capabilities, with a comment, and says which were not granted
// before.
func (p *Policy) Grant(set capability.Set, comment string) (added []string) {
	for _, c := range set.List() {
		if p.admitCapability(c.Short(), 0, comment) {
			added = append(added, c.Short())
		}
	}
	p.settle()
	return added
}

// Allow adds what a person wants to be allowed, system calls with all arguments,
// and says what of it was not allowed before.
func (p *Policy) Allow(caps capability.Set, calls []string, comment string) (added []string, err error) {
	for _, name := range calls {
		if err := knownCall(name); err != nil {
			return nil, err
		}
	}
	for _, name := range calls {
		if p.allowCall(name, comment) {
			added = append(added, name)
		}
	}
	before, err := p.Granted()
	if err != nil {
		return nil, err
	}
	for _, c := range caps.Minus(before).List() {
		p.admitCapability(c.Short(), 0, comment)
		i := slices.IndexFunc(p.Capabilities, func(have Capability) bool { return have.Name == c.Short() })
		p.Capabilities[i].Status = Added
		added = append(added, c.Short())
	}
	p.settle()
	return added, nil
}

func (p *Policy) allowCall(name, comment string) bool {
	i := slices.IndexFunc(p.Syscalls, func(c Syscall) bool { return c.Name == name })
	if i < 0 {
		p.Syscalls = append(p.Syscalls, Syscall{Name: name, Status: Added, Comment: comment})
		return true
	}
	c := &p.Syscalls[i]
	if c.Allowed() && !c.conditional() {
		return false
	}
	c.Status, c.Comment = Added, comment
	for j := range c.Args {
		c.Args[j].Enforce = false
	}
	return true
}

func (p *Policy) admit(d *record.Denial, comment string) (added []string, err error) {
	for _, name := range d.Capabilities {
		if p.admitCapability(name, 1, comment) {
			added = append(added, name)
		}
	}
	if d.By == "capability" {
		return added, nil
	}
	if !syscalls.Known(d.Syscall) {
		return added, fmt.Errorf("%s was denied, which is no system call that a policy can name", d.Syscall)
	}
	what, err := p.admitSyscall(d, comment)
	if what != "" {
		added = append(added, what)
	}
	return added, err
}

func (p *Policy) admitCapability(name string, refused uint64, comment string) bool {
	for i := range p.Capabilities {
		if c := &p.Capabilities[i]; c.Name == name {
			was := c.Allowed()
			if !was {
				c.Status, c.Comment = Asked, comment
			}
			return !was
		}
	}
	p.Capabilities = append(p.Capabilities, Capability{Name: name, Status: Asked, Comment: comment, Refused: refused})
	return true
}

// admitSyscall returns what it added in words, or "".
func (p *Policy) admitSyscall(d *record.Denial, comment string) (string, error) {
	i := slices.IndexFunc(p.Syscalls, func(c Syscall) bool { return c.Name == d.Syscall })
	if i < 0 {
		p.Syscalls = append(p.Syscalls, Syscall{Name: d.Syscall, Status: Asked, Comment: comment, ABIs: []string{d.ABI}})
		return d.Syscall, nil
	}
	c := &p.Syscalls[i]
	switch {
	case !c.Allowed():
		c.Status, c.Comment, c.ABIs = Asked, comment, union(c.ABIs, []string{d.ABI})
	case len(c.ABIs) > 0 && !slices.Contains(c.ABIs, d.ABI):
		c.ABIs, c.Comment = union(c.ABIs, []string{d.ABI}), comment
		return d.Syscall + " of " + d.ABI, nil
	default:
		return c.admitValues(d, comment)
	}
	return d.Syscall, nil
}

// admitValues adds the values of a call that conditions kept out.
func (c *Syscall) admitValues(d *record.Denial, comment string) (string, error) {
	arch, err := syscalls.ParseShort(d.ABI)
	if err != nil {
		return "", fmt.Errorf("denial of %s: %w", d.Syscall, err)
	}
	call, _ := syscalls.Find(c.Name)
	added := ""
	for i := range c.Args {
		a := &c.Args[i]
		value := d.Args[a.Index]
		if width := call.Width(arch, int(a.Index)); width < 64 {
			value &= 1<<width - 1
		}
		if !a.Enforce || slices.Contains(a.Allowed(), value) {
			continue
		}
		if t := a.tried(value); t >= 0 {
			a.Tried = slices.Delete(a.Tried, t, t+1)
		} else if len(a.Values) == maxValues {
			a.More, a.Enforce = true, false
		} else {
			a.Values = append(a.Values, value)
			slices.Sort(a.Values)
		}
		c.Comment = comment
		added = fmt.Sprintf("%s with argument %d = %#x", c.Name, a.Index, value)
	}
	return added, nil
}
