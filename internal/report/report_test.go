package report

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/policy"
	"github.com/brig-run/brig/seccomp/syscalls"
)

func render(t testing.TB, in Input) string {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, in); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func viewOf(t *testing.T, in Input) *view {
	t.Helper()
	v, err := newView(in)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWriteIsDeterministic(t *testing.T) {
	for name, in := range map[string]Input{"nginx": nginxInput(t), "huge": hugeInput()} {
		if first := render(t, in); first != render(t, in) {
			t.Errorf("%s: two pages of one policy differ", name)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	if err := Write(&bytes.Buffer{}, Input{}); err == nil || err.Error() != "report: no policy" {
		t.Errorf("no policy: %v", err)
	}
	full := errors.New("no space")
	if err := Write(failing{full}, emptyInput()); !errors.Is(err, full) {
		t.Errorf("a writer that fails: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestVerdict(t *testing.T) {
	extra := nginxInput(t)
	extra.Capabilities = extra.Capabilities.Add(capability.SYS_TIME)
	none := nginxInput(t)
	none.Capabilities = 0
	tests := []struct {
		name, want string
		in         Input
	}{
		{"nginx", "Needs 4 of 14 default capabilities and 89 of 385 system calls.", nginxInput(t)},
		{"one more", "Needs 4 of 14 default capabilities, SYS_TIME and 89 of 385 system calls.", extra},
		{"none", "Needs no capability and 89 of 385 system calls.", none},
		{"huge", "Needs 14 of 14 default capabilities, 27 others and 385 of 385 system calls.", hugeInput()},
		{"empty", "The policy is empty: no capability, no system call.", emptyInput()},
	}
	for _, test := range tests {
		if got := viewOf(t, test.in).Verdict; got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, got, test.want)
		}
	}
}

func TestProofAndEvidence(t *testing.T) {
	yes, no := true, false
	learn := func(fresh ...int) (runs []policy.Run) {
		for _, n := range fresh {
			runs = append(runs, policy.Run{Purpose: policy.PurposeLearn, Complete: true, New: n})
		}
		return runs
	}
	prove := func(passed ...*bool) (runs []policy.Run) {
		for _, p := range passed {
			runs = append(runs, policy.Run{Purpose: policy.PurposeProve, Complete: true, Passed: p})
		}
		return runs
	}
	lossy := learn(5, 0)
	lossy[1].Complete = false
	tests := []struct {
		name string
		runs []policy.Run
		want string
	}{
		{"no runs", nil, "! Not proved: no run was made under the policy itself; ! No run was recorded"},
		{"one", learn(9), "! Not proved: no run was made under the policy itself; ! Learned from a single run; ok Nothing was lost in recording"},
		{"proved", append(learn(9, 2, 0), prove(&yes)...), "ok Proved by 1 run; ok Nothing new in the last of 3 runs; ok Nothing was lost in recording"},
		{"quiet", append(learn(9, 0, 1, 0, 0, 0), prove(&yes, &yes)...), "ok Proved by 2 runs; ok Nothing new in the last 3 of 6 runs; ok Nothing was lost in recording"},
		{"restless", append(learn(9, 0, 1), prove(&yes, &no)...), "! Not proved: 1 of 2 runs under the policy failed; ! The last of 3 runs still found something new; ok Nothing was lost in recording"},
		{"lossy", lossy, "! Not proved: no run was made under the policy itself; ok Nothing new in the last of 2 runs"},
	}
	for _, test := range tests {
		v := viewOf(t, Input{Policy: &policy.Policy{Runs: test.runs}, Default: capability.Default()})
		var got []string
		for _, m := range append([]mark{v.Proof}, v.Evidence...) {
			sign := "! "
			if m.OK {
				sign = "ok "
			}
			got = append(got, sign+m.Text)
		}
		if strings.Join(got, "; ") != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, strings.Join(got, "; "), test.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	titles := func(v *view) string {
		var list []string
		for _, w := range v.Warnings {
			list = append(list, w.Title)
		}
		return strings.Join(list, "; ")
	}
	if got := titles(viewOf(t, nginxInput(t))); got != "" {
		t.Errorf("nginx: %s", got)
	}
	want := "io_uring was used; The proof failed; The recording is not complete; It grants DAC_READ_SEARCH, SYS_MODULE, SYS_RAWIO, SYS_PTRACE, " +
		"SYS_ADMIN, SYS_BOOT, MAC_ADMIN and BPF; It allows more than Docker’s default"
	if got := titles(viewOf(t, hugeInput())); got != want {
		t.Errorf("huge:\ngot  %s\nwant %s", got, want)
	}
}

func TestCapabilityStates(t *testing.T) {
	got := map[string]string{}
	v := viewOf(t, nginxInput(t)).Caps
	for _, c := range v.Cells {
		got[c.Name] = c.Class
	}
	for name, want := range map[string]string{"CHOWN": "verified", "DAC_OVERRIDE": "unneeded", "SYS_ADMIN": "noise",
		"SYS_RESOURCE": "refused", "SYS_TIME": "refused", "KILL": "dropped", "BPF": "off"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %s", name, got[name], want)
		}
	}
	if len(v.Cells) != capability.Known().Len() {
		t.Errorf("%d cells, want %d", len(v.Cells), capability.Known().Len())
	}
	total := 0
	for _, l := range v.Legend {
		total += l.Count
	}
	if total != len(v.Cells) {
		t.Errorf("the legend counts %d of %d", total, len(v.Cells))
	}
}

func TestCallStates(t *testing.T) {
	v := viewOf(t, nginxInput(t)).Calls
	got := map[string]string{}
	cells := 0
	for _, g := range v.Groups {
		for _, c := range g.Cells {
			got[c.Name] = c.Class
			cells++
		}
	}
	for name, want := range map[string]string{"bind": "verified", "read": "used", "gettid": "unseen", "execveat": "unseen",
		"clone3": "denied", "chroot": "unneeded", "ptrace": "reach", "openat": "used", "reboot": "off"} {
		if got[name] != want {
			t.Errorf("%s is %q, want %s", name, got[name], want)
		}
	}
	all := 0
	for range syscalls.All(syscalls.X86_64) {
		all++
	}
	if v.All != all || cells != all {
		t.Errorf("%d calls in %d cells, want %d", v.All, cells, all)
	}
	if v.Allowed != 89 || v.Seen != 84 {
		t.Errorf("allowed %d, seen %d, want 89 and 84", v.Allowed, v.Seen)
	}
}

func TestSurface(t *testing.T) {
	v := viewOf(t, nginxInput(t))
	s := v.Surface
	has := func(list []reasonRow, name string) bool {
		for _, r := range list {
			if r.Name == name && r.Reason != "" {
				return true
			}
		}
		return false
	}
	if !has(s.Gone, "ptrace") || !has(s.Gone, "process_vm_readv") || !has(s.Kept, "io_setup") || has(s.Gone, "io_setup") || has(s.Gone, "mount") {
		t.Errorf("gone %v, kept %v", s.Gone, s.Kept)
	}
	if sum := len(s.Gone) + s.GoneRest + s.Refused + v.Calls.Allowed; sum != v.Calls.All {
		t.Errorf("gone, refused and allowed are %d, want %d", sum, v.Calls.All)
	}
	if s.Change != "−71 %" {
		t.Errorf("change %s", s.Change)
	}
	if s := viewOf(t, hugeInput()).Surface; !has(s.Beyond, "bpf") || len(s.Gone) != 0 {
		t.Errorf("everything: beyond %v, gone %v", s.Beyond, s.Gone)
	}
}

func TestDenials(t *testing.T) {
	in := nginxInput(t)
	in.Policy.Denials = append(in.Policy.Denials,
		policy.Denial{Syscall: "chown", ABI: "amd64", Program: "sh", Errno: "EPERM", By: "capability", Capabilities: []string{"CHOWN"}, Count: 1},
		policy.Denial{Syscall: "socket", ABI: "amd64", Program: "sh", Errno: "EPERM", By: "seccomp", Count: 1})
	rows := map[string]denialRow{}
	for _, r := range viewOf(t, in).Denials.Rows {
		rows[r.Call] = r
	}
	tests := []struct{ call, by, flag, edit, fix string }{
		{"clone3", "seccomp", "", "", "Harmless as a rule: programs fall back on older calls."},
		{"clock_settime", "seccomp and CAP_SYS_TIME", "--cap-add SYS_TIME",
			`capabilities: {"name": "SYS_TIME", "status": "added"}` + "\n" + `syscalls: {"name": "clock_settime", "status": "added"}`,
			"Grant SYS_TIME. The policy must allow the call, too."},
		{"prlimit64", "CAP_SYS_RESOURCE", "--cap-add SYS_RESOURCE", `capabilities: {"name": "SYS_RESOURCE", "status": "added"}`, "Grant SYS_RESOURCE."},
		{"mount", "seccomp", "--cap-add SYS_ADMIN", `syscalls: {"name": "mount", "status": "added"}`,
			"Allow the call in the policy; Docker’s default profile allows it with SYS_ADMIN. SYS_ADMIN makes a container nearly root of the host."},
		{"semget", "seccomp", "", `syscalls: {"name": "semget", "status": "added", "abis": ["x86"]}`, "Allow the call in the policy."},
		{"chown", "CAP_CHOWN", "", "", "The policy allows it now."},
		{"socket", "seccomp", "", `syscalls: {"name": "socket", "status": "added"}`,
			"The policy allows the call with some arguments only: add the value, or do not enforce them."},
	}
	for _, test := range tests {
		r := rows[test.call]
		if r.By != test.by || r.Flag != test.flag || r.Edit != test.edit || r.Fix != test.fix {
			t.Errorf("%s:\ngot  %+v\nwant %+v", test.call, r, test)
		}
	}
	if rows["semget"].Outcome != "killed" || rows["semget"].ABI != "x86" {
		t.Errorf("semget: %+v", rows["semget"])
	}
}

func TestTimeline(t *testing.T) {
	line := viewOf(t, nginxInput(t)).Timeline
	if line.Ready == nil || line.Ready.Text != "ready between 398 ms and 402 ms" {
		t.Errorf("ready: %+v", line.Ready)
	}
	if line.Latest[0].Call != "getsockopt" || line.Latest[0].Phase != "running only" {
		t.Errorf("latest: %+v", line.Latest[0])
	}
	marks := 0
	for _, l := range line.Lanes {
		if l.Count != len(l.Marks) {
			t.Errorf("%s: %d marks for %d calls", l.Program, len(l.Marks), l.Count)
		}
		marks += l.Count
	}
	if marks != line.Total {
		t.Errorf("%d marks for %d calls", marks, line.Total)
	}
	huge := viewOf(t, hugeInput()).Timeline
	if len(huge.Lanes) != maxLanes+1 || huge.Lanes[maxLanes].Program != "others" {
		t.Errorf("%d lanes for 17 programs", len(huge.Lanes))
	}
	if viewOf(t, emptyInput()).Timeline != nil {
		t.Error("an empty policy has a timeline")
	}
}

// Calls that come first in different runs, or in both phases, tell nothing about
// when one run was ready.
func TestTimelineWithoutReady(t *testing.T) {
	first := func(run string, at float64) *policy.First { return &policy.First{Program: "p", Run: run, Seconds: at} }
	in := emptyInput()
	in.Policy.Syscalls = []policy.Syscall{
		{Name: "read", Startup: 1, First: first("a", 3)},
		{Name: "write", Running: 1, First: first("a", 2)},
	}
	if r := viewOf(t, in).Timeline.Ready; r != nil {
		t.Errorf("contradiction: %+v", r)
	}
	in.Policy.Syscalls[1].First.Run = "b"
	if r := viewOf(t, in).Timeline.Ready; r != nil {
		t.Errorf("two runs: %+v", r)
	}
}

func TestScanOrNot(t *testing.T) {
	const none, empty, some = "No static scan was done", "A static scan found no other call", "Reachable, never seen, blocked"
	for name, test := range map[string]struct {
		in   Input
		want string
	}{
		"no scan":    {emptyInput(), none},
		"nothing":    {Input{Policy: &policy.Policy{}, Scanned: true}, empty},
		"nginx":      {nginxInput(t), some},
		"list alone": {Input{Policy: &policy.Policy{}, Reachable: []ReachableCall{{"ptrace", "x"}}}, some},
	} {
		page := render(t, test.in)
		for _, text := range []string{none, empty, some} {
			if strings.Contains(page, text) != (text == test.want) {
				t.Errorf("%s: %q is there: %v", name, text, text != test.want)
			}
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"nginx: worker": "nginx: worker", "a\u202egnp.exe": `a\u202egnp.exe`, "\x1b[2J": `\x1b[2J`, "caf\u00e9 \u4e16": "caf\u00e9 \u4e16",
		"z\u200bero": `z\u200bero`, "two\nlines": "two\nlines", "\x00": `\x00`,
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDurationAndCount(t *testing.T) {
	for seconds, want := range map[float64]string{0: "0 s", 0.0002: "< 1 ms", 0.0154: "15 ms", 0.9996: "1.0 s", 8.21: "8.2 s", 31.4: "31 s", 61: "1m1s", 3600: "1h0m0s"} {
		if got := duration(seconds); got != want {
			t.Errorf("duration(%v) = %s, want %s", seconds, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1\u202f000", 12345678: "12\u202f345\u202f678"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %s, want %s", n, got, want)
		}
	}
}

// Everything that the template shows is escaped for text and for attributes in
// double quotes, so it may stand nowhere else: not in a script, not in a style,
// not without quotes, and not where an address or code is expected.
func TestTemplateContexts(t *testing.T) {
	for _, text := range []string{pageCSS, pageJS} {
		if strings.Contains(text, "{{") {
			t.Error("page.css or page.js has an action")
		}
	}
	action := regexp.MustCompile(`\{\{-?\s*(.*?)\s*-?\}\}`)
	control := regexp.MustCompile(`^(if|else|end|range|with|template|define)\b`)
	marked := action.ReplaceAllStringFunc(pageHTML, func(a string) string {
		if control.MatchString(action.FindStringSubmatch(a)[1]) {
			return ""
		}
		return "\x01"
	})
	if n := strings.Count(marked, "\x01"); n < 80 {
		t.Fatalf("only %d actions found", n)
	}
	if m := regexp.MustCompile(`(?s)<(style|script)[^>]*>.*?</(style|script)>`).FindAllString(marked, -1); len(m) != 2 || strings.Contains(m[0]+m[1], "\x01") {
		t.Errorf("data in style or script: %q", m)
	}
	// What remains of a tag after its quoted attributes has no data.
	allowed := regexp.MustCompile(`\s(class|id|title|content|data-label|x|dx|width|points|aria-label|text-anchor)="[^"]*"|\shref="#[^"]*"`)
	for _, tag := range regexp.MustCompile(`(?s)<[a-zA-Z!/][^<>]*>`).FindAllString(marked, -1) {
		if rest := allowed.ReplaceAllString(tag, ""); strings.Contains(rest, "\x01") {
			t.Errorf("data where it cannot be escaped: %q", tag)
		}
	}
}

func TestTriedWords(t *testing.T) {
	s := &policy.Syscall{Name: "socket", Args: []policy.Arg{{Values: []uint64{1, 2, 16}, Enforce: true, Tried: []policy.Tried{
		{Value: 2, Status: policy.Verified, Breaks: "no answer"}, {Value: 16, Status: policy.Unneeded},
	}}}}
	if got, want := triedWords(s), []string{"Without AF_INET: no answer", "AF_NETLINK is refused: used, not needed"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
