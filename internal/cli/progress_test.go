package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// On a terminal each layer has a line, drawn over the one before.
func TestProgressBars(t *testing.T) {
	var out bytes.Buffer
	p := &progress{out: &out, tty: true}
	one, two := p.Layer("111111111111", 100), p.Layer("222222222222", 0)
	one.State("Downloading")
	one.Set(50, 100)
	two.State("Waiting")
	p.draw()
	first := out.String()
	if !strings.Contains(first, "111111111111: Downloading [=") || !strings.Contains(first, "50B/100B") || strings.Contains(first, "\x1b[2A") {
		t.Errorf("%q", first)
	}
	for line := range strings.Lines(first) {
		if n := len(strings.TrimSuffix(line, "\x1b[K\n")); n > 80 {
			t.Errorf("a line of %d columns: %q", n, line)
		}
	}
	out.Reset()
	p.draw()
	if out.Len() > 0 {
		t.Errorf("drawn though nothing has changed: %q", out.String())
	}
	one.State("Pull complete")
	p.draw()
	if s := out.String(); !strings.HasPrefix(s, "\x1b[2A") || !strings.Contains(s, "111111111111: Pull complete\x1b[K\n") {
		t.Errorf("%q", s)
	}
	// More than fit the screen: those at work.
	for n := range 100 {
		p.Layer(fmt.Sprint(n), 1).State("Extracting")
	}
	out.Reset()
	p.draw()
	if n := strings.Count(out.String(), "\n"); n != 23 || strings.Contains(out.String(), "111111111111") {
		t.Errorf("%d lines: %q", n, out.String())
	}
}

// Elsewhere only what is worth a line is printed, once.
func TestProgressLines(t *testing.T) {
	for quiet, want := range map[bool]string{false: "hello\nabc: Pulling fs layer\nabc: Pull complete\n", true: ""} {
		var out bytes.Buffer
		p := startProgress(&out, quiet)
		p.Message("hello")
		b := p.Layer("abc", 10)
		for _, s := range []string{"Pulling fs layer", "Waiting", "Downloading", "Downloading", "Extracting", "Pull complete", "Pull complete"} {
			b.State(s)
			b.Set(5, 10)
		}
		p.Close()
		p.Close()
		if out.String() != want {
			t.Errorf("quiet %v: %q, want %q", quiet, out.String(), want)
		}
	}
}
