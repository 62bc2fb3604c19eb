package runtime

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/runtime/inside"
)

// Attributes of a process that the kernel keeps beside its identity: how it is
// scheduled, where its memory comes from, which personality it has.

// attributes sets what the spec asks for, of the process and of linux.
func (p *planner) attributes(proc *specs.Process, linux *specs.Linux) error {
	if err := p.scheduler(proc.Scheduler); err != nil {
		return err
	}
	if err := p.ioPriority(proc.IOPriority); err != nil {
		return err
	}
	if linux == nil {
		return nil
	}
	if err := p.personality(linux.Personality); err != nil {
		return err
	}
	return p.memoryPolicy(linux.MemoryPolicy)
}

// schedPolicies are the scheduling policies by their SCHED_* number, sched(7).
var schedPolicies = [...]specs.LinuxSchedulerPolicy{specs.SchedOther, specs.SchedFIFO, specs.SchedRR, specs.SchedBatch, specs.SchedISO, specs.SchedIdle, specs.SchedDeadline}

// schedFlags are the flags of sched_setattr(2), from bit 0 on.
var schedFlags = [...]specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork, specs.SchedFlagReclaim, specs.SchedFlagDLOverrun,
	specs.SchedFlagKeepPolicy, specs.SchedFlagKeepParams, specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax}

