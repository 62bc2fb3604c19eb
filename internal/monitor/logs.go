package monitor

import (
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brig-run/brig/internal/jsonline"
)

// maxLine is the longest record of a log: a longer line becomes several
// records, of which only the last ends in a newline, as in Docker's json-file.
const maxLine = 16 << 10

// logFile writes the json-file format: one object a line with the keys log,
// stream and time (RFC 3339, nanoseconds, UTC), and attrs if there are any.
// Beside it, or in its place, goes the same to journald.
type logFile struct {
	Log
	// compress begins to compress a file; the channel tells of the end.
	compress func(path string) <-chan int

	busy  atomic.Int32 // goroutines that are writing at this moment
	queue *queue       // of lines, where the container does not wait

	mu          sync.Mutex
	f           *os.File
	size        int64
	out         []byte
	journal     *journal
	compressing <-chan int
}

func newLog(l Log) *logFile {
	if l.Path == "" && l.Journal == "" {
		return nil
	}
	f := &logFile{Log: l}
	if l.Journal != "" {
		f.journal = &journal{fields: l.Journal, fd: -1}
	}
	if l.Buffer > 0 {
		f.queue = newQueue(l.Buffer)
		go f.writeQueued()
	}
	return f
}

// close waits until all is written.
func (l *logFile) close() {
	if l != nil && l.queue != nil {
		l.queue.close()
		<-l.queue.done
	}
}

// writeQueued writes what waits, until the queue is closed and empty.
func (l *logFile) writeQueued() {
	defer close(l.queue.done)
	for {
		lines := l.queue.take()
		if len(lines) == 0 {
			return
		}
		l.busy.Add(1)
		l.mu.Lock()
		for _, s := range lines {
			s.record()
		}
		l.flush()
		l.mu.Unlock()
		l.busy.Add(-1)
	}
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
	if s.log.queue != nil {
		s.split(p, s.enqueue)
		return
	}
	s.log.busy.Add(1)
	defer s.log.busy.Add(-1)
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.split(p, s.record)
	s.log.flush()
}

// split calls full with each line that is full.
func (s *stream) split(p []byte, full func()) {
	for len(p) > 0 {
		n, end := len(p), false
		for i, c := range p {
			if c == '\n' {
				n, end = i+1, true
				break
			}
		}
		if room := maxLine - len(s.line); n > room {
			n, end = room, true
		}
		s.line = append(s.line, p[:n]...)
		p = p[n:]
		if end {
			full()
		}
	}
}

// enqueue lets the line wait to be written.
func (s *stream) enqueue() {
	s.log.queue.put(&stream{log: s.log, name: s.name, line: append([]byte(nil), s.line...)})
	s.line = s.line[:0]
}

// end writes what is left of a line without a newline.
func (s *stream) end() {
	if s.log == nil || len(s.line) == 0 {
		return
	}
	if s.log.queue != nil {
		s.enqueue()
		return
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.record()
	s.log.flush()
}

func (s *stream) record() {
	l := s.log
	if l.journal != nil {
		l.journal.send(s.line, s.name == "stderr")
	}
	if l.Path == "" {
		s.line = s.line[:0]
		return
	}
	begin := len(l.out)
	b := append(l.out, `{"log":`...)
	b = jsonline.AppendString(b, s.line)
	b = append(b, `,"stream":"`...)
	b = append(b, s.name...)
	if l.Attributes != "" {
		b = append(b, `","attrs":{`...)
		b = append(b, l.Attributes...)
		b = append(b, `},"time":"`...)
	} else {
		b = append(b, `","time":"`...)
	}
	b = time.Now().UTC().AppendFormat(b, time.RFC3339Nano)
	l.out = append(b, '"', '}', '\n')
	s.line = s.line[:0]
	// A file that is full is followed by another one before this record.
	if l.MaxSize > 0 && l.length()+int64(begin) > 0 && l.length()+int64(len(l.out)) > l.MaxSize {
		last := append([]byte(nil), l.out[begin:]...)
		l.out = l.out[:begin]
		l.flush()
		l.rotate()
		l.out = append(l.out, last...)
	}
}

// length is that of the present file.
func (l *logFile) length() int64 {
	l.open()
	return l.size
}

func (l *logFile) open() {
	if l.f != nil {
		return
	}
	f, err := os.OpenFile(l.Path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return
	}
	l.f = f
	if fi, err := f.Stat(); err == nil {
		l.size = fi.Size()
	}
}

// flush appends the records in one write. A log that cannot be written (a full
// disk) loses lines; the container goes on, as under Docker.
func (l *logFile) flush() {
	if len(l.out) == 0 {
		return
	}
	if l.open(); l.f != nil {
		n, _ := l.f.Write(l.out)
		l.size += int64(n)
	}
	l.out = l.out[:0]
}

// rotate makes the present file the last one, PATH.1, and what was that PATH.2,
// and so on; the oldest goes. Readers find the order by the numbers.
func (l *logFile) rotate() {
	if l.compressing != nil {
		<-l.compressing // its name must not change under it
		l.compressing = nil
	}
	if l.f != nil {
		l.f.Close()
	}
	l.f, l.size = nil, 0
	if l.MaxFiles < 2 {
		os.Remove(l.Path)
		return
	}
	name := func(n int) string { return l.Path + "." + strconv.Itoa(n) }
	for n := l.MaxFiles - 1; n > 1; n-- {
		for _, suffix := range []string{"", ".gz"} {
			os.Remove(name(n) + suffix)
			os.Rename(name(n-1)+suffix, name(n)+suffix)
		}
	}
	os.Remove(name(1) + ".gz")
	os.Rename(l.Path, name(1))
	if l.Compress && l.compress != nil {
		l.compressing = l.compress(name(1))
	}
}
