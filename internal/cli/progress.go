package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/brig-run/brig/internal/image"
	"github.com/brig-run/brig/internal/spec"
)

// progress shows layers on their way: a bar for each on a terminal, and plain
// lines for what is finished elsewhere.
//
// It is our own because a library of bars, linked in, costs every start of a
// container more than it takes to print all this (mpb: 0.1 ms of package
// initialization).
type progress struct {
	out   io.Writer
	tty   bool
	quiet bool

	mu      sync.Mutex
	bars    []*bar
	drawn   int // lines on the screen that belong to bars
	changed bool
	stop    chan struct{}
	done    chan struct{}
}

// bar is the line of one layer.
type bar struct {
	p           *progress
	id, state   string
	done, total int64
}

// newProgress begins to show progress on standard output, where Docker has it.
func (a *app) newProgress(quiet bool) *progress { return startProgress(a.out, quiet) }

func startProgress(out io.Writer, quiet bool) *progress {
	p := &progress{out: out, tty: isTerminal(out), quiet: quiet}
	if p.tty && !quiet {
		p.stop, p.done = make(chan struct{}), make(chan struct{})
		go p.redraw()
	}
	return p
}

func (p *progress) redraw() {
	defer close(p.done)
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.draw()
		case <-p.stop:
			p.draw()
			return
		}
	}
}

// Close draws the last state. It may be called twice.
func (p *progress) Close() {
	if p.stop != nil {
		close(p.stop)
		<-p.done
		p.stop = nil
	}
}

func (p *progress) Layer(id string, total int64) image.Bar {
	b := &bar{p: p, id: id, total: total}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bars = append(p.bars, b)
	return b
}

func (p *progress) Message(text string) {
	if p.quiet {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA\x1b[J", p.drawn)
		p.drawn, p.changed = 0, true
	}
	fmt.Fprintln(p.out, text)
}

// State shows what is done with a layer. Where there is no terminal only what
// is worth a line in a log is printed.
func (b *bar) State(text string) {
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	if b.state == text {
		return
	}
	b.state, b.done = text, 0
	b.p.changed = true
	if !b.p.tty && !b.p.quiet && worthLine(text) {
		fmt.Fprintf(b.p.out, "%s: %s\n", b.id, text)
	}
}

// worthLine says whether a state is the beginning or end of a layer's way, or
// trouble.
func worthLine(state string) bool {
	switch state {
	case "Pulling fs layer", "Pull complete", "Already exists", "Download complete", "Pushed", "Layer already exists":
		return true
	}
	return strings.HasPrefix(state, "Retrying") || strings.HasPrefix(state, "Mounted")
}

func (b *bar) Set(done, total int64) {
	if !b.p.tty {
		return
	}
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	b.done, b.p.changed = done, true
	if total > 0 {
		b.total = total
	}
}

// draw draws all bars over those of the last time. What does not fit the screen
// is left out: the cursor cannot go back to lines that have scrolled away.
func (p *progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.changed {
		return
	}
	p.changed = false
	width, height := p.size()
	var s strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", p.drawn)
	}
	bars := p.bars
	if len(bars) >= height {
		bars = unfinished(bars, height-1)
	}
	for _, b := range bars {
		s.WriteString(b.line(width) + "\x1b[K\n")
	}
	s.WriteString("\x1b[J")
	p.drawn = len(bars)
	io.WriteString(p.out, s.String())
}

// unfinished gives the n bars that matter most: those at work, in their order.
func unfinished(bars []*bar, n int) []*bar {
	var list []*bar
	for _, b := range bars {
		switch b.state {
		case "Pull complete", "Already exists", "Pushed", "Layer already exists", "Loaded", "Waiting":
		default:
			list = append(list, b)
		}
	}
	return list[:min(n, len(list))]
}

func (p *progress) size() (width, height int) {
	if f, ok := p.out.(*os.File); ok {
		if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && ws.Col > 0 && ws.Row > 1 {
			return int(ws.Col), int(ws.Row)
		}
	}
	return 80, 24
}

func (b *bar) line(width int) string {
	s := fmt.Sprintf("%s: %s", b.id, b.state)
	if b.done > 0 && b.total > 0 && !worthLine(b.state) {
		numbers := fmt.Sprintf("%s/%s", units.HumanSize(float64(b.done)), units.HumanSize(float64(b.total)))
		if room := width - len(s) - len(numbers) - 6; room >= 10 {
			room = min(room, 50)
			full := min(int(int64(room)*b.done/b.total), room)
			s += " [" + strings.Repeat("=", full) + strings.Repeat(" ", room-full) + "] " + numbers
		} else {
			s += " " + numbers
		}
	}
	if len(s) >= width {
		s = s[:max(width-1, 0)]
	}
	return s
}

// images is the image store.
func (a *app) images() (*image.Store, error) {
	e, err := a.engine()
	if err != nil {
		return nil, err
	}
	return e.Images()
}

// imagePlatform is a --platform as package image wants it: nil if it was not
// given.
func imagePlatform(p spec.Platform) *v1.Platform {
	if p == (spec.Platform{}) {
		return nil
	}
	return &v1.Platform{OS: p.OS, Architecture: p.Arch, Variant: p.Variant}
}
