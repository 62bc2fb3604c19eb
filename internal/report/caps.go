package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
)

// capsView is the section of capabilities.
type capsView struct {
	Cells   []capCell
	Legend  []legendItem
	Asked   []capRow // all that the policy has an entry for
	Dropped []capRow // granted by default, never asked for
}

// legendItem explains a class of cells, with how many there are.
type legendItem struct {
	Class, Text string
	Count       int
}

// capCell is a capability in the grid. Class is one of the legend's.
type capCell struct {
	Name, Class, State, Allows string
	Link                       string // to its row, or ""
	Default                    bool
}

// capRow is a capability in full.
type capRow struct {
	ID, Name, Class, State, Allows string
	Default, Granted               bool
	Breaks, Why, Comment           string
	Without                        string // instead of Breaks
	Counts                         string
	Programs, Syscalls             []string
}

// States of capabilities in the grid, with the class of each and what it says.
var capStates = [...]legendItem{
	{Class: "verified", Text: "granted: removal breaks it"},
	{Class: "asked", Text: "granted: was used"},
	{Class: "added", Text: "granted by hand"},
	{Class: "unneeded", Text: "not granted: used, not needed"},
	{Class: "noise", Text: "not granted: the kernel’s bookkeeping"},
	{Class: "refused", Text: "not granted: was refused"},
	{Class: "dropped", Text: "taken away: never asked for"},
	{Class: "off", Text: "not granted, never asked for"},
}

func (m *model) capabilities() capsView {
	var v capsView
	v.Legend = slices.Clone(capStates[:])
	entries := map[capability.Cap]*policy.Capability{}
	all := capability.Known().Union(m.Capabilities).Union(m.Default)
	for i := range m.p.Capabilities {
		if c, err := capability.Parse(m.p.Capabilities[i].Name); err == nil {
			entries[c] = &m.p.Capabilities[i]
			all = all.Add(c)
		}
	}
	refused := m.refusedCaps()
	for _, c := range all.List() {
		class := m.capClass(c, entries[c], refused)
		item := legendOf(v.Legend, class)
		item.Count++
		row := m.capRow(c, entries[c], class, item.Text)
		cell := capCell{Name: row.Name, Class: class, State: item.Text, Allows: row.Allows, Default: row.Default}
		switch {
		case entries[c] != nil || row.Granted:
			cell.Link = row.ID
			v.Asked = append(v.Asked, row)
		case row.Default:
			cell.Link = row.ID
			v.Dropped = append(v.Dropped, row)
		}
		v.Cells = append(v.Cells, cell)
	}
	slices.SortStableFunc(v.Asked, func(a, b capRow) int { return capRank(a.Class) - capRank(b.Class) })
	v.Legend = slices.DeleteFunc(v.Legend, func(l legendItem) bool { return l.Count == 0 })
	return v
}

func legendOf(legend []legendItem, class string) *legendItem {
	return &legend[slices.IndexFunc(legend, func(l legendItem) bool { return l.Class == class })]
}

func capRank(class string) int {
	return slices.IndexFunc(capStates[:], func(l legendItem) bool { return l.Class == class })
}

// refusedCaps are those that some denial was for.
func (m *model) refusedCaps() capability.Set {
	var set capability.Set
	for _, d := range m.p.Denials {
		for _, name := range d.Capabilities {
			if c, err := capability.Parse(name); err == nil {
				set = set.Add(c)
			}
		}
	}
	return set
}

func (m *model) capClass(c capability.Cap, e *policy.Capability, refused capability.Set) string {
	if m.Capabilities.Has(c) {
		switch {
		case e == nil || e.Status == policy.Added || e.Status == policy.Base:
			return "added"
		case e.Status == policy.Verified:
			return "verified"
		}
		return "asked"
	}
	switch {
	case e != nil && e.Status == policy.Noise:
		return "noise"
	case e != nil && (e.Granted > 0 || e.Refused == 0):
		return "unneeded"
	case e != nil || refused.Has(c):
		return "refused"
	case m.Default.Has(c):
		return "dropped"
	}
	return "off"
}

func (m *model) capRow(c capability.Cap, e *policy.Capability, class, state string) capRow {
	row := capRow{ID: "cap-" + c.Short(), Name: c.Short(), Class: class, State: state, Allows: c.Allows(),
		Default: m.Default.Has(c), Granted: m.Capabilities.Has(c), Without: without(class)}
	if e == nil {
		return row
	}
	row.Breaks, row.Why, row.Comment = clean(e.Breaks), clean(e.Why), clean(e.Comment)
	row.Programs, row.Syscalls = cleanAll(e.Programs), cleanAll(e.Syscalls)
	row.Counts = capCounts(e, m.learnRuns())
	return row
}

// without says what is known of running without a capability, where no proof
// says it better.
func without(class string) string {
	switch class {
	case "verified":
		return "It breaks."
	case "asked":
		return "Nobody tried."
	case "added":
		return "Nobody tried: it was put in by hand."
	case "unneeded":
		return "The probe passes without it."
	case "noise":
		return "Nothing is lost: the program never asked."
	case "refused":
		return "The container had to do without it."
	}
	return ""
}

// capCounts says how often a capability was asked for.
func capCounts(e *policy.Capability, runs int) string {
	var parts []string
	if e.Granted > 0 {
		parts = append(parts, "granted "+times(e.Granted))
	}
	if e.Refused > 0 {
		parts = append(parts, "refused "+times(e.Refused))
	}
	if e.Runs > 0 && runs > 0 {
		parts = append(parts, fmt.Sprintf("in %d of %s", e.Runs, plural(runs, "run", "runs")))
	}
	return strings.Join(parts, ", ")
}

func (m *model) learnRuns() int {
	n := 0
	for _, r := range m.p.Runs {
		if r.Purpose != policy.PurposeProve {
			n++
		}
	}
	return n
}

func times(n uint64) string {
	if n == 1 {
		return "once"
	}
	return count(n) + " times"
}

func cleanAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = clean(s)
	}
	return out
}
