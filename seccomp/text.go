package seccomp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/nearest"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// ParseText reads a profile in Brig's text form, which is for people to write
// and review. File is the name for messages. Reading is as strict as that of
// [ParseProfile]: each error names the line and, where there is one, the
// nearest known name.
//
//	default errno EPERM
//	arch amd64: x86 x32
//	flag LOG
//
//	# What any program needs.
//	allow read write close mmap munmap
//	    exit exit_group
//	allow socket when arg0 == AF_UNIX
//	allow clone when arg0 & CLONE_NEWUSER|CLONE_NEWNS == 0 unless cap SYS_ADMIN or arch s390|s390x
//	allow bpf perf_event_open if cap BPF and kernel >= 5.8
//	errno ENOSYS clone3 unless cap SYS_ADMIN
//	kill-process kexec_load
//
// A statement is a line and the indented lines that follow it. A "#" that
// begins a word begins a comment. Lines of comment that begin in the first
// column and stand directly above a rule are the comment of that rule, which
// other forms have too; all other comments are for the reader of the file only.
// A comment of one line that is a string in double quotes, as in Go, stands for
// that string. A word that has blanks or other marks is written in such quotes.
//
//	profile    = { statement }
//	statement  = "default" action
//	           | "arch" arch ":" { arch }         // ABIs that belong with a native one; Docker's archMap
//	           | "arch" arch { arch }             // ABIs beside the native one; OCI's architectures
//	           | "flag" ( "none" | flag { flag } )
//	           | "listener" path [ metadata ]
//	           | action call { call } { "when" conditions | "if" needs | "unless" bars }
//	action     = "allow" | "log" | "errno" ( name | number ) | "trace" number
//	           | "notify" | "trap" | "kill-thread" | "kill-process"
//	conditions = condition { "and" condition } | condition { "or" condition }
//	condition  = argument ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) value
//	           | argument "&" value "==" value
//	argument   = "arg0" | "arg1" | "arg2" | "arg3" | "arg4" | "arg5"
//	value      = ( number | constant ) { "|" ( number | constant ) }
//	needs      = need { "and" need }
//	need       = "cap" capability | "arch" arch { "|" arch } | "kernel" ">=" version
//	bars       = bar { "or" bar }
//	bar        = "cap" capability { "|" capability } | "arch" arch { "|" arch } | "kernel" ">=" version
//
// "default" is given exactly once. Rules are those of [SyscallRule], in their
// order: "if" gives the includes and "unless" the excludes of [Selector], and
// "when" the conditions, which "and" joins. As a rule cannot compare an
// argument twice and ask for both, that is an error; with "or" any condition
// suffices, which is what [Profile.Resolve] makes of a rule that compares an
// argument more than once. If "or" joins conditions on different arguments,
// each becomes a rule of its own.
//
// Numbers are decimal, or octal after 0 or 0o, or hexadecimal after 0x; -1 is
// the largest one. All comparisons are without sign. The constants AF_, CLONE_
// and PR_ are known where the argument is one: arg0 of socket and socketpair;
// arg0 of clone (arg1 on s390) and unshare, arg1 of setns; arg0 of prctl. Names
// of architectures are Docker's short ones, such as amd64; flags and
// capabilities are written without SECCOMP_FILTER_FLAG_ and CAP_.
func ParseText(file string, data []byte) (*Profile, error) {
	t := textReader{profile: &Profile{File: file}}
	if len(data) > maxProfile {
		return nil, &Error{File: file, Err: fmt.Errorf("larger than %d bytes", maxProfile)}
	}
	statements, err := t.statements(string(data))
	if err != nil {
		return nil, err
	}
	for _, s := range statements {
		if err := t.statement(s); err != nil {
			return nil, err
		}
	}
	if !t.hasDefault {
		return nil, &Error{File: file, Err: errors.New(`no default action; begin with a line such as "default errno EPERM"`)}
	}
	return t.profile, nil
}

// textReader reads the statements of one profile.
type textReader struct {
	profile    *Profile
	hasDefault bool
}

// textWord is a word, an operator or a quoted string, with its line.
type textWord struct {
	text   string
	quoted bool
	line   int
}

// is reports whether the word is text, not in quotes.
func (w textWord) is(text string) bool { return !w.quoted && w.text == text }

// textStatement is a statement with the comment above it.
type textStatement struct {
	words   []textWord
	comment string
}