// schedAttr makes the struct sched_attr of sched_setattr(2).
func schedAttr(s *specs.Scheduler) ([]byte, error) {
	policy := slices.Index(schedPolicies[:], s.Policy)
	realtime := s.Policy == specs.SchedFIFO || s.Policy == specs.SchedRR
	fair := s.Policy == specs.SchedOther || s.Policy == specs.SchedBatch
	switch {
	case s.Policy == "":
		return nil, fmt.Errorf("process.scheduler.policy: is required")
	case policy < 0:
		return nil, fmt.Errorf("process.scheduler.policy: invalid scheduler policy %q; it is one of %v", s.Policy, schedPolicies)
	case fair && (s.Nice < -20 || s.Nice > 19):
		return nil, fmt.Errorf("process.scheduler.nice: %d is not from -20 to 19", s.Nice)
	case s.Priority != 0 && !realtime:
		return nil, fmt.Errorf("process.scheduler.priority: can only be specified for SCHED_FIFO and SCHED_RR, not for %s", s.Policy)
	case s.Policy != specs.SchedDeadline && (s.Runtime != 0 || s.Deadline != 0 || s.Period != 0):
		return nil, fmt.Errorf("process.scheduler: runtime, deadline and period can only be specified for SCHED_DEADLINE, not for %s", s.Policy)
	}
	var flags uint64
	for i, f := range s.Flags {
		bit := slices.Index(schedFlags[:], f)
		if bit < 0 {
			return nil, fmt.Errorf("process.scheduler.flags[%d]: invalid scheduler flag %q", i, f)
		}
		flags |= 1 << bit
	}
	const size = 56 // SCHED_ATTR_SIZE_VER1
	b := make([]byte, 0, size)
	b = binary.NativeEndian.AppendUint32(b, size)
	b = binary.NativeEndian.AppendUint32(b, uint32(policy))
	b = binary.NativeEndian.AppendUint64(b, flags)
	b = binary.NativeEndian.AppendUint32(b, uint32(s.Nice))
	b = binary.NativeEndian.AppendUint32(b, uint32(s.Priority))
	for _, v := range [...]uint64{s.Runtime, s.Deadline, s.Period} {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b[:size], nil // without utilization clamps: the spec has no values for them
}

func (p *planner) scheduler(s *specs.Scheduler) error {
	if s == nil {
		return nil
	}
	attr, err := schedAttr(s)
	if err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	p.What("set the scheduling policy " + string(s.Policy))
	p.Call(unix.SYS_SCHED_SETATTR, inside.V(0), p.Bytes(attr), inside.V(0))
	return nil
}

// ioPrioClasses are the classes by number, ioprio_set(2); the first is "none".
var ioPrioClasses = [...]specs.IOPriorityClass{"", specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE}

func ioPrio(io *specs.LinuxIOPriority) (int, error) {
	class := slices.Index(ioPrioClasses[:], io.Class)
	if class <= 0 {
		return 0, fmt.Errorf("process.ioPriority.class: invalid class %q; it is one of %v", io.Class, ioPrioClasses[1:])
	}
	if io.Priority < 0 || io.Priority > 7 {
		return 0, fmt.Errorf("process.ioPriority.priority: %d is not from 0 to 7", io.Priority)
	}
	return class<<13 | io.Priority, nil
}

func (p *planner) ioPriority(io *specs.LinuxIOPriority) error {
	if io == nil {
		return nil
	}
	prio, err := ioPrio(io)
	if err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	p.What(fmt.Sprintf("set the I/O priority %s %d", io.Class, io.Priority))
	const whoProcess = 1
	p.Call(unix.SYS_IOPRIO_SET, inside.V(whoProcess), inside.V(0), inside.V(prio))
	return nil
}

func personalityDomain(d specs.LinuxPersonalityDomain) (int, error) {
	switch d {
	case specs.PerLinux:
		return 0, nil
	case specs.PerLinux32:
		return 8, nil // PER_LINUX32, personality(2)
	}
	return 0, fmt.Errorf("linux.personality.domain: invalid personality domain %q; it is LINUX or LINUX32", d)
}

func (p *planner) personality(per *specs.LinuxPersonality) error {
	if per == nil {
		return nil
	}
	domain, err := personalityDomain(per.Domain)
	if err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	if len(per.Flags) > 0 {
		p.warn("linux.personality.flags: %v ignored: the specification defines none", per.Flags)
	}
	p.What("set the personality " + string(per.Domain))
	p.Call(unix.SYS_PERSONALITY, inside.V(domain))
	return nil
}

// memoryModes are the modes by MPOL_* number, set_mempolicy(2).
var memoryModes = [...]specs.MemoryPolicyModeType{specs.MpolDefault, specs.MpolPreferred, specs.MpolBind, specs.MpolInterleave,
	specs.MpolLocal, specs.MpolPreferredMany, specs.MpolWeightedInterleave}

// memoryFlags are the mode flags with their MPOL_F_* values.
var memoryFlags = [...]struct {
	name specs.MemoryPolicyFlagType
	bit  int
}{{specs.MpolFStaticNodes, unix.MPOL_F_STATIC_NODES}, {specs.MpolFRelativeNodes, unix.MPOL_F_RELATIVE_NODES}, {specs.MpolFNumaBalancing, unix.MPOL_F_NUMA_BALANCING}}

// memoryPolicyArgs are the mode with its flags, and the node mask, of
// set_mempolicy(2).
func memoryPolicyArgs(m *specs.LinuxMemoryPolicy) (mode int, nodes []uint64, err error) {
	if mode = slices.Index(memoryModes[:], m.Mode); mode < 0 {
		return 0, nil, fmt.Errorf("linux.memoryPolicy.mode: invalid memory policy mode %q; it is one of %v", m.Mode, memoryModes)
	}
	if nodes, err = numberSet(m.Nodes); err != nil {
		return 0, nil, fmt.Errorf("linux.memoryPolicy.nodes: invalid memory policy nodes: %w", err)
	}
	n := 0
	for _, w := range nodes {
		n += bits.OnesCount64(w)
	}
	switch m.Mode {
	case specs.MpolDefault, specs.MpolLocal:
		if n > 0 {
			return 0, nil, fmt.Errorf("linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got %d (%s)", n, m.Mode)
		}
	case specs.MpolPreferred:
	default:
		if n == 0 {
			return 0, nil, fmt.Errorf("linux.memoryPolicy.nodes: memory policy mode requires at least one node but got 0 (%s)", m.Mode)
		}
	}
	for i, name := range m.Flags {
		known := false
		for _, f := range memoryFlags {
			if f.name == name {
				mode |= f.bit
				known = true
			}
		}
		if !known {
			return 0, nil, fmt.Errorf("linux.memoryPolicy.flags[%d]: invalid memory policy flag %q", i, name)
		}
	}
	return mode, nodes, nil
}

func (p *planner) memoryPolicy(m *specs.LinuxMemoryPolicy) error {
	if m == nil {
		return nil
	}
	mode, nodes, err := memoryPolicyArgs(m)
	if err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	p.What("set the memory policy " + string(m.Mode) + " " + m.Nodes)
	mask, n := inside.V(0), 0
	if len(nodes) > 0 {
		mask, n = p.Words(nodes...), 64*len(nodes)+1 // the kernel takes one bit less than it is told
	}
	p.Call(unix.SYS_SET_MEMPOLICY, inside.V(mode), mask, inside.V(n))
	return nil
}

// affinity binds the child to the CPUs of a list.
func (p *planner) affinity(field, list string) error {
	set, err := numberSet(list)
	if err != nil {
		return fmt.Errorf("spec: process.execCPUAffinity.%s: %w", field, err)
	}
	if len(set) == 0 {
		return nil
	}
	p.What("bind to the CPUs " + list)
	p.Call(unix.SYS_SCHED_SETAFFINITY, inside.V(0), inside.V(8*len(set)), p.Words(set...))
	return nil
}

// allCPUs lets the child run wherever its cgroup allows, however its caller is
// bound.
func (p *planner) allCPUs() {
	all := make([]uint64, maxNumber/64)
	for i := range all {
		all[i] = ^uint64(0)
	}
	p.What("let the container run on all CPUs")
	p.Call(unix.SYS_SCHED_SETAFFINITY, inside.V(0), inside.V(8*len(all)), p.Words(all...)).On(inside.AnyErrno, 0)
}

// maxNumber bounds CPU and node numbers: the kernel's NR_CPUS is 8192 at most,
// MAX_NUMNODES 1024.
const maxNumber = 8192

// numberSet reads a list such as "0-3,7" into a bit mask, cpuset(7) "List
// format". Spaces and empty elements are allowed; an empty list is nil.
func numberSet(list string) ([]uint64, error) {
	var set []uint64
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 32)
		var last uint64
		if err == nil {
			last, err = strconv.ParseUint(to, 10, 32)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("%q in %q is not a number or a range such as 0-3", part, list)
		case first > last:
			return nil, fmt.Errorf("%q in %q ends before it begins", part, list)
		case last >= maxNumber:
			return nil, fmt.Errorf("%q in %q: numbers above %d are not supported", part, list, maxNumber-1)
		}
		for n := first; n <= last; n++ {
			for uint64(len(set)) <= n/64 {
				set = append(set, 0)
			}
			set[n/64] |= 1 << (n % 64)
		}
	}
	if set == nil && strings.Trim(list, " ") != "" {
		return nil, fmt.Errorf("%q has no members", list)
	}
	return set, nil
}

