package seccomp

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/nearest"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// ParseSystemd reads the filter of a systemd unit; see systemd.exec(5), "System
// call filtering". Data is either a unit file (or drop-in), of which all but
// the settings below is ignored, or these settings alone:
//
//	SystemCallFilter=        the calls that are allowed or, after "~", refused; groups as @mount; "call:ERRNO"
//	SystemCallErrorNumber=   what refused calls return, else the process is killed
//	SystemCallArchitectures= the ABIs that may be used, else all of the machine
//	SystemCallLog=           the calls that are logged or, after "~", are not
//
// Several assignments add up as in systemd, whose first one says whether the
// list allows or refuses: in a list that allows, "~" takes calls off it, or
// gives them an error of their own, and an assignment without "~" takes calls
// off a list that refuses. An empty assignment resets. A list that allows holds
// the group @default also where it is not named. Calls that are both refused
// and logged are refused.
//
// As with systemd, known calls that are not allowed get the error number or
// kill the process, and unknown, that is newer ones get ENOSYS. For that the
// profile has a rule, like its default action, that names the newest calls of
// this package's tables. Groups are those of systemd 252; see
// "systemd-analyze syscall-filter" for those of an installed version. The
// profile asks for no flags, as systemd sets none.
//
// It is stricter than systemd in that it ignores no mistake: an unknown name,
// an error number without "~", or a setting in the wrong section is an error,
// and so is a unit without any of these settings.
func ParseSystemd(file string, data []byte) (*Profile, error) {
	u := unitReader{file: file, kill: true}
	assignments, err := u.assignments(data)
	if err != nil {
		return nil, err
	}
	for _, a := range assignments {
		if err := u.assign(a); err != nil {
			return nil, &Error{File: file, Line: u.line, Path: a.key, Err: err}
		}
	}
	switch {
	case len(assignments) == 0:
		return nil, &Error{File: file, Err: errors.New("no filter; a unit sets one by SystemCallFilter=")}
	case u.errnoLine > 0 && !u.filter.given:
		return nil, &Error{File: file, Line: u.errnoLine, Path: "SystemCallErrorNumber", Err: errors.New("has no effect without SystemCallFilter=")}
	}
	return u.profile(), nil
}

var unitKeys = [...]string{"SystemCallArchitectures", "SystemCallErrorNumber", "SystemCallFilter", "SystemCallLog"}

// unitReader reads one unit.
type unitReader struct {
	file      string
	line      int // of the word that is being read
	filter    unitList
	log       unitList
	archs     []Arch
	archsOnly bool // SystemCallArchitectures= is given
	kill      bool // refused calls kill, else they return errno
	errno     uint16
	errnoLine int
}

// unitList is the value of SystemCallFilter= or SystemCallLog=.
type unitList struct {
	given    bool
	inverted bool // the first assignment began with "~"
	calls    map[string]unitEntry
}

// unitEntry is what a list says of one call.
type unitEntry struct {
	line   int
	action Action // if has
	has    bool
}

// assignment is one setting with the words of its value.
type assignment struct {
	key   string
	line  int
	words []textWord
}