func (t *textReader) fail(line int, format string, args ...any) error {
	return &Error{File: t.profile.File, Line: line, Err: fmt.Errorf(format, args...)}
}

// statements splits a file.
func (t *textReader) statements(data string) ([]textStatement, error) {
	var list []textStatement
	var comment []string
	open := false // the next line may continue the last statement
	for i, line := range strings.Split(data, "\n") {
		line = strings.TrimRight(line, " \t\r")
		switch {
		case !utf8.ValidString(line):
			return nil, t.fail(i+1, "not valid UTF-8 text")
		case line == "":
			comment, open = nil, false
			continue
		case line[0] == '#':
			comment, open = append(comment, line), false
			continue
		}
		words, err := t.words(line, i+1)
		indented := line[0] == ' ' || line[0] == '\t'
		switch {
		case err != nil:
			return nil, err
		case indented && len(words) == 0: // a comment within a statement
		case indented && !open:
			return nil, t.fail(i+1, "an indented line continues the statement above it, and there is none")
		case indented:
			last := &list[len(list)-1]
			last.words = append(last.words, words...)
		default:
			list = append(list, textStatement{words, plainComment(comment)})
			comment, open = nil, true
		}
	}
	return list, nil
}

// plainComment returns the text of lines of comment.
func plainComment(lines []string) string {
	texts := make([]string, len(lines))
	for i, line := range lines {
		texts[i] = strings.TrimPrefix(line[1:], " ")
	}
	if len(texts) == 1 && strings.HasPrefix(texts[0], `"`) {
		if text, err := strconv.Unquote(texts[0]); err == nil {
			return text
		}
	}
	return strings.Join(texts, "\n")
}

const textOperators = "=!<>&|"

// words splits a line.
func (t *textReader) words(line string, number int) ([]textWord, error) {
	var list []textWord
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			return list, nil
		}
		w := textWord{line: number}
		rest := line
		switch {
		case line[0] == '"':
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, t.fail(number, "a string that begins with a quote has no end, or an unknown \\ in it")
			}
			rest = line[len(quoted):]
			w.text, _ = strconv.Unquote(quoted)
			w.quoted = true
			if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
				return nil, t.fail(number, "a blank is missing after %s", quoted)
			}
		case strings.IndexByte(textOperators, line[0]) >= 0:
			rest = strings.TrimLeft(line, textOperators)
			w.text = line[:len(line)-len(rest)]
		default:
			if end := strings.IndexAny(line, " \t\""+textOperators); end >= 0 {
				rest = line[end:]
			} else {
				rest = ""
			}
			w.text = line[:len(line)-len(rest)]
		}
		list = append(list, w)
		line = rest
	}
}

var textKeywords = [...]string{
	"allow", "arch", "default", "errno", "flag", "kill-process", "kill-thread", "listener", "log", "notify", "trace", "trap",
}

func (t *textReader) statement(s textStatement) error {
	first := s.words[0]
	if first.quoted {
		return t.fail(first.line, "a line begins with a keyword, not with a string")
	}
	switch first.text {
	case "default":
		return t.defaultAction(s.words)
	case "arch":
		return t.arch(s.words)
	case "flag":
		return t.flag(s.words)
	case "listener":
		return t.listener(s.words)
	}
	return t.rule(s)
}

func (t *textReader) defaultAction(words []textWord) error {
	line := words[0].line
	action, rest, err := t.action(words[1:], line)
	switch {
	case err != nil:
		return err
	case len(rest) > 0:
		return t.fail(rest[0].line, "%q after the default action; rules are lines of their own", rest[0].text)
	case t.hasDefault:
		return t.fail(line, "default given twice")
	case action == Notify:
		return t.fail(line, "notify cannot be the default action")
	}
	t.hasDefault = true
	t.profile.DefaultAction = action
	return nil
}

// action reads an action from the first words and returns the others.
func (t *textReader) action(words []textWord, line int) (Action, []textWord, error) {
	if len(words) == 0 {
		return 0, nil, t.fail(line, "an action is missing, such as allow or errno EPERM")
	}
	w, rest := words[0], words[1:]
	if a, ok := plainAction(w); ok {
		return a, rest, nil
	}
	switch {
	case w.is("errno"), w.is("trace"):
		if len(rest) == 0 {
			return 0, nil, t.fail(w.line, "%s needs a number", w.text)
		}
		a, err := numberedAction(w.text, rest[0].text)
		if err != nil {
			return 0, nil, t.fail(rest[0].line, "%w", err)
		}
		return a, rest[1:], nil
	case w.is("kill"):
		return 0, nil, t.fail(w.line, `unknown action "kill"; write kill-process or kill-thread`)
	}
	return 0, nil, t.fail(w.line, "%w", unknownWord("action", w.text, textActions[:]))
}