// raiseLimits lifts hard limits to what the spec asks for, while the child has
// the rights to: within a user namespace nobody has.
func (p *planner) raiseLimits(proc *specs.Process) {
	for _, r := range raised(proc) {
		p.What(fmt.Sprintf("raise the hard limit %s to %d", r.name, r.Max))
		p.Call(unix.SYS_PRLIMIT64, inside.V(0), inside.V(r.resource), p.Words(r.Cur, r.Max), inside.V(0))
	}
}

// raisedLimit is a limit of the caller's with a higher hard limit.
type raisedLimit struct {
	unix.Rlimit
	name     string
	resource int
}

func raised(proc *specs.Process) (list []raisedLimit) {
	for _, l := range proc.Rlimits {
		n, ok := rlimit(l.Type)
		var have unix.Rlimit
		if ok && unix.Getrlimit(n, &have) == nil && l.Hard > have.Max {
			list = append(list, raisedLimit{unix.Rlimit{Cur: have.Cur, Max: l.Hard}, l.Type, n})
		}
	}
	return list
}

// RaiseLimits does from outside, to a child that has just been made in a user
// namespace of its own (inside.AskMaps), what it has no rights to: it raises
// hard limits, and sets the oom score, which may be lower than the caller's.
func RaiseLimits(pid int, proc *specs.Process) error {
	for _, r := range raised(proc) {
		if err := unix.Prlimit(pid, r.resource, &r.Rlimit, nil); err != nil {
			return fmt.Errorf("raise the hard limit %s to %d: %w", r.name, r.Max, err)
		}
	}
	if proc.OOMScoreAdj == nil {
		return nil
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), strconv.AppendInt(nil, int64(*proc.OOMScoreAdj), 10), 0); err != nil {
		return fmt.Errorf("set oom_score_adj to %d: %w", *proc.OOMScoreAdj, err)
	}
	return nil
}

