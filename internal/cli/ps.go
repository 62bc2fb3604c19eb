package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
	"github.com/brig-run/brig/internal/monitor"
	"github.com/brig-run/brig/internal/spec"
)

// psRow is one container in the list, with Docker's field names.
type psRow struct {
	Command    string
	CreatedAt  string
	ID         string
	Image      string
	Labels     string
	Mounts     string
	Names      string
	Networks   string
	Ports      string
	RunningFor string
	Size       string
	State      string
	Status     string

	c *engine.Container
}

// Label is the value of one label.
func (r psRow) Label(name string) string { return r.c.Labels()[name] }

var psFormat = listFormat{
	table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
	headers: map[string]string{
		"ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "RunningFor": "CREATED", "CreatedAt": "CREATED AT",
		"Status": "STATUS", "State": "STATE", "Ports": "PORTS", "Names": "NAMES", "Labels": "LABELS", "Mounts": "MOUNTS",
		"Networks": "NETWORKS", "Label": "LABEL", "Size": "SIZE",
	},
}

func newPs(a *app) *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:     "ps [flags]",
		Aliases: []string{"list", "ls"},
		Short:   "List containers",
		Example: `  brig ps
  brig ps -a --filter status=exited --format '{{.Names}}: {{.Status}}'`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return a.ps(o) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "show all containers, not only those that run")
	f.StringArrayVarP(&o.filters, "filter", "f", nil, "show those with name=, id=, label=, status=, health=, exited=, ancestor=, before=, since=, network= or volume=")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.IntVarP(&o.last, "last", "n", -1, "show the n that were created last, whatever their state")
	f.BoolVarP(&o.latest, "latest", "l", false, "show the one that was created last, whatever its state")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "do not shorten")
	f.BoolVarP(&o.size, "size", "s", false, "show the size of each container's own files, and with its image's")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print IDs only")
	return cmd
}

type psOptions struct {
	all, latest, noTrunc, quiet, size bool
	last                              int
	filters                           []string
	format                            string
}

func (a *app) ps(o psOptions) error {
	match, err := psFilter(o.filters)
	if err != nil {
		return err
	}
	e, err := a.engine()
	if err != nil {
		return err
	}
	if match, err = psOrder(e, o.filters, match); err != nil {
		return err
	}
	list, err := e.List()
	if err != nil {
		return err
	}
	if o.latest {
		o.last = 1
	}
	all := o.all || o.last >= 0 || slices.ContainsFunc(o.filters, func(f string) bool {
		return strings.HasPrefix(f, "status=") || strings.HasPrefix(f, "exited=")
	})
	var rows []any
	states, errs := engine.States(list)
	for i, c := range list {
		if errs[i] != nil {
			continue // it went while we looked
		}
		s := states[i]
		if o.last >= 0 && len(rows) >= o.last {
			break
		}
		if !all && !s.Up() && s.Status != engine.StatusRestarting || !match(c, s) {
			continue
		}
		r := makeRow(c, s, o.noTrunc)
		if o.size {
			if r.Size, err = sizeText(c); err != nil {
				continue // it went while we looked
			}
		}
		rows = append(rows, r)
	}
	if o.quiet {
		for _, r := range rows {
			fmt.Fprintln(a.out, r.(psRow).ID)
		}
		return nil
	}
	table := psFormat
	if o.size {
		table.table += "\t{{.Size}}"
	}
	return table.print(a.out, o.format, rows)
}

