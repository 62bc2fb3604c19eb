package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	xterm "golang.org/x/term"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/explain"
	"github.com/brig-run/brig/internal/record"
)

func newWatch(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "watch [flags] CONTAINER",
		Short: "Show what a running container is denied, and what it does for the first time",
		Long: `Show what a running container is denied, and each system call that it makes for
the first time since the watch began, until Ctrl-C or the end of the container. It
may be one of Brig's, by name or ID, or one of another engine, by ID. On a terminal
this is a view that is kept up to date, elsewhere one line for each event.`,
		Example: `  brig watch web
  brig watch --format json web | jq 'select(.kind == "denial")'`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format, textOrJSON); err != nil {
				return err
			}
			if err := needsRoot(cmd.CommandPath()); err != nil {
				return err
			}
			run, c, err := a.running(args[0])
			if err != nil {
				return err
			}
			defer run.Close()
			w := &watcher{a: a, name: args[0], run: run, format: format}
			if err := w.confinement(c); err != nil {
				return err
			}
			return w.watch(cmd.Context())
		},
	}
	addFormat(cmd, &format, textOrJSON)
	cmd.ValidArgsFunction = a.completeContainers(engine.StatusRunning)
	return cmd
}

// watcher is one brig watch.
type watcher struct {
	a      *app
	name   string
	run    *record.Running
	format string
	held   *engine.Confinement // nil if another engine's

	last  *record.Recording
	shown []string // of the view: the events, last first
}

func (w *watcher) confinement(c *engine.Container) (err error) {
	if c != nil {
		w.held, err = c.Confinement()
	}
	return err
}

// refresh is how often the kernel's records are read.
const refresh = 250 * time.Millisecond

func (w *watcher) watch(ctx context.Context) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM)
	defer stop()
	recorder, err := w.a.recorder()
	if err != nil {
		return err
	}
	defer recorder.Close()
	session, err := recorder.Attach(w.run.Targets...)
	if err != nil {
		return err
	}
	fmt.Fprintf(w.a.err, "watching %s; Ctrl-C ends it\n", w.run.What)
	alive := true
	for tick := time.Tick(refresh); alive && ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick:
		}
		alive = w.run.Alive()
		rec, err := session.Snapshot()
		if err != nil {
			return err
		}
		if err := w.show(rec); err != nil {
			return err
		}
	}
	rec, err := session.Stop()
	if err != nil {
		return err
	}
	if err := w.show(rec); err != nil {
		return err
	}
	w.a.notes(rec)
	return nil
}

// watchEvent is one line of --format json.
type watchEvent struct {
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"` // denial or syscall
	Syscall string    `json:"syscall"`
	ABI     string    `json:"abi"`
	Program string    `json:"program"`
	Thread  string    `json:"thread,omitempty"` // if not called as the program
	PID     int       `json:"pid"`              // as the host has it
	Outcome string    `json:"outcome,omitempty"`
	By      string    `json:"by,omitempty"`
	Fix     string    `json:"fix,omitempty"`

	text string
}

// show tells what is new.
func (w *watcher) show(rec *record.Recording) error {
	events := w.events(rec)
	before := w.last
	w.last = rec
	switch {
	case w.format == "json":
		enc := json.NewEncoder(w.a.out)
		enc.SetEscapeHTML(false)
		for i := range events {
			if err := enc.Encode(&events[i]); err != nil {
				return err
			}
		}
		return nil
	case isTerminal(w.a.out):
		return w.draw(rec, before, events)
	}
	for i := range events {
		if _, err := fmt.Fprintln(w.a.out, events[i].line()); err != nil {
			return err
		}
	}
	return nil
}

func (e *watchEvent) line() string { return e.Time.Format("15:04:05.000 ") + e.text }

// events are the news of a recording, in order.
func (w *watcher) events(rec *record.Recording) []watchEvent {
	var list []watchEvent
	news := rec.Since(w.last)
	for _, d := range news.Denials {
		list = append(list, w.denial(rec, d))
	}
	for _, c := range news.Syscalls {
		e := watchEvent{Time: rec.Started.Add(c.FirstAfter), Kind: "syscall", Syscall: c.Name, ABI: c.ABI, Program: c.FirstProgram, Thread: c.FirstThread, PID: c.FirstPID}
		if c.Name == "" {
			e.Syscall = fmt.Sprint(c.Nr)
		}
		e.text = fmt.Sprintf("new: %s in %s (process %d)", e.Syscall, explain.InProgram(e.Program, e.Thread), e.PID)
		list = append(list, e)
	}
	slices.SortStableFunc(list, func(a, b watchEvent) int { return a.Time.Compare(b.Time) })
	return list
}

func (w *watcher) denial(rec *record.Recording, d record.Denial) watchEvent {
	e := watchEvent{Time: rec.Started.Add(d.After), Kind: "denial", Syscall: d.Syscall, ABI: d.ABI, Program: d.Program, Thread: d.Thread, PID: d.PID, Outcome: outcome(&d), By: deniedBy(&d)}
	e.text = fmt.Sprintf("%s: denied %s in %s (%s)", d.Syscall, e.Outcome, explain.InProgram(d.Program, d.Thread), e.By)
	if w.held != nil {
		d.Count = 1 // how often is not known yet
		line := explained(&record.Recording{Denials: []record.Denial{d}}, w.held)[0]
		e.By, e.Fix, e.text = line.By, line.Fix, line.String()
	}
	return e
}

// draw draws the view on the terminal: a line of figures, the most frequent
// calls, and as many of the last events as there is room for.
func (w *watcher) draw(rec, before *record.Recording, events []watchEvent) error {
	for i := range events {
		w.shown = append([]string{events[i].line()}, w.shown...)
	}
	width, height := 100, 25
	if f, ok := w.a.out.(*os.File); ok {
		if c, r, err := xterm.GetSize(int(f.Fd())); err == nil && c > 0 && r > 0 {
			width, height = c, r
		}
	}
	w.shown = w.shown[:min(len(w.shown), height)]
	lines := append([]string{w.figures(rec, before), frequent(rec), ""}, w.shown...)
	lines = lines[:min(len(lines), max(height-1, 1))]
	var b strings.Builder
	b.WriteString("\x1b[H\x1b[2J") // home, clear
	for _, l := range lines {
		b.WriteString(ellipsis(l, width) + "\r\n")
	}
	_, err := w.a.out.Write([]byte(b.String()))
	return err
}

func (w *watcher) figures(rec, before *record.Recording) string {
	rate := float64(rec.Calls())
	since := rec.Ended.Sub(rec.Started)
	if before != nil {
		rate -= float64(before.Calls())
		since = rec.Ended.Sub(before.Ended)
	}
	return fmt.Sprintf("%s: %s, %d system calls of %d kinds, %.0f a second; %d denials", w.name,
		rec.Ended.Sub(rec.Started).Round(time.Second), rec.Calls(), len(rec.Syscalls), rate/max(since.Seconds(), 1e-3), len(rec.Denials))
}

// frequent names the calls that are made most.
func frequent(rec *record.Recording) string {
	calls := slices.Clone(rec.Syscalls)
	slices.SortStableFunc(calls, func(a, b record.Syscall) int { return cmp.Compare(b.Count, a.Count) })
	var words []string
	for _, c := range calls[:min(len(calls), 8)] {
		if c.Count > 0 {
			words = append(words, fmt.Sprintf("%s %d", cmp.Or(c.Name, fmt.Sprint(c.Nr)), c.Count))
		}
	}
	return strings.Join(words, ", ")
}
