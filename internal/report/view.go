package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/internal/policy/export"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// view is what the template shows: text that is ready to be read.
type view struct {
	CSP string

	Title   string
	Facts   []fact
	Comment string

	Verdict  string
	Proof    mark
	Evidence []mark
	Warnings []warning
	Tiles    []tile

	Surface  surface
	Caps     capsView
	Calls    callsView
	Timeline *timeline
	Denials  denialsView
	Runs     []runRow
	Probe    string // that judged all runs, or ""
	Notes    []string
	Commands []Command
}

// fact is a line of the head.
type fact struct {
	Label, Text string
	Code        bool
}

// mark is a statement with a sign that says without colour whether it is good.
type mark struct {
	OK   bool
	Text string
}

// warning is what a reader must not miss.
type warning struct{ Title, Text string }

// tile is a figure. Of follows it: "/ 14 by default".
type tile struct{ Label, Figure, Of, Note string }

// model is what the parts of the page are made from.
type model struct {
	Input
	p       *policy.Policy
	arch    syscalls.Arch // the machine's first ABI
	byName  map[string]*policy.Syscall
	reached map[string]string // how, of the calls that no run made
	access  accessTable
	proved  bool
}

func newView(in Input) (*view, error) {
	m, err := newModel(in)
	if err != nil {
		return nil, err
	}
	v := &view{Comment: clean(m.p.Comment), Commands: in.Commands}
	m.head(v)
	v.Proof, v.Evidence = m.proof(), m.evidence()
	v.Caps = m.capabilities()
	v.Calls = m.calls()
	v.Surface = m.surface(&v.Calls)
	v.Timeline = m.timeline()
	v.Denials = m.denials()
	v.Runs, v.Probe = m.runs(), m.commonProbe()
	for _, n := range m.p.Notes {
		v.Notes = append(v.Notes, clean(n))
	}
	v.Verdict = m.verdict(v)
	v.Warnings = m.warnings()
	v.Tiles = m.tiles(v)
	return v, nil
}

func newModel(in Input) (*model, error) {
	m := &model{Input: in, p: in.Policy, byName: map[string]*policy.Syscall{}, reached: map[string]string{}}
	m.arch = machine(m.p)
	for i := range m.p.Syscalls {
		m.byName[m.p.Syscalls[i].Name] = &m.p.Syscalls[i]
	}
	for _, r := range in.Reachable {
		if s := m.byName[r.Name]; s == nil || !used(s) {
			m.reached[r.Name] = clean(r.How)
		}
	}
	passed, failed := m.proofs()
	m.proved = passed > 0 && failed == 0
	var err error
	m.access, err = newAccessTable(m)
	return m, err
}

// machine is the ABI of the machine that the policy was learned on: that of the
// first run that says it.
func machine(p *policy.Policy) syscalls.Arch {
	for _, r := range p.Runs {
		if a, err := seccomp.ParseArchName(r.Machine); err == nil && r.Machine != "" && a.HasTable() {
			return a
		}
	}
	if a, ok := syscalls.Native(); ok {
		return a
	}
	return syscalls.X86_64
}

func (m *model) head(v *view) {
	v.Title = clean(m.p.Name)
	if m.p.Image != nil {
		if v.Title == "" {
			v.Title = clean(m.p.Image.Reference)
		} else if m.p.Image.Reference != "" && m.p.Image.Reference != m.p.Name {
			v.Facts = append(v.Facts, fact{"Image", clean(m.p.Image.Reference), true})
		}
		if m.p.Image.Digest != "" {
			v.Facts = append(v.Facts, fact{"Digest", clean(m.p.Image.Digest), true})
		}
	}
	if v.Title == "" {
		v.Title = "Policy"
	}
	if len(m.p.Command) > 0 {
		v.Facts = append(v.Facts, fact{"Command", clean(export.ShellWords(m.p.Command)), true})
	}
	if m.p.User != "" {
		v.Facts = append(v.Facts, fact{"User", clean(m.p.User), true})
	}
	if len(m.p.Runs) > 0 {
		v.Facts = append(v.Facts, fact{"Learned", m.learnedOn(), false})
	}
}

