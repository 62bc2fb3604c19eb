package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/seccomp"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// accessTable says what Docker's default profile does with the calls of the
// machine's first ABI.
type accessTable struct {
	target  seccomp.Target
	profile *seccomp.Profile
	calls   map[string]seccomp.Access
}

// newestKernel stands for the kernel of a policy that does not tell its own.
var newestKernel = seccomp.KernelVersion{Major: 6, Minor: 18}

func newAccessTable(m *model) (accessTable, error) {
	t := accessTable{profile: seccomp.Default(), calls: map[string]seccomp.Access{}}
	t.target = seccomp.Target{Arch: m.arch, Kernel: kernelOf(m.p), Caps: m.Default}
	resolved, _, err := t.profile.Resolve(t.target)
	if err != nil {
		return t, fmt.Errorf("resolve Docker's default profile for %s: %w", m.arch.Short(), err)
	}
	for nr, name := range syscalls.All(m.arch) {
		t.calls[name] = resolved.Access(m.arch, nr)
	}
	return t, nil
}

// kernelOf is the release of the last run's kernel, without what follows the
// second number.
func kernelOf(p *policy.Policy) seccomp.KernelVersion {
	for _, r := range slices.Backward(p.Runs) {
		major, rest, _ := strings.Cut(r.Kernel, ".")
		minor := rest
		if i := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' }); i >= 0 {
			minor = rest[:i]
		}
		if v, err := seccomp.ParseKernelVersion(major + "." + minor); err == nil {
			return v
		}
	}
	return newestKernel
}

// unlockers are the capabilities of which any makes the default profile let the
// calls through that it blocks, by call.
func (t *accessTable) unlockers() map[string][]string {
	list, err := t.profile.Blocked(t.target, t.target.Arch)
	if err != nil {
		return nil
	}
	m := map[string][]string{}
	for _, b := range list {
		for _, c := range b.UnlockedBy {
			m[b.Name] = append(m[b.Name], strings.TrimPrefix(c, "CAP_"))
		}
	}
	return m
}

// surface is the section that compares the policy with Docker's default.
type surface struct {
	Calls, Caps []bar
	Default     int    // calls that the default profile lets through, some for some arguments only
	Change      string // of the number of calls: −77 %
	Gone        []reasonRow
	Kept        []reasonRow
	Beyond      []reasonRow
	GoneRest    int // calls that are gone without a reason of their own
	Refused     int // by both
}

// bar is one line of a bar chart, Percent of the longest.
type bar struct {
	Label   string
	Count   int
	Percent string
	Class   string
}

type reasonRow struct{ Name, Reason string }

func (m *model) surface(calls *callsView) surface {
	var s surface
	for name, access := range m.access.calls {
		e := m.byName[name]
		kept := e != nil && allows(e) && m.native(e)
		reason := reasonFor(name)
		switch {
		case access == seccomp.Blocked && kept:
			s.Beyond = append(s.Beyond, reasonRow{name, reason})
		case access == seccomp.Blocked:
			s.Refused++
		case kept && reason != "" && !everyday(name):
			s.Kept = append(s.Kept, reasonRow{name, reason})
		case !kept && reason != "":
			s.Gone = append(s.Gone, reasonRow{name, reason})
		case !kept:
			s.GoneRest++
		}
		if access != seccomp.Blocked {
			s.Default++
		}
	}
	for _, list := range [][]reasonRow{s.Gone, s.Kept, s.Beyond} {
		slices.SortFunc(list, func(a, b reasonRow) int { return strings.Compare(a.Name, b.Name) })
	}
	s.Change = change(s.Default, calls.Allowed)
	s.Calls = bars([]bar{{Label: "Linux has", Count: calls.All, Class: "all"}, {Label: "Docker’s default lets through", Count: s.Default, Class: "default"},
		{Label: "This policy lets through", Count: calls.Allowed, Class: "policy"}})
	s.Caps = bars([]bar{{Label: "Linux has", Count: capability.Known().Len(), Class: "all"}, {Label: "Docker grants by default", Count: m.Default.Len(), Class: "default"},
		{Label: "This policy grants", Count: m.Capabilities.Len(), Class: "policy"}})
	return s
}

// change compares the calls before and after, as a share.
func change(before, after int) string {
	if before == 0 || before == after {
		return "±0 %"
	}
	return strings.ReplaceAll(fmt.Sprintf("%+.0f %%", float64(after-before)/float64(before)*100), "-", "−")
}

func bars(list []bar) []bar {
	longest := 1
	for _, b := range list {
		longest = max(longest, b.Count)
	}
	for i := range list {
		list[i].Percent = percent(float64(list[i].Count) / float64(longest))
	}
	return list
}

// percent writes a share for an attribute of SVG.
func percent(share float64) string { return fmt.Sprintf("%.2f%%", share*100) }

// beyondDefault are the calls that the policy allows and the default refuses.
func (m *model) beyondDefault() []string {
	var names []string
	for name, access := range m.access.calls {
		if e := m.byName[name]; access == seccomp.Blocked && e != nil && allows(e) && m.native(e) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
