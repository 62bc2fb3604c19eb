// Package jsonline writes JSON text by hand, for what runs in the monitor: a
// JSON library would double its memory. It only writes; whoever reads has
// encoding/json.
package jsonline

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// AppendString appends p as a JSON string. Bytes that are not UTF-8 become
// U+FFFD; <, > and & are escaped, as Docker's logs have them.
func AppendString[T string | []byte](b []byte, text T) []byte {
	p := []byte(text)
	b = append(b, '"')
	for i := 0; i < len(p); {
		c := p[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c == '\n':
				b = append(b, '\\', 'n')
			case c == '\r':
				b = append(b, '\\', 'r')
			case c == '\t':
				b = append(b, '\\', 't')
			case c < 0x20 || c == '<' || c == '>' || c == '&':
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			default:
				b = append(b, c)
			}
			continue
		}
		r, n := utf8.DecodeRune(p[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = append(b, `\ufffd`...)
		case r == 0x2028 || r == 0x2029:
			b = append(b, `\u202`...)
			b = append(b, hexDigits[r&15])
		default:
			b = append(b, p[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}

// Members writes the inside of a JSON object of strings: keys and values in
// turn.
func Members(pairs ...string) string {
	var b []byte
	for i := 0; i+1 < len(pairs); i += 2 {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, pairs[i])
		b = append(b, ':')
		b = AppendString(b, pairs[i+1])
	}
	return string(b)
}
