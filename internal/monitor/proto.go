package monitor

import (
	"encoding/binary"
	"errors"
)

// Messages are packets of a SOCK_SEQPACKET socket: one byte of kind, then the
// payload.
const (
	// From the client.
	msgHold   = 'H' // Ports, with their sockets; to a new monitor only
	msgNames  = 'N' // with the sockets of a name server, UDP and TCP; to a new monitor, too
	msgStart  = 'S' // Start, with descriptors: ends the first messages to a new monitor
	msgExec   = 'X' // Exec, with descriptors
	msgAttach = 'A' // Streams: begin to receive output and to send input
	msgStdin  = 'i' // bytes for the container's standard input
	msgEOF    = 'e' // end of the standard input
	msgResize = 'r' // rows, columns: 16 bits each
	msgSignal = 'k' // signal number, one byte
	msgKeep   = 'K' // with the master of an Exec's terminal, whose client leaves
	msgHealth = 'H' // Health, with descriptors: how to find out whether the container does its work
	msgUpdate = 'U' // Changeable; the answer is msgDone
	msgGiveUp = 'G' // do not start the container anew

	// From the monitor.
	msgStarted = 's' // process ID, 32 bits
	msgFailed  = 'f' // tag, errno: 32 bits each, then text
	msgStdout  = 'o'
	msgStderr  = 'E'
	msgExit    = 'x' // exit code, 32 bits; then 1 byte: out of memory
	msgDone    = 'd'
)

// Streams is a set of standard streams.
type Streams uint8

// The standard streams.
const (
	Stdin Streams = 1 << iota
	Stdout
	Stderr
)

// Start is what a monitor must know to run a container.
type Start struct {
	Dir       string // the container's directory, made by the engine
	Trash     string // directory of things to delete; the container goes there in one rename
	Lock      string // file to lock while a name changes hands
	BootID    string
	CloneFlag uint64
	Size      int     // of the program
	Regs      []uint8 // registers of the descriptors that are sent along
	HasPIDNS  bool
	HasCgroup bool     // the directory of a v2 cgroup for clones is sent along
	Cgroups   []string // directories to remove
	TTY       bool     // the terminal's master is sent along
	OpenStdin bool
	StdinOnce bool // the input ends with its first client
	Attach    Streams
	Log       Log
	OwnPIDNS  bool     // all processes end with the first one
	Volumes   []string // with Remove: directories of the volumes to release
	Anonymous []string // those of them that go if nobody else holds them
	Forks     bool     // for inside.Clone
	Leash     bool     // the container is killed when the client that started it goes away
	Events    string   // directory of the log of events
	Health    bool     // the client that starts the container sends a Health afterwards
	Changeable
	// Restarts and Delay are of the starts before this one that nobody asked
	// for: how many, and the last pause before one, in nanoseconds.
	Restarts int
	Delay    int64
	// Self is the program file of brig, and Root its store: for the commands
	// that a monitor has done.
	Self, Root string
}

// Changeable is what may change while the container runs.
type Changeable struct {
	NameLink   string // symbolic link from the name to the ID
	Attributes string // of the container's events, see events.Event
	Remove     bool   // remove the container when it has ended
	Restart    RestartPolicy
	MaxRetries int // of RestartOnFailure; 0 is any number
}

// RestartPolicy says after which ends a container is started anew.
type RestartPolicy uint8

// The policies. What Docker calls unless-stopped is RestartAlways here: the two
// differ only after a boot.
const (
	RestartNo RestartPolicy = iota
	RestartOnFailure
	RestartAlways
)

// Log says where the container's output goes.
type Log struct {
	Path       string // of the json-file, or empty
	MaxSize    int64  // bytes after which another file is begun; 0 for any size
	MaxFiles   int    // how many files are kept, the present one included; 0 is 1
	Compress   bool   // files that are not written any more
	Buffer     int64  // bytes that may wait to be written; 0: the container waits
	Attributes string // members of each record's attrs, or empty
	Journal    string // fields of each message to journald, or empty
}

// Health is how to find out whether the container does its work: a further
// process that is run again and again.
type Health struct {
	Exec
	Interval, Timeout, StartPeriod, StartInterval int64 // nanoseconds
	Retries                                       int   // failures in a row that make it unhealthy
}

// Exec is a further process of a running container. Its three standard streams
// are the last descriptors sent along.
type Exec struct {
	Size     int
	Regs     []uint8
	HasPIDNS bool
	Forks    bool // for inside.Clone
	// ID and Command are for the log of events.
	ID, Command string
}

// encoder and decoder write and read fields one after another.
type encoder struct{ b []byte }

func (e *encoder) num(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }
func (e *encoder) str(s string) { e.num(uint64(len(s))); e.b = append(e.b, s...) }
func (e *encoder) flag(v bool) {
	if v {
		e.num(1)
	} else {
		e.num(0)
	}
}
func (e *encoder) strs(list []string) {
	e.num(uint64(len(list)))
	for _, s := range list {
		e.str(s)
	}
}

