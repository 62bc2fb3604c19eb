package learn

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/internal/spec"
)

// Where the container of a run that is recorded from within has this program, and
// the directory for what it recorded.
const (
	withinProgram = "/.brig-learn/brig"
	withinOutput  = "/.brig-learn/out"
	withinFile    = "recording.json"
)

var errNothing = errors.New("the container ended before anything of it was recorded")

// within is a recording by the container's first process.
type within struct{ dir string }

// within changes what is to run to "brig record" of it.
func (l *Learner) within(o *engine.CreateOptions) (session, error) {
	command := spec.Command(&o.Options, &o.Resolved.Config)
	if len(command) == 0 {
		return nil, spec.ErrNoCommand
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "brig-learn-")
	if err != nil {
		return nil, fmt.Errorf("make a place for the recording: %w", err)
	}
	out := filepath.Join(dir, "out")
	// The container's user may be any; nobody else reaches it by its path.
	if err := errors.Join(os.Mkdir(out, 0o700), os.Chmod(out, 0o777)); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("make a place for the recording: %w", err)
	}
	entry := withinProgram
	o.Options.Entrypoint = &entry
	o.Options.Args = append([]string{"record", "--recording", filepath.Join(withinOutput, withinFile), "--"}, command...)
	o.Options.Mounts = append(o.Options.Mounts[:len(o.Options.Mounts):len(o.Options.Mounts)],
		spec.Mount{Type: spec.MountBind, Source: self, Target: withinProgram, ReadOnly: true},
		spec.Mount{Type: spec.MountBind, Source: out, Target: withinOutput})
	return &within{dir}, nil
}

// Ready cannot be told to the recorder: such a recording has one phase.
func (w *within) Ready() error { return nil }

// Stop reads what was recorded. The container has ended.
func (w *within) Stop() (*record.Recording, error) {
	defer os.RemoveAll(w.dir)
	f, err := openRecording(filepath.Join(w.dir, "out", withinFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNothing
	}
	if err != nil {
		return nil, fmt.Errorf("read the recording: %w", err)
	}
	defer f.Close()
	rec := &record.Recording{}
	if err := json.NewDecoder(io.LimitReader(f, maxRecording)).Decode(rec); err != nil {
		return nil, fmt.Errorf("read the recording: %w", err)
	}
	return rec, nil
}

// maxRecording is far more bytes than all system calls with their values take.
const maxRecording = 16 << 20

// openRecording opens a file that the container could have put another in the place
// of: no link is followed, and no pipe waited for.
func openRecording(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file", name))
	}
	return f, nil
}

// unseen is a run that nobody records.
type unseen struct{ started time.Time }

func (u unseen) Ready() error { return nil }

func (u unseen) Stop() (*record.Recording, error) { return record.New(u.started), nil }
