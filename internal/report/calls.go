package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// callsView is the section of system calls.
type callsView struct {
	All     int // that the machine's first ABI has
	Allowed int // of them, by the policy
	Seen    int // of those, in some run
	Foreign int // allowed for other ABIs only
	Scanned bool
	Legend  []legendItem
	Groups  []callGroup
	Reached []reachedRow
}

// callGroup is a group of calls: the cells of all, and the rows of those that
// there is something to say about.
type callGroup struct {
	ID, Title, About string
	Allowed, All     int
	Cells            []callCell
	Rows             []callRow
	Blocked          []string
}

// callCell is a call in the strip of its group.
type callCell struct{ Name, Class, State string }

// callRow is a call in full.
type callRow struct {
	Name, Class, State string
	ABIs               string
	Startup, Running   string
	Program, When      string
	Args               []argWords
	Breaks, Comment    string
	Notes              []string
}

// argWords are arguments in words, and what else is to say about them.
type argWords struct{ Text, Note string }

type reachedRow struct{ Name, How, Group string }

// States of system calls, in the order of the strips.
var callStates = [...]legendItem{
	{Class: "verified", Text: "allowed: removal breaks it"},
	{Class: "used", Text: "allowed: was used"},
	{Class: "unseen", Text: "allowed, never seen"},
	{Class: "denied", Text: "blocked: was denied"},
	{Class: "unneeded", Text: "blocked: used, not needed"},
	{Class: "reach", Text: "blocked: reachable, never seen"},
	{Class: "off", Text: "blocked"},
}

// allows reports whether an entry lets its call through.
func allows(s *policy.Syscall) bool {
	return s != nil && s.Status != policy.Unneeded && s.Status != policy.Noise
}

// used reports whether a run made the call.
func used(s *policy.Syscall) bool {
	return s.Startup+s.Running > 0 || s.Runs > 0 || s.First != nil
}

// native reports whether an entry is for the machine's first ABI, among others.
func (m *model) native(s *policy.Syscall) bool {
	return len(s.ABIs) == 0 || slices.Contains(s.ABIs, m.arch.Short())
}

func (m *model) calls() callsView {
	v := callsView{Legend: slices.Clone(callStates[:]), Scanned: m.Scanned || len(m.Reachable) > 0}
	groupsOf := make([]callGroup, len(groups))
	for i, g := range groups {
		groupsOf[i] = callGroup{ID: "calls-" + g.id, Title: g.title, About: g.about}
	}
	denied := m.deniedCalls()
	for _, name := range m.names() {
		g := &groupsOf[groupOf(name)]
		m.addCall(&v, g, name, denied[name])
	}
	for _, g := range groupsOf {
		if len(g.Cells) == 0 {
			continue
		}
		slices.SortStableFunc(g.Cells, func(a, b callCell) int {
			return cmp.Or(callRank(a.Class)-callRank(b.Class), strings.Compare(a.Name, b.Name))
		})
		slices.SortStableFunc(g.Rows, func(a, b callRow) int {
			return cmp.Or(callRank(a.Class)-callRank(b.Class), strings.Compare(a.Name, b.Name))
		})
		slices.Sort(g.Blocked)
		v.Groups = append(v.Groups, g)
	}
	v.Legend = slices.DeleteFunc(v.Legend, func(l legendItem) bool { return l.Count == 0 })
	v.Reached = m.reachedRows()
	return v
}

// addCall puts one call into its group and counts it.
func (m *model) addCall(v *callsView, g *callGroup, name string, denied bool) {
	s := m.byName[name]
	class := m.callClass(name, s, denied)
	item := legendOf(v.Legend, class)
	item.Count++
	g.Cells = append(g.Cells, callCell{clean(name), class, item.Text})
	g.All++
	_, hasNumber := syscalls.Number(m.arch, name)
	if hasNumber {
		v.All++
	}
	switch {
	case allows(s) && hasNumber && m.native(s):
		v.Allowed++
		g.Allowed++
		if used(s) {
			v.Seen++
		}
	case allows(s):
		v.Foreign++
		g.Allowed++
	}
	if class == "off" {
		g.Blocked = append(g.Blocked, name)
		return
	}
	g.Rows = append(g.Rows, m.callRow(name, s, class))
}

