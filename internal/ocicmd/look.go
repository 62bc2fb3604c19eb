package ocicmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/brig-run/brig/internal/oci"
	"github.com/brig-run/brig/internal/version"
)

// state is a container as "state" and "list" show it, in runc's fields.
type state struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	PID         int               `json:"pid"`
	Status      oci.Status        `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

func stateOf(c *oci.Container) (*state, error) {
	status, err := c.Status()
	if err != nil {
		return nil, err
	}
	s := &state{Version: c.Version, ID: c.ID, PID: c.PID, Status: status, Bundle: c.Bundle, Rootfs: c.Rootfs,
		Created: c.Created, Annotations: c.Annotations}
	if status == oci.Stopped {
		s.PID = 0
	}
	return s, nil
}

func stateCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	return withContainer(a, func(c *oci.Container) error {
		s, err := stateOf(c)
		if err != nil {
			return err
		}
		return a.printJSON(s)
	})
}

func listCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	format := f.StringP("format", "f", "table", "table or json")
	quiet := f.BoolP("quiet", "q", false, "IDs only")
	return func([]string) (int, error) {
		list, err := a.rt.List()
		if err != nil {
			return 1, err
		}
		states := []*state{}
		for _, c := range list {
			s, err := stateOf(c)
			if err != nil {
				return 1, err
			}
			s.Owner = ownerName(c.Owner)
			states = append(states, s)
		}
		return 0, a.printList(states, *format, *quiet)
	}
}

func ownerName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return fmt.Sprintf("#%d", uid)
}

func (a *app) printList(states []*state, format string, quiet bool) error {
	if quiet {
		for _, s := range states {
			fmt.Fprintln(a.out, s.ID)
		}
		return nil
	}
	switch format {
	case "json":
		return json.NewEncoder(a.out).Encode(states)
	case "table":
	default:
		return fmt.Errorf("--format %q: want table or json", format)
	}
	w := tabwriter.NewWriter(a.out, 12, 1, 3, ' ', 0)
	fmt.Fprint(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
	for _, s := range states {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", s.ID, s.PID, s.Status, s.Bundle, s.Created.Format(time.RFC3339Nano), s.Owner)
	}
	return w.Flush()
}

func psCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	format := f.StringP("format", "f", "table", "table or json")
	return func(args []string) (int, error) {
		c, err := a.rt.Find(args[0])
		if err != nil {
			return 1, err
		}
		pids, err := c.Pids()
		if err != nil {
			return 1, err
		}
		switch *format {
		case "json":
			if pids == nil {
				pids = []int{}
			}
			return 0, json.NewEncoder(a.out).Encode(pids)
		case "table":
			return 0, a.psTable(pids, args[1:])
		}
		return 1, fmt.Errorf("--format %q: want table or json", *format)
	}
}

// psTable prints the lines of ps(1) that are about the container's processes.
func (a *app) psTable(pids []int, options []string) error {
	if len(options) > 0 && options[0] == "--" {
		options = options[1:]
	}
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	out, err := exec.Command("ps", options...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return fmt.Errorf("ps: %w", err)
	}
	want := map[string]bool{}
	for _, p := range pids {
		want[strconv.Itoa(p)] = true
	}
	column := -1
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if column < 0 {
			for i, name := range fields {
				if name == "PID" {
					column = i
				}
			}
			if column < 0 {
				return errors.New("ps: its output has no column PID: choose options that show it")
			}
			fmt.Fprint(a.out, line)
		} else if column < len(fields) && want[fields[column]] {
			fmt.Fprint(a.out, line)
		}
	}
	return nil
}

func featuresCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	return func([]string) (int, error) {
		features, err := oci.Features(a.version, version.Revision())
		if err != nil {
			return 1, err
		}
		return 0, a.printJSON(features)
	}
}

func specCommand(a *app, f *pflag.FlagSet) func([]string) (int, error) {
	bundle := f.StringP("bundle", "b", ".", "directory of the bundle")
	rootless := f.Bool("rootless", false, "for a user without root's rights")
	return func([]string) (int, error) {
		name := *bundle + "/config.json"
		if _, err := os.Lstat(name); err == nil {
			return 1, fmt.Errorf("file %s exists; remove it first", name)
		}
		b, err := json.MarshalIndent(oci.Example(*rootless), "", "\t")
		if err != nil {
			return 1, err
		}
		return 0, os.WriteFile(name, append(b, '\n'), 0o666)
	}
}
