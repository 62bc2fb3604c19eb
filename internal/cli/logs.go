package cli

import (
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/logs"
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
	f.BoolVar(&l.details, "details", false, "print the labels and variables that --log-opt labels and env keep with each line")
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
	a                      *app
	follow, times, details bool
	tail                   int // lines; -1 for all
	since, until           time.Time
}

func (l *logPrinter) print(c *engine.Container) error {
	path := c.LogPath()
	if path == "" {
		return fmt.Errorf("container %s keeps no log: it was made with --log-driver none", c.Name)
	}
	o := logs.Options{Tail: l.tail, Since: l.since, Until: l.until}
	if l.follow {
		w, err := c.WatchLog(l.until)
		if err != nil {
			return err
		}
		defer w.Close()
		o.More = w.Wait
	}
	return logs.Read(path, o, l.record)
}

func (l *logPrinter) record(r *logs.Record) {
	out := l.a.out
	if r.Stream == "stderr" {
		out = l.a.err
	}
	if l.times {
		fmt.Fprint(out, r.Time.Format("2006-01-02T15:04:05.000000000Z07:00"), " ")
	}
	if l.details {
		var pairs []string
		for _, k := range slices.Sorted(maps.Keys(r.Attrs)) {
			pairs = append(pairs, url.QueryEscape(k)+"="+url.QueryEscape(r.Attrs[k]))
		}
		fmt.Fprint(out, strings.Join(pairs, ","), " ")
	}
	io.WriteString(out, r.Log)
}
