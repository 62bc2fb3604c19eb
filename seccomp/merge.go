package seccomp

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// Merge returns the profile that allows what any of the given ones allows, as
// for recordings of several runs. For every target, and every call that one of
// its ABIs has, the answer of the merged profile is the most permissive of the
// answers of all, where ALLOW permits most, and then LOG, TRACE, NOTIFY, ERRNO,
// TRAP, KILL_THREAD and KILL_PROCESS. Between two errors, or two messages for
// tracers, that of a rule counts before the default action, and else that of
// the profile that is named first.
//
// For this purpose a profile answers calls that it does not name by its default
// action. In the merged profile, as in any, those above the newest call that it
// names get ENOSYS instead, and it counts as named what any of the given ones
// names: a call that is newer than one of them, but not than another, gets the
// default action.
//
// What cannot be said exactly is an error that names the call and the
// conditions: rules have "and", but no "not", and compare an argument once. The
// default action, the ABIs and the flags must be the same in all profiles, and
// so must be the listeners of those that have one. There is one exception from
// exactness: through socketcall and ipc, whose arguments no filter can see, the
// merged profile may permit less than each one, and never permits more.
//
// Rules that say the same are written once, names that have equal rules stand
// in one, sorted, and rules have no comments.
func Merge(profiles ...*Profile) (*Profile, error) { return mergeAll("merge", union, profiles) }

// Intersect is like [Merge], but the result allows what all given profiles
// allow: its answers are the least permissive ones.
func Intersect(profiles ...*Profile) (*Profile, error) {
	return mergeAll("intersect", intersection, profiles)
}

// answer is what a profile answers to a call.
type answer struct {
	action Action
	byRule bool
}

// chooser picks one of the answers of two profiles.
type chooser func(a, b answer) Action

func union(a, b answer) Action {
	switch {
	case a.action.stricterThan(b.action):
		return b.action
	case b.action.stricterThan(a.action):
		return a.action
	}
	return pickNamed(a, b)
}

func intersection(a, b answer) Action {
	switch {
	case a.action.stricterThan(b.action):
		return a.action
	case b.action.stricterThan(a.action):
		return b.action
	}
	return pickNamed(a, b)
}

// pickNamed picks between answers that permit the same.
func pickNamed(a, b answer) Action {
	if !a.byRule && b.byRule {
		return b.action
	}
	return a.action
}

func mergeAll(what string, choose chooser, profiles []*Profile) (*Profile, error) {
	if len(profiles) == 0 {
		return nil, fmt.Errorf("%s seccomp profiles: none given", what)
	}
	var files []string
	for _, p := range profiles {
		files = append(files, p.File)
	}
	fail := func(err error) (*Profile, error) {
		return nil, fmt.Errorf("%s seccomp profiles %s: %w", what, strings.Join(files, " and "), err)
	}
	merged, err := newRuleSet(profiles[0])
	if err != nil {
		return fail(err)
	}
	for _, p := range profiles[1:] {
		next, err := newRuleSet(p)
		if err != nil {
			return fail(err)
		}
		if merged, err = merged.merge(next, choose); err != nil {
			return fail(err)
		}
	}
	out, err := mergeHeads(profiles)
	if err != nil {
		return fail(err)
	}
	out.File = strings.Join(files, " and ")
	out.Syscalls = merged.rules()
	return out, nil
}

// mergeHeads joins all but the rules.
func mergeHeads(profiles []*Profile) (*Profile, error) {
	out := *profiles[0]
	out.ArchMap, out.Architectures = slices.Clone(out.ArchMap), slices.Clone(out.Architectures)
	for _, p := range profiles[1:] {
		switch {
		case p.DefaultAction != out.DefaultAction:
			return nil, fmt.Errorf("the default actions differ: %v and %v", out.DefaultAction, p.DefaultAction)
		case p.Flags != out.Flags || (p.FlagsGiven || p.Flags != 0) != (out.FlagsGiven || out.Flags != 0):
			return nil, errors.New("the flags differ")
		case p.ListenerPath != "" && out.ListenerPath != "" &&
			(p.ListenerPath != out.ListenerPath || p.ListenerMetadata != out.ListenerMetadata):
			return nil, errors.New("the listeners differ")
		}
		if out.ListenerPath == "" {
			out.ListenerPath, out.ListenerMetadata = p.ListenerPath, p.ListenerMetadata
		}
		for a := range Arch(maxArchs) {
			if x, y := sortedArchs(out.archs(a)), sortedArchs(p.archs(a)); !slices.Equal(x, y) {
				return nil, fmt.Errorf("the architectures differ: on %s, %s and %s", a.Short(),
					strings.Join(archNames(x, Arch.Short), " "), strings.Join(archNames(y, Arch.Short), " "))
			}
		}
	}
	return &out, nil
}

