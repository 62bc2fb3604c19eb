package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

type compression string

const (
	plain    compression = ""
	gzipped  compression = "gzip"
	zstdComp compression = "zstd"
	bzipped  compression = "bzip2"
)

// maxWindow bounds the memory that a zstd stream may ask for. zstd --ultra
// --long=27 needs 128 MiB, the most that zstd itself unpacks without a flag.
const maxWindow = 128 << 20

// decompress finds out by the first bytes how a stream is compressed and gives
// what is in it. Closing the result does not close r.
func decompress(r io.Reader) (io.ReadCloser, compression, error) {
	b := bufio.NewReaderSize(r, 256<<10)
	head, err := b.Peek(10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		return z, gzipped, err
	case isZstd(head):
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, zstdComp, err
		}
		return z.IOReadCloser(), zstdComp, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(b)), bzipped, nil
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, "", errors.New("it is compressed with xz, which is not supported; unpack it first, with xz -dc")
	}
	return io.NopCloser(b), plain, nil
}

// Decompress gives what is in a stream, compressed with gzip, zstd or bzip2 or
// not at all. Closing the result does not close r.
func Decompress(r io.Reader) (io.ReadCloser, error) {
	z, _, err := decompress(r)
	return z, err
}

// isZstd knows a zstd frame, and a skippable one, with which a chunked layer
// may begin (RFC 8878, section 3.1).
func isZstd(head []byte) bool {
	if bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return true
	}
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}

// layerMediaType is the media type of a layer blob, by its compression.
func layerMediaType(c compression) (string, error) {
	switch c {
	case plain:
		return mediaTypeLayer, nil
	case gzipped:
		return mediaTypeLayer + "+gzip", nil
	case zstdComp:
		return mediaTypeLayer + "+zstd", nil
	}
	return "", fmt.Errorf("a layer cannot be compressed with %s; use gzip or zstd", c)
}
