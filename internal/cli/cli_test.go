package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/initproc"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

// Every command that the help lists has a short description and an example.
func TestHelp(t *testing.T) {
	a := &app{in: os.Stdin, out: &bytes.Buffer{}, err: &bytes.Buffer{}}
	for _, c := range newRoot(a, commands()).Commands() {
		if c.Hidden {
			continue
		}
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s: Short %q, Example %q", c.Name(), c.Short, c.Example)
		}
		if !strings.Contains(c.Example, "brig "+c.Name()) {
			t.Errorf("%s: its example is of another command: %s", c.Name(), c.Example)
		}
	}
}

func TestFindCommand(t *testing.T) {
	for line, want := range map[string]string{
		"run img": "run", "--root /x ps -a": "ps", "--root=/x ps": "ps", "ls": "", "help run": "", "": "", "--help": "",
	} {
		list := find(strings.Fields(line))
		if want == "" && len(list) < 10 || want != "" && (len(list) != 1 || list[0].name != want) {
			t.Errorf("%q builds %d commands", line, len(list))
		}
	}
}

func TestParseTime(t *testing.T) {
	now := time.Now()
	for v, want := range map[string]time.Time{
		"10m": now.Add(-10 * time.Minute), "2026-01-02T15:04:05Z": time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC),
		"1136073845.5": time.Unix(1136073845, 5e8), "2026-01-02": time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local),
	} {
		got, err := parseTime("--since", v)
		if err != nil || got.Sub(want).Abs() > time.Minute {
			t.Errorf("%q: %v, %v; want %v", v, got, err, want)
		}
	}
	if _, err := parseTime("--since", "yesterday"); err == nil || !strings.Contains(err.Error(), "--since") {
		t.Errorf("a wrong time: %v", err)
	}
}

func TestPsFilter(t *testing.T) {
	c := &engine.Container{ID: "abc123", Name: "web", Image: "nginx:latest", Options: spec.Options{Labels: map[string]string{"a": "1", "b": ""}}}
	s := engine.State{Status: engine.StatusExited, State: monitor.State{ExitCode: 3}}
	for line, want := range map[string]bool{
		"": true, "id=abc": true, "id=c1": false, "name=we": true, "name=db": false, "name=db name=web": true, "label=a": true,
		"label=a=1 label=b": true, "label=a=2": false, "label=a label=c": false, "ancestor=nginx": true, "ancestor=redis": false,
		"status=exited": true, "status=running": false, "exited=3": true, "exited=0": false, "name=web status=running": false,
	} {
		match, err := psFilter(strings.Fields(line))
		if err != nil || match(c, s) != want {
			t.Errorf("%q: %v, want %v", line, err, want)
		}
	}
	for _, bad := range []string{"web", "stauts=exited", "exited=x", "status=gone"} {
		if _, err := psFilter([]string{bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestListFormat(t *testing.T) {
	rows := []any{psRow{ID: "1", Names: "aa"}, psRow{ID: "2", Names: "bb"}}
	for format, want := range map[string]string{
		"{{.ID}}={{.Names}}":             "1=aa\n2=bb\n",
		"table {{.ID}}\\t{{.Names}}":     "CONTAINER ID   NAMES\n1              aa\n2              bb\n",
		"{{json .Names}} {{upper .ID}}!": "\"aa\" 1!\n\"bb\" 2!\n",
	} {
		var out bytes.Buffer
		if err := psFormat.print(&out, format, rows); err != nil || out.String() != want {
			t.Errorf("%q: %v, got %q, want %q", format, err, out.String(), want)
		}
	}
	for _, bad := range []string{"{{.Nmaes}}", "{{.ID", "table {{.Nope}}"} {
		if err := psFormat.print(&bytes.Buffer{}, bad, rows); err == nil || !strings.HasPrefix(err.Error(), "--format") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The path of the init process is known to two packages that do not know each
// other.
func TestInitPath(t *testing.T) {
	if spec.InitTarget != initproc.Path {
		t.Errorf("spec has %q, initproc %q", spec.InitTarget, initproc.Path)
	}
}