var textActions = [...]string{"allow", "errno", "kill-process", "kill-thread", "log", "notify", "trace", "trap"}

// plainAction returns the action of a word, if it has no number.
func plainAction(w textWord) (Action, bool) {
	if w.quoted {
		return 0, false
	}
	switch w.text {
	case "allow":
		return Allow, true
	case "log":
		return Log, true
	case "notify":
		return Notify, true
	case "trap":
		return Trap, true
	case "kill-thread":
		return KillThread, true
	case "kill-process":
		return KillProcess, true
	}
	return 0, false
}

// numberedAction returns errno or trace with its number.
func numberedAction(word, number string) (Action, error) {
	n, err := strconv.ParseUint(number, 10, 16)
	if word == "trace" {
		if err != nil {
			return 0, fmt.Errorf("%q is no message for a tracer; trace is followed by a number from 0 to %d", number, maxTrace)
		}
		return Trace(uint16(n)), nil
	}
	if err == nil && n <= maxErrno {
		return Errno(uint16(n)), nil
	}
	if err == nil {
		return 0, fmt.Errorf("%d is no error number; they go from 0 to %d", n, maxErrno)
	}
	if e, ok := parseErrnoName(number); ok {
		return Errno(e), nil
	}
	names := make([]string, 0, maxNamedErrno)
	for e := range unix.Errno(maxNamedErrno) {
		names = append(names, unix.ErrnoName(e))
	}
	return 0, unknownWord("error", number, names)
}

// maxNamedErrno is above the largest error number that has a name.
const maxNamedErrno = 134

// unknownWord words the error for a word that is not among those known.
func unknownWord(what, word string, known []string) error {
	near := nearest.Name(word, slices.Values(known))
	if near == "" {
		for _, cased := range []string{strings.ToLower(word), strings.ToUpper(word)} {
			for _, prefix := range []string{"scmp_act_", "SECCOMP_FILTER_FLAG_", "SCMP_ARCH_", ""} {
				if near == "" {
					near = nearest.Name(strings.TrimPrefix(cased, prefix), slices.Values(known))
				}
			}
		}
	}
	if near == "" {
		return fmt.Errorf("unknown %s %q", what, word)
	}
	return fmt.Errorf("unknown %s %q; did you mean %s?", what, word, near)
}

func (t *textReader) arch(words []textWord) error {
	line := words[0].line
	if len(words) == 1 {
		return t.fail(line, `arch needs a name, as in "arch amd64: x86 x32"`)
	}
	native, isFamily := strings.CutSuffix(words[1].text, ":")
	var list []Arch
	for i, w := range words[1:] {
		if i == 0 && isFamily {
			w.text = native
		}
		a, err := t.archName(w)
		if err != nil {
			return err
		}
		list = append(list, a)
	}
	p := t.profile
	if !isFamily {
		if p.Architectures != nil {
			return t.fail(line, "architectures given twice; list them on one line")
		}
		p.Architectures = list
	} else {
		for _, f := range p.ArchMap {
			if f.Arch == list[0] {
				return t.fail(line, "%s is mapped twice", native)
			}
		}
		p.ArchMap = append(p.ArchMap, ArchFamily{list[0], slices.Clip(list[1:])})
	}
	if p.Architectures != nil && p.ArchMap != nil {
		return t.fail(line, "a list of architectures cannot be given together with families of them; use one of both")
	}
	return nil
}

// archName reads an architecture's short name.
func (t *textReader) archName(w textWord) (Arch, error) {
	a, err := syscalls.ParseShort(w.text)
	if err == nil {
		return a, nil
	}
	for alias := range textArchAliases(w.text) {
		return 0, t.fail(w.line, "unknown architecture %q; did you mean %s?", w.text, alias.Short())
	}
	return 0, t.fail(w.line, "%w", err)
}

