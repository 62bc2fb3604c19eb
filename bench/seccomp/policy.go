package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	moby "github.com/moby/profiles/seccomp"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/bpf"
)

// job is what all compilers have to do.
type job struct {
	name   string
	json   []byte // Docker's default profile
	target seccomp.Target
	policy *seccomp.Policy // what Brig makes of it, and the meaning that counts
	rules  []rule          // those that apply, for the peers
	bad    seccomp.Action  // of ABIs that are not in the policy
	deny   seccomp.Action  // of calls without a rule
}

// rule is one rule for one call, as runc hands them to libseccomp.
type rule struct {
	name   string
	action seccomp.Action
	args   []seccomp.Condition
}

// newJob is for the container that Docker makes by default, on x86-64, with or
// without the two other ABIs.
func newJob(name string, others bool) (*job, error) {
	profile := moby.DefaultProfile()
	if !others {
		for i := range profile.ArchMap {
			profile.ArchMap[i].SubArches = nil
		}
	}
	text, err := json.MarshalIndent(profile, "", "\t")
	if err != nil {
		return nil, err
	}
	target, err := seccomp.Here(capability.Default())
	if err != nil {
		return nil, err
	}
	j := &job{name: name, json: text, target: target}
	parsed, policy, err := j.resolve()
	if err != nil {
		return nil, err
	}
	want := 1
	if others {
		want = 3
	}
	if len(policy.Archs) != want {
		return nil, fmt.Errorf("%s: the policy has %d ABIs, want %d", name, len(policy.Archs), want)
	}
	j.policy, j.bad, j.deny = policy, policy.OtherArch, parsed.DefaultAction
	for i := range parsed.Syscalls {
		r := &parsed.Syscalls[i]
		if !applies(r, target) || r.Action == parsed.DefaultAction {
			continue
		}
		if len(r.Args) > 1 {
			return nil, fmt.Errorf("rule %d has several conditions: runc's treatment of them is missing here", i)
		}
		for _, name := range r.Names {
			j.rules = append(j.rules, rule{name, r.Action, r.Args})
		}
	}
	return j, nil
}

// applies says whether a rule is for the target, as in
// github.com/moby/profiles/seccomp.
func applies(r *seccomp.SyscallRule, t seccomp.Target) bool {
	in, ex, none := &r.Includes, &r.Excludes, seccomp.KernelVersion{}
	switch {
	case slices.Contains(ex.Arches, t.Arch), ex.Caps&t.Caps != 0, ex.MinKernel != none && t.Kernel.AtLeast(ex.MinKernel):
		return false
	case len(in.Arches) > 0 && !slices.Contains(in.Arches, t.Arch), in.Caps&^t.Caps != 0:
		return false
	}
	return in.MinKernel == none || t.Kernel.AtLeast(in.MinKernel)
}

func (j *job) resolve() (*seccomp.Profile, *seccomp.Policy, error) {
	profile, err := seccomp.ParseProfile("default.json", j.json)
	if err != nil {
		return nil, nil, err
	}
	policy, _, err := profile.Resolve(j.target)
	return profile, policy, err
}

// stages are the parts of Brig's time in microseconds.
type stages struct {
	Parse   float64 `json:"parseUs"`
	Resolve float64 `json:"resolveUs"`
	Compile float64 `json:"compileUs"` // with the check of the program
}

// brig does all that there is to do for a profile from a file.
func (j *job) brig() ([]bpf.Instruction, stages, error) {
	var s stages
	start := time.Now()
	profile, err := seccomp.ParseProfile("default.json", j.json)
	if err != nil {
		return nil, s, err
	}
	parsed := time.Now()
	policy, _, err := profile.Resolve(j.target)
	if err != nil {
		return nil, s, err
	}
	resolved := time.Now()
	f, err := seccomp.Compile(policy)
	if err != nil {
		return nil, s, err
	}
	s.Parse = parsed.Sub(start).Seconds() * 1e6
	s.Resolve = resolved.Sub(parsed).Seconds() * 1e6
	s.Compile = time.Since(resolved).Seconds() * 1e6
	return f.Program, s, nil
}