// assignments returns the assignments to the keys of filters.
func (u *unitReader) assignments(data []byte) ([]assignment, error) {
	if len(data) > maxProfile {
		return nil, &Error{File: u.file, Err: fmt.Errorf("larger than %d bytes", maxProfile)}
	}
	var list []assignment
	section := ""
	continued := false
	wanted := false
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" && !continued || line != "" && (line[0] == '#' || line[0] == ';') {
			continue
		}
		text, continues := strings.CutSuffix(line, `\`)
		if !continued && line[0] == '[' && strings.HasSuffix(line, "]") {
			section = line
			continue
		}
		if !continued {
			key, value, err := unitAssignment(line, text)
			if err == nil {
				wanted, err = unitKey(key, section)
			}
			if err != nil {
				return nil, &Error{File: u.file, Line: i + 1, Err: err}
			}
			text = value
			if wanted {
				list = append(list, assignment{key: key, line: i + 1})
			}
		}
		if continued = continues; !wanted {
			continue
		}
		last := &list[len(list)-1]
		for _, word := range strings.Fields(text) {
			last.words = append(last.words, textWord{text: word, line: i + 1})
		}
	}
	return list, nil
}

// unitAssignment splits an assignment. Text is the line without a "\" at its
// end.
func unitAssignment(line, text string) (key, value string, err error) {
	key, value, ok := strings.Cut(text, "=")
	switch {
	case !utf8.ValidString(line):
		return "", "", errors.New("not valid UTF-8 text")
	case !ok:
		return "", "", fmt.Errorf("neither a section nor an assignment: %q", line)
	}
	return strings.TrimSpace(key), value, nil
}

// unitKey reports whether a key is one of a filter. Section is as in
// "[Service]", or "" if there was none yet.
func unitKey(key, section string) (bool, error) {
	known := slices.Contains(unitKeys[:], key)
	near := ""
	if !known {
		near = nearest.Name(key, slices.Values(unitKeys[:]))
	}
	switch {
	case near != "":
		return false, fmt.Errorf("unknown setting %q; did you mean %s=?", key, near)
	case !known && section == "":
		return false, fmt.Errorf("unknown setting %q; outside of a section there can only be %s=", key, strings.Join(unitKeys[:], "=, "))
	case !known, section == "", section == "[Service]", section == "[Socket]", section == "[Mount]", section == "[Swap]":
		return known, nil
	}
	return false, fmt.Errorf("%s= has no effect in %s; put it under [Service]", key, section)
}

func (u *unitReader) assign(a assignment) error {
	u.line = a.line
	switch a.key {
	case "SystemCallFilter":
		return u.list(&u.filter, a.words, true)
	case "SystemCallLog":
		return u.list(&u.log, a.words, false)
	case "SystemCallErrorNumber":
		return u.errorNumber(a.words)
	}
	return u.architectures(a.words)
}

func (u *unitReader) errorNumber(words []textWord) error {
	u.kill, u.errnoLine = true, u.line
	switch {
	case len(words) == 0:
		u.errnoLine = 0
		return nil
	case len(words) > 1:
		return fmt.Errorf("%q after the error number", words[1].text)
	case words[0].text == "kill":
		return nil
	}
	action, err := numberedAction("errno", words[0].text)
	if err == nil && action.Data() == 0 {
		err = errors.New("0 is no error number; they go from 1")
	}
	u.kill, u.errno = false, action.Data()
	return err
}

func (u *unitReader) architectures(words []textWord) error {
	if len(words) == 0 {
		u.archs, u.archsOnly = nil, false
		return nil
	}
	u.archsOnly = true
	for _, w := range words {
		u.line = w.line
		if w.text == "native" {
			continue
		}
		arch, ok := unitArch(w.text)
		if !ok {
			names := []string{"native"}
			for a := range Arch(maxArchs) {
				if name := unitArchName(a); name != "" {
					names = append(names, name)
				}
			}
			return unknownWord("architecture", w.text, names)
		}
		add := []Arch{arch}
		if arch == X32 {
			add = append(add, X86_64) // systemd.exec(5): x32 includes the calls of x86-64
		}
		for _, a := range add {
			if !slices.Contains(u.archs, a) {
				u.archs = append(u.archs, a)
			}
		}
	}
	return nil
}

// maxArchs is above the number of architectures.
const maxArchs = 64

// unitArchName returns systemd's name of an architecture, or "".
func unitArchName(a Arch) string {
	switch a {
	case X86_64:
		return "x86-64"
	case syscalls.MIPS64N32:
		return "mips64-n32"
	case syscalls.MIPSEL:
		return "mips-le"
	case syscalls.MIPSEL64:
		return "mips64-le"
	case syscalls.MIPSEL64N32:
		return "mips64-le-n32"
	case syscalls.PPC64LE:
		return "ppc64-le"
	case syscalls.SH, syscalls.SHEB: // libseccomp 2.5 knows neither
		return ""
	}
	name := a.Short()
	if _, err := syscalls.ParseShort(name); err != nil {
		return "" // no architecture
	}
	return name
}

func unitArch(name string) (Arch, bool) {
	for a := range Arch(maxArchs) {
		if name != "" && unitArchName(a) == name {
			return a, true
		}
	}
	return 0, false
}

// list adds an assignment to a list.
func (u *unitReader) list(l *unitList, words []textWord, filter bool) error {
	if len(words) == 0 {
		*l = unitList{}
		return nil
	}
	first, inverted := strings.CutPrefix(words[0].text, "~")
	if !l.given {
		*l = unitList{given: true, inverted: inverted, calls: map[string]unitEntry{}}
		if filter && !inverted {
			if err := u.add(l, "@default", false, unitEntry{line: u.line}); err != nil {
				return err
			}
		}
	}
	for i, w := range words {
		u.line = w.line
		if i == 0 {
			w.text = first
		}
		if w.text == "" {
			continue
		}
		name, entry, err := unitCall(w, inverted, filter)
		if err != nil {
			return err
		}
		if err := u.add(l, name, inverted, entry); err != nil {
			return err
		}
	}
	return nil
}

// unitCall reads one word of a list: a call or group, after "~" of a filter
// with an error number or "kill".
func unitCall(w textWord, inverted, filter bool) (string, unitEntry, error) {
	entry := unitEntry{line: w.line}
	name, number, numbered := strings.Cut(w.text, ":")
	switch {
	case !numbered:
		return name, entry, nil
	case !filter:
		return "", entry, fmt.Errorf("%q: calls that are logged have no error number", w.text)
	case !inverted:
		return "", entry, fmt.Errorf(`%q: only calls after "~" have an error number`, w.text)
	}
	entry.action, entry.has = KillProcess, true
	var err error
	if number != "kill" {
		entry.action, err = numberedAction("errno", number)
	}
	return name, entry, err
}

// add adds a call or a group to a list, or removes it.
func (u *unitReader) add(l *unitList, name string, inverted bool, entry unitEntry) error {
	if name == "@known" {
		for c := syscalls.Call(1); c.Name() != ""; c++ {
			l.put(c.Name(), inverted, entry)
		}
		return nil
	}
	if strings.HasPrefix(name, "@") {
		members, ok := systemdGroup(name)
		if !ok {
			known := []string{"@known"}
			for _, g := range systemdGroups {
				known = append(known, g.name)
			}
			return unknownWord("group", name, known)
		}
		for _, member := range members {
			if err := u.add(l, member, inverted, entry); err != nil {
				return err
			}
		}
		return nil
	}
	if !syscalls.Known(name) {
		return unknownName(name)
	}
	l.put(name, inverted, entry)
	return nil
}

func (l *unitList) put(name string, inverted bool, entry unitEntry) {
	if inverted == l.inverted || entry.has {
		l.calls[name] = entry
	} else {
		delete(l.calls, name)
	}
}

// profile makes the profile of what was read.
func (u *unitReader) profile() *Profile {
	p := &Profile{File: u.file, FlagsGiven: true, DefaultAction: Allow}
	switch {
	case u.filter.given && !u.filter.inverted:
		p.DefaultAction = u.refusal()
	case u.logsOthers():
		p.DefaultAction = Log
	}
	names := slices.Concat(slices.Collect(maps.Keys(u.filter.calls)), slices.Collect(maps.Keys(u.log.calls)))
	slices.Sort(names)
	rules := map[Action]*SyscallRule{}
	for _, name := range slices.Compact(names) {
		action, line := u.action(name)
		if action == p.DefaultAction {
			continue
		}
		if rules[action] == nil {
			rules[action] = &SyscallRule{Action: action, Line: line}
		}
		rules[action].Line = min(rules[action].Line, line)
		rules[action].addName(name)
	}
	for _, action := range slices.SortedFunc(maps.Keys(rules), permissiveFirst) {
		p.Syscalls = append(p.Syscalls, *rules[action])
	}
	addNewest(p)
	u.setArchs(p)
	return p
}

// refusal returns the action for calls that are not allowed.
func (u *unitReader) refusal() Action {
	if u.kill {
		return KillProcess
	}
	return Errno(u.errno)
}

// logsOthers reports whether calls that SystemCallLog= does not list are
// logged. systemd ignores an empty list.
func (u *unitReader) logsOthers() bool { return u.log.inverted && len(u.log.calls) > 0 }

// action returns what becomes of a call, and the line that says so.
func (u *unitReader) action(name string) (Action, int) {
	entry, listed := u.filter.calls[name]
	logged, listedLog := u.log.calls[name]
	line := cmp.Or(entry.line, logged.line)
	switch allows := u.filter.given && !u.filter.inverted; {
	case entry.has:
		return entry.action, line
	case listed != allows:
		return u.refusal(), line
	case listedLog != u.logsOthers():
		return Log, line
	}
	return Allow, line
}

// permissiveFirst orders actions by what they permit, then by their data.
func permissiveFirst(a, b Action) int {
	if a.Kind() != b.Kind() {
		return cmp.Compare(int32(b.Kind()), int32(a.Kind()))
	}
	return cmp.Compare(a, b)
}

// addNewest adds a rule like the default action that names the newest call of
// each ABI, so that only calls that no table knows count as newer than the
// profile.
func addNewest(p *Profile) {
	switch p.DefaultAction.Kind() {
	case Allow, Log:
		return
	}
	r := SyscallRule{Action: p.DefaultAction, Comment: "Only calls that are newer than these do not exist for the program."}
	var names []string
	for a := range Arch(maxArchs) {
		newest, name := uint32(0), ""
		for nr, n := range syscalls.All(a) {
			if slot, _ := callOf(n).Slot(a); slot < closedSlots && nr >= newest {
				newest, name = nr, n
			}
		}
		if name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		listed := slices.ContainsFunc(p.Syscalls, func(r SyscallRule) bool { return slices.Contains(r.Names, name) })
		if !listed {
			r.addName(name)
		}
	}
	if len(r.Names) > 0 {
		p.Syscalls = append(p.Syscalls, r)
	}
}

// setArchs sets the ABIs: those that are given, or all that occur together.
func (u *unitReader) setArchs(p *Profile) {
	if u.archsOnly {
		p.Architectures = u.archs
		return
	}
	for a := range Arch(maxArchs) {
		if others := localArchs(a); len(others) > 0 {
			p.ArchMap = append(p.ArchMap, ArchFamily{a, others})
		}
	}
}

// localArchs returns the ABIs that systemd filters beside a native one.
func localArchs(a Arch) []Arch {
	const (
		m, m64, mn32    = syscalls.MIPS, syscalls.MIPS64, syscalls.MIPS64N32
		l, l64, ln32    = syscalls.MIPSEL, syscalls.MIPSEL64, syscalls.MIPSEL64N32
		ppc, ppc64, ple = syscalls.PPC, syscalls.PPC64, syscalls.PPC64LE
	)
	switch a {
	case X86_64:
		return []Arch{I386, X32}
	case ARM64:
		return []Arch{ARM}
	case m:
		return []Arch{l}
	case l:
		return []Arch{m}
	case m64:
		return []Arch{l, m, ln32, mn32, l64}
	case l64:
		return []Arch{m, l, mn32, ln32, m64}
	case mn32:
		return []Arch{l, m, l64, m64, ln32}
	case ln32:
		return []Arch{m, l, m64, l64, mn32}
	case ppc64:
		return []Arch{ppc, ple}
	case ple:
		return []Arch{ppc, ppc64}
	case syscalls.S390X:
		return []Arch{syscalls.S390}
	}
	return nil
}

// Systemd returns the settings of a systemd unit, under [Service], that mean
// for t what the profile means: [ParseSystemd] makes a profile of them whose
// policy for t decides every known call in the same way. It fails, and says
// why, where systemd has no words for a rule: for conditions on arguments, for
// other actions than ALLOW, LOG, ERRNO and KILL_PROCESS, and for a call that is
// treated differently on two ABIs of t. A call that is newer than the profile on
// some ABIs only gets the default action on all. Of the flags, LOG is refused and the
// others are left out: systemd sets none.
func (p *Profile) Systemd(t Target) ([]byte, error) {
	data, err := p.systemd(t)
	if err != nil {
		return nil, fmt.Errorf("write as systemd settings: %w", err)
	}
	return data, nil
}

func (p *Profile) systemd(t Target) ([]byte, error) {
	policy, _, err := p.Resolve(t)
	if err != nil {
		return nil, err
	}
	want, err := p.constants(policy)
	if err != nil {
		return nil, err
	}
	w := unitWriter{t: t, policy: policy, calls: want}
	if err := w.write(p.File); err != nil {
		return nil, err
	}
	back, err := ParseSystemd(p.File, []byte(w.b.String()))
	if err != nil {
		return nil, err
	}
	again, _, err := back.Resolve(t)
	if err != nil {
		return nil, err
	}
	got, err := back.constants(again)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			return nil, &Error{File: p.File, Err: fmt.Errorf("%s is %v, and systemd can only say %v", name, want[name], got[name])}
		}
	}
	return []byte(w.b.String()), nil
}

// constants returns the action of the policy for each known call by name. It
// fails if one depends on anything else.
func (p *Profile) constants(policy *Policy) (map[string]Action, error) {
	calls := map[string]Action{}
	on := map[string]Arch{}
	newer := map[string]bool{} // than the profile, on one ABI
	for i := range policy.Archs {
		rules := &policy.Archs[i]
		for nr, name := range syscalls.All(rules.Arch) {
			d := policy.Decide(rules.Arch.Audit(), nr, [6]uint64{})
			call := rules.call(nr)
			if call != nil && len(call.Rules[0].Args) > 0 {
				rule := call.Rules[0].Index
				if hasMultiplexer(rules.Arch) && !slices.Contains(p.Syscalls[rule].Names, name) {
					continue // what Resolve makes for socketcall and ipc, it makes of the unit too
				}
				return nil, p.ruleError(rule, fmt.Errorf("%s depends on its arguments, which systemd cannot look at", name))
			}
			other, seen := on[name]
			switch {
			case !seen || calls[name] == d.Action:
			case d.Reason == ByNewer && calls[name] == policy.Default:
				d.Action = policy.Default
			case newer[name] && d.Action == policy.Default:
			default:
				return nil, p.ruleError(d.Rule, fmt.Errorf("%s is %v on %s and %v on %s; systemd has one list for all",
					name, calls[name], unitArchName(other), d.Action, unitArchName(rules.Arch)))
			}
			if err := unitAction(name, d.Action); err != nil {
				return nil, p.ruleError(d.Rule, err)
			}
			calls[name], on[name], newer[name] = d.Action, rules.Arch, d.Reason == ByNewer
		}
	}
	return calls, nil
}

// unitAction fails for an action that systemd does not have.
func unitAction(name string, a Action) error {
	switch a.Kind() {
	case Allow, Log, KillProcess, errno:
		return nil
	case KillThread:
		return fmt.Errorf("%s: systemd cannot kill one thread; use kill-process", name)
	}
	return fmt.Errorf("%s: systemd does not have the action %v", name, a)
}

// ruleError is an error about a rule, or without one about the whole.
func (p *Profile) ruleError(rule int, err error) error {
	if rule < 0 {
		return &Error{File: p.File, Err: err}
	}
	return &Error{File: p.File, Line: p.Syscalls[rule].Line, Path: item("syscalls", rule), Err: err}
}

// unitWriter writes the settings of a unit.
type unitWriter struct {
	t      Target
	policy *Policy
	calls  map[string]Action
	b      strings.Builder
}

func (w *unitWriter) write(file string) error {
	d := w.policy.Default
	switch {
	case w.policy.Flags&FlagLog != 0:
		return &Error{File: file, Err: errors.New("systemd cannot set the flag LOG")}
	case d == Errno(0):
		return &Error{File: file, Err: errors.New("systemd cannot make calls return 0 by default")}
	case d == Log && !slices.Contains(slices.Collect(maps.Values(w.calls)), Allow):
		return &Error{File: file, Err: errors.New("systemd logs other calls only beside some that it does not log")}
	}
	w.b.WriteString("[Service]\n")
	if err := w.archs(file); err != nil {
		return err
	}
	if d.IsErrno() {
		w.b.WriteString("SystemCallErrorNumber=" + errnoName(d.Data()) + "\n")
	}
	if d == Allow || d == Log {
		w.assign("SystemCallFilter=~", w.names(func(a Action) bool { return a != Allow && a != Log }))
	} else {
		w.allow(d)
	}
	if d == Log {
		w.assign("SystemCallLog=~", w.names(func(a Action) bool { return a == Allow }))
	} else {
		w.assign("SystemCallLog=", w.names(func(a Action) bool { return a == Log }))
	}
	if !strings.Contains(w.b.String(), "=") {
		w.b.WriteString("SystemCallFilter=\n") // nothing is refused, which must be said
	}
	return nil
}

// archs writes the ABIs, if they are not those that systemd takes by itself.
func (w *unitWriter) archs(file string) error {
	local := localArchs(w.t.Arch)
	same := len(w.policy.Archs) == len(local)+1
	names := []string{"native"}
	for _, a := range w.policy.Archs[1:] {
		same = same && slices.Contains(local, a.Arch)
		name := unitArchName(a.Arch)
		if name == "" {
			return &Error{File: file, Err: fmt.Errorf("systemd does not know the architecture %v", a.Arch)}
		}
		names = append(names, name)
	}
	if !same {
		w.b.WriteString("SystemCallArchitectures=" + strings.Join(names, " ") + "\n")
	}
	return nil
}

// allow writes a list that allows.
func (w *unitWriter) allow(refuse Action) {
	// That @default need not be said makes it the more worth saying.
	w.b.WriteString("SystemCallFilter=@default\n")
	implied, _ := systemdGroup("@default")
	listed := w.names(func(a Action) bool { return a == Allow || a == Log })
	w.assign("SystemCallFilter=", slices.DeleteFunc(listed, func(name string) bool { return slices.Contains(implied, name) }))
	var off []string
	for _, name := range implied {
		if a, ok := w.calls[name]; ok && a == refuse {
			off = append(off, name)
		}
	}
	off = append(off, w.names(func(a Action) bool { return a != Allow && a != Log && a != refuse })...)
	slices.Sort(off)
	w.assign("SystemCallFilter=~", off)
}

// names returns the calls whose action is wanted, sorted, with the number of
// the action where it has one.
func (w *unitWriter) names(want func(Action) bool) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(w.calls)) {
		a := w.calls[name]
		switch {
		case !want(a):
			continue
		case a.IsErrno():
			name += ":" + unitErrno(a.Data())
		case a == KillProcess:
			name += ":kill"
		}
		list = append(list, name)
	}
	return list
}

// unitErrno writes an error number as systemd reads it.
func unitErrno(n uint16) string {
	if name := unix.ErrnoName(unix.Errno(n)); name != "" {
		return name
	}
	return strconv.Itoa(int(n))
}

// assign writes as many assignments as the names need lines.
func (w *unitWriter) assign(key string, names []string) {
	column := 0
	for i, name := range names {
		switch {
		case i == 0 || column+1+len(name) > textWidth:
			if i > 0 {
				w.b.WriteByte('\n')
			}
			w.b.WriteString(key)
			column = len(key)
		default:
			w.b.WriteByte(' ')
			column++
		}
		w.b.WriteString(name)
		column += len(name)
	}
	if len(names) > 0 {
		w.b.WriteByte('\n')
	}
}