// textArchAliases yields the architecture that has another well-known name.
func textArchAliases(name string) func(func(Arch) bool) {
	return func(yield func(Arch) bool) {
		full := "SCMP_ARCH_" + strings.TrimPrefix(strings.ToUpper(strings.ReplaceAll(name, "-", "_")), "SCMP_ARCH_")
		if a, err := syscalls.ParseArch(full); err == nil {
			yield(a)
			return
		}
		switch name {
		case "i386", "i686", "386":
			yield(I386)
		case "aarch64":
			yield(ARM64)
		}
	}
}

func (t *textReader) flag(words []textWord) error {
	p := t.profile
	line := words[0].line
	switch {
	case len(words) == 1:
		return t.fail(line, `flag needs a name, as in "flag LOG", or none`)
	case len(words) == 2 && words[1].is("none"):
		if p.FlagsGiven {
			return t.fail(line, "flag none beside other flags")
		}
		p.FlagsGiven = true
		return nil
	case p.FlagsGiven && p.Flags == 0:
		return t.fail(line, "other flags beside flag none")
	}
	for _, w := range words[1:] {
		f, err := parseFlag(flagPrefix + w.text)
		if err != nil {
			return t.fail(w.line, "%w", textFlagError(w.text))
		}
		p.Flags |= f
	}
	p.FlagsGiven = true
	return nil
}

// textFlagError words the error for a flag that a profile cannot ask for.
func textFlagError(name string) error {
	var known []string
	for i, entry := range flagNames {
		if i < profileFlags {
			known = append(known, entry.name)
		} else if entry.name == name {
			return fmt.Errorf("flag %q cannot be asked for; it is set where notify needs it", name)
		}
	}
	return unknownWord("flag", name, known)
}

func (t *textReader) listener(words []textWord) error {
	p := t.profile
	line := words[0].line
	switch {
	case len(words) < 2 || len(words) > 3 || words[1].text == "":
		return t.fail(line, "listener needs a path and takes one string for the listener; write words with blanks in double quotes")
	case p.ListenerPath != "":
		return t.fail(line, "listener given twice")
	}
	p.ListenerPath = words[1].text
	if len(words) == 3 {
		p.ListenerMetadata = words[2].text
	}
	return nil
}

func (t *textReader) rule(s textStatement) error {
	first := s.words[0]
	if !slices.Contains(textKeywords[:], first.text) && !first.is("kill") {
		if syscalls.Known(first.text) {
			return t.fail(first.line, `%s is a system call; a line begins with an action, as in "allow %s"`, first.text, first.text)
		}
		return t.fail(first.line, "%w", unknownWord("keyword", first.text, textKeywords[:]))
	}
	action, rest, err := t.action(s.words, first.line)
	if err != nil {
		return err
	}
	r := SyscallRule{Action: action, Comment: s.comment, Line: first.line}
	for len(rest) > 0 && !isClause(rest[0]) {
		if err := r.addName(rest[0].text); err != nil {
			return t.fail(rest[0].line, "%w", err)
		}
		rest = rest[1:]
	}
	if len(r.Names) == 0 {
		return t.fail(first.line, "%s names no system call", first.text)
	}
	split, err := t.clauses(&r, rest)
	if err != nil {
		return err
	}
	if !split {
		t.profile.Syscalls = append(t.profile.Syscalls, r)
		return nil
	}
	for i := range r.Args {
		one := r
		one.Args = r.Args[i : i+1 : i+1]
		t.profile.Syscalls = append(t.profile.Syscalls, one)
	}
	return nil
}

func isClause(w textWord) bool { return w.is("when") || w.is("if") || w.is("unless") }

// clauses reads what follows the names. Split says that each condition makes a
// rule of its own.
func (t *textReader) clauses(r *SyscallRule, words []textWord) (split bool, err error) {
	var seen []string
	for len(words) > 0 {
		word := words[0]
		end := 1
		for end < len(words) && !isClause(words[end]) {
			end++
		}
		clause := textClause{t, words[1:end], word}
		words = words[end:]
		if slices.Contains(seen, word.text) {
			return false, t.fail(word.line, "%s given twice in one rule", word.text)
		}
		seen = append(seen, word.text)
		switch word.text {
		case "when":
			split, err = clause.conditions(r)
		case "if":
			err = clause.selector(&r.Includes, "and")
		default:
			err = clause.selector(&r.Excludes, "or")
		}
		if err != nil {
			return false, err
		}
	}
	return split, nil
}

// textClause is the part of a rule after "when", "if" or "unless".
type textClause struct {
	t     *textReader
	words []textWord
	last  textWord // the word read last
}

