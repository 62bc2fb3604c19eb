package tree

import (
	"bytes"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Copier writes the content of files, with one buffer for all.
type Copier struct{ buf []byte }

const (
	copySize = 256 << 10
	// Where the archive declares holes they are kept to the block. Elsewhere
	// only long runs of zeros become holes: most archives of sparse files,
	// Docker's among them, hold the zeros themselves (of a terabyte-sized
	// /var/log/lastlog, for one), while small holes only tear files apart.
	declaredHole = 4 << 10
	foundHole    = 64 << 10
)

// Copy writes all of content into the new, empty file fd.
func (c *Copier) Copy(fd int, content io.Reader, sparse bool, check func() error) error {
	if c.buf == nil {
		c.buf = make([]byte, copySize)
	}
	hole := foundHole
	if sparse {
		hole = declaredHole
	}
	var size, written int64
	for {
		n, err := io.ReadFull(content, c.buf)
		if n > 0 {
			var werr error
			if written, werr = writeData(fd, c.buf[:n], size, hole, written); werr != nil {
				return fmt.Errorf("write: %w", werr)
			}
			size += int64(n)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read content: %w", err)
		}
		if err := check(); err != nil {
			return err
		}
	}
	if written < size {
		if err := unix.Ftruncate(fd, size); err != nil {
			return fmt.Errorf("extend to %d bytes: %w", size, err)
		}
	}
	return nil
}

// writeData writes b at the offset, except for aligned runs of zeros of the
// hole's size. It returns the end of what was written last.
func writeData(fd int, b []byte, off int64, hole int, written int64) (int64, error) {
	for len(b) > 0 {
		// n bytes of one kind: all holes, or all data.
		n, zero := 0, false
		for n < len(b) {
			piece := b[n:min(n+hole, len(b))]
			z := len(piece) == hole && isZero(piece)
			if n > 0 && z != zero {
				break
			}
			zero = z
			n += len(piece)
		}
		if !zero {
			if err := pwriteAll(fd, b[:n], off); err != nil {
				return written, err
			}
			written = off + int64(n)
		}
		b, off = b[n:], off+int64(n)
	}
	return written, nil
}

func isZero(b []byte) bool {
	// Comparing with itself, one byte apart, needs no second buffer.
	return b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:])
}

func pwriteAll(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
