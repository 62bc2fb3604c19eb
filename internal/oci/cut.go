package oci

import (
	"bytes"
	"slices"
)

// cutRules finds linux.seccomp.syscalls in a configuration: brief is the text with
// an empty list in its place, and profile the text of linux.seccomp. Where that is
// not plain to see (a key twice, also in letters of another case, which the JSON
// library takes for the same) brief is the text, and profile nil.
//
// It relies on nothing: brief and profile are only used in place of the text where
// the JSON library has understood the same profile before.
func cutRules(text []byte) (brief, profile []byte) {
	linux, ok := member(text, "linux")
	if !ok {
		return text, nil
	}
	seccomp, ok := member(linux, "seccomp")
	if !ok {
		return text, nil
	}
	rules, ok := member(seccomp, "syscalls")
	if !ok || len(rules) == 0 || rules[0] != '[' {
		return text, nil
	}
	// All are parts of the one text, so that capacities tell where they begin.
	start := cap(text) - cap(rules)
	return slices.Concat(text[:start], []byte("[]"), text[start+len(rules):]), seccomp
}

// member gives the text of a member of a JSON object; false if there is no object,
// or not exactly one such member.
func member(object []byte, name string) (value []byte, ok bool) {
	i := skipSpace(object, 0)
	if i == len(object) || object[i] != '{' {
		return nil, false
	}
	for i++; ; i++ { // behind a brace or a comma
		i = skipSpace(object, i)
		end := skipValue(object, i)
		key := object[i:end]
		i = skipSpace(object, end)
		if len(key) < 2 || key[0] != '"' || bytes.IndexByte(key, '\\') >= 0 || i == len(object) || object[i] != ':' {
			return nil, false // also of an empty object
		}
		i = skipSpace(object, i+1)
		end = skipValue(object, i)
		if bytes.EqualFold(key[1:len(key)-1], []byte(name)) {
			if ok {
				return nil, false
			}
			value, ok = object[i:end], true
		}
		if i = skipSpace(object, end); i == len(object) || object[i] != ',' {
			return value, ok && i < len(object) && object[i] == '}'
		}
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue gives the end of the value that begins at i: of a string, of what is
// in brackets, or of a word.
func skipValue(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			if i = skipString(b, i); depth == 0 {
				return i
			}
			i--
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			} else if depth < 0 { // of the object around it
				return i
			}
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}

// skipString gives the end of the string that begins at i.
func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}
