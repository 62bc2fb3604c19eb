package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
)

func newEvents(a *app) *cobra.Command {
	var since, until, format string
	var filters []string
	cmd := &cobra.Command{
		Use:   "events [flags]",
		Short: "Print what happens to containers, images and networks",
		Example: `  brig events
  brig events --since 1h --until 0s --filter event=die
  brig events --filter container=web --format '{{.Action}}'`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			var span engine.EventSpan
			var err error
			if span.Since, err = parseTime("--since", since); err != nil {
				return err
			}
			if span.Until, err = parseTime("--until", until); err != nil {
				return err
			}
			return a.events(span, filters, format)
		},
	}
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "from a time (2026-01-02T15:04:05Z) or a while ago (10m)")
	f.StringVar(&until, "until", "", "up to a time or a while ago; without it, until you interrupt")
	f.StringArrayVarP(&filters, "filter", "f", nil, "print those with container=, event=, image=, label=, network=, type= or volume=")
	f.StringVar(&format, "format", "", `json, or a Go template such as "{{.Action}}"`)
	return cmd
}

func (a *app) events(span engine.EventSpan, filters []string, format string) error {
	match, err := eventFilter(filters)
	if err != nil {
		return err
	}
	show := func(m *engine.EventMessage) error {
		_, err := fmt.Fprintln(a.out, eventText(m))
		return err
	}
	switch format {
	case "":
	case "json", "{{json .}}":
		show = func(m *engine.EventMessage) error { return printJSONLines(a.out, []any{m}) }
	default:
		t, err := parseTemplate(format)
		if err != nil {
			return err
		}
		t.Option("missingkey=default") // not every event has every attribute
		show = func(m *engine.EventMessage) error {
			if err := t.Execute(a.out, m); err != nil {
				return templateError(err)
			}
			_, err := fmt.Fprintln(a.out)
			return err
		}
	}
	e, err := a.engine()
	if err != nil {
		return err
	}
	return e.Events(span, func(m *engine.EventMessage) error {
		if !match(m) {
			return nil
		}
		return show(m)
	})
}

// eventText is an event as Docker prints it.
func eventText(m *engine.EventMessage) string {
	var attrs []string
	for _, k := range slices.Sorted(maps.Keys(m.Actor.Attributes)) {
		attrs = append(attrs, k+"="+m.Actor.Attributes[k])
	}
	text := fmt.Sprintf("%s %s %s %s", time.Unix(0, m.TimeNano).Format("2006-01-02T15:04:05.000000000Z07:00"), m.Type, m.Action, m.Actor.ID)
	if len(attrs) > 0 {
		text += " (" + strings.Join(attrs, ", ") + ")"
	}
	return text
}

// eventFilter makes one condition of all filters: those of one key are
// alternatives, but every label must be there.
func eventFilter(given []string) (func(*engine.EventMessage) bool, error) {
	known := []string{"container", "event", "image", "label", "network", "scope", "type", "volume"}
	byKey := filters{}
	for _, f := range given {
		k, _, err := byKey.add(f)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(known, k) {
			return nil, unknownFilter(k, known...)
		}
	}
	return func(m *engine.EventMessage) bool {
		return byKey.hold(func(k, v string) bool { return eventMatch(m, k, v) })
	}, nil
}

func eventMatch(m *engine.EventMessage, key, v string) bool {
	attrs := m.Actor.Attributes
	switch key {
	case "event":
		kind, _, _ := strings.Cut(m.Action, ":")
		return m.Action == v || kind == v
	case "type":
		return m.Type == v
	case "scope":
		return m.Scope == v
	case "label":
		return hasLabel(attrs, v)
	case "image":
		name := attrs["image"]
		if m.Type == "image" {
			name = attrs["name"]
		}
		bare := func(s string) string { return strings.TrimSuffix(s, ":latest") }
		return name != "" && (bare(name) == bare(v)) || m.Type == "image" && m.Actor.ID == v
	}
	// container, network, volume: by name, or the beginning of an ID.
	return m.Type == key && (attrs["name"] == strings.TrimPrefix(v, "/") || v != "" && strings.HasPrefix(m.Actor.ID, v))
}
