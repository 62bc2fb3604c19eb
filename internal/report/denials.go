package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
)

// denialsView is the section of denials.
type denialsView struct {
	Rows    []denialRow
	Summary string
	Proved  bool // the proof passed with these refused
}

type denialRow struct {
	Call, ABI, Program string
	Outcome, By        string
	Count              string
	Runs               string
	Settled            bool // nothing is left to do
	Fix                string
	Flag, Edit         string // a flag of brig run, and entries for the policy
	Reason             string // what the call does, if that is a reason to refuse it
}

func (m *model) denials() denialsView {
	v := denialsView{Proved: m.proved}
	if len(m.p.Denials) == 0 {
		v.Summary = "nothing was refused"
		return v
	}
	unlockers := m.access.unlockers()
	open := 0
	for i := range m.p.Denials {
		row := m.denialRow(&m.p.Denials[i], unlockers)
		if !row.Settled {
			open++
		}
		v.Rows = append(v.Rows, row)
	}
	v.Summary = fmt.Sprintf("%d still refused", open)
	return v
}

func (m *model) denialRow(d *policy.Denial, unlockers map[string][]string) denialRow {
	row := denialRow{Call: clean(d.Syscall), Program: clean(d.Program), Outcome: clean(d.Errno), Count: times(d.Count)}
	if d.ABI != m.arch.Short() {
		row.ABI = clean(d.ABI)
	}
	if d.Runs > 0 {
		row.Runs = fmt.Sprintf("in %s", plural(d.Runs, "run", "runs"))
	}
	switch {
	case d.Killed:
		row.Outcome = "killed"
	case d.Errno == "":
		row.Outcome = "SIGSYS"
	}
	bySeccomp, caps := strings.Contains(d.By, "seccomp"), capNames(d.Capabilities)
	row.By = by(bySeccomp, caps)
	m.fix(&row, d, bySeccomp, caps, unlockers[d.Syscall])
	return row
}

func by(filter bool, caps []string) string {
	var parts []string
	if filter {
		parts = append(parts, "seccomp")
	}
	if len(caps) > 0 {
		parts = append(parts, "CAP_"+strings.Join(caps, " or CAP_"))
	}
	return strings.Join(parts, " and ")
}

// fix says what would let the call through, if something is missing.
func (m *model) fix(row *denialRow, d *policy.Denial, bySeccomp bool, caps, unlockers []string) {
	callAllowed := !bySeccomp || allows(m.byName[d.Syscall]) && !enforces(m.byName[d.Syscall])
	capGranted := len(caps) == 0 || m.grantsAny(caps)
	switch {
	case callAllowed && capGranted:
		row.Settled, row.Fix = true, "The policy allows it now."
		return
	case bySeccomp && d.Errno == "ENOSYS" && len(caps) == 0:
		row.Settled, row.Fix = true, "Harmless as a rule: programs fall back on older calls."
		return
	}
	var edits []string
	if !capGranted {
		row.Fix = "Grant " + strings.Join(caps, " or ") + "."
		row.Flag = "--cap-add " + caps[0]
		edits = append(edits, entry("capabilities", caps[0], ""))
	}
	if !callAllowed {
		row.Reason = reasonFor(d.Syscall)
		row.Fix = strings.TrimSpace(row.Fix + " " + m.callFix(d, capGranted, unlockers))
		if capGranted && len(unlockers) > 0 {
			row.Flag = "--cap-add " + unlockers[0]
		}
		abi := ""
		if d.ABI != m.arch.Short() {
			abi = d.ABI
		}
		edits = append(edits, entry("syscalls", d.Syscall, abi))
	}
	row.Edit = clean(strings.Join(edits, "\n"))
	if strings.HasSuffix(row.Flag, " SYS_ADMIN") {
		row.Fix += " SYS_ADMIN makes a container nearly root of the host."
	}
}

// callFix is the part of a fix that is about the filter.
func (m *model) callFix(d *policy.Denial, capGranted bool, unlockers []string) string {
	switch {
	case enforces(m.byName[d.Syscall]):
		return "The policy allows the call with some arguments only: add the value, or do not enforce them."
	case !capGranted:
		return "The policy must allow the call, too."
	case len(unlockers) > 0:
		return "Allow the call in the policy; Docker’s default profile allows it with " + strings.Join(unlockers, " or ") + "."
	}
	return "Allow the call in the policy."
}

// enforces reports whether an entry allows its call with some arguments only.
func enforces(s *policy.Syscall) bool {
	return s != nil && slices.ContainsFunc(s.Args, func(a policy.Arg) bool { return a.Enforce })
}

// entry is an entry for a list of a policy.
func entry(list, name, abi string) string {
	abis := ""
	if abi != "" {
		abis = fmt.Sprintf(`, "abis": [%q]`, abi)
	}
	return fmt.Sprintf(`%s: {"name": %q, "status": %q%s}`, list, name, policy.Added, abis)
}

func (m *model) grantsAny(names []string) bool {
	for _, n := range names {
		if c, err := capability.Parse(n); err == nil && m.Capabilities.Has(c) {
			return true
		}
	}
	return false
}

func capNames(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = clean(strings.TrimPrefix(n, "CAP_"))
	}
	return out
}
