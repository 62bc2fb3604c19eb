package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"strings"
	"time"

	"github.com/brig-run/brig/internal/nearest"
)

// Error is a fault in a policy file.
type Error struct {
	File string // as the caller named it
	Line int    // counted from 1; 0 if unknown
	Path string // the field, such as "syscalls[3].status"; "" for the whole
	Err  error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Path != "" {
		b.WriteString(": " + e.Path)
	}
	return strings.TrimPrefix(fmt.Sprintf("%s: %v", b.String(), e.Err), ": ")
}

// Unwrap returns the fault without its place.
func (e *Error) Unwrap() error { return e.Err }

// strict reads JSON into a Policy and knows where each value stands. Package
// json takes fields in any case, fields that come twice and, at best, unknown
// ones without a word.
type strict struct {
	file  string
	data  []byte
	dec   *json.Decoder
	line  int // of offset
	off   int64
	lines map[string]int // of values, by path
}

func (s *strict) read(p *Policy) error {
	s.dec = json.NewDecoder(bytes.NewReader(s.data))
	s.dec.UseNumber()
	s.line, s.lines = 1, map[string]int{}
	if err := s.value("", reflect.TypeFor[Policy]()); err != nil {
		return err
	}
	if _, err := s.dec.Token(); err != io.EOF {
		return s.failf("", "more data after the policy")
	}
	return s.unmarshal(p)
}

func (s *strict) unmarshal(p *Policy) error {
	err := json.Unmarshal(s.data, p)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		// The walk has checked all but the size and sign of numbers.
		line := 1 + bytes.Count(s.data[:min(int(mismatch.Offset), len(s.data))], []byte{'\n'})
		return &Error{s.file, line, mismatch.Field, fmt.Errorf("%s is out of range", mismatch.Value)}
	}
	if err != nil {
		return &Error{s.file, 0, "", err}
	}
	return nil
}

// here returns the line up to which the decoder has read.
func (s *strict) here() int {
	end := min(s.dec.InputOffset(), int64(len(s.data)))
	s.line += bytes.Count(s.data[s.off:end], []byte{'\n'})
	s.off = end
	return s.line
}

func (s *strict) failf(path, format string, args ...any) error {
	return &Error{s.file, s.here(), path, fmt.Errorf(format, args...)}
}

func (s *strict) token(path string) (json.Token, error) {
	t, err := s.dec.Token()
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, s.failf(path, "the file ends in the middle of the policy")
	case errors.As(err, &syntax):
		line := 1 + bytes.Count(s.data[:min(int(syntax.Offset), len(s.data))], []byte{'\n'})
		return nil, &Error{s.file, line, path, err}
	}
	return t, err
}

// value walks over one value, which must have the form of a type.
func (s *strict) value(path string, t reflect.Type) error {
	tok, err := s.token(path)
	if err != nil {
		return err
	}
	s.lines[path] = s.here()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	want := wants(t)
	if !want.fits(tok) {
		return s.failf(path, "must be %s, not %s", want, describe(tok))
	}
	switch {
	case want == aTime:
		if _, err := time.Parse(time.RFC3339Nano, tok.(string)); err != nil {
			return s.failf(path, `%q is no time; write it as "2006-01-02T15:04:05Z"`, tok)
		}
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		return s.object(path, t)
	case t.Kind() == reflect.Slice:
		return s.list(path, t)
	}
	return nil
}

func (s *strict) object(path string, t reflect.Type) error {
	seen := map[string]int{}
	for s.dec.More() {
		tok, err := s.token(path)
		if err != nil {
			return err
		}
		key := tok.(string)
		at := strings.TrimPrefix(path+"."+key, ".")
		if first, ok := seen[key]; ok {
			return s.failf(at, "field given twice, first in line %d", first)
		}
		seen[key] = s.here()
		value, ok := member(t, key)
		if !ok {
			return s.failf(at, "%s", unknown("field", key, fields(t)))
		}
		if err := s.value(at, value); err != nil {
			return err
		}
	}
	_, err := s.token(path)
	return err
}

func (s *strict) list(path string, t reflect.Type) error {
	for i := 0; s.dec.More(); i++ {
		if err := s.value(fmt.Sprintf("%s[%d]", path, i), t.Elem()); err != nil {
			return err
		}
	}
	_, err := s.token(path)
	return err
}

// member returns the type of a field of a struct, or of a map's values.
func member(t reflect.Type, key string) (reflect.Type, bool) {
	if t.Kind() == reflect.Map {
		return t.Elem(), true
	}
	for i := range t.NumField() {
		if fieldName(t.Field(i)) == key {
			return t.Field(i).Type, true
		}
	}
	return nil, false
}

func fieldName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func fields(t reflect.Type) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range t.NumField() {
			if !yield(fieldName(t.Field(i))) {
				return
			}
		}
	}
}

// unknown words the error for a name that is none of some.
func unknown(what, name string, names iter.Seq[string]) string {
	if near := nearest.Name(name, names); near != "" {
		return fmt.Sprintf("unknown %s %q; did you mean %s?", what, name, near)
	}
	return fmt.Sprintf("unknown %s %q", what, name)
}

// form is what a value must be, in words.
type form string

const (
	anObject form = "an object"
	aList    form = "a list"
	aString  form = "a string"
	aNumber  form = "a number"
	aBool    form = "true or false"
	aTime    form = "a time in a string"
)

func wants(t reflect.Type) form {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return aTime
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map:
		return anObject
	case t.Kind() == reflect.Slice:
		return aList
	case t.Kind() == reflect.String:
		return aString
	case t.Kind() == reflect.Bool:
		return aBool
	}
	return aNumber
}

func (f form) fits(tok json.Token) bool {
	return f == describe(tok) || f == aTime && describe(tok) == aString
}

func describe(tok json.Token) form {
	switch tok := tok.(type) {
	case json.Delim:
		if tok == '{' {
			return anObject
		}
		return aList
	case string:
		return aString
	case bool:
		return aBool
	case nil:
		return "null"
	}
	return aNumber
}
