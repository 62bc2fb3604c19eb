package cli

import (
	"fmt"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/brig-run/brig/internal/engine"
)

func newSystem(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "system COMMAND",
		Short: "What takes place on the disk, and what runs after the system's start",
		Example: `  brig system df
  brig system prune
  brig system start-enabled`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownSubcommand(c, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	for _, make := range []func(*app) *cobra.Command{newSystemDf, newSystemPrune, newInfo, newEvents, newSystemStartEnabled, newSystemStopAll} {
		sub := make(a)
		sub.DisableFlagsInUseLine = true
		cmd.AddCommand(sub)
	}
	return cmd
}

func newSystemStartEnabled(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "start-enabled",
		Short: "Start the containers that their restart policy wants to run",
		Long: `Start the containers whose restart policy is always, unless-stopped (if nobody
stopped them), or on-failure (if they failed). The system does so when it has
come up: see contrib/systemd/brig.service.`,
		Example: `  brig system start-enabled`,
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			e, err := a.engine()
			if err != nil {
				return err
			}
			return a.tellEach(e.StartEnabled)
		},
	}
}

func newSystemStopAll(a *app) *cobra.Command {
	var seconds int
	cmd := &cobra.Command{
		Use:   "stop-all [flags]",
		Short: "Stop all containers, as the system does when it goes down",
		Long: `Stop all containers. Those that a restart policy wants to run are started again
by 'brig system start-enabled', unlike those that 'brig stop' stopped.`,
		Example: `  brig system stop-all -t 30`,
		Args:    noArgs,
	}
	cmd.Flags().IntVarP(&seconds, "timeout", "t", 0, "seconds to wait before SIGKILL (default: each container's, else 10)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		e, err := a.engine()
		if err != nil {
			return err
		}
		var limit *int
		if cmd.Flags().Changed("timeout") {
			limit = &seconds
		}
		return a.tellEach(func(tell func(*engine.Container, []string, error)) error { return e.StopAll(limit, tell) })
	}
	return cmd
}

// tellEach prints the name of each container with which something was done, and
// reports every failure.
func (a *app) tellEach(do func(func(*engine.Container, []string, error)) error) error {
	failed := false
	err := do(func(c *engine.Container, warnings []string, err error) {
		a.warn(warnings)
		if err != nil {
			failed = true
			fmt.Fprintf(a.err, "brig: %s: %s\n", c.Name, err)
			return
		}
		fmt.Fprintln(a.out, c.Name)
	})
	if err == nil && failed {
		err = &exitError{code: 1}
	}
	return err
}

// dfRow is one kind of thing, with Docker's field names.
type dfRow struct {
	Active      string
	Reclaimable string
	Size        string
	TotalCount  string
	Type        string
}

func newSystemDf(a *app) *cobra.Command {
	var format string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "df [flags]",
		Short: "Show what takes place on the disk",
		Example: `  brig system df
  brig system df -v`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			e, err := a.engine()
			if err != nil {
				return err
			}
			u, err := e.Usage()
			if err != nil {
				return err
			}
			if verbose {
				return a.dfVerbose(u, format)
			}
			return listFormat{
				table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
				headers: map[string]string{
					"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE",
				},
			}.print(a.out, format, dfRows(u))
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "", formatHelp)
	f.BoolVarP(&verbose, "verbose", "v", false, "show each image, container and volume")
	return cmd
}

func dfRows(u *engine.Usage) []any {
	row := func(kind string, total, active int, size, free int64) dfRow {
		r := dfRow{Type: kind, TotalCount: fmt.Sprint(total), Active: fmt.Sprint(active), Size: units.HumanSize(float64(size)), Reclaimable: units.HumanSize(float64(free))}
		if size > 0 {
			r.Reclaimable += fmt.Sprintf(" (%d%%)", free*100/size)
		}
		return r
	}
	usedImages := 0
	for _, i := range u.Images {
		if i.Containers > 0 {
			usedImages++
		}
	}
	up, size, free := 0, int64(0), int64(0)
	for _, c := range u.Containers {
		size += c.Size
		if c.State.Up() || c.State.Status == engine.StatusRestarting {
			up++
		} else {
			free += c.Size
		}
	}
	held, vsize, vfree := 0, int64(0), int64(0)
	for _, v := range u.Volumes {
		vsize += v.Size
		if v.Links > 0 {
			held++
		} else {
			vfree += v.Size
		}
	}
	return []any{
		row("Images", len(u.Images), usedImages, u.Layers, u.Layers-u.ActiveLayers),
		row("Containers", len(u.Containers), up, size, free),
		row("Local Volumes", len(u.Volumes), held, vsize, vfree),
		row("Build Cache", 0, 0, 0, 0), // the builder's own business
	}
}

func (a *app) dfVerbose(u *engine.Usage, format string) error {
	var images, containers, volumes []any
	human := func(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	for _, i := range u.Images {
		for _, r := range imageRows(i.Image, nil, false) {
			r.ID, r.SharedSize, r.UniqueSize, r.Containers = shortID(r.ID), human(i.Shared), human(i.Unique), fmt.Sprint(i.Containers)
			images = append(images, r)
		}
	}
	for _, c := range u.Containers {
		r := makeRow(c.Container, c.State, false)
		r.Size = human(c.Size)
		containers = append(containers, r)
	}
	for _, v := range u.Volumes {
		volumes = append(volumes, volumeRow{Name: v.Name, Links: fmt.Sprint(v.Links), Size: human(v.Size)})
	}
	if format == "json" {
		return printJSONLines(a.out, []any{map[string]any{"Images": list(images), "Containers": list(containers), "Volumes": list(volumes), "BuildCache": []any{}}})
	}
	imageTable := imagesFormat(false)
	imageTable.table = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}"
	containerTable := psFormat
	containerTable.table = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}"
	volumeTable := volumeFormat()
	volumeTable.table = "{{.Name}}\t{{.Links}}\t{{.Size}}"
	for _, part := range []struct {
		title string
		table listFormat
		rows  []any
	}{{"Images", imageTable, images}, {"Containers", containerTable, containers}, {"Local Volumes", volumeTable, volumes}} {
		fmt.Fprintf(a.out, "%s space usage:\n\n", part.title)
		if err := part.table.print(a.out, "", part.rows); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
	}
	return nil
}

// list is never null in JSON.
func list(rows []any) []any {
	if rows == nil {
		return []any{}
	}
	return rows
}