func (m *model) learnedOn() string {
	first, kernel := m.p.Runs[0], ""
	for _, r := range m.p.Runs {
		if r.Started.Before(first.Started) {
			first = r
		}
		if r.Kernel != "" {
			kernel = ", Linux " + clean(r.Kernel)
		}
	}
	date := ""
	if !first.Started.IsZero() {
		date = first.Started.UTC().Format("2 January 2006, 15:04 MST") + kernel
	} else {
		date = strings.TrimPrefix(kernel, ", ")
	}
	return strings.TrimPrefix(date+", "+m.arch.Short(), ", ")
}

// verdict is the sentence that most readers want.
func (m *model) verdict(v *view) string {
	inDefault := m.Capabilities.Intersect(m.Default)
	extra := m.Capabilities.Minus(m.Default)
	if m.Capabilities.Empty() && v.Calls.Allowed+v.Calls.Foreign == 0 {
		return "The policy is empty: no capability, no system call."
	}
	var caps string
	switch {
	case m.Capabilities.Empty():
		caps = "no capability"
	case inDefault.Empty():
		caps = shorts(extra)
	default:
		caps = fmt.Sprintf("%d of %d default capabilities", inDefault.Len(), m.Default.Len())
		switch {
		case extra.Len() > 2:
			caps += fmt.Sprintf(", %d others", extra.Len())
		case !extra.Empty():
			caps += ", " + strings.ReplaceAll(shorts(extra), " and ", ", ")
		}
	}
	return fmt.Sprintf("Needs %s and %d of %d system calls.", caps, v.Calls.Allowed, v.Calls.All)
}

func (m *model) tiles(v *view) []tile {
	learned, proofs := 0, 0
	for _, r := range m.p.Runs {
		if r.Purpose == policy.PurposeProve {
			proofs++
		} else {
			learned++
		}
	}
	verified := 0
	for _, c := range m.p.Capabilities {
		if c.Status == policy.Verified {
			verified++
		}
	}
	of := "of"
	if !m.Default.Contains(m.Capabilities) {
		of = "against"
	}
	return []tile{
		{"Capabilities", fmt.Sprint(m.Capabilities.Len()), fmt.Sprintf("%s %d by default", of, m.Default.Len()),
			fmt.Sprintf("%d verified: removal breaks it", verified)},
		{"System calls", fmt.Sprint(v.Calls.Allowed), fmt.Sprintf("of %d", v.Calls.All),
			fmt.Sprintf("%d were seen", v.Calls.Seen)},
		{"Against Docker’s default", v.Surface.Change, "calls", fmt.Sprintf("%d are let through there", v.Surface.Default)},
		{"Runs", fmt.Sprint(learned), "to learn", plural(proofs, "run", "runs") + " to prove"},
		{"Denials", fmt.Sprint(len(v.Denials.Rows)), "distinct", v.Denials.Summary},
	}
}

func (m *model) warnings() []warning {
	var w []warning
	if m.p.IOUring {
		w = append(w, warning{"io_uring was used", "Work that a program hands to io_uring passes no seccomp filter, and no recorder of system calls sees it. " +
			"This policy says nothing about that work. Prefer to turn io_uring off in the program, and learn again."})
	}
	if passed, failed := m.proofs(); failed > 0 {
		w = append(w, warning{"The proof failed", fmt.Sprintf("Under the policy itself, %s of %d failed its probe. Do not use the policy as it is.",
			plural(failed, "run", "runs"), passed+failed)})
	}
	if n := m.incomplete(); n > 0 {
		w = append(w, warning{"The recording is not complete", fmt.Sprintf("In %s the recorder lost something; the table of runs says what. The policy may lack entries.",
			plural(n, "run", "runs"))})
	}
	if strong := m.Capabilities.Intersect(powerful()); !strong.Empty() {
		w = append(w, warning{"It grants " + shorts(strong), "With that, whoever controls the container can take over the host. Look for a way to do without."})
	}
	if beyond := m.beyondDefault(); len(beyond) > 0 {
		w = append(w, warning{"It allows more than Docker’s default",
			"These system calls are refused by default and allowed here: " + firstOf(beyond, 8) + "."})
	}
	return w
}

func (m *model) incomplete() int {
	n := 0
	for i := range m.p.Runs {
		if !m.p.Runs[i].Complete {
			n++
		}
	}
	return n
}

func (m *model) proofs() (passed, failed int) {
	for _, r := range m.p.Runs {
		if r.Purpose != policy.PurposeProve || r.Passed == nil {
			continue
		}
		if *r.Passed {
			passed++
		} else {
			failed++
		}
	}
	return passed, failed
}