// next takes a word. At the end it returns the zero word.
func (c *textClause) next() textWord {
	if len(c.words) == 0 {
		return textWord{line: c.last.line}
	}
	c.last, c.words = c.words[0], c.words[1:]
	return c.last
}

// takes reports whether the next word is text, and if so takes it.
func (c *textClause) takes(text string) bool {
	if len(c.words) == 0 || !c.words[0].is(text) {
		return false
	}
	c.next()
	return true
}

// missing words the error for a word that is not what the grammar asks for.
func (c *textClause) missing(got textWord, want string) error {
	if got.text == "" && !got.quoted {
		return c.t.fail(got.line, "%s is missing after %q", want, c.last.text)
	}
	return c.t.fail(got.line, "%s is missing before %q", want, got.text)
}

// conditions reads what follows "when".
func (c *textClause) conditions(r *SyscallRule) (split bool, err error) {
	joint := ""
	for {
		line := c.last.line
		cond, err := c.condition(r)
		if err != nil {
			return false, err
		}
		err = cond.validate()
		if err == nil {
			err = r.possible(cond)
		}
		if err != nil {
			return false, c.t.fail(line, "arg%d: %w", cond.Index, err)
		}
		r.Args = append(r.Args, cond)
		w := c.next()
		switch {
		case w.text == "":
			return c.joined(r, joint)
		case !w.is("and") && !w.is("or"):
			return false, c.missing(w, "and, or, if or unless")
		case joint != "" && joint != w.text:
			return false, c.t.fail(w.line, "and beside or; write a rule for each alternative")
		}
		joint = w.text
	}
}

// joined checks how the conditions of a rule are joined.
func (c *textClause) joined(r *SyscallRule, joint string) (split bool, err error) {
	if joint != "or" {
		if repeats(r.Args) {
			return false, c.t.fail(c.last.line, `an argument is compared twice; a rule cannot ask for both: use "or", or a mask`)
		}
		return false, nil
	}
	return !repeats(r.Args), nil
}

func (c *textClause) condition(r *SyscallRule) (Condition, error) {
	w := c.next()
	digit, ok := strings.CutPrefix(w.text, "arg")
	if !ok || len(digit) != 1 || digit < "0" || digit > "9" {
		return Condition{}, c.missing(w, "an argument, arg0 to arg5,")
	}
	if digit > "5" {
		return Condition{}, c.t.fail(w.line, "%s: a system call has only the arguments arg0 to arg5", w.text)
	}
	cond := Condition{Index: digit[0] - '0'}
	names := constantsOf(r, cond.Index)
	op := c.next()
	if op.is("&") {
		mask, err := c.value(names)
		if err != nil {
			return Condition{}, err
		}
		if !c.takes("==") {
			return Condition{}, c.missing(c.next(), "== after a mask")
		}
		cond.Op, cond.Value = MaskedEQ, mask
		cond.ValueTwo, err = c.value(names)
		return cond, err
	}
	for i, text := range textOps {
		if text != "" && op.is(text) {
			value, err := c.value(names)
			cond.Op, cond.Value = Op(i), value
			return cond, err
		}
	}
	if op.is("=") {
		return Condition{}, c.t.fail(op.line, `unknown operator "="; did you mean ==?`)
	}
	return Condition{}, c.missing(op, "one of the operators == != < <= > >= &")
}

var textOps = [...]string{NE: "!=", LT: "<", LE: "<=", EQ: "==", GE: ">=", GT: ">", MaskedEQ: ""}

// value reads numbers and constants that "|" joins.
func (c *textClause) value(names []constant) (uint64, error) {
	var value uint64
	for {
		w := c.next()
		if w.text == "" || w.quoted {
			return 0, c.missing(w, "a number")
		}
		n, err := parseValue(w.text, names)
		if err != nil {
			return 0, c.t.fail(w.line, "%w", err)
		}
		value |= n
		if !c.takes("|") {
			return value, nil
		}
	}
}