// capabilities reads the sets. Names that this kernel does not know, and
// capabilities that this machine cannot give, are left out with a warning, as
// other runtimes do: an engine names what it knows.
func (p *planner) capabilities(c *specs.LinuxCapabilities) (sets, error) {
	var s sets
	if c == nil {
		return s, nil
	}
	var unknown, denied []string
	may := p.grantable()
	for _, f := range []struct {
		names []string
		set   *capability.Set
	}{{c.Bounding, &s.bounding}, {c.Permitted, &s.permitted}, {c.Effective, &s.effective}, {c.Inheritable, &s.inheritable}, {c.Ambient, &s.ambient}} {
		for _, name := range f.names {
			n, err := capability.Parse(name)
			switch {
			case err != nil || !capability.Kernel().Has(n):
				unknown = append(unknown, name)
			case !may.Has(n):
				denied = append(denied, n.String())
			default:
				*f.set |= 1 << n
			}
		}
	}
	if len(unknown) > 0 {
		p.warn("process.capabilities: ignoring unknown or unavailable capabilities: %s", strings.Join(unique(unknown), ", "))
	}
	if len(denied) > 0 {
		p.warn("process.capabilities: this machine cannot grant %s: left out", strings.Join(unique(denied), ", "))
	}
	if extra := s.effective.Minus(s.permitted); !extra.Empty() {
		return s, fmt.Errorf("spec: process.capabilities.effective: %s is not in permitted", extra)
	}
	if extra := s.inheritable.Minus(s.bounding); !extra.Empty() {
		return s, fmt.Errorf("spec: process.capabilities.inheritable: %s is not in bounding", extra)
	}
	if extra := s.ambient.Minus(s.permitted.Intersect(s.inheritable)); !extra.Empty() {
		for _, n := range extra.List() {
			p.warn("process.capabilities.ambient: can't raise ambient capability %s: it is not both permitted and inheritable", n)
		}
		s.ambient = s.ambient.Minus(extra)
	}
	return s, nil
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// grantable is the set of capabilities that the child can pass on: what it has
// in its bounding set, or all in a new user namespace, user_namespaces(7).
func (p *planner) grantable() capability.Set {
	if p.inUserns {
		return capability.Kernel()
	}
	var s capability.Set
	for set := uint64(capability.Kernel()); set != 0; set &= set - 1 {
		n := bits.TrailingZeros64(set)
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0); err == nil && has == 1 {
			s |= 1 << n
		}
	}
	return s
}

// apparmorEnabled says whether the kernel confines by AppArmor.
func apparmorEnabled() bool {
	b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && len(b) > 0 && b[0] == 'Y'
}

// noSELinux is why labels are refused: a restriction that cannot be applied
// stops the start.
const noSELinux = "SELinux labels are not supported by brig; leave the label out, or run with label=disable"
