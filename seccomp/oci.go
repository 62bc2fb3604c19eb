package seccomp

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/seccomp/syscalls"
)

func parseArches[S ~string](p *Profile, path string, names []S, parse func(string) (Arch, error)) ([]Arch, error) {
	if len(names) == 0 {
		return nil, nil
	}
	list := make([]Arch, 0, len(names))
	for i, name := range names {
		a, err := parse(string(name))
		if err != nil {
			return nil, p.fail(item(path, i), err)
		}
		list = append(list, a)
	}
	return list, nil
}

// FromOCI returns the profile that "linux.seccomp" of an OCI configuration
// holds, after the same checks as [ParseProfile]. File is the name for
// messages.
func FromOCI(file string, oci *specs.LinuxSeccomp) (*Profile, error) {
	p := &Profile{File: file}
	if err := p.head(oci); err != nil {
		return nil, err
	}
	p.Syscalls = make([]SyscallRule, 0, len(oci.Syscalls))
	for i := range oci.Syscalls {
		r, err := p.fromOCIRule(&oci.Syscalls[i], i)
		if err != nil {
			return nil, err
		}
		p.Syscalls = append(p.Syscalls, r)
	}
	return p, nil
}

func (p *Profile) fail(path string, err error) error {
	return &Error{File: p.File, Path: path, Err: err}
}

// head reads all but the rules.
func (p *Profile) head(oci *specs.LinuxSeccomp) error {
	action, err := parseAction(string(oci.DefaultAction))
	if err == nil && action == Notify {
		err = fmt.Errorf("%s cannot be the default action", oci.DefaultAction)
	}
	if err != nil {
		return p.fail("defaultAction", err)
	}
	if p.DefaultAction, err = action.withData(widen(oci.DefaultErrnoRet)); err != nil {
		return p.fail("defaultErrnoRet", err)
	}
	if p.Architectures, err = parseArches(p, "architectures", oci.Architectures, syscalls.ParseArch); err != nil {
		return err
	}
	p.FlagsGiven = oci.Flags != nil
	for i, name := range oci.Flags {
		flag, err := parseFlag(string(name))
		if err != nil {
			return p.fail(item("flags", i), err)
		}
		p.Flags |= flag
	}
	p.ListenerPath, p.ListenerMetadata = oci.ListenerPath, oci.ListenerMetadata
	if p.ListenerMetadata != "" && p.ListenerPath == "" {
		return p.fail("listenerMetadata", errors.New("has no meaning without listenerPath"))
	}
	return nil
}

func widen(n *uint) *uint64 {
	if n == nil {
		return nil
	}
	wide := uint64(*n)
	return &wide
}

// fromOCIRule reads rule i of a profile.
func (p *Profile) fromOCIRule(call *specs.LinuxSyscall, i int) (r SyscallRule, err error) {
	fail := func(field string, err error) (SyscallRule, error) {
		return SyscallRule{}, p.fail(item("syscalls", i)+"."+field, err)
	}
	if len(call.Names) == 0 {
		return fail("names", errors.New("names no system call"))
	}
	action, err := parseAction(string(call.Action))
	if err != nil {
		return fail("action", err)
	}
	if r.Action, err = action.withData(widen(call.ErrnoRet)); err != nil {
		return fail("errnoRet", err)
	}
	for j, name := range call.Names {
		if err := r.addName(name); err != nil {
			return fail(item("names", j), err)
		}
	}
	if len(call.Args) > 0 {
		r.Args = make([]Condition, 0, len(call.Args))
	}
	for j, arg := range call.Args {
		op, err := parseOp(string(arg.Op))
		if err != nil {
			return fail(item("args", j)+".op", err)
		}
		c := Condition{Index: uint8(min(arg.Index, 255)), Op: op, Value: arg.Value, ValueTwo: arg.ValueTwo}
		if err := c.validate(); err != nil {
			return fail(item("args", j), err)
		}
		if err := r.possible(c); err != nil {
			return fail(item("args", j), err)
		}
		r.Args = append(r.Args, c)
	}
	return r, nil
}

// OCI returns the part of the profile that applies to t in the form of
// "linux.seccomp": includes and excludes are decided, and the architectures
// listed, the native one first.
func (p *Profile) OCI(t Target) *specs.LinuxSeccomp {
	oci := &specs.LinuxSeccomp{
		DefaultAction:    ociAction(p.DefaultAction),
		DefaultErrnoRet:  ociErrno(p.DefaultAction),
		ListenerPath:     p.ListenerPath,
		ListenerMetadata: p.ListenerMetadata,
	}
	for _, a := range p.archs(t.Arch) {
		oci.Architectures = append(oci.Architectures, specs.Arch(a.String()))
	}
	if p.FlagsGiven {
		oci.Flags = []specs.LinuxSeccompFlag{}
	}
	for _, name := range p.Flags.Names() {
		oci.Flags = append(oci.Flags, specs.LinuxSeccompFlag(name))
	}
	for i := range p.Syscalls {
		r := &p.Syscalls[i]
		if !r.applies(t) {
			continue
		}
		call := specs.LinuxSyscall{Names: r.Names, Action: ociAction(r.Action), ErrnoRet: ociErrno(r.Action)}
		for _, c := range r.Args {
			call.Args = append(call.Args, specs.LinuxSeccompArg{
				Index: uint(c.Index), Value: c.Value, ValueTwo: c.ValueTwo, Op: specs.LinuxSeccompOperator(c.Op.String()),
			})
		}
		oci.Syscalls = append(oci.Syscalls, call)
	}
	return oci
}

func ociAction(a Action) specs.LinuxSeccompAction {
	for _, entry := range actionNames {
		if entry.action == a.Kind() {
			return specs.LinuxSeccompAction(actionPrefix + entry.name)
		}
	}
	return specs.LinuxSeccompAction(strconv.Itoa(int(a)))
}

func ociErrno(a Action) *uint {
	if !a.hasData() {
		return nil
	}
	n := uint(a.Data())
	return &n
}