func parseValue(text string, names []constant) (uint64, error) {
	for _, k := range names {
		if k.name == text {
			return k.value, nil
		}
	}
	digits, negative := strings.CutPrefix(text, "-")
	n, err := strconv.ParseUint(digits, 0, 64)
	switch {
	case err == nil && !strings.Contains(text, "_") && !negative:
		return n, nil
	case err == nil && !strings.Contains(text, "_") && n <= 1<<63:
		return -n, nil
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%s is no whole number from 0 to 2^64-1", text)
	}
	known := make([]string, 0, len(names))
	for _, k := range names {
		known = append(known, k.name)
	}
	if near := nearest.Name(text, slices.Values(known)); near != "" {
		return 0, fmt.Errorf("%q is no number; did you mean %s?", text, near)
	}
	return 0, fmt.Errorf("%q is neither a number nor a constant for this argument", text)
}

// selector reads what follows "if" or "unless", where and and or join.
func (c *textClause) selector(s *Selector, joint string) error {
	for {
		if err := c.term(s, joint); err != nil {
			return err
		}
		w := c.next()
		switch {
		case w.text == "":
			return nil
		case w.is("|") && joint == "and":
			return c.t.fail(w.line, `"if" needs each capability that it names; write "and cap NAME"`)
		case w.is("and") && joint == "or":
			return c.t.fail(w.line, `any part of "unless" suffices; join them with "or"`)
		case w.is("or") && joint == "and":
			return c.t.fail(w.line, `every part of "if" is needed; join them with "and", or write a rule for each`)
		case !w.is(joint):
			return c.missing(w, joint)
		}
	}
}

// term reads one part of a selector.
func (c *textClause) term(s *Selector, joint string) error {
	w := c.next()
	switch {
	case w.is("cap"):
		return c.caps(s, joint)
	case w.is("arch"):
		if len(s.Arches) > 0 && joint == "and" {
			return c.t.fail(w.line, `arch given twice; write the alternatives as "arch amd64|arm64"`)
		}
		return c.arches(s)
	case w.is("kernel"):
		if s.MinKernel != (KernelVersion{}) {
			return c.t.fail(w.line, "kernel given twice")
		}
		if !c.takes(">=") {
			return c.missing(c.next(), ">= after kernel")
		}
		v := c.next()
		var err error
		if s.MinKernel, err = parseKernelVersion(v.text); err != nil {
			return c.t.fail(v.line, "%w", err)
		}
		return nil
	}
	return c.missing(w, "cap, arch or kernel")
}

func (c *textClause) caps(s *Selector, joint string) error {
	for {
		w := c.next()
		if w.text == "" {
			return c.missing(w, "a capability")
		}
		known, err := capability.Parse(w.text)
		if err != nil {
			return c.t.fail(w.line, "%w", err)
		}
		s.Caps = s.Caps.Add(known)
		if joint == "and" || !c.takes("|") {
			return nil
		}
	}
}

func (c *textClause) arches(s *Selector) error {
	for {
		w := c.next()
		if w.text == "" {
			return c.missing(w, "an architecture")
		}
		a, err := c.t.archName(w)
		if err != nil {
			return err
		}
		s.Arches = append(s.Arches, a)
		if !c.takes("|") {
			return nil
		}
	}
}

// Text returns the profile in the form that [ParseText] reads back as an equal
// profile. A profile that no parser made and that this form cannot hold, such
// as one with a misspelt name, is an error.
func (p *Profile) Text() ([]byte, error) {
	w := textWriter{}
	w.head(p)
	for i := range p.Syscalls {
		w.rule(&p.Syscalls[i])
	}
	return w.b.Bytes(), p.verify(w.b.Bytes(), p, ParseText)
}

// textWriter writes lines of at most textWidth columns.
type textWriter struct {
	b     bytes.Buffer
	apart bool // the last rule took several lines: leave one blank
}

const textWidth = 80

func (w *textWriter) head(p *Profile) {
	w.line("default " + textAction(p.DefaultAction))
	for _, f := range p.ArchMap {
		w.line(append([]string{"arch", f.Arch.Short() + ":"}, archNames(f.SubArches, Arch.Short)...)...)
	}
	if len(p.Architectures) > 0 {
		w.line(append([]string{"arch"}, archNames(p.Architectures, Arch.Short)...)...)
	}
	var flags []string
	for _, name := range p.Flags.Names() {
		flags = append(flags, strings.TrimPrefix(name, flagPrefix))
	}
	switch {
	case len(flags) > 0:
		w.line("flag " + strings.Join(flags, " "))
	case p.FlagsGiven:
		w.line("flag none")
	}
	if p.ListenerPath != "" || p.ListenerMetadata != "" {
		text := "listener " + quoteWord(p.ListenerPath)
		if p.ListenerMetadata != "" {
			text += " " + quoteWord(p.ListenerMetadata)
		}
		w.b.WriteString(text + "\n")
	}
	w.apart = true
}

