package events

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/brig-run/brig/internal/jsonline"
)

func TestAppend(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	Append(dir, Event{Type: "container", Action: "start", ID: "abc", Attributes: jsonline.Members("name", `a"b`)}, Event{Type: "image", Action: "pull", ID: "x"})
	b, err := os.ReadFile(filepath.Join(dir, Current))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var got struct {
		Type, Action string
		Actor        struct {
			ID         string
			Attributes map[string]string
		}
		Time, TimeNano int64
	}
	if err := json.Unmarshal([]byte(lines[0]), &got); err != nil || len(lines) != 2 {
		t.Fatalf("%q: %v", lines, err)
	}
	if got.Type != "container" || got.Action != "start" || got.Actor.ID != "abc" || got.Actor.Attributes["name"] != `a"b` || got.TimeNano/1e9 != got.Time {
		t.Errorf("%+v", got)
	}
}

// Many write at once, over several rotations: what is in the two files is
// whole, and the files stay within bounds.
func TestRotation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	long := jsonline.Members("label", strings.Repeat("x", 3000))
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 800 {
				Append(dir, Event{Type: "container", Action: "start", ID: "abc", Attributes: long})
			}
		})
	}
	writers.Wait()
	for _, name := range []string{Current, Older} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > maxSize+64<<10 {
			t.Errorf("%s has %d bytes", name, len(b))
		}
		for line := range strings.Lines(string(b)) {
			if !json.Valid([]byte(line)) {
				t.Fatalf("%s: torn line %.80q", name, line)
			}
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	dir := b.TempDir()
	attrs := jsonline.Members("name", "web", "image", "nginx")
	for b.Loop() {
		Append(dir, Event{Type: "container", Action: "start", ID: strings.Repeat("a", 64), Attributes: attrs})
	}
}
