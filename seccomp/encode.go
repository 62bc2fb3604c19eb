package seccomp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// DockerJSON returns the profile in Docker's JSON, indented by tabs, with a
// final newline. Equal profiles give equal bytes. [ParseProfile] reads it back
// as an equal profile: a profile that no parser made and that JSON cannot hold,
// such as one with a misspelt name, is an error.
func (p *Profile) DockerJSON() ([]byte, error) {
	out := jsonProfile{
		jsonHead: p.jsonHead(),
		Syscalls: make([]jsonRule, 0, len(p.Syscalls)),
	}
	for _, f := range p.ArchMap {
		out.ArchMap = append(out.ArchMap, jsonFamily{f.Arch.String(), archNames(f.SubArches, Arch.String)})
	}
	out.Architectures = archNames(p.Architectures, Arch.String)
	for i := range p.Syscalls {
		out.Syscalls = append(out.Syscalls, jsonRuleOf(&p.Syscalls[i]))
	}
	data, err := marshalProfile(out)
	if err != nil {
		return nil, err
	}
	return data, p.verify(data, p, ParseProfile)
}

// OCIJSON returns what of the profile applies to t in the JSON of
// "linux.seccomp" of OCI's runtime specification, in the style of
// [Profile.DockerJSON]: [Profile.OCI] as text, but that an empty list of flags,
// which is not the same as none, is written. It resolves to the same policy for
// t as p does.
func (p *Profile) OCIJSON(t Target) ([]byte, error) {
	return p.appliedTo(t).DockerJSON()
}

// appliedTo returns the profile with includes and excludes decided for t,
// without what OCI's form lacks.
func (p *Profile) appliedTo(t Target) *Profile {
	applied := *p
	applied.Architectures, applied.ArchMap, applied.Syscalls = p.archs(t.Arch), nil, nil
	for i := range p.Syscalls {
		if r := p.Syscalls[i]; r.applies(t) {
			r.Comment, r.Includes, r.Excludes = "", Selector{}, Selector{}
			applied.Syscalls = append(applied.Syscalls, r)
		}
	}
	return &applied
}

// The fields of profiles in the order in which they are written.
type jsonProfile struct {
	jsonHead
	Syscalls []jsonRule `json:"syscalls"`
}

type jsonHead struct {
	DefaultAction    string       `json:"defaultAction"`
	DefaultErrnoRet  *uint16      `json:"defaultErrnoRet,omitempty"`
	ArchMap          []jsonFamily `json:"archMap,omitempty"`
	Architectures    []string     `json:"architectures,omitempty"`
	Flags            []string     `json:"flags,omitzero"`
	ListenerPath     string       `json:"listenerPath,omitempty"`
	ListenerMetadata string       `json:"listenerMetadata,omitempty"`
}

type jsonFamily struct {
	Architecture     string   `json:"architecture"`
	SubArchitectures []string `json:"subArchitectures,omitempty"`
}

type jsonRule struct {
	Names    []string        `json:"names"`
	Action   string          `json:"action"`
	ErrnoRet *uint16         `json:"errnoRet,omitempty"`
	Args     []jsonCondition `json:"args,omitempty"`
	Comment  string          `json:"comment,omitempty"`
	Includes jsonSelector    `json:"includes,omitzero"`
	Excludes jsonSelector    `json:"excludes,omitzero"`
}

type jsonCondition struct {
	Index    uint8   `json:"index"`
	Value    uint64  `json:"value"`
	ValueTwo *uint64 `json:"valueTwo,omitempty"`
	Op       string  `json:"op"`
}

type jsonSelector struct {
	Arches    []string `json:"arches,omitempty"`
	Caps      []string `json:"caps,omitempty"`
	MinKernel string   `json:"minKernel,omitempty"`
}

// IsZero reports whether the selector says nothing.
func (s jsonSelector) IsZero() bool {
	return len(s.Arches) == 0 && len(s.Caps) == 0 && s.MinKernel == ""
}

