package snapshot

import (
	"context"
	"fmt"
	"hash"
	"io"
)

// source is the tar stream on its way in: hashed, bounded, and ended by ctx.
type source struct {
	ctx       context.Context
	r         io.Reader
	hash      hash.Hash
	left, max int64
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.hash.Write(p[:n])
	if s.left -= int64(n); s.left < 0 {
		return 0, fmt.Errorf("larger than the limit of %d bytes for one layer", s.max)
	}
	return n, err
}

const (
	aheadSize  = 256 << 10 // bytes of one chunk
	aheadCount = 4         // chunks in flight
)

// readAhead reads a stream in a goroutine of its own, so that decompressing and
// hashing run beside the writing of files.
type readAhead struct {
	full chan chunk
	free chan []byte
	stop chan struct{}
	rest []byte // of the chunk at hand
	buf  []byte // the chunk at hand, to be given back
	err  error
}

type chunk struct {
	data []byte
	err  error
}

func newReadAhead(r io.Reader) *readAhead {
	ra := &readAhead{
		full: make(chan chunk, aheadCount),
		free: make(chan []byte, aheadCount),
		stop: make(chan struct{}),
	}
	for range aheadCount {
		ra.free <- nil // memory only for those that the stream fills
	}
	go ra.run(r)
	return ra
}

func (ra *readAhead) run(r io.Reader) {
	defer close(ra.full)
	for {
		var buf []byte
		select {
		case buf = <-ra.free:
		case <-ra.stop:
			return
		}
		if buf == nil {
			buf = make([]byte, aheadSize)
		}
		n, err := ra.fill(r, buf[:cap(buf)])
		ra.full <- chunk{buf[:n], err} // never blocks: there are no more chunks than room
		if err != nil {
			return
		}
	}
}

// fill reads until buf is full, r ends or the consumer is gone.
func (ra *readAhead) fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		select {
		case <-ra.stop:
			return n, io.ErrClosedPipe
		default:
		}
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

func (ra *readAhead) Read(p []byte) (int, error) {
	for len(ra.rest) == 0 {
		if ra.err != nil {
			return 0, ra.err
		}
		if ra.buf != nil {
			ra.free <- ra.buf
			ra.buf = nil
		}
		c := <-ra.full
		ra.rest, ra.buf, ra.err = c.data, c.data, c.err
	}
	n := copy(p, ra.rest)
	ra.rest = ra.rest[n:]
	return n, nil
}

// close ends the goroutine and waits until it has left the stream alone, which
// takes as long as the Read that it is in.
func (ra *readAhead) close() {
	close(ra.stop)
	for range ra.full {
	}
}
