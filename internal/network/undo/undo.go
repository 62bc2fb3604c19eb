// Package undo undoes what a container's networks have made outside of its
// network namespace: addresses that it holds and entries in the packet filter.
//
// It performs a file, written before the things are made, which lies in the
// container's directory. So a container's monitor can do it, which must start
// fast and knows no libraries; and so can the next command after any kill.
// The package knows neither what the entries mean nor who wrote them.
//
// The file is a sequence of records: a byte of kind, the length of the data in
// 32 bits, little-endian, and the data.
package undo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/brig-run/brig/internal/pids"
)

// File is the name in the container's directory.
const File = "network.undo"

// Kinds of records.
const (
	kindEndpoint = 'e' // path of a file to remove if its first line names the container
	kindFilter   = 'f' // batch of netlink messages for nfnetlink
	kindProcess  = 'p' // number and start time of a process to end, in decimal
	kindLock     = 'l' // path of a file to lock, shared, for the records that follow
)

// Log is a sequence of records in the making.
type Log struct{ b []byte }

func (l *Log) add(kind byte, data []byte) {
	l.b = append(l.b, kind)
	l.b = binary.LittleEndian.AppendUint32(l.b, uint32(len(data)))
	l.b = append(l.b, data...)
}

// Endpoint notes the file of an address.
func (l *Log) Endpoint(path string) { l.add(kindEndpoint, []byte(path)) }

// Process notes a process, with its start time (package pids).
func (l *Log) Process(pid int, start uint64) {
	l.add(kindProcess, []byte(strconv.Itoa(pid)+" "+strconv.FormatUint(start, 10)))
}

// Filter notes a batch of nfnetlink messages.
func (l *Log) Filter(batch []byte) { l.add(kindFilter, batch) }

// Lock notes a file whose lock is to be shared while the records that follow are
// performed.
func (l *Log) Lock(path string) { l.add(kindLock, []byte(path)) }

// Write puts the log into a container's directory, in place of the one before.
func (l *Log) Write(dir string) error {
	tmp := dir + "/." + File
	err := os.WriteFile(tmp, l.b, 0o600)
	if err == nil {
		err = os.Rename(tmp, dir+"/"+File)
	}
	if err != nil {
		os.Remove(tmp)
		return &os.PathError{Op: "write down what to undo in", Path: dir, Err: err}
	}
	return nil
}

var errMalformed = errors.New("malformed record")

// next cuts the first record off.
func next(b []byte) (kind byte, data, rest []byte, err error) {
	if len(b) < 5 {
		return 0, nil, nil, errMalformed
	}
	n := binary.LittleEndian.Uint32(b[1:])
	if uint64(n) > uint64(len(b)-5) {
		return 0, nil, nil, errMalformed
	}
	return b[0], b[5 : 5+n], b[5+n:], nil
}

// Perform undoes what is noted in the container's directory, whose name is the
// container's ID, and forgets it. Without a file there is nothing to do. Whoever
// performs has the container's lock.
//
// If none of the addresses is the container's any more, another has swept up
// after it, and its entries in the filter may be somebody else's by now.
func Perform(dir string) error {
	name := dir + "/" + File
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	records, err := parse(b)
	if err != nil {
		return errors.Join(&os.PathError{Op: "undo", Path: name, Err: err}, os.Remove(name))
	}
	id := dir[strings.LastIndexByte(dir, '/')+1:]
	owned := false
	for _, r := range records {
		owned = owned || r.kind == kindEndpoint && isOwn(string(r.data), id)
	}
	lock := -1
	defer func() { syscall.Close(lock) }()
	var all error
	for _, r := range records {
		if r.kind == kindProcess {
			end(string(r.data))
		}
	}
	for _, kind := range []byte{kindLock, kindFilter, kindEndpoint} { // the addresses last: they say what is left to do
		for _, r := range records {
			switch {
			case r.kind != kind || !owned:
			case kind == kindLock && lock < 0:
				lock = share(string(r.data))
			case kind == kindFilter:
				all = errors.Join(all, send(r.data))
			case kind == kindEndpoint && isOwn(string(r.data), id):
				os.Remove(string(r.data))
			}
		}
	}
	return errors.Join(all, os.Remove(name))
}

type record struct {
	kind byte
	data []byte
}

func parse(b []byte) (list []record, err error) {
	for len(b) > 0 {
		var r record
		if r.kind, r.data, b, err = next(b); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// isOwn says whether the file of an address is the container's.
func isOwn(path, id string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return strings.HasSuffix(string(line), " "+id)
}

// share takes a lock for as long as the descriptor is open. A lock that is gone
// has nothing left to guard.
func share(path string) int {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	for syscall.Flock(fd, syscall.LOCK_SH) == syscall.EINTR {
	}
	return fd
}

// send hands a batch to the kernel. What it answers does not matter: entries
// that are gone already are no fault, and the kernel undoes the batch as one.
func send(batch []byte) error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_NETFILTER)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer syscall.Close(fd)
	return os.NewSyscallError("sendto", syscall.Sendto(fd, batch, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}))
}

// end ends a process, if it is still that one.
func end(process string) {
	number, start, _ := strings.Cut(process, " ")
	pid, err := strconv.Atoi(number)
	if ticks, ok := pids.Start(pid); err == nil && ok && strconv.FormatUint(ticks, 10) == start {
		syscall.Kill(pid, syscall.SIGTERM)
	}
}