// names are the calls of the machine's first ABI and all others that the policy,
// the denials or the scan speak of, each once.
func (m *model) names() []string {
	var names []string
	for _, name := range syscalls.All(m.arch) {
		names = append(names, name)
	}
	for i := range m.p.Syscalls {
		names = append(names, m.p.Syscalls[i].Name)
	}
	for _, d := range m.p.Denials {
		if d.Syscall != "" {
			names = append(names, d.Syscall)
		}
	}
	for name := range m.reached {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (m *model) deniedCalls() map[string]bool {
	denied := map[string]bool{}
	for _, d := range m.p.Denials {
		denied[d.Syscall] = true
	}
	return denied
}

func (m *model) callClass(name string, s *policy.Syscall, denied bool) string {
	_, reached := m.reached[name]
	switch {
	case allows(s) && s.Status == policy.Verified:
		return "verified"
	case allows(s) && used(s):
		return "used"
	case allows(s):
		return "unseen"
	case denied:
		return "denied"
	case s != nil:
		return "unneeded"
	case reached:
		return "reach"
	}
	return "off"
}

// shortState is the state of a call in a table.
func shortState(class string) string {
	switch class {
	case "verified":
		return "verified"
	case "used":
		return "used"
	case "unseen":
		return "allowed"
	case "denied":
		return "denied"
	case "unneeded":
		return "not needed"
	case "reach":
		return "reachable"
	}
	return "blocked"
}

func callRank(class string) int {
	return slices.IndexFunc(callStates[:], func(l legendItem) bool { return l.Class == class })
}

func (m *model) callRow(name string, s *policy.Syscall, class string) callRow {
	row := callRow{Name: clean(name), Class: class, State: shortState(class), Startup: "–", Running: "–"}
	if how, ok := m.reached[name]; ok {
		row.Notes = append(row.Notes, "Reachable: "+how)
	}
	if s == nil {
		return row
	}
	row.Breaks, row.Comment = clean(s.Breaks), clean(s.Comment)
	if len(s.ABIs) > 0 && !(len(s.ABIs) == 1 && m.native(s)) {
		row.ABIs = clean(strings.Join(s.ABIs, ", "))
	}
	if s.Status == policy.Base {
		row.Notes = append(row.Notes, "Part of every policy: starting a program needs it")
	} else if s.Status == policy.Added {
		row.Notes = append(row.Notes, "Added by hand")
	}
	if s.Startup+s.Running > 0 {
		row.Startup, row.Running = count(s.Startup), count(s.Running)
	}
	if s.First != nil {
		row.Program, row.When = clean(s.First.Program), duration(s.First.Seconds)
		if s.First.Thread != "" {
			row.Program += ", thread " + clean(s.First.Thread)
		}
	}
	row.Args = argumentWords(s)
	row.Notes = append(row.Notes, triedWords(s)...)
	return row
}

// argumentWords has one line for what filters can see and one for what lies in
// memory.
func argumentWords(s *policy.Syscall) []argWords {
	var plain, memory []policy.Arg
	var enforced []string
	for _, a := range s.Args {
		if a.Memory {
			memory = append(memory, a)
			continue
		}
		plain = append(plain, a)
		if a.Enforce {
			enforced = append(enforced, fmt.Sprint(a.Index))
		}
	}
	var words []argWords
	if text := callWords(s.Name, plain); text != "" {
		note := ""
		switch {
		case len(enforced) > 0 && len(enforced) == len(plain):
			note = "enforced: other values are refused"
		case len(enforced) > 0:
			note = "enforced for argument " + and(enforced)
		}
		words = append(words, argWords{clean(text), note})
	}
	if text := callWords(s.Name, memory); text != "" {
		words = append(words, argWords{clean(text), "in memory, where no filter can look"})
	}
	return words
}

// triedWords say what came of running without values of arguments.
func triedWords(s *policy.Syscall) (list []string) {
	for _, a := range s.Args {
		for _, t := range a.Tried {
			value := clean(valueWords(s.Name, s.Args, a.Index, t.Value))
			if t.Status == policy.Verified {
				list = append(list, fmt.Sprintf("Without %s: %s", value, clean(t.Breaks)))
			} else if a.Enforce {
				list = append(list, fmt.Sprintf("%s is refused: used, not needed", value))
			}
		}
	}
	return list
}

func (m *model) reachedRows() []reachedRow {
	var rows []reachedRow
	for name, how := range m.reached {
		if !allows(m.byName[name]) {
			rows = append(rows, reachedRow{clean(name), how, groups[groupOf(name)].title})
		}
	}
	slices.SortFunc(rows, func(a, b reachedRow) int { return strings.Compare(a.Name, b.Name) })
	return rows
}