// quoteWord returns text as one word.
func quoteWord(text string) string {
	for _, r := range text {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("/._-:@,+", r)) {
			return strconv.Quote(text)
		}
	}
	if text == "" {
		return `""`
	}
	return text
}

// line writes a statement, broken between its parts where it is too long.
func (w *textWriter) line(parts ...string) {
	column := 0
	for i, part := range parts {
		switch {
		case i > 0 && column+1+len(part) > textWidth:
			w.b.WriteString("\n    ")
			column = 4
		case i > 0:
			w.b.WriteByte(' ')
			column++
		}
		w.b.WriteString(part)
		column += len(part)
	}
	w.b.WriteByte('\n')
}

func (w *textWriter) rule(r *SyscallRule) {
	parts := append([]string{textAction(r.Action)}, r.Names...)
	joint := "and"
	if repeats(r.Args) {
		joint = "or"
	}
	parts = appendClause(parts, "when", joint, textConditions(r))
	parts = appendClause(parts, "if", "and", textSelector(&r.Includes, "and"))
	parts = appendClause(parts, "unless", "or", textSelector(&r.Excludes, "or"))
	long := len(strings.Join(parts, " ")) > textWidth
	if w.apart || long || r.Comment != "" {
		w.b.WriteByte('\n')
	}
	w.b.WriteString(textComment(r.Comment))
	w.line(parts...)
	w.apart = long
}

// appendClause appends the parts of a clause, each with the word before it.
func appendClause(list []string, keyword, joint string, parts []string) []string {
	for _, part := range parts {
		list = append(list, keyword+" "+part)
		keyword = joint
	}
	return list
}

// textComment returns the lines of a comment.
func textComment(comment string) string {
	if comment == "" {
		return ""
	}
	lines := strings.Split(comment, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight("# "+line, " \t\r")
	}
	if utf8.ValidString(comment) && plainComment(lines) == comment {
		return strings.Join(lines, "\n") + "\n"
	}
	return "# " + strconv.Quote(comment) + "\n"
}

func textAction(a Action) string {
	switch a.Kind() {
	case errno:
		return "errno " + errnoName(a.Data())
	case trace:
		return "trace " + strconv.Itoa(int(a.Data()))
	}
	for _, name := range textActions {
		if known, ok := plainAction(textWord{text: name}); ok && known == a {
			return name
		}
	}
	return a.String() // no parser makes one; the reader will refuse it
}

func textConditions(r *SyscallRule) []string {
	var parts []string
	for _, c := range r.Args {
		format := textNumber
		if names := constantsOf(r, c.Index); names != nil && constantsFit(r, c.Index) {
			format = func(v uint64) string { return textConstant(v, names, c.Op) }
		}
		arg := fmt.Sprintf("arg%d", c.Index)
		switch {
		case c.Op == MaskedEQ:
			parts = append(parts, fmt.Sprintf("%s & %s == %s", arg, format(c.Value), format(c.ValueTwo)))
		case int(c.Op) < len(textOps):
			parts = append(parts, fmt.Sprintf("%s %s %s", arg, textOps[c.Op], format(c.Value)))
		default:
			parts = append(parts, fmt.Sprintf("%s %v %d", arg, c.Op, c.Value))
		}
	}
	return parts
}

// textNumber writes small numbers as people count them and others as bits.
func textNumber(v uint64) string {
	if v < 4096 {
		return strconv.FormatUint(v, 10)
	}
	return "0x" + strconv.FormatUint(v, 16)
}

// textSelector writes the parts of a selector.
func textSelector(s *Selector, joint string) []string {
	var parts []string
	var caps []string
	for _, c := range s.Caps.List() {
		caps = append(caps, c.Short())
	}
	if joint == "or" && len(caps) > 0 {
		caps = []string{strings.Join(caps, "|")}
	}
	for _, c := range caps {
		parts = append(parts, "cap "+c)
	}
	if len(s.Arches) > 0 {
		parts = append(parts, "arch "+strings.Join(archNames(s.Arches, Arch.Short), "|"))
	}
	if s.MinKernel != (KernelVersion{}) {
		parts = append(parts, "kernel >= "+s.MinKernel.String())
	}
	return parts
}
