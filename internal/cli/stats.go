package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
)

// statsRow is one container's use of resources, with Docker's field names.
type statsRow struct {
	BlockIO   string
	CPUPerc   string
	Container string
	ID        string
	MemPerc   string
	MemUsage  string
	Name      string
	NetIO     string
	PIDs      string
}

func statsFormat() listFormat {
	return listFormat{
		table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
		headers: map[string]string{
			"ID": "CONTAINER ID", "Container": "CONTAINER", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %",
			"NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
		},
	}
}

// statsInterval is the time between two looks, which the CPU's share is of.
const statsInterval = time.Second

func newStats(a *app) *cobra.Command {
	s := &statsPrinter{a: a}
	cmd := &cobra.Command{
		Use:   "stats [flags] [CONTAINER...]",
		Short: "Show what containers use of CPUs, memory, network and disks, live",
		Example: `  brig stats
  brig stats --no-stream --format '{{.Name}}: {{.MemUsage}}' web`,
		RunE: func(_ *cobra.Command, args []string) error { return s.run(args) },
	}
	f := cmd.Flags()
	f.BoolVarP(&s.all, "all", "a", false, "show containers that do not run, too")
	f.StringVar(&s.format, "format", "", formatHelp)
	f.BoolVar(&s.once, "no-stream", false, "show it once")
	f.BoolVar(&s.full, "no-trunc", false, "do not shorten")
	return cmd
}

type statsPrinter struct {
	a               *app
	all, once, full bool
	format          string
	names           []string
}

// sample is what a container has used up to now; stats is nil if it does not
// run.
type sample struct {
	c     *engine.Container
	stats *engine.Stats
}

func (s *statsPrinter) run(names []string) error {
	s.names = names
	if _, err := parseTemplate(strings.TrimPrefix(s.format, "table ")); err != nil {
		return err
	}
	before, err := s.samples()
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		time.Sleep(statsInterval)
		now, err := s.samples()
		if err != nil {
			return err
		}
		var out strings.Builder
		if err := statsFormat().print(&out, s.format, s.rows(before, now)); err != nil {
			return err
		}
		text := out.String()
		if !s.once && isTerminal(s.a.out) {
			text = inPlace(text, first)
		}
		if _, err := io.WriteString(s.a.out, text); err != nil || s.once {
			return err
		}
		before = now
	}
}

// inPlace makes text overwrite what is on the terminal.
func inPlace(text string, first bool) string {
	const home, clear, toEnd, below = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"
	text = home + strings.ReplaceAll(text, "\n", toEnd+"\n") + below
	if first {
		text = clear + text
	}
	return text
}

// samples looks at the containers, several at a time.
func (s *statsPrinter) samples() ([]sample, error) {
	list, err := s.containers()
	if err != nil {
		return nil, err
	}
	found := make([]*sample, len(list))
	var all sync.WaitGroup
	for i, c := range list {
		all.Go(func() {
			state, err := c.State()
			if err != nil || !state.Up() && !s.all && len(s.names) == 0 {
				return
			}
			found[i] = &sample{c: c}
			if state.Up() {
				found[i].stats, _ = c.Stats(&state) // it may just have ended
			}
		})
	}
	all.Wait()
	var samples []sample
	for _, f := range found {
		if f != nil {
			samples = append(samples, *f)
		}
	}
	return samples, nil
}

func (s *statsPrinter) containers() ([]*engine.Container, error) {
	if len(s.names) == 0 {
		e, err := s.a.engine()
		if err != nil {
			return nil, err
		}
		return e.List()
	}
	var list []*engine.Container
	for _, n := range s.names {
		c, err := s.a.container(n)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

func (s *statsPrinter) rows(before, now []sample) (rows []any) {
	earlier := map[string]*engine.Stats{}
	for _, b := range before {
		earlier[b.c.ID] = b.stats
	}
	for i, n := range now {
		name := n.c.Name
		if len(s.names) > 0 {
			name = s.names[i]
		}
		r := statsRow{
			Container: name, ID: n.c.ID, Name: n.c.Name,
			CPUPerc: "--", MemUsage: "-- / --", MemPerc: "--", NetIO: "--", BlockIO: "--", PIDs: "--",
		}
		if !s.full {
			r.ID = shortID(r.ID)
		}
		if n.stats != nil {
			r.fill(earlier[n.c.ID], n.stats)
		}
		rows = append(rows, r)
	}
	return rows
}

func (r *statsRow) fill(before, now *engine.Stats) {
	cpu := 0.0
	if before != nil && now.Read.After(before.Read) && now.CPU > before.CPU {
		cpu = 100 * float64(now.CPU-before.CPU) / float64(now.Read.Sub(before.Read))
	}
	r.CPUPerc = fmt.Sprintf("%.2f%%", cpu)
	r.MemUsage = units.BytesSize(float64(now.Memory)) + " / " + units.BytesSize(float64(now.MemoryLimit))
	r.MemPerc = "0.00%"
	if now.MemoryLimit > 0 {
		r.MemPerc = fmt.Sprintf("%.2f%%", 100*float64(now.Memory)/float64(now.MemoryLimit))
	}
	pair := func(in, out uint64) string {
		return units.HumanSizeWithPrecision(float64(in), 3) + " / " + units.HumanSizeWithPrecision(float64(out), 3)
	}
	r.NetIO, r.BlockIO, r.PIDs = pair(now.NetReceived, now.NetSent), pair(now.BlockRead, now.BlockWrite), fmt.Sprint(now.Pids)
}
