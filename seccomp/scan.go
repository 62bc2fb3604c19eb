package seccomp

// scanner reads JSON quickly, as far as profiles need it. Where a text is not
// plain, it gives up, and the library's decoder reads it or says what is wrong.
type scanner struct {
	text string
	pos  int
	line int
}

// scan returns the value that is all of data. It is false if the text is not
// JSON, or has a string with an escape or other than ASCII, a field twice, or
// values that nest too deep.
func scan(data []byte) (node, bool) {
	s := scanner{text: string(data), line: 1}
	n, ok := s.value(0)
	return n, ok && s.peek() == 0 && s.pos == len(s.text)
}

// peek skips white space and returns the byte behind it, or 0 at the end.
func (s *scanner) peek() byte {
	for ; s.pos < len(s.text); s.pos++ {
		switch c := s.text[s.pos]; c {
		case '\n':
			s.line++
		case ' ', '\t', '\r':
		default:
			return c
		}
	}
	return 0
}

// take skips c if it comes next.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

func (s *scanner) value(depth int) (n node, ok bool) {
	c := s.peek()
	n.line = s.line
	switch {
	case depth > maxDepth:
		return n, false
	case c == '{':
		n.kind = c
		n.members, ok = s.object(depth)
	case c == '[':
		n.kind = c
		n.items, ok = s.list(depth)
	case c == '"':
		n.kind = c
		n.text, ok = s.string()
	case c == '-' || '0' <= c && c <= '9':
		n.kind = '0'
		n.text, ok = s.number()
	case s.literal("true") || s.literal("false"):
		n.kind, ok = 't', true
	case s.literal("null"):
		n.kind, ok = 'n', true
	}
	return n, ok
}

func (s *scanner) object(depth int) (members []member, ok bool) {
	s.pos++
	if s.take('}') {
		return nil, true
	}
	for {
		s.peek()
		line := s.line
		key, ok := s.string()
		if !ok || !s.take(':') {
			return nil, false
		}
		for _, m := range members {
			if m.key == key {
				return nil, false
			}
		}
		v, ok := s.value(depth + 1)
		if !ok {
			return nil, false
		}
		members = append(members, member{key, line, v})
		if s.take('}') {
			return members, true
		}
		if !s.take(',') {
			return nil, false
		}
	}
}

func (s *scanner) list(depth int) (items []node, ok bool) {
	s.pos++
	if s.take(']') {
		return nil, true
	}
	for {
		v, ok := s.value(depth + 1)
		if !ok {
			return nil, false
		}
		items = append(items, v)
		if s.take(']') {
			return items, true
		}
		if !s.take(',') {
			return nil, false
		}
	}
}

func (s *scanner) string() (string, bool) {
	if s.pos == len(s.text) || s.text[s.pos] != '"' {
		return "", false
	}
	start := s.pos + 1
	for i := start; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			s.pos = i + 1
			return s.text[start:i], true
		case c < ' ' || c == '\\' || c >= 0x80:
			return "", false
		}
	}
	return "", false
}

// number reads whole numbers only.
func (s *scanner) number() (string, bool) {
	start := s.pos
	if s.text[s.pos] == '-' {
		s.pos++
	}
	digits := s.pos
	for s.pos < len(s.text) && '0' <= s.text[s.pos] && s.text[s.pos] <= '9' {
		s.pos++
	}
	if n := s.pos - digits; n == 0 || n > 1 && s.text[digits] == '0' {
		return "", false
	}
	if s.pos < len(s.text) && (s.text[s.pos] == '.' || s.text[s.pos]|0x20 == 'e') {
		return "", false
	}
	return s.text[start:s.pos], true
}

func (s *scanner) literal(word string) bool {
	if len(s.text)-s.pos < len(word) || s.text[s.pos:s.pos+len(word)] != word {
		return false
	}
	s.pos += len(word)
	return true
}
