package annotation

import (
	"fmt"
	"log/syslog"
	"os"
	"time"

	"github.com/brig-run/brig/internal/explain"
	"github.com/brig-run/brig/internal/record"
	"github.com/brig-run/brig/internal/witness"
)

// every is the time between two writings of the policy of a container that goes
// on: a service has no end that somebody would wait for.
const every = 15 * time.Second

// Main is the recorder. With learn, descriptor 4 is the directory for the policy.
func Main(programs string, learn bool) error {
	k := &keeper{}
	duty := witness.Duty{Programs: programs, All: learn, Keep: k.keep}
	if learn {
		duty.Files, duty.Every = 1, every
		k.dir = os.NewFile(4, "policies")
	}
	return witness.Serve(duty)
}

// told is how many lines the system's log gets of one container.
const told = 32

// tell writes to the system's log, if there is one, what the container was denied
// and what went wrong: the runtime's own log is its caller's, who reads it no more.
func (k *keeper) tell(rec *record.Recording) {
	var lines []string
	if k.subject.Request.Explain {
		denied, err := k.subject.explain(rec)
		if err != nil {
			lines = append(lines, err.Error())
		}
		for _, l := range denied {
			if !l.Harmless {
				lines = append(lines, l.String())
			}
		}
	}
	lines = append(lines, rec.Notes...)
	if !rec.Complete {
		lines = append(lines, fmt.Sprintf("the recording is not complete; lost: %v", rec.Lost))
	}
	if len(lines) == 0 {
		return
	}
	log, err := syslog.New(syslog.LOG_NOTICE|syslog.LOG_DAEMON, "brig-runtime")
	if err != nil {
		return // brig why tells
	}
	defer log.Close()
	for _, l := range lines[:min(len(lines), told)] {
		log.Notice("container " + k.subject.ID + ": " + explain.Printable(l))
	}
	if more := len(lines) - told; more > 0 {
		log.Notice(fmt.Sprintf("container %s: and %d more; see brig why %s", k.subject.ID, more, k.subject.ID))
	}
}
