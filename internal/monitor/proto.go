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

	// From the monitor.
	msgStarted = 's' // process ID, 32 bits
	msgFailed  = 'f' // tag, errno: 32 bits each, then text
	msgStdout  = 'o'
	msgStderr  = 'E'
	msgExit    = 'x' // exit code, 32 bits; then 1 byte: out of memory
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
	NameLink  string // symbolic link from the name to the ID
	Trash     string // directory of things to delete; the container goes there in one rename
	Lock      string // file to lock while a name changes hands
	Remove    bool   // remove the container when it has ended
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
	Log       string   // path of the json-file log, or empty
	OwnPIDNS  bool     // all processes end with the first one
	Volumes   []string // with Remove: directories of the volumes to release
	Anonymous []string // those of them that go if nobody else holds them
	Forks     bool     // for inside.Clone
	Leash     bool     // the container is killed when the client that started it goes away
}

// Exec is a further process of a running container. Its three standard streams
// are the last descriptors sent along.
type Exec struct {
	Size     int
	Regs     []uint8
	HasPIDNS bool
	Forks    bool // for inside.Clone
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
	for _, v := range []string{s.Dir, s.NameLink, s.Trash, s.Lock, s.BootID, s.Log, string(s.Regs)} {
		e.str(v)
	}
	for _, v := range []bool{s.Remove, s.HasPIDNS, s.HasCgroup, s.TTY, s.OpenStdin, s.StdinOnce, s.OwnPIDNS, s.Leash, s.Forks} {
		e.flag(v)
	}
	e.num(s.CloneFlag)
	e.num(uint64(s.Size))
	e.num(uint64(s.Attach))
	e.strs(s.Cgroups)
	e.strs(s.Volumes)
	e.strs(s.Anonymous)
	return e.b
}

func decodeStart(b []byte) (*Start, error) {
	d := &decoder{b: b}
	s := &Start{}
	for _, p := range []*string{&s.Dir, &s.NameLink, &s.Trash, &s.Lock, &s.BootID, &s.Log} {
		*p = d.str()
	}
	s.Regs = []uint8(d.str())
	for _, p := range []*bool{&s.Remove, &s.HasPIDNS, &s.HasCgroup, &s.TTY, &s.OpenStdin, &s.StdinOnce, &s.OwnPIDNS, &s.Leash, &s.Forks} {
		*p = d.flag()
	}
	s.CloneFlag, s.Size, s.Attach = d.num(), int(d.num()), Streams(d.num())
	s.Cgroups, s.Volumes, s.Anonymous = d.strs(), d.strs(), d.strs()
	return s, d.err
}

func (x *Exec) encode() []byte {
	e := &encoder{b: []byte{msgExec}}
	e.str(string(x.Regs))
	e.flag(x.HasPIDNS)
	e.flag(x.Forks)
	e.num(uint64(x.Size))
	return e.b
}

func decodeExec(b []byte) (*Exec, error) {
	d := &decoder{b: b}
	x := &Exec{Regs: []uint8(d.str()), HasPIDNS: d.flag(), Forks: d.flag(), Size: int(d.num())}
	return x, d.err
}
