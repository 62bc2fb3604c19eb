package seccomp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/internal/nearest"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// ParseProfile reads a profile in Docker's or OCI's JSON. File is the name for
// messages. Reading is strict: a field, action, operator, architecture, flag,
// capability or system call that is not known is an error of type [*Error]
// that names the line, the field and, if there is one, the nearest known name.
// Names of system calls that exist only on other architectures are accepted.
//
// The fields "defaultErrno" and "errno" of Podman's profiles, which name the
// error that "defaultErrnoRet" and "errnoRet" give as a number, are understood
// and must agree with these.
func ParseProfile(file string, data []byte) (*Profile, error) {
	d := decoder{file: file}
	root, err := d.parse(data)
	if err != nil {
		return nil, err
	}
	p := &Profile{File: file}
	if err := d.profile(root, p); err != nil {
		return nil, err
	}
	return p, nil
}

// node is a JSON value with its place.
type node struct {
	line    int
	kind    byte   // one of { [ " 0 t n: the form of the value
	text    string // of a string or number
	members []member
	items   []node
}

type member struct {
	key   string
	line  int
	value node
}

// maxDepth bounds how deep values nest. Profiles nest five levels.
const maxDepth = 32

// decoder makes errors with their place.
type decoder struct {
	file string
	data []byte
	json *json.Decoder
	line int   // line of offset seen
	seen int64 // offset up to which lines are counted
}

func (d *decoder) fail(line int, path string, err error) error {
	return &Error{File: d.file, Line: line, Path: path, Err: err}
}

func (d *decoder) failf(line int, path, format string, args ...any) error {
	return d.fail(line, path, fmt.Errorf(format, args...))
}

// parse reads data, which must be one JSON value.
func (d *decoder) parse(data []byte) (node, error) {
	if len(data) > maxProfile {
		return node{}, d.failf(0, "", "larger than %d bytes", maxProfile)
	}
	if n, ok := scan(data); ok {
		return n, nil
	}
	return d.decode(data)
}

// decode is parse for any text, with the library's decoder.
func (d *decoder) decode(data []byte) (node, error) {
	d.data, d.line = data, 1
	d.json = json.NewDecoder(bytes.NewReader(data))
	d.json.UseNumber()
	root, err := d.value("", 0)
	if err != nil {
		return node{}, err
	}
	if _, err := d.json.Token(); err != io.EOF {
		return node{}, d.failf(d.here(), "", "more data after the profile")
	}
	return root, nil
}

// here returns the line that the decoder has read up to.
func (d *decoder) here() int {
	end := min(d.json.InputOffset(), int64(len(d.data)))
	if end > d.seen {
		d.line += bytes.Count(d.data[d.seen:end], []byte{'\n'})
		d.seen = end
	}
	return d.line
}

// token reads the next token of the value at path.
func (d *decoder) token(path string) (json.Token, error) {
	t, err := d.json.Token()
	if err == nil {
		return t, nil
	}
	line := d.here()
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the file ends in the middle of the profile")
		line = 1 + bytes.Count(bytes.TrimRight(d.data, " \t\r\n"), []byte{'\n'})
	case errors.As(err, &syntax):
		line = d.lineOf(syntax.Offset)
	}
	return nil, d.fail(line, path, err)
}

// lineOf returns the line of a syntax error that is at offset or, where the
// parser stopped before what it cannot read, at that.
func (d *decoder) lineOf(offset int64) int {
	at := min(max(int(offset)-1, 0), len(d.data))
	if at < len(d.data) && bytes.IndexByte([]byte("{[,: \t\r\n"), d.data[at]) >= 0 {
		at++
		at += len(d.data[at:]) - len(bytes.TrimLeft(d.data[at:], " \t\r\n"))
	}
	return 1 + bytes.Count(d.data[:at], []byte{'\n'})
}

