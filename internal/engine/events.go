package engine

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/events"
	"github.com/brig-run/brig/internal/jsonline"
)

// Event notes what happened to the container; more are keys and values.
func (c *Container) Event(action string, more ...string) {
	attributes := c.attributes()
	if len(more) > 0 {
		attributes += "," + jsonline.Members(more...)
	}
	events.Append(c.engine.path("events"), events.Event{Type: "container", Action: action, ID: c.ID, Attributes: attributes})
}

// Event notes what happened to an image, a network or a volume; attributes are
// keys and values.
func (e *Engine) Event(kind, action, id string, attributes ...string) {
	events.Append(e.path("events"), events.Event{Type: kind, Action: action, ID: id, Attributes: jsonline.Members(attributes...)})
}

// EventMessage is something that happened, in the shape of Docker's.
type EventMessage struct {
	// Status, ID and From are those of Docker's older form, of containers and
	// images.
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`

	Type     string
	Action   string
	Actor    EventActor
	Scope    string `json:"scope"`
	Time     int64  `json:"time"`
	TimeNano int64  `json:"timeNano"`
}

// EventActor is what something happened to.
type EventActor struct {
	ID         string
	Attributes map[string]string
}

// EventSpan is the time of which events are wanted.
type EventSpan struct {
	Since time.Time // zero: from now on
	Until time.Time // zero: for ever
}

// Events hands out events, the oldest first. What is to come is waited for, by
// inotify, up to the end of the span. It ends early when hand fails.
func (e *Engine) Events(span EventSpan, hand func(*EventMessage) error) error {
	r := &eventReader{dir: e.path("events"), span: span, hand: hand, watch: -1}
	defer r.close()
	if err := r.run(); err != nil {
		return fmt.Errorf("read the events: %w", err)
	}
	return nil
}

// eventReader reads the log of events. The older file stays open beside the
// present one: a writer that had it open may write to it late.
type eventReader struct {
	dir            string
	span           EventSpan
	hand           func(*EventMessage) error
	watch          int
	older, current *eventFile
}

// eventFile is an open file of the log, with a line that is not whole yet.
type eventFile struct {
	f     *os.File
	r     *bufio.Reader
	begun []byte
}

func (r *eventReader) close() {
	for _, f := range []*eventFile{r.older, r.current} {
		if f != nil {
			f.f.Close()
		}
	}
	if r.watch >= 0 {
		unix.Close(r.watch)
	}
}

func (r *eventReader) run() error {
	if err := os.Mkdir(r.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	var err error
	if r.watch, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		return err
	}
	if _, err = unix.InotifyAddWatch(r.watch, r.dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return err
	}
	if err := r.open(); err != nil {
		return err
	}
	for {
		if err := r.read(); err != nil {
			return err
		}
		if done, err := r.wait(); done || err != nil {
			return err
		}
	}
}

// open opens the files. Where the past is not asked for they are read from
// their ends.
func (r *eventReader) open() (err error) {
	for {
		if r.current, err = r.openFile(events.Current); err != nil {
			return err
		}
		if r.older, err = r.openFile(events.Older); err != nil {
			return err
		}
		// The log may just have been rotated: then both are the same file.
		if r.current == nil || r.older == nil || !sameFile(r.current.f, r.older.f) {
			break
		}
		r.current.f.Close()
		r.older.f.Close()
	}
	if r.span.Since.IsZero() {
		for _, f := range []*eventFile{r.older, r.current} {
			if f != nil {
				f.f.Seek(0, io.SeekEnd)
			}
		}
	}
	return nil
}

func (r *eventReader) openFile(name string) (*eventFile, error) {
	f, err := os.Open(filepath.Join(r.dir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &eventFile{f: f, r: bufio.NewReaderSize(f, 64<<10)}, nil
}

func sameFile(a, b *os.File) bool {
	x, err := a.Stat()
	y, err2 := b.Stat()
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// read hands out what is there, over any number of rotations.
func (r *eventReader) read() error {
	for {
		for _, f := range []*eventFile{r.older, r.current} {
			if err := r.lines(f); err != nil {
				return err
			}
		}
		now, err := r.openFile(events.Current)
		if err != nil || now == nil {
			return err
		}
		if r.current != nil && sameFile(now.f, r.current.f) {
			now.f.Close()
			return nil
		}
		if r.older != nil {
			r.older.f.Close()
		}
		r.older, r.current = r.current, now
	}
}

func (r *eventReader) lines(f *eventFile) error {
	if f == nil {
		return nil
	}
	for {
		b, err := f.r.ReadBytes('\n')
		f.begun = append(f.begun, b...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var m EventMessage
		err = json.Unmarshal(bytes.TrimSpace(f.begun), &m)
		f.begun = f.begun[:0]
		if err != nil {
			continue // torn by a full disk
		}
		if err := r.message(&m); err != nil {
			return err
		}
	}
}

func (r *eventReader) message(m *EventMessage) error {
	at := time.Unix(0, m.TimeNano)
	if at.Before(r.span.Since) || !r.span.Until.IsZero() && at.After(r.span.Until) {
		return nil
	}
	if m.Type == "container" || m.Type == "image" {
		m.Status, m.ID, m.From = m.Action, m.Actor.ID, m.Actor.Attributes["image"]
	}
	return r.hand(m)
}

// wait waits for more; done says that the span has ended.
func (r *eventReader) wait() (done bool, err error) {
	ms := -1
	if !r.span.Until.IsZero() {
		left := time.Until(r.span.Until)
		if left <= 0 {
			return true, nil
		}
		ms = int(min(left.Milliseconds()+1, 1<<30))
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(r.watch), Events: unix.POLLIN}}, ms)
	if err != nil && err != unix.EINTR {
		return false, err
	}
	var buf [4096]byte
	unix.Read(r.watch, buf[:])
	return false, nil
}
