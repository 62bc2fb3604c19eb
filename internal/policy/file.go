package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/capability"
	"github.com/brig-run/brig/seccomp/syscalls"
)

// maxFile bounds the size of a policy file in bytes. Those of servers have some
// 20 KiB.
const maxFile = 16 << 20

// Load reads the policy file at path; see [Parse].
func Load(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	p, err := Parse(path, data)
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	return p, nil
}

// Parse reads a policy file. File is the name for messages. Reading is strict: a
// field, status, capability, system call, ABI or error name that is not known,
// and an entry that comes twice, is an [*Error] that names the line and the
// field.
func Parse(file string, data []byte) (*Policy, error) {
	if len(data) > maxFile {
		return nil, &Error{file, 0, "", fmt.Errorf("larger than %d bytes", maxFile)}
	}
	s := &strict{file: file, data: data}
	p := &Policy{}
	if err := s.read(p); err != nil {
		return nil, err
	}
	if err := s.check(p); err != nil {
		return nil, err
	}
	return p, nil
}

// fault is what is wrong with a value, with its path within what is checked.
func (s *strict) fault(path string, err error) error {
	at := path
	for s.lines[at] == 0 && at != "" { // a field that is not there
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
	return &Error{s.file, s.lines[at], path, err}
}

// check looks at what the values mean.
func (s *strict) check(p *Policy) error {
	if p.Version != Version {
		if s.lines["version"] == 0 {
			return s.fault("version", fmt.Errorf("missing; this brig reads version %d", Version))
		}
		return s.fault("version", fmt.Errorf("%d is not known; this brig reads version %d", p.Version, Version))
	}
	for _, check := range []func(*Policy) error{s.checkRuns, s.checkCapabilities, s.checkSyscalls, s.checkAnswers} {
		if err := check(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *strict) checkRuns(p *Policy) error {
	seen := map[string]bool{}
	for i, r := range p.Runs {
		at := fmt.Sprintf("runs[%d]", i)
		switch {
		case r.ID == "":
			return s.fault(at+".id", errors.New("missing"))
		case seen[r.ID]:
			return s.fault(at+".id", fmt.Errorf("%s is there twice", r.ID))
		}
		seen[r.ID] = true
		if err := oneOf("purpose", r.Purpose, PurposeLearn, PurposeProve); err != nil {
			return s.fault(at+".purpose", err)
		}
	}
	return nil
}

func oneOf(what, word string, words ...string) error {
	if slices.Contains(words, word) {
		return nil
	}
	if word == "" {
		return fmt.Errorf("missing; one of %s", strings.Join(words, ", "))
	}
	return fmt.Errorf("%s; it is one of %s", unknown(what, word, slices.Values(words)), strings.Join(words, ", "))
}

func (s *strict) checkCapabilities(p *Policy) error {
	seen := map[capability.Cap]bool{}
	for i, c := range p.Capabilities {
		at := fmt.Sprintf("capabilities[%d]", i)
		one, err := capability.Parse(c.Name)
		if err != nil {
			return s.fault(at+".name", err)
		}
		if seen[one] {
			return s.fault(at+".name", fmt.Errorf("%s is there twice", c.Name))
		}
		seen[one] = true
		if err := oneOf("status", c.Status, Verified, Asked, Unneeded, Noise, Added); err != nil {
			return s.fault(at+".status", err)
		}
	}
	return nil
}

func (s *strict) checkSyscalls(p *Policy) error {
	seen := map[string]bool{}
	for i, c := range p.Syscalls {
		at := fmt.Sprintf("syscalls[%d]", i)
		if err := knownCall(c.Name); err != nil {
			return s.fault(at+".name", err)
		}
		if seen[c.Name] {
			return s.fault(at+".name", fmt.Errorf("%s is there twice", c.Name))
		}
		seen[c.Name] = true
		if err := oneOf("status", c.Status, Verified, Asked, Unneeded, Base, Added); err != nil {
			return s.fault(at+".status", err)
		}
		for n, abi := range c.ABIs {
			if _, err := syscalls.ParseShort(abi); err != nil {
				return s.fault(fmt.Sprintf("%s.abis[%d]", at, n), err)
			}
		}
		if err := s.checkArgs(at, &c); err != nil {
			return err
		}
	}
	return nil
}

func knownCall(name string) error {
	if syscalls.Known(name) {
		return nil
	}
	if near := syscalls.Nearest(name); near != "" {
		return fmt.Errorf("unknown system call %q; did you mean %s?", name, near)
	}
	return fmt.Errorf("unknown system call %q", name)
}

func (s *strict) checkArgs(at string, c *Syscall) error {
	var seen [6]bool
	for n, a := range c.Args {
		at := fmt.Sprintf("%s.args[%d]", at, n)
		switch {
		case a.Index > 5:
			return s.fault(at+".index", errors.New("a system call has only the arguments 0 to 5"))
		case seen[a.Index]:
			return s.fault(at+".index", fmt.Errorf("argument %d is there twice", a.Index))
		case len(a.Values) == 0:
			return s.fault(at+".values", errors.New("there are none"))
		case a.Enforce && a.Memory:
			return s.fault(at+".enforce", errors.New("no filter can see values in memory"))
		case a.Enforce && a.More:
			return s.fault(at+".enforce", errors.New("the list of values is not complete; set more to false if it is now"))
		}
		seen[a.Index] = true
		if err := s.checkTried(at, &a); err != nil {
			return err
		}
	}
	return nil
}

func (s *strict) checkTried(at string, a *Arg) error {
	seen := map[uint64]bool{}
	for n, v := range a.Tried {
		at := fmt.Sprintf("%s.tried[%d]", at, n)
		switch {
		case !slices.Contains(a.Values, v.Value):
			return s.fault(at+".value", fmt.Errorf("%d is none of the values", v.Value))
		case seen[v.Value]:
			return s.fault(at+".value", fmt.Errorf("%d is there twice", v.Value))
		}
		seen[v.Value] = true
		if err := oneOf("status", v.Status, Verified, Unneeded); err != nil {
			return s.fault(at+".status", err)
		}
	}
	return nil
}

func (s *strict) checkAnswers(p *Policy) error {
	allowed := map[string]bool{}
	for i := range p.Syscalls {
		allowed[p.Syscalls[i].Name] = p.Syscalls[i].Allowed() && !p.Syscalls[i].conditional()
	}
	for i, a := range p.Answers {
		at := fmt.Sprintf("answers[%d]", i)
		if err := knownCall(a.Name); err != nil {
			return s.fault(at+".name", err)
		}
		if allowed[a.Name] {
			return s.fault(at+".name", fmt.Errorf("%s is allowed by an entry of syscalls, so it gets no error", a.Name))
		}
		if _, err := errnoOf(a.Errno); err != nil {
			return s.fault(at+".errno", err)
		}
		allowed[a.Name] = true // now it is there twice
	}
	return nil
}

func errnoOf(name string) (unix.Errno, error) {
	for n := unix.Errno(1); n < 200; n++ {
		if unix.ErrnoName(n) == name && name != "" {
			return n, nil
		}
	}
	names := func(yield func(string) bool) {
		for n := unix.Errno(1); n < 200; n++ {
			if name := unix.ErrnoName(n); name != "" && !yield(name) {
				return
			}
		}
	}
	return 0, errors.New(unknown("error", name, names))
}

// Encode returns the policy as a file: indented by tabs, with one line for each
// entry of a list, so that version control shows what changed.
func (p *Policy) Encode() ([]byte, error) {
	var b bytes.Buffer
	var values map[string]json.RawMessage
	whole := *p // lists that every file has
	if whole.Capabilities == nil {
		whole.Capabilities = []Capability{}
	}
	if whole.Syscalls == nil {
		whole.Syscalls = []Syscall{}
	}
	data, err := json.Marshal(&whole)
	if err == nil {
		err = json.Unmarshal(data, &values)
	}
	if err != nil {
		return nil, fmt.Errorf("write the policy: %w", err)
	}
	b.WriteString("{")
	separator := "\n\t"
	for name := range fields(reflect.TypeFor[Policy]()) {
		value, ok := values[name]
		if !ok {
			continue
		}
		fmt.Fprintf(&b, "%s%q: ", separator, name)
		if err := encodeField(&b, value); err != nil {
			return nil, fmt.Errorf("write the policy: %w", err)
		}
		separator = ",\n\t"
	}
	b.WriteString("\n}\n")
	return b.Bytes(), nil
}

func encodeField(b *bytes.Buffer, value json.RawMessage) error {
	var list []json.RawMessage
	if value[0] != '[' {
		spaced(b, value)
		return nil
	}
	if err := json.Unmarshal(value, &list); err != nil {
		return err
	}
	if len(list) == 0 || list[0][0] != '{' && len(value) < 100 {
		spaced(b, value)
		return nil
	}
	separator := "[\n\t\t"
	for _, entry := range list {
		b.WriteString(separator)
		spaced(b, entry)
		separator = ",\n\t\t"
	}
	b.WriteString("\n\t]")
	return nil
}

// spaced writes compact JSON with a space after each colon and comma.
func spaced(b *bytes.Buffer, compact []byte) {
	inside := false
	for i := 0; i < len(compact); i++ {
		c := compact[i]
		b.WriteByte(c)
		switch {
		case inside && c == '\\':
			i++
			b.WriteByte(compact[i])
		case c == '"':
			inside = !inside
		case !inside && (c == ':' || c == ','):
			b.WriteByte(' ')
		}
	}
}