// sizeText is the size of a container's own files, and with its image's.
func sizeText(c *engine.Container) (string, error) {
	n, err := c.Size()
	if err != nil {
		return "", err
	}
	human := func(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	return fmt.Sprintf("%s (virtual %s)", human(n), human(n+c.ImageSize())), nil
}

func makeRow(c *engine.Container, s engine.State, full bool) psRow {
	r := psRow{
		c: c, ID: c.ID, Image: c.Image, Names: c.Name, Networks: networksText(c), Ports: portsText(c, s), State: s.Status,
		CreatedAt: c.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"), RunningFor: ago(c.Created), Status: statusText(s, c.ReadHealth()),
	}
	command := commandText(c.Command())
	r.Command = strconv.Quote(command)
	if !full {
		r.ID = shortID(c.ID)
		r.Command = strconv.Quote(ellipsis(command, 20))
	}
	var mounts []string
	for _, m := range c.Options.Mounts {
		mounts = append(mounts, m.Source)
	}
	r.Labels, r.Mounts = labelText(c.Labels()), strings.Join(mounts, ",")
	return r
}

// commandText joins a command's words, with quotes around an argument that has
// spaces, as Docker does.
func commandText(words []string) string {
	words = slices.Clone(words)
	for i := 1; i < len(words); i++ {
		if strings.Contains(words[i], " ") {
			words[i] = "'" + words[i] + "'"
		}
	}
	return strings.Join(words, " ")
}

// statusText is the status in Docker's words; health is nil if there is none.
func statusText(s engine.State, health *engine.Health) string {
	up := func() string { return "Up " + units.HumanDuration(time.Since(s.StartedAt)) }
	switch s.Status {
	case engine.StatusRunning:
		switch {
		case health == nil:
			return up()
		case health.Status == monitor.HealthStarting:
			return up() + " (health: starting)"
		}
		return up() + " (" + health.Status + ")"
	case engine.StatusPaused:
		return up() + " (Paused)"
	case engine.StatusRestarting:
		return fmt.Sprintf("Restarting (%d) %s", s.ExitCode, ago(s.FinishedAt))
	case engine.StatusExited:
		return fmt.Sprintf("Exited (%d) %s", s.ExitCode, ago(s.FinishedAt))
	}
	return "Created"
}

// psFilter makes one condition of all filters: those of one key are
// alternatives, but every label must be there.
func psFilter(given []string) (func(*engine.Container, engine.State) bool, error) {
	byKey := filters{}
	for _, f := range given {
		k, v, err := byKey.add(f)
		if err != nil {
			return nil, err
		}
		switch k {
		case "id", "label", "ancestor", "status", "health", "network", "volume", "before", "since":
		case "name":
			if _, err := regexp.Compile(v); err != nil {
				return nil, fmt.Errorf("--filter %q: a name, or a regular expression: %v", f, err)
			}
		case "exited":
			if _, err := strconv.Atoi(v); err != nil {
				return nil, fmt.Errorf("--filter %q: an exit code is a number", f)
			}
		default:
			return nil, unknownFilter(k, "id", "name", "label", "ancestor", "status", "health", "exited", "before", "since", "network", "volume")
		}
		if k == "status" && !slices.Contains([]string{"created", "restarting", "running", "removing", "paused", "exited", "dead"}, v) {
			return nil, fmt.Errorf("--filter %q: use created, restarting, running, removing, paused, exited or dead", f)
		}
		if k == "health" && !slices.Contains([]string{"starting", "healthy", "unhealthy", "none"}, v) {
			return nil, fmt.Errorf("--filter %q: use starting, healthy, unhealthy or none", f)
		}
	}
	return func(c *engine.Container, s engine.State) bool {
		return byKey.hold(func(k, v string) bool { return psMatch(c, s, k, v) })
	}, nil
}

// psOrder adds the filters before and since, which name containers.
func psOrder(e *engine.Engine, filters []string, match func(*engine.Container, engine.State) bool) (func(*engine.Container, engine.State) bool, error) {
	for _, f := range filters {
		k, v, _ := strings.Cut(f, "=")
		if k != "before" && k != "since" {
			continue
		}
		other, err := e.Find(v)
		if err != nil {
			return nil, fmt.Errorf("--filter %s: %w", f, err)
		}
		inner := match
		match = func(c *engine.Container, s engine.State) bool {
			order := c.Created.Compare(other.Created)
			return inner(c, s) && (k == "before" && order < 0 || k == "since" && order > 0)
		}
	}
	return match, nil
}

func psMatch(c *engine.Container, s engine.State, key, v string) bool {
	switch key {
	case "id":
		return strings.HasPrefix(c.ID, v)
	case "name":
		ok, _ := regexp.MatchString(strings.Replace(v, "^/", "^", 1), c.Name) // Docker's names begin with a slash
		return ok || strings.TrimPrefix(v, "/") == c.Name
	case "network":
		return slices.Contains(strings.Split(networksText(c), ","), v)
	case "volume":
		return slices.ContainsFunc(c.Options.Mounts, func(m spec.Mount) bool { return m.Source == v || m.Target == v })
	case "label":
		return hasLabel(c.Labels(), v)
	case "ancestor":
		return c.Image == v || strings.TrimSuffix(c.Image, ":latest") == strings.TrimSuffix(v, ":latest") ||
			strings.HasPrefix(strings.TrimPrefix(c.ImageID, "sha256:"), strings.TrimPrefix(v, "sha256:"))
	case "before", "since":
		return true // psOrder's
	case "status":
		return s.Status == v
	case "health":
		h := c.ReadHealth()
		if h == nil || !s.Up() {
			return v == "none"
		}
		return h.Status == v
	}
	n, _ := strconv.Atoi(v)
	return s.Status == engine.StatusExited && s.ExitCode == n
}
