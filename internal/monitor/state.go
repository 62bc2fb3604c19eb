package monitor

import (
	"os"
	"strconv"
	"time"

	"github.com/brig-run/brig/internal/jsonline"
	"github.com/brig-run/brig/internal/pids"
)

// StateFile is the name of the state's file in the container's directory. It
// is absent until the container's first start. Its JSON is that of State.
const StateFile = "state.json"

// State is what the monitor records, and the engine reads. The writer here is
// written by hand: a JSON library would double the monitor's memory.
type State struct {
	Running    bool      `json:"running"`
	PID        int       `json:"pid"`
	PIDStart   uint64    `json:"pidStart"` // start time in clock ticks, proc_pid_stat(5) field 22
	Monitor    int       `json:"monitor"`
	BootID     string    `json:"bootID"`
	StartedAt  time.Time `json:"startedAt"`
	FinishedAt time.Time `json:"finishedAt"`
	ExitCode   int       `json:"exitCode"`
	OOMKilled  bool      `json:"oomKilled"`
	Error      string    `json:"error"`
	// Restarting says that the container has ended, and that its monitor will
	// start it anew.
	Restarting   bool     `json:"restarting"`
	RestartCount int      `json:"restartCount"`
	RestartDelay int64    `json:"restartDelay"` // nanoseconds, of the last such pause
	Cgroups      []string `json:"cgroups"`
}

func (s *State) json() []byte {
	b := append([]byte(`{"running":`), strconv.FormatBool(s.Running)...)
	num := func(key string, v int64) {
		b = append(b, `,"`+key+`":`...)
		b = strconv.AppendInt(b, v, 10)
	}
	str := func(key, v string) {
		b = append(b, `,"`+key+`":`...)
		b = jsonline.AppendString(b, v)
	}
	num("pid", int64(s.PID))
	num("pidStart", int64(s.PIDStart))
	num("monitor", int64(s.Monitor))
	num("exitCode", int64(s.ExitCode))
	num("restartCount", int64(s.RestartCount))
	num("restartDelay", s.RestartDelay)
	b = append(b, `,"restarting":`...)
	b = strconv.AppendBool(b, s.Restarting)
	str("bootID", s.BootID)
	str("startedAt", s.StartedAt.UTC().Format(time.RFC3339Nano))
	str("finishedAt", s.FinishedAt.UTC().Format(time.RFC3339Nano))
	str("error", s.Error)
	b = append(b, `,"oomKilled":`...)
	b = strconv.AppendBool(b, s.OOMKilled)
	b = append(b, `,"cgroups":[`...)
	for i, c := range s.Cgroups {
		if i > 0 {
			b = append(b, ',')
		}
		b = jsonline.AppendString(b, c)
	}
	return pad(append(b, "]}"...))
}

// recordSize is what records are padded to a multiple of, so that on a full
// disk a new one fits in the place of the old.
const recordSize = 1024

// Write records the state atomically: a reader sees the old or the new one. If
// the disk is full it overwrites the old record, which needs no new block and
// is one write of less than a page.
func (s *State) Write(dir string) error { return writeRecord(dir, StateFile, s.json()) }

func writeRecord(dir, file string, b []byte) error {
	name, tmp := dir+"/"+file, dir+"/."+file
	err := os.WriteFile(tmp, b, 0o600)
	if err == nil {
		return os.Rename(tmp, name)
	}
	os.Remove(tmp)
	fi, serr := os.Stat(name)
	if serr != nil || fi.Size() != int64(len(b)) {
		return err
	}
	f, oerr := os.OpenFile(name, os.O_WRONLY, 0)
	if oerr != nil {
		return err
	}
	if _, err = f.WriteAt(b, 0); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// pad fills a record up to a multiple of recordSize with space and ends it.
func pad(b []byte) []byte {
	for len(b)%recordSize != recordSize-1 {
		b = append(b, ' ')
	}
	return append(b, '\n')
}

// ProcessStart reads when a process started; see pids.Start.
func ProcessStart(pid int) (ticks uint64, ok bool) { return pids.Start(pid) }
