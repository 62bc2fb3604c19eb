package inspect

import (
	"fmt"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Simulation is the answer of a filter to one system call.
type Simulation struct {
	Call      string    `json:"call,omitempty"` // name, if the number has one
	Arch      string    `json:"architecture"`   // the ABI
	Number    uint32    `json:"number"`         // as filters see it
	Arguments [6]uint64 `json:"arguments"`
	Action    string    `json:"action"`
	Value     uint32    `json:"value"`    // that the filter returns
	Executed  int       `json:"executed"` // instructions that ran
	// Cached reports whether the kernel, from 5.11 on, lets the call pass
	// without running the filter.
	Cached bool      `json:"cached"`
	Policy *Decided  `json:"policy,omitempty"` // what the profile says, if there is one
	Steps  []SimStep `json:"steps,omitempty"`
}

// Decided is the decision of a policy.
type Decided struct {
	Action string `json:"action"`
	By     string `json:"by"`   // as in [seccomp.Explanation]
	Rule   int    `json:"rule"` // or -1
	Line   int    `json:"line,omitempty"`
}

// Why says what decides.
func (d *Decided) Why() string {
	switch d.By {
	case "rule":
		if d.Line > 0 {
			return fmt.Sprintf("by syscalls[%d] (line %d)", d.Rule, d.Line)
		}
		return fmt.Sprintf("by syscalls[%d]", d.Rule)
	case "newer":
		return "for calls newer than itself"
	case "architecture":
		return "for architectures that it does not list"
	}
	return "by default"
}

// SimStep is an instruction that ran, with the registers before it.
type SimStep struct {
	Index int    `json:"index"`
	Text  string `json:"text"`
	A     uint32 `json:"a"`
	X     uint32 `json:"x"`
}

// Simulate runs a valid filter for d, as the kernel would.
func Simulate(prog []bpf.Instruction, d *bpf.Data) (*Simulation, error) {
	steps, value, err := bpf.Trace(prog, d)
	if err != nil {
		return nil, fmt.Errorf("run the seccomp filter: %w", err)
	}
	arch := archOf(d.Arch)
	if arch == seccomp.X86_64 && d.Nr >= syscalls.X32Bit && d.Nr != noCall {
		arch = seccomp.X32
	}
	s := &Simulation{
		Arch: arch.Short(), Number: d.Nr, Arguments: d.Args, Action: seccomp.Action(value).String(), Value: value, Executed: len(steps),
	}
	s.Call, _ = syscalls.Name(arch, d.Nr)
	constant, ok := bpf.Constant(prog, d.Arch, d.Nr)
	s.Cached = ok && seccomp.Action(constant) == seccomp.Allow
	lines := bpf.Style{BigEndian: arch.BigEndian()}.Lines(prog)
	for _, step := range steps {
		s.Steps = append(s.Steps, SimStep{step.PC, lines[step.PC].Text, step.A, step.X})
	}
	return s, nil
}

// SimulateProfile compiles the profile for the target t, runs the filter for d,
// and tells also what the policy decides. It fails if they differ, which is a
// fault of package seccomp.
func SimulateProfile(p *seccomp.Profile, t seccomp.Target, d *bpf.Data) (*Simulation, error) {
	policy, _, err := p.Resolve(t)
	if err != nil {
		return nil, err
	}
	filter, err := seccomp.Compile(policy)
	if err != nil {
		return nil, err
	}
	s, err := Simulate(filter.Program, d)
	if err != nil {
		return nil, err
	}
	decision := policy.Decide(d.Arch, d.Nr, d.Args)
	s.Policy = &Decided{Action: decision.Action.String(), By: decision.Reason.String(), Rule: decision.Rule}
	if decision.Rule >= 0 {
		s.Policy.Line = p.Syscalls[decision.Rule].Line
	}
	if decision.Action != seccomp.Action(s.Value) {
		return s, fmt.Errorf("the filter answers %s, but the profile says %s; please report this fault", s.Action, s.Policy.Action)
	}
	return s, nil
}
