package capability

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Sets holds the five capability sets of a thread; see capabilities(7),
// "Thread capability sets".
type Sets struct {
	Effective   Set `json:"effective"`
	Permitted   Set `json:"permitted"`
	Inheritable Set `json:"inheritable"`
	Bounding    Set `json:"bounding"`
	Ambient     Set `json:"ambient"`
}

// Current returns the sets of the calling thread, from
// /proc/thread-self/status.
func Current() (Sets, error) { return readStatus("/proc/thread-self/status") }

// OfProcess returns the sets of the main thread of process pid, from
// /proc/PID/status.
func OfProcess(pid int) (Sets, error) {
	return readStatus("/proc/" + strconv.Itoa(pid) + "/status")
}

func readStatus(path string) (Sets, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Sets{}, fmt.Errorf("read capability sets: %w", err)
	}
	sets, err := ParseStatus(data)
	if err != nil {
		return Sets{}, fmt.Errorf("read capability sets: %s: %w", path, err)
	}
	return sets, nil
}

// ParseStatus finds the five sets in the text of a /proc/PID/status file; see
// proc_pid_status(5). Each of the five lines must be there exactly once.
func ParseStatus(status []byte) (Sets, error) {
	var sets Sets
	fields := [...]struct {
		key  string
		set  *Set
		seen bool
	}{
		{key: "CapInh", set: &sets.Inheritable},
		{key: "CapPrm", set: &sets.Permitted},
		{key: "CapEff", set: &sets.Effective},
		{key: "CapBnd", set: &sets.Bounding},
		{key: "CapAmb", set: &sets.Ambient},
	}
	for line := range bytes.Lines(status) {
		if !bytes.HasPrefix(line, []byte("Cap")) {
			continue
		}
		key, value, _ := strings.Cut(string(line), ":")
		for i := range fields {
			f := &fields[i]
			if f.key != key {
				continue
			}
			if f.seen {
				return Sets{}, fmt.Errorf("field %s appears twice", key)
			}
			set, err := parseHex(strings.TrimSpace(value))
			if err != nil {
				return Sets{}, fmt.Errorf("field %s: %w", key, err)
			}
			*f.set, f.seen = set, true
		}
	}
	for i := range fields {
		if !fields[i].seen {
			return Sets{}, fmt.Errorf("no field %s", fields[i].key)
		}
	}
	return sets, nil
}
