package record

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Session is one recording under way.
type Session struct {
	r       *Recorder
	place   uint32 // in the maps
	number  uint32 // unique in the Recorder
	keys    []mapTargetKey
	started time.Time
	clock   uint64            // CLOCK_MONOTONIC at the start, ns
	missed  map[string]uint64 // before the start
	ended   bool
}

var errEnded = errors.New("the recording has ended")

// Start begins a recording of all the targets together. On error nothing is
// attached that was not before.
func (r *Recorder) Start(targets ...Target) (*Session, error) {
	return r.start(targets, 0)
}

// Attach begins a recording of what has started long ago: all its calls count
// as Running.
func (r *Recorder) Attach(targets ...Target) (*Session, error) {
	return r.start(targets, 1)
}

func (r *Recorder) start(targets []Target, running uint32) (*Session, error) {
	if len(targets) == 0 {
		return nil, errors.New("start a recording: there is no target")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.newSession()
	if err != nil {
		return nil, err
	}
	if err := s.begin(targets, running); err != nil {
		s.end()
		return nil, fmt.Errorf("start a recording: %w", err)
	}
	return s, nil
}

// newSession takes a free place, with empty maps.
func (r *Recorder) newSession() (*Session, error) {
	for place, other := range r.sessions {
		if other != nil {
			continue
		}
		r.last++
		s := &Session{r: r, place: uint32(place), number: r.last}
		if r.used[place] {
			if err := s.clear(); err != nil {
				return nil, err
			}
		}
		r.sessions[place], r.used[place] = s, true
		return s, nil
	}
	return nil, fmt.Errorf("start a recording: the recorder was opened for %d at once", len(r.sessions))
}

func (s *Session) begin(targets []Target, running uint32) error {
	keys := make([]mapTargetKey, len(targets))
	for i, t := range targets {
		if s.r.denials && (t.Cgroup == 0 || !t.AtExec) {
			return fmt.Errorf("record the denials of %+v: only those of a cgroup can be, of who executes a program there", t)
		}
		var err error
		if keys[i], err = t.key(); err != nil {
			return err
		}
	}
	var err error
	if s.missed, err = s.r.misses(); err != nil {
		return err
	}
	// The programs are attached before somebody is recorded: whoever sees the
	// end of a call would have seen its beginning.
	if err := s.r.attach(); err != nil {
		return err
	}
	s.started, s.clock = time.Now(), monotonic()
	if err := s.r.coll.Maps["recordings"].Put(s.place, mapRecording{Session: s.number, Running: running}); err != nil {
		return fmt.Errorf("set up the recording: %w", err)
	}
	seed := false
	for i, t := range targets {
		if err := s.aim(t, keys[i]); err != nil {
			return err
		}
		seed = seed || !t.AtExec || t.PID != 0
	}
	if seed {
		return s.r.seed()
	}
	return nil
}

// aim adds a target.
func (s *Session) aim(t Target, key mapTargetKey) error {
	value := mapTarget{Recording: s.place, Session: s.number}
	if t.AtExec {
		value.AtExec = 1
	}
	err := s.r.coll.Maps["targets"].Update(key, value, ebpf.UpdateNoExist)
	switch {
	case errors.Is(err, ebpf.ErrKeyExist):
		return fmt.Errorf("record %+v: it is recorded already", t)
	case err != nil:
		return fmt.Errorf("record %+v: %w", t, err)
	}
	s.keys = append(s.keys, key)
	return nil
}

// seed takes in the tasks that are there. A task that is made while the kernel
// walks through all may be missed by the walk, and its parent found only then:
// so it walks until nobody new is found.
func (r *Recorder) seed() error {
	iter, err := link.AttachIter(link.IterOptions{Program: r.coll.Programs["seed"]})
	if err != nil {
		return fmt.Errorf("walk through all tasks: %w", err)
	}
	defer iter.Close()
	for range 16 {
		n, err := walk(iter)
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// walk returns how many tasks were taken in: the program writes a byte for each.
func walk(iter *link.Iter) (int64, error) {
	f, err := iter.Open()
	if err != nil {
		return 0, fmt.Errorf("walk through all tasks: %w", err)
	}
	defer f.Close()
	n, err := io.Copy(io.Discard, f)
	if err != nil {
		err = fmt.Errorf("walk through all tasks: %w", err)
	}
	return n, err
}

// Ready marks that the container is ready: system calls from now on count as
// Running.
func (s *Session) Ready() error {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.ended {
		return errEnded
	}
	if err := s.r.coll.Maps["recordings"].Put(s.place, mapRecording{Session: s.number, Running: 1}); err != nil {
		return fmt.Errorf("mark the recording's phase: %w", err)
	}
	return nil
}

// Snapshot returns what was recorded by now.
func (s *Session) Snapshot() (*Recording, error) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.ended {
		return nil, errEnded
	}
	return s.read()
}

// Stop ends the recording, also on error. The programs are detached when it was
// the last.
func (s *Session) Stop() (*Recording, error) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.ended {
		return nil, errEnded
	}
	defer s.end()
	if err := s.r.coll.Maps["recordings"].Put(s.place, mapRecording{}); err != nil {
		return nil, fmt.Errorf("stop the recording: %w", err)
	}
	return s.read()
}

// end frees the session's place. What it leaves in the maps has its number, so
// that errors here do no harm.
func (s *Session) end() {
	s.ended = true
	s.r.coll.Maps["recordings"].Put(s.place, mapRecording{})
	for _, key := range s.keys {
		s.r.coll.Maps["targets"].Delete(key)
	}
	s.forget()
	s.r.sessions[s.place] = nil
	for _, other := range s.r.sessions {
		if other != nil {
			return
		}
	}
	s.r.detach()
}

func monotonic() uint64 {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano())
}