func (d *decoder) value(path string, depth int) (node, error) {
	if depth > maxDepth {
		return node{}, d.failf(d.here(), "", "values nest deeper than %d levels", maxDepth)
	}
	t, err := d.token(path)
	if err != nil {
		return node{}, err
	}
	n := node{line: d.here()}
	switch t := t.(type) {
	case json.Delim:
		n.kind = byte(t)
		if t == '{' {
			err = d.object(&n, path, depth)
		} else {
			err = d.list(&n, path, depth)
		}
	case string:
		n.kind, n.text = '"', t
	case json.Number:
		n.kind, n.text = '0', t.String()
	case bool:
		n.kind = 't'
	case nil:
		n.kind = 'n'
	}
	return n, err
}

func (d *decoder) object(n *node, path string, depth int) error {
	for d.json.More() {
		t, err := d.token(path)
		if err != nil {
			return err
		}
		key, line := t.(string), d.here()
		for _, m := range n.members {
			if m.key == key {
				return d.failf(line, join(path, key), "field given twice, first in line %d", m.line)
			}
		}
		v, err := d.value(join(path, key), depth+1)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{key, line, v})
	}
	_, err := d.token(path)
	return err
}

func (d *decoder) list(n *node, path string, depth int) error {
	for d.json.More() {
		v, err := d.value(item(path, len(n.items)), depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, v)
	}
	_, err := d.token(path)
	return err
}

