// Package logs reads the log of a container: the json-file that its monitor
// writes, and the full ones before it.
//
// PATH is the present file, PATH.1 the one before, and so on; full ones may be
// compressed (PATH.1.gz). The monitor renames them while others read. The
// package knows no containers: who waits for more passes a function for it.
package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// Record is one record: a line, or a part of a very long one.
type Record struct {
	Log    string            `json:"log"`
	Stream string            `json:"stream"` // stdout or stderr
	Attrs  map[string]string `json:"attrs"`
	Time   time.Time         `json:"time"`
}

// Options say what to read.
type Options struct {
	Tail         int       // only the last records; -1 for all
	Since, Until time.Time // zero is unbounded
	// More waits until more may have been written; false says that nothing
	// will come. Nil does not wait.
	More func() bool
}

// Read hands out the records of the log at path, the oldest first.
func Read(path string, o Options, hand func(*Record)) error {
	r := &reader{path: path, o: o, hand: hand}
	if err := r.run(); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	return nil
}

type reader struct {
	path string
	o    Options
	hand func(*Record)
	last time.Time // of the newest record so far
	done bool      // all that comes is after Until
}

// file is one open file of the log.
type file struct {
	f *os.File
	r *bufio.Reader
	z *gzip.Reader // of a compressed one
}

func (r *reader) run() error {
	files, err := r.open()
	for err == nil && len(files) == 0 { // nothing written yet
		if !r.more() {
			return nil
		}
		files, err = r.open()
	}
	defer func() { closeAll(files) }()
	if err == nil && r.o.Tail >= 0 {
		files, err = tail(files, r.o.Tail)
	}
	for err == nil && !r.done {
		if len(files) > 1 {
			if err = r.lines(files[0], false); err == nil {
				files[0].f.Close()
				files = files[1:]
			}
			continue
		}
		if err = r.lines(files[0], true); err != nil || r.present(files[0]) {
			break
		}
		var next []*file
		if next, err = r.after(files[0]); len(next) > 0 {
			closeAll(files)
			files = next
		} else if !r.more() { // the one that follows is not there yet
			break
		}
	}
	return err
}

// more waits until more may have been written.
func (r *reader) more() bool { return r.o.More != nil && r.o.More() }

func closeAll(files []*file) {
	for _, f := range files {
		f.f.Close()
	}
}