func sortedArchs(list []Arch) []Arch {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// ruleSet is a profile's rules by call. The rules of a call are tried in order,
// and the first that holds decides, also among those without conditions.
type ruleSet struct {
	otherwise Action
	calls     map[string][]mergeRule
	counted   map[string][]scope // where each call that is named counts for the newest
}

// mergeRule is a rule for one call.
type mergeRule struct {
	action Action
	args   []Condition // all must hold; here an argument may stand more than once
	scope  scope
}

// newRuleSet takes a profile apart. As rules without conditions decide before
// all others, they come first.
func newRuleSet(p *Profile) (*ruleSet, error) {
	s := &ruleSet{p.DefaultAction, map[string][]mergeRule{}, map[string][]scope{}}
	conditional := map[string][]mergeRule{}
	for i := range p.Syscalls {
		r := &p.Syscalls[i]
		rules := mergeRulesOf(r)
		seen := make(map[string]bool, len(r.Names))
		for j, name := range r.Names {
			if _, ok := r.call(j); !ok {
				return nil, &Error{File: p.File, Line: r.Line, Path: item(item("syscalls", i)+".names", j), Err: unknownName(name)}
			}
			if seen[name] || len(rules) == 0 {
				continue
			}
			seen[name] = true
			s.count(name, rules[0].scope)
			switch {
			case r.Action == p.DefaultAction:
			case len(r.Args) == 0:
				s.calls[name] = append(s.calls[name], rules...)
			default:
				conditional[name] = append(conditional[name], rules...)
			}
		}
	}
	for name, rules := range conditional {
		s.calls[name] = append(s.calls[name], rules...)
	}
	return s, nil
}

// mergeRulesOf returns the rules that one of a profile stands for: none if it
// applies nowhere.
func mergeRulesOf(r *SyscallRule) []mergeRule {
	where, ok := scope{r.Includes, r.Excludes}.and(scope{})
	if !ok {
		return nil
	}
	if !repeats(r.Args) {
		args := slices.Clone(r.Args)
		slices.SortFunc(args, func(a, b Condition) int { return cmp.Compare(a.Index, b.Index) })
		return []mergeRule{{r.Action, args, where}}
	}
	var rules []mergeRule
	for i := range r.Args {
		rules = append(rules, mergeRule{r.Action, r.Args[i : i+1 : i+1], where})
	}
	return rules
}

// count notes that a call is named where sc applies.
func (s *ruleSet) count(name string, sc scope) {
	if !slices.ContainsFunc(s.counted[name], sc.implies) {
		s.counted[name] = append(s.counted[name], sc)
	}
}

func (s *ruleSet) merge(other *ruleSet, choose chooser) (*ruleSet, error) {
	out := &ruleSet{s.otherwise, map[string][]mergeRule{}, map[string][]scope{}}
	for _, from := range []*ruleSet{s, other} {
		for name, scopes := range from.counted {
			for _, sc := range scopes {
				out.count(name, sc)
			}
		}
	}
	names := slices.Concat(slices.Collect(maps.Keys(s.calls)), slices.Collect(maps.Keys(other.calls)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		list, err := mergeCall(s.calls[name], other.calls[name], s.otherwise, choose)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(list) > 0 {
			out.calls[name] = list
		}
	}
	return out, checkMultiplexers(s, other, out, choose)
}

// maxMergePairs bounds the work for one call.
const maxMergePairs = 4096

// mergeCall returns the rules of one call that choose between the answers of
// two lists. In the list of all pairs of rules, one of each list, in the order
// of the first and then of the second, the first pair that holds is that of the
// rules that decide.
func mergeCall(a, b []mergeRule, otherwise Action, choose chooser) ([]mergeRule, error) {
	if len(a)*len(b) > maxMergePairs {
		return nil, fmt.Errorf("too many rules: %d and %d", len(a), len(b))
	}
	last := mergeRule{action: otherwise}
	var pairs []mergeRule
	for i := range len(a) + 1 {
		for j := range len(b) + 1 {
			x, y := last, last
			if i < len(a) {
				x = a[i]
			}
			if j < len(b) {
				y = b[j]
			}
			action := choose(answer{x.action, i < len(a)}, answer{y.action, j < len(b)})
			if both, ok := x.and(y); ok {
				both.action = action
				pairs = append(pairs, both)
			}
		}
	}
	list := prune(pairs)
	return list, expressible(list, otherwise)
}

// and returns the rule that holds where both do. It is false if there is no
// such place.
func (r mergeRule) and(s mergeRule) (mergeRule, bool) {
	where, ok := r.scope.and(s.scope)
	if !ok {
		return mergeRule{}, false
	}
	args := slices.Clone(r.args)
	for _, c := range s.args {
		same := func(have Condition) bool { return have.Index == c.Index }
		if slices.ContainsFunc(args, func(have Condition) bool { return same(have) && have.excludes(c) }) {
			return mergeRule{}, false
		}
		if slices.ContainsFunc(args, func(have Condition) bool { return same(have) && have.implies(c) }) {
			continue
		}
		args = slices.DeleteFunc(args, func(have Condition) bool { return same(have) && c.implies(have) })
		args = append(args, c)
	}
	slices.SortStableFunc(args, func(a, b Condition) int { return cmp.Compare(a.Index, b.Index) })
	return mergeRule{args: args, scope: where}, true
}

// implies reports whether s holds wherever r does. It may miss that it does.
func (r *mergeRule) implies(s *mergeRule) bool {
	if !r.scope.implies(s.scope) {
		return false
	}
	for _, want := range s.args {
		if !slices.ContainsFunc(r.args, func(c Condition) bool { return c.Index == want.Index && c.implies(want) }) {
			return false
		}
	}
	return true
}

// excludes reports whether the rules never hold together. It may miss that they
// do not.
func (r *mergeRule) excludes(s *mergeRule) bool {
	if _, ok := r.scope.and(s.scope); !ok {
		return true
	}
	for _, c := range r.args {
		if slices.ContainsFunc(s.args, func(d Condition) bool { return c.Index == d.Index && c.excludes(d) }) {
			return true
		}
	}
	return false
}

// prune takes rules out of a list without a change of its meaning: those that
// are never reached, and those where a later rule would do the same. The last
// rule, which always holds, is the default action, and is left out.
func prune(list []mergeRule) []mergeRule {
	var out []mergeRule
	for i := range list[:len(list)-1] {
		r := &list[i]
		if !slices.ContainsFunc(out, func(s mergeRule) bool { return r.implies(&s) }) {
			out = append(out, *r)
		}
	}
	out = append(out, list[len(list)-1])
	for i := len(out) - 2; i >= 0; i-- {
		if sameLater(&out[i], out[i+1:]) {
			out = slices.Delete(out, i, i+1)
		}
	}
	return out[:len(out)-1]
}

// sameLater reports whether the rules that follow r do the same without it.
func sameLater(r *mergeRule, later []mergeRule) bool {
	for i := range later {
		switch s := &later[i]; {
		case s.action == r.action && r.implies(s):
			return true
		case s.action != r.action && !r.excludes(s):
			return false
		}
	}
	return false
}

// expressible fails if a list of rules cannot stand in a profile.
func expressible(list []mergeRule, otherwise Action) error {
	for i := range list {
		r := &list[i]
		switch {
		case repeats(r.args):
			return fmt.Errorf(`no rule can ask for "%s": it compares an argument once`, r.text())
		case r.action == otherwise:
			return fmt.Errorf(`no rule can except "%s" from others: it would give the default action`, r.text())
		case len(r.args) > 0:
			continue
		}
		// A rule without conditions would decide before those above it.
		for j := range list[:i] {
			if s := &list[j]; len(s.args) > 0 && s.action != r.action && !r.excludes(s) {
				return fmt.Errorf(`no rules can give %v for "%s" and %v for all other arguments`, s.action, s.text(), r.action)
			}
		}
	}
	return nil
}

// text returns the conditions of a rule as the text form writes them.
func (r *mergeRule) text() string {
	rule := &SyscallRule{Names: []string{""}, Args: r.args}
	parts := appendClause(nil, "when", "and", textConditions(rule))
	parts = appendClause(parts, "if", "and", textSelector(&r.scope.in, "and"))
	parts = appendClause(parts, "unless", "or", textSelector(&r.scope.ex, "or"))
	return cmp.Or(strings.Join(parts, " "), "all arguments")
}

// rules puts the rules of all calls together again.
func (s *ruleSet) rules() []SyscallRule {
	groups := map[string]*ruleGroup{}
	add := func(name string, list []mergeRule) {
		key := fmt.Sprint(list)
		if groups[key] == nil {
			groups[key] = &ruleGroup{rules: list}
		}
		groups[key].names = append(groups[key].names, name)
	}
	for _, name := range slices.Sorted(maps.Keys(s.calls)) {
		list := s.calls[name]
		if slices.ContainsFunc(list, func(r mergeRule) bool { return r.action != list[0].action }) {
			add(name, list)
			continue
		}
		for i := range list { // their order means nothing
			add(name, list[i:i+1])
		}
	}
	tops := s.tops()
	for _, name := range slices.Sorted(maps.Keys(s.counted)) {
		for _, sc := range s.uncounted(name, &tops) {
			add(name, []mergeRule{{action: s.otherwise, scope: sc}})
		}
	}
	var out []SyscallRule
	for _, key := range slices.SortedFunc(maps.Keys(groups), func(a, b string) int {
		return cmp.Or(groups[a].compare(groups[b]), cmp.Compare(a, b))
	}) {
		g := groups[key]
		for _, r := range g.rules {
			rule := SyscallRule{Action: r.action, Args: r.args, Includes: r.scope.in, Excludes: r.scope.ex}
			for _, name := range g.names {
				rule.addName(name)
			}
			out = append(out, rule)
		}
	}
	return out
}

// ruleGroup is a list of rules with the calls that have it.
type ruleGroup struct {
	names []string
	rules []mergeRule
}

// compare orders groups: rules that hold always, by what they permit, and then
// the others by their first call.
func (g *ruleGroup) compare(h *ruleGroup) int {
	always := func(g *ruleGroup) int {
		if len(g.rules) == 1 && len(g.rules[0].args) == 0 && g.rules[0].scope.always() {
			return 0
		}
		return 1
	}
	if c := cmp.Compare(always(g), always(h)); c != 0 {
		return c
	}
	if always(g) == 0 {
		return permissiveFirst(g.rules[0].action, h.rules[0].action)
	}
	return cmp.Or(cmp.Compare(g.names[0], h.names[0]), slices.CompareFunc(g.rules[0].args, h.rules[0].args, Condition.compare))
}

// compare orders conditions for people to read.
func (c Condition) compare(d Condition) int {
	return cmp.Or(cmp.Compare(c.Index, d.Index), cmp.Compare(c.Op, d.Op), cmp.Compare(c.Value, d.Value), cmp.Compare(c.ValueTwo, d.ValueTwo))
}

// tops returns for each ABI the highest slot of the calls that count for every
// target, or 0; see [ArchRules].
func (s *ruleSet) tops() (tops [maxArchs]uint32) {
	for name, scopes := range s.counted {
		if !slices.ContainsFunc(scopes, scope.always) {
			continue
		}
		for a := range Arch(maxArchs) {
			tops[a] = max(tops[a], newestSlot(name, a))
		}
	}
	return tops
}

// newestSlot returns the slot by which a call counts for the newest, or 0.
func newestSlot(name string, a Arch) uint32 {
	newest := uint32(0)
	slots, n := slotsOf(callOf(name), a)
	for _, slot := range slots[:n] {
		if slot < closedSlots {
			newest = max(newest, slot)
		}
	}
	return newest
}

// uncounted returns where a call must be named only because it is the newest
// of those that the profiles named.
func (s *ruleSet) uncounted(name string, tops *[maxArchs]uint32) []scope {
	var list []scope
	for _, sc := range s.counted[name] {
		if slices.ContainsFunc(s.calls[name], func(r mergeRule) bool { return sc.implies(r.scope) }) {
			continue
		}
		for a := range Arch(maxArchs) {
			slot := newestSlot(name, a)
			if slot > tops[a] || slot > 0 && slot == tops[a] && sc.always() {
				list = append(list, sc)
				break
			}
		}
	}
	return list
}

// checkMultiplexers fails if a merged profile permits more through socketcall
// or ipc than the profiles that it was made of.
func checkMultiplexers(a, b, merged *ruleSet, choose chooser) error {
	for c := syscalls.Call(1); c.Name() != ""; c++ {
		through, _, ok := multiplexer(c.Name())
		if !ok {
			continue
		}
		sets := [3]*ruleSet{a, b, merged}
		if allowanceAlone(sets, through, c.Name()) {
			continue
		}
		var lists [3][]mergeRule
		for i, s := range sets {
			var err error
			if lists[i], err = s.behind(through, c.Name()); err != nil {
				return err
			}
		}
		if err := checkMultiplexed(lists, a.otherwise, choose); err != nil {
			return fmt.Errorf("%s, as reached through %s: %w", c.Name(), through, err)
		}
	}
	return nil
}

// allowanceAlone reports whether all rules for the named calls have one action,
// which permits more than the default. What is permitted through either call is
// then what any of the rules permits, and so it is in what was merged.
func allowanceAlone(sets [3]*ruleSet, names ...string) bool {
	var actions []Action
	for _, s := range sets {
		for _, name := range names {
			for _, r := range s.calls[name] {
				actions = append(actions, r.action)
			}
		}
	}
	slices.Sort(actions)
	actions = slices.Compact(actions)
	return len(actions) == 0 || len(actions) == 1 && sets[0].otherwise.stricterThan(actions[0])
}

// behind returns the rules for a call that is reached through another; see
// [Profile.Resolve].
func (s *ruleSet) behind(through, name string) ([]mergeRule, error) {
	var list []mergeRule
	for _, r := range s.calls[through] {
		if len(r.args) > 0 {
			return nil, fmt.Errorf("%s: conditions on its arguments cannot be merged", through)
		}
		list = append(list, r)
	}
	for _, r := range s.calls[name] {
		if len(r.args) == 0 || r.action.stricterThan(s.otherwise) {
			list = append(list, mergeRule{action: r.action, scope: r.scope})
		}
	}
	return list, nil
}

// checkMultiplexed compares what two lists without conditions and their merged
// one decide, over all targets that they can tell apart.
func checkMultiplexed(lists [3][]mergeRule, otherwise Action, choose chooser) error {
	var scopes []scope
	for _, list := range lists {
		for _, r := range list {
			scopes = append(scopes, r.scope)
		}
	}
	targets, err := distinct(scopes)
	if err != nil {
		return err
	}
	for _, t := range targets {
		var answers [3]answer
		for i, list := range lists {
			answers[i].action = otherwise
			at := slices.IndexFunc(list, func(r mergeRule) bool { return r.scope.applies(t) })
			if at >= 0 {
				answers[i] = answer{list[at].action, true}
			}
		}
		if want := choose(answers[0], answers[1]); want.stricterThan(answers[2].action) {
			return fmt.Errorf("it would get %v, and not %v, whatever its arguments, which no filter sees there", answers[2].action, want)
		}
	}
	return nil
}

// distinct returns one target of each sort that the scopes tell apart.
func distinct(scopes []scope) ([]Target, error) {
	var caps capability.Set
	archs := []Arch{maxArchs} // one that no scope names
	kernels := []KernelVersion{{}}
	for _, sc := range scopes {
		caps = caps.Union(sc.in.Caps).Union(sc.ex.Caps)
		archs = slices.Concat(archs, sc.in.Arches, sc.ex.Arches)
		kernels = append(kernels, sc.in.MinKernel, sc.ex.MinKernel)
	}
	archs = sortedArchs(archs)
	slices.SortFunc(kernels, KernelVersion.compare)
	kernels = slices.Compact(kernels)
	list := caps.List()
	if len(list) > 10 {
		return nil, fmt.Errorf("depends on too many capabilities: %v", caps)
	}
	var targets []Target
	for bits := range 1 << len(list) {
		var some capability.Set
		for i, c := range list {
			if bits>>i&1 == 1 {
				some = some.Add(c)
			}
		}
		for _, a := range archs {
			for _, k := range kernels {
				targets = append(targets, Target{Arch: a, Caps: some, Kernel: k})
			}
		}
	}
	return targets, nil
}