// join appends a key of the file to a path. A key that is no plain word is
// quoted, so that messages stay one line.
func join(path, key string) string {
	for _, r := range key {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_') {
			key = strconv.Quote(key)
			break
		}
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func item(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// field is how a known member of an object is read.
type field struct {
	key  string
	read func(n node, path string) error
}

// fields reads the members of an object by the given list. A member with the
// value null counts as absent. It returns which were there.
func (d *decoder) fields(n node, path string, known []field) (map[string]int, error) {
	if n.kind != '{' {
		return nil, d.wrongKind(n, path, "an object")
	}
	lines := make(map[string]int, len(n.members))
	for _, m := range n.members {
		at := slices.IndexFunc(known, func(f field) bool { return f.key == m.key })
		if at < 0 {
			return nil, d.failf(m.line, join(path, m.key), "unknown field%s", suggestField(m.key, known))
		}
		if m.value.kind == 'n' {
			continue
		}
		if err := known[at].read(m.value, join(path, m.key)); err != nil {
			return nil, err
		}
		lines[m.key] = m.line
	}
	return lines, nil
}

func suggestField(key string, known []field) string {
	for _, f := range known {
		if strings.EqualFold(f.key, key) {
			return "; did you mean " + f.key + "?"
		}
	}
	near := nearest.Name(key, func(yield func(string) bool) {
		for _, f := range known {
			if !yield(f.key) {
				return
			}
		}
	})
	if near == "" {
		return ""
	}
	return "; did you mean " + near + "?"
}

func (d *decoder) wrongKind(n node, path, want string) error {
	got := map[byte]string{'{': "an object", '[': "a list", '"': "a string", '0': "a number", 't': "true or false", 'n': "null"}[n.kind]
	return d.failf(n.line, path, "must be %s, not %s", want, got)
}

// each reads the items of a list.
func (d *decoder) each(read func(n node, path string) error) func(node, string) error {
	return func(n node, path string) error {
		if n.kind != '[' {
			return d.wrongKind(n, path, "a list")
		}
		for i, v := range n.items {
			if err := read(v, item(path, i)); err != nil {
				return err
			}
		}
		return nil
	}
}

// texts reads a list of strings and hands them to set. Profiles have long ones:
// the path of an item is made only where it is needed.
func (d *decoder) texts(set func(string) error) func(node, string) error {
	return func(n node, path string) error {
		if n.kind != '[' {
			return d.wrongKind(n, path, "a list")
		}
		for i, v := range n.items {
			if v.kind != '"' {
				return d.wrongKind(v, item(path, i), "a string")
			}
			if err := set(v.text); err != nil {
				return d.fail(v.line, item(path, i), err)
			}
		}
		return nil
	}
}

// text reads a string and hands it to set.
func (d *decoder) text(set func(string) error) func(node, string) error {
	return func(n node, path string) error {
		if n.kind != '"' {
			return d.wrongKind(n, path, "a string")
		}
		if err := set(n.text); err != nil {
			return d.fail(n.line, path, err)
		}
		return nil
	}
}

func (d *decoder) string(to *string) func(node, string) error {
	return d.text(func(s string) error { *to = s; return nil })
}

// parsed reads a string through parse.
func parsed[T any](d *decoder, to *T, parse func(string) (T, error)) func(node, string) error {
	return d.text(func(s string) (err error) { *to, err = parse(s); return err })
}

// appended reads a list of strings through parse.
func appended[T any](d *decoder, to *[]T, parse func(string) (T, error)) func(node, string) error {
	return d.texts(func(s string) error {
		v, err := parse(s)
		*to = append(*to, v)
		return err
	})
}

func (d *decoder) number(to *uint64) func(node, string) error {
	return func(n node, path string) error {
		if n.kind != '0' {
			return d.wrongKind(n, path, "a number")
		}
		v, err := strconv.ParseUint(n.text, 10, 64)
		if err != nil {
			return d.failf(n.line, path, "%s is no whole number from 0 to 2^64-1", n.text)
		}
		*to = v
		return nil
	}
}

func (d *decoder) profile(n node, p *Profile) error {
	var e errnoFields
	lines, err := d.fields(n, "", []field{
		{"defaultAction", parsed(d, &p.DefaultAction, parseAction)},
		{"defaultErrnoRet", d.number(&e.ret)},
		{"defaultErrno", d.string(&e.name)},
		{"archMap", d.each(func(n node, path string) error { return d.archFamily(n, path, p) })},
		{"architectures", appended(d, &p.Architectures, syscalls.ParseArch)},
		{"flags", d.texts(func(s string) error {
			flag, err := parseFlag(s)
			p.Flags |= flag
			return err
		})},
		{"listenerPath", d.string(&p.ListenerPath)},
		{"listenerMetadata", d.string(&p.ListenerMetadata)},
		{"syscalls", d.each(func(n node, path string) error { return d.rule(n, path, p) })},
	})
	if err != nil {
		return err
	}
	if lines["defaultAction"] == 0 {
		return d.failf(n.line, "defaultAction", "missing")
	}
	if p.DefaultAction == Notify {
		return d.failf(lines["defaultAction"], "defaultAction", "SCMP_ACT_NOTIFY cannot be the default action")
	}
	if len(p.Architectures) > 0 && len(p.ArchMap) > 0 {
		return d.failf(lines["architectures"], "architectures", "cannot be given together with archMap; use one of both")
	}
	if p.ListenerMetadata != "" && p.ListenerPath == "" {
		return d.failf(lines["listenerMetadata"], "listenerMetadata", "has no meaning without listenerPath")
	}
	p.FlagsGiven = lines["flags"] != 0
	e.keyRet, e.keyName, e.lines = "defaultErrnoRet", "defaultErrno", lines
	p.DefaultAction, err = d.errno(&e, "", p.DefaultAction)
	return err
}

// errnoFields are the two ways to give the number of an action.
type errnoFields struct {
	ret             uint64
	name            string
	keyRet, keyName string
	lines           map[string]int
}

// errno completes action with the number that the fields give.
func (d *decoder) errno(e *errnoFields, path string, action Action) (Action, error) {
	var n *uint64
	key := e.keyRet
	if e.lines[e.keyRet] != 0 {
		n = &e.ret
	}
	if e.lines[e.keyName] != 0 && e.name != "" {
		number, ok := parseErrnoName(e.name)
		named := uint64(number)
		switch {
		case !ok:
			return 0, d.failf(e.lines[e.keyName], join(path, e.keyName), "unknown error %q", e.name)
		case n != nil && *n != named:
			return 0, d.failf(e.lines[e.keyName], join(path, e.keyName), "%s is %d, but %s is %d", e.name, named, e.keyRet, *n)
		case n == nil:
			n, key = &named, e.keyName
		}
	}
	complete, err := action.withData(n)
	if err != nil {
		return 0, d.fail(e.lines[key], join(path, key), err)
	}
	return complete, nil
}

func (d *decoder) archFamily(n node, path string, p *Profile) error {
	var f ArchFamily
	lines, err := d.fields(n, path, []field{
		{"architecture", parsed(d, &f.Arch, syscalls.ParseArch)},
		{"subArchitectures", appended(d, &f.SubArches, syscalls.ParseArch)},
	})
	if err != nil {
		return err
	}
	if lines["architecture"] == 0 {
		return d.failf(n.line, join(path, "architecture"), "missing")
	}
	for _, other := range p.ArchMap {
		if other.Arch == f.Arch {
			return d.failf(n.line, path, "%v is mapped twice", f.Arch)
		}
	}
	p.ArchMap = append(p.ArchMap, f)
	return nil
}

func (d *decoder) rule(n node, path string, p *Profile) error {
	r := SyscallRule{Line: n.line}
	var e errnoFields
	var name string
	var listed bool
	lines, err := d.fields(n, path, []field{
		{"name", d.text(func(s string) error { name = s; return r.addName(s) })},
		{"names", func(n node, path string) error { listed = true; return d.texts(r.addName)(n, path) }},
		{"action", parsed(d, &r.Action, parseAction)},
		{"errnoRet", d.number(&e.ret)},
		{"errno", d.string(&e.name)},
		{"args", d.each(func(n node, path string) error { return d.condition(n, path, &r) })},
		{"comment", d.string(&r.Comment)},
		{"includes", func(n node, path string) error { return d.selector(n, path, &r.Includes) }},
		{"excludes", func(n node, path string) error { return d.selector(n, path, &r.Excludes) }},
	})
	if err != nil {
		return err
	}
	switch {
	case name != "" && listed:
		return d.failf(lines["name"], join(path, "name"), "cannot be given together with names; use one of both")
	case len(r.Names) == 0:
		return d.failf(n.line, join(path, "names"), "names no system call")
	}
	if lines["action"] == 0 {
		return d.failf(n.line, join(path, "action"), "missing")
	}
	e.keyRet, e.keyName, e.lines = "errnoRet", "errno", lines
	if r.Action, err = d.errno(&e, path, r.Action); err != nil {
		return err
	}
	for i, c := range r.Args {
		if err := r.possible(c); err != nil {
			return d.fail(lines["args"], item(join(path, "args"), i), err)
		}
	}
	p.Syscalls = append(p.Syscalls, r)
	return nil
}

func (d *decoder) condition(n node, path string, r *SyscallRule) error {
	var index uint64
	var c Condition
	lines, err := d.fields(n, path, []field{
		{"index", d.number(&index)},
		{"value", d.number(&c.Value)},
		{"valueTwo", d.number(&c.ValueTwo)},
		{"op", parsed(d, &c.Op, parseOp)},
	})
	if err != nil {
		return err
	}
	for _, key := range []string{"index", "value", "op"} {
		if lines[key] == 0 {
			return d.failf(n.line, join(path, key), "missing")
		}
	}
	c.Index = uint8(min(index, 255))
	if err := c.validate(); err != nil {
		if c.Index > 5 {
			path = join(path, "index")
		}
		return d.fail(n.line, path, err)
	}
	r.Args = append(r.Args, c)
	return nil
}

func (d *decoder) selector(n node, path string, s *Selector) error {
	_, err := d.fields(n, path, []field{
		{"caps", d.texts(func(name string) error {
			c, err := parseCap(name)
			s.Caps = s.Caps.Add(c)
			return err
		})},
		{"arches", appended(d, &s.Arches, syscalls.ParseShort)},
		{"minKernel", d.text(func(text string) (err error) {
			if text != "" {
				s.MinKernel, err = parseKernelVersion(text)
			}
			return err
		})},
	})
	return err
}

// parseCap reads the name of a capability in the form of profiles, which is
// the full name in capitals.
func parseCap(name string) (capability.Cap, error) {
	c, err := capability.Parse(name)
	if err == nil && c.String() != name {
		return 0, fmt.Errorf("unknown capability %q; did you mean %v?", name, c)
	}
	return c, err
}
