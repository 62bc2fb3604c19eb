package image

import (
	"io"
)

// Progress is told how an operation goes on. Its methods may be called by
// several goroutines at once.
type Progress interface {
	// Layer announces a layer, by the first twelve digits of its digest; total
	// is its size in bytes as transferred, 0 if unknown.
	Layer(id string, total int64) Bar
	// Message is a line for people that belongs to no layer.
	Message(text string)
}

// Bar is one layer's progress.
type Bar interface {
	// State says what is being done: "Pulling fs layer", "Downloading",
	// "Download complete", "Extracting", "Pull complete", "Already exists",
	// "Waiting", "Pushing", "Pushed", "Layer already exists", "Retrying ...".
	State(text string)
	// Set says how many bytes of how many are done in the current state.
	Set(done, total int64)
}

// silent is the Progress of callers that want none.
type silent struct{}

func (silent) Layer(string, int64) Bar { return silent{} }
func (silent) Message(string)          {}
func (silent) State(string)            {}
func (silent) Set(int64, int64)        {}

func progressOr(p Progress) Progress {
	if p == nil {
		return silent{}
	}
	return p
}

// barReader reports what is read through it.
type barReader struct {
	r           io.Reader
	bar         Bar
	done, total int64
}

func (b *barReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.done += int64(n)
	b.bar.Set(b.done, b.total)
	return n, err
}

// shortDigest is the beginning of a digest, as people see it.
func shortDigest(digest string) string {
	if len(digest) < 19 {
		return digest
	}
	return digest[7:19]
}
