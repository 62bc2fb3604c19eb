package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
)

func newLogs(a *app) *cobra.Command {
	l := &logPrinter{a: a}
	var tail, since, until string
	cmd := &cobra.Command{
		Use:   "logs [flags] CONTAINER",
		Short: "Print what a container wrote",
		Example: `  brig logs web
  brig logs -f --tail 20 -t web
  brig logs --since 10m web`,
		Args: exactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var err error
			if l.tail, err = parseTail(tail); err != nil {
				return err
			}
			if l.since, err = parseTime("--since", since); err != nil {
				return err
			}
			if l.until, err = parseTime("--until", until); err != nil {
				return err
			}
			c, err := a.container(args[0])
			if err != nil {
				return err
			}
			return l.print(c)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&l.follow, "follow", "f", false, "go on until the container ends")
	f.BoolVarP(&l.times, "timestamps", "t", false, "print the time of each line")
	f.StringVarP(&tail, "tail", "n", "all", "print the last lines only")
	f.StringVar(&since, "since", "", "from a time (2026-01-02T15:04:05Z) or a while ago (10m)")
	f.StringVar(&until, "until", "", "up to a time or a while ago")
	return cmd
}

func parseTail(v string) (int, error) {
	if v == "all" {
		return -1, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("--tail %q: give a number of lines, or all", v)
	}
	return n, nil
}

// parseTime reads a moment: a time, a date, seconds since 1970, or a while ago.
func parseTime(flag, v string) (time.Time, error) {
	if v == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	if d, err := time.ParseDuration(v); err == nil {
		return time.Now().Add(-d), nil
	}
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		return time.Unix(0, int64(s*float64(time.Second))), nil
	}
	return time.Time{}, fmt.Errorf("%s %q: write a time as 2026-01-02T15:04:05Z, or a while ago as 10m", flag, v)
}

// logPrinter prints one container's log.
type logPrinter struct {
	a             *app
	follow, times bool
	tail          int // lines; -1 for all
	since, until  time.Time
}

// logLine is one line of the json-file format.
type logLine struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

func (l *logPrinter) print(c *engine.Container) error {
	var w *engine.LogWatch
	if l.follow {
		var err error
		if w, err = c.WatchLog(); err != nil {
			return err
		}
		defer w.Close()
	}
	f, err := os.Open(c.LogPath())
	for errors.Is(err, os.ErrNotExist) { // nothing written yet
		if w == nil || !w.Wait() {
			return nil
		}
		f, err = os.Open(c.LogPath())
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if l.tail >= 0 {
		if err := seekTail(f, l.tail); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
	}
	return l.lines(f, w)
}

// lines prints from the current place on; with w it waits for more.
func (l *logPrinter) lines(f *os.File, w *engine.LogWatch) error {
	r := bufio.NewReaderSize(f, 64<<10)
	var begun []byte // a logLine that is not written to its end yet
	for {
		b, err := r.ReadBytes('\n')
		begun = append(begun, b...)
		if errors.Is(err, io.EOF) {
			if w == nil || !w.Wait() {
				return nil
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if done := l.line(begun); done {
			return nil
		}
		begun = begun[:0]
	}
}

// line prints one logLine, unless it is outside of the times asked for.
func (l *logPrinter) line(b []byte) (done bool) {
	var r logLine
	if json.Unmarshal(b, &r) != nil {
		return false // torn by a full disk
	}
	if !l.until.IsZero() && r.Time.After(l.until) {
		return true
	}
	if r.Time.Before(l.since) {
		return false
	}
	out := l.a.out
	if r.Stream == "stderr" {
		out = l.a.err
	}
	if l.times {
		fmt.Fprint(out, r.Time.Format("2006-01-02T15:04:05.000000000Z07:00"), " ")
	}
	io.WriteString(out, r.Log)
	return false
}

// seekTail places f before its last n lines, reading it from its end.
func seekTail(f *os.File, n int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	buf := make([]byte, 64<<10)
	seen := 0
	for pos := end; pos > 0; {
		size := min(pos, int64(len(buf)))
		pos -= size
		if _, err := f.ReadAt(buf[:size], pos); err != nil {
			return err
		}
		for i := size - 1; i >= 0; i-- {
			if buf[i] != '\n' || pos+i == end-1 {
				continue
			}
			if seen++; seen == n {
				_, err := f.Seek(pos+i+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = f.Seek(0, io.SeekStart)
	return err
}