// open opens all files, the oldest first. The monitor may begin another file
// meanwhile: it gives each the next number, the last first, and the present one the
// first. Then they are opened again.
func (r *reader) open() ([]*file, error) {
	for try := 0; ; try++ {
		newest, err := openFile(r.path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		files, gap, err := r.openNumbered()
		if newest != nil {
			files = append(files, newest)
		}
		if err != nil {
			closeAll(files)
			return nil, err
		}
		same := newest != nil && r.present(newest) || newest == nil && !exists(r.path)
		// A number that stays without a file is of a monitor that was killed.
		if same && (!gap || try >= 200) {
			return files, nil
		}
		closeAll(files)
		if gap {
			time.Sleep(time.Millisecond)
		}
	}
}

// openNumbered opens the files that are full, the oldest first, and says whether there
// is a number without a file among them.
func (r *reader) openNumbered() (files []*file, gap bool, err error) {
	missing := 0
	for n := 1; missing < 2; n++ {
		f, err := openFull(r.path + "." + strconv.Itoa(n))
		switch {
		case errors.Is(err, os.ErrNotExist):
			missing++
			continue
		case err != nil:
			return files, false, err
		}
		gap, missing = gap || missing > 0, 0
		files = append([]*file{f}, files...)
	}
	return files, gap, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func openFile(path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &file{f: f, r: bufio.NewReaderSize(f, 64<<10)}, nil
}

// openFull opens a file that is not written any more, whether it is compressed
// or not.
func openFull(path string) (*file, error) {
	f, err := openFile(path)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	if f, err = openFile(path + ".gz"); err != nil {
		return nil, err
	}
	if f.z, err = gzip.NewReader(f.r); err != nil {
		f.f.Close()
		return nil, fmt.Errorf("%s.gz: %w", path, err)
	}
	f.r = bufio.NewReaderSize(f.z, 64<<10)
	return f, nil
}

// present says whether the file is still the one that is written.
func (r *reader) present(f *file) bool { return sameFile(f.f, r.path) }

func sameFile(f *os.File, path string) bool {
	fi, err := f.Stat()
	other, err2 := os.Stat(path)
	return err == nil && err2 == nil && os.SameFile(fi, other)
}

// after gives the files after one that is not the present one any more.
func (r *reader) after(f *file) ([]*file, error) {
	files, err := r.open()
	if err != nil {
		return nil, err
	}
	fi, err := f.f.Stat()
	for i, other := range files {
		if ofi, oerr := other.f.Stat(); err == nil && oerr == nil && os.SameFile(fi, ofi) {
			closeAll(files[:i+1])
			return files[i+1:], nil
		}
	}
	// It is compressed by now, or gone: what is new tells by its time.
	r.o.Since = r.last.Add(1)
	return files, nil
}

// lines hands out a file's records. It may wait for others, until the file is
// not the present one any more.
func (r *reader) lines(f *file, wait bool) error {
	var begun []byte // a record that is not written to its end yet
	for !r.done {
		b, err := f.r.ReadBytes('\n')
		begun = append(begun, b...)
		if errors.Is(err, io.EOF) {
			switch {
			case !wait:
				return nil
			case !r.present(f) || !r.more():
				wait = false // look once more: it may have grown before
			}
			continue
		}
		if err != nil {
			return err
		}
		r.line(begun)
		begun = begun[:0]
	}
	return nil
}

// line hands out one record, unless it is outside of the times asked for.
func (r *reader) line(b []byte) {
	var rec Record
	if json.Unmarshal(b, &rec) != nil {
		return // torn by a full disk
	}
	if !r.o.Until.IsZero() && rec.Time.After(r.o.Until) {
		r.done = true
		return
	}
	if rec.Time.Before(r.o.Since) {
		return
	}
	r.last = rec.Time
	r.hand(&rec)
}

// tail gives the files that hold the last n records, the first of them placed
// before the first such record.
func tail(files []*file, n int) ([]*file, error) {
	for i := len(files) - 1; i >= 0; i-- {
		f := files[i]
		var seen int
		var err error
		if f.z != nil {
			seen, err = f.skipTo(n)
		} else if seen, err = seekTail(f.f, n); err == nil {
			f.r.Reset(f.f)
		}
		if err != nil {
			return files, err
		}
		if n -= seen; n <= 0 {
			closeAll(files[:i])
			return files[i:], nil
		}
	}
	return files, nil
}

// skipTo reads a compressed file and keeps its last n records, and says how many
// there are.
func (f *file) skipTo(n int) (int, error) {
	var last [][]byte
	for {
		b, err := f.r.ReadBytes('\n')
		if len(b) > 0 && n > 0 {
			if last = append(last, b); len(last) > n {
				last = last[1:]
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	f.r = bufio.NewReader(bytes.NewReader(bytes.Join(last, nil)))
	return len(last), nil
}

// seekTail places f before its last n records, reading it from its end, and says
// how many there are, at most n.
func seekTail(f *os.File, n int) (int, error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 || end == 0 {
		return 0, err
	}
	buf := make([]byte, 64<<10)
	seen := 0
	for pos := end; pos > 0; {
		size := min(pos, int64(len(buf)))
		pos -= size
		if _, err := f.ReadAt(buf[:size], pos); err != nil {
			return 0, err
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' || pos+i == end-1 {
				continue
			}
			if seen++; seen == n {
				_, err := f.Seek(pos+i+1, io.SeekStart)
				return n, err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return seen + 1, err
}

// Compress makes PATH.gz of a file that is not written any more. If the monitor
// has given it another name meanwhile, it stays as it is.
func Compress(path string, level int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	tmp := fmt.Sprintf("%s.%d.tmp", path, os.Getpid())
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(out, level)
	if err == nil {
		_, err = io.Copy(z, f)
	}
	if err == nil {
		err = z.Close()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil || !sameFile(f, path) {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path+".gz"); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Remove(path)
}
