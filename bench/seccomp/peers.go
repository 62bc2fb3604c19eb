package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	elasticbpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	netbpf "golang.org/x/net/bpf"
	gvisor "gvisor.dev/gvisor/pkg/seccomp"

	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// compiler makes one job's program, again and again.
type compiler struct {
	name    string
	limits  string // what of the policy it cannot express
	compile func() ([]bpf.Instruction, time.Duration, error)
	close   func()
}

// timed measures a compiler that is in this process.
func timed(f func() ([]bpf.Instruction, error)) func() ([]bpf.Instruction, time.Duration, error) {
	return func() ([]bpf.Instruction, time.Duration, error) {
		start := time.Now()
		prog, err := f()
		return prog, time.Since(start), err
	}
}

// brig also keeps the parts of its time.
func brig(j *job, parts *[]stages) *compiler {
	return &compiler{name: "brig", compile: timed(func() ([]bpf.Instruction, error) {
		prog, s, err := j.brig()
		*parts = append(*parts, s)
		return prog, err
	})}
}

// gVisor's rules are by number. Its option for hot calls is only for those with
// conditions on arguments, of which none is hot here.
func gVisor(j *job) (*compiler, error) {
	sets := map[seccomp.Action]gvisor.SyscallRules{}
	var actions []seccomp.Action
	for _, r := range j.rules {
		nr, ok := syscalls.Number(seccomp.X86_64, r.name)
		if !ok || len(r.args) > 0 && j.unconditional(r.name) {
			continue
		}
		if _, ok := sets[r.action]; !ok {
			sets[r.action] = gvisor.NewSyscallRules()
			actions = append(actions, r.action)
		}
		one, err := gVisorRule(r)
		if err != nil {
			return nil, err
		}
		if len(r.args) > 0 || !sets[r.action].Has(uintptr(nr)) {
			sets[r.action].Add(uintptr(nr), one)
		}
	}
	p := gvisor.Program{Options: gvisor.ProgramOptions{DefaultAction: gVisorAction(j.deny), BadArchAction: gVisorAction(j.bad)}}
	for _, a := range actions {
		p.RuleSets = append(p.RuleSets, gvisor.RuleSet{Rules: sets[a], Action: gVisorAction(a)})
	}
	return &compiler{name: "gvisor", compile: timed(func() ([]bpf.Instruction, error) {
		built, _, err := p.Build()
		prog := make([]bpf.Instruction, len(built))
		for i, in := range built {
			prog[i] = bpf.Instruction{Op: in.OpCode, JT: in.JumpIfTrue, JF: in.JumpIfFalse, K: in.K}
		}
		return prog, err
	}), limits: "x86-64 only; no ENOSYS for newer calls"}, nil
}

func gVisorAction(a seccomp.Action) gvisor.Action {
	switch {
	case a == seccomp.Allow:
		return gvisor.Allow
	case a == seccomp.KillThread:
		return gvisor.KillThread
	case a == seccomp.KillProcess:
		return gvisor.KillProcess
	case a.IsErrno():
		return gvisor.ReturnError.Code(a.Data())
	}
	panic(fmt.Sprintf("action %v is not in Docker's profile", a))
}

func gVisorRule(r rule) (gvisor.SyscallRule, error) {
	if len(r.args) == 0 {
		return gvisor.MatchAll{}, nil
	}
	var args gvisor.PerArg
	for i := range args {
		args[i] = gvisor.AnyValue{}
	}
	for _, c := range r.args {
		v := uintptr(c.Value)
		match := map[seccomp.Op]gvisor.ValueMatcher{
			seccomp.NE: gvisor.NotEqual(v), seccomp.LT: gvisor.LessThan(v), seccomp.LE: gvisor.LessThanOrEqual(v),
			seccomp.EQ: gvisor.EqualTo(v), seccomp.GE: gvisor.GreaterThanOrEqual(v), seccomp.GT: gvisor.GreaterThan(v),
			seccomp.MaskedEQ: gvisor.MaskedEqual(v, uintptr(c.ValueTwo)),
		}[c.Op]
		if match == nil {
			return nil, fmt.Errorf("%s: gVisor has no %v", r.name, c.Op)
		}
		args[c.Index] = match
	}
	return args, nil
}

// unconditional reports whether a call has a rule without conditions, which
// decides alone.
func (j *job) unconditional(name string) bool {
	return slices.ContainsFunc(j.rules, func(r rule) bool { return r.name == name && len(r.args) == 0 })
}

// elastic's rules are by name, in groups of one action.
func elastic(j *job) (*compiler, error) {
	info, err := arch.GetInfo("x86_64")
	if err != nil {
		return nil, err
	}
	var groups []elasticbpf.SyscallGroup
	var unknown []string
	for _, r := range j.rules {
		if _, ok := syscalls.Number(seccomp.X86_64, r.name); !ok || len(r.args) > 0 && j.unconditional(r.name) {
			continue
		}
		if _, ok := info.SyscallNames[r.name]; !ok {
			unknown = append(unknown, r.name)
			continue
		}
		i := slices.IndexFunc(groups, func(g elasticbpf.SyscallGroup) bool { return g.Action == elasticbpf.Action(r.action) })
		if i < 0 {
			i = len(groups)
			groups = append(groups, elasticbpf.SyscallGroup{Action: elasticbpf.Action(r.action)})
		}
		if err := elasticRule(&groups[i], r); err != nil {
			return nil, err
		}
	}
	limits := "x86-64 only; other ABIs get the default action; no ENOSYS for newer calls"
	if len(unknown) > 0 {
		limits += "; does not know " + strings.Join(unknown, ", ")
	}
	if j.deny != seccomp.Errno(1) {
		return nil, fmt.Errorf("elastic has no default action %v", j.deny)
	}
	return &compiler{name: "elastic", limits: limits, compile: timed(func() ([]bpf.Instruction, error) {
		p := elasticbpf.Policy{DefaultAction: elasticbpf.ActionErrno, Syscalls: groups}
		list, err := p.Assemble()
		if err != nil {
			return nil, err
		}
		raw, err := netbpf.Assemble(list)
		prog := make([]bpf.Instruction, len(raw))
		for i, in := range raw {
			prog[i] = bpf.Instruction{Op: in.Op, JT: in.Jt, JF: in.Jf, K: in.K}
		}
		return prog, err
	})}, nil
}

func elasticRule(g *elasticbpf.SyscallGroup, r rule) error {
	if len(r.args) == 0 {
		if !slices.Contains(g.Names, r.name) {
			g.Names = append(g.Names, r.name)
		}
		return nil
	}
	call := elasticbpf.NameWithConditions{Name: r.name}
	for _, c := range r.args {
		op := map[seccomp.Op]elasticbpf.Operation{
			seccomp.NE: elasticbpf.NotEqual, seccomp.LT: elasticbpf.LessThan, seccomp.LE: elasticbpf.LessOrEqual,
			seccomp.EQ: elasticbpf.Equal, seccomp.GE: elasticbpf.GreaterOrEqual, seccomp.GT: elasticbpf.GreaterThan,
		}[c.Op]
		if c.Op == seccomp.MaskedEQ && c.ValueTwo == 0 {
			op = elasticbpf.BitsNotSet
		}
		if op == "" {
			return fmt.Errorf("%s: elastic has no %v with these values", r.name, c.Op)
		}
		call.Conditions = append(call.Conditions, elasticbpf.Condition{Argument: uint32(c.Index), Operation: op, Value: c.Value})
	}
	g.NamesWithCondtions = append(g.NamesWithCondtions, call)
	return nil
}
