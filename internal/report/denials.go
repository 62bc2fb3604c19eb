package report

import (
	"fmt"
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
	Flag, Edit         string // a flag of brig run, and an entry for the policy
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
	seccomp, caps := strings.Contains(d.By, "seccomp"), capNames(d.Capabilities)
	row.By = by(seccomp, caps)
	m.fix(&row, d, seccomp, caps, unlockers[d.Syscall])
	return row
}

func by(seccomp bool, caps []string) string {
	var parts []string
	if seccomp {
		parts = append(parts, "seccomp")
	}
	if len(caps) > 0 {
		parts = append(parts, "CAP_"+strings.Join(caps, " or CAP_"))
	}
	return strings.Join(parts, " and ")
}

// fix says what would let the call through, if something is missing.
func (m *model) fix(row *denialRow, d *policy.Denial, seccomp bool, caps, unlockers []string) {
	callAllowed := !seccomp || allows(m.byName[d.Syscall])
	capGranted := len(caps) == 0 || m.grantsAny(caps)
	switch {
	case callAllowed && capGranted:
		row.Settled, row.Fix = true, "The policy allows it now."
		return
	case seccomp && d.Errno == "ENOSYS" && len(caps) == 0:
		row.Settled, row.Fix = true, "Harmless as a rule: programs fall back on older calls."
		row.Edit = entry(d.Syscall)
		return
	}
	if !capGranted {
		row.Flag, row.Edit = "--cap-add "+caps[0], entry(caps[0])
		row.Fix = "Grant " + strings.Join(caps, " or ") + "."
	} else if len(unlockers) > 0 {
		row.Flag = "--cap-add " + unlockers[0]
		row.Fix = fmt.Sprintf("Allow the call in the policy, or, under Docker’s default profile, grant %s.", strings.Join(unlockers, " or "))
	} else {
		row.Fix = "Allow the call in the policy."
	}
	if !callAllowed {
		if row.Edit != "" {
			row.Fix += " The policy must allow the call, too."
			row.Edit += "\n"
		}
		row.Edit += entry(d.Syscall)
	}
	if strings.HasSuffix(row.Flag, " SYS_ADMIN") {
		row.Fix += " SYS_ADMIN makes a container nearly root of the host."
	}
}

// entry is an entry for the lists "capabilities" and "syscalls" of a policy.
func entry(name string) string {
	return fmt.Sprintf(`{"name": %q, "status": %q}`, name, policy.Added)
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
