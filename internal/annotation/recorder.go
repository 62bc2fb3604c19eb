package annotation

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/brig-run/brig/internal/witness"
)

// Places are where recordings and policies are kept.
type Places struct {
	Policies  string // --learn-dir: annotations lead nowhere else
	Explained string // a directory for each container that was recorded
}

// PlacesBelow gives the usual places below Brig's root directory.
func PlacesBelow(root string) Places {
	return Places{Policies: filepath.Join(root, "policies"), Explained: filepath.Join(root, "explain")}
}

// absolute makes the paths good for a process with another working directory.
func (p *Places) absolute() (err error) {
	if p.Policies, err = filepath.Abs(p.Policies); err == nil {
		p.Explained, err = filepath.Abs(p.Explained)
	}
	return err
}

// Command is the hidden command of the binary that calls [Main].
const Command = "recorder"

const subjectFile = "subject.json"

// Recorder is a recorder that this process started for a container.
type Recorder struct {
	witness *witness.Witness
	dir     string // "" until it is made
	spot    *spot  // nil if no policy is wanted
}

// Spawn starts a recorder for a container that asks for one, which prepares itself
// while the container is made.
func Spawn(places Places, id string, spec *specs.Spec, request Request) (*Recorder, error) {
	r := &Recorder{}
	err := places.absolute()
	if err == nil {
		err = r.spawn(places, subjectOf(id, spec, request))
	}
	if err != nil {
		r.undo()
		return nil, err
	}
	if r.spot != nil {
		r.spot.dir.Close() // the recorder has it
	}
	return r, nil
}

func (r *Recorder) spawn(places Places, s *Subject) error {
	dir := filepath.Join(places.Explained, s.ID)
	if witness.Alive(dir) {
		return fmt.Errorf("a container %s is being recorded already", s.ID)
	}
	if err := os.MkdirAll(places.Explained, 0o700); err != nil {
		return fmt.Errorf("make the directory for recordings: %w", err)
	}
	args := []string{Command, filepath.Join(places.Explained, ".witness.json")}
	var files []*os.File
	if s.Request.Learn != "" {
		var err error
		if r.spot, err = openSpot(places.Policies, s.Request.Learn, s.ID); err != nil {
			return err
		}
		s.Policy = r.spot.name
		args, files = []string{Command, "--learn", filepath.Join(places.Explained, ".recorder.json")}, []*os.File{r.spot.dir}
	}
	makeRoom(places.Explained)
	r.dir = dir
	if err := s.write(dir); err != nil {
		return err
	}
	var err error
	r.witness, err = witness.SpawnAs(args, files...)
	return err
}

// Watch gives the recorder the container's cgroup of v2, and waits until it
// records who executes a program there.
func (r *Recorder) Watch(cgroup string) error { return r.witness.Watch(cgroup, r.dir) }

// Started tells it the container's first process.
func (r *Recorder) Started(pid int) error { return r.witness.Started(pid) }

// PID is the recorder's process.
func (r *Recorder) PID() int { return r.witness.PID() }

// Close leaves the recorder to itself.
func (r *Recorder) Close() { r.witness.Close() }

// Cancel ends the recorder of a container that does not start, and removes what was
// made for it.
func (r *Recorder) Cancel() {
	r.witness.Cancel()
	r.undo()
}

func (r *Recorder) undo() {
	if r.dir != "" {
		os.RemoveAll(r.dir)
	}
	if r.spot != nil {
		r.spot.undo()
	}
}

// write makes the directory of a recording anew.
func (s *Subject) write(dir string) error {
	b, err := json.Marshal(s)
	if err == nil {
		err = os.RemoveAll(dir) // of a container of that ID before
	}
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, subjectFile), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("note what is recorded: %w", err)
	}
	return nil
}

func readSubject(dir string) (*Subject, error) {
	b, err := os.ReadFile(filepath.Join(dir, subjectFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNone
	}
	s := &Subject{}
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was recorded: %w", err)
	}
	return s, nil
}

// kept is how many recordings of containers that have ended are kept.
const kept = 256

// makeRoom removes the oldest recordings of containers that have ended.
func makeRoom(explained string) {
	entries, err := os.ReadDir(explained)
	if err != nil || len(entries) < kept {
		return
	}
	type old struct {
		dir  string
		when time.Time
	}
	var all []old
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() {
			all = append(all, old{filepath.Join(explained, e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b old) int { return a.when.Compare(b.when) })
	for i := 0; i < len(all) && len(all)-i >= kept; i++ {
		if !witness.Alive(all[i].dir) {
			os.RemoveAll(all[i].dir)
		}
	}
}