func (p *Profile) jsonHead() jsonHead {
	h := jsonHead{ListenerPath: p.ListenerPath, ListenerMetadata: p.ListenerMetadata}
	h.DefaultAction, h.DefaultErrnoRet = jsonAction(p.DefaultAction)
	h.Flags = p.Flags.Names()
	if p.FlagsGiven && h.Flags == nil {
		h.Flags = []string{}
	}
	return h
}

func jsonRuleOf(r *SyscallRule) jsonRule {
	out := jsonRule{Names: r.Names, Comment: r.Comment, Includes: jsonSelectorOf(&r.Includes), Excludes: jsonSelectorOf(&r.Excludes)}
	out.Action, out.ErrnoRet = jsonAction(r.Action)
	for _, c := range r.Args {
		j := jsonCondition{Index: c.Index, Value: c.Value, Op: c.Op.String()}
		if c.Op == MaskedEQ || c.ValueTwo != 0 {
			j.ValueTwo = &c.ValueTwo
		}
		out.Args = append(out.Args, j)
	}
	return out
}

// jsonAction returns the name of an action and its number, or nil.
func jsonAction(a Action) (string, *uint16) {
	name := string(ociAction(a))
	if !a.hasData() {
		return name, nil
	}
	n := a.Data()
	return name, &n
}

func jsonSelectorOf(s *Selector) jsonSelector {
	out := jsonSelector{Arches: archNames(s.Arches, Arch.Short)}
	for _, c := range s.Caps.List() {
		out.Caps = append(out.Caps, c.String())
	}
	if s.MinKernel != (KernelVersion{}) {
		out.MinKernel = s.MinKernel.String()
	}
	return out
}

func archNames(list []Arch, form func(Arch) string) []string {
	var names []string
	for _, a := range list {
		names = append(names, form(a))
	}
	return names
}

func marshalProfile(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "\t")
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("write seccomp profile: %w", err)
	}
	return b.Bytes(), nil
}

// verify reads back what was written of the profile, which must mean want. A
// form that cannot hold a profile fails here and never writes another one.
func (p *Profile) verify(data []byte, want *Profile, parse func(string, []byte) (*Profile, error)) error {
	back, err := parse(p.File, data)
	var fault *Error
	switch {
	case errors.As(err, &fault):
		return fmt.Errorf("write seccomp profile: %w", &Error{File: fault.File, Path: fault.Path, Err: fault.Err})
	case err != nil:
		return fmt.Errorf("write seccomp profile: %w", err)
	case !back.equal(want):
		return fmt.Errorf("write seccomp profile: %w", &Error{File: p.File, Err: errors.New("holds what this form cannot say, such as text that is not valid UTF-8")})
	}
	return nil
}

// equal reports whether two profiles say the same, rule by rule, wherever they
// were read from.
func (p *Profile) equal(q *Profile) bool {
	sameFamily := func(f, g ArchFamily) bool { return f.Arch == g.Arch && slices.Equal(f.SubArches, g.SubArches) }
	sameRule := func(r, s SyscallRule) bool {
		return r.Action == s.Action && r.Comment == s.Comment && slices.Equal(r.Names, s.Names) &&
			slices.Equal(r.Args, s.Args) && r.Includes.equal(&s.Includes) && r.Excludes.equal(&s.Excludes)
	}
	return p.DefaultAction == q.DefaultAction && p.Flags == q.Flags &&
		(p.FlagsGiven || p.Flags != 0) == (q.FlagsGiven || q.Flags != 0) &&
		p.ListenerPath == q.ListenerPath && p.ListenerMetadata == q.ListenerMetadata &&
		slices.Equal(p.Architectures, q.Architectures) &&
		slices.EqualFunc(p.ArchMap, q.ArchMap, sameFamily) && slices.EqualFunc(p.Syscalls, q.Syscalls, sameRule)
}

func (s *Selector) equal(t *Selector) bool {
	return s.Caps == t.Caps && s.MinKernel == t.MinKernel && slices.Equal(s.Arches, t.Arches)
}
