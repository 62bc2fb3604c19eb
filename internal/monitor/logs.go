package monitor

import (
	"os"
	"sync"
	"time"
	"unicode/utf8"
)

// maxLine is the longest record of a log: a longer line becomes several
// records, of which only the last ends in a newline, as in Docker's json-file.
const maxLine = 16 << 10

// logFile writes the json-file format: one object a line with the keys log,
// stream and time (RFC 3339, nanoseconds, UTC).
type logFile struct {
	mu   sync.Mutex
	path string
	f    *os.File
	out  []byte
}

// stream is one output stream's share of a log: the begun line.
type stream struct {
	log  *logFile
	name string
	line []byte
}

func (s *stream) write(p []byte) {
	if s.log == nil {
		return
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for len(p) > 0 {
		n, full := len(p), false
		for i, c := range p {
			if c == '\n' {
				n, full = i+1, true
				break
			}
		}
		if room := maxLine - len(s.line); n > room {
			n, full = room, true
		}
		s.line = append(s.line, p[:n]...)
		p = p[n:]
		if full {
			s.record()
		}
	}
	s.log.flush()
}

// end writes what is left of a line without a newline.
func (s *stream) end() {
	if s.log == nil || len(s.line) == 0 {
		return
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.record()
	s.log.flush()
}

func (s *stream) record() {
	b := append(s.log.out, `{"log":`...)
	b = appendJSON(b, s.line)
	b = append(b, `,"stream":"`...)
	b = append(b, s.name...)
	b = append(b, `","time":"`...)
	b = time.Now().UTC().AppendFormat(b, time.RFC3339Nano)
	s.log.out = append(b, '"', '}', '\n')
	s.line = s.line[:0]
}

// flush appends the records in one write. A log that cannot be written (a full
// disk) loses lines; the container goes on, as under Docker.
func (l *logFile) flush() {
	if l.f == nil {
		f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
		if err != nil {
			l.out = l.out[:0]
			return
		}
		l.f = f
	}
	l.f.Write(l.out)
	l.out = l.out[:0]
}

const hexDigits = "0123456789abcdef"

// appendJSON appends p as a JSON string. Bytes that are not UTF-8 become
// U+FFFD; <, > and & are escaped, as Docker's logs have them.
func appendJSON(b, p []byte) []byte {
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
