package inspect

import (
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Summary has figures of a compiled filter.
type Summary struct {
	Instructions int           `json:"instructions"`
	Bytes        int           `json:"bytes"`
	Flags        []string      `json:"flags"`    // of seccomp(2), by their names
	Listener     bool          `json:"listener"` // loading returns a descriptor for NOTIFY
	Archs        []ArchSummary `json:"architectures"`
}

// ArchSummary has the figures of one ABI. The numbers are those of its system
// calls in this package's table.
type ArchSummary struct {
	Arch         string `json:"architecture"`
	Instructions int    `json:"instructions"` // that a call of the ABI can reach; ABIs share some
	Cached       int    `json:"cached"`       // calls that the kernel lets pass without the filter from 5.11 on
	Conditional  int    `json:"conditional"`  // calls whose arguments the filter looks at
	Blocked      int    `json:"blocked"`      // calls that no arguments let through
	Depth        int    `json:"depth"`        // most instructions that run before an argument is looked at
}

// Summarize returns the figures of the filter of a policy.
func Summarize(p *seccomp.Policy, f *seccomp.Filter) Summary {
	s := Summary{
		Instructions: len(f.Program), Bytes: len(bpf.Encode(f.Program, seccomp.ByteOrder(p.Archs[0].Arch))),
		Flags: f.Flags.All(), Listener: f.Notify,
	}
	reach := reachable(f.Program, p.Archs[0].Arch)
	for i := range p.Archs {
		a := summarizeArch(p, f, p.Archs[i].Arch)
		a.Instructions = reach[p.Archs[i].Arch]
		s.Archs = append(s.Archs, a)
	}
	return s
}

func summarizeArch(p *seccomp.Policy, f *seccomp.Filter, a seccomp.Arch) ArchSummary {
	s := ArchSummary{Arch: a.Short()}
	for nr := range syscalls.All(a) {
		action, constant := bpf.Constant(f.Program, a.Audit(), nr)
		switch {
		case !constant:
			s.Conditional++
		case seccomp.Action(action) == seccomp.Allow:
			s.Cached++
		}
		if p.Access(a, nr) == seccomp.Blocked {
			s.Blocked++
		}
		s.Depth = max(s.Depth, depth(f.Program, &bpf.Data{Nr: nr, Arch: a.Audit()}))
	}
	return s
}

// depth returns how many instructions run for a call until the filter answers
// or loads something other than the architecture and the number.
func depth(prog []bpf.Instruction, d *bpf.Data) int {
	steps, _, _ := bpf.Trace(prog, d)
	for i, s := range steps {
		if in := prog[s.PC]; in.Op == bpf.LdAbs && in.K != bpf.OffNr && in.K != bpf.OffArch {
			return i
		}
	}
	return len(steps)
}

// reachable counts the instructions that a call of each ABI can reach.
func reachable(prog []bpf.Instruction, native seccomp.Arch) map[seccomp.Arch]int {
	d := disassemble(prog, native)
	counts := make(map[seccomp.Arch]int)
	for i := range d.states {
		for _, c := range d.states[i].calls {
			counts[c.arch]++
		}
	}
	return counts
}
