package monitor

import (
	"encoding/binary"
	"syscall"
)

// JournalSocket is where journald takes messages in its native protocol.
const JournalSocket = "/run/systemd/journal/socket"

// journal sends a container's lines to journald. Each is a datagram of fields,
// "Native Journal Protocol" in systemd's documentation: NAME=value, or, for a
// value that may hold newlines, NAME, a newline, its length in 64 bits
// (little-endian) and the value; each ends in a newline.
type journal struct {
	fields string // that all messages have, each with its newline
	fd     int    // -1 while there is no connection
	out    []byte
}

// send sends one line. journald may be starting anew: then the connection is
// made again, once; what cannot be sent is lost, as under Docker.
func (j *journal) send(line []byte, stderr bool) {
	b := append(j.out[:0], j.fields...)
	if stderr {
		b = append(b, "PRIORITY=3\n"...) // err, syslog(3)
	} else {
		b = append(b, "PRIORITY=6\n"...) // info
	}
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	} else {
		b = append(b, "CONTAINER_PARTIAL_MESSAGE=true\n"...)
	}
	b = append(b, "MESSAGE\n"...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(line)))
	b = append(b, line...)
	j.out = append(b, '\n')
	if j.fd >= 0 && j.write() == nil {
		return
	}
	if j.connect() == nil {
		j.write()
	}
}

func (j *journal) write() error {
	for {
		if _, err := syscall.Write(j.fd, j.out); err != syscall.EINTR {
			return err
		}
	}
}

func (j *journal) connect() error {
	if j.fd >= 0 {
		syscall.Close(j.fd)
	}
	var err error
	if j.fd, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0); err != nil {
		j.fd = -1
		return err
	}
	if err = syscall.Connect(j.fd, &syscall.SockaddrUnix{Name: JournalSocket}); err != nil {
		syscall.Close(j.fd)
		j.fd = -1
	}
	return err
}
