// Package events is the log of what happens to containers, images and
// networks. There is no daemon to tell of it, so it is a file: every command
// and every monitor appends lines, and whoever follows is woken by inotify.
//
// This half only writes, and imports next to nothing, for the monitor's sake.
// Reading is the business of package engine.
//
// A line is JSON in the shape of Docker's events, one write(2) with O_APPEND,
// which the kernel keeps whole. When the file has grown to maxSize it becomes
// log.1, in place of the one before.
package events

import (
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/brig-run/brig/internal/jsonline"
)

// Event is something that happened.
type Event struct {
	Type   string // container, image, network, volume
	Action string // as under Docker: start, die, ...
	ID     string
	// Attributes are the members of a JSON object of strings, see
	// jsonline.Members.
	Attributes string
	Time       time.Time // zero is now
}

// Names of the log's files in its directory: the present one and the one
// before.
const (
	Current = "log"
	Older   = "log.1"
)

// maxSize is when a file has had its time: some thousand containers' lives.
const maxSize = 4 << 20

// Append writes events in the directory, which is made if it is missing. An
// event that cannot be written (a full disk) is lost: nothing waits or fails
// for it.
func Append(dir string, list ...Event) {
	var b []byte
	for i := range list {
		b = list[i].append(b)
	}
	name := dir + "/" + Current
	const flags = syscall.O_WRONLY | syscall.O_APPEND | syscall.O_CREAT | syscall.O_CLOEXEC
	fd, err := syscall.Open(name, flags, 0o600)
	if err == syscall.ENOENT && syscall.Mkdir(dir, 0o700) == nil {
		fd, err = syscall.Open(name, flags, 0o600)
	}
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	syscall.Write(fd, b)
	// After an appending write the position is the end of the file.
	if end, err := syscall.Seek(fd, 0, 1); err == nil && end >= maxSize {
		rotate(dir, fd)
	}
}

// rotate makes the open file the older one. Of several that see it full, one
// does so: the lock is for the others, who find another file under the name.
func rotate(dir string, fd int) {
	if syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return
	}
	var ours, named syscall.Stat_t
	if syscall.Fstat(fd, &ours) == nil && syscall.Stat(dir+"/"+Current, &named) == nil && ours.Ino == named.Ino {
		os.Rename(dir+"/"+Current, dir+"/"+Older)
	}
}

func (e *Event) append(b []byte) []byte {
	now := e.Time
	if now.IsZero() {
		now = time.Now()
	}
	b = append(b, `{"Type":`...)
	b = jsonline.AppendString(b, e.Type)
	b = append(b, `,"Action":`...)
	b = jsonline.AppendString(b, e.Action)
	b = append(b, `,"Actor":{"ID":`...)
	b = jsonline.AppendString(b, e.ID)
	b = append(b, `,"Attributes":{`...)
	b = append(b, e.Attributes...)
	b = append(b, `}},"scope":"local","time":`...)
	b = strconv.AppendInt(b, now.Unix(), 10)
	b = append(b, `,"timeNano":`...)
	b = strconv.AppendInt(b, now.UnixNano(), 10)
	return append(b, "}\n"...)
}