var errShort = errors.New("message too short: brig and its monitor are of different versions")

type decoder struct {
	b   []byte
	err error
}

func (d *decoder) num() uint64 {
	if len(d.b) < 8 {
		d.err, d.b = errShort, nil
		return 0
	}
	v := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

func (d *decoder) str() string {
	n := d.num()
	if n > uint64(len(d.b)) {
		d.err, d.b = errShort, nil
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) flag() bool { return d.num() != 0 }

func (d *decoder) strs() []string {
	n := d.num()
	var list []string
	for i := uint64(0); i < n && d.err == nil; i++ {
		list = append(list, d.str())
	}
	return list
}

func (s *Start) encode() []byte {
	e := &encoder{b: []byte{msgStart}}
	for _, v := range []string{s.Dir, s.Trash, s.Lock, s.BootID, s.Log.Path, s.Log.Attributes, s.Log.Journal, s.Events, s.Self, s.Root, string(s.Regs)} {
		e.str(v)
	}
	for _, v := range []bool{s.HasPIDNS, s.HasCgroup, s.TTY, s.OpenStdin, s.StdinOnce, s.OwnPIDNS, s.Leash, s.Forks, s.Log.Compress, s.Health} {
		e.flag(v)
	}
	for _, v := range []uint64{s.CloneFlag, uint64(s.Size), uint64(s.Attach), uint64(s.Log.MaxSize), uint64(s.Log.MaxFiles), uint64(s.Log.Buffer), uint64(s.Restarts), uint64(s.Delay)} {
		e.num(v)
	}
	e.strs(s.Cgroups)
	e.strs(s.Volumes)
	e.strs(s.Anonymous)
	s.Changeable.encode(e)
	return e.b
}

func decodeStart(b []byte) (*Start, error) {
	d := &decoder{b: b}
	s := &Start{}
	for _, p := range []*string{&s.Dir, &s.Trash, &s.Lock, &s.BootID, &s.Log.Path, &s.Log.Attributes, &s.Log.Journal, &s.Events, &s.Self, &s.Root} {
		*p = d.str()
	}
	s.Regs = []uint8(d.str())
	for _, p := range []*bool{&s.HasPIDNS, &s.HasCgroup, &s.TTY, &s.OpenStdin, &s.StdinOnce, &s.OwnPIDNS, &s.Leash, &s.Forks, &s.Log.Compress, &s.Health} {
		*p = d.flag()
	}
	s.CloneFlag, s.Size, s.Attach = d.num(), int(d.num()), Streams(d.num())
	s.Log.MaxSize, s.Log.MaxFiles, s.Log.Buffer, s.Restarts, s.Delay = int64(d.num()), int(d.num()), int64(d.num()), int(d.num()), int64(d.num())
	s.Cgroups, s.Volumes, s.Anonymous = d.strs(), d.strs(), d.strs()
	s.Changeable.decode(d)
	return s, d.err
}

func (c *Changeable) encode(e *encoder) {
	e.str(c.NameLink)
	e.str(c.Attributes)
	e.flag(c.Remove)
	e.num(uint64(c.Restart))
	e.num(uint64(c.MaxRetries))
}

func (c *Changeable) decode(d *decoder) {
	c.NameLink, c.Attributes, c.Remove, c.Restart, c.MaxRetries = d.str(), d.str(), d.flag(), RestartPolicy(d.num()), int(d.num())
}

func (h *Health) encode() []byte {
	e := &encoder{b: []byte{msgHealth}}
	h.Exec.fields(e)
	for _, v := range []int64{h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, int64(h.Retries)} {
		e.num(uint64(v))
	}
	return e.b
}

func decodeHealth(b []byte) (*Health, error) {
	d := &decoder{b: b}
	h := &Health{}
	h.Exec.read(d)
	for _, p := range []*int64{&h.Interval, &h.Timeout, &h.StartPeriod, &h.StartInterval} {
		*p = int64(d.num())
	}
	h.Retries = int(d.num())
	return h, d.err
}

func (x *Exec) encode() []byte {
	e := &encoder{b: []byte{msgExec}}
	x.fields(e)
	return e.b
}

func (x *Exec) fields(e *encoder) {
	e.str(string(x.Regs))
	e.flag(x.HasPIDNS)
	e.flag(x.Forks)
	e.num(uint64(x.Size))
	e.str(x.ID)
	e.str(x.Command)
}

func (x *Exec) read(d *decoder) {
	x.Regs, x.HasPIDNS, x.Forks, x.Size, x.ID, x.Command = []uint8(d.str()), d.flag(), d.flag(), int(d.num()), d.str(), d.str()
}

func decodeExec(b []byte) (*Exec, error) {
	d := &decoder{b: b}
	x := &Exec{}
	x.read(d)
	return x, d.err
}