// proof says whether the policy was tried.
func (m *model) proof() mark {
	passed, failed := m.proofs()
	switch {
	case failed > 0:
		return mark{false, fmt.Sprintf("Not proved: %d of %d runs under the policy failed", failed, passed+failed)}
	case passed > 0:
		return mark{true, "Proved by " + plural(passed, "run", "runs")}
	}
	return mark{false, "Not proved: no run was made under the policy itself"}
}

// evidence says how much the runs can be trusted to have seen all.
func (m *model) evidence() []mark {
	var learned []policy.Run
	for _, r := range m.p.Runs {
		if r.Purpose != policy.PurposeProve {
			learned = append(learned, r)
		}
	}
	if len(learned) == 0 {
		return []mark{{false, "No run was recorded"}}
	}
	marks := []mark{saturation(learned)}
	if m.incomplete() == 0 {
		marks = append(marks, mark{true, "Nothing was lost in recording"})
	}
	return marks
}

// saturation says how long no run has found something new.
func saturation(learned []policy.Run) mark {
	n, quiet := len(learned), 0
	for _, r := range slices.Backward(learned) {
		if r.New > 0 {
			break
		}
		quiet++
	}
	switch {
	case n == 1:
		return mark{false, "Learned from a single run"}
	case quiet == 0:
		return mark{false, fmt.Sprintf("The last of %d runs still found something new", n)}
	case quiet == 1:
		return mark{true, fmt.Sprintf("Nothing new in the last of %d runs", n)}
	}
	return mark{true, fmt.Sprintf("Nothing new in the last %d of %d runs", quiet, n)}
}

// runRow is a run in the table of runs.
type runRow struct {
	ID, Purpose, Under, Probe string
	Verdict                   *mark
	Complete                  mark
	Lost                      []string
	New                       string
	Duration, Started         string
}

func (m *model) runs() []runRow {
	var rows []runRow
	for _, r := range m.p.Runs {
		row := runRow{ID: clean(r.ID), Purpose: clean(r.Purpose), Under: clean(r.Under), Probe: clean(r.Probe),
			New: fmt.Sprint(r.New), Duration: duration(r.Seconds), Complete: mark{r.Complete, "complete"}}
		if r.Purpose == policy.PurposeProve {
			row.New = "–"
		}
		if r.Passed != nil {
			row.Verdict = &mark{*r.Passed, "passed"}
			if !*r.Passed {
				row.Verdict.Text = "failed"
			}
		}
		if !r.Complete {
			row.Complete.Text = "not complete"
		}
		for what, n := range r.Lost {
			row.Lost = append(row.Lost, fmt.Sprintf("%s lost by %s", count(n), clean(what)))
		}
		slices.Sort(row.Lost)
		if !r.Started.IsZero() {
			row.Started = r.Started.UTC().Format("2006-01-02 15:04:05")
		}
		rows = append(rows, row)
	}
	return rows
}

// commonProbe is the probe of all runs that have one.
func (m *model) commonProbe() string {
	probe := ""
	for _, r := range m.p.Runs {
		if probe != "" && r.Probe != "" && r.Probe != probe {
			return ""
		}
		probe = cmp.Or(r.Probe, probe)
	}
	return clean(probe)
}

// clean shows characters that cannot be seen, or that change the direction of the
// text around them, as Go writes them: names of programs are hostile.
func clean(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func hidden(r rune) bool { return r != '\n' && !strconv.IsPrint(r) }

func shorts(s capability.Set) string {
	var names []string
	for _, c := range s.List() {
		names = append(names, c.Short())
	}
	return and(names)
}

// and joins words as in a sentence.
func and(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// firstOf joins the first n names, and says how many more there are.
func firstOf(names []string, n int) string {
	if len(names) <= n+1 {
		return and(names)
	}
	return fmt.Sprintf("%s and %d more, listed below", strings.Join(names[:n], ", "), len(names)-n)
}

// count groups the digits of a number by thin spaces.
func count(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// duration writes seconds with two or three significant digits.
func duration(seconds float64) string {
	switch {
	case seconds <= 0:
		return "0 s"
	case seconds < 0.001:
		return "< 1 ms"
	case seconds < 0.9995:
		return fmt.Sprintf("%.0f ms", seconds*1000)
	case seconds < 9.95:
		return fmt.Sprintf("%.1f s", seconds)
	case seconds < 60:
		return fmt.Sprintf("%.0f s", seconds)
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
